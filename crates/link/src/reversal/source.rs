//! The source half's end of one control connection, and of the channels asked for on it.
//!
//! ```text
//!             Start                    Dialled                  Accepted
//!  ┌─────────┐     ┌─────────┐  Dial  ┌─────────┐  SendOpen  ┌─────────┐          ┌──────┐
//!  │ Stopped │────►│ Waiting │───────►│ Dialling│───────────►│ Opening │─────────►│ Open │
//!  └─────────┘     └─────────┘  due   └─────────┘            └─────────┘          └──────┘
//!       ▲               ▲                  │ DialFailed,          │ Refused,          │ Closed, Goodbye,
//!       │ Stop          │                  │ time-out             │ Closed, time-out  │ dead (liveness)
//!   (from any)          └──────────────────┴──────────────────────┴───────────────────┘
//! ```
//! Each dial has a number (`attempt`); an event that names another than the current one is of the past and
//! changes nothing. A refusal lengthens the wait by its class. Channels outlive a control connection that was merely
//! cut; they are abandoned when the peer counts as dead, says another goodbye than `Superseded`, or the half stops.

use super::backoff::jittered;
use super::{
    Backoff, ControlFrame, Entropy, Incarnation, LinkOpen, Liveness, MemberId, Node, OpenAnswer, Purpose, Refusal,
    RefusalClass, RefusalCode, Ticket,
};
use crate::LinkName;
use hawser_wire::NodeId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Between dials after a refusal that somebody must mend.
const OPERATOR_RETRY: Duration = Duration::from_secs(2);
/// Between dials after another life of this member has taken over.
const FENCED_RETRY: Duration = Duration::from_secs(60);

/// What a source half is.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// The link.
    pub link: LinkName,
    /// The cluster that we lend.
    pub source_cluster_id: String,
    /// The cluster that we mean to reach, when we were told.
    pub destination_cluster_id: Option<String>,
    /// This daemon.
    pub member: MemberId,
    /// Its number of starts.
    pub epoch: i64,
    /// Numbers of dials that earlier halves of this link may have used since that start: the first dial is one above,
    /// so that a half that was stopped and made again is not taken for a stale one.
    pub attempts_before: i64,
    /// `reconnect.backoff.ms`, `reconnect.backoff.max.ms`.
    pub backoff: Backoff,
    /// Bound on a dial with its login, and again on the answer to `LinkOpen`
    /// (`socket.connection.setup.timeout.max.ms`).
    pub setup_timeout: Duration,
    /// Most channels, open and being opened.
    pub channels_max: usize,
    /// Whether this only finds out if the link would open ([`Purpose::Trial`]).
    pub trial: bool,
}

/// What happened to a source half.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// Begin.
    Start,
    /// The dial succeeded: TCP, TLS and login.
    Dialled {
        /// Its number.
        attempt: i64,
    },
    /// The dial failed.
    DialFailed {
        /// Its number.
        attempt: i64,
        /// Why, for an operator.
        reason: String,
        /// Whether the login was refused, so that dialling fast is pointless.
        needs_operator: bool,
    },
    /// `LinkOpen` was answered.
    Answered {
        /// Number of the dial.
        attempt: i64,
        /// The answer.
        answer: OpenAnswer,
    },
    /// A control frame came.
    Received {
        /// Number of the dial.
        attempt: i64,
        /// The frame.
        frame: ControlFrame,
    },
    /// The control connection ended.
    Closed {
        /// Number of the dial.
        attempt: i64,
        /// Why, for an operator.
        reason: String,
    },
    /// The brokers that we reach, all of them.
    Nodes(Vec<Node>),
    /// A channel that we were asked for is open.
    ChannelOpened {
        /// Of the channel.
        ticket: Ticket,
    },
    /// A channel that we were asked for did not open.
    ChannelFailed {
        /// Of the channel.
        ticket: Ticket,
        /// Why.
        failure: ChannelFailure,
    },
    /// An open channel ended.
    ChannelClosed {
        /// Of the channel.
        ticket: Ticket,
    },
    /// Time has passed.
    Tick,
    /// End, with the reason that the destination is told.
    Stop(RefusalCode),
}

