//! The partitions that one fetcher mirrors from one source broker: their machines, the fetch session, the questions
//! besides fetches, and the timers. Pure; the shell and the simulation drive it alike.
//!
//! One Fetch and one question are outstanding at most. Every event is followed by a look at what its partition wants
//! now, so that a poll costs nothing for partitions to which nothing happened.

use crate::partition::{Event, FetchAt, Fetched, Leader, Partition, Report, Start, Want};
use crate::reason::Failure;
use crate::session::{Fetching, Plan, Session};
use crate::write::Write;
use hawser_store::Position;
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use hawser_wire::messages::fetch_response::PartitionData;
use hawser_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use hawser_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use hawser_wire::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, TopicName,
};
use hawser_wire::{LeaderEpoch, NodeId, Offset, StrBytes, TopicPartition, Uuid};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Fetch versions from this one on carry topic ids (KIP-516).
const FETCH_BY_ID: i16 = 13;
/// Fetch versions from this one on carry the epoch of the last fetched batch (KIP-595).
const FETCH_WITH_LINEAGE: i16 = 12;
/// Most partitions in one question, which bounds its request and its answer.
const ASK_PARTITIONS_MAX: usize = 2_000;
/// `replica_id` of a consumer.
const CONSUMER: i32 = -1;
/// ListOffsets timestamps with a meaning.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// What a Fetch may bring and how long the broker may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchBounds {
    /// `replica.fetch.wait.max.ms`.
    pub wait_ms_max: i32,
    /// `replica.fetch.min.bytes`.
    pub bytes_min: i32,
    /// Bytes of one answer; its first batch may exceed them.
    pub response_bytes_max: i32,
    /// Bytes of one partition in one answer while it keeps up. One that lags may fill the whole answer, so that fewer
    /// batches are cut off and fetched twice.
    pub partition_bytes_max: i32,
}

/// The machine.
#[derive(Debug)]
pub struct Broker {
    node: NodeId,
    bounds: FetchBounds,
    fetch_version: i16,
    session: Session,
    partitions: HashMap<TopicPartition, Entry>,
    topics: HashMap<Arc<str>, TopicUse>,
    names: HashMap<Uuid, Arc<str>>,
    timers: BTreeSet<(Instant, TopicPartition)>,
    asks: BTreeSet<TopicPartition>,
    opens: BTreeSet<TopicPartition>,
    leaving: BTreeSet<TopicPartition>,
    /// In trouble, and fetched again.
    trying: BTreeSet<TopicPartition>,
    stale: BTreeSet<Arc<str>>,
    reports: Vec<(TopicPartition, Report)>,
    /// What [`Store::losses`](hawser_store::Store::losses) was when the copies were looked at last.
    losses_seen: u64,
}

#[derive(Debug)]
struct Entry {
    machine: Partition,
    topic_id: Uuid,
    timer: Option<Instant>,
}

#[derive(Debug)]
struct TopicUse {
    id: Uuid,
    partitions: usize,
}

/// A question besides fetches, and what each partition wanted when it was asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Where logs begin, end, or reach a time.
    Offsets(ListOffsetsRequest, Vec<(TopicPartition, Want)>),
    /// Where leader epochs end.
    Epochs(OffsetForLeaderEpochRequest, Vec<(TopicPartition, Want)>),
}

/// Looks up where a partition's copy stands, if it is open.
pub type PositionOf<'a> = &'a dyn Fn(&TopicPartition) -> Option<Position>;

