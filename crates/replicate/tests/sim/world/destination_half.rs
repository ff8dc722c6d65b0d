//! The destination half: its link, its fetchers with their copies, and what it keeps over its crashes.

use super::super::source::{Asked, TOPIC};
use super::{
    ASK_NEXT_AFTER, BOUNDS, Channel, Daemon, Dest, Happening, Line, METADATA_AGE_MAX, Message, Mutant, PATIENCE,
    REQUEST_TIMEOUT, Request, Response, Side, Use, World,
};
use hawser_link::reversal::{
    ConnId, ControlFrame, DestinationAction, DestinationEvent, DestinationLink, DestinationSettings, LeaseId,
};
use hawser_replicate::broker::{Ask, Broker};
use hawser_replicate::partition::{Event, Partition, Report, Start};
use hawser_replicate::topics::{Change, Topics};
use hawser_replicate::write::{Cut, Write, WriteError};
use hawser_store::{FakePartition, MirrorPartition, Position, Store, TopicSpec};
use hawser_wire::messages::FetchResponse;
use hawser_wire::{LeaderEpoch, NodeId, Offset, TopicPartition, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

impl World {
    pub(super) fn dest_starts(&mut self) {
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
            ask_next_after: ASK_NEXT_AFTER,
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

    pub(super) fn dest_crashes(&mut self) -> Result<(), String> {
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
        self.checker.shortened(&self.store, &self.source)?;
        self.after(10, 1_000, Happening::DestStarts);
        Ok(())
    }

    /// An fsync that failed takes copies back to the last good one, while the daemon stays up: one copy, or all on the disk,
    /// which perhaps takes nothing for a while.
    pub(super) fn background_flush_fails(&mut self) -> Result<(), String> {
        let (all, index) = (self.rng.percent(50), self.rng.index(self.source.parts.len()));
        let before: Vec<_> = self.store.partitions().iter().map(|id| self.store.position(id)).collect();
        self.store.lose_unflushed(|id| all || id.partition as usize == index);
        let after: Vec<_> = self.store.partitions().iter().map(|id| self.store.position(id)).collect();
        self.outcome.losses += before.iter().zip(&after).filter(|(before, after)| before != after).count();
        if self.rng.percent(50) {
            self.store.fail_appends(Some(std::io::ErrorKind::Other));
            self.after(50, 800, Happening::DiskMends);
        }
        self.checker.shortened(&self.store, &self.source)
    }

    pub(super) fn flush_one(&mut self) {
        let Some(dest) = &mut self.dest else { return };
        let index = self.rng.index(dest.copies.len());
        if let Some(copy) = dest.copies.values_mut().nth(index) {
            let _ = now_or_never(copy.flush()); // a full disk may refuse
        }
    }

    pub(super) fn dest_gets(&mut self, conn: u64, message: Message) -> Result<(), String> {
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

    pub(super) fn dest_on(&mut self, event: DestinationEvent) {
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
    pub(super) fn dest_line_down(&mut self, conn: u64) {
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

    pub(super) fn written(&mut self, node: i32, writes: Vec<(TopicPartition, Write)>) -> Result<(), String> {
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
            // Not asked of the copy, unless by mistake: its writer would have looked.
            let position = match self.mutant {
                Mutant::AppendsBlindly => copy.position(),
                _ => self.store.position(&id).expect("is open"),
            };
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
    pub(super) fn pump(&mut self) -> Result<(), String> {
        for _ in 0..8 {
            if !self.pump_once()? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn pump_once(&mut self) -> Result<bool, String> {
        let (now, instant, losses) = (self.now, self.instant(), self.store.losses());
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
                Line { broker: Broker::new(NodeId(node), BOUNDS, losses), writing: false, early: None }
            });
            let position = dest.copies.get(&id).map(FakePartition::position);
            line.broker.assign(id, topic_id, machine, position, instant);
            moved = true;
        }

        let mut reports = Vec::new();
        let mut leaving = Vec::new();
        for line in dest.lines.values_mut() {
            if !line.writing && self.mutant != Mutant::OverlooksLosses {
                let position = |id: &TopicPartition| dest.copies.get(id).map(FakePartition::position);
                moved |= !line.broker.look_for_losses(losses, &position, instant).is_empty();
            }
            for id in line.broker.take_opens() {
                let spec = TopicSpec { name: TOPIC.into(), id: Uuid::from_u128(77) };
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
    pub(super) fn wishes(&self, now: Duration) -> impl Iterator<Item = Duration> {
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

/// The fake store never waits.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the fake store waits"),
    }
}
