//! Both ends of the reversal protocol driven by hand, over a network that loses what it is told to lose: at every step
//! a message is dropped, the connections are cut, or either half crashes and starts again. In the end the link must be
//! open, a channel must come, no ticket may have been honoured twice, and nothing may wait for ever.

use hawser_link::LinkName;
use hawser_link::reversal::*;
use hawser_wire::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use uuid::Uuid;

const NODE: NodeId = NodeId(3);
const BEAT: Duration = Duration::from_secs(1);
/// One way. Never zero: a world in which nothing takes time hides races.
const LATENCY: Duration = Duration::from_millis(7);
/// How long the source's shell waits for a channel's answer.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(3);

struct Seeded(u64);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// What goes wrong, once, when the step with that number is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The message of that step is lost and its connection lives on (worse than TCP would do).
    Lose,
    /// Every connection is cut; both ends notice.
    Cut,
    /// Every connection dies without a word (half-open): neither end notices by itself.
    Blackhole,
    SourceCrash,
    DestinationCrash,
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Packet {
    /// To the destination.
    Open {
        conn: u64,
        open: LinkOpen,
    },
    ToDestination {
        conn: u64,
        frame: ControlFrame,
    },
    FromSourceClosed {
        conn: u64,
    },
    /// To the source.
    Answer {
        conn: u64,
        answer: OpenAnswer,
    },
    ToSource {
        conn: u64,
        frame: ControlFrame,
    },
    FromDestinationClosed {
        conn: u64,
    },
}

/// Whom a connection belongs to at the source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Control { attempt: i64 },
    Channel { ticket: Ticket },
}

struct World {
    now: Instant,
    entropy: Seeded,
    source: SourceControl,
    source_epoch: i64,
    destination: DestinationLink,
    destination_cluster_pin: Option<String>,
    /// Connections by number, as the source knows them. A connection that is gone here delivers nothing.
    conns: BTreeMap<u64, Role>,
    black: BTreeSet<u64>,
    /// Channels whose `LinkOpen` is not answered yet, until when the shell waits.
    opening: BTreeMap<u64, Instant>,
    next_conn: u64,
    wire: VecDeque<(Instant, Packet)>,
    steps: u32,
    fault: (u32, Fault),
    redeemed: BTreeSet<Ticket>,
    delivered: BTreeMap<u64, u64>,
    failed: BTreeSet<u64>,
    next_lease: u64,
    wished: Option<u64>,
}

fn new_source(epoch: i64) -> SourceControl {
    SourceControl::new(SourceSettings {
        link: LinkName::new("l").unwrap(),
        source_cluster_id: "S".to_owned(),
        destination_cluster_id: Some("D".to_owned()),
        member: MemberId(Uuid::from_u128(7)),
        epoch,
        attempts_before: 0,
        backoff: Backoff::new(Duration::from_millis(50), BEAT),
        setup_timeout: Duration::from_secs(3),
        channels_max: 8,
        trial: false,
    })
}

fn new_destination(source_cluster_id: Option<String>) -> DestinationLink {
    DestinationLink::new(DestinationSettings {
        link_id: Uuid::from_u128(9),
        destination_cluster_id: "D".to_owned(),
        source_cluster_id,
        beat_interval: BEAT,
        beats_missed_max: 3,
        ask_next_after: Duration::from_secs(2),
    })
}

impl World {
    fn new(fault: (u32, Fault)) -> Self {
        Self {
            now: Instant::now(),
            entropy: Seeded(1),
            source: new_source(1),
            source_epoch: 1,
            destination: new_destination(None),
            destination_cluster_pin: None,
            conns: BTreeMap::new(),
            black: BTreeSet::new(),
            opening: BTreeMap::new(),
            next_conn: 1,
            wire: VecDeque::new(),
            steps: 0,
            fault,
            redeemed: BTreeSet::new(),
            delivered: BTreeMap::new(),
            failed: BTreeSet::new(),
            next_lease: 1,
            wished: None,
        }
    }

