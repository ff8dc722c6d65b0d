//! `cargo xtask bench-kafka`: catch-up and latency on stock Kafka, next to a stock follower and a tuned MirrorMaker 2.
//!
//! One run: for each data set (raw, lz4) every candidate copies the same twelve pre-loaded partitions out of the same broker,
//! in turn, `HAWSER_BENCH_RUNS` times over. MB/s is the slope between 10 % and 90 % of the bytes on the destination's disk, looked at every
//! 100 ms; CPU is that of the candidate's own processes over the same stretch, so a JVM's start is not in it. The link runs
//! over TLS with SASL on both ends; the follower and MirrorMaker 2 run over plain TCP, as they come. Nothing is asserted.

mod disk;
mod halves;
mod kafka_paths;
mod latency;
mod slope;
mod usage;

use anyhow::{Context, Result};
use hawser_testkit::Kafka;
use hawser_testkit::kafka::Jvm;
use kafka_paths::{Candidate, Set};
use slope::Slope;
use std::collections::BTreeMap;

/// Bytes of the raw data set unless `HAWSER_BENCH_BYTES` says otherwise.
const SET_BYTES: u64 = 2_000_000_000;
const RUNS: u64 = 3;

fn main() -> Result<()> {
    let bytes = from_env("HAWSER_BENCH_BYTES", SET_BYTES)?;
    let runs = from_env("HAWSER_BENCH_RUNS", RUNS)?;
    let only = std::env::var("HAWSER_BENCH_ONLY").unwrap_or_default();
    let source = Kafka::two_brokers().jvm(Jvm::steady(1024)).property("num.replica.fetchers", "1").start()?;
    for set in Set::ALL {
        eprintln!("loading {}", set.topic());
        set.load(&source, bytes)?;
    }
    let mut figures: BTreeMap<(Set, Candidate), Vec<Slope>> = BTreeMap::new();
    for run in 1..=runs {
        for set in Set::ALL {
            for candidate in Candidate::ALL.into_iter().filter(|c| only.is_empty() || only.contains(c.name())) {
                let slope = candidate.copy(&source, set)?;
                println!("run {run}: {:<16} {:<4} {slope}", candidate.name(), set.topic());
                figures.entry((set, candidate)).or_default().push(slope);
            }
        }
    }
    println!("\nmedians");
    for ((set, candidate), slopes) in &mut figures {
        println!("{:<16} {:<4} {}", candidate.name(), set.topic(), Slope::median(slopes).context("no run")?);
    }
    latency::measure(&source)
}

fn from_env(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |v| v.parse().with_context(|| format!("{name}={v} is not a number")))
}
