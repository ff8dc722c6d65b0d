//! Where the jars of stock Kafka lie: `cargo xtask kafka` puts them there.

use super::Tool;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// A release to test against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 4.3.1, the current one.
    #[default]
    V4_3,
    /// 3.9.2, the last of the 3.x line.
    V3_9,
}

impl Version {
    /// As Kafka writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4_3 => "4.3.1",
            Self::V3_9 => "3.9.2",
        }
    }
}

/// The jars of one release and the settings that its programs are started with.
#[derive(Clone, Debug)]
pub struct Home {
    version: Version,
    folder: PathBuf,
}

impl Home {
    /// Finds `kafka-VERSION/lib` under `HAWSER_KAFKA_HOME`, or under `.hawser` in the workspace.
    ///
    /// # Errors
    /// When it is not there; the message says how to get it.
    pub fn find(version: Version) -> Result<Self> {
        let folder = cache_dir().join(format!("kafka-{}", version.as_str()));
        if !folder.join("lib").is_dir() {
            bail!("no stock Kafka in {}: run `cargo xtask kafka`", folder.display());
        }
        Ok(Self { version, folder })
    }

    /// The folder of jars.
    pub fn lib(&self) -> PathBuf {
        self.folder.join("lib")
    }

    /// Which release.
    pub fn version(&self) -> Version {
        self.version
    }

    /// One of Kafka's main classes, as a command that ends by itself.
    pub fn tool(&self, class: &str) -> Tool {
        Tool::new(self, class)
    }

    /// `DumpLogSegments` moved between releases.
    pub fn dump_log_segments(&self) -> &'static str {
        match self.version {
            Version::V4_3 => "org.apache.kafka.tools.DumpLogSegments",
            Version::V3_9 => "kafka.tools.DumpLogSegments",
        }
    }

    /// Arguments to `java` up to and including the class path: short-lived programs start fastest with these.
    /// `classes` is a further folder of classes; `level` the root logger's.
    pub(crate) fn java_args(&self, heap_mb: u32, level: LogLevel, classes: Option<&Path>) -> Vec<String> {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/kafka/log4j2.properties");
        let mut class_path = format!("{}/*", self.lib().display());
        let archive = self.folder.join("classes.jsa");
        let mut args: Vec<String> =
            ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"].map(str::to_owned).to_vec();
        if archive.is_file() {
            args.push(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        // Appended, not put in front: an archive fits only if the class path begins as it did when it was made.
        if let Some(classes) = classes {
            class_path.push_str(&format!(":{}", classes.display()));
        }
        args.push(format!("-Xmx{heap_mb}m"));
        args.push(format!("-Dlog4j2.configurationFile={config}"));
        args.push(format!("-Dhawser.log.level={}", level.as_str()));
        args.extend(["-cp".to_owned(), class_path]);
        args
    }
}

/// What a Java program logs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogLevel {
    /// Brokers: the ready line is INFO.
    Info,
    /// Tools.
    Warn,
}

impl LogLevel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
        }
    }
}

/// `HAWSER_KAFKA_HOME`, or `.hawser` at the root of the workspace.
pub fn cache_dir() -> PathBuf {
    match std::env::var_os("HAWSER_KAFKA_HOME") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.hawser"),
    }
}
