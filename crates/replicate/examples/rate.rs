//! `cargo run --release -p hawser-replicate --example rate [MB] [partitions]`: what replication itself costs.
//!
//! A fake source in a process of its own serves prepared batches over plain TCP; the copies are thrown away after the
//! CRC check. Then 10,000 idle partitions are polled for ten seconds. Prints MB/s, CPU-seconds per GB, bytes fetched twice,
//! peak memory; nothing is asserted. `docs/design/replicate.md` has the expected figures.

use hawser_replicate::{MirrorSpec, ReplicateConfig, Replicator, TopicState};
use hawser_store::{MirrorPartition, Position, Store, StoreError, TopicSpec};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{ClientOptions, ClientSecurity, Direct, HostPort};
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition, Uuid};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A store that remembers where it stands, and nothing else.
struct Nowhere;

struct Standing {
    id: TopicPartition,
    at: Position,
}

impl Store for Nowhere {
    type Partition = Standing;

    async fn open(&self, topic: &TopicSpec, partition: i32) -> Result<Standing, StoreError> {
        let zero = Offset(0);
        let at = Position { log_start: zero, log_end: zero, flushed: zero, last_epoch: LeaderEpoch::NONE };
        Ok(Standing { id: TopicPartition::new(topic.name.clone(), partition), at })
    }

    fn losses(&self) -> u64 {
        0
    }
}

impl MirrorPartition for Standing {
    fn id(&self) -> &TopicPartition {
        &self.id
    }
    fn position(&self) -> Position {
        self.at
    }
    fn end_of_epoch(&self, _: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        None
    }
    async fn append(&mut self, batches: &[Batch]) -> Result<Position, StoreError> {
        if let Some(last) = batches.last() {
            (self.at.log_end, self.at.last_epoch) = (last.header.next_offset(), last.header.leader_epoch);
        }
        Ok(self.at)
    }
    fn observe_high_watermark(&mut self, _: Offset) {}
    async fn truncate_to(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.at.log_end = offset;
        Ok(self.at)
    }
    async fn advance_log_start(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.at.log_start = offset;
        Ok(self.at)
    }
    async fn restart_at(&mut self, offset: Offset) -> Result<Position, StoreError> {
        (self.at.log_start, self.at.log_end) = (offset, offset);
        Ok(self.at)
    }
    async fn flush(&mut self) -> Result<Position, StoreError> {
        Ok(self.at)
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    if args.first().is_some_and(|role| role == "source") {
        runtime.block_on(source(number(1, 0), number(2, 0), number(3, 0)));
    } else {
        runtime.block_on(measure(number(0, 4_000), number(1, 12)));
    }
}

/// Serves `megabytes` in `partitions`, in batches of `batch_kb`, until its input closes; then says what it sent.
async fn source(megabytes: u64, partitions: u64, batch_kb: u64) {
    let source = FakeSource::local().await;
    source.create("t", i32::try_from(partitions).expect("few"));
    let batch = BatchBuilder::at(0).records(usize::try_from(batch_kb).expect("small"), 1_000).build();
    let times = megabytes * 1_000_000 / partitions.max(1) / batch.len() as u64;
    for partition in 0..partitions {
        if times > 0 {
            source.append_repeated("t", i32::try_from(partition).expect("few"), batch.clone(), times);
        }
    }
    println!("{} {}", source.addresses()[0].port(), times * batch_kb);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.expect("waits").expect("reads");
    println!("{} {}", source.fetch_bytes_sent(), cpu_seconds());
}

async fn measure(megabytes: u64, partitions: u64) {
    for batch_kb in [16, 250] {
        run(megabytes, partitions, batch_kb).await;
    }
    run(0, 10_000, 16).await;
}

async fn run(megabytes: u64, partitions: u64, batch_kb: u64) {
    let arguments = ["source".into(), megabytes.to_string(), partitions.to_string(), batch_kb.to_string()];
    let own = std::env::current_exe().expect("an executable");
    let mut child =
        Command::new(own).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut numbers = move || -> Vec<f64> {
        let line = lines.next().expect("a line").expect("reads");
        line.split(' ').map(|number| number.parse().expect("a number")).collect()
    };
    let [port, end] = numbers()[..] else { panic!("two numbers") };
    let bootstrap = vec![HostPort::new("127.0.0.1", port as u16)];
    let direct = Direct::new(ClientSecurity::plaintext(), bootstrap, ClientOptions::default(), Duration::from_secs(5));
    let (replicator, mut events) =
        Replicator::spawn(ReplicateConfig::with_defaults("rate"), Arc::new(Nowhere), Arc::new(direct));
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let topic = TopicSpec { name: "t".into(), id: Uuid::from_u128(1) };
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    replicator.add_mirror(MirrorSpec::new(topic)).await.expect("runs");
    let whole = || {
        let status = replicator.status();
        let topic = &status.topics[0];
        topic.state == TopicState::Active && topic.partitions.iter().all(|p| p.log_end.0 as f64 >= end)
    };
    while !whole() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (took, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    if megabytes == 0 {
        println!("{partitions} empty partitions: fetching after {took:.2} s, {cpu:.2} CPU-s");
        let cpu = cpu_seconds();
        tokio::time::sleep(Duration::from_secs(10)).await;
        println!("idle: {:.2} % of a core; peak {} MB", (cpu_seconds() - cpu) * 10.0, peak_mb());
    }
    drop(child.stdin.take());
    let [sent, source_cpu] = numbers()[..] else { panic!("two numbers") };
    if megabytes > 0 {
        let status = replicator.status();
        let bytes: f64 = status.topics[0].partitions.iter().map(|p| p.bytes as f64).sum();
        println!(
            "batches of {batch_kb} KB: {:.0} MB/s, {:.3} CPU-s/GB here, {:.3} at the source, {:.2} % fetched twice, peak {} MB",
            bytes / took / 1e6,
            cpu / bytes * 1e9,
            source_cpu / bytes * 1e9,
            (sent / bytes - 1.0) * 100.0,
            peak_mb()
        );
    }
    replicator.stop().await;
    child.wait().expect("ends");
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    (fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")) / 100.0
}

fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1_000
}
