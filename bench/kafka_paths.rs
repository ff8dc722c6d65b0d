//! The data sets, and the ways to copy them: a stock follower, a tuned MirrorMaker 2, and the link.

use crate::disk::segment_bytes;
use crate::halves::Halves;
use crate::slope::Slope;
use anyhow::{Context, Result, ensure};
use hawser_testkit::Kafka;
use hawser_testkit::kafka::{Jvm, scratch_folder};
use std::time::{Duration, Instant};

/// Partitions of every data set.
const PARTITIONS: usize = 12;
/// The broker that leads all of it, and the one that follows.
const LEADER: i32 = 1;
const FOLLOWER: i32 = 2;
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    /// Records of 1 KiB that do not compress, codec none.
    Raw,
    /// JSON-like records of 1 KiB, lz4.
    Lz4,
}

/// Who copies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Candidate {
    /// A broker of the same cluster becomes a replica, one fetcher thread.
    Follower,
    /// Both halves of a link, over TLS.
    Hawser,
    /// MirrorMaker 2 with two tasks and large batches, into a broker of its own.
    MirrorMaker,
}

impl Set {
    pub(crate) const ALL: [Self; 2] = [Self::Raw, Self::Lz4];

    pub(crate) fn topic(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Lz4 => "lz4",
        }
    }

    fn codec(self) -> &'static str {
        match self {
            Self::Raw => "none",
            Self::Lz4 => "lz4",
        }
    }

    /// How much its records shrink on disk.
    fn ratio(self) -> u64 {
        match self {
            Self::Raw => 1,
            Self::Lz4 => 3,
        }
    }

    /// Produces about `bytes` of segments into [`PARTITIONS`] partitions of the leader.
    pub(crate) fn load(self, source: &Kafka, bytes: u64) -> Result<()> {
        let placement = vec![LEADER.to_string(); PARTITIONS].join(",");
        source
            .tool("org.apache.kafka.tools.TopicCommand")
            .args(["--create", "--topic", self.topic(), "--replica-assignment", &placement])
            .args(["--config", "min.insync.replicas=1", "--config", "retention.ms=-1"])
            .run()?;
        let records = (bytes * self.ratio() / 1024).to_string();
        let (bootstrap, codec) = (format!("bootstrap.servers={}", source.bootstrap()), self.codec());
        let compression = format!("compression.type={codec}");
        let payload = source.folder().join("payload.json");
        let mut load = source
            .home()
            .program("org.apache.kafka.tools.ProducerPerformance", Jvm::steady(512), None)
            .args(["--topic", self.topic(), "--num-records", &records, "--throughput", "-1"])
            .args(["--producer-props", &bootstrap, &compression, "acks=1", "batch.size=262144", "linger.ms=20"]);
        load = match self {
            Self::Raw => load.args(["--record-size", "1024"]),
            Self::Lz4 => {
                std::fs::write(&payload, json_lines())?;
                load.args(["--payload-file", &payload.display().to_string()])
            }
        };
        let mut process = load.spawn("load", &source.folder().join("load.log"))?;
        let status = process.wait(Duration::from_secs(600))?;
        ensure!(status.success(), "loading {} failed:\n{}", self.topic(), process.tail(20));
        Ok(())
    }

    /// Bytes of its segments at the leader; reads them, so that every candidate finds them in the page cache.
    fn warm(self, source: &Kafka) -> Result<u64> {
        let folder = source.data_dir(LEADER)?;
        for partition in 0..PARTITIONS {
            for file in std::fs::read_dir(folder.join(format!("{}-{partition}", self.topic())))?.flatten() {
                std::io::copy(&mut std::fs::File::open(file.path())?, &mut std::io::sink())?;
            }
        }
        segment_bytes(&folder, self.topic())
    }
}

