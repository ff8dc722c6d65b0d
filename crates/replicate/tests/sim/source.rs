//! A model of the source cluster: three brokers, one topic, leaders that move cleanly and uncleanly, brokers that learn of
//! it late (a deposed leader serves its old log until then), a high watermark behind the log end, and every batch that
//! was ever there, so that a copy can be held against it.

use super::rng::Rng;
use bytes::Bytes;
use hawser_replicate::partition::Want;
use hawser_store::conformance::batch;
use hawser_wire::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData};
use hawser_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use hawser_wire::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use hawser_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset as EpochEnd, OffsetForLeaderTopicResult};
use hawser_wire::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use hawser_wire::{Batch, StrBytes, TopicPartition, Uuid};
use std::collections::BTreeMap;

pub const NODES: usize = 3;
pub const TOPIC: &str = "t";
/// Timestamp of the batch at offset 0; later ones are as many ms younger as their base offset.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

pub struct Source {
    pub topic_id: Uuid,
    pub parts: Vec<Part>,
    pub up: [bool; NODES],
    pub fetch_version: i16,
    sessions: [BTreeMap<i32, Session>; NODES],
    next_session: i32,
}

pub struct Part {
    pub log: Vec<Batch>,
    pub start: i64,
    /// Highest log start ever.
    pub start_max: i64,
    /// What the leader tells; behind `committed` for a while after the leader moved.
    pub high_watermark: i64,
    pub committed: i64,
    pub leader: usize,
    pub epoch: i32,
    pub error_code: i16,
    /// The leader has lost its table of epochs, and knows where none of them ends.
    pub amnesia: bool,
    /// Logs that were cut, as they were before.
    pub branches: Vec<Vec<Batch>>,
    /// Logs of topics that had this name before.
    pub past: Vec<Vec<Batch>>,
    epochs: Vec<(i32, i64)>,
    brokers: [Belief; NODES],
}

/// What one broker believes of the partition.
#[derive(Clone)]
struct Belief {
    leader: usize,
    epoch: i32,
    /// The log of a leader that was deposed and does not know it.
    frozen: Option<Frozen>,
}

#[derive(Clone)]
struct Frozen {
    log: Vec<Batch>,
    start: i64,
    high_watermark: i64,
    epoch: i32,
    epochs: Vec<(i32, i64)>,
}

/// What a broker answers from.
struct View<'a> {
    log: &'a [Batch],
    start: i64,
    high_watermark: i64,
    epochs: &'a [(i32, i64)],
}

#[derive(Default)]
struct Session {
    epoch: i32,
    wanted: Vec<Wanted>,
}

#[derive(Clone)]
struct Wanted {
    id: Uuid,
    partition: i32,
    leader_epoch: i32,
    offset: i64,
    last_epoch: i32,
    bytes_max: usize,
    told: (i64, i64),
}

impl Source {
    pub fn new(rng: &mut Rng) -> Self {
        let partitions = 1 + rng.index(3);
        Self {
            topic_id: Uuid::from_u128(u128::from(rng.next()) + 1),
            parts: (0..partitions).map(|_| Part::new(rng)).collect(),
            up: [true; NODES],
            fetch_version: [11, 12, 13, 16, 17][rng.index(5)],
            sessions: Default::default(),
            next_session: 1,
        }
    }

    /// Deletes the topic and makes another of its name.
    pub fn recreate(&mut self, rng: &mut Rng) {
        self.topic_id = Uuid::from_u128(u128::from(rng.next()) + 1);
        for part in &mut self.parts {
            let mut past = std::mem::take(&mut part.past);
            past.append(&mut part.branches);
            past.push(std::mem::take(&mut part.log));
            // Answers about the old topic may still be on their way: what it trimmed counts as trimmed.
            *part = Part { past, start_max: part.start_max, ..Part::new(rng) };
            (part.epoch, part.epochs) = (0, vec![(0, 0)]);
            (0..NODES).for_each(|node| part.learn(node));
        }
    }

    pub fn forget_sessions(&mut self, node: usize) {
        self.sessions[node].clear();
    }

    /// A fetch that was held back looked at the session twice.
    pub fn step_back(&mut self, node: usize, session_id: i32) {
        if let Some(session) = self.sessions[node].get_mut(&session_id) {
            session.epoch -= 1;
        }
    }

