//! 10,000 mirror partitions without news: what they cost the destination's daemon and the source's.

use crate::halves::Halves;
use crate::source::Source;
use crate::usage::{cpu_seconds, rss_bytes};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

const PARTITIONS: u64 = 10_000;
const TOPIC: &str = "idle";
const SETTLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(20);
const OPEN_LIMIT: Duration = Duration::from_secs(120);

/// Prints CPU as a share of one core, and resident memory, of both halves.
pub(crate) fn measure() -> Result<()> {
    let source = Source::start(TOPIC, PARTITIONS, Path::new("/dev/null"), 0)?;
    let mut halves = Halves::start(source.bootstrap(), None)?;
    halves.mirror(TOPIC)?;
    let began = Instant::now();
    while fetched(&halves)? < PARTITIONS {
        ensure!(began.elapsed() < OPEN_LIMIT, "{} of {PARTITIONS} partitions are fetched", fetched(&halves)?);
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("idle: {PARTITIONS} partitions flow after {:.1} s", began.elapsed().as_secs_f64());
    std::thread::sleep(SETTLE);
    for (name, pid) in ["source half", "destination half"].into_iter().zip(halves.pids()?) {
        let before = cpu_seconds(pid)?;
        std::thread::sleep(LOOK);
        let share = (cpu_seconds(pid)? - before) / LOOK.as_secs_f64();
        println!("idle {name}: {:.1} % of a core, RSS {} MB", share * 100.0, rss_bytes(pid)? / 1_000_000);
    }
    Ok(())
}

/// Partitions that have been fetched at least once.
fn fetched(halves: &Halves) -> Result<u64> {
    let text = halves.destination.run(&["mirror", "describe", TOPIC, "--output", "json"])?;
    let description: serde_json::Value = serde_json::from_str(&text).context("mirror describe")?;
    let partitions = description["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fetched = |p: &&serde_json::Value| p["last_source_high_watermark"].as_i64().is_some_and(|offset| offset >= 0);
    Ok(partitions.iter().filter(fetched).count() as u64)
}
