#![forbid(unsafe_code)]
//! Kafka's on-disk log, so that Kafka's own tools read it.
//!
//! SKELETON written by the lead; the log helper owns it from here. Signatures are the seam.

mod epochs;

pub use epochs::{EpochStart, LeaderEpochs};

use bytes::Bytes;
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition, Uuid};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Bounds and policies of one data directory. Names as in Kafka's broker and topic configs.
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
}

/// Why the log did not do what it was asked. `is_retriable` for ENOSPC and EIO.
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
    /// The partition stopped after a write or fsync error; see its state.
    #[error("partition is offline: {0}")]
    Offline(String),
}

/// All partitions of one data directory; locks the directory.
pub struct Logs {
    _private: (),
}

/// One partition's log. All methods take `&self`; appends are serialised inside.
pub struct PartitionLog {
    _private: (),
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
    /// Epoch of the last batch, `NONE` when empty.
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

impl Logs {
    /// Opens `dir`, recovering every partition found in it (clean ones are not scanned).
    ///
    /// # Errors
    /// When the directory is locked by another process, or cannot be read.
    pub fn open(dir: &Path, config: LogConfig) -> Result<Self, Error> {
        let _ = (dir, config);
        todo!("log helper")
    }
    /// The log of `tp`, if it exists.
    pub fn partition(&self, tp: &TopicPartition) -> Option<Arc<PartitionLog>> {
        let _ = tp;
        todo!("log helper")
    }
    /// The log of `tp`, made empty at offset 0 with `topic_id` in `partition.metadata` if it does not exist.
    ///
    /// # Errors
    /// File errors; another topic id in an existing folder.
    pub fn open_partition(&self, tp: &TopicPartition, topic_id: Uuid) -> Result<Arc<PartitionLog>, Error> {
        let _ = (tp, topic_id);
        todo!("log helper")
    }
    /// Deletes the log of `tp` (renamed first, then removed, as Kafka does).
    ///
    /// # Errors
    /// File errors.
    pub fn delete_partition(&self, tp: &TopicPartition) -> Result<(), Error> {
        let _ = tp;
        todo!("log helper")
    }
    /// Every partition present.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        todo!("log helper")
    }
    /// Flushes everything, writes checkpoints and the clean-shutdown mark.
    ///
    /// # Errors
    /// File errors; the mark is then not written.
    pub fn close(&self) -> Result<(), Error> {
        todo!("log helper")
    }
}

impl PartitionLog {
    /// The positions, consistent with each other. Cheap, lock-free or nearly so.
    pub fn watermarks(&self) -> Watermarks {
        todo!("log helper")
    }
    /// Increments at every change of [`watermarks`](Self::watermarks): what a long poll waits on.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        todo!("log helper")
    }
    /// Appends verbatim; one `pwritev` for the lot when it fits one segment.
    ///
    /// # Errors
    /// `OutOfOrder`, `Io`, `Offline`. Nothing is appended then.
    pub fn append(&self, batches: &[Batch]) -> Result<Watermarks, Error> {
        let _ = batches;
        todo!("log helper")
    }
    /// Whole batches from the one that holds `from` on, below `up_to` and within `bytes_max`; at least one batch
    /// if `at_least_one`. Empty at the end.
    ///
    /// # Errors
    /// `OutOfRange`, `Io`.
    pub fn read(&self, from: Offset, up_to: Offset, bytes_max: usize, at_least_one: bool) -> Result<Bytes, Error> {
        let _ = (from, up_to, bytes_max, at_least_one);
        todo!("log helper")
    }
    /// Raises the high watermark as reported by the source: the visible one is the smaller of it and the log end.
    pub fn observe_high_watermark(&self, high_watermark: Offset) {
        let _ = high_watermark;
        todo!("log helper")
    }
    /// See `MirrorPartition::truncate_to`.
    ///
    /// # Errors
    /// File errors.
    pub fn truncate_to(&self, offset: Offset) -> Result<Watermarks, Error> {
        let _ = offset;
        todo!("log helper")
    }
    /// See `MirrorPartition::advance_log_start`.
    ///
    /// # Errors
    /// File errors, `OutOfRange`.
    pub fn advance_log_start(&self, offset: Offset) -> Result<Watermarks, Error> {
        let _ = offset;
        todo!("log helper")
    }
    /// See `MirrorPartition::restart_at`.
    ///
    /// # Errors
    /// File errors.
    pub fn restart_at(&self, offset: Offset) -> Result<Watermarks, Error> {
        let _ = offset;
        todo!("log helper")
    }
    /// fsync of everything dirty, then the recovery-point moves.
    ///
    /// # Errors
    /// File errors; the partition is then offline until it recovers.
    pub fn flush(&self) -> Result<Watermarks, Error> {
        todo!("log helper")
    }
    /// See `MirrorPartition::end_of_epoch`.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let _ = epoch;
        todo!("log helper")
    }
    /// The epoch of the batch that holds `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let _ = offset;
        todo!("log helper")
    }
    /// First record at or after `timestamp` (ms) at or above the log start, as `UnifiedLog.fetchOffsetByTimestamp`.
    ///
    /// # Errors
    /// File errors.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedOffset>, Error> {
        let _ = timestamp;
        todo!("log helper")
    }
    /// The first record with the largest timestamp (`ListOffsets` −3), `None` when empty.
    ///
    /// # Errors
    /// File errors.
    pub fn offset_of_max_timestamp(&self) -> Result<Option<TimestampedOffset>, Error> {
        todo!("log helper")
    }
    /// Aborted transactions that overlap [from, up_to), from the `.txnindex` files.
    ///
    /// # Errors
    /// File errors.
    pub fn aborted_transactions(&self, from: Offset, up_to: Offset) -> Result<Vec<AbortedTransaction>, Error> {
        let _ = (from, up_to);
        todo!("log helper")
    }
    /// Bytes on disk, for quotas, log-dirs and metrics.
    pub fn size_bytes(&self) -> u64 {
        todo!("log helper")
    }
}