    /// The answer, and whether it should be sent at once.
    pub fn fetch(&mut self, node: usize, request: &FetchRequest, version: i16) -> (FetchResponse, bool) {
        let full = request.session_epoch <= 0;
        let mut session = match (full, self.sessions[node].remove(&request.session_id)) {
            (true, _) => Session::default(),
            (false, None) => return (FetchResponse::default().with_error_code(70), true),
            (false, Some(session)) if session.epoch != request.session_epoch => {
                return (FetchResponse::default().with_error_code(71), true);
            }
            (false, Some(session)) => session,
        };
        let by_id = version >= 13;
        for topic in &request.forgotten_topics_data {
            session.wanted.retain(|wanted| {
                !((!by_id || wanted.id == topic.topic_id) && topic.partitions.contains(&wanted.partition))
            });
        }
        for topic in &request.topics {
            for asked in &topic.partitions {
                let wanted = Wanted {
                    id: topic.topic_id,
                    partition: asked.partition,
                    leader_epoch: asked.current_leader_epoch,
                    offset: asked.fetch_offset,
                    last_epoch: asked.last_fetched_epoch,
                    bytes_max: asked.partition_max_bytes as usize,
                    told: (-1, -1),
                };
                let same =
                    |known: &&mut Wanted| known.partition == wanted.partition && (!by_id || known.id == wanted.id);
                match session.wanted.iter_mut().find(same) {
                    Some(known) => *known = Wanted { told: known.told, ..wanted },
                    None => session.wanted.push(wanted),
                }
            }
        }
        let mut room = request.max_bytes as usize;
        let mut topics: Vec<FetchableTopicResponse> = Vec::new();
        for wanted in &mut session.wanted {
            let same_topic = !by_id || wanted.id == self.topic_id;
            let data = match self.parts.get(wanted.partition as usize) {
                Some(part) if same_topic => part.fetch(node, wanted, room, room == request.max_bytes as usize),
                _ => PartitionData::default().with_error_code(if by_id { 100 } else { 3 }),
            };
            let bytes = data.records.as_ref().map_or(0, Bytes::len);
            let diverges = data.diverging_epoch.epoch >= 0;
            let told = (data.high_watermark, data.log_start_offset);
            room = room.saturating_sub(bytes);
            if full || bytes > 0 || data.error_code != 0 || diverges || told != wanted.told {
                wanted.told = told;
                let data = data.with_partition_index(wanted.partition);
                match topics.last_mut() {
                    Some(topic) if topic.topic_id == wanted.id || !by_id => topic.partitions.push(data),
                    _ if by_id => topics
                        .push(FetchableTopicResponse::default().with_topic_id(wanted.id).with_partitions(vec![data])),
                    _ => topics.push(FetchableTopicResponse::default().with_topic(name()).with_partitions(vec![data])),
                }
            }
        }
        let news = !topics.is_empty();
        let answer = FetchResponse::default().with_responses(topics);
        let answer = if full {
            session.epoch = 1;
            let id = self.next_session;
            self.next_session += 1;
            self.sessions[node].insert(id, session);
            answer.with_session_id(id)
        } else {
            session.epoch += 1;
            self.sessions[node].insert(request.session_id, session);
            answer.with_session_id(request.session_id)
        };
        (answer, news || full)
    }

