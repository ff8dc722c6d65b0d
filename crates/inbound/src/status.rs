//! How a destination half stands, for people and metrics.

use hawser_link::reversal::{DestinationLink, MemberStatus, Refusal};
use std::time::Instant;

/// How a destination half stands. A link is reachable while it has members.
#[derive(Clone, Debug, Default)]
pub struct InboundStatus {
    /// The source half's daemons that are connected.
    pub members: Vec<MemberStatus>,
    /// The source cluster's id, once known.
    pub source_cluster_id: Option<String>,
    /// What the last member that left of itself gave as its reason (`SourceHalfDeleted`, `Stopping`), until one comes.
    pub parted: Option<Refusal>,
    /// When any member was heard last.
    pub last_heard: Option<Instant>,
    /// Channels that are open.
    pub channels_open: usize,
    /// Leases that wait for a channel.
    pub leases_waiting: usize,
}

impl InboundStatus {
    pub(crate) fn of(machine: &DestinationLink) -> Self {
        Self {
            members: machine.members(),
            source_cluster_id: machine.source_cluster_id().map(str::to_owned),
            parted: machine.parted().cloned(),
            last_heard: machine.last_heard(),
            channels_open: machine.channels_open(),
            leases_waiting: machine.leases_waiting(),
        }
    }
}