/// Why a channel did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelFailure {
    /// Ours to tell: the local broker or the dial back failed.
    Ours(Refusal),
    /// The destination refused it, and so knows.
    Refused,
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAction {
    /// Dial the destination; report `Dialled` or `DialFailed`.
    Dial {
        /// Number of the dial.
        attempt: i64,
    },
    /// Send this on the dialled connection; report `Answered` or `Closed`.
    SendOpen {
        /// Number of the dial.
        attempt: i64,
        /// The request.
        open: LinkOpen,
    },
    /// Send this on the open control connection.
    Send {
        /// Number of the dial.
        attempt: i64,
        /// The frame.
        frame: ControlFrame,
    },
    /// Give up the dial or close the connection, after what was sent on it. Nothing need be reported.
    Disconnect {
        /// Number of the dial.
        attempt: i64,
    },
    /// Open a channel: local broker first, then the destination with this request. Report
    /// `ChannelOpened` or `ChannelFailed`, and `ChannelClosed` in the end.
    OpenChannel {
        /// The broker; `None`: any.
        node: Option<NodeId>,
        /// To name the channel in reports.
        ticket: Ticket,
        /// The request.
        open: LinkOpen,
    },
    /// Close every channel. Their ends need not be reported.
    AbandonChannels,
}

/// How a source half stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePhase {
    /// Not started, or ended.
    Stopped,
    /// Between dials.
    Waiting,
    /// Dialling or opening.
    Connecting,
    /// The control channel is open.
    Open,
}

#[derive(Clone, Debug)]
enum State {
    Stopped,
    Waiting { until: Instant },
    Dialling { attempt: i64, until: Instant },
    Opening { attempt: i64, until: Instant },
    Open { attempt: i64, since: Instant, liveness: Liveness },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    /// Asked for by the control connection of this attempt.
    Opening {
        attempt: i64,
    },
    Open,
}

/// The machine. One for each source half of this daemon.
#[derive(Debug)]
pub struct SourceControl {
    settings: SourceSettings,
    state: State,
    attempts: i64,
    nodes: Vec<Node>,
    /// What the destination was last told of `nodes`.
    announced: Vec<Node>,
    channels: BTreeMap<Ticket, Channel>,
    link_id: Option<Uuid>,
    remote_cluster_id: Option<String>,
    reason: Option<String>,
    /// What `reason` says if it is a refusal.
    refusal: Option<RefusalCode>,
    since: Option<Instant>,
}

impl SourceControl {
    /// A half that waits for `Start`.
    pub fn new(settings: SourceSettings) -> Self {
        Self {
            state: State::Stopped,
            attempts: settings.attempts_before,
            settings,
            nodes: Vec::new(),
            announced: Vec::new(),
            channels: BTreeMap::new(),
            link_id: None,
            remote_cluster_id: None,
            reason: None,
            refusal: None,
            since: None,
        }
    }

    /// Takes one event and says what to do, in this order.
    pub fn on(&mut self, event: SourceEvent, now: Instant, entropy: &mut dyn Entropy) -> Vec<SourceAction> {
        let mut todo = Vec::new();
        let before = self.phase();
        match event {
            SourceEvent::Start => self.start(now),
            SourceEvent::Dialled { attempt } => self.dialled(attempt, now, &mut todo),
            SourceEvent::DialFailed { attempt, reason, needs_operator } => {
                let class = if needs_operator { RefusalClass::Operator } else { RefusalClass::Retry };
                self.dial_failed(attempt, reason, class, now, entropy);
            }
            SourceEvent::Answered { attempt, answer } => self.answered(attempt, answer, now, entropy, &mut todo),
            SourceEvent::Received { attempt, frame } => self.received(attempt, frame, now, entropy, &mut todo),
            SourceEvent::Closed { attempt, reason } => self.closed(attempt, reason, now, entropy),
            SourceEvent::Nodes(nodes) => {
                self.nodes = nodes;
                self.announce(&mut todo);
            }
            SourceEvent::ChannelOpened { ticket } => {
                if let Some(channel) = self.channels.get_mut(&ticket) {
                    *channel = Channel::Open;
                }
            }
            SourceEvent::ChannelFailed { ticket, failure } => self.channel_failed(ticket, failure, &mut todo),
            SourceEvent::ChannelClosed { ticket } => {
                self.channels.remove(&ticket);
            }
            SourceEvent::Tick => {}
            SourceEvent::Stop(code) => self.stop(code, &mut todo),
        }
        self.on_time(now, entropy, &mut todo);
        if before != self.phase() {
            self.since = Some(now);
        }
        todo
    }