    fn send(&mut self, conn: u64, packet: Packet) {
        self.steps += 1;
        let (at, fault) = self.fault;
        if self.steps == at {
            match fault {
                Fault::None => {}
                Fault::Lose => return,
                Fault::Cut => return self.cut(),
                Fault::Blackhole => {
                    self.black.extend(self.conns.keys());
                    return;
                }
                Fault::SourceCrash => return self.crash_source(),
                Fault::DestinationCrash => return self.crash_destination(),
            }
        }
        if !self.black.contains(&conn) {
            self.wire.push_back((self.now + LATENCY, packet));
        }
    }

    /// Both ends notice.
    fn cut(&mut self) {
        for (conn, role) in std::mem::take(&mut self.conns) {
            self.wire.retain(|(_, p)| packet_conn(p) != conn);
            self.wire.push_back((self.now + LATENCY, Packet::FromSourceClosed { conn }));
            self.close_at_source(conn, role);
        }
    }

    fn close_at_source(&mut self, _conn: u64, role: Role) {
        let event = match role {
            Role::Control { attempt } => SourceEvent::Closed { attempt, reason: "cut".to_owned() },
            Role::Channel { ticket } => SourceEvent::ChannelClosed { ticket },
        };
        self.feed_source(event);
    }

    fn crash_source(&mut self) {
        for conn in std::mem::take(&mut self.conns).into_keys() {
            self.wire.retain(|(_, p)| packet_conn(p) != conn);
            self.wire.push_back((self.now + LATENCY, Packet::FromSourceClosed { conn }));
        }
        self.source_epoch += 1;
        self.source = new_source(self.source_epoch);
        self.start_source();
    }

    fn crash_destination(&mut self) {
        self.destination = new_destination(self.destination_cluster_pin.clone());
        self.delivered.clear();
        self.failed.clear();
        self.wished = None;
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        self.wire.retain(|(_, p)| !matches!(p, Packet::ToSource { .. } | Packet::Answer { .. }));
        for conn in conns {
            self.wire.retain(|(_, p)| packet_conn(p) != conn);
            self.wire.push_back((self.now + LATENCY, Packet::FromDestinationClosed { conn }));
        }
    }

    fn start_source(&mut self) {
        self.feed_source(SourceEvent::Nodes(vec![Node { id: NODE, near: true }]));
        self.feed_source(SourceEvent::Start);
    }

    fn feed_source(&mut self, event: SourceEvent) {
        for action in self.source.on(event, self.now, &mut self.entropy) {
            match action {
                SourceAction::Dial { attempt } => {
                    let conn = self.next_conn;
                    self.next_conn += 1;
                    self.conns.insert(conn, Role::Control { attempt });
                    self.feed_source(SourceEvent::Dialled { attempt });
                }
                SourceAction::SendOpen { attempt, open } => {
                    if let Some(conn) = self.conn_of(Role::Control { attempt }) {
                        self.send(conn, Packet::Open { conn, open });
                    }
                }
                SourceAction::Send { attempt, frame } => {
                    if let Some(conn) = self.conn_of(Role::Control { attempt }) {
                        self.send(conn, Packet::ToDestination { conn, frame });
                    }
                }
                SourceAction::Disconnect { attempt } => {
                    if let Some(conn) = self.conn_of(Role::Control { attempt }) {
                        self.conns.remove(&conn);
                        self.send(conn, Packet::FromSourceClosed { conn });
                    }
                }
                SourceAction::OpenChannel { node, ticket, open } => {
                    assert_eq!(node, Some(NODE));
                    let conn = self.next_conn;
                    self.next_conn += 1;
                    self.conns.insert(conn, Role::Channel { ticket });
                    self.opening.insert(conn, self.now + CHANNEL_TIMEOUT);
                    self.send(conn, Packet::Open { conn, open });
                }
                SourceAction::AbandonChannels => {
                    let channels: Vec<u64> =
                        self.conns.iter().filter(|(_, r)| matches!(r, Role::Channel { .. })).map(|(c, _)| *c).collect();
                    for conn in channels {
                        self.conns.remove(&conn);
                        self.send(conn, Packet::FromSourceClosed { conn });
                    }
                }
            }
        }
    }

