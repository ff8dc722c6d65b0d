//! The world of one simulation: time, network, the two halves of the link, their crashes, and the faults. The halves are
//! the real machines: `SourceControl` and `DestinationLink` of the link, `Topics`, `Broker` (with its `Session` and
//! `Partition`s) of replication, over the fake store.
//!
//! ```text
//!  source brokers ◄── request, answer ── source half (members) ◄── connections: loss, delay, order kept ──► destination half
//!    (model)                              SourceControl                (model)                       DestinationLink
//!                                                                                                    Topics, Broker, copies
//! ```

use super::check::Checker;
use super::rng::Rng;
use super::source::{Asked, NODES, Source, TOPIC};
use hawser_link::LinkName;
use hawser_link::reversal::{
    Backoff, ChannelFailure, ConnId, ControlFrame, DestinationAction, DestinationEvent, DestinationLink,
    DestinationSettings, LeaseId, LinkOpen, MemberId, Node, OpenAnswer, Refusal, RefusalCode, SourceAction,
    SourceControl, SourceEvent, SourceSettings, Ticket,
};
use hawser_replicate::broker::{Ask, Broker, FetchBounds};
use hawser_replicate::partition::{Event, Leader, Partition, Patience, Report, Start};
use hawser_replicate::topics::{Change, Topics};
use hawser_replicate::write::{Cut, Write, WriteError};
use hawser_store::{FakePartition, FakeStore, MirrorPartition, Position, Store, TopicSpec};
use hawser_wire::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use hawser_wire::{LeaderEpoch, NodeId, Offset, TopicPartition, Uuid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long faults go on.
const FAULTS: Duration = Duration::from_secs(6);
/// How long the copies may take to be whole afterwards.
const HEALING: Duration = Duration::from_secs(60);
/// A request without an answer for so long closes its connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// A fetch that finds nothing waits so long for news.
const LONG_POLL: Duration = Duration::from_millis(100);
/// `metadata.max.age.ms`: how long new partitions go unseen.
const METADATA_AGE_MAX: Duration = Duration::from_secs(2);
/// Events in one simulation; more means that something spins.
const STEPS_MAX: u64 = 200_000;

const PATIENCE: Patience = Patience {
    retry_backoff: Duration::from_millis(20),
    fetch_backoff: Duration::from_millis(200),
    retry_timeout: Duration::from_secs(40),
};
/// Small, so that answers are cut and partitions take turns.
const BOUNDS: FetchBounds =
    FetchBounds { wait_ms_max: 100, bytes_min: 1, response_bytes_max: 3_000, partition_bytes_max: 1_000 };

/// A mistake made on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    None,
    /// Cuts are reported as done and not made.
    SkipsTruncation,
    /// Fetches do not carry the epoch of the last batch.
    HidesLineage,
    /// Batches are appended without a look at their CRC.
    SkipsCrc,
    /// Out of range means: go on at the source's end, and tell nobody.
    ResetsSilently,
    /// A restarted daemon looks for the beginning anew.
    ForgetsThatItStarted,
    /// A batch that failed to be stored counts as stored.
    SwallowsStoreErrors,
    /// The source's log start is taken for one offset more than it is.
    TrimsTooFar,
    /// A lease that the link delivered is dropped on the floor.
    LosesLeases,
}

/// How a simulation ended well.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub batches: usize,
    pub truncations: usize,
    pub gaps: usize,
    pub crashes: usize,
    pub steps: u64,
    pub healed_after: Duration,
    pub recreated: bool,
}

pub struct World {
    rng: Rng,
    mutant: Mutant,
    base: Instant,
    now: Duration,
    sequence: u64,
    queue: BinaryHeap<Reverse<(Duration, u64, Slot)>>,
    events: BTreeMap<u64, Happening>,
    source: Source,
    members: Vec<Member>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    next_request: u64,
    store: FakeStore,
    dest: Option<Dest>,
    dest_life: u64,
    daemon: Daemon,
    checker: Checker,
    faulty: bool,
    recreated: bool,
    corrupt_next: bool,
    outcome: Outcome,
    trace: bool,
}

type Slot = u64;

/// One daemon of the source half.
struct Member {
    id: MemberId,
    life: u64,
    machine: Option<SourceControl>,
    control: BTreeMap<i64, u64>,
    channels: BTreeMap<Ticket, u64>,
}

struct Conn {
    member: usize,
    member_life: u64,
    dest_life: u64,
    kind: Kind,
    alive: bool,
    /// Swallows everything: a middlebox forgot it, a cable was pulled.
    black: bool,
    last: [Duration; 2],
}

