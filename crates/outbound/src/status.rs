//! How a source half stands, for people and metrics.

use crate::local::LocalError;
use crate::splice::Counts;
use hawser_link::reversal::{RefusalCode, SourceControl, SourcePhase};
use hawser_transport::{Obstacle, Panicked};
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};
use uuid::Uuid;

/// How a source half stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundStatus {
    /// Its state.
    pub state: OutboundState,
    /// Why it is not open, or open with nothing to lend; `None` when all is well.
    pub reason: Option<String>,
    /// What kind of reason; `None` when all is well, or nothing failed yet.
    pub cause: Option<Cause>,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// The link's id, once the destination has told it.
    pub link_id: Option<Uuid>,
    /// The destination's cluster id, once it has told it.
    pub destination_cluster_id: Option<String>,
    /// The local cluster's id, once it has told it.
    pub source_cluster_id: Option<String>,
    /// When the destination was heard last on the open control connection. Changes without a notice.
    pub last_heard: Option<Instant>,
    /// Channels open now.
    pub channels_open: usize,
    /// Bytes of answers that left, since the start.
    pub bytes: u64,
    /// Requests of the destination that were not let through, since the start.
    pub refused_requests: u64,
}

/// Why a source half is not open, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The local cluster cannot be reached (what stood in the way of a dial) or is another one (`None`).
    Local(Option<Obstacle>),
    /// The destination was dialled in vain.
    Dial(Obstacle),
    /// One of the two halves will not have the other.
    Refused(RefusalCode),
    /// The half failed by a bug of ours; it starts over after a while.
    Panicked,
    /// The connection ended, or the answer to `LinkOpen` did not come.
    Lost,
}

/// Why the local cluster cannot be lent.
#[derive(Clone, Debug)]
pub(crate) struct LocalLost {
    pub(crate) why: String,
    /// Of the dial that failed, if one did.
    pub(crate) obstacle: Option<Obstacle>,
    /// Another cluster answers: none of the brokers that were announced is to be had.
    pub(crate) is_another: bool,
}

/// States of a source half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundState {
    /// The local cluster cannot be reached or is another one.
    WaitingForLocal,
    /// Between dials.
    Waiting,
    /// Dialling or opening.
    Connecting,
    /// The control channel is open.
    Open,
    /// Ended.
    Stopped,
}

impl Default for OutboundStatus {
    /// Of a half that has just begun.
    fn default() -> Self {
        Self {
            state: OutboundState::WaitingForLocal,
            reason: None,
            cause: None,
            since: SystemTime::now(),
            link_id: None,
            destination_cluster_id: None,
            source_cluster_id: None,
            last_heard: None,
            channels_open: 0,
            bytes: 0,
            refused_requests: 0,
        }
    }
}

impl From<&LocalError> for LocalLost {
    fn from(error: &LocalError) -> Self {
        let is_another = matches!(error, LocalError::OtherCluster { .. });
        Self { why: error.to_string(), obstacle: error.obstacle(), is_another }
    }
}

impl OutboundStatus {
    pub(crate) fn waiting_for_local(&mut self, lost: LocalLost) {
        self.enter(OutboundState::WaitingForLocal);
        (self.reason, self.cause) = (Some(lost.why), Some(Cause::Local(lost.obstacle)));
    }

    pub(crate) fn panicked(&mut self, panic: &Panicked) {
        self.enter(OutboundState::Waiting);
        (self.reason, self.cause) = (Some(format!("the source half {panic}")), Some(Cause::Panicked));
        self.channels_open = 0;
    }

    pub(crate) fn stopped(&mut self) {
        self.enter(OutboundState::Stopped);
    }

    /// Takes over what the machine says; returns whether anything changed.
    pub(crate) fn update(
        &mut self,
        machine: &SourceControl,
        obstacle: Option<Obstacle>,
        local_lost: Option<&LocalLost>,
        source_cluster_id: &str,
        counts: &Counts,
    ) -> bool {
        let before = self.clone();
        self.enter(match machine.phase() {
            SourcePhase::Stopped => OutboundState::Stopped,
            SourcePhase::Waiting => OutboundState::Waiting,
            SourcePhase::Connecting => OutboundState::Connecting,
            SourcePhase::Open => OutboundState::Open,
        });
        self.reason = machine.reason().map(str::to_owned);
        let failed = || obstacle.map_or(Cause::Lost, Cause::Dial);
        self.cause = machine.reason().map(|_| machine.refusal().map_or_else(failed, Cause::Refused));
        if let (Some(lost), SourcePhase::Open) = (local_lost, machine.phase()) {
            (self.reason, self.cause) = (Some(lost.why.clone()), Some(Cause::Local(lost.obstacle)));
        }
        self.link_id = machine.link_id();
        self.destination_cluster_id = machine.remote_cluster_id().map(str::to_owned);
        self.source_cluster_id = Some(source_cluster_id.to_owned());
        self.channels_open = machine.channels_open();
        self.count(counts);
        let is_news = before != *self;
        self.last_heard = machine.last_heard();
        is_news
    }

    pub(crate) fn count(&mut self, counts: &Counts) {
        self.bytes = counts.bytes.load(Ordering::Relaxed);
        self.refused_requests = counts.refused.load(Ordering::Relaxed);
    }

    fn enter(&mut self, state: OutboundState) {
        if self.state != state {
            self.state = state;
            self.since = SystemTime::now();
        }
    }
}
