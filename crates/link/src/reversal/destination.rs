//! The destination half's end: the members of one link's source half, and the channels wanted from them.
//!
//! ```text
//!  a member:  (absent) ── LinkOpen control ──► present ── Closed, Goodbye, dead, superseded ──► departed ──► (forgotten)
//!
//!  a lease:   waiting ── a member is chosen: ticket drawn, LinkDial ──► asked ── LinkOpen channel, ticket ──► delivered
//!                ▲                                                       │
//!                └── DialFailed, member gone, or silent: the next one ───┘      every member refused, or too late: failed
//!
//!  a ticket:  issued ── redeemed once ──► spent (replayed)
//!                    └─ its lease ended, or revoked ──► spent (expired)
//! ```
//! Silence costs a member its turn and never its ticket: another one is asked beside it, and the first channel that comes
//! is the lease's. A lease has one ticket at most with each member, so a slow link is not asked to dial again and again.
//!
//! Of two connections with one member id the greater incarnation lives: a smaller one is refused as stale, a greater
//! one supersedes. A ticket is bound to the lease, the member, its epoch and the broker, and works once.
//!
//! A trial is judged and answered as a member is, and is none: nothing is asked of it, and nobody sees it.

use super::{
    Accepted, ControlFrame, Entropy, Incarnation, LinkOpen, Liveness, MemberId, Node, OpenAnswer, Purpose, Refusal,
    RefusalCode, Ticket,
};
use hawser_wire::NodeId;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A source half in more daemons than brokers of a big cluster is a mistake.
const MEMBERS_MAX: usize = 256;
/// Members that are remembered after they left, so that an older life of them is known as stale.
const DEPARTED_MAX: usize = 256;
/// How long they are remembered. Long enough for any connection that was on its way, short enough that a member
/// restored from a backup (with a smaller epoch) comes back by itself.
const DEPARTED_KEPT: Duration = Duration::from_secs(600);
/// Trials at once: each is a command that an operator gave.
const TRIALS_MAX: usize = 16;
/// How long a trial may stay. The source half ends it once it knows, and gives up after 30 seconds.
const TRIAL_TIME: Duration = Duration::from_secs(60);
/// Leases waiting at once: each fetcher and sync of a link wants a handful.
const LEASES_MAX: usize = 1024;
/// Members asked at once for one channel: each of them dials. With `LEASES_MAX` it bounds the tickets.
const LEASE_TICKETS_MAX: usize = 4;
/// Spent tickets that are still known by name.
const SPENT_MAX: usize = 4096;
/// How long a member that failed to reach a broker is asked last for it.
const COOLING: Duration = Duration::from_secs(5);

/// Names a connection of the shell: control connections and channels have one numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Names a wish of the shell for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// What a destination half is.
#[derive(Clone, Debug)]
pub struct DestinationSettings {
    /// Given to the link when it was made.
    pub link_id: Uuid,
    /// The cluster that we are.
    pub destination_cluster_id: String,
    /// The source cluster, if it is known already; else the first member's is pinned.
    pub source_cluster_id: Option<String>,
    /// Told to the members.
    pub beat_interval: Duration,
    /// Told to the members.
    pub beats_missed_max: u8,
    /// How long a member that was asked for a channel is waited for before another one is asked beside it.
    pub ask_next_after: Duration,
}

