//! What operators see of a link's mirrors: a board that fetchers write to without waiting, snapshots of it, and a link's
//! counters. What a partition shows as a metric is made from the snapshots, so that its series go with it.

use crate::partition::{Partition, Phase, Report};
use crate::reason::{Failure, Trouble, TroubleKind};
use hawser_transport::{ClientError, LeaseError, Panicked};
use hawser_wire::Offset;
use metrics::{Counter, counter};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How old the last answer of a broker may be for a copy that held everything then to count as one that does now: ten
/// polls of the default `replica.fetch.wait.max.ms`.
const ANSWER_AGE_MS_MAX: i64 = 5_000;

/// The state of a mirror topic on this link, as far as replication knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// The source has not been asked yet, or the beginning is not fixed yet.
    Starting,
    /// Replicating.
    Active,
    /// Paused.
    Paused,
    /// The topic does not answer at the source; it is retried.
    SourceUnavailable(String),
    /// At a dead end.
    Failed(Failure),
}

/// One mirror topic at one moment.
#[derive(Clone, Debug)]
pub struct TopicStatus {
    /// Name here.
    pub topic: Arc<str>,
    /// Name at the source.
    pub source_topic: Arc<str>,
    /// State and reason.
    pub state: TopicState,
    /// Since when, ms since 1970.
    pub since_ms: i64,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionStatus>,
}

impl TopicStatus {
    /// Partition `index`, if it is known already.
    pub fn partition(&self, index: i32) -> Option<&PartitionStatus> {
        let at = self.partitions.binary_search_by_key(&index, |partition| partition.partition).ok()?;
        self.partitions.get(at)
    }
}

/// One mirror partition at one moment.
#[derive(Clone, Debug)]
pub struct PartitionStatus {
    /// Index.
    pub partition: i32,
    /// What it does.
    pub phase: Phase,
    /// What is in its way, until data flows again.
    pub trouble: Option<Trouble>,
    /// Why it stopped for good.
    pub failure: Option<Failure>,
    /// First offset held.
    pub log_start: Offset,
    /// One past the last offset held.
    pub log_end: Offset,
    /// The source's high watermark as last seen; `None` before the first answer.
    pub source_high_watermark: Option<Offset>,
    /// Records (offsets) that are still to come.
    pub lag_records: Option<i64>,
    /// Milliseconds since the copy was last known to hold everything; 0 if it does. A source that does not answer may have
    /// more: from then on it counts from its last answer.
    pub lag_ms: Option<i64>,
    /// When the source last answered for this partition, ms since 1970.
    pub last_fetch_ms: Option<i64>,
    /// Bytes appended since the mirror was added.
    pub bytes: u64,
}

/// Why the source gives no metadata.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unreachable {
    /// There is no connection.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// It did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Somebody else answers.
    #[error("the source calls itself cluster {found}, but this link was made to cluster {known}")]
    OtherCluster {
        /// The id of the cluster that answers.
        found: String,
        /// The id of the link's source cluster.
        known: String,
    },
    /// The coordinator failed by a bug of ours; it starts over after a while.
    #[error("replication {0}")]
    Panicked(#[from] Panicked),
}

/// All mirrors of a link at one moment.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Why the source cannot be reached, if it cannot.
    pub unreachable: Option<Unreachable>,
    /// Mirror topics by their names here.
    pub topics: Vec<TopicStatus>,
}

/// What the shell writes to.
#[derive(Debug)]
pub(crate) struct Board {
    topics: Mutex<BTreeMap<Arc<str>, Topic>>,
    unreachable: Mutex<Option<Unreachable>>,
}

#[derive(Debug)]
struct Topic {
    source_topic: Arc<str>,
    state: TopicState,
    since_ms: i64,
    partitions: BTreeMap<i32, Arc<PartitionBoard>>,
}

/// One partition's place on the board.
#[derive(Debug)]
pub(crate) struct PartitionBoard {
    log_start: AtomicI64,
    log_end: AtomicI64,
    high_watermark: AtomicI64,
    caught_up: AtomicBool,
    caught_up_ms: AtomicI64,
    batch_ms: AtomicI64,
    bytes: AtomicU64,
    state: Mutex<PartitionState>,
}

#[derive(Debug)]
struct PartitionState {
    phase: Phase,
    trouble: Option<Trouble>,
    failure: Option<Failure>,
    beat: Option<Beat>,
}

/// What a fetcher hears of its broker; every partition that it fetches shows it.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// When it last answered, ms since 1970; 0 for never.
    answered_ms: AtomicI64,
    /// Why it cannot be reached, until it can.
    lost: Mutex<Option<Trouble>>,
}

/// A fetcher's, for everybody who shows it.
pub(crate) type Beat = Arc<Pulse>;

impl Pulse {
    /// It answered a fetch.
    pub(crate) fn answered(&self, at_ms: i64) {
        self.answered_ms.store(at_ms, Ordering::Relaxed);
    }

