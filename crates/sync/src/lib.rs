#![forbid(unsafe_code)]
//! Keeps what surrounds the data of a link like its source: committed offsets of consumer groups, topic configs, ACLs,
//! and which topics are mirrored at all.
//!
//! Each [`Task`] of a link has a loop of its own ([`Syncs`]): ask the source (`source`), decide what differs (`offsets`,
//! `configs`, `acls`, `topics`: pure), have the [`Destination`] write just that. A pass that finds no difference writes
//! nothing. A task that fails says why in its [`TaskStatus`] and tries again at its next turn; it stops no other.

mod acls;
mod configs;
mod destination;
mod offsets;
mod pass;
mod source;
mod status;
mod syncs;
mod topics;

pub use acls::Acl;
pub use configs::{SetBy, SourceConfig};
pub use destination::{AclsHere, BoxFuture, CommittedOffset, Destination, GroupOffsets, Mirror, SourceEnds, TopicHere};
pub use source::{SourceError, TopicConfigs, topic_configs};
pub use status::{Task, TaskError, TaskErrorCode, TaskState, TaskStatus};
pub use syncs::{SyncConfig, Syncs};
