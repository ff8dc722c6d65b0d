#![forbid(unsafe_code)]
//! The `Store` trait: what a mirror partition needs of whatever holds it. Three stores are planned:
//! `embedded` (here, over `hawser-log`), `kraft` (a stock cluster that Hawser joins) and `produce`. What every one of them must
//! pass is in [`conformance`].

pub mod conformance;
mod embedded;
mod fake;

pub use embedded::{EmbeddedPartition, EmbeddedStore};
pub use fake::{FakePartition, FakeStore};

use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition, Uuid};
use std::future::Future;

/// Where a mirror partition stands. Invariant: `log_start ≤ high_watermark ≤ log_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// First offset that may be read.
    pub log_start: Offset,
    /// One past the last offset held; the offset to fetch next.
    pub log_end: Offset,
    /// Offset below which everything survives a power cut.
    pub flushed: Offset,
    /// Epoch of the last batch held, `LeaderEpoch::NONE` when empty.
    pub last_epoch: LeaderEpoch,
}

/// A topic as the store should hold it.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// Name at the destination.
    pub name: std::sync::Arc<str>,
    /// Topic id at the destination.
    pub id: Uuid,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full, or a write or an fsync failed. The partition keeps what it promised and may be retried.
    #[error("{what}: {source}")]
    Io {
        /// The act and the path.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The batches do not continue the log, or their epochs fall: the caller made a mistake or the source lied.
    #[error("batch at {base} does not follow log end {log_end}: {reason}")]
    OutOfOrder {
        /// Base offset of the batch.
        base: Offset,
        /// Where the log ends.
        log_end: Offset,
        /// Which rule it breaks.
        reason: String,
    },
    /// Another writer has taken over this partition.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The store cannot hold this data faithfully (`produce` and gaps, say).
    #[error("refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether trying the same again later can succeed without anybody acting on the link.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// Something that holds mirrors.
pub trait Store: Send + Sync + 'static {
    /// One mirror partition, held by its single writer.
    type Partition: MirrorPartition;

    /// Opens (creating it if need be) the copy of `topic`-`partition` for writing. A second open fences the first.
    /// A new, empty partition begins at offset 0 until [`MirrorPartition::restart_at`] says otherwise.
    fn open(
        &self,
        topic: &TopicSpec,
        partition: i32,
    ) -> impl Future<Output = Result<Self::Partition, StoreError>> + Send;

    /// How often anything that was appended to a partition got lost again before it was durable: whoever finds this changed
    /// asks for the [`position`](MirrorPartition::position) of each that it holds. Changes after the positions do. Cheap.
    fn losses(&self) -> u64;
}

/// The write side of one mirror partition: append verbatim, truncate, follow the log start.
/// All methods leave the partition as it was when they fail.
pub trait MirrorPartition: Send + 'static {
    /// Which partition this is.
    fn id(&self) -> &TopicPartition;

    /// Where the copy stands. Cheap. Whoever asks knows of all that was lost until then: see [`Store::losses`].
    fn position(&self) -> Position;

    /// The largest epoch ≤ `epoch` that the copy holds and the offset at which it ends
    /// (`LeaderEpochFileCache.endOffsetFor`); `None` if all epochs held are larger, or none is held.
    fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;

    /// Appends `batches` as they are. Each must be CRC-checked by the caller, start at or after the end before it
    /// and not fall in epoch. Fails if anything was lost since the caller asked for the [`position`](Self::position): at the
    /// end that it knows they would pass for what follows a gap of compaction.
    fn append(&mut self, batches: &[Batch]) -> impl Future<Output = Result<Position, StoreError>> + Send;

    /// Tells the store the high watermark and log start that the source reported; consumers see nothing above the smaller of
    /// it and the log end. Never goes back except by truncation.
    fn observe_high_watermark(&mut self, high_watermark: Offset);

    /// Drops everything at and above `offset`. Batches that begin below and end above it are dropped whole, as Kafka does.
    fn truncate_to(&mut self, offset: Offset) -> impl Future<Output = Result<Position, StoreError>> + Send;

    /// Raises the log start, also inside a batch. At most the log end.
    fn advance_log_start(&mut self, offset: Offset) -> impl Future<Output = Result<Position, StoreError>> + Send;

    /// Drops everything and begins anew, empty, at `offset` (`UnifiedLog.truncateFullyAndStartAt`).
    fn restart_at(&mut self, offset: Offset) -> impl Future<Output = Result<Position, StoreError>> + Send;

    /// Makes everything up to the log end survive a power cut.
    fn flush(&mut self) -> impl Future<Output = Result<Position, StoreError>> + Send;
}
