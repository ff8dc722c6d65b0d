//! What a partition is told, what it wants, and what it has done.

use crate::reason::{Failure, Trouble};
use crate::write::{Write, WriteError};
use bytes::Bytes;
use hawser_link::config::StartOffset as Start;
use hawser_store::{Position, StoreError};
use hawser_wire::{LeaderEpoch, NodeId, Offset};
use std::time::Duration;

/// The leader of a partition at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its broker.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: LeaderEpoch,
}

/// How long to wait before the next try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `retry.backoff.ms`: after a leader moved; doubled while it goes on.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: where that ends.
    pub retry_backoff_max: Duration,
    /// `replica.fetch.backoff.ms`: after any other error.
    pub fetch_backoff: Duration,
    /// `cluster.link.retry.timeout.ms`: how long a trouble that [ends](crate::reason::TroubleKind::ends_as) is retried.
    pub retry_timeout: Duration,
}

/// What a fetch of this partition says. A response counts only if this is still what the partition wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchAt {
    /// First offset wanted.
    pub offset: Offset,
    /// Epoch of the leader that we ask.
    pub leader_epoch: LeaderEpoch,
    /// Epoch of the batch before `offset`, `NONE` if the copy holds none.
    pub last_epoch: LeaderEpoch,
}

/// What the partition wants from outside, by its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing for now; see [`Partition::deadline`](super::Partition::deadline).
    Nothing,
    /// Somebody who opens the copy and sends [`Event::Opened`].
    Open,
    /// A leader, from metadata.
    Leader,
    /// To be in the fetch set of its leader.
    Fetch(FetchAt),
    /// A ListOffsets answer from its leader.
    Offset {
        /// What to look for.
        at: Start,
        /// Epoch of the leader that we ask.
        leader_epoch: LeaderEpoch,
    },
    /// An OffsetForLeaderEpoch answer from its leader.
    EpochEnd {
        /// The epoch whose end is wanted.
        epoch: LeaderEpoch,
        /// Epoch of the leader that we ask.
        leader_epoch: LeaderEpoch,
    },
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The copy is open and stands here.
    Opened(Position),
    /// The copy could not be opened.
    OpenFailed(StoreError),
    /// Metadata, or a broker's hint, names the leader.
    Leader(Leader),
    /// The answer to [`Want::Fetch`].
    Fetched(Fetched),
    /// The answer to [`Want::Fetch`] does not name the partition, as sessions have it: nothing is new at the source.
    NoNews,
    /// The answer to [`Want::Fetch`] or [`Want::EpochEnd`]: where the source's largest epoch at or below the one we named ends.
    EpochEnd {
        /// The source's word; `None` if it does not know the epoch at all.
        theirs: Option<(LeaderEpoch, Offset)>,
        /// `end_of_epoch(theirs.epoch)` of the copy.
        ours: Option<(LeaderEpoch, Offset)>,
    },
    /// The answer to [`Want::Offset`]; `None` if no record has such a time.
    Offset(Option<Offset>),
    /// Any of the requests was answered with this error code for this partition.
    Refused(i16),
    /// The write that was ordered is done.
    Stored(Position),
    /// It is not, or not wholly; the copy stands here.
    StoreFailed(Position, WriteError),
    /// The store has lost something of its copies, and this one stands here.
    Looked(Position),
    /// The deadline passed.
    Tick,
    /// Stop fetching; what was ordered is still stored.
    Pause,
    /// Go on after [`Event::Pause`].
    Resume,
    /// The topic came to a dead end.
    Fail(Failure),
}

/// One partition of a fetch response without an error.
#[derive(Debug)]
pub struct Fetched {
    /// The source's high watermark.
    pub high_watermark: Offset,
    /// The source's log start; negative if the broker did not say.
    pub log_start: Offset,
    /// Batches, the last perhaps cut off.
    pub records: Bytes,
}

/// What is to be done; at most one write is outstanding at a time.
#[derive(Debug, Default)]
pub struct Actions {
    /// Perform this and answer with [`Event::Stored`] or [`Event::StoreFailed`].
    pub write: Option<Write>,
    /// Tell the operator.
    pub reports: Vec<Report>,
    /// Ask for metadata of this topic soon.
    pub refresh: bool,
}

/// What an operator should learn of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The mirror's beginning is fixed, durably; data flows from here.
    Started {
        /// The copy's end as fetching began.
        at: Offset,
    },
    /// The source trimmed records that were not mirrored; the copy goes on at `to`.
    Gap {
        /// The copy's end.
        from: Offset,
        /// The source's log start.
        to: Offset,
    },
    /// The source replaced its tail; the copy was cut likewise.
    Truncated {
        /// The copy's end before.
        from: Offset,
        /// Where the lineages part.
        to: Offset,
    },
    /// A trouble began, or became another one.
    Trouble(Trouble),
    /// Data flows again after a trouble.
    Recovered,
    /// A dead end.
    Failed(Failure),
}

/// What the source said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its high watermark; `None` before the first answer.
    pub high_watermark: Option<Offset>,
    /// Its log start as far as known.
    pub log_start: Offset,
}

/// What a status line says of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not open yet, no leader known, or deciding where to fetch.
    Starting,
    /// In the fetch set.
    Fetching,
    /// Waiting to try again after a trouble.
    Waiting,
    /// Paused by an operator.
    Paused,
    /// At a dead end.
    Failed,
}
