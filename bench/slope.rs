//! The steady stretch of one copy: from 10 % to 90 % of the bytes.

use crate::disk::segment_bytes;
use crate::usage::{cpu_seconds, rss_bytes};
use anyhow::{Result, bail, ensure};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(100);
/// A candidate whose first byte takes longer has failed: MirrorMaker 2 needs some 20 CPU-seconds to start.
const START_LIMIT: Duration = Duration::from_secs(300);
/// A candidate that has moved nothing for this long has failed.
const STALL_LIMIT: Duration = Duration::from_secs(90);

/// Throughput, CPU and memory of one candidate over one copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope {
    mb_per_second: f64,
    cpu_seconds_per_gb: f64,
    rss_peak_bytes: u64,
}

impl Slope {
    /// Watches `folder` grow to `total` bytes of log segments of `topic` while `processes` (ids) work.
    pub(crate) fn watch(folder: &Path, topic: &str, total: u64, processes: &[u32]) -> Result<Self> {
        let (low, high) = (total / 10, total - total / 10);
        let mut begin = None;
        let mut rss_peak_bytes = 0;
        let mut last_growth = (0, Instant::now());
        loop {
            let now = Instant::now();
            let bytes = segment_bytes(folder, topic)?;
            let cpu = processes.iter().map(|p| cpu_seconds(*p)).sum::<Result<f64>>()?;
            rss_peak_bytes = rss_peak_bytes.max(processes.iter().map(|p| rss_bytes(*p)).sum::<Result<u64>>()?);
            if bytes >= low && begin.is_none() {
                begin = Some((now, bytes, cpu));
            }
            if let Some((start, first, cpu_first)) = begin
                && bytes >= high
            {
                let moved = (bytes - first) as f64;
                let seconds = (now - start).as_secs_f64();
                let figure = Self {
                    mb_per_second: moved / 1e6 / seconds,
                    cpu_seconds_per_gb: (cpu - cpu_first) / (moved / 1e9),
                    rss_peak_bytes,
                };
                return wait_for(folder, topic, total).map(|()| figure);
            }
            if bytes > last_growth.0 {
                last_growth = (bytes, now);
            } else {
                let limit = if bytes == 0 { START_LIMIT } else { STALL_LIMIT };
                ensure!(
                    now - last_growth.1 < limit,
                    "no byte of {topic} arrived for {limit:?}; {bytes} of {total} are there"
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// The middle of each figure by itself; `None` without a run.
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        let middle = |figure: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        Some(Self {
            mb_per_second: middle(|s| s.mb_per_second)?,
            cpu_seconds_per_gb: middle(|s| s.cpu_seconds_per_gb)?,
            rss_peak_bytes: middle(|s| s.rss_peak_bytes as f64)? as u64,
        })
    }

    /// Ratios to `rival`, in words.
    pub(crate) fn against(&self, rival: &Self) -> String {
        let speed = self.mb_per_second / rival.mb_per_second;
        let cpu = self.cpu_seconds_per_gb / rival.cpu_seconds_per_gb;
        format!("{speed:.2} x the MB/s, {cpu:.2} x the CPU")
    }
}

impl fmt::Display for Slope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rss = self.rss_peak_bytes / 1_000_000;
        write!(f, "{:>5.0} MB/s  {:>5.2} CPU-s/GB  RSS {rss} MB", self.mb_per_second, self.cpu_seconds_per_gb)
    }
}

fn wait_for(folder: &Path, topic: &str, total: u64) -> Result<()> {
    let deadline = Instant::now() + STALL_LIMIT;
    // MirrorMaker 2 writes batches of its own: its copy may be a little smaller.
    while segment_bytes(folder, topic)? < total - total / 20 {
        if Instant::now() > deadline {
            bail!("the last tenth of {topic} did not arrive");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
