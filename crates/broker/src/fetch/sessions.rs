//! Incremental fetch sessions (KIP-227, `FetchSession`): what a client has asked for stays here, so that it need name
//! only what changes, and is told only what changed.
//!
//! Bounded in number and in partitions over all sessions. When the cache is full, the session that was unused for the
//! longest time makes room if that is more than [`EVICTION_AGE`]; otherwise the client gets session 0, which means
//! full fetches, and nothing breaks. A session belongs to the principal that began it.

use super::response::PartitionAnswer;
use hawser_wire::messages::FetchRequest;
use hawser_wire::messages::fetch_request::FetchPartition;
use hawser_wire::{ResponseError, Uuid};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `min.incremental.fetch.session.eviction.ms`.
const EVICTION_AGE: Duration = Duration::from_secs(120);
/// Session epochs (`FetchMetadata`).
const EPOCH_INITIAL: i32 = 0;
const EPOCH_FINAL: i32 = -1;
const NO_SESSION: i32 = 0;
/// Partitions that one request or one session may name: every one costs some hundred bytes while the request waits, so
/// that this bounds a connection's poll to some megabytes. Few clusters give one client a tenth of it.
const PARTITIONS_MAX: usize = 20_000;
/// Session ids are looked for at random this often before the client gets none.
const ID_ATTEMPTS: usize = 8;

/// A topic as the request names it: by name up to version 12, by id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TopicKey {
    pub(super) name: Arc<str>,
    pub(super) id: Uuid,
}

/// What is wanted of one partition.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) topic: TopicKey,
    pub(super) partition: i32,
    pub(super) offset: hawser_wire::Offset,
    pub(super) bytes_max: usize,
    /// −1 if the client does not say.
    pub(super) leader_epoch: i32,
    /// −1 if the client does not say.
    pub(super) last_fetched_epoch: i32,
}

/// A request resolved against its session.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) session_id: i32,
    pub(super) wants: Vec<Want>,
    session: Option<Arc<Mutex<Session>>>,
    is_incremental: bool,
}

pub(super) struct Sessions {
    slots_max: usize,
    partitions_max: usize,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    by_id: HashMap<i32, Slot>,
    partitions: usize,
}

struct Slot {
    session: Arc<Mutex<Session>>,
    last_used: Instant,
    /// As counted in `Cache::partitions`.
    partitions: usize,
}

#[derive(Debug)]
struct Session {
    owner: String,
    /// The epoch that the next request must carry.
    epoch: i32,
    uses_ids: bool,
    /// In the order in which partitions are read: those that gave records move to the end.
    order: Vec<Cached>,
    places: HashMap<(TopicKey, i32), usize>,
}

#[derive(Debug)]
struct Cached {
    want: Want,
    /// High watermark and log start as last told; `None` if the next answer must be told whatever it is.
    told: Option<(i64, i64)>,
}

impl Sessions {
    pub(super) fn new(slots_max: usize, partitions_max: usize) -> Self {
        Self { slots_max, partitions_max, cache: Mutex::default() }
    }

    /// `FetchManager.newContext`.
    pub(super) fn begin(&self, owner: &str, version: i16, request: FetchRequest) -> Result<Begun, ResponseError> {
        if named(&request) > PARTITIONS_MAX {
            return Err(ResponseError::InvalidRequest);
        }
        let (id, epoch) = (request.session_id, request.session_epoch);
        let uses_ids = version >= 13;
        let is_full = version < 7 || epoch == EPOCH_INITIAL || epoch == EPOCH_FINAL;
        if !is_full {
            return self.resume(owner, uses_ids, request);
        }
        if version >= 7 && id != NO_SESSION {
            self.close(id, owner);
        }
        let wants = wants_of(&request);
        if version < 7 || epoch == EPOCH_FINAL || wants.is_empty() {
            return Ok(Begun { session_id: NO_SESSION, wants, session: None, is_incremental: false });
        }
        let (session_id, session) = self.open(owner, uses_ids, &wants).unzip();
        Ok(Begun { session_id: session_id.unwrap_or(NO_SESSION), wants, session, is_incremental: false })
    }

    /// How many partitions a request will have at hand that it does not name: those of the session that it continues.
    pub(super) fn partitions(&self, version: i16, request: &FetchRequest) -> usize {
        let is_full = version < 7 || request.session_epoch == EPOCH_INITIAL || request.session_epoch == EPOCH_FINAL;
        let held = || self.cache().by_id.get(&request.session_id).map_or(0, |slot| slot.partitions);
        if is_full { 0 } else { held().saturating_add(named(request)).min(PARTITIONS_MAX) }
    }

