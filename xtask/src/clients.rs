//! Kafka clients that are not Kafka's own, for the tests that read a mirror with clients nobody here wrote: two releases of
//! librdkafka and one client that is neither, each in a Python environment under `.hawser/`.

use crate::{kafka, prerequisites};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Folder and pinned requirements. Librdkafka's old release is one that many still run.
const ENVIRONMENTS: [(&str, &[&str]); 3] = [
    ("venv-librdkafka-old", &["confluent-kafka==2.3.0"]),
    ("venv-librdkafka-new", &["confluent-kafka==2.16.1"]),
    (
        "venv-kafka-python",
        &["kafka-python==3.0.12", "lz4==4.4.5", "python-snappy==0.7.3", "zstandard==0.25.0", "crc32c==2.8"],
    ),
];

/// Makes the environments that are not there yet.
pub(crate) fn run() -> Result<()> {
    for (name, requirements) in ENVIRONMENTS {
        let folder = kafka::cache().join(name);
        if !folder.is_dir() {
            prerequisites::check(&[prerequisites::PYTHON])?;
            eprintln!("installing {}", requirements.join(" "));
            install(&folder, requirements)?;
        }
        println!("{name}: {}", folder.display());
    }
    Ok(())
}

/// An environment cannot be renamed, so one that was not finished is removed.
fn install(folder: &Path, requirements: &[&str]) -> Result<()> {
    let done = (|| {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        succeed(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(requirements))
    })();
    if done.is_err() && folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    done
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