    fn feed_destination(&mut self, event: DestinationEvent) {
        for action in self.destination.on(event, self.now, &mut self.entropy) {
            match action {
                DestinationAction::Answer { conn, answer } => {
                    self.send(conn.0, Packet::Answer { conn: conn.0, answer })
                }
                DestinationAction::Send { conn, frame } => self.send(conn.0, Packet::ToSource { conn: conn.0, frame }),
                DestinationAction::Close { conn, .. } => {
                    self.delivered.retain(|_, c| *c != conn.0);
                    self.send(conn.0, Packet::FromDestinationClosed { conn: conn.0 });
                }
                DestinationAction::Deliver { lease, conn } => {
                    self.delivered.insert(lease.0, conn.0);
                }
                DestinationAction::Fail { lease, .. } => {
                    self.failed.insert(lease.0);
                }
                DestinationAction::PinSource(id) => self.destination_cluster_pin = Some(id),
            }
        }
    }

    fn conn_of(&self, role: Role) -> Option<u64> {
        self.conns.iter().find(|(_, r)| **r == role).map(|(conn, _)| *conn)
    }

    fn receive(&mut self, packet: Packet) {
        let conn = packet_conn(&packet);
        if self.black.contains(&conn) {
            return;
        }
        match packet {
            Packet::Open { conn, open } => self.feed_destination(DestinationEvent::Opened { conn: ConnId(conn), open }),
            Packet::ToDestination { conn, frame } => {
                self.feed_destination(DestinationEvent::Received { conn: ConnId(conn), frame });
            }
            Packet::FromSourceClosed { conn } => {
                self.delivered.retain(|_, c| *c != conn);
                self.feed_destination(DestinationEvent::Closed { conn: ConnId(conn) });
            }
            Packet::Answer { conn, answer } => self.answered(conn, answer),
            Packet::ToSource { conn, frame } => {
                if let Some(Role::Control { attempt }) = self.conns.get(&conn).copied() {
                    self.feed_source(SourceEvent::Received { attempt, frame });
                }
            }
            Packet::FromDestinationClosed { conn } => {
                if let Some(role) = self.conns.remove(&conn) {
                    self.close_at_source(conn, role);
                }
            }
        }
    }

    fn answered(&mut self, conn: u64, answer: OpenAnswer) {
        self.opening.remove(&conn);
        match (self.conns.get(&conn).copied(), answer) {
            (Some(Role::Control { attempt }), answer) => self.feed_source(SourceEvent::Answered { attempt, answer }),
            (Some(Role::Channel { ticket }), OpenAnswer::Accepted(_)) => {
                assert!(self.redeemed.insert(ticket), "a ticket was honoured twice");
                self.feed_source(SourceEvent::ChannelOpened { ticket });
            }
            (Some(Role::Channel { ticket }), OpenAnswer::Refused(_)) => {
                self.conns.remove(&conn);
                self.feed_source(SourceEvent::ChannelFailed { ticket, failure: ChannelFailure::Refused });
            }
            (None, _) => {}
        }
    }

    /// The source's shell gives up channels that are not answered.
    fn give_up_channels(&mut self) {
        let late: Vec<u64> = self.opening.iter().filter(|(_, at)| **at <= self.now).map(|(conn, _)| *conn).collect();
        for conn in late {
            self.opening.remove(&conn);
            let Some(Role::Channel { ticket }) = self.conns.remove(&conn) else { continue };
            self.send(conn, Packet::FromSourceClosed { conn });
            let failure = ChannelFailure::Ours(Refusal::new(RefusalCode::DialFailed));
            self.feed_source(SourceEvent::ChannelFailed { ticket, failure });
        }
    }