/// What happened to a destination half.
#[derive(Clone, Debug)]
pub enum DestinationEvent {
    /// A `LinkOpen` for this link, from a principal that may alter the cluster.
    Opened {
        /// The connection that it came on.
        conn: ConnId,
        /// The request.
        open: LinkOpen,
    },
    /// A frame on an open control connection.
    Received {
        /// The connection.
        conn: ConnId,
        /// The frame.
        frame: ControlFrame,
    },
    /// A connection (control or channel) ended.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// A channel is wanted.
    Lease {
        /// To name it.
        lease: LeaseId,
        /// To this broker; `None`: any.
        node: Option<NodeId>,
        /// It is no use later.
        until: Instant,
    },
    /// Nobody waits for that channel any more.
    Dropped {
        /// Its name.
        lease: LeaseId,
    },
    /// The half ends or pauses: every member is told why, every connection closed, every lease failed.
    Shut(RefusalCode),
    /// Time has passed.
    Tick,
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationAction {
    /// Answer the `LinkOpen`; after a refusal close the connection and forget it (report nothing).
    Answer {
        /// The connection.
        conn: ConnId,
        /// The answer.
        answer: OpenAnswer,
    },
    /// Send on a control connection.
    Send {
        /// The connection.
        conn: ConnId,
        /// The frame.
        frame: ControlFrame,
    },
    /// Close a connection, after what was sent on it. Its end need not be reported.
    Close {
        /// The connection.
        conn: ConnId,
        /// For the log.
        reason: RefusalCode,
    },
    /// This connection (its `LinkOpen` has been answered) is the channel that was wanted. Report `Closed` in the end.
    Deliver {
        /// The wish.
        lease: LeaseId,
        /// The connection.
        conn: ConnId,
    },
    /// There will be no channel.
    Fail {
        /// The wish.
        lease: LeaseId,
        /// Why.
        failure: LeaseFailure,
    },
    /// The first member has told the source cluster's id: keep it.
    PinSource(String),
}

/// Why there is no channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseFailure {
    /// No member is connected, or none answered in time.
    Unavailable(String),
    /// Members are there, and none reaches this broker.
    Node(String),
    /// The source broker refused the `local.*` login.
    Authentication(String),
}

/// A member as it stands.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Which daemon.
    pub member: MemberId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The brokers that it reaches.
    pub nodes: Vec<Node>,
    /// Open since.
    pub since: Instant,
    /// Heard last.
    pub last_heard: Instant,
    /// Round trip of the last beat.
    pub round_trip: Option<Duration>,
    /// Open channels.
    pub channels: usize,
}

#[derive(Debug)]
struct Member {
    incarnation: Incarnation,
    conn: ConnId,
    /// Brokers, with whether the member is near.
    nodes: BTreeMap<NodeId, bool>,
    /// Brokers that it failed to reach, until when that counts.
    cooling: BTreeMap<Option<NodeId>, Instant>,
    liveness: Liveness,
    since: Instant,
}

#[derive(Debug)]
struct Lease {
    node: Option<NodeId>,
    /// Its tickets are worth nothing from then on.
    until: Instant,
    /// Present members that may still bring it, each with its ticket.
    asked: BTreeMap<MemberId, Ticket>,
    /// Until when nobody else is asked; `None`: the next member may be.
    wait_until: Option<Instant>,
    /// Present members that said that they cannot. While nobody is asked, at least one member is not in here.
    refused: BTreeSet<MemberId>,
    /// The last thing that a member said about it.
    failure: Option<Refusal>,
}

#[derive(Debug)]
struct Issued {
    lease: LeaseId,
    member: MemberId,
    epoch: i64,
    node: Option<NodeId>,
}

#[derive(Debug)]
struct Channel {
    member: MemberId,
    epoch: i64,
}

/// The machine. One for each destination half that waits for a source half.
#[derive(Debug)]
pub struct DestinationLink {
    settings: DestinationSettings,
    members: BTreeMap<MemberId, Member>,
    departed: BTreeMap<MemberId, (Incarnation, Instant)>,
    /// Connections of trials, and until when they may stay.
    trials: BTreeMap<ConnId, Instant>,
    leases: BTreeMap<LeaseId, Lease>,
    /// Each belongs to a lease that waits, which has it in `asked`.
    tickets: BTreeMap<Ticket, Issued>,
    spent: HashMap<Ticket, RefusalCode>,
    spent_order: VecDeque<Ticket>,
    channels: BTreeMap<ConnId, Channel>,
    requests: i64,
    last_heard: Option<Instant>,
    parted: Option<Refusal>,
}

impl DestinationLink {
    /// A half without members.
    pub fn new(settings: DestinationSettings) -> Self {
        Self {
            settings,
            members: BTreeMap::new(),
            departed: BTreeMap::new(),
            trials: BTreeMap::new(),
            leases: BTreeMap::new(),
            tickets: BTreeMap::new(),
            spent: HashMap::new(),
            spent_order: VecDeque::new(),
            channels: BTreeMap::new(),
            requests: 0,
            last_heard: None,
            parted: None,
        }
    }

