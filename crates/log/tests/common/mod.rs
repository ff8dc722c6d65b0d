//! What the tests of the log share: a zoo of batches, and a look at everything a log answers.
#![allow(dead_code, reason = "each test binary uses its own part")]

use bytes::Bytes;
use hawser_log::{LogConfig, Logs, PartitionLog};
use hawser_testkit::batches::BatchBuilder;
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition, Uuid};
use std::path::Path;
use std::sync::Arc;

pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(7);

/// A temporary folder in memory where there is such a thing: these tests open and sync many thousand small files.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("temporary folder")
}

pub(crate) fn id() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Small segments, an index entry for nearly every batch, no background flush.
pub(crate) fn config(segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, index_interval_bytes: 100, flush_interval: None, ..LogConfig::default() }
}

pub(crate) fn open(root: &Path, config: &LogConfig) -> (Logs, Arc<PartitionLog>) {
    let logs = Logs::open(root, config.clone()).expect("opens");
    let log = logs.open_partition(&id(), TOPIC_ID).expect("opens the partition");
    (logs, log)
}

pub(crate) fn parsed(builder: &BatchBuilder) -> Batch {
    Batch::split_off(&mut builder.build()).expect("a well-formed batch")
}

pub(crate) fn plain(base: i64, count: usize, epoch: i32) -> Batch {
    parsed(&BatchBuilder::at(base).epoch(epoch).timestamp(1_700_000_000_000 + base % 7).records(count, 20))
}

pub(crate) fn transactional(base: i64, count: usize, epoch: i32, producer: i64) -> Batch {
    parsed(&BatchBuilder::at(base).epoch(epoch).transactional(producer, 0, 0).records(count, 10))
}

pub(crate) fn marker(base: i64, epoch: i32, producer: i64, commit: bool) -> Batch {
    parsed(&BatchBuilder::marker(base, producer, 0, commit).epoch(epoch))
}

/// Plain batches, gaps, rising epochs, transactions of two producers that overlap: committed, aborted, left open.
pub(crate) fn zoo() -> Vec<Batch> {
    vec![
        plain(0, 3, 0),
        transactional(3, 2, 0, 11),
        plain(5, 1, 0),
        transactional(6, 1, 1, 12),
        marker(7, 1, 11, false),
        plain(20, 4, 1),
        transactional(24, 1, 3, 11),
        marker(25, 3, 12, true),
        plain(26, 2, 3),
        transactional(40, 2, 3, 12),
        marker(42, 4, 11, false),
        marker(43, 4, 12, false),
        transactional(44, 1, 4, 11),
        plain(45, 3, 6),
    ]
}

pub(crate) fn joined(batches: &[Batch]) -> Bytes {
    batches.iter().flat_map(|batch| batch.bytes.iter().copied()).collect()
}

/// All batches from the one that holds the log start on.
pub(crate) fn contents(log: &PartitionLog) -> Vec<Batch> {
    let at = log.watermarks();
    let mut found = Vec::new();
    let mut from = at.log_start;
    loop {
        let mut bytes = log.read(from, at.log_end, 200, true).expect("reads");
        if bytes.is_empty() {
            return found;
        }
        while !bytes.is_empty() {
            let batch = Batch::split_off(&mut bytes).expect("whole batches");
            batch.check_crc().expect("good CRC");
            from = batch.header.next_offset();
            found.push(batch);
        }
    }
}

/// Everything that a log says about itself, but for what only flushing and the high watermark decide.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    log_end: Offset,
    last_epoch: LeaderEpoch,
    /// Base offset, size and CRC of each batch.
    batches: Vec<(i64, usize, u32)>,
    last_stable: Offset,
    aborted: Vec<(i64, Offset, Offset)>,
    epochs: Vec<Option<(LeaderEpoch, Offset)>>,
    timestamps: Vec<Option<(i64, Offset)>>,
}

impl Answers {
    /// Without epochs of which no batch is left: like Kafka, a log remembers the last epoch of what was trimmed, until it is
    /// read anew.
    pub(crate) fn lasting(mut self) -> Self {
        match self.batches.first() {
            None => {
                self.last_epoch = LeaderEpoch::NONE;
                self.epochs.clear();
            }
            Some((first, ..)) => {
                let has_batches = |(_, end): &(LeaderEpoch, Offset)| end.0 > *first;
                self.epochs.iter_mut().for_each(|epoch| *epoch = epoch.filter(has_batches));
            }
        }
        self
    }
}

pub(crate) fn answers(log: &PartitionLog) -> Answers {
    let end = log.watermarks().log_end;
    log.observe_high_watermark(end);
    let at = log.watermarks();
    let asked = (0..8).map(|delta| 1_700_000_000_000 + delta);
    let aborted = log.aborted_transactions(at.log_start, end).expect("reads");
    let found = |timestamp| log.offset_for_timestamp(timestamp).expect("reads");
    Answers {
        log_end: end,
        last_epoch: at.last_epoch,
        batches: contents(log)
            .iter()
            .map(|batch| &batch.header)
            .map(|of| (of.base_offset.0, of.size_bytes, of.crc))
            .collect(),
        last_stable: at.last_stable,
        aborted: aborted.iter().map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset)).collect(),
        epochs: (0..8).map(|epoch| log.end_of_epoch(LeaderEpoch(epoch))).collect(),
        timestamps: asked.map(|timestamp| found(timestamp).map(|found| (found.timestamp, found.offset))).collect(),
    }
}

/// What a fresh log that was given `batches` answers.
pub(crate) fn answers_to(batches: &[Batch]) -> Answers {
    let root = folder();
    let (_logs, log) = open(root.path(), &config(1 << 20));
    log.append(batches).expect("appends");
    answers(&log)
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a folder");
    for entry in std::fs::read_dir(from).expect("list") {
        let entry = entry.expect("list");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}