/// Looks up `end_of_epoch` in a partition's copy.
pub type EndOfEpoch<'a> = &'a dyn Fn(&TopicPartition, LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;

impl Broker {
    /// No partitions yet; `losses` is what the store's are.
    pub fn new(node: NodeId, bounds: FetchBounds, losses: u64) -> Self {
        Self {
            node,
            bounds,
            fetch_version: 0,
            session: Session::default(),
            partitions: HashMap::new(),
            topics: HashMap::new(),
            names: HashMap::new(),
            timers: BTreeSet::new(),
            asks: BTreeSet::new(),
            opens: BTreeSet::new(),
            leaving: BTreeSet::new(),
            trying: BTreeSet::new(),
            stale: BTreeSet::new(),
            reports: Vec::new(),
            losses_seen: losses,
        }
    }

    /// Which broker.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// A connection stands on which the broker speaks Fetch up to `fetch_version`.
    pub fn connected(&mut self, fetch_version: i16) {
        self.fetch_version = fetch_version;
        self.session.forget();
        for entry in self.partitions.values_mut() {
            entry.machine.set_lineage_in_fetch(fetch_version >= FETCH_WITH_LINEAGE);
        }
    }

    /// Changes what a fetch may bring, from the next request on.
    pub fn set_bounds(&mut self, bounds: FetchBounds) {
        self.bounds = bounds;
    }

    /// What a fetch may bring.
    pub fn bounds(&self) -> FetchBounds {
        self.bounds
    }

    /// Highest Fetch version to use: below 13 while a topic has no id.
    pub fn fetch_version(&self) -> i16 {
        let nameless = self.topics.values().all(|topic| !topic.id.is_nil());
        if nameless { self.fetch_version } else { self.fetch_version.min(FETCH_BY_ID - 1) }
    }

    /// Takes a partition over. `topic_id` is its topic's id at the source, nil if there is none; `position` is where its copy
    /// stands, if it is open: something of it may have been lost on the way here.
    pub fn assign(
        &mut self,
        id: TopicPartition,
        topic_id: Uuid,
        mut machine: Partition,
        position: Option<Position>,
        now: Instant,
    ) {
        machine.set_lineage_in_fetch(self.fetch_version >= FETCH_WITH_LINEAGE);
        let before = self.fetch_version();
        let topic = self.topics.entry(id.topic.clone()).or_insert(TopicUse { id: topic_id, partitions: 0 });
        topic.partitions += 1;
        topic.id = topic_id;
        self.names.insert(topic_id, id.topic.clone());
        self.partitions.insert(id.clone(), Entry { machine, topic_id, timer: None });
        if before != self.fetch_version() {
            self.session.reset(); // names and ids cannot share a session
        }
        self.settle(&id);
        if let Some(position) = position {
            let write = self.on(&id, Event::Looked(position), now);
            debug_assert!(write.is_none(), "a look orders no write");
        }
    }

    /// Looks at where the copies stand, if `losses` ([`Store::losses`](hawser_store::Store::losses)) has changed: what the
    /// disk lost of an idle partition would show at its next append only, and until then the copy would pass for whole. Those
    /// that are shorter than they were are fetched again, and given back. To be called while nothing is written; writes that
    /// come later find it out by themselves.
    pub fn look_for_losses(&mut self, losses: u64, position: PositionOf<'_>, now: Instant) -> Vec<TopicPartition> {
        if std::mem::replace(&mut self.losses_seen, losses) == losses {
            return Vec::new();
        }
        let shorter = self.partitions.iter().filter_map(|(id, entry)| {
            let position = position(id)?;
            (position.log_end < entry.machine.position().log_end).then(|| (id.clone(), position))
        });
        let mut shorter: Vec<_> = shorter.collect();
        shorter.sort_unstable_by(|(a, _), (b, _)| a.cmp(b)); // alike in every run of the simulation
        for (id, position) in &shorter {
            let write = self.on(id, Event::Looked(*position), now);
            debug_assert!(write.is_none(), "a look orders no write");
        }
        shorter.into_iter().map(|(id, _)| id).collect()
    }

    /// Gives a partition back. Its copy must not be moved while [`Partition::is_writing`].
    pub fn release(&mut self, id: &TopicPartition) -> Option<Partition> {
        let entry = self.partitions.remove(id)?;
        self.session.drop(id);
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id.clone()));
        }
        for set in [&mut self.asks, &mut self.opens, &mut self.leaving, &mut self.trying] {
            set.remove(id);
        }
        if let Some(topic) = self.topics.get_mut(&id.topic) {
            topic.partitions -= 1;
            if topic.partitions == 0
                && let Some(gone) = self.topics.remove(&id.topic)
            {
                self.names.remove(&gone.id);
            }
        }
        Some(entry.machine)
    }

    /// One partition's machine.
    pub fn partition(&self, id: &TopicPartition) -> Option<&Partition> {
        self.partitions.get(id).map(|entry| &entry.machine)
    }

    /// All partitions, in no order.
    pub fn partitions(&self) -> impl Iterator<Item = (&TopicPartition, &Partition)> {
        self.partitions.iter().map(|(id, entry)| (id, &entry.machine))
    }

    /// Feeds an event to a partition and looks at what it wants then.
    pub fn on(&mut self, id: &TopicPartition, event: Event, now: Instant) -> Option<Write> {
        let entry = self.partitions.get_mut(id)?;
        if matches!(event, Event::StoreFailed(..)) {
            self.session.missed(id);
        }
        let actions = entry.machine.on(event, now);
        if actions.refresh {
            self.stale.insert(id.topic.clone());
        }
        self.reports.extend(actions.reports.into_iter().map(|report| (id.clone(), report)));
        self.settle(id);
        actions.write
    }

    /// When [`Broker::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Fires what is due. A deadline never orders a write by itself, so there is nothing to perform.
    pub fn tick(&mut self, now: Instant) {
        let due: Vec<_> = self.timers.iter().take_while(|(at, _)| *at <= now).cloned().collect();
        for timer in due {
            self.timers.remove(&timer);
            let (_, id) = timer;
            if let Some(entry) = self.partitions.get_mut(&id) {
                entry.timer = None;
            }
            let write = self.on(&id, Event::Tick, now);
            debug_assert!(write.is_none(), "a deadline orders no write");
        }
    }

    /// The next Fetch; `None` while there is nothing to fetch. One at a time.
    pub fn fetch_request(&mut self) -> Option<FetchRequest> {
        if self.session.is_empty() {
            return None;
        }
        let by_id = self.fetch_version() >= FETCH_BY_ID;
        let with_lineage = self.fetch_version() >= FETCH_WITH_LINEAGE;
        let Plan { session_id, session_epoch, send, forget } = self.session.plan();
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut current: Option<Arc<str>> = None;
        for (id, Fetching { topic_id, at, bytes_max }) in send {
            let FetchAt { offset, leader_epoch, last_epoch } = at;
            let partition = FetchPartition::default()
                .with_partition(id.partition)
                .with_current_leader_epoch(leader_epoch.0)
                .with_fetch_offset(offset.0)
                .with_last_fetched_epoch(if with_lineage { last_epoch.0 } else { -1 })
                .with_log_start_offset(-1)
                .with_partition_max_bytes(bytes_max);
            match topics.last_mut() {
                Some(topic) if current.as_deref() == Some(&*id.topic) && topic.topic_id == topic_id => {
                    topic.partitions.push(partition);
                }
                _ => {
                    let name = if by_id { TopicName::default() } else { topic_name(&id.topic) };
                    topics.push(
                        FetchTopic::default().with_topic(name).with_topic_id(topic_id).with_partitions(vec![partition]),
                    );
                    current = Some(id.topic);
                }
            }
        }
        let mut forgotten: BTreeMap<(Arc<str>, Uuid), Vec<i32>> = BTreeMap::new();
        for (id, topic_id) in forget {
            forgotten.entry((id.topic, topic_id)).or_default().push(id.partition);
        }
        let forgotten = forgotten.into_iter().map(|((name, topic_id), partitions)| {
            let name = if by_id { TopicName::default() } else { topic_name(&name) };
            ForgottenTopic::default().with_topic(name).with_topic_id(topic_id).with_partitions(partitions)
        });
        Some(
            FetchRequest::default()
                .with_replica_id(CONSUMER.into())
                .with_max_wait_ms(self.bounds.wait_ms_max)
                .with_min_bytes(self.bounds.bytes_min)
                .with_max_bytes(self.bounds.response_bytes_max)
                .with_session_id(session_id)
                .with_session_epoch(session_epoch)
                .with_topics(topics)
                .with_forgotten_topics_data(forgotten.collect()),
        )
    }

    /// The Fetch was answered. Returns the writes to perform; each is answered by [`Event::Stored`] or
    /// [`Event::StoreFailed`] before the next answer is given in.
    pub fn fetched(
        &mut self,
        answer: FetchResponse,
        end_of_epoch: EndOfEpoch<'_>,
        now: Instant,
    ) -> Vec<(TopicPartition, Write)> {
        if !self.session.answered(answer.error_code, answer.session_id) {
            return Vec::new();
        }
        let mut writes = Vec::new();
        let mut unnamed = self.trying.clone();
        for topic in answer.responses {
            let name = if topic.topic_id.is_nil() {
                self.topics.get_key_value(topic.topic.0.as_str()).map(|(name, _)| name.clone())
            } else {
                self.names.get(&topic.topic_id).cloned()
            };
            let Some(name) = name else { continue };
            for data in topic.partitions {
                let id = TopicPartition { topic: name.clone(), partition: data.partition_index };
                unnamed.remove(&id);
                if let Some(write) = self.partition_fetched(&id, data, end_of_epoch, now) {
                    writes.push((id, write));
                }
            }
        }
        for id in unnamed {
            let asked = self.session.asked(&id).map(|fetching| Want::Fetch(fetching.at));
            if asked.is_some() && asked == self.partitions.get(&id).map(|entry| entry.machine.want()) {
                let write = self.on(&id, Event::NoNews, now);
                debug_assert!(write.is_none(), "no news order no write");
            }
        }
        writes
    }

    fn partition_fetched(
        &mut self,
        id: &TopicPartition,
        data: PartitionData,
        end_of_epoch: EndOfEpoch<'_>,
        now: Instant,
    ) -> Option<Write> {
        let asked = self.session.asked(id)?.at;
        let awaited = self.partitions.get(id).filter(|entry| entry.machine.want() == Want::Fetch(asked));
        let Some(Entry { machine, .. }) = awaited else {
            self.session.missed(id);
            return None; // asked before a write failed, the leader moved, or a pause
        };
        if machine.is_writing() {
            return None; // the answer names it twice, which no honest broker does
        }
        if data.error_code != 0 {
            let write = self.on(id, Event::Refused(data.error_code), now);
            let (node, epoch) = (data.current_leader.leader_id.0, data.current_leader.leader_epoch);
            if node >= 0 && epoch >= 0 {
                let leader = Leader { node: NodeId(node), epoch: LeaderEpoch(epoch) };
                return self.on(id, Event::Leader(leader), now).or(write);
            }
            return write;
        }
        let diverging = (LeaderEpoch(data.diverging_epoch.epoch), Offset(data.diverging_epoch.end_offset));
        if diverging.0 >= LeaderEpoch(0) && diverging.1 >= Offset(0) {
            self.session.missed(id); // the log start beside it, which the cut comes before
            let event = Event::EpochEnd { theirs: Some(diverging), ours: end_of_epoch(id, diverging.0) };
            return self.on(id, event, now);
        }
        let fetched = Fetched {
            high_watermark: Offset(data.high_watermark),
            log_start: Offset(data.log_start_offset),
            records: data.records.unwrap_or_default(),
        };
        self.on(id, Event::Fetched(fetched), now)
    }

    /// Whether the Fetch on its way only waits for new records, while there are others to fetch that it does not ask for.
    /// Proportional to the number of partitions if there are such.
    pub fn is_held_up(&self) -> bool {
        let is_caught_up = |(id, asked): (&TopicPartition, &Fetching)| {
            let entry = self.partitions.get(id);
            entry.is_none_or(|e| e.machine.source().high_watermark.is_some_and(|end| end <= asked.at.offset))
        };
        self.session.has_new() && self.session.all_asked().all(is_caught_up)
    }

    /// The Fetch got no answer, or not a readable one.
    pub fn fetch_failed(&mut self) {
        self.session.forget();
    }

    /// Whether [`Broker::ask`] would give a question.
    pub fn has_questions(&self) -> bool {
        !self.asks.is_empty()
    }

    /// The next question; `None` while there is none. One at a time.
    pub fn ask(&mut self) -> Option<Ask> {
        let mut offsets = Vec::new();
        let mut epochs = Vec::new();
        for id in &self.asks {
            let Some(entry) = self.partitions.get(id) else { continue };
            match entry.machine.want() {
                want @ Want::Offset { .. } => offsets.push((id.clone(), want)),
                want @ Want::EpochEnd { .. } => epochs.push((id.clone(), want)),
                _ => {}
            }
        }
        let (mut asked, is_epochs) = if epochs.is_empty() { (offsets, false) } else { (epochs, true) };
        asked.truncate(ASK_PARTITIONS_MAX);
        for (id, _) in &asked {
            self.asks.remove(id);
        }
        match (asked.is_empty(), is_epochs) {
            (true, _) => None,
            (false, true) => Some(Ask::Epochs(epochs_request(&asked), asked)),
            (false, false) => Some(Ask::Offsets(offsets_request(&asked), asked)),
        }
    }

    /// The answer to [`Ask::Offsets`]; as [`Broker::fetched`].
    pub fn told_offsets(
        &mut self,
        asked: &[(TopicPartition, Want)],
        answer: &ListOffsetsResponse,
        now: Instant,
    ) -> Vec<(TopicPartition, Write)> {
        let mut events = HashMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let event = match partition.error_code {
                    0 => Event::Offset((partition.offset >= 0).then_some(Offset(partition.offset))),
                    code => Event::Refused(code),
                };
                events.insert((topic.name.0.as_str(), partition.partition_index), event);
            }
        }
        self.told(asked, now, |id| events.remove(&(&*id.topic, id.partition)))
    }

    /// The answer to [`Ask::Epochs`]; as [`Broker::fetched`].
    pub fn told_epochs(
        &mut self,
        asked: &[(TopicPartition, Want)],
        answer: &OffsetForLeaderEpochResponse,
        end_of_epoch: EndOfEpoch<'_>,
        now: Instant,
    ) -> Vec<(TopicPartition, Write)> {
        let mut answers = HashMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                answers.insert((topic.topic.0.as_str(), partition.partition), partition);
            }
        }
        self.told(asked, now, |id| {
            let answer = answers.remove(&(&*id.topic, id.partition))?;
            if answer.error_code != 0 {
                return Some(Event::Refused(answer.error_code));
            }
            let (epoch, end) = (LeaderEpoch(answer.leader_epoch), Offset(answer.end_offset));
            let theirs = (epoch >= LeaderEpoch(0) && end >= Offset(0)).then_some((epoch, end));
            let ours = theirs.and_then(|(epoch, _)| end_of_epoch(id, epoch));
            Some(Event::EpochEnd { theirs, ours })
        })
    }

    /// The question got no answer: it is asked again.
    pub fn ask_failed(&mut self, asked: &[(TopicPartition, Want)]) {
        for (id, _) in asked {
            self.settle(id);
        }
    }

    fn told<'a>(
        &mut self,
        asked: &'a [(TopicPartition, Want)],
        now: Instant,
        mut event_of: impl FnMut(&'a TopicPartition) -> Option<Event>,
    ) -> Vec<(TopicPartition, Write)> {
        let mut writes = Vec::new();
        for (id, want) in asked {
            let still = self.partitions.get(id).is_some_and(|entry| entry.machine.want() == *want);
            match event_of(id) {
                Some(event) if still => writes.extend(self.on(id, event, now).map(|write| (id.clone(), write))),
                Some(_) | None => self.settle(id), // asked under another leader, or left out of the answer
            }
        }
        writes
    }

    /// Partitions whose copy is to be opened.
    pub fn take_opens(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.opens).into_iter().collect()
    }

    /// Partitions that are led by another broker now and may be moved (nothing is being written).
    pub fn take_leaving(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.leaving).into_iter().collect()
    }

    /// Topics whose metadata should be asked for.
    pub fn take_stale(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.stale).into_iter().collect()
    }

    /// What the operator should learn of, in order.
    pub fn take_reports(&mut self) -> Vec<(TopicPartition, Report)> {
        std::mem::take(&mut self.reports)
    }

    /// Ends all partitions of a topic.
    pub fn fail_topic(&mut self, topic: &str, failure: &Failure, now: Instant) {
        let ids: Vec<_> = self.partitions.keys().filter(|id| &*id.topic == topic).cloned().collect();
        for id in ids {
            let write = self.on(&id, Event::Fail(failure.clone()), now);
            debug_assert!(write.is_none(), "a dead end orders no write");
        }
    }

    /// Puts a partition into the sets that its want belongs to, and takes it out of the others.
    fn settle(&mut self, id: &TopicPartition) {
        let Some(entry) = self.partitions.get_mut(id) else { return };
        let (machine, deadline) = (&entry.machine, entry.machine.deadline());
        if entry.timer != deadline {
            if let Some(at) = entry.timer.take() {
                self.timers.remove(&(at, id.clone()));
            }
            entry.timer = deadline;
            self.timers.extend(deadline.map(|at| (at, id.clone())));
        }
        if machine.leader().is_some_and(|leader| leader.node != self.node) {
            self.session.drop(id);
            self.asks.remove(id);
            self.trying.remove(id);
            if !machine.is_writing() {
                self.leaving.insert(id.clone());
            }
            return;
        }
        let mut asks = false;
        if machine.trouble().is_some() && matches!(machine.want(), Want::Fetch(_)) {
            self.trying.insert(id.clone());
        } else {
            self.trying.remove(id);
        }
        match machine.want() {
            Want::Fetch(at) => {
                let lags = machine.source().high_watermark.is_some_and(|end| end > at.offset);
                let FetchBounds { response_bytes_max, partition_bytes_max, .. } = self.bounds;
                let bytes_max = if lags { response_bytes_max } else { partition_bytes_max };
                self.session.want(id, Fetching { topic_id: entry.topic_id, at, bytes_max });
            }
            Want::Offset { .. } | Want::EpochEnd { .. } => {
                asks = true;
                self.session.drop(id);
            }
            Want::Open => {
                self.opens.insert(id.clone());
            }
            Want::Leader | Want::Nothing => self.session.drop(id),
        }
        if asks {
            self.asks.insert(id.clone());
        } else {
            self.asks.remove(id);
        }
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn by_topic(asked: &[(TopicPartition, Want)]) -> BTreeMap<&Arc<str>, Vec<(i32, Want)>> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (id, want) in asked {
        topics.entry(&id.topic).or_default().push((id.partition, *want));
    }
    topics
}

