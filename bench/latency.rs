//! Trickle latency: 200 records a second of 1 KiB, from the produce call to a consumer, at the source itself (the clients' own floor)
//! and at the mirror.

use crate::halves::Halves;
use anyhow::{Context, Result, ensure};
use hawser_testkit::Kafka;
use hawser_testkit::kafka::Jvm;
use hawser_testkit::ports::free_port;
use std::process::Command;
use std::time::Duration;

const TOPIC: &str = "trickle";
const RECORDS: &str = "4000";
const PER_SECOND: &str = "200";
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// Prints p50, p99 and the largest of both paths.
pub(crate) fn measure(source: &Kafka) -> Result<()> {
    let classes = source.folder().join("classes");
    std::fs::create_dir_all(&classes)?;
    let file = source.folder().join("Trickle.java");
    std::fs::write(&file, include_str!("java/Trickle.java"))?;
    let status = Command::new("javac")
        .args(["-cp", &format!("{}/*", source.home().lib().display()), "-d"])
        .args([&classes, &file])
        .status()
        .context("start javac")?;
    ensure!(status.success(), "javac: {status}");

    source.create_topic(TOPIC, 1, 1, &["min.insync.replicas=1"])?;
    let port = free_port();
    let halves = Halves::start(&source.bootstrap(), Some(port))?;
    halves.mirror(TOPIC)?;
    println!("\ntrickle: {PER_SECOND} records/s of 1 KiB, acks=1; ms");
    for (path, consumer) in [("at the source", source.bootstrap()), ("through the link", format!("127.0.0.1:{port}"))] {
        let mut run = source
            .home()
            .program("Trickle", Jvm::steady(256), Some(&classes))
            .args([TOPIC, RECORDS, PER_SECOND, "1", &source.bootstrap(), &consumer])
            .spawn("trickle", &source.folder().join("trickle.log"))?;
        let status = run.wait(RUN_LIMIT)?;
        let output = run.output();
        ensure!(status.success(), "{path}: {output}");
        let line = output.lines().last().unwrap_or_default().to_owned();
        let [count, p50, p99, max] = line.split(' ').collect::<Vec<_>>()[..] else { anyhow::bail!("{path}: {output}") };
        println!("{path:<18} p50 {p50}  p99 {p99}  max {max}  ({count} records)");
    }
    Ok(())
}