    pub fn list_offsets(&self, node: usize, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                let Some(part) = self.parts.get(asked.partition_index as usize) else {
                    return answer.with_error_code(3);
                };
                let view = match part.view(node, asked.current_leader_epoch) {
                    Ok(view) => view,
                    Err(code) => return answer.with_error_code(code),
                };
                let settled = view.epochs.last().is_none_or(|&(_, start)| view.high_watermark >= start);
                match asked.timestamp {
                    -2 => answer.with_offset(view.start),
                    _ if !settled => answer.with_error_code(78), // KIP-207
                    -1 => answer.with_offset(view.high_watermark),
                    timestamp => {
                        let found = view.log.iter().find(|batch| {
                            let header = &batch.header;
                            let (from, to) = (header.base_offset.0, header.next_offset().0);
                            header.max_timestamp >= timestamp && to > view.start && from < view.high_watermark
                        });
                        answer.with_offset(found.map_or(-1, |batch| batch.header.base_offset.0.max(view.start)))
                    }
                }
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    pub fn epoch_ends(&self, node: usize, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let answer = EpochEnd::default().with_partition(asked.partition);
                let Some(part) = self.parts.get(asked.partition as usize) else { return answer.with_error_code(3) };
                match part.view(node, asked.current_leader_epoch) {
                    Ok(view) => {
                        let (epoch, end) = view.end_of_epoch(asked.leader_epoch);
                        answer.with_leader_epoch(epoch).with_end_offset(end)
                    }
                    Err(code) => answer.with_error_code(code),
                }
            });
            let partitions = partitions.collect();
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }

    /// As `node` believes.
    pub fn metadata(&self, node: usize) -> MetadataResponse {
        let partitions = self.parts.iter().zip(0..).map(|(part, index)| {
            let belief = &part.brokers[node];
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(belief.leader as i32 + 1))
                .with_leader_epoch(belief.epoch)
        });
        let topic = MetadataResponseTopic::default()
            .with_name(Some(name()))
            .with_topic_id(if self.fetch_version >= 13 { self.topic_id } else { Uuid::nil() })
            .with_partitions(partitions.collect());
        MetadataResponse::default().with_topics(vec![topic])
    }
}

impl Part {
    pub fn new(rng: &mut Rng) -> Self {
        let leader = rng.index(NODES);
        let epoch = rng.range(0, 3) as i32;
        let belief = Belief { leader, epoch, frozen: None };
        Self {
            log: Vec::new(),
            start: 0,
            start_max: 0,
            high_watermark: 0,
            committed: 0,
            leader,
            epoch,
            error_code: 0,
            amnesia: false,
            branches: Vec::new(),
            past: Vec::new(),
            epochs: vec![(epoch, 0)],
            brokers: std::array::from_fn(|_| belief.clone()),
        }
    }

    pub fn end(&self) -> i64 {
        self.log.last().map_or(0, |batch| batch.header.next_offset().0)
    }

    pub fn append(&mut self, rng: &mut Rng) {
        for _ in 0..=rng.index(4) {
            // A gap of compaction; not where an epoch begins, as Kafka itself would then not know where the last one ended.
            let within = self.log.last().is_some_and(|last| last.header.leader_epoch.0 == self.epoch);
            let gap = if within && rng.percent(20) { rng.range(1, 5) } else { 0 };
            self.log.push(batch(self.end() + gap, rng.range(1, 9) as i32, self.epoch));
        }
    }

    /// Followers have everything.
    pub fn commit(&mut self) {
        self.committed = self.end();
        self.high_watermark = self.end();
    }

    pub fn trim(&mut self, rng: &mut Rng) {
        self.start = rng.range(self.start, self.high_watermark + 1).max(self.start);
        self.start_max = self.start_max.max(self.start);
    }

    /// Another leader, who has at least what was committed, unless `unclean`. The others learn of it later. Whether it
    /// brings back batches that were gone.
    pub fn lead(&mut self, node: usize, unclean: bool, rng: &mut Rng) -> bool {
        let keep =
            if unclean { rng.range(self.start, self.committed + 1) } else { rng.range(self.committed, self.end() + 1) };
        let kept = self.log.partition_point(|batch| batch.header.next_offset().0 <= keep);
        let frozen = Frozen {
            log: self.log.clone(),
            start: self.start,
            high_watermark: self.high_watermark,
            epoch: self.epoch,
            epochs: self.epochs.clone(),
        };
        if node != self.leader && self.brokers[self.leader].epoch == self.epoch {
            self.brokers[self.leader].frozen = Some(frozen);
        }
        let brings_back = unclean && !self.branches.is_empty() && rng.percent(30);
        if brings_back {
            // A replica that was left behind long ago, with a tail of its own.
            let old = self.branches[rng.index(self.branches.len())].clone();
            self.branches.push(std::mem::replace(&mut self.log, old));
            self.epochs.clear();
            for batch in &self.log {
                let (epoch, start) = (batch.header.leader_epoch.0, batch.header.base_offset.0);
                if self.epochs.last().is_none_or(|&(last, _)| last < epoch) {
                    self.epochs.push((epoch, start));
                }
            }
        } else if kept < self.log.len() {
            self.branches.push(self.log.clone());
            self.log.truncate(kept);
        }
        let end = self.end();
        self.start = self.start.min(end);
        self.committed = self.committed.min(end);
        self.high_watermark = rng.range(self.start, self.committed + 1);
        self.leader = node;
        self.epoch += 1;
        // `LeaderEpochFileCache.assign`: the epoch begins at the log end; entries at or above it are gone.
        self.epochs.retain(|&(_, start)| start < end);
        self.epochs.push((self.epoch, end));
        brings_back
    }