fn offsets_request(asked: &[(TopicPartition, Want)]) -> ListOffsetsRequest {
    let topics = by_topic(asked).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().filter_map(|(index, want)| match want {
            Want::Offset { at, leader_epoch } => {
                let timestamp = match at {
                    Start::Earliest => EARLIEST,
                    Start::Latest => LATEST,
                    Start::Timestamp(ms) => ms.max(0),
                };
                let partition = ListOffsetsPartition::default().with_partition_index(index);
                Some(partition.with_current_leader_epoch(leader_epoch.0).with_timestamp(timestamp))
            }
            _ => None,
        });
        ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions.collect())
    });
    ListOffsetsRequest::default().with_replica_id(CONSUMER.into()).with_topics(topics.collect())
}

fn epochs_request(asked: &[(TopicPartition, Want)]) -> OffsetForLeaderEpochRequest {
    let topics = by_topic(asked).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().filter_map(|(index, want)| match want {
            Want::EpochEnd { epoch, leader_epoch } => {
                let partition = OffsetForLeaderPartition::default().with_partition(index);
                Some(partition.with_current_leader_epoch(leader_epoch.0).with_leader_epoch(epoch.0))
            }
            _ => None,
        });
        OffsetForLeaderTopic::default().with_topic(topic_name(name)).with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochRequest::default().with_replica_id(CONSUMER.into()).with_topics(topics.collect())
}

#[cfg(test)]
mod tests;