    /// Takes one event and says what to do, in this order.
    pub fn on(&mut self, event: DestinationEvent, now: Instant, entropy: &mut dyn Entropy) -> Vec<DestinationAction> {
        let mut todo = Vec::new();
        match event {
            DestinationEvent::Opened { conn, open } => {
                let answered = match open.purpose.clone() {
                    Purpose::Control { nodes } => self.open_control(conn, &open, &nodes, now, &mut todo),
                    Purpose::Trial { .. } => self.open_trial(conn, &open, now, &mut todo),
                    Purpose::Channel { node, ticket } => self.open_channel(conn, &open, node, ticket, now, &mut todo),
                };
                if let Err(refusal) = answered {
                    todo.push(DestinationAction::Answer { conn, answer: OpenAnswer::Refused(refusal) });
                }
            }
            DestinationEvent::Received { conn, frame } => self.received(conn, frame, now, &mut todo),
            DestinationEvent::Closed { conn } => self.closed(conn, now),
            DestinationEvent::Lease { lease, node, until } => self.lease(lease, node, until, &mut todo),
            DestinationEvent::Dropped { lease } => drop(self.end_lease(lease)),
            DestinationEvent::Shut(code) => self.shut(code, now, &mut todo),
            DestinationEvent::Tick => {}
        }
        self.on_time(now, &mut todo);
        self.fail_refused(&mut todo);
        self.ask(now, entropy, &mut todo);
        todo
    }