    /// When `Tick` is wanted at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Stopped => None,
            State::Waiting { until } | State::Dialling { until, .. } | State::Opening { until, .. } => Some(*until),
            State::Open { liveness, .. } => Some(liveness.deadline()),
        }
    }

    /// How it stands.
    pub fn phase(&self) -> SourcePhase {
        match &self.state {
            State::Stopped => SourcePhase::Stopped,
            State::Waiting { .. } => SourcePhase::Waiting,
            State::Dialling { .. } | State::Opening { .. } => SourcePhase::Connecting,
            State::Open { .. } => SourcePhase::Open,
        }
    }

    /// Since when it stands so.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Why it is not open; `None` when it is, or nothing failed yet.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Which refusal [`reason`](Self::reason) is; `None` when it is something else.
    pub fn refusal(&self) -> Option<RefusalCode> {
        self.refusal
    }

    /// The link's id, once the destination has told it.
    pub fn link_id(&self) -> Option<Uuid> {
        self.link_id
    }

    /// The destination's cluster id, once it has told it.
    pub fn remote_cluster_id(&self) -> Option<&str> {
        self.remote_cluster_id.as_deref()
    }

    /// When the destination was heard last on the open control connection.
    pub fn last_heard(&self) -> Option<Instant> {
        match &self.state {
            State::Open { liveness, .. } => Some(liveness.last_heard()),
            State::Stopped | State::Waiting { .. } | State::Dialling { .. } | State::Opening { .. } => None,
        }
    }

    /// Channels that are open.
    pub fn channels_open(&self) -> usize {
        self.channels.values().filter(|c| **c == Channel::Open).count()
    }

    /// Channels that are being opened.
    pub fn channels_opening(&self) -> usize {
        self.channels.len() - self.channels_open()
    }

    fn start(&mut self, now: Instant) {
        match self.state {
            State::Stopped => self.state = State::Waiting { until: now },
            State::Waiting { .. } | State::Dialling { .. } | State::Opening { .. } | State::Open { .. } => {}
        }
    }

    fn dialled(&mut self, attempt: i64, now: Instant, todo: &mut Vec<SourceAction>) {
        match self.state {
            State::Dialling { attempt: current, .. } if current == attempt => {
                self.state = State::Opening { attempt, until: now + self.settings.setup_timeout };
                self.announced.clone_from(&self.nodes);
                let nodes = self.nodes.clone();
                let purpose = if self.settings.trial { Purpose::Trial { nodes } } else { Purpose::Control { nodes } };
                let open = self.open(attempt, purpose);
                todo.push(SourceAction::SendOpen { attempt, open });
            }
            State::Opening { attempt: current, .. } | State::Open { attempt: current, .. } if current == attempt => {}
            State::Stopped
            | State::Waiting { .. }
            | State::Dialling { .. }
            | State::Opening { .. }
            | State::Open { .. } => todo.push(SourceAction::Disconnect { attempt }),
        }
    }

    fn dial_failed(
        &mut self,
        attempt: i64,
        reason: String,
        class: RefusalClass,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match self.state {
            State::Dialling { attempt: current, .. } if current == attempt => {
                self.wait(class, reason, now, entropy);
            }
            State::Stopped
            | State::Waiting { .. }
            | State::Dialling { .. }
            | State::Opening { .. }
            | State::Open { .. } => {}
        }
    }

    fn answered(
        &mut self,
        attempt: i64,
        answer: OpenAnswer,
        now: Instant,
        entropy: &mut dyn Entropy,
        todo: &mut Vec<SourceAction>,
    ) {
        match (&self.state, answer) {
            (State::Opening { attempt: current, .. }, OpenAnswer::Accepted(accepted)) if *current == attempt => {
                let expected = self.settings.destination_cluster_id.as_ref();
                if expected.is_some_and(|id| *id != accepted.destination_cluster_id) {
                    let refusal = Refusal::with(
                        RefusalCode::WrongDestinationCluster,
                        format_args!("it calls itself {}", accepted.destination_cluster_id),
                    );
                    todo.push(SourceAction::Disconnect { attempt });
                    return self.refused(&refusal, now, entropy);
                }
                let liveness = Liveness::new(accepted.beat_interval, accepted.beats_missed_max, now);
                self.link_id = Some(accepted.link_id);
                self.remote_cluster_id = Some(accepted.destination_cluster_id);
                (self.reason, self.refusal) = (None, None);
                self.state = State::Open { attempt, since: now, liveness };
                self.announce(todo);
            }
            (State::Opening { attempt: current, .. }, OpenAnswer::Refused(refusal)) if *current == attempt => {
                todo.push(SourceAction::Disconnect { attempt });
                self.refused(&refusal, now, entropy);
            }
            (
                State::Stopped
                | State::Waiting { .. }
                | State::Dialling { .. }
                | State::Opening { .. }
                | State::Open { .. },
                _,
            ) => {}
        }
    }

    fn received(
        &mut self,
        attempt: i64,
        frame: ControlFrame,
        now: Instant,
        entropy: &mut dyn Entropy,
        todo: &mut Vec<SourceAction>,
    ) {
        let State::Open { attempt: current, liveness, .. } = &mut self.state else { return };
        if *current != attempt {
            return;
        }
        liveness.hear(now);
        match frame {
            ControlFrame::LinkDial { node, tickets, .. } => {
                for ticket in tickets {
                    self.open_channel(attempt, node, ticket, todo);
                }
            }
            ControlFrame::Beat { sequence } => {
                todo.push(SourceAction::Send { attempt, frame: ControlFrame::BeatAck { sequence } });
            }
            ControlFrame::BeatAck { sequence } => liveness.acknowledge(sequence, now),
            ControlFrame::Goodbye(refusal) => {
                todo.push(SourceAction::Disconnect { attempt });
                // Channels of one that was superseded in the same life belong to the next as well; in another life the
                // destination closes them.
                if refusal.code != RefusalCode::Superseded {
                    todo.push(SourceAction::AbandonChannels);
                    self.channels.clear();
                }
                self.refused(&refusal, now, entropy);
            }
            ControlFrame::DialFailed { .. } | ControlFrame::Nodes(_) => {
                let refusal = Refusal::new(RefusalCode::ProtocolViolation);
                todo.push(SourceAction::Send { attempt, frame: ControlFrame::Goodbye(refusal.clone()) });
                todo.push(SourceAction::Disconnect { attempt });
                self.refused(&refusal, now, entropy);
            }
        }
    }

    fn open_channel(&mut self, attempt: i64, node: Option<NodeId>, ticket: Ticket, todo: &mut Vec<SourceAction>) {
        if self.channels.contains_key(&ticket) {
            return;
        }
        if self.channels.len() >= self.settings.channels_max {
            let refusal = Refusal::with(
                RefusalCode::TooMany,
                format_args!("the source half takes {} channels", self.settings.channels_max),
            );
            todo.push(SourceAction::Send { attempt, frame: ControlFrame::DialFailed { ticket, refusal } });
            return;
        }
        self.channels.insert(ticket, Channel::Opening { attempt });
        let open = self.open(attempt, Purpose::Channel { node, ticket });
        todo.push(SourceAction::OpenChannel { node, ticket, open });
    }

    fn channel_failed(&mut self, ticket: Ticket, failure: ChannelFailure, todo: &mut Vec<SourceAction>) {
        let Some(Channel::Opening { attempt: asked }) = self.channels.remove(&ticket) else { return };
        match (&self.state, failure) {
            (State::Open { attempt, .. }, ChannelFailure::Ours(refusal)) if *attempt == asked => {
                let frame = ControlFrame::DialFailed { ticket, refusal };
                todo.push(SourceAction::Send { attempt: asked, frame });
            }
            // The destination has revoked the ticket with the connection that asked for it, or refused it itself.
            (
                State::Stopped
                | State::Waiting { .. }
                | State::Dialling { .. }
                | State::Opening { .. }
                | State::Open { .. },
                ChannelFailure::Ours(_) | ChannelFailure::Refused,
            ) => {}
        }
    }

    fn closed(&mut self, attempt: i64, reason: String, now: Instant, entropy: &mut dyn Entropy) {
        match self.state {
            State::Opening { attempt: current, .. } | State::Open { attempt: current, .. } if current == attempt => {
                self.wait(RefusalClass::Retry, reason, now, entropy);
            }
            State::Stopped
            | State::Waiting { .. }
            | State::Dialling { .. }
            | State::Opening { .. }
            | State::Open { .. } => {}
        }
    }

    /// Tells an open destination what it does not know yet.
    fn announce(&mut self, todo: &mut Vec<SourceAction>) {
        let State::Open { attempt, .. } = self.state else { return };
        if self.announced != self.nodes {
            self.announced.clone_from(&self.nodes);
            todo.push(SourceAction::Send { attempt, frame: ControlFrame::Nodes(self.nodes.clone()) });
        }
    }

    fn stop(&mut self, code: RefusalCode, todo: &mut Vec<SourceAction>) {
        match self.state {
            State::Stopped | State::Waiting { .. } => {}
            State::Dialling { attempt, .. } | State::Opening { attempt, .. } => {
                todo.push(SourceAction::Disconnect { attempt });
            }
            State::Open { attempt, .. } => {
                let frame = ControlFrame::Goodbye(Refusal::new(code));
                todo.push(SourceAction::Send { attempt, frame });
                todo.push(SourceAction::Disconnect { attempt });
            }
        }
        todo.push(SourceAction::AbandonChannels);
        self.channels.clear();
        (self.reason, self.refusal) = (Some(Refusal::new(code).to_string()), Some(code));
        self.state = State::Stopped;
    }

    /// Whatever is due at `now`.
    fn on_time(&mut self, now: Instant, entropy: &mut dyn Entropy, todo: &mut Vec<SourceAction>) {
        match &mut self.state {
            State::Stopped => {}
            State::Waiting { until } if *until <= now => {
                self.attempts = self.attempts.saturating_add(1);
                let attempt = self.attempts;
                self.state = State::Dialling { attempt, until: now + self.settings.setup_timeout };
                todo.push(SourceAction::Dial { attempt });
            }
            State::Dialling { attempt, until } | State::Opening { attempt, until } if *until <= now => {
                todo.push(SourceAction::Disconnect { attempt: *attempt });
                let reason = format!("the destination did not answer within {:?}", self.settings.setup_timeout);
                self.wait(RefusalClass::Retry, reason, now, entropy);
            }
            State::Waiting { .. } | State::Dialling { .. } | State::Opening { .. } => {}
            State::Open { attempt, liveness, .. } => {
                let attempt = *attempt;
                if liveness.is_dead(now) {
                    let refusal = Refusal::with(RefusalCode::Silent, format_args!("{:?}", liveness.silence_max()));
                    todo.push(SourceAction::Disconnect { attempt });
                    todo.push(SourceAction::AbandonChannels);
                    self.channels.clear();
                    self.refused(&refusal, now, entropy);
                } else if let Some(frame) = liveness.beat(now) {
                    todo.push(SourceAction::Send { attempt, frame });
                }
            }
        }
    }

    fn refused(&mut self, refusal: &Refusal, now: Instant, entropy: &mut dyn Entropy) {
        self.wait(refusal.code.class(), refusal.to_string(), now, entropy);
        self.refusal = Some(refusal.code);
    }

    fn wait(&mut self, class: RefusalClass, reason: String, now: Instant, entropy: &mut dyn Entropy) {
        // A connection that stood longer than the longest backoff was a good one; a shorter one is flapping.
        if let State::Open { since, .. } = &self.state
            && now.saturating_duration_since(*since) >= self.settings.backoff.max()
        {
            self.settings.backoff.reset();
        }
        let usual = self.settings.backoff.next(entropy);
        let wait = match class {
            RefusalClass::Retry => usual,
            RefusalClass::Operator => usual.max(jittered(OPERATOR_RETRY, entropy)),
            RefusalClass::Fenced => usual.max(jittered(FENCED_RETRY, entropy)),
        };
        (self.reason, self.refusal) = (Some(reason), None);
        self.state = State::Waiting { until: now + wait };
    }

    fn open(&self, attempt: i64, purpose: Purpose) -> LinkOpen {
        LinkOpen {
            link: self.settings.link.clone(),
            source_cluster_id: self.settings.source_cluster_id.clone(),
            destination_cluster_id: self.settings.destination_cluster_id.clone(),
            member: self.settings.member,
            incarnation: Incarnation { epoch: self.settings.epoch, attempt },
            purpose,
        }
    }
}