impl Candidate {
    pub(crate) const ALL: [Self; 3] = [Self::Follower, Self::Hawser, Self::MirrorMaker];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Hawser => "hawser",
            Self::MirrorMaker => "mirrormaker2",
        }
    }

    /// Copies `set` once, from nothing, and cleans up behind itself.
    pub(crate) fn copy(self, source: &Kafka, set: Set) -> Result<Slope> {
        let total = set.warm(source)?;
        match self {
            Self::Follower => follow(source, set, total),
            Self::Hawser => link(source, set, total),
            Self::MirrorMaker => mirror_maker(source, set, total),
        }
    }
}

fn follow(source: &Kafka, set: Set, total: u64) -> Result<Slope> {
    reassign(source, set, &format!("[{LEADER},{FOLLOWER}]"))?;
    let folder = source.data_dir(FOLLOWER)?;
    let slope = Slope::watch(&folder, set.topic(), total, &[source.broker_process(FOLLOWER)?.pid()]);
    reassign(source, set, &format!("[{LEADER}]"))?;
    let deadline = Instant::now() + SETTLE_LIMIT;
    while segment_bytes(&folder, set.topic())? > 0 {
        ensure!(Instant::now() < deadline, "the follower has not deleted its copy of {}", set.topic());
        std::thread::sleep(Duration::from_millis(200));
    }
    slope
}

fn reassign(source: &Kafka, set: Set, replicas: &str) -> Result<()> {
    let partitions: Vec<String> = (0..PARTITIONS)
        .map(|p| format!(r#"{{"topic":"{}","partition":{p},"replicas":{replicas}}}"#, set.topic()))
        .collect();
    let file = source.folder().join("reassign.json");
    std::fs::write(&file, format!(r#"{{"version":1,"partitions":[{}]}}"#, partitions.join(",")))?;
    source
        .tool("org.apache.kafka.tools.reassign.ReassignPartitionsCommand")
        .args(["--reassignment-json-file", &file.display().to_string(), "--execute", "--additional"])
        .run()
        .map(drop)
}

fn link(source: &Kafka, set: Set, total: u64) -> Result<Slope> {
    let mut halves = Halves::start(&source.bootstrap(), None)?;
    halves.mirror(set.topic())?;
    let pids = halves.pids()?;
    Slope::watch(&halves.log_dir(), set.topic(), total, &pids)
}

fn mirror_maker(source: &Kafka, set: Set, total: u64) -> Result<Slope> {
    let destination = Kafka::one_node().jvm(Jvm::steady(1024)).start()?;
    destination.create_topic(set.topic(), 12, 1, &["max.message.bytes=8388608", "retention.ms=-1"])?;
    let folder = scratch_folder("mm2")?;
    let text = include_str!("mm2/tuned.properties")
        .replace("@A@", &source.bootstrap())
        .replace("@B@", &destination.bootstrap())
        .replace("@TOPIC@", set.topic())
        .replace("@CODEC@", set.codec());
    let file = folder.path().join("mm2.properties");
    std::fs::write(&file, text)?;
    let process = source
        .home()
        .program("org.apache.kafka.connect.mirror.MirrorMaker", Jvm::steady(1536), None)
        .arg(file.display().to_string())
        .spawn("mirrormaker2", &folder.path().join("mm2.log"))?;
    Slope::watch(&destination.data_dir(1)?, set.topic(), total, &[process.pid()]).with_context(|| process.tail(20))
}

/// Lines of 1 KiB that look like orders and compress to about a third.
fn json_lines() -> String {
    let mut noise = 0x2545_F491_4F6C_DD1D_u64;
    let mut lines = String::new();
    for order in 0..10_000_u64 {
        let mut line = format!(r#"{{"order":{order},"customer":{},"items":["#, order * 7919 % 100_003);
        while line.len() < 980 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            line.push_str(&format!(
                r#"{{"sku":"{:012x}","quantity":{},"price":{}.99}},"#,
                noise >> 16,
                noise % 9,
                noise % 500
            ));
        }
        line.push_str(r#"null],"state":"NEW"}"#);
        line.truncate(1024);
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}
