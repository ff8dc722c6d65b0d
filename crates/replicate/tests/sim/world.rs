//! The world of one simulation: time, network, the two halves of the link, their crashes, and the faults. The halves are
//! the real machines: `SourceControl` and `DestinationLink` of the link, `Topics`, `Broker` (with its `Session` and
//! `Partition`s) of replication, over the fake store.
//!
//! ```text
//!  source brokers ◄── request, answer ── source half (members) ◄── connections: loss, delay, order kept ──► destination half
//!    (model)                              SourceControl                (model)                       DestinationLink
//!                                                                                                    Topics, Broker, copies
//! ```

mod destination_half;
mod source_half;

use super::check::Checker;
use super::rng::Rng;
use super::source::{Asked, NODES, Source, TOPIC};
use hawser_link::reversal::{
    ControlFrame, DestinationEvent, DestinationLink, LeaseId, LinkOpen, MemberId, OpenAnswer, SourceControl,
    SourceEvent, Ticket,
};
use hawser_replicate::broker::{Broker, FetchBounds};
use hawser_replicate::partition::{Leader, Partition, Patience, Start};
use hawser_replicate::topics::Topics;
use hawser_replicate::write::Write;
use hawser_store::{FakePartition, FakeStore};
use hawser_wire::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use hawser_wire::{NodeId, TopicPartition, Uuid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long faults go on.
const FAULTS: Duration = Duration::from_secs(6);
/// How long the copies may take to be whole afterwards.
const HEALING: Duration = Duration::from_secs(60);
/// A request without an answer for so long closes its connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// A fetch that finds nothing waits so long for news.
const LONG_POLL: Duration = Duration::from_millis(100);
/// How long one member is waited for before another one is asked beside it.
const ASK_NEXT_AFTER: Duration = Duration::from_millis(400);
/// What setting up a channel takes, in ms: on a short path, and on a long one, where nobody is ever in time for
/// `ASK_NEXT_AFTER` and everybody for the lease.
const SET_UP_MS: (i64, i64) = (1, 30);
const SLOW_SET_UP_MS: (i64, i64) = (450, 650);
/// `metadata.max.age.ms`: how long new partitions go unseen.
const METADATA_AGE_MAX: Duration = Duration::from_secs(2);
/// Events in one simulation; more means that something spins.
const STEPS_MAX: u64 = 200_000;

const PATIENCE: Patience = Patience {
    retry_backoff: Duration::from_millis(20),
    retry_backoff_max: Duration::from_millis(200),
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
    /// Nobody looks for what a failed flush lost.
    OverlooksLosses,
    /// A write takes the copy's end as it finds it for the one that it was ordered at.
    AppendsBlindly,
}

/// How a simulation ended well.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub batches: usize,
    pub truncations: usize,
    pub gaps: usize,
    pub crashes: usize,
    /// Failed flushes that took a copy's end back.
    pub losses: usize,
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
    /// When, and which of `events`; of two at one time the one that was noted first.
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
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
    set_up_ms: (i64, i64),
    recreated: bool,
    corrupt_next: bool,
    outcome: Outcome,
    trace: bool,
}

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
            set_up_ms: if seed % 4 == 1 { SLOW_SET_UP_MS } else { SET_UP_MS },
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
                Some(Reverse((at, _))) if due.is_none_or(|due| *at <= due) => {
                    let Some(Reverse((at, event))) = self.queue.pop() else { continue };
                    self.now = self.now.max(at);
                    if let Some(event) = self.events.remove(&event) {
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
        self.queue.push(Reverse((at, self.sequence)));
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
            83..88 => self.flush_one(),
            88..90 => self.background_flush_fails()?,
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
            // Or the source is idle from now on, and no new batch tells a copy that it is not whole.
            if self.rng.percent(50) {
                part.append(&mut self.rng);
            }
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