    /// `node` learns how things are.
    pub fn learn(&mut self, node: usize) {
        self.brokers[node] = Belief { leader: self.leader, epoch: self.epoch, frozen: None };
    }

    fn view(&self, node: usize, asked_epoch: i32) -> Result<View<'_>, i16> {
        let belief = &self.brokers[node];
        let fence = |epoch: i32| match asked_epoch {
            asked if asked >= 0 && asked < epoch => Err(74_i16),
            asked if asked > epoch => Err(75),
            _ => Ok(()),
        };
        if self.error_code != 0 {
            return Err(self.error_code);
        }
        if let Some(frozen) = &belief.frozen {
            fence(frozen.epoch)?;
            return Ok(View {
                log: &frozen.log,
                start: frozen.start,
                high_watermark: frozen.high_watermark,
                epochs: &frozen.epochs,
            });
        }
        if self.leader != node || belief.epoch != self.epoch {
            return Err(if asked_epoch > belief.epoch { 75 } else { 6 });
        }
        fence(self.epoch)?;
        let epochs: &[_] = if self.amnesia { &[] } else { &self.epochs };
        Ok(View { log: &self.log, start: self.start, high_watermark: self.high_watermark, epochs })
    }

    fn fetch(&self, node: usize, wanted: &Wanted, room: usize, at_least_one: bool) -> PartitionData {
        let data = PartitionData::default();
        let view = match self.view(node, wanted.leader_epoch) {
            Ok(view) => view,
            Err(code) => {
                let belief = &self.brokers[node];
                let hint = LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(belief.leader as i32 + 1))
                    .with_leader_epoch(belief.epoch);
                let data = data.with_error_code(code);
                return if matches!(code, 6 | 74) { data.with_current_leader(hint) } else { data };
            }
        };
        // `Partition.readRecords`
        if wanted.last_epoch >= 0 {
            let (epoch, end) = view.end_of_epoch(wanted.last_epoch);
            if epoch < 0 || wanted.offset < view.start {
                return data.with_error_code(1);
            }
            if epoch < wanted.last_epoch || end < wanted.offset {
                let diverging = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
                return data
                    .with_high_watermark(view.high_watermark)
                    .with_log_start_offset(view.start)
                    .with_diverging_epoch(diverging);
            }
        }
        if wanted.offset < view.start || wanted.offset > view.end() {
            return data.with_error_code(1);
        }
        let mut records = Vec::new();
        let limit = room.min(wanted.bytes_max);
        for batch in view.log {
            let (from, to) = (batch.header.base_offset.0, batch.header.next_offset().0);
            if to <= wanted.offset || from >= view.high_watermark {
                continue;
            }
            let whole = records.is_empty() && at_least_one;
            let left = limit.saturating_sub(records.len());
            if batch.bytes.len() > left && !whole {
                if !records.is_empty() {
                    records.extend_from_slice(&batch.bytes[..left]); // cut off
                }
                break;
            }
            records.extend_from_slice(&batch.bytes);
        }
        data.with_high_watermark(view.high_watermark)
            .with_log_start_offset(view.start)
            .with_records(Some(records.into()))
    }
}

impl View<'_> {
    fn end(&self) -> i64 {
        self.log.last().map_or(0, |batch| batch.header.next_offset().0)
    }

    /// `LeaderEpochFileCache.endOffsetFor`
    fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        match self.epochs.iter().position(|&(known, _)| known > epoch) {
            None if self.epochs.last().is_some_and(|&(known, _)| known == epoch) => (epoch, self.end()),
            None => (-1, -1),
            Some(0) => (epoch, self.epochs[0].1),
            Some(higher) => (self.epochs[higher - 1].0, self.epochs[higher].1),
        }
    }
}

/// Partitions of a question, which the simulation carries along with its answer.
pub type Asked = Vec<(TopicPartition, Want)>;

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}