    fn resume(&self, owner: &str, uses_ids: bool, request: FetchRequest) -> Result<Begun, ResponseError> {
        let id = request.session_id;
        let session = {
            let mut cache = self.cache();
            let slot = cache.by_id.get_mut(&id).ok_or(ResponseError::FetchSessionIdNotFound)?;
            slot.last_used = Instant::now();
            Arc::clone(&slot.session)
        };
        let (wants, partitions) = {
            let mut session = lock(&session);
            if session.owner != owner {
                return Err(ResponseError::FetchSessionIdNotFound);
            }
            if session.epoch != request.session_epoch {
                return Err(ResponseError::InvalidFetchSessionEpoch);
            }
            if session.uses_ids != uses_ids {
                return Err(ResponseError::FetchSessionTopicIdError);
            }
            // Epochs run from 1 and wrap to 1 (`FetchMetadata.nextEpoch`).
            session.epoch = session.epoch.checked_add(1).unwrap_or(1);
            session.change(&request);
            let wants = session.order.iter().take(PARTITIONS_MAX);
            (wants.map(|cached| cached.want.clone()).collect::<Vec<_>>(), session.order.len())
        };
        if partitions > PARTITIONS_MAX {
            self.close(id, owner);
            return Err(ResponseError::InvalidRequest);
        }
        if partitions == 0 || !self.recount(id, partitions) {
            // Empty, or grown beyond the bound: answered this once, then the client begins anew.
            self.close(id, owner);
        }
        Ok(Begun { session_id: id, wants, session: Some(session), is_incremental: true })
    }

    fn open(&self, owner: &str, uses_ids: bool, wants: &[Want]) -> Option<(i32, Arc<Mutex<Session>>)> {
        let mut session =
            Session { owner: owner.to_owned(), epoch: 1, uses_ids, order: Vec::new(), places: HashMap::new() };
        wants.iter().for_each(|want| session.put(want.clone()));
        let partitions = session.order.len();
        let mut cache = self.cache();
        if cache.by_id.len() >= self.slots_max {
            cache.evict_oldest();
        }
        if cache.by_id.len() >= self.slots_max || cache.partitions.saturating_add(partitions) > self.partitions_max {
            metrics::counter!("hawser_fetch_sessions_refused_total").increment(1);
            return None;
        }
        let id = (0..ID_ATTEMPTS).map(|_| random_id()).find(|id| *id > 0 && !cache.by_id.contains_key(id))?;
        let session = Arc::new(Mutex::new(session));
        let slot = Slot { session: Arc::clone(&session), last_used: Instant::now(), partitions };
        cache.by_id.insert(id, slot);
        cache.partitions += partitions;
        cache.report();
        Some((id, session))
    }

    fn close(&self, id: i32, owner: &str) {
        let mut cache = self.cache();
        // The order of locks is cache, then session, here and everywhere.
        if cache.by_id.get(&id).is_some_and(|slot| lock(&slot.session).owner == owner) {
            cache.remove(id);
        }
    }

