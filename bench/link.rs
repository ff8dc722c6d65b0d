//! `cargo bench --bench link`: Hawser's own path against the raw pipe, as ratios within one run.
//!
//! Every part is a process of its own, so that CPU and memory are the kernel's accounting: the pipe's two ends, the fake
//! source, the two halves. The pipe runs twice: its sender fed from its own memory, and fed by a third process as the link is. Runs
//! alternate; ratios are taken round by round and their medians printed. Nothing is asserted: a figure is read, not tested.
//! `HAWSER_BENCH_BYTES` (per run) and `HAWSER_BENCH_RUNS` change the size.
//!
//! The last part, left out with `HAWSER_BENCH_IDLE=0`, looks at 10,000 idle partitions.

mod disk;
mod halves;
mod idle;
mod pipe;
mod segment;
mod source;
mod tls;
mod usage;
mod warm;

use anyhow::{Context, Result, bail};
use halves::Halves;
use source::Source;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use usage::Usage;
use warm::Warm;

/// Payload of one run unless `HAWSER_BENCH_BYTES` says otherwise.
const RUN_BYTES: u64 = 4_000_000_000;
/// Counted runs of each candidate unless `HAWSER_BENCH_RUNS` says otherwise.
const RUNS: u64 = 3;
/// What a sender holds in memory and sends again and again.
const SEGMENT_BYTES: usize = 64 << 20;
const PARTITIONS: u64 = 12;
const TOPIC: &str = "bench";
const POLL: Duration = Duration::from_millis(10);
const RUN_LIMIT: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["pipe-receive", file, certificates] => pipe::receive(Path::new(file), Path::new(certificates)),
        ["pipe-send", port, total, segment, certificates] => {
            pipe::send(port.parse()?, total.parse()?, Path::new(segment), Path::new(certificates))
        }
        ["pipe-relay", port, feeder, certificates] => {
            pipe::relay(port.parse()?, feeder.parse()?, Path::new(certificates))
        }
        ["pipe-feed", total, segment] => pipe::feed(total.parse()?, Path::new(segment)),
        ["source", topic, partitions, segment, times] => {
            source::serve(topic, partitions.parse()?, Path::new(segment), times.parse()?)
        }
        [] => compare(),
        other => bail!("unknown arguments {other:?}"),
    }
}

fn compare() -> Result<()> {
    let folder = scratch()?;
    tls::write_certificates(folder.path())?;
    std::fs::write(folder.path().join("segment"), segment::segment(SEGMENT_BYTES, segment::RECORDS_PER_BATCH))?;
    let bytes = from_env("HAWSER_BENCH_BYTES", RUN_BYTES)?;
    let (mut bare, mut fed) = (Ratios::default(), Ratios::default());
    for run in 0..=from_env("HAWSER_BENCH_RUNS", RUNS)? {
        let pipe = run_pipe(folder.path(), bytes, Feed::Memory)?;
        let fed_pipe = run_pipe(folder.path(), bytes, Feed::Process)?;
        let link = run_link(folder.path(), bytes)?;
        print("pipe", &pipe);
        print("fed pipe", &fed_pipe);
        print("link", &link);
        if run > 0 {
            // The first round warms memory and disk up.
            bare.take(&link, &pipe);
            fed.take(&link, &fed_pipe);
        }
    }
    println!("medians: link / pipe {bare}; link / fed pipe {fed}");
    if std::env::var_os("HAWSER_BENCH_IDLE").is_some_and(|v| v == "0") {
        return Ok(());
    }
    idle::measure()
}

/// Ratios of the link to a pipe, round by round.
#[derive(Default)]
struct Ratios {
    throughput: Vec<f64>,
    cpu: Vec<f64>,
}

impl Ratios {
    fn take(&mut self, link: &(Usage, Usage), pipe: &(Usage, Usage)) {
        self.throughput.push(link.1.mb_per_second() / pipe.1.mb_per_second());
        self.cpu.push((link.0.cpu_per_gb() + link.1.cpu_per_gb()) / (pipe.0.cpu_per_gb() + pipe.1.cpu_per_gb()));
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "throughput {:.2}, CPU {:.2}", median(&self.throughput), median(&self.cpu))
    }
}

/// Where a pipe's sender has its bytes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// Its own memory.
    Memory,
    /// A third process, as the link has its source broker.
    Process,
}

