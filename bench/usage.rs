#![allow(dead_code)] // shared by several benchmarks
//! What a process has used, read from `/proc`: CPU seconds and the largest resident set.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Ticks a second of the kernel's CPU accounting (`USER_HZ`), 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process, one measurement.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Payload bytes moved.
    pub(crate) bytes: u64,
    /// Wall-clock seconds.
    pub(crate) seconds: f64,
    /// User plus system CPU seconds.
    pub(crate) cpu_seconds: f64,
    /// Peak resident set in bytes.
    pub(crate) rss_bytes: u64,
}

impl Usage {
    /// This process, after moving `bytes` in `seconds`.
    pub(crate) fn of_self(bytes: u64, seconds: f64) -> Result<Self> {
        let pid = std::process::id();
        Ok(Self { bytes, seconds, cpu_seconds: cpu_seconds(pid)?, rss_bytes: rss_peak_bytes(pid)? })
    }

    /// MB/s, 1 MB = 10⁶ bytes.
    pub(crate) fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    /// CPU-seconds per 10⁹ payload bytes.
    pub(crate) fn cpu_per_gb(&self) -> f64 {
        self.cpu_seconds / (self.bytes as f64 / 1e9)
    }
}

/// User plus system time of `pid` so far.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(stat_ticks(&pid.to_string(), 11..13)? / TICKS_PER_SECOND)
}

/// The same of all commands that this process has run to their end.
pub(crate) fn commands_cpu_seconds() -> Result<f64> {
    Ok(stat_ticks("self", 13..15)? / TICKS_PER_SECOND)
}

/// The sum of some fields of `/proc/PROCESS/stat`, counted from the one after the name.
fn stat_ticks(process: &str, fields: Range<usize>) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(") ").context("stat without a name")?.1;
    let all: Vec<&str> = after_name.split(' ').collect();
    let ticks: Result<Vec<f64>, _> = all[fields].iter().map(|field| field.parse::<f64>()).collect();
    Ok(ticks?.iter().sum())
}

/// Peak resident set of `pid` (`VmHWM`).
pub(crate) fn rss_peak_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Resident set of `pid` now (`VmRSS`).
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix(field)).context("field in /proc status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
