//! How a destination half stands, for people and metrics.

use hawser_link::reversal::{DestinationLink, MemberStatus};
use std::time::Instant;

/// How a destination half stands. A link is reachable while it has members.
#[derive(Clone, Debug, Default)]
pub struct InboundStatus {
    /// The source half's daemons that are connected.
    pub members: Vec<MemberStatus>,
    /// The source cluster's id, once known.
    pub source_cluster_id: Option<String>,
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
            last_heard: machine.last_heard(),
            channels_open: machine.channels_open(),
            leases_waiting: machine.leases_waiting(),
        }
    }
}