fn print(name: &str, (sender, receiver): &(Usage, Usage)) {
    println!(
        "{name}: {:.0} MB/s, CPU-s/GB {:.2} + {:.2}, peak RSS {} + {} MB",
        receiver.mb_per_second(),
        sender.cpu_per_gb(),
        receiver.cpu_per_gb(),
        sender.rss_bytes / 1_000_000,
        receiver.rss_bytes / 1_000_000
    );
}

fn run_pipe(folder: &Path, bytes: u64, feed: Feed) -> Result<(Usage, Usage)> {
    let at = |name: &str| folder.join(name);
    let file = at("pipe.out");
    let _warm = Warm::touch(bytes, move || std::fs::metadata(&file).map_or(0, |file| file.len()));
    let mut receiver = role(&["pipe-receive".into(), at("pipe.out"), folder.into()])?;
    let mut lines = BufReader::new(receiver.stdout.take().context("stdout")?);
    let to = PathBuf::from(port(&mut lines)?.to_string());
    let total = PathBuf::from(bytes.to_string());
    let (mut sender, feeder) = match feed {
        Feed::Memory => (role(&["pipe-send".into(), to, total, at("segment"), folder.into()])?, None),
        Feed::Process => {
            let mut feeder = role(&["pipe-feed".into(), total, at("segment")])?;
            let from = port(&mut BufReader::new(feeder.stdout.take().context("stdout")?))?;
            (role(&["pipe-relay".into(), to, from.to_string().into(), folder.into()])?, Some(feeder))
        }
    };
    let mut sent = String::new();
    sender.stdout.take().context("stdout")?.read_to_string(&mut sent)?;
    let mut received = String::new();
    lines.read_to_string(&mut received)?;
    for mut end in [sender, receiver].into_iter().chain(feeder) {
        anyhow::ensure!(end.wait()?.success(), "an end of the pipe failed");
    }
    std::fs::remove_file(at("pipe.out"))?;
    Ok((serde_json::from_str(&sent)?, serde_json::from_str(&received)?))
}

/// Source half and destination half, from the first byte on the destination's disk to the last.
fn run_link(folder: &Path, bytes: u64) -> Result<(Usage, Usage)> {
    let times = (bytes / PARTITIONS).div_ceil(SEGMENT_BYTES as u64);
    let source = Source::start(TOPIC, PARTITIONS, &folder.join("segment"), times)?;
    let total = times * PARTITIONS * std::fs::metadata(folder.join("segment"))?.len();
    let mut halves = Halves::start(source.bootstrap(), None)?;
    let pids = halves.pids()?;
    let logs = halves.log_dir();
    let _warm = Warm::touch(total, move || disk::segment_bytes(&logs, TOPIC).unwrap_or_default());
    let cpu_before = [usage::cpu_seconds(pids[0])?, usage::cpu_seconds(pids[1])?];
    halves.mirror(TOPIC)?;
    let began = Instant::now();
    let mut first = None;
    loop {
        let there = disk::segment_bytes(&halves.log_dir(), TOPIC)?;
        if there > 0 {
            first.get_or_insert_with(Instant::now);
        }
        if there >= total {
            break;
        }
        anyhow::ensure!(began.elapsed() < RUN_LIMIT, "{there} of {total} bytes after {RUN_LIMIT:?}");
        std::thread::sleep(POLL);
    }
    let seconds = first.unwrap_or(began).elapsed().as_secs_f64();
    let usage = |half: usize| -> Result<Usage> {
        let cpu_seconds = usage::cpu_seconds(pids[half])? - cpu_before[half];
        Ok(Usage { bytes: total, seconds, cpu_seconds, rss_bytes: usage::rss_peak_bytes(pids[half])? })
    };
    Ok((usage(0)?, usage(1)?))
}

/// This same binary in another role.
fn role(arguments: &[PathBuf]) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

/// Reads the line `port N`.
fn port(lines: &mut impl BufRead) -> Result<u16> {
    let mut first = String::new();
    lines.read_line(&mut first)?;
    Ok(first.trim().strip_prefix("port ").context("port line")?.parse()?)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn from_env(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |v| v.parse().with_context(|| format!("{name}={v} is not a number")))
}

fn scratch() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("hawser-bench-").tempdir()?)
}