    /// When `Tick` is wanted at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let members = self.members.values().map(|m| m.liveness.deadline());
        let leases = self.leases.values().map(|l| l.wait_until.map_or(l.until, |wait| wait.min(l.until)));
        members.chain(leases).chain(self.trials.values().copied()).min()
    }

    /// The members that are connected.
    pub fn members(&self) -> Vec<MemberStatus> {
        let status = |(id, member): (&MemberId, &Member)| MemberStatus {
            member: *id,
            incarnation: member.incarnation,
            nodes: member.nodes.iter().map(|(id, near)| Node { id: *id, near: *near }).collect(),
            since: member.since,
            last_heard: member.liveness.last_heard(),
            round_trip: member.liveness.round_trip(),
            channels: self.channels.values().filter(|c| c.member == *id).count(),
        };
        self.members.iter().map(status).collect()
    }

    /// The source cluster's id, once known.
    pub fn source_cluster_id(&self) -> Option<&str> {
        self.settings.source_cluster_id.as_deref()
    }

    /// When any member was heard last.
    pub fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// What the last member that left of itself gave as its reason, until one comes.
    pub fn parted(&self) -> Option<&Refusal> {
        self.parted.as_ref()
    }

    /// Channels that are open.
    pub fn channels_open(&self) -> usize {
        self.channels.len()
    }

    /// Wishes that wait.
    pub fn leases_waiting(&self) -> usize {
        self.leases.len()
    }

    /// Tickets that would be honoured.
    pub fn tickets_issued(&self) -> usize {
        self.tickets.len()
    }

    fn open_control(
        &mut self,
        conn: ConnId,
        open: &LinkOpen,
        nodes: &[Node],
        now: Instant,
        todo: &mut Vec<DestinationAction>,
    ) -> Result<(), Refusal> {
        self.check_member(open)?;
        if let Some(older) = self.depart(open.member, now) {
            let refusal = Refusal::with(RefusalCode::Superseded, format_args!("by {}", open.incarnation));
            todo.push(DestinationAction::Send { conn: older.conn, frame: ControlFrame::Goodbye(refusal) });
            todo.push(DestinationAction::Close { conn: older.conn, reason: RefusalCode::Superseded });
        }
        self.close_channels(open.member, Some(open.incarnation.epoch), RefusalCode::Superseded, todo);
        self.departed.remove(&open.member);
        if self.settings.source_cluster_id.is_none() {
            self.settings.source_cluster_id = Some(open.source_cluster_id.clone());
            todo.push(DestinationAction::PinSource(open.source_cluster_id.clone()));
        }
        let liveness = Liveness::new(self.settings.beat_interval, self.settings.beats_missed_max, now);
        let member = Member {
            incarnation: open.incarnation,
            conn,
            nodes: nodes.iter().map(|n| (n.id, n.near)).collect(),
            cooling: BTreeMap::new(),
            liveness,
            since: now,
        };
        self.members.insert(open.member, member);
        self.parted = None;
        self.last_heard = Some(now);
        todo.push(DestinationAction::Answer { conn, answer: self.accepted() });
        Ok(())
    }

    fn open_trial(
        &mut self,
        conn: ConnId,
        open: &LinkOpen,
        now: Instant,
        todo: &mut Vec<DestinationAction>,
    ) -> Result<(), Refusal> {
        self.check_member(open)?;
        if self.trials.len() >= TRIALS_MAX {
            return Err(Refusal::with(RefusalCode::TooMany, format_args!("{TRIALS_MAX} trials")));
        }
        self.trials.insert(conn, now + TRIAL_TIME);
        todo.push(DestinationAction::Answer { conn, answer: self.accepted() });
        Ok(())
    }

    fn open_channel(
        &mut self,
        conn: ConnId,
        open: &LinkOpen,
        node: Option<NodeId>,
        ticket: Ticket,
        now: Instant,
        todo: &mut Vec<DestinationAction>,
    ) -> Result<(), Refusal> {
        self.check_clusters(open)?;
        let Some(issued) = self.tickets.get(&ticket) else {
            let code = self.spent.get(&ticket).copied().unwrap_or(RefusalCode::UnknownTicket);
            return Err(Refusal::new(code));
        };
        let lease = issued.lease;
        if self.leases.get(&lease).is_none_or(|lease| lease.until <= now) {
            self.revoke(ticket, RefusalCode::ExpiredTicket);
            return Err(Refusal::new(RefusalCode::ExpiredTicket));
        }
        if (issued.member, issued.epoch, issued.node) != (open.member, open.incarnation.epoch, node) {
            // Whoever holds it should not: it is of no use to anybody from now on.
            self.revoke(ticket, RefusalCode::ExpiredTicket);
            return Err(Refusal::new(RefusalCode::TicketMismatch));
        }
        self.revoke(ticket, RefusalCode::ReplayedTicket);
        self.end_lease(lease);
        self.channels.insert(conn, Channel { member: open.member, epoch: open.incarnation.epoch });
        todo.push(DestinationAction::Answer { conn, answer: self.accepted() });
        todo.push(DestinationAction::Deliver { lease, conn });
        Ok(())
    }

    /// Whether it could be a member.
    fn check_member(&self, open: &LinkOpen) -> Result<(), Refusal> {
        self.check_clusters(open)?;
        let known = self.members.get(&open.member).map(|m| m.incarnation);
        let known = known.or_else(|| self.departed.get(&open.member).map(|(incarnation, _)| *incarnation));
        if let Some(known) = known.filter(|known| *known >= open.incarnation) {
            let detail = format_args!("member {}: {} is not above {known}", open.member, open.incarnation);
            return Err(Refusal::with(RefusalCode::StaleMember, detail));
        }
        if !self.members.contains_key(&open.member) && self.members.len() >= MEMBERS_MAX {
            return Err(Refusal::with(RefusalCode::TooMany, format_args!("{MEMBERS_MAX} members")));
        }
        Ok(())
    }

    fn check_clusters(&self, open: &LinkOpen) -> Result<(), Refusal> {
        let here = &self.settings.destination_cluster_id;
        if let Some(meant) = open.destination_cluster_id.as_ref().filter(|meant| *meant != here) {
            let detail = format_args!("this is {here}, the source half means {meant}");
            return Err(Refusal::with(RefusalCode::WrongDestinationCluster, detail));
        }
        if let Some(bound) = self.settings.source_cluster_id.as_ref().filter(|bound| **bound != open.source_cluster_id)
        {
            let detail = format_args!("the link belongs to {bound}, the source half to {}", open.source_cluster_id);
            return Err(Refusal::with(RefusalCode::WrongSourceCluster, detail));
        }
        Ok(())
    }

    fn accepted(&self) -> OpenAnswer {
        OpenAnswer::Accepted(Accepted {
            link_id: self.settings.link_id,
            destination_cluster_id: self.settings.destination_cluster_id.clone(),
            beat_interval: self.settings.beat_interval,
            beats_missed_max: self.settings.beats_missed_max,
        })
    }

    fn received(&mut self, conn: ConnId, frame: ControlFrame, now: Instant, todo: &mut Vec<DestinationAction>) {
        if self.trials.contains_key(&conn) {
            return self.received_on_trial(conn, &frame, todo);
        }
        let Some((&id, member)) = self.members.iter_mut().find(|(_, m)| m.conn == conn) else { return };
        member.liveness.hear(now);
        self.last_heard = Some(now);
        match frame {
            ControlFrame::Beat { sequence } => {
                todo.push(DestinationAction::Send { conn, frame: ControlFrame::BeatAck { sequence } });
            }
            ControlFrame::BeatAck { sequence } => member.liveness.acknowledge(sequence, now),
            ControlFrame::Nodes(nodes) => member.nodes = nodes.iter().map(|n| (n.id, n.near)).collect(),
            ControlFrame::DialFailed { ticket, refusal } => self.dial_failed(id, ticket, refusal, now),
            ControlFrame::Goodbye(refusal) => {
                self.depart(id, now);
                todo.push(DestinationAction::Close { conn, reason: refusal.code });
                self.close_channels(id, None, refusal.code, todo);
                self.parted = Some(refusal);
            }
            ControlFrame::LinkDial { .. } => {
                self.depart(id, now);
                let refusal = Refusal::new(RefusalCode::ProtocolViolation);
                todo.push(DestinationAction::Send { conn, frame: ControlFrame::Goodbye(refusal) });
                todo.push(DestinationAction::Close { conn, reason: RefusalCode::ProtocolViolation });
            }
        }
    }

    fn received_on_trial(&mut self, conn: ConnId, frame: &ControlFrame, todo: &mut Vec<DestinationAction>) {
        match frame {
            // All that its side needs to hear to count this one as alive.
            ControlFrame::Beat { sequence } => {
                todo.push(DestinationAction::Send { conn, frame: ControlFrame::BeatAck { sequence: *sequence } });
            }
            ControlFrame::Goodbye(refusal) => {
                self.trials.remove(&conn);
                todo.push(DestinationAction::Close { conn, reason: refusal.code });
            }
            ControlFrame::BeatAck { .. }
            | ControlFrame::Nodes(_)
            | ControlFrame::DialFailed { .. }
            | ControlFrame::LinkDial { .. } => {}
        }
    }

    fn dial_failed(&mut self, member: MemberId, ticket: Ticket, refusal: Refusal, now: Instant) {
        if self.tickets.get(&ticket).is_none_or(|issued| issued.member != member) {
            return;
        }
        let Some(issued) = self.revoke(ticket, RefusalCode::ExpiredTicket) else { return };
        if let Some(member) = self.members.get_mut(&member) {
            member.cooling.retain(|_, until| *until > now);
            member.cooling.insert(issued.node, now + COOLING);
        }
        let Some(lease) = self.leases.get_mut(&issued.lease) else { return };
        lease.refused.insert(member);
        lease.failure = Some(refusal);
    }

    fn closed(&mut self, conn: ConnId, now: Instant) {
        if self.channels.remove(&conn).is_some() || self.trials.remove(&conn).is_some() {
            return;
        }
        if let Some(id) = self.members.iter().find_map(|(id, m)| (m.conn == conn).then_some(*id)) {
            self.depart(id, now);
        }
    }

    fn lease(&mut self, id: LeaseId, node: Option<NodeId>, until: Instant, todo: &mut Vec<DestinationAction>) {
        if self.leases.len() >= LEASES_MAX {
            let failure = LeaseFailure::Unavailable(format!("{LEASES_MAX} channels are waited for already"));
            todo.push(DestinationAction::Fail { lease: id, failure });
            return;
        }
        let (asked, refused) = (BTreeMap::new(), BTreeSet::new());
        self.leases.insert(id, Lease { node, until, asked, wait_until: None, refused, failure: None });
    }

    /// Takes a lease out; whoever still dials for it comes too late.
    fn end_lease(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        for ticket in lease.asked.values() {
            self.revoke(*ticket, RefusalCode::ExpiredTicket);
        }
        Some(lease)
    }

    fn shut(&mut self, code: RefusalCode, now: Instant, todo: &mut Vec<DestinationAction>) {
        for id in self.leases.keys().copied().collect::<Vec<_>>() {
            let failure = LeaseFailure::Unavailable(code.text().to_owned());
            self.end_lease(id);
            todo.push(DestinationAction::Fail { lease: id, failure });
        }
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            if let Some(member) = self.depart(id, now) {
                let frame = ControlFrame::Goodbye(Refusal::new(code));
                todo.push(DestinationAction::Send { conn: member.conn, frame });
                todo.push(DestinationAction::Close { conn: member.conn, reason: code });
            }
        }
        for conn in std::mem::take(&mut self.trials).into_keys() {
            todo.push(DestinationAction::Send { conn, frame: ControlFrame::Goodbye(Refusal::new(code)) });
            todo.push(DestinationAction::Close { conn, reason: code });
        }
        for conn in std::mem::take(&mut self.channels).into_keys() {
            todo.push(DestinationAction::Close { conn, reason: code });
        }
    }

    /// Whatever is due at `now`.
    fn on_time(&mut self, now: Instant, todo: &mut Vec<DestinationAction>) {
        let dead = |(id, m): (&MemberId, &Member)| m.liveness.is_dead(now).then_some(*id);
        for id in self.members.iter().filter_map(dead).collect::<Vec<_>>() {
            if let Some(member) = self.depart(id, now) {
                todo.push(DestinationAction::Close { conn: member.conn, reason: RefusalCode::Silent });
            }
            self.close_channels(id, None, RefusalCode::Silent, todo);
        }
        for member in self.members.values_mut() {
            if let Some(frame) = member.liveness.beat(now) {
                todo.push(DestinationAction::Send { conn: member.conn, frame });
            }
        }
        for (conn, _) in self.trials.extract_if(.., |_, until| *until <= now) {
            todo.push(DestinationAction::Close { conn, reason: RefusalCode::Silent });
        }
        for lease in self.leases.values_mut() {
            lease.wait_until.take_if(|wait| *wait <= now);
        }
        let late = self.leases.iter().filter(|(_, l)| l.until <= now).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            self.fail(id, todo);
        }
        self.departed.retain(|_, (_, until)| *until > now);
    }

    /// Leases that every member has refused, by whatever event. Silence proves nothing: whoever was asked and has not
    /// answered may bring the channel for as long as the lease lasts.
    fn fail_refused(&mut self, todo: &mut Vec<DestinationAction>) {
        if self.members.is_empty() {
            return; // one may come
        }
        let refused = |lease: &Lease| self.members.keys().all(|member| lease.refused.contains(member));
        let refused = self.leases.iter().filter(|(_, lease)| refused(lease)).map(|(id, _)| *id);
        for id in refused.collect::<Vec<_>>() {
            self.fail(id, todo);
        }
    }

    /// Asks a member for every channel that nobody was asked for, or that those who were asked have not brought in time.
    fn ask(&mut self, now: Instant, entropy: &mut dyn Entropy, todo: &mut Vec<DestinationAction>) {
        let may_ask = |lease: &Lease| lease.wait_until.is_none() && lease.asked.len() < LEASE_TICKETS_MAX;
        let waiting = self.leases.iter().filter(|(_, lease)| may_ask(lease)).map(|(id, _)| *id);
        for id in waiting.collect::<Vec<_>>() {
            let Some(lease) = self.leases.get(&id) else { continue };
            let Some((member, epoch, conn)) = self.choose(lease, now) else { continue };
            let node = lease.node;
            let ticket = Ticket::draw(entropy);
            self.tickets.insert(ticket, Issued { lease: id, member, epoch, node });
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.asked.insert(member, ticket);
                lease.wait_until = Some(now + self.settings.ask_next_after);
            }
            self.requests += 1;
            let frame = ControlFrame::LinkDial { request_id: self.requests, node, tickets: vec![ticket] };
            todo.push(DestinationAction::Send { conn, frame });
        }
    }

    /// Near members first, then those that reach the broker, then those that did not name it; one that has
    /// just failed at it last; among equals the one with the fewest channels, open and asked for.
    fn choose(&self, lease: &Lease, now: Instant) -> Option<(MemberId, i64, ConnId)> {
        let rank = |id: &MemberId, member: &Member| {
            let cooling = member.cooling.get(&lease.node).is_some_and(|until| *until > now);
            let distance = match lease.node {
                Some(node) => match member.nodes.get(&node) {
                    Some(true) => 0,
                    Some(false) => 1,
                    None => 2,
                },
                None => u8::from(member.nodes.is_empty()),
            };
            let open = self.channels.values().filter(|c| c.member == *id).count();
            let asked = self.tickets.values().filter(|t| t.member == *id).count();
            (cooling, distance, open + asked, *id)
        };
        let done = |id: &MemberId| lease.asked.contains_key(id) || lease.refused.contains(id);
        let candidates = self.members.iter().filter(|(id, _)| !done(id));
        let chosen = candidates.min_by_key(|(id, member)| rank(id, member));
        chosen.map(|(id, member)| (*id, member.incarnation.epoch, member.conn))
    }

    /// Takes a member out; the channels that it was asked for are asked of another.
    fn depart(&mut self, id: MemberId, now: Instant) -> Option<Member> {
        let member = self.members.remove(&id)?;
        if self.departed.len() >= DEPARTED_MAX
            && let Some(soonest) = self.departed.iter().min_by_key(|(_, (_, until))| *until).map(|(id, _)| *id)
        {
            self.departed.remove(&soonest);
        }
        self.departed.insert(id, (member.incarnation, now + DEPARTED_KEPT));
        let asked = self.tickets.iter().filter(|(_, t)| t.member == id).map(|(ticket, _)| *ticket);
        for ticket in asked.collect::<Vec<_>>() {
            self.revoke(ticket, RefusalCode::ExpiredTicket);
        }
        for lease in self.leases.values_mut() {
            lease.refused.remove(&id); // should it come back, its new life is asked anew
        }
        Some(member)
    }

    /// Closes a member's channels: all, or those of another epoch than `living`.
    fn close_channels(
        &mut self,
        id: MemberId,
        living: Option<i64>,
        reason: RefusalCode,
        todo: &mut Vec<DestinationAction>,
    ) {
        let gone = |c: &Channel| c.member == id && living != Some(c.epoch);
        let conns: Vec<ConnId> = self.channels.iter().filter(|(_, c)| gone(c)).map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.channels.remove(&conn);
            todo.push(DestinationAction::Close { conn, reason });
        }
    }

    /// Makes a ticket worthless; for its lease, if it still waits, the next member may be asked at once.
    fn revoke(&mut self, ticket: Ticket, code: RefusalCode) -> Option<Issued> {
        let issued = self.tickets.remove(&ticket)?;
        if let Some(lease) = self.leases.get_mut(&issued.lease) {
            lease.asked.remove(&issued.member);
            lease.wait_until = None;
        }
        if self.spent_order.len() >= SPENT_MAX
            && let Some(oldest) = self.spent_order.pop_front()
        {
            self.spent.remove(&oldest);
        }
        self.spent.insert(ticket, code);
        self.spent_order.push_back(ticket);
        Some(issued)
    }

    fn fail(&mut self, id: LeaseId, todo: &mut Vec<DestinationAction>) {
        let Some(lease) = self.end_lease(id) else { return };
        let failure = match lease.failure {
            Some(refusal) if refusal.code == RefusalCode::LocalAuthentication => {
                LeaseFailure::Authentication(refusal.to_string())
            }
            Some(refusal) => LeaseFailure::Node(refusal.to_string()),
            None if self.members.is_empty() => LeaseFailure::Unavailable("no source half is connected".to_owned()),
            None => LeaseFailure::Unavailable("the source half did not bring the channel in time".to_owned()),
        };
        todo.push(DestinationAction::Fail { lease: id, failure });
    }
}
