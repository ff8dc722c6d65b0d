//! `cargo bench --bench link`: Hawser's own path against the raw pipe, as ratios within one run.
//!
//! Every part is a process of its own, so that CPU and memory are the kernel's accounting: the pipe's two ends, the fake
//! source, the two halves. Runs alternate (pipe, link, pipe, link, …) and medians are printed. Nothing is asserted: a figure is
//! read, not tested. `HAWSER_BENCH_BYTES` (per run) and `HAWSER_BENCH_RUNS` change the size.

mod pipe;
mod segment;
mod tls;
mod usage;

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use usage::Usage;

/// Payload of one run unless `HAWSER_BENCH_BYTES` says otherwise.
const RUN_BYTES: u64 = 4_000_000_000;
/// Counted runs of each candidate unless `HAWSER_BENCH_RUNS` says otherwise.
const RUNS: u64 = 3;
/// What the sender holds in memory and sends again and again.
const SEGMENT_BYTES: usize = 64 << 20;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["pipe-receive", file, certificates] => pipe::receive(Path::new(file), Path::new(certificates)),
        ["pipe-send", port, total, segment, certificates] => {
            pipe::send(port.parse()?, total.parse()?, Path::new(segment), Path::new(certificates))
        }
        [] => compare(),
        other => bail!("unknown arguments {other:?}"),
    }
}

fn compare() -> Result<()> {
    let folder = scratch()?;
    tls::write_certificates(folder.path())?;
    std::fs::write(folder.path().join("segment"), segment::segment(SEGMENT_BYTES))?;
    let bytes = from_env("HAWSER_BENCH_BYTES", RUN_BYTES)?;
    for _ in 0..from_env("HAWSER_BENCH_RUNS", RUNS)? {
        let (sender, receiver) = run_pipe(folder.path(), bytes)?;
        println!(
            "pipe: {:.0} MB/s, CPU-s/GB {:.2} + {:.2}, peak RSS {} + {} MB",
            receiver.mb_per_second(),
            sender.cpu_per_gb(),
            receiver.cpu_per_gb(),
            sender.rss_bytes / 1_000_000,
            receiver.rss_bytes / 1_000_000
        );
    }
    Ok(())
}

fn run_pipe(folder: &Path, bytes: u64) -> Result<(Usage, Usage)> {
    let at = |name: &str| folder.join(name);
    let mut receiver = role(&["pipe-receive".into(), at("pipe.out"), folder.into()])?;
    let mut lines = BufReader::new(receiver.stdout.take().context("stdout")?);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    let port = first.trim().strip_prefix("port ").context("port line")?.to_owned();
    let mut sender = role(&["pipe-send".into(), port.into(), bytes.to_string().into(), at("segment"), folder.into()])?;
    let mut sent = String::new();
    sender.stdout.take().context("stdout")?.read_to_string(&mut sent)?;
    let mut received = String::new();
    lines.read_to_string(&mut received)?;
    anyhow::ensure!(sender.wait()?.success() && receiver.wait()?.success(), "a pipe end failed");
    std::fs::remove_file(at("pipe.out"))?;
    Ok((serde_json::from_str(&sent)?, serde_json::from_str(&received)?))
}

/// This same binary in another role.
fn role(arguments: &[PathBuf]) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?)
}

fn from_env(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |v| v.parse().with_context(|| format!("{name}={v} is not a number")))
}

fn scratch() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("hawser-bench-").tempdir()?)
}