    pub(crate) fn answered_ms(&self) -> i64 {
        self.answered_ms.load(Ordering::Relaxed)
    }

    /// It cannot be reached.
    pub(crate) fn lose(&self, why: &dyn std::fmt::Display) {
        *lock(&self.lost) = Some(Trouble { kind: TroubleKind::Unreachable, detail: why.to_string() });
    }

    /// It answers again.
    pub(crate) fn regain(&self) {
        *lock(&self.lost) = None;
    }

    fn lost(&self) -> Option<Trouble> {
        lock(&self.lost).clone()
    }
}

/// Counters of a link.
#[derive(Clone)]
pub(crate) struct LinkCounters {
    pub(crate) fetch_bytes: Counter,
    pub(crate) fetch_requests: Counter,
    pub(crate) gaps: Counter,
    pub(crate) truncations: Counter,
    pub(crate) failures: Counter,
    pub(crate) throttled_ms: Counter,
}

impl LinkCounters {
    pub(crate) fn new(link: &str) -> Self {
        let link = link.to_owned();
        Self {
            fetch_bytes: counter!("hawser_link_fetch_bytes_total", "link" => link.clone()),
            fetch_requests: counter!("hawser_link_fetch_requests_total", "link" => link.clone()),
            gaps: counter!("hawser_mirror_gaps_total", "link" => link.clone()),
            truncations: counter!("hawser_mirror_truncations_total", "link" => link.clone()),
            failures: counter!("hawser_mirror_failures_total", "link" => link.clone()),
            throttled_ms: counter!("hawser_link_throttled_ms_total", "link" => link),
        }
    }

