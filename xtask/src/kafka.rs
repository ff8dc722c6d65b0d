//! `cargo xtask kafka`: the jars of stock Apache Kafka, gathered by Maven from the pinned list in
//! `crates/testkit/kafka/pom.xml` into `.hawser/kafka-VERSION/lib` (or below `HAWSER_KAFKA_HOME`).

use crate::{prerequisites, root};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The releases that tests run against; the first is the default everywhere.
const VERSIONS: [&str; 2] = ["4.3.1", "3.9.2"];

/// Gathers `versions`, or the pinned ones, unless they are there already.
pub(crate) fn run(versions: &[String]) -> Result<()> {
    let pinned = VERSIONS.map(str::to_owned);
    let versions = if versions.is_empty() { &pinned[..] } else { versions };
    let missing: Vec<&String> = versions.iter().filter(|v| !home(v).join("lib").is_dir()).collect();
    if !missing.is_empty() {
        prerequisites::check(&[prerequisites::JDK, prerequisites::MAVEN])?;
    }
    for version in missing {
        gather(version, &home(version))?;
    }
    for version in versions {
        println!("stock Kafka {version}: {}", home(version).join("lib").display());
    }
    Ok(())
}

/// The jar that carries Kafka's message specifications.
pub(crate) fn clients_jar() -> PathBuf {
    let version = VERSIONS[0];
    home(version).join(format!("lib/kafka-clients-{version}.jar"))
}

/// Where everything fetched is kept, outside of git.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("HAWSER_KAFKA_HOME").map_or_else(|| root().join(".hawser"), PathBuf::from)
}

fn home(version: &str) -> PathBuf {
    cache().join(format!("kafka-{version}"))
}

/// Into a folder of another name first, so that a broken download is never taken for a Kafka.
fn gather(version: &str, home: &Path) -> Result<()> {
    eprintln!("fetching stock Kafka {version} with Maven");
    let partial = home.join("lib.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    let status = Command::new("mvn")
        .args(["-q", "-B", "-Dstyle.color=never", "-f"])
        .arg(root().join("crates/testkit/kafka/pom.xml"))
        .arg(format!("-Dkafka.version={version}"))
        .arg(format!("-Dkafka.lib={}", partial.display()))
        .arg("dependency:copy-dependencies@jars")
        .status()
        .context("start mvn")?;
    ensure!(status.success(), "mvn could not fetch Kafka {version}: {status}");
    fs::rename(&partial, home.join("lib"))?;
    Ok(())
}
