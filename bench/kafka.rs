//! `cargo xtask bench-kafka`: catch-up and latency on stock Kafka, next to a stock follower and a tuned MirrorMaker 2.
//!
//! One run: for each data set (raw, lz4) every candidate copies the same twelve pre-loaded partitions out of the same broker,
//! in turn, `HAWSER_BENCH_RUNS` times over. MB/s is the slope between 10 % and 90 % of the bytes on the destination's disk, looked at every
//! 100 ms; CPU is that of the candidate's own processes over the same stretch, so a JVM's start is not in it. The link runs
//! over TLS with SASL on both ends; the follower and MirrorMaker 2 run over plain TCP, as they come. Nothing is asserted.
//!
//! `HAWSER_BENCH_BYTES` is the size of each set on the source's disk; `HAWSER_BENCH_ONLY` names parts, separated by commas:
//! `raw`, `lz4` (sets), `follower`, `hawser`, `mirrormaker2` (candidates), `trickle`. Naming no set means both, naming no
//! candidate means all; naming only `trickle` copies nothing.

mod disk;
mod halves;
mod kafka_paths;
mod latency;
mod slope;
mod usage;

use anyhow::{Context, Result, ensure};
use hawser_testkit::Kafka;
use hawser_testkit::kafka::Jvm;
use kafka_paths::{Candidate, Set};
use slope::Slope;
use std::collections::BTreeMap;

/// Bytes of each data set on disk unless `HAWSER_BENCH_BYTES` says otherwise.
const SET_BYTES: u64 = 4_000_000_000;
const RUNS: u64 = 3;

fn main() -> Result<()> {
    let bytes = from_env("HAWSER_BENCH_BYTES", SET_BYTES)?;
    let runs = from_env("HAWSER_BENCH_RUNS", RUNS)?;
    let parts = Parts::parse(&std::env::var("HAWSER_BENCH_ONLY").unwrap_or_default())?;
    let source = Kafka::two_brokers().jvm(Jvm::steady(1024)).property("num.replica.fetchers", "1").start()?;
    for set in &parts.sets {
        println!("loading {}", set.topic());
        set.load(&source, bytes)?;
    }
    let mut figures: BTreeMap<Set, BTreeMap<Candidate, Vec<Slope>>> = BTreeMap::new();
    for run in 1..=runs {
        for set in &parts.sets {
            for candidate in &parts.candidates {
                let slope = candidate.copy(&source, *set)?;
                println!("run {run}: {:<4} {:<14} {slope}", set.topic(), candidate.name());
                figures.entry(*set).or_default().entry(*candidate).or_default().push(slope);
            }
        }
    }
    for (set, slopes) in &figures {
        report(*set, slopes);
    }
    if parts.trickle { latency::measure(&source) } else { Ok(()) }
}

/// Medians, and the link's next to each rival's.
fn report(set: Set, slopes: &BTreeMap<Candidate, Vec<Slope>>) {
    println!("\n{}, medians", set.topic());
    let medians: BTreeMap<_, _> = slopes.iter().filter_map(|(c, runs)| Some((*c, Slope::median(runs)?))).collect();
    for (candidate, median) in &medians {
        println!("{:<14} {median}", candidate.name());
    }
    let Some(link) = medians.get(&Candidate::Hawser) else { return };
    for (rival, median) in medians.iter().filter(|(c, _)| **c != Candidate::Hawser) {
        println!("hawser / {}: {}", rival.name(), link.against(median));
    }
}

/// What is to be measured.
struct Parts {
    sets: Vec<Set>,
    candidates: Vec<Candidate>,
    trickle: bool,
}

impl Parts {
    fn parse(text: &str) -> Result<Self> {
        let named: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let is_named = |name: &str| named.contains(&name);
        for name in &named {
            let known = *name == "trickle"
                || Set::ALL.iter().any(|s| s.topic() == *name)
                || Candidate::ALL.iter().any(|c| c.name() == *name);
            ensure!(known, "HAWSER_BENCH_ONLY={text}: {name} is no part");
        }
        let mut sets: Vec<Set> = Set::ALL.into_iter().filter(|s| is_named(s.topic())).collect();
        let mut candidates: Vec<Candidate> = Candidate::ALL.into_iter().filter(|c| is_named(c.name())).collect();
        if named != ["trickle"] {
            if sets.is_empty() {
                sets = Set::ALL.to_vec();
            }
            if candidates.is_empty() {
                candidates = Candidate::ALL.to_vec();
            }
        }
        Ok(Self { sets, candidates, trickle: named.is_empty() || is_named("trickle") })
    }
}

fn from_env(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |v| v.parse().with_context(|| format!("{name}={v} is not a number")))
}
