#![forbid(unsafe_code)]
//! The fetch engine of a link's destination half: it keeps mirror partitions byte-equal to their source.
//!
//! Decisions are machines without I/O ([`partition`], [`session`], [`broker`], [`topics`]); the shell ([`engine`])
//! owns clients, stores and clocks. Architecture invariant: nothing here learns who dialled a connection, and nothing
//! here decodes a record.

pub mod batches;
pub mod broker;
pub mod config;
pub mod engine;
mod fetcher;
mod outbox;
pub mod partition;
pub mod reason;
pub mod session;
pub mod size;
pub mod status;
pub mod throttle;
pub mod topics;
pub mod write;

pub use config::{MirrorSpec, ReplicateConfig};
pub use engine::{MirrorEvent, Replicator, Stopped};
pub use partition::{Phase, Start};
pub use reason::{Failure, Reason, Trouble, TroubleKind};
pub use status::{LinkStatus, PartitionStatus, TopicState, TopicStatus, Unreachable};
