//! The awkward data of bar 1 on a stock cluster of three brokers: everything a Kafka log can hold that a careless copy
//! gets wrong. [`fill`] makes it and checks with its own eyes that it is there.

use crate::compare;
use crate::kafka::{Driver, Kafka, PartitionState};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Codecs, as the producer names them.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Times of the zoo's records lie years back: no topic may expire them.
const KEEP: &str = "retention.ms=-1";
/// Kafka 4's smallest segment; some topics must roll.
const SMALL_SEGMENTS: &str = "segment.bytes=1048576";
/// How long the cleaner may take.
const COMPACTION_LIMIT: Duration = Duration::from_secs(60);

/// The topics of a filled zoo and where their source logs lie.
pub struct Zoo {
    /// Every topic.
    pub topics: Vec<String>,
    /// Every partition with its leader.
    pub partitions: Vec<PartitionState>,
}

/// What to make; the defaults are the bar's.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Records per codec.
    pub records: u32,
    /// Rounds of three interleaved transactions.
    pub transactions: u32,
    /// Partitions of the wide topic.
    pub wide_partitions: u32,
    /// Leader moves.
    pub leader_moves: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { records: 4000, transactions: 25, wide_partitions: 200, leader_moves: 10 }
    }
}

/// Fills `kafka` (three brokers) with the zoo.
///
/// # Errors
/// When the cluster refuses something, or the data did not come out as awkward as it should.
pub fn fill(kafka: &mut Kafka, driver: &mut Driver, size: Size) -> Result<Zoo> {
    let mut topics = Vec::new();
    codecs(driver, size, &mut topics)?;
    transactions(driver, size, &mut topics)?;
    shapes(driver, size, &mut topics)?;
    trimmed(driver, &mut topics)?;
    epochs(kafka, driver, size, &mut topics)?;
    compacted(kafka, driver, &mut topics)?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    driver.ask(&[&["topics", "await-in-sync"], &names[..]].concat())?;
    let partitions = driver.describe(&names)?;
    let zoo = Zoo { topics, partitions };
    zoo.check(kafka)?;
    Ok(zoo)
}

impl Zoo {
    /// Names of the topics.
    pub fn names(&self) -> Vec<&str> {
        self.topics.iter().map(String::as_str).collect()
    }

    /// The folder of a partition at its leader.
    ///
    /// # Errors
    /// When it has no leader.
    pub fn source_folder(&self, kafka: &Kafka, partition: &PartitionState) -> Result<PathBuf> {
        let PartitionState { topic, partition: number, leader, .. } = partition;
        Ok(kafka.data_dir(*leader)?.join(format!("{topic}-{number}")))
    }

    /// Looks at the files: what the zoo promises must be in them.
    fn check(&self, kafka: &Kafka) -> Result<()> {
        let (mut emptied, mut gaps, mut epochs_max, mut without_data) = (0, 0, 0, 0);
        for partition in &self.partitions {
            let found = compare::survey(&self.source_folder(kafka, partition)?)?;
            emptied += found.emptied;
            gaps += found.gaps;
            epochs_max = epochs_max.max(found.epochs);
            without_data += u64::from(found.batches == 0);
        }
        ensure!(emptied > 0, "compaction emptied no batch");
        ensure!(gaps > 0, "compaction left no gap");
        ensure!(epochs_max > 5, "leader epochs were not raised: at most {epochs_max} in one log");
        ensure!(without_data > 0, "no partition is empty");
        Ok(())
    }
}

fn codecs(driver: &mut Driver, size: Size, topics: &mut Vec<String>) -> Result<()> {
    let records = size.records.to_string();
    let kinds = CODECS.iter().map(|c| (*c, "true")).chain([("none", "false")]);
    for (codec, idempotent) in kinds {
        let name = if idempotent == "true" { format!("zoo-{codec}") } else { "zoo-not-idempotent".to_owned() };
        driver.create_topic(&name, 2, 3, &[KEEP, SMALL_SEGMENTS])?;
        driver.ask(&["zoo", "mixed", &name, "2", &records, codec, idempotent])?;
        topics.push(name);
    }
    let stamped = "zoo-log-append-time".to_owned();
    driver.create_topic(&stamped, 2, 3, &[KEEP, "message.timestamp.type=LogAppendTime"])?;
    driver.ask(&["zoo", "mixed", &stamped, "2", &records, "zstd", "true"])?;
    topics.push(stamped);
    Ok(())
}

