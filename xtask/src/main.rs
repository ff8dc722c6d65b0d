#![forbid(unsafe_code)]
//! The project's tasks: `cargo xtask test`, `layers`, `kafka`, `bench-kafka`.

mod clients;
mod kafka;
mod layers;
mod prerequisites;
mod test;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Hawser project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that has to hold: formatting, lints, layers, and all tests, those against stock Kafka included
    Test,
    /// Check that crates depend on lower rows only
    Layers,
    /// Fetch stock Apache Kafka with Maven, and clients that are not Kafka's own, into .hawser/
    Kafka {
        /// Releases to fetch; without this, the ones that the tests use
        #[arg(long)]
        version: Vec<String>,
    },
    /// Measure the link on stock Kafka, next to a stock follower and a tuned MirrorMaker 2 (see bench/kafka.rs)
    BenchKafka,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Test => test::run(),
        Task::Layers => layers::run(),
        Task::Kafka { version } => {
            kafka::run(&version)?;
            clients::run()
        }
        Task::BenchKafka => bench_kafka(),
    }
}

fn bench_kafka() -> Result<()> {
    prerequisites::check(&[prerequisites::JDK, prerequisites::MAVEN])?;
    kafka::run(&[])?;
    let status = Command::new(env!("CARGO"))
        .args(["bench", "--package", "hawser", "--bench", "kafka"])
        .current_dir(root())
        .status()
        .context("start cargo bench")?;
    ensure!(status.success(), "cargo bench: {status}");
    Ok(())
}

/// The root of the workspace.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}
