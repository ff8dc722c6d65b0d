#![forbid(unsafe_code)]
//! Kafka's on-disk log, so that Kafka's own tools read it: segments, indexes, checkpoints, recovery.
//!
//! [`Logs`] is a data directory, [`PartitionLog`] one partition in it. Batches are written as they came; every other byte on
//! disk follows from them by Kafka's own rules (`UnifiedLog`, `LogSegment`, `LeaderEpochFileCache`, `ProducerStateManager`),
//! so that the same batches give the same indexes.
//!
//! Where to look: what is appended and refused, `partition.rs`; what a producer may write, `leader.rs` and `validate.rs`; how a
//! mirror becomes an ordinary partition, `promote.rs`; what retention and compaction remove, `retention.rs` and `compact.rs`, and
//! when, `cleaner.rs`; what takes data away, `truncate.rs`; what is fsynced when
//! and what a failing disk does, `flush.rs`; what survives a crash, `load.rs`; who opens files, `files.rs`; how a test makes
//! the disk fail, [`disk`].

mod checkpoint;
mod cleaner;
mod compact;
mod directory;
pub mod disk;
mod epochs;
mod files;
mod flush;
#[cfg(test)]
mod fuzz;
mod header;
mod leader;
mod load;
mod logs;
mod partition;
mod producers;
mod promote;
mod read;
mod retention;
mod segment;
mod snapshot;
mod topic_config;
mod transactions;
mod truncate;
mod validate;

pub use epochs::{EpochStart, LeaderEpochs};
pub use leader::{ActiveProducer, Appended};
pub use logs::{ConfigOf, Logs};
pub use partition::{PartitionLog, Status};
pub use promote::EndedMirror;
pub use read::held_bytes_max;
pub use topic_config::{InvalidTopicConfig, TopicConfig};
pub use validate::{BadRecord, LeaderAppendError};

use hawser_wire::{LeaderEpoch, Offset, TopicPartition, Uuid};
use std::time::Duration;

/// Bounds and policies of one data directory, and the defaults of its topics. Names as in Kafka's broker and topic configs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `flush.ms`-like: dirty partitions are fsynced at least this often; `None` leaves it to the kernel.
    pub flush_interval: Option<Duration>,
    /// Most file descriptors kept open over all partitions.
    pub open_files_max: usize,
    /// `producer.id.expiration.ms`: a producer that wrote nothing to a partition for so long is forgotten there.
    pub producer_id_expiration_ms: i64,
    /// `log.cleaner.backoff.ms`: how often ordinary partitions are cleaned; `None`: only when [`Logs::clean`] is called.
    pub cleaner_interval: Option<Duration>,
    /// `log.cleaner.dedupe.buffer.size`: memory for the keys of one compaction.
    pub cleaner_dedupe_buffer_bytes: usize,
}

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// The act and the path.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The batch does not continue the log.
    #[error("batch at {base} does not follow log end {log_end}: {reason}")]
    OutOfOrder {
        /// Base offset of the batch.
        base: Offset,
        /// Where the log ends.
        log_end: Offset,
        /// Which rule it breaks.
        reason: String,
    },
    /// The offset lies outside [log start, log end].
    #[error("offset {offset} is out of range [{log_start}, {log_end}]")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// Log start.
        log_start: Offset,
        /// Log end.
        log_end: Offset,
    },
    /// The folder belongs to another topic of the same name.
    #[error("{partition} has topic id {held}, not {asked}")]
    TopicId {
        /// Which partition.
        partition: TopicPartition,
        /// The id in its `partition.metadata`.
        held: Uuid,
        /// The id that was asked for.
        asked: Uuid,
    },
    /// Another process has the data directory.
    #[error("log directory {0} is in use by another process")]
    Locked(String),
    /// A failed fsync took the log end back since the caller looked: see [`PartitionLog::losses`].
    #[error("{0} lost what was not flushed: ask for its position")]
    Lost(TopicPartition),
    /// The partition is an ordinary one: only its leader appends.
    #[error("{0} is an ordinary partition and takes no mirror's batches")]
    Led(TopicPartition),
    /// Records of a topic that is only compacted are not deleted by offset (`POLICY_VIOLATION`).
    #[error("records of {0} cannot be deleted: its cleanup.policy is compact")]
    Kept(TopicPartition),
    /// The partition stopped after a write or fsync error; see its state.
    #[error("partition is offline: {0}")]
    Offline(String),
    /// The daemon stops.
    #[error("the log directory is being closed")]
    Closing,
}

/// What consumers may see, in one consistent glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// First readable offset.
    pub log_start: Offset,
    /// Below it everything is decided (committed, aborted or not transactional); ≤ high watermark.
    pub last_stable: Offset,
    /// Consumers read below it.
    pub high_watermark: Offset,
    /// One past the last offset held.
    pub log_end: Offset,
    /// Below it everything survives a power cut.
    pub flushed: Offset,
    /// Epoch of the last batch, or of the leadership that began since; `NONE` when empty.
    pub last_epoch: LeaderEpoch,
}

/// An aborted transaction that a read_committed consumer must filter (`AbortedTxn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Producer id.
    pub producer_id: i64,
    /// First offset of the transaction.
    pub first_offset: Offset,
    /// Offset of the abort marker.
    pub last_offset: Offset,
}

/// A record found by timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// Timestamp of the record, ms since 1970.
    pub timestamp: i64,
    /// Its offset.
    pub offset: Offset,
    /// Epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl Error {
    /// Whether the same may succeed later: the disk was full or failed.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Offline(_) | Self::Closing)
    }
}

impl Default for LogConfig {
    /// Kafka's defaults for segments and indexes; a flush every second.
    fn default() -> Self {
        Self {
            segment_bytes: 1024 * 1024 * 1024,
            index_interval_bytes: 4096,
            flush_interval: Some(Duration::from_secs(1)),
            open_files_max: 4096,
            producer_id_expiration_ms: 24 * 3_600_000,
            cleaner_interval: Some(Duration::from_secs(15)),
            cleaner_dedupe_buffer_bytes: 128 * 1024 * 1024,
        }
    }
}