#[derive(Clone)]
enum Kind {
    Control { attempt: i64 },
    Channel { ticket: Ticket, node: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Source,
    Dest,
}

enum Message {
    Open(LinkOpen),
    Answer(OpenAnswer),
    Control(ControlFrame),
    Request(u64, Request),
    Response(u64, Response),
}

#[derive(Clone)]
enum Request {
    Fetch(FetchRequest, i16),
    Offsets(ListOffsetsRequest, Asked),
    Epochs(OffsetForLeaderEpochRequest, Asked),
    Metadata(Vec<Arc<str>>),
}

enum Response {
    Fetch(FetchResponse),
    Offsets(Asked, ListOffsetsResponse),
    Epochs(Asked, OffsetForLeaderEpochResponse),
    Metadata(Vec<Arc<str>>, MetadataResponse),
}

enum Happening {
    Arrives { conn: u64, at: Side, message: Message },
    Ends { conn: u64, at: Side },
    ControlDialled { member: usize, life: u64, attempt: i64 },
    ChannelDialled { member: usize, life: u64, node: Option<NodeId>, ticket: Ticket, open: LinkOpen },
    Polls { conn: u64, request: u64, fetch: FetchRequest, version: i16, until: Duration },
    Written { life: u64, node: i32, writes: Vec<(TopicPartition, Write)> },
    TimedOut { conn: u64, request: u64 },
    Learns { part: usize, node: usize },
    Commits { part: usize },
    NodeUp { node: usize },
    SourceStarts { member: usize },
    DestStarts,
    PartitionMends { part: usize },
    DiskMends,
    Fault,
    Heal,
}

/// What the daemon keeps in its state, across restarts.
#[derive(Clone, Debug, Default)]
struct Daemon {
    start: Option<Start>,
    pinned: Option<Uuid>,
    partitions: i32,
    started: bool,
}

/// The destination half while it runs.
struct Dest {
    link: DestinationLink,
    topics: Topics,
    ask_after: Duration,
    refresh_at: Duration,
    lines: BTreeMap<i32, Line>,
    channels: BTreeMap<Use, Channel>,
    parked: BTreeMap<TopicPartition, Partition>,
    leaders: BTreeMap<TopicPartition, Leader>,
    copies: BTreeMap<TopicPartition, FakePartition>,
    not_started: BTreeSet<i32>,
    known: i32,
    next_lease: u64,
}

/// One fetcher.
struct Line {
    broker: Broker,
    writing: bool,
    /// An answer that came while the last one is written.
    early: Option<FetchResponse>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Use {
    Metadata,
    Fetch(i32),
    Ask(i32),
}

enum Channel {
    None { retry_at: Duration },
    Leasing(LeaseId),
    Up { conn: u64, outstanding: Option<u64> },
}

impl World {
    pub fn new(seed: u64, mutant: Mutant) -> Self {
        let mut rng = Rng::new(seed);
        let source = Source::new(&mut rng);
        let start = match rng.index(4) {
            0 | 1 => Start::Earliest,
            2 => Start::Latest,
            _ => Start::Timestamp(super::source::EPOCH_MS + rng.range(0, 100)),
        };
        let members = 1 + usize::from(rng.percent(30));
        let members = (0..members).map(|index| Member {
            id: MemberId(Uuid::from_u128(index as u128 + 1)),
            life: 0,
            machine: None,
            control: BTreeMap::new(),
            channels: BTreeMap::new(),
        });
        let members = members.collect();
        let mut world = Self {
            rng,
            mutant,
            base: Instant::now(),
            now: Duration::ZERO,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            checker: Checker::new(source.parts.len()),
            source,
            members,
            conns: BTreeMap::new(),
            next_conn: 1,
            next_request: 1,
            store: FakeStore::new(),
            dest: None,
            dest_life: 0,
            daemon: Daemon { start: Some(start), ..Daemon::default() },
            faulty: true,
            recreated: false,
            corrupt_next: false,
            outcome: Outcome::default(),
            trace: false,
        };
        for part in &mut world.source.parts {
            for _ in 0..world.rng.index(4) {
                part.append(&mut world.rng);
            }
            part.commit();
            if world.rng.percent(30) {
                part.trim(&mut world.rng);
            }
        }
        world
    }

    /// Says what it does.
    pub fn traced(mut self) -> Self {
        self.trace = true;
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What went wrong, when, in words.
    pub fn run(mut self) -> Result<Outcome, String> {
        for member in 0..self.members.len() {
            self.after(0, 50, Happening::SourceStarts { member });
        }
        self.after(0, 50, Happening::DestStarts);
        self.after(1, 100, Happening::Fault);
        self.at(FAULTS, Happening::Heal);
        let result = self.run_inner();
        result.map_err(|what| format!("at {:?}, step {}: {what}", self.now, self.outcome.steps))?;
        Ok(self.outcome)
    }

    fn run_inner(&mut self) -> Result<(), String> {
        loop {
            self.outcome.steps += 1;
            if self.outcome.steps > STEPS_MAX {
                return Err("spins".into());
            }
            let due = self.deadline();
            match self.queue.peek() {
                Some(Reverse((at, _, _))) if due.is_none_or(|due| *at <= due) => {
                    let Some(Reverse((at, _, slot))) = self.queue.pop() else { continue };
                    self.now = self.now.max(at);
                    if let Some(event) = self.events.remove(&slot) {
                        self.happen(event)?;
                    }
                }
                _ => match due {
                    Some(due) => {
                        self.now = self.now.max(due);
                        self.tick()?;
                    }
                    None => return Err("nothing will ever happen again".into()),
                },
            }
            self.pump()?;
            if !self.faulty {
                if self.is_whole()? {
                    self.outcome.healed_after = self.now - FAULTS;
                    self.outcome.batches = self.checker.batches_held(&self.store);
                    self.outcome.recreated = self.checker.topic_failed.is_some();
                    return Ok(());
                }
                if self.now > FAULTS + HEALING {
                    return Err(format!("not whole {HEALING:?} after the faults ended: {}", self.describe()));
                }
            }
        }
    }

    // --- time ---------------------------------------------------------------------------------------------------

    fn instant(&self) -> Instant {
        self.base + self.now
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.base)
    }