    /// Notes how many partitions a session has now; whether that fits.
    fn recount(&self, id: i32, partitions: usize) -> bool {
        let mut cache = self.cache();
        let others = cache.partitions;
        let Some(slot) = cache.by_id.get_mut(&id) else { return true };
        let total = others.saturating_sub(slot.partitions).saturating_add(partitions);
        slot.partitions = partitions;
        cache.partitions = total;
        total <= self.partitions_max
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn evict_oldest(&mut self) {
        let oldest = self.by_id.iter().min_by_key(|(_, slot)| slot.last_used);
        if let Some((id, _)) = oldest.filter(|(_, slot)| slot.last_used.elapsed() >= EVICTION_AGE) {
            let id = *id;
            self.remove(id);
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.by_id.remove(&id) {
            self.partitions = self.partitions.saturating_sub(slot.partitions);
        }
        self.report();
    }

    fn report(&self) {
        metrics::gauge!("hawser_fetch_sessions").set(self.by_id.len() as f64);
        metrics::gauge!("hawser_fetch_session_partitions").set(self.partitions as f64);
    }
}

impl Session {
    fn put(&mut self, want: Want) {
        match self.places.get(&(want.topic.clone(), want.partition)) {
            Some(&place) => {
                if let Some(cached) = self.order.get_mut(place) {
                    cached.want = want;
                }
            }
            None => {
                self.places.insert((want.topic.clone(), want.partition), self.order.len());
                self.order.push(Cached { want, told: None });
            }
        }
    }

    /// Additions, changes and forgotten partitions (`FetchSession.update`).
    fn change(&mut self, request: &FetchRequest) {
        wants_of(request).into_iter().for_each(|want| self.put(want));
        let forgotten: HashSet<(TopicKey, i32)> = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| {
                let key = TopicKey { name: Arc::from(topic.topic.as_str()), id: topic.topic_id };
                topic.partitions.iter().map(move |partition| (key.clone(), *partition))
            })
            .collect();
        if !forgotten.is_empty() {
            self.order.retain(|cached| !forgotten.contains(&(cached.want.topic.clone(), cached.want.partition)));
            self.renumber();
        }
    }

    fn renumber(&mut self) {
        let keys = self.order.iter().map(|cached| (cached.want.topic.clone(), cached.want.partition));
        self.places = keys.zip(0..).collect();
    }
}

impl Begun {
    /// Whether it continues a session with more partitions than that.
    pub(super) fn is_above(&self, partitions: usize) -> bool {
        self.is_incremental && self.wants.len() > partitions
    }

    /// Which answers are due, and remembers them as told. A full fetch gets all; an incremental one those with records,
    /// an error, a divergence or moved watermarks (`CachedPartition.maybeUpdateResponseData`).
    pub(super) fn due(&self, answers: &[PartitionAnswer]) -> Vec<bool> {
        let Some(session) = &self.session else {
            return vec![true; answers.len()];
        };
        let mut session = lock(session);
        let mut gave_records = HashSet::new();
        let mut due = Vec::with_capacity(answers.len());
        for (want, answer) in self.wants.iter().zip(answers) {
            let key = (want.topic.clone(), want.partition);
            let marks = (answer.high_watermark, answer.log_start);
            let mut is_due = !self.is_incremental || !answer.records.is_empty() || answer.diverging.is_some();
            if let Some(&place) = session.places.get(&key)
                && let Some(cached) = session.order.get_mut(place)
            {
                is_due |= answer.error != 0 || cached.told != Some(marks);
                // After an error the next good answer is news.
                cached.told = (answer.error == 0).then_some(marks);
            }
            if !answer.records.is_empty() {
                gave_records.insert(key);
            }
            due.push(is_due);
        }
        if !gave_records.is_empty() && gave_records.len() < session.order.len() {
            // Fair to those that a full response left out.
            session.order.sort_by_cached_key(|cached| {
                gave_records.contains(&(cached.want.topic.clone(), cached.want.partition))
            });
            session.renumber();
        }
        due
    }
}

/// Everything that the request names and that is kept for a while: topics may be empty, partitions named twice.
fn named(request: &FetchRequest) -> usize {
    let wanted = request.topics.iter().map(|topic| topic.partitions.len().max(1));
    let forgotten = request.forgotten_topics_data.iter().map(|topic| topic.partitions.len().max(1));
    wanted.chain(forgotten).fold(0, usize::saturating_add)
}

/// What is wanted, each partition once: the last word on it counts, in the place of the first (`FetchRequest.fetchData`
/// is a `LinkedHashMap`).
fn wants_of(request: &FetchRequest) -> Vec<Want> {
    let mut wants: Vec<Want> = Vec::new();
    let mut places: HashMap<(TopicKey, i32), usize> = HashMap::new();
    for topic in &request.topics {
        let key = TopicKey { name: Arc::from(topic.topic.as_str()), id: topic.topic_id };
        for partition in &topic.partitions {
            let place = *places.entry((key.clone(), partition.partition)).or_insert(wants.len());
            match wants.get_mut(place) {
                Some(earlier) => *earlier = want(&key, partition),
                None => wants.push(want(&key, partition)),
            }
        }
    }
    wants
}

fn want(topic: &TopicKey, partition: &FetchPartition) -> Want {
    Want {
        topic: topic.clone(),
        partition: partition.partition,
        offset: hawser_wire::Offset(partition.fetch_offset),
        bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
    }
}

fn random_id() -> i32 {
    // 31 of the 122 random bits of a v4 id.
    let [a, b, c, d, ..] = Uuid::new_v4().into_bytes();
    i32::from_be_bytes([a & 0x7f, b, c, d])
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
