//! Why a partition or a topic does not flow: troubles, which are retried, and failures, which end it.

use std::fmt;

/// A dead end: nothing is fetched any more until somebody acts on the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, as operators of cluster links know it.
    pub reason: Reason,
    /// What was seen.
    pub detail: String,
}

/// Kinds of dead ends; `Display` gives the value of the field `mirror_topic_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The source topic was absent for longer than `cluster.link.retry.timeout.ms`.
    SourceTopicMayBeDeleted,
    /// A topic of this name exists at the source, but it is another one.
    SourceTopicIdChanged,
    /// The source topic has fewer partitions than before.
    SourcePartitionsDecreased,
    /// A batch carried a lower leader epoch than the batch before it.
    NonMonotonicLogAppendEpoch,
    /// The source's leader epoch stayed below the epoch of batches that were mirrored.
    NonMonotonicSourceEpoch,
    /// The source no longer knows the lineage of what was mirrored.
    UnexpectedTruncation,
    /// Batches of message format v0 or v1.
    UnsupportedMessageFormat,
    /// The store cannot or may not hold this mirror.
    IllegalState,
}

/// Something that is tried again; the partition's status shows it until data flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The kind.
    pub kind: TroubleKind,
    /// What was seen, for people.
    pub detail: String,
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// The leader's broker cannot be reached.
    Unreachable,
    /// The broker asked is not the leader, or its epoch and ours differ; metadata is asked for.
    Leadership,
    /// The broker does not know the topic (any more, or yet).
    UnknownTopic,
    /// The source does not let us read the topic.
    Unauthorized,
    /// The source answered with some other error.
    Source,
    /// Bytes arrived damaged.
    Corrupt,
    /// Batches do not follow each other.
    OutOfOrder,
    /// A batch's epoch is below that of the batch before it.
    EpochFell,
    /// The source's leader epoch is below that of batches we hold.
    EpochBehind,
    /// The source cannot say where our last epoch ends.
    LineageUnknown,
    /// Our position lies outside the source's log although lineages agree.
    OutOfRange,
    /// The store could not write (disk full, I/O error).
    Store,
}

impl TroubleKind {
    /// The dead end that this trouble becomes when it outlasts `cluster.link.retry.timeout.ms`, if it does.
    pub fn ends_as(self) -> Option<Reason> {
        match self {
            Self::EpochFell => Some(Reason::NonMonotonicLogAppendEpoch),
            Self::EpochBehind => Some(Reason::NonMonotonicSourceEpoch),
            Self::LineageUnknown => Some(Reason::UnexpectedTruncation),
            Self::Unreachable
            | Self::Leadership
            | Self::UnknownTopic
            | Self::Unauthorized
            | Self::Source
            | Self::Corrupt
            | Self::OutOfOrder
            | Self::OutOfRange
            | Self::Store => None,
        }
    }

    /// A short name, also the value of metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Leadership => "leadership",
            Self::UnknownTopic => "unknown_topic",
            Self::Unauthorized => "unauthorized",
            Self::Source => "source",
            Self::Corrupt => "corrupt",
            Self::OutOfOrder => "out_of_order",
            Self::EpochFell => "epoch_fell",
            Self::EpochBehind => "epoch_behind",
            Self::LineageUnknown => "lineage_unknown",
            Self::OutOfRange => "out_of_range",
            Self::Store => "store",
        }
    }
}

impl Reason {
    /// The value of the field `mirror_topic_error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceTopicMayBeDeleted => "SOURCE_TOPIC_MAY_BE_DELETED",
            Self::SourceTopicIdChanged => "SOURCE_TOPIC_ID_CHANGED",
            Self::SourcePartitionsDecreased => "SOURCE_PARTITIONS_DECREASED",
            Self::NonMonotonicLogAppendEpoch => "NON_MONOTONIC_LOG_APPEND_EPOCH",
            Self::NonMonotonicSourceEpoch => "NON_MONOTONIC_SOURCE_EPOCH",
            Self::UnexpectedTruncation => "UNEXPECTED_TRUNCATION",
            Self::UnsupportedMessageFormat => "UNSUPPORTED_MESSAGE_FORMAT",
            Self::IllegalState => "ILLEGAL_STATE",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.detail)
    }
}