    fn at(&mut self, at: Duration, event: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn after(&mut self, from_ms: i64, to_ms: i64, event: Happening) {
        let wait = Duration::from_micros(self.rng.range(from_ms * 1_000, to_ms * 1_000) as u64);
        self.at(self.now + wait, event);
    }

    fn deadline(&self) -> Option<Duration> {
        let members = self.members.iter().filter_map(|member| member.machine.as_ref()?.deadline());
        let dest = self.dest.iter().flat_map(|dest| {
            let brokers = dest.lines.values().filter_map(|line| line.broker.deadline());
            brokers.chain(dest.link.deadline()).map(|at| self.since(at)).chain(dest.wishes(self.now))
        });
        members.map(|at| self.since(at)).chain(dest).min()
    }

    fn tick(&mut self) -> Result<(), String> {
        let now = self.instant();
        for index in 0..self.members.len() {
            if self.members[index].machine.as_ref().and_then(SourceControl::deadline).is_some_and(|at| at <= now) {
                self.source_on(index, SourceEvent::Tick);
            }
        }
        if let Some(dest) = &mut self.dest {
            for line in dest.lines.values_mut() {
                line.broker.tick(now);
            }
            if dest.link.deadline().is_some_and(|at| at <= now) {
                self.dest_on(DestinationEvent::Tick);
            }
        }
        Ok(())
    }

    // --- network ------------------------------------------------------------------------------------------------

    fn connect(&mut self, member: usize, kind: Kind) -> u64 {
        let id = self.next_conn;
        self.next_conn += 1;
        let conn = Conn {
            member,
            member_life: self.members[member].life,
            dest_life: self.dest_life,
            kind,
            alive: true,
            black: false,
            last: [self.now; 2],
        };
        self.conns.insert(id, conn);
        id
    }

    fn send(&mut self, conn: u64, at: Side, message: Message) {
        let slow = if self.rng.percent(3) { 400 } else { 10 };
        let delay = Duration::from_micros(self.rng.range(100, slow * 1_000) as u64);
        let now = self.now;
        let Some(line) = self.conns.get_mut(&conn) else { return };
        if !line.alive || line.black {
            return;
        }
        let last = &mut line.last[usize::from(at == Side::Dest)];
        *last = (*last).max(now + delay);
        let when = *last;
        self.at(when, Happening::Arrives { conn, at, message });
    }

    /// Both ends learn of it, unless it is black.
    fn cut(&mut self, conn: u64) {
        let Some(line) = self.conns.get_mut(&conn) else { return };
        if !std::mem::replace(&mut line.alive, false) || line.black {
            return;
        }
        self.after(1, 40, Happening::Ends { conn, at: Side::Source });
        self.after(1, 40, Happening::Ends { conn, at: Side::Dest });
    }

    /// One end closes it: only the other learns of it.
    fn close(&mut self, conn: u64, by: Side) {
        let Some(line) = self.conns.get_mut(&conn) else { return };
        if !std::mem::replace(&mut line.alive, false) || line.black {
            return;
        }
        let at = if by == Side::Source { Side::Dest } else { Side::Source };
        self.after(1, 40, Happening::Ends { conn, at });
    }

    // --- what happens -------------------------------------------------------------------------------------------

    fn happen(&mut self, event: Happening) -> Result<(), String> {
        match event {
            Happening::Arrives { conn, at, message } => {
                let Some(line) = self.conns.get(&conn).filter(|line| line.alive && !line.black) else { return Ok(()) };
                match at {
                    Side::Source if self.members[line.member].life == line.member_life => {
                        self.source_gets(conn, message)
                    }
                    Side::Dest if self.dest.is_some() && self.dest_life == line.dest_life => {
                        return self.dest_gets(conn, message);
                    }
                    _ => {}
                }
            }
            Happening::Ends { conn, at } => self.ended(conn, at),
            Happening::ControlDialled { member, life, attempt } => self.control_dialled(member, life, attempt),
            Happening::ChannelDialled { member, life, node, ticket, open } => {
                self.channel_dialled(member, life, node, ticket, open);
            }
            Happening::Polls { conn, request, fetch, version, until } => {
                self.serve_fetch(conn, request, fetch, version, until);
            }
            Happening::Written { life, node, writes } => {
                if self.dest.is_some() && life == self.dest_life {
                    return self.written(node, writes);
                }
            }
            Happening::TimedOut { conn, request } => {
                let waits = self.dest.as_ref().is_some_and(|dest| {
                    dest.channels.values().any(|channel| {
                        matches!(channel, Channel::Up { conn: c, outstanding: Some(r) } if *c == conn && *r == request)
                    })
                });
                if waits {
                    self.close(conn, Side::Dest);
                    self.dest_line_down(conn);
                }
            }
            Happening::Learns { part, node } => self.source.parts[part].learn(node),
            Happening::Commits { part } => self.source.parts[part].commit(),
            Happening::NodeUp { node } => self.source.up[node] = true,
            Happening::SourceStarts { member } => self.source_starts(member),
            Happening::DestStarts => self.dest_starts(),
            Happening::PartitionMends { part } => {
                let part = &mut self.source.parts[part];
                (part.error_code, part.amnesia) = (0, false);
            }
            Happening::DiskMends => {
                self.store.fail_appends(None);
                self.store.fail_flushes(None);
            }
            Happening::Fault => {
                if self.faulty {
                    self.fault()?;
                    self.after(5, 120, Happening::Fault);
                }
            }
            Happening::Heal => self.heal(),
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<(), String> {
        let part = self.rng.index(self.source.parts.len());
        let node = self.rng.index(NODES);
        match self.rng.index(100) {
            0..35 => {
                self.source.parts[part].append(&mut self.rng);
                self.after(1, 50, Happening::Commits { part });
            }
            35..41 => self.source.parts[part].trim(&mut self.rng),
            41..49 => self.lead(part, node, false),
            49..54 => self.lead(part, node, true),
            54..58 => {
                self.source.up[node] = false;
                self.source.forget_sessions(node);
                let cut: Vec<_> = self.channels_to(node);
                cut.into_iter().for_each(|conn| self.cut(conn));
                for part in 0..self.source.parts.len() {
                    if self.source.parts[part].leader == node {
                        let unclean = self.rng.percent(20);
                        self.lead(part, (node + 1) % NODES, unclean);
                    }
                }
                self.after(100, 1_500, Happening::NodeUp { node });
            }
            58..63 => self.any_conn(|world, conn| world.cut(conn)),
            63..66 => self.any_conn(|world, conn| world.conns.get_mut(&conn).expect("known").black = true),
            66..69 => self.source.forget_sessions(node),
            69..73 => self.source_crashes(),
            73..78 => self.dest_crashes()?,
            78..81 => {
                self.store.fail_appends(Some(std::io::ErrorKind::StorageFull));
                self.after(50, 800, Happening::DiskMends);
            }
            81..83 => {
                self.store.fail_flushes(Some(std::io::ErrorKind::Other));
                self.after(50, 800, Happening::DiskMends);
            }
            83..90 => self.flush_one(),
            90 => {
                self.source.parts[part].amnesia = true;
                self.after(50, 800, Happening::PartitionMends { part });
            }
            91..93 => {
                self.source.parts[part].error_code = [56, 29, 3, -1, 2][self.rng.index(5)];
                self.after(50, 800, Happening::PartitionMends { part });
            }
            93..97 => self.corrupt_next = true,
            97 if self.source.parts.len() < 4 => {
                let added = super::source::Part::new(&mut self.rng);
                self.source.parts.push(added);
                self.checker.grew();
            }
            98 if self.source.fetch_version >= 13 && !self.recreated && self.rng.percent(10) => {
                self.recreated = true;
                self.source.recreate(&mut self.rng);
            }
            _ => {}
        }
        Ok(())
    }

    fn lead(&mut self, part: usize, node: usize, unclean: bool) {
        if self.source.parts[part].lead(node, unclean, &mut self.rng) {
            self.checker.brought_back(part, self.now);
        }
        for other in 0..NODES {
            let slow = if other == node { 200 } else { 1_500 };
            self.after(0, slow, Happening::Learns { part, node: other });
        }
        self.after(1, 300, Happening::Commits { part });
    }

    fn heal(&mut self) {
        self.faulty = false;
        self.corrupt_next = false;
        self.store.fail_appends(None);
        self.store.fail_flushes(None);
        self.source.up = [true; NODES];
        for part in &mut self.source.parts {
            (part.error_code, part.amnesia) = (0, false);
            for node in 0..NODES {
                part.learn(node);
            }
            part.append(&mut self.rng);
            part.commit();
        }
        for member in 0..self.members.len() {
            if self.members[member].machine.is_none() {
                self.after(1, 100, Happening::SourceStarts { member });
            }
        }
        if self.dest.is_none() {
            self.after(1, 100, Happening::DestStarts);
        }
    }

    fn any_conn(&mut self, act: impl FnOnce(&mut Self, u64)) {
        let alive: Vec<_> = self.conns.iter().filter(|(_, conn)| conn.alive).map(|(id, _)| *id).collect();
        if !alive.is_empty() {
            let conn = alive[self.rng.index(alive.len())];
            act(self, conn);
        }
    }

    fn channels_to(&self, node: usize) -> Vec<u64> {
        let to_node = |conn: &&Conn| matches!(conn.kind, Kind::Channel { node: to, .. } if to == node);
        self.conns.iter().filter(|(_, conn)| conn.alive && to_node(conn)).map(|(id, _)| *id).collect()
    }

    // --- source half --------------------------------------------------------------------------------------------

    fn source_starts(&mut self, index: usize) {
        let member = &mut self.members[index];
        if member.machine.is_some() {
            return;
        }
        member.life += 1;
        let settings = SourceSettings {
            link: LinkName::new("sim").expect("legal"),
            source_cluster_id: "source".into(),
            destination_cluster_id: Some("destination".into()),
            member: member.id,
            epoch: member.life as i64,
            attempts_before: 0,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_millis(300)),
            setup_timeout: Duration::from_millis(800),
            channels_max: 64,
        };
        member.machine = Some(SourceControl::new(settings));
        let nodes = (1..=NODES as i32).map(|id| Node { id: NodeId(id), near: id as usize % 2 == index }).collect();
        self.source_on(index, SourceEvent::Nodes(nodes));
        self.source_on(index, SourceEvent::Start);
    }

    fn source_crashes(&mut self) {
        let index = self.rng.index(self.members.len());
        if self.members[index].machine.take().is_none() {
            return;
        }
        self.outcome.crashes += 1;
        let member = &mut self.members[index];
        member.control.clear();
        member.channels.clear();
        let mine: Vec<_> =
            self.conns.iter().filter(|(_, conn)| conn.alive && conn.member == index).map(|(id, _)| *id).collect();
        // A process that dies resets its connections; a machine that dies leaves them half open.
        let half_open = self.rng.percent(30);
        for conn in mine {
            match half_open {
                true => self.conns.get_mut(&conn).expect("known").black = true,
                false => self.close(conn, Side::Source),
            }
        }
        self.after(10, 1_000, Happening::SourceStarts { member: index });
    }

    fn source_on(&mut self, index: usize, event: SourceEvent) {
        let now = self.instant();
        let member = &mut self.members[index];
        let Some(machine) = &mut member.machine else { return };
        let life = member.life;
        for action in machine.on(event, now, &mut self.rng) {
            self.source_does(index, life, action);
        }
    }

    fn source_does(&mut self, index: usize, life: u64, action: SourceAction) {
        match action {
            SourceAction::Dial { attempt } => {
                self.after(1, 30, Happening::ControlDialled { member: index, life, attempt });
            }
            SourceAction::SendOpen { attempt, open } => {
                if let Some(&conn) = self.members[index].control.get(&attempt) {
                    self.send(conn, Side::Dest, Message::Open(open));
                }
            }
            SourceAction::Send { attempt, frame } => {
                if let Some(&conn) = self.members[index].control.get(&attempt) {
                    self.send(conn, Side::Dest, Message::Control(frame));
                }
            }
            SourceAction::Disconnect { attempt } => {
                if let Some(conn) = self.members[index].control.remove(&attempt) {
                    self.close(conn, Side::Source);
                }
            }
            SourceAction::OpenChannel { node, ticket, open } => {
                self.after(1, 30, Happening::ChannelDialled { member: index, life, node, ticket, open });
            }
            SourceAction::AbandonChannels => {
                let channels = std::mem::take(&mut self.members[index].channels);
                channels.into_values().for_each(|conn| self.close(conn, Side::Source));
            }
        }
    }

    fn control_dialled(&mut self, index: usize, life: u64, attempt: i64) {
        if self.members[index].life != life || self.members[index].machine.is_none() {
            return;
        }
        if self.dest.is_none() || (self.faulty && self.rng.percent(10)) {
            let reason = "refused".to_owned();
            return self.source_on(index, SourceEvent::DialFailed { attempt, reason, needs_operator: false });
        }
        let conn = self.connect(index, Kind::Control { attempt });
        self.members[index].control.insert(attempt, conn);
        self.source_on(index, SourceEvent::Dialled { attempt });
    }

    fn channel_dialled(&mut self, index: usize, life: u64, node: Option<NodeId>, ticket: Ticket, open: LinkOpen) {
        if self.members[index].life != life || self.members[index].machine.is_none() {
            return;
        }
        let node = node.map_or_else(|| self.rng.index(NODES), |node| node.0 as usize - 1);
        let failure = match () {
            () if !self.source.up[node] => Some(RefusalCode::LocalUnreachable),
            () if self.dest.is_none() => Some(RefusalCode::DialFailed),
            () => None,
        };
        if let Some(code) = failure {
            let failure = ChannelFailure::Ours(Refusal::new(code));
            return self.source_on(index, SourceEvent::ChannelFailed { ticket, failure });
        }
        let conn = self.connect(index, Kind::Channel { ticket, node });
        self.members[index].channels.insert(ticket, conn);
        self.send(conn, Side::Dest, Message::Open(open));
    }

    fn source_gets(&mut self, conn: u64, message: Message) {
        let Conn { member: index, kind, .. } = &self.conns[&conn];
        let (index, kind) = (*index, kind.clone());
        match (kind, message) {
            (Kind::Control { attempt }, Message::Answer(answer)) => {
                self.source_on(index, SourceEvent::Answered { attempt, answer });
            }
            (Kind::Control { attempt }, Message::Control(frame)) => {
                let frame = ControlFrame::decode(&frame.encode()[4..]).expect("its own frame");
                self.source_on(index, SourceEvent::Received { attempt, frame });
            }
            (Kind::Channel { ticket, .. }, Message::Answer(OpenAnswer::Accepted(_))) => {
                self.source_on(index, SourceEvent::ChannelOpened { ticket });
            }
            (Kind::Channel { ticket, .. }, Message::Answer(OpenAnswer::Refused(_))) => {
                self.members[index].channels.remove(&ticket);
                self.close(conn, Side::Source);
                self.source_on(index, SourceEvent::ChannelFailed { ticket, failure: ChannelFailure::Refused });
            }
            (Kind::Channel { node, .. }, Message::Request(id, request)) => self.serve(conn, node, id, request),
            (_, Message::Open(_) | Message::Control(_) | Message::Request(..) | Message::Response(..)) => {}
        }
    }

    fn serve(&mut self, conn: u64, node: usize, id: u64, request: Request) {
        if !self.source.up[node] {
            return self.cut(conn);
        }
        let response = match request {
            Request::Fetch(fetch, version) => {
                let until = self.now + LONG_POLL;
                return self.serve_fetch(conn, id, fetch, version, until);
            }
            Request::Offsets(request, asked) => Response::Offsets(asked, self.source.list_offsets(node, &request)),
            Request::Epochs(request, asked) => Response::Epochs(asked, self.source.epoch_ends(node, &request)),
            Request::Metadata(asked) => Response::Metadata(asked, self.source.metadata(node)),
        };
        self.send(conn, Side::Dest, Message::Response(id, response));
    }

    fn serve_fetch(&mut self, conn: u64, id: u64, fetch: FetchRequest, version: i16, until: Duration) {
        let Some(Conn { kind: Kind::Channel { node, .. }, alive: true, .. }) = self.conns.get(&conn) else { return };
        let node = *node;
        if !self.source.up[node] {
            return self.cut(conn);
        }
        let first = until == self.now + LONG_POLL;
        let (mut answer, urgent) = self.source.fetch(node, &fetch, version);
        if first && !urgent && self.rng.percent(70) {
            // It is held back: whatever the session says then is the answer.
            let session_epoch = fetch.session_epoch + 1;
            let later = fetch.with_session_epoch(session_epoch).with_topics(vec![]).with_forgotten_topics_data(vec![]);
            return self.at(until, Happening::Polls { conn, request: id, fetch: later, version, until });
        }
        if !first {
            // The session has moved by one more than the client knows of: put it back.
            self.source.step_back(node, fetch.session_id);
        }
        if std::mem::take(&mut self.corrupt_next) {
            corrupt(&mut answer, &mut self.rng);
        }
        self.send(conn, Side::Dest, Message::Response(id, Response::Fetch(answer)));
    }

    fn ended(&mut self, conn: u64, at: Side) {
        let Some(line) = self.conns.get(&conn) else { return };
        let (index, kind) = (line.member, line.kind.clone());
        match at {
            Side::Source if self.members[index].life == line.member_life => match kind {
                Kind::Control { attempt } => {
                    self.members[index].control.remove(&attempt);
                    self.source_on(index, SourceEvent::Closed { attempt, reason: "cut".into() });
                }
                Kind::Channel { ticket, .. } => {
                    if self.members[index].channels.remove(&ticket).is_some() {
                        self.source_on(index, SourceEvent::ChannelClosed { ticket });
                    }
                }
            },
            Side::Dest if self.dest_life == line.dest_life => self.dest_line_down(conn),
            Side::Source | Side::Dest => {}
        }
    }

    // --- destination half ---------------------------------------------------------------------------------------

    fn dest_starts(&mut self) {
        if self.dest.is_some() {
            return;
        }
        self.dest_life += 1;
        if self.trace {
            println!("{:?} destination starts: {:?}", self.now, self.daemon);
        }
        let link = DestinationLink::new(DestinationSettings {
            link_id: Uuid::from_u128(9),
            destination_cluster_id: "destination".into(),
            source_cluster_id: Some("source".into()),
            beat_interval: Duration::from_millis(150),
            beats_missed_max: 3,
            ticket_timeout: Duration::from_millis(400),
        });
        let mut dest = Dest {
            link,
            topics: Topics::new(PATIENCE.retry_timeout),
            ask_after: self.now,
            refresh_at: self.now + METADATA_AGE_MAX,
            lines: BTreeMap::new(),
            channels: BTreeMap::from([(Use::Metadata, Channel::None { retry_at: self.now })]),
            parked: BTreeMap::new(),
            leaders: BTreeMap::new(),
            copies: BTreeMap::new(),
            not_started: BTreeSet::new(),
            known: 0,
            next_lease: 1,
        };
        let Daemon { start, pinned, partitions, started } = self.daemon.clone();
        dest.topics.add(TOPIC.into(), pinned, partitions);
        let start = match (started, self.mutant) {
            (true, Mutant::ForgetsThatItStarted) | (false, _) => start.expect("set"),
            (true, _) => Start::Earliest,
        };
        dest.grow(partitions, start);
        self.dest = Some(dest);
    }

    fn dest_crashes(&mut self) -> Result<(), String> {
        if self.dest.take().is_none() {
            return Ok(());
        }
        self.outcome.crashes += 1;
        let dest_life = self.dest_life;
        let mine: Vec<_> =
            self.conns.iter().filter(|(_, c)| c.alive && c.dest_life == dest_life).map(|(id, _)| *id).collect();
        let half_open = self.rng.percent(30);
        for conn in mine {
            match half_open {
                true => self.conns.get_mut(&conn).expect("known").black = true,
                false => self.close(conn, Side::Dest),
            }
        }
        // The disk keeps what was flushed, and whatever else it likes.
        let rng = &mut self.rng;
        self.store.crash_keeping(|_, at| Offset(rng.range(at.flushed.0, at.log_end.0 + 1)));
        self.checker.crashed(&self.store, &self.source)?;
        self.after(10, 1_000, Happening::DestStarts);
        Ok(())
    }

    fn flush_one(&mut self) {
        let Some(dest) = &mut self.dest else { return };
        let index = self.rng.index(dest.copies.len());
        if let Some(copy) = dest.copies.values_mut().nth(index) {
            let _ = now_or_never(copy.flush()); // a full disk may refuse
        }
    }

    fn dest_gets(&mut self, conn: u64, message: Message) -> Result<(), String> {
        match message {
            Message::Open(open) => self.dest_on(DestinationEvent::Opened { conn: ConnId(conn), open }),
            Message::Control(frame) => {
                let frame = ControlFrame::decode(&frame.encode()[4..]).expect("its own frame");
                self.dest_on(DestinationEvent::Received { conn: ConnId(conn), frame });
            }
            Message::Response(id, response) => return self.responded(conn, id, response),
            Message::Answer(_) | Message::Request(..) => {}
        }
        Ok(())
    }

    fn dest_on(&mut self, event: DestinationEvent) {
        let now = self.instant();
        let Some(dest) = &mut self.dest else { return };
        for action in dest.link.on(event, now, &mut self.rng) {
            self.dest_does(action);
        }
    }

    fn dest_does(&mut self, action: DestinationAction) {
        match action {
            DestinationAction::Answer { conn, answer } => {
                self.send(conn.0, Side::Source, Message::Answer(answer));
            }
            DestinationAction::Send { conn, frame } => self.send(conn.0, Side::Source, Message::Control(frame)),
            DestinationAction::Close { conn, .. } => {
                self.close(conn.0, Side::Dest);
                self.line_lost(conn.0);
            }
            DestinationAction::Deliver { lease, conn } => {
                let version = self.source.fetch_version;
                let lost = self.mutant == Mutant::LosesLeases;
                let Some(dest) = &mut self.dest else { return };
                let user = dest.channels.iter_mut().find(|(_, c)| matches!(c, Channel::Leasing(id) if *id == lease));
                match user {
                    Some((_, channel)) if lost => *channel = Channel::Leasing(LeaseId(0)),
                    Some((user, channel)) => {
                        *channel = Channel::Up { conn: conn.0, outstanding: None };
                        if let Use::Fetch(node) = *user
                            && let Some(line) = dest.lines.get_mut(&node)
                        {
                            line.broker.connected(version);
                        }
                    }
                    None => {
                        self.close(conn.0, Side::Dest);
                        self.dest_on(DestinationEvent::Closed { conn });
                    }
                }
            }
            DestinationAction::Fail { lease, .. } => {
                let retry_at = self.now + Duration::from_millis(50);
                let Some(dest) = &mut self.dest else { return };
                for channel in dest.channels.values_mut() {
                    if matches!(channel, Channel::Leasing(id) if *id == lease) {
                        *channel = Channel::None { retry_at };
                        dest.topics.mark_stale(TOPIC);
                    }
                }
            }
            DestinationAction::PinSource(_) => {}
        }
    }

    /// A connection ended, as seen from the destination.
    fn dest_line_down(&mut self, conn: u64) {
        self.line_lost(conn);
        self.dest_on(DestinationEvent::Closed { conn: ConnId(conn) });
    }

    fn line_lost(&mut self, conn: u64) {
        let retry_at = self.now + Duration::from_millis(20);
        let Some(dest) = &mut self.dest else { return };
        for (user, channel) in &mut dest.channels {
            if matches!(channel, Channel::Up { conn: c, .. } if *c == conn) {
                *channel = Channel::None { retry_at };
                dest.topics.mark_stale(TOPIC);
                match *user {
                    Use::Fetch(node) => {
                        if let Some(line) = dest.lines.get_mut(&node) {
                            line.broker.fetch_failed();
                        }
                    }
                    // A question that was on its way is asked again.
                    Use::Ask(node) => {
                        if let Some(line) = dest.lines.get_mut(&node) {
                            let all: Vec<_> = line.broker.partitions().map(|(id, _)| id.clone()).collect();
                            let asked: Asked =
                                all.into_iter().map(|id| (id, hawser_replicate::partition::Want::Nothing)).collect();
                            line.broker.ask_failed(&asked);
                        }
                    }
                    Use::Metadata => {}
                }
            }
        }
    }

    fn responded(&mut self, conn: u64, id: u64, response: Response) -> Result<(), String> {
        let now = self.instant();
        let Some(dest) = &mut self.dest else { return Ok(()) };
        let user = dest.channels.iter_mut().find_map(|(user, channel)| match channel {
            Channel::Up { conn: c, outstanding } if *c == conn && *outstanding == Some(id) => {
                *outstanding = None;
                Some(*user)
            }
            _ => None,
        });
        let Dest { lines, copies, .. } = dest;
        let ours = |id: &TopicPartition, epoch: LeaderEpoch| copies.get(id)?.end_of_epoch(epoch);
        match (user, response) {
            (Some(Use::Fetch(node)), Response::Fetch(answer)) => {
                let Some(line) = lines.get_mut(&node) else { return Ok(()) };
                if line.writing {
                    line.early = Some(answer);
                } else {
                    self.fetched(node, answer);
                }
            }
            (Some(Use::Ask(node)), Response::Offsets(asked, answer)) => {
                let Some(line) = lines.get_mut(&node) else { return Ok(()) };
                let writes = line.broker.told_offsets(&asked, &answer, now);
                self.perform(node, writes)?;
            }
            (Some(Use::Ask(node)), Response::Epochs(asked, answer)) => {
                let Some(line) = lines.get_mut(&node) else { return Ok(()) };
                let writes = line.broker.told_epochs(&asked, &answer, &ours, now);
                self.perform(node, writes)?;
            }
            (Some(Use::Metadata), Response::Metadata(asked, answer)) => {
                dest.ask_after = self.now + Duration::from_millis(30);
                let changes = dest.topics.on(&asked, &answer, now);
                for change in changes {
                    self.change(change);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fetched(&mut self, node: i32, mut answer: FetchResponse) {
        let now = self.instant();
        if self.mutant == Mutant::TrimsTooFar {
            for data in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                data.log_start_offset += i64::from(data.log_start_offset > 0);
            }
        }
        let Some(dest) = &mut self.dest else { return };
        let Dest { lines, copies, .. } = dest;
        let Some(line) = lines.get_mut(&node) else { return };
        let ours = |id: &TopicPartition, epoch: LeaderEpoch| copies.get(id)?.end_of_epoch(epoch);
        let writes = line.broker.fetched(answer, &ours, now);
        if !writes.is_empty() {
            line.writing = true;
            let life = self.dest_life;
            self.after(0, 15, Happening::Written { life, node, writes });
        }
    }

    fn written(&mut self, node: i32, writes: Vec<(TopicPartition, Write)>) -> Result<(), String> {
        self.perform(node, writes)?;
        let early = self.dest.as_mut().and_then(|dest| dest.lines.get_mut(&node)).and_then(|line| {
            line.writing = false;
            line.early.take()
        });
        if let Some(answer) = early {
            self.fetched(node, answer);
        }
        Ok(())
    }

    fn perform(&mut self, node: i32, writes: Vec<(TopicPartition, Write)>) -> Result<(), String> {
        for (id, mut write) in writes {
            let now = self.instant();
            let Some(dest) = &mut self.dest else { return Ok(()) };
            let Some(copy) = dest.copies.get_mut(&id) else { continue };
            let before = self.store.batches(&id);
            let position = copy.position();
            if self.mutant == Mutant::ResetsSilently
                && let Some(Cut::RestartAt(to)) = &mut write.cut
                && *to > position.log_end
            {
                *to = Offset(self.source.parts[id.partition as usize].high_watermark);
            }
            let result = perform(copy, &write, self.mutant);
            let after = copy.position();
            let started = self.daemon.started;
            if self.trace {
                let Write { cut, append, log_start, high_watermark } = &write;
                let bases: Vec<_> = append.iter().map(|batch| batch.header.base_offset.0).collect();
                println!(
                    "{:?} {id}: {cut:?} {bases:?} start {log_start:?} hw {high_watermark:?}: {position:?} -> {result:?}",
                    self.now
                );
            }
            self.checker.wrote(&id, &write, &before, position, after, started, &self.store, &self.source, self.now)?;
            let event = match result {
                Ok(position) => Event::Stored(position),
                Err(WriteError::Store(_)) if self.mutant == Mutant::SwallowsStoreErrors => {
                    let end = write.append.last().map_or(after.log_end, |batch| batch.header.next_offset());
                    Event::Stored(Position { log_end: end, ..after })
                }
                Err(error) => Event::StoreFailed(after, error),
            };
            let Some(line) = dest.lines.get_mut(&node) else { continue };
            if line.broker.on(&id, event, now).is_some() {
                return Err(format!("{id}: a write ordered another"));
            }
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        if self.trace && !matches!(change, Change::Leader { .. }) {
            println!("{:?} {change:?}", self.now);
        }
        let Some(dest) = &mut self.dest else { return };
        match change {
            Change::Pinned { id, .. } => self.daemon.pinned = Some(id),
            Change::Grew { from, to, .. } => {
                self.daemon.partitions = to;
                let start = if from == 0 { self.daemon.start.expect("set") } else { Start::Earliest };
                dest.grow(to, start);
            }
            Change::Leader { partition, leader } => {
                let now = self.base + self.now;
                dest.leaders.insert(partition.clone(), leader);
                if let Some(machine) = dest.parked.get_mut(&partition) {
                    machine.on(Event::Leader(leader), now);
                }
                for line in dest.lines.values_mut() {
                    let write = line.broker.on(&partition, Event::Leader(leader), now);
                    assert!(write.is_none(), "a leader orders no write");
                }
            }
            Change::Failed { failure, .. } => {
                let now = self.base + self.now;
                self.checker.topic_failed = Some(failure.reason);
                for line in dest.lines.values_mut() {
                    line.broker.fail_topic(TOPIC, &failure, now);
                }
                for machine in dest.parked.values_mut() {
                    machine.on(Event::Fail(failure.clone()), now);
                }
            }
            Change::Unavailable { .. } | Change::Available { .. } => {}
        }
    }

    /// Sends whatever can be sent.
    fn pump(&mut self) -> Result<(), String> {
        for _ in 0..8 {
            if !self.pump_once()? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn pump_once(&mut self) -> Result<bool, String> {
        let (now, instant) = (self.now, self.instant());
        let Some(dest) = &mut self.dest else { return Ok(false) };
        let mut moved = false;
        if dest.refresh_at <= now {
            dest.refresh_at = now + METADATA_AGE_MAX;
            dest.topics.mark_all_stale();
        }

        // Partitions to fetchers.
        let led: Vec<_> = dest.parked.iter().filter_map(|(id, m)| Some((id.clone(), m.leader()?.node.0))).collect();
        for (id, node) in led {
            let Some(machine) = dest.parked.remove(&id) else { continue };
            let topic_id = self.daemon.pinned.unwrap_or_default();
            let channels = &mut dest.channels;
            let line = dest.lines.entry(node).or_insert_with(|| {
                channels.insert(Use::Fetch(node), Channel::None { retry_at: now });
                channels.insert(Use::Ask(node), Channel::None { retry_at: now });
                Line { broker: Broker::new(NodeId(node), BOUNDS), writing: false, early: None }
            });
            line.broker.assign(id, topic_id, machine);
            moved = true;
        }

        let mut reports = Vec::new();
        let mut leaving = Vec::new();
        for line in dest.lines.values_mut() {
            for id in line.broker.take_opens() {
                let spec = TopicSpec { name: TOPIC.into(), id: Uuid::from_u128(77), configs: BTreeMap::new() };
                let copy = now_or_never(self.store.open(&spec, id.partition)).map_err(|e| e.to_string())?;
                let position = copy.position();
                dest.copies.insert(id.clone(), copy);
                line.broker.on(&id, Event::Opened(position), instant);
                moved = true;
            }
            for id in line.broker.take_leaving() {
                leaving.extend(line.broker.release(&id).map(|machine| (id, machine)));
                moved = true;
            }
            for topic in line.broker.take_stale() {
                dest.topics.mark_stale(&topic);
            }
            reports.extend(line.broker.take_reports());
        }
        dest.parked.extend(leaving);
        for (id, report) in reports {
            match &report {
                Report::Started { .. } => {
                    dest.not_started.remove(&id.partition);
                    self.daemon.started |= dest.not_started.is_empty();
                }
                Report::Gap { .. } => self.outcome.gaps += 1,
                Report::Truncated { .. } => self.outcome.truncations += 1,
                Report::Trouble(_) | Report::Recovered | Report::Failed(_) => {}
            }
            if self.trace {
                println!("{:?} {id}: {report:?}", self.now);
            }
            self.checker.reported(&id, &report)?;
        }

        // Connections and requests.
        let users: Vec<Use> = dest.channels.keys().copied().collect();
        let mut requests = Vec::new();
        let mut leases = Vec::new();
        for user in users {
            if !dest.wants(user, now) {
                continue;
            }
            let Some(channel) = dest.channels.get_mut(&user) else { continue };
            match channel {
                Channel::None { retry_at } if *retry_at <= now => {
                    let lease = LeaseId(dest.next_lease);
                    dest.next_lease += 1;
                    *channel = Channel::Leasing(lease);
                    leases.push((lease, user));
                }
                Channel::Up { conn, outstanding: outstanding @ None } => {
                    let request = match user {
                        Use::Metadata => Some(Request::Metadata(dest.topics.to_ask())),
                        Use::Fetch(node) => dest.lines.get_mut(&node).and_then(|line| {
                            let version = line.broker.fetch_version();
                            let mut fetch = line.broker.fetch_request()?;
                            if self.mutant == Mutant::HidesLineage {
                                let partitions = fetch.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                                partitions.for_each(|partition| partition.last_fetched_epoch = -1);
                            }
                            Some(Request::Fetch(fetch, version))
                        }),
                        Use::Ask(node) => {
                            dest.lines.get_mut(&node).and_then(|line| line.broker.ask()).map(|ask| match ask {
                                Ask::Offsets(request, asked) => Request::Offsets(request, asked),
                                Ask::Epochs(request, asked) => Request::Epochs(request, asked),
                            })
                        }
                    };
                    if let Some(request) = request {
                        let id = self.next_request;
                        self.next_request += 1;
                        *outstanding = Some(id);
                        requests.push((*conn, id, request));
                    }
                }
                Channel::None { .. } | Channel::Leasing(_) | Channel::Up { .. } => {}
            }
        }
        for (lease, user) in leases {
            let node = match user {
                Use::Metadata => None,
                Use::Fetch(node) | Use::Ask(node) => Some(NodeId(node)),
            };
            let until = instant + Duration::from_secs(1);
            self.dest_on(DestinationEvent::Lease { lease, node, until });
            moved = true;
        }
        for (conn, id, request) in requests {
            self.send(conn, Side::Source, Message::Request(id, request));
            self.at(now + REQUEST_TIMEOUT, Happening::TimedOut { conn, request: id });
            moved = true;
        }
        Ok(moved)
    }

    // --- the end ------------------------------------------------------------------------------------------------

    fn is_whole(&self) -> Result<bool, String> {
        if self.recreated && self.daemon.pinned != Some(self.source.topic_id) {
            return Ok(self.checker.topic_failed == Some(hawser_replicate::Reason::SourceTopicIdChanged));
        }
        if let Some(reason) = self.checker.topic_failed {
            return Err(format!("the topic failed: {reason}"));
        }
        Ok(self.checker.is_whole(&self.store, &self.source))
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (index, part) in self.source.parts.iter().enumerate() {
            let id = TopicPartition::new(TOPIC, index as i32);
            let machine = self.dest.iter().flat_map(|dest| {
                dest.lines.values().filter_map(|line| line.broker.partition(&id)).chain(dest.parked.get(&id))
            });
            let machine =
                machine.map(|m| format!("{:?} {:?} {:?}", m.want(), m.leader(), m.trouble())).collect::<Vec<_>>();
            text += &format!(
                "\n  {id}: source {}..{} epoch {} leader {}; copy {:?}; machine {machine:?}",
                part.start,
                part.end(),
                part.epoch,
                part.leader + 1,
                self.store.position(&id),
            );
        }
        text
    }
}

impl Dest {
    fn grow(&mut self, to: i32, start: Start) {
        for index in self.known..to {
            self.not_started.insert(index);
            self.parked.insert(TopicPartition::new(TOPIC, index), Partition::new(start, PATIENCE));
        }
        self.known = self.known.max(to);
    }

    fn wants(&self, user: Use, now: Duration) -> bool {
        match user {
            Use::Metadata => self.topics.has_stale() && self.ask_after <= now,
            Use::Fetch(node) => self
                .lines
                .get(&node)
                .is_some_and(|line| line.broker.partitions().next().is_some() && line.early.is_none()),
            Use::Ask(node) => self.lines.get(&node).is_some_and(|line| line.broker.has_questions()),
        }
    }

    /// When something is to be tried again.
    fn wishes(&self, now: Duration) -> impl Iterator<Item = Duration> {
        let metadata = (self.topics.has_stale() && self.ask_after > now).then_some(self.ask_after);
        let channels = self.channels.iter().filter_map(move |(user, channel)| match channel {
            Channel::None { retry_at } if *retry_at > now && (self.wants(*user, now) || *user == Use::Metadata) => {
                Some(*retry_at)
            }
            Channel::None { .. } | Channel::Leasing(_) | Channel::Up { .. } => None,
        });
        metadata.into_iter().chain(channels).chain([self.refresh_at])
    }
}

fn perform(copy: &mut FakePartition, write: &Write, mutant: Mutant) -> Result<Position, WriteError> {
    match mutant {
        Mutant::SkipsTruncation if write.cut.is_some_and(|cut| matches!(cut, Cut::TruncateTo(_))) => {
            Ok(copy.position())
        }
        Mutant::SkipsCrc => {
            if write.cut.is_some() {
                return now_or_never(write.perform(copy));
            }
            now_or_never(copy.append(&write.append))?;
            let rest = Write { append: Vec::new(), ..write.clone() };
            now_or_never(rest.perform(copy))
        }
        _ => now_or_never(write.perform(copy)),
    }
}

/// Flips a byte of some record.
fn corrupt(answer: &mut FetchResponse, rng: &mut Rng) {
    for data in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if let Some(records) = &mut data.records
            && records.len() > 70
        {
            let mut bytes = records.to_vec();
            let batch = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as i64 + 12;
            let at = rng.range(61, batch.min(bytes.len() as i64)) as usize;
            bytes[at] ^= 1 << rng.index(8);
            *records = bytes.into();
            return;
        }
    }
}

/// The fake store never waits.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the fake store waits"),
    }
}