fn transactions(driver: &mut Driver, size: Size, topics: &mut Vec<String>) -> Result<()> {
    driver.create_topic("zoo-transactions", 3, 3, &[KEEP])?;
    driver.ask(&["zoo", "transactions", "zoo-transactions", "3", &size.transactions.to_string()])?;
    driver.create_topic("zoo-open-transaction", 2, 3, &[KEEP])?;
    driver.ask(&["zoo", "open-transaction", "zoo-open-transaction", "2"])?;
    topics.extend(["zoo-transactions".to_owned(), "zoo-open-transaction".to_owned()]);
    Ok(())
}

fn shapes(driver: &mut Driver, size: Size, topics: &mut Vec<String>) -> Result<()> {
    driver.create_topic("zoo-sizes", 1, 3, &[KEEP, "max.message.bytes=16777216"])?;
    driver.ask(&["zoo", "sizes", "zoo-sizes"])?;
    driver.create_topic("zoo-empty", 3, 3, &[])?;
    driver.create_topic("zoo-wide", size.wide_partitions, 1, &[KEEP])?;
    driver.ask(&["zoo", "wide", "zoo-wide", &size.wide_partitions.to_string()])?;
    topics.extend(["zoo-sizes", "zoo-empty", "zoo-wide"].map(str::to_owned));
    Ok(())
}

/// Five batches of a hundred records: the log start inside a batch, between two, and at the end (nothing left).
fn trimmed(driver: &mut Driver, topics: &mut Vec<String>) -> Result<()> {
    driver.create_topic("zoo-trimmed", 3, 3, &[KEEP])?;
    for (partition, log_start) in [("0", "150"), ("1", "200"), ("2", "500")] {
        driver.ask(&["zoo", "batches", "zoo-trimmed", partition, "5", "100"])?;
        driver.ask(&["topics", "trim", "zoo-trimmed", partition, log_start])?;
    }
    topics.push("zoo-trimmed".to_owned());
    Ok(())
}

/// Records between leader moves, then between restarts of the brokers, which raise the epochs of every topic.
fn epochs(kafka: &mut Kafka, driver: &mut Driver, size: Size, topics: &mut Vec<String>) -> Result<()> {
    driver.ask(&["topics", "create-at", "zoo-epochs", "1,2,3;2,3,1", KEEP])?;
    for round in 0..size.leader_moves {
        let replicas = ["2,3,1", "3,1,2", "1,2,3"][round as usize % 3];
        driver.ask(&["topics", "move", "zoo-epochs", "0", replicas])?;
        driver.send("zoo-epochs", 0, 3, 50, "none")?;
    }
    for id in kafka.broker_ids() {
        kafka.stop_broker(id)?;
        driver.send("zoo-epochs", 1, 3, 50, "lz4")?;
        kafka.start_broker(id)?;
        driver.ask(&["topics", "await-in-sync", "zoo-epochs"])?;
    }
    topics.push("zoo-epochs".to_owned());
    Ok(())
}

/// Compacted once, then frozen: a replica that is still being compacted differs rightly. One replica, for each compacts
/// for itself.
fn compacted(kafka: &Kafka, driver: &mut Driver, topics: &mut Vec<String>) -> Result<()> {
    let configs = [
        KEEP,
        "cleanup.policy=compact",
        "segment.ms=200",
        "min.cleanable.dirty.ratio=0.001",
        "delete.retention.ms=100",
    ];
    driver.create_topic("zoo-compacted", 1, 1, &configs)?;
    driver.ask(&["zoo", "compacted", "zoo-compacted"])?;
    let leader = driver.describe(&["zoo-compacted"])?.first().context("zoo-compacted")?.leader;
    let folder = kafka.data_dir(leader)?.join("zoo-compacted-0");
    let deadline = Instant::now() + COMPACTION_LIMIT;
    loop {
        // The cleaner renames segments while this reads: an error is just another reason to look again.
        match compare::survey(&folder) {
            Ok(found) if found.gaps > 0 && found.emptied > 0 => break,
            seen => ensure!(Instant::now() < deadline, "not compacted after {COMPACTION_LIMIT:?}: {seen:?}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    driver.ask(&["topics", "alter", "zoo-compacted", "cleanup.policy=delete", "segment.ms=604800000"])?;
    topics.push("zoo-compacted".to_owned());
    Ok(())
}
