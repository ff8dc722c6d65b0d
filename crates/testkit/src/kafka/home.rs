//! Where the jars of stock Kafka lie: `cargo xtask kafka` puts them there.

use super::Tool;
use crate::process::Program;
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
    wrapper: Vec<String>,
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
        Ok(Self { version, folder, wrapper: Vec::new() })
    }

    /// Runs every program under another one that replaces itself by it, such as `ip netns exec NAME`.
    pub fn under(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
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

    /// One of Kafka's main classes, or one in the folder `classes`, as a process that stays.
    pub fn program(&self, class: &str, jvm: Jvm, classes: Option<&Path>) -> Program {
        self.java(jvm, LogLevel::Warn, classes).arg(class)
    }

    /// `DumpLogSegments` moved between releases.
    pub fn dump_log_segments(&self) -> &'static str {
        match self.version {
            Version::V4_3 => "org.apache.kafka.tools.DumpLogSegments",
            Version::V3_9 => "kafka.tools.DumpLogSegments",
        }
    }

    /// `java` with everything up to the class path. `classes` is a further folder of classes; `level` the root logger's.
    pub(crate) fn java(&self, jvm: Jvm, level: LogLevel, classes: Option<&Path>) -> Program {
        Program::new("java").under(self.wrapper.clone()).args(self.java_args(jvm, level, classes))
    }

    fn java_args(&self, jvm: Jvm, level: LogLevel, classes: Option<&Path>) -> Vec<String> {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/kafka/log4j2.properties");
        let mut class_path = format!("{}/*", self.lib().display());
        let archive = self.folder.join("classes.jsa");
        let mut args: Vec<String> = match jvm.steady {
            false => ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"].map(str::to_owned).to_vec(),
            true => vec!["-XX:+UseG1GC".to_owned(), format!("-Xms{}m", jvm.heap_mb)],
        };
        if archive.is_file() {
            args.push(format!("-XX:SharedArchiveFile={}", archive.display()));
        }
        // Appended, not put in front: an archive fits only if the class path begins as it did when it was made.
        if let Some(classes) = classes {
            class_path.push_str(&format!(":{}", classes.display()));
        }
        args.push(format!("-Xmx{}m", jvm.heap_mb));
        args.push(format!("-Dlog4j2.configurationFile={config}"));
        args.push(format!("-Dhawser.log.level={}", level.as_str()));
        args.extend(["-cp".to_owned(), class_path]);
        args
    }
}

/// How a Java program is started.
#[derive(Clone, Copy, Debug)]
pub struct Jvm {
    heap_mb: u32,
    steady: bool,
}

impl Jvm {
    /// Quick to start, for tests: simple compiler and collector, at most `heap_mb` MiB of heap.
    pub fn quick(heap_mb: u32) -> Self {
        Self { heap_mb, steady: false }
    }

    /// As a server runs, for measurements: both compilers, G1, `heap_mb` MiB of heap from the start.
    pub fn steady(heap_mb: u32) -> Self {
        Self { heap_mb, steady: true }
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