    /// Whatever comes next: a packet or a deadline, or `until`.
    fn advance(&mut self, until: Instant) {
        while self.now < until {
            let packet = self.wire.iter().map(|(at, _)| *at).min();
            let deadlines = [packet, self.source.deadline(), self.destination.deadline(), Some(until)];
            self.now = deadlines.into_iter().flatten().min().unwrap_or(until).max(self.now);
            if let Some(at) = self.wire.iter().position(|(at, _)| *at <= self.now) {
                let (_, packet) = self.wire.remove(at).unwrap();
                self.receive(packet);
            } else {
                if self.source.deadline().is_some_and(|d| d <= self.now) {
                    self.feed_source(SourceEvent::Tick);
                }
                if self.destination.deadline().is_some_and(|d| d <= self.now) {
                    self.feed_destination(DestinationEvent::Tick);
                }
            }
        }
    }

    /// As the replicator does: always one channel wanted.
    fn keep_one_channel(&mut self) {
        let satisfied = self.wished.is_some_and(|l| !self.failed.contains(&l) && (self.delivered.contains_key(&l)));
        let waiting = self.wished.is_some_and(|l| !self.failed.contains(&l) && !self.delivered.contains_key(&l))
            && self.destination.leases_waiting() > 0;
        if !satisfied && !waiting {
            let lease = self.next_lease;
            self.next_lease += 1;
            self.wished = Some(lease);
            let until = self.now + Duration::from_secs(10);
            self.feed_destination(DestinationEvent::Lease { lease: LeaseId(lease), node: Some(NODE), until });
        }
    }

    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while self.now < end {
            self.give_up_channels();
            self.keep_one_channel();
            self.advance((self.now + Duration::from_millis(100)).min(end));
        }
    }
}

fn packet_conn(packet: &Packet) -> u64 {
    match packet {
        Packet::Open { conn, .. }
        | Packet::ToDestination { conn, .. }
        | Packet::FromSourceClosed { conn }
        | Packet::Answer { conn, .. }
        | Packet::ToSource { conn, .. }
        | Packet::FromDestinationClosed { conn } => *conn,
    }
}

fn survive(fault: (u32, Fault)) -> u32 {
    let mut world = World::new(fault);
    world.start_source();
    world.run(Duration::from_secs(30));
    let steps = world.steps;
    let context = format!("{fault:?} after {steps} steps");
    assert_eq!(world.source.phase(), SourcePhase::Open, "{context}: {:?}", world.source.reason());
    assert_eq!(world.destination.members().len(), 1, "{context}");
    let lease = world.wished.expect("one was wished");
    let conn = *world.delivered.get(&lease).unwrap_or_else(|| panic!("{context}: no channel"));
    assert!(matches!(world.conns.get(&conn), Some(Role::Channel { .. })), "{context}: the channel is a dead one");
    assert!(!world.black.contains(&conn), "{context}");
    assert_eq!(world.destination.leases_waiting(), 0, "{context}: a lease leaked");
    assert_eq!(world.destination.tickets_issued(), 0, "{context}: a ticket leaked");
    assert_eq!(world.source.channels_opening(), 0, "{context}: a channel is half open at the source");
    assert_eq!(world.destination.channels_open(), 1, "{context}");
    assert_eq!(world.source.channels_open(), 1, "{context}");
    steps
}

#[test]
fn opens_without_faults() {
    assert!(survive((0, Fault::None)) > 20);
}

#[test]
fn survives_every_fault_at_every_step() {
    let steps = survive((0, Fault::None));
    for fault in [Fault::Lose, Fault::Cut, Fault::Blackhole, Fault::SourceCrash, Fault::DestinationCrash] {
        for at in 1..=steps.min(60) {
            survive((at, fault));
        }
    }
}

#[test]
fn the_last_faults_too_heal_within_bounds() {
    for fault in [Fault::Cut, Fault::SourceCrash, Fault::DestinationCrash] {
        let mut world = World::new((0, Fault::None));
        world.start_source();
        world.run(Duration::from_secs(5));
        world.fault = (world.steps + 1, fault);
        // The next beat triggers the fault; after it two seconds have to do.
        world.run(BEAT + Duration::from_secs(2));
        assert_eq!(world.source.phase(), SourcePhase::Open, "{fault:?}");
        assert_eq!(world.destination.channels_open(), 1, "{fault:?}");
    }
}