    pub(crate) fn count(&self, report: &Report) {
        match report {
            Report::Gap { .. } => self.gaps.increment(1),
            Report::Truncated { .. } => self.truncations.increment(1),
            Report::Failed(_) => self.failures.increment(1),
            Report::Started { .. } | Report::Trouble(_) | Report::Recovered => {}
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Board {
    pub(crate) fn new() -> Self {
        Self { topics: Mutex::default(), unreachable: Mutex::default() }
    }

    pub(crate) fn add(&self, topic: Arc<str>, source_topic: Arc<str>, state: TopicState) {
        let added = Topic { source_topic, state, since_ms: now_ms(), partitions: BTreeMap::new() };
        lock(&self.topics).insert(topic, added);
    }

    pub(crate) fn remove(&self, topic: &str) {
        lock(&self.topics).remove(topic);
    }

    pub(crate) fn set_state(&self, topic: &str, state: TopicState) {
        if let Some(topic) = lock(&self.topics).get_mut(topic)
            && topic.state != state
        {
            (topic.state, topic.since_ms) = (state, now_ms());
        }
    }

    pub(crate) fn unreachable(&self) -> Option<Unreachable> {
        lock(&self.unreachable).clone()
    }

    pub(crate) fn set_unreachable(&self, why: Option<Unreachable>) {
        *lock(&self.unreachable) = why;
    }

    /// A place for one more partition of `topic`.
    pub(crate) fn place(&self, topic: &str, partition: i32) -> Arc<PartitionBoard> {
        let place = Arc::new(PartitionBoard::new());
        if let Some(topic) = lock(&self.topics).get_mut(topic) {
            topic.partitions.insert(partition, place.clone());
        }
        place
    }

    pub(crate) fn source_high_watermark(&self, topic: &str, partition: i32) -> Option<Offset> {
        let topics = lock(&self.topics);
        let place = topics.get(topic)?.partitions.get(&partition)?;
        Some(Offset(place.high_watermark.load(Ordering::Relaxed))).filter(|offset| *offset >= Offset(0))
    }

    pub(crate) fn snapshot(&self) -> LinkStatus {
        let now = now_ms();
        let topics = lock(&self.topics);
        let topics = topics.iter().map(|(name, topic)| TopicStatus {
            topic: name.clone(),
            source_topic: topic.source_topic.clone(),
            state: topic.state.clone(),
            since_ms: topic.since_ms,
            partitions: topic.partitions.iter().map(|(&index, place)| place.snapshot(index, now)).collect(),
        });
        LinkStatus { topics: topics.collect(), unreachable: self.unreachable() }
    }
}

impl PartitionBoard {
    fn new() -> Self {
        Self {
            log_start: AtomicI64::new(0),
            log_end: AtomicI64::new(0),
            high_watermark: AtomicI64::new(-1),
            caught_up: AtomicBool::new(false),
            caught_up_ms: AtomicI64::new(0),
            batch_ms: AtomicI64::new(0),
            bytes: AtomicU64::new(0),
            state: Mutex::new(PartitionState { phase: Phase::Starting, trouble: None, failure: None, beat: None }),
        }
    }

    /// Which fetcher's answers count as this partition's.
    pub(crate) fn follow(&self, beat: Option<Beat>) {
        lock(&self.state).beat = beat;
    }

    /// Takes over where the copy and the source stand. Lock-free: called for every partition of every answer.
    pub(crate) fn moved(&self, machine: &Partition, appended_bytes: usize, batch_ms: Option<i64>, beat_ms: i64) {
        let (position, source) = (machine.position(), machine.source());
        self.log_start.store(position.log_start.0, Ordering::Relaxed);
        self.log_end.store(position.log_end.0, Ordering::Relaxed);
        self.bytes.fetch_add(appended_bytes as u64, Ordering::Relaxed);
        if let Some(batch_ms) = batch_ms {
            self.batch_ms.store(batch_ms, Ordering::Relaxed);
        }
        if let Some(high_watermark) = source.high_watermark {
            self.high_watermark.store(high_watermark.0, Ordering::Relaxed);
            let caught_up = position.log_end >= high_watermark;
            if caught_up || self.caught_up.load(Ordering::Relaxed) {
                self.caught_up_ms.store(beat_ms, Ordering::Relaxed);
            }
            self.caught_up.store(caught_up, Ordering::Relaxed);
        }
    }

    /// Takes over phase and reasons.
    pub(crate) fn changed(&self, machine: &Partition) {
        let mut state = lock(&self.state);
        state.phase = machine.phase();
        state.trouble = machine.trouble().cloned();
        state.failure = machine.failure().cloned();
    }

    fn snapshot(&self, partition: i32, now_ms: i64) -> PartitionStatus {
        let state = lock(&self.state);
        let high_watermark = self.high_watermark.load(Ordering::Relaxed);
        let log_end = self.log_end.load(Ordering::Relaxed);
        let beat = state.beat.as_ref().map(|beat| beat.answered_ms()).filter(|&ms| ms > 0);
        let is_asking = matches!(state.phase, Phase::Starting | Phase::Fetching);
        let lost = state.beat.as_ref().filter(|_| is_asking).and_then(|beat| beat.lost());
        let known = high_watermark >= 0;
        PartitionStatus {
            partition,
            phase: if lost.is_some() { Phase::Waiting } else { state.phase },
            lag_ms: self.lag_ms(now_ms, high_watermark, log_end, beat, lost.is_some()),
            trouble: lost.or_else(|| state.trouble.clone()),
            failure: state.failure.clone(),
            log_start: Offset(self.log_start.load(Ordering::Relaxed)),
            log_end: Offset(log_end),
            source_high_watermark: known.then_some(Offset(high_watermark)),
            lag_records: known.then(|| (high_watermark - log_end).max(0)),
            last_fetch_ms: beat.filter(|_| known),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn lag_ms(
        &self,
        now_ms: i64,
        high_watermark: i64,
        log_end: i64,
        answered_ms: Option<i64>,
        is_lost: bool,
    ) -> Option<i64> {
        let unheard_ms = answered_ms.map_or(0, |at| (now_ms - at).max(0));
        let last_known_whole = match self.caught_up_ms.load(Ordering::Relaxed) {
            0 => self.batch_ms.load(Ordering::Relaxed), // never so far: as old as the newest record held
            ms => ms,
        };
        match high_watermark {
            ..0 => None,
            _ if log_end >= high_watermark && (is_lost || unheard_ms > ANSWER_AGE_MS_MAX) => Some(unheard_ms),
            _ if log_end >= high_watermark => Some(0),
            _ if last_known_whole <= 0 => None,
            _ => Some((now_ms - last_known_whole).max(0)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_lost_shows_on_its_partitions() {
        let (place, beat) = (PartitionBoard::new(), Beat::default());
        place.follow(Some(beat.clone()));
        place.high_watermark.store(50, Ordering::Relaxed);
        place.log_end.store(50, Ordering::Relaxed);
        lock(&place.state).phase = Phase::Fetching;
        let at = |now_ms| {
            let seen = place.snapshot(0, now_ms);
            (seen.phase, seen.lag_ms, seen.trouble.map(|trouble| trouble.to_string()))
        };
        beat.answered(10_000);
        assert_eq!(at(10_400), (Phase::Fetching, Some(0), None));
        // It hangs: nobody knows what it has by now.
        assert_eq!(at(15_001), (Phase::Fetching, Some(5_001), None));
        beat.lose(&"refused");
        assert_eq!(at(10_400), (Phase::Waiting, Some(400), Some("unreachable: refused".to_owned())));
        // Who does not ask waits for nobody.
        lock(&place.state).phase = Phase::Paused;
        assert_eq!(at(10_400).0, Phase::Paused);
        lock(&place.state).phase = Phase::Fetching;
        beat.regain();
        beat.answered(20_000);
        assert_eq!(at(20_100), (Phase::Fetching, Some(0), None));
    }
}
