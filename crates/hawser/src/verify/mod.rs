//! `verify`: walks mirrors and their sources side by side and compares every byte of every batch, while both run; and
//! what they should have before that, partitions and a beginning.
//! The source's bytes are fetched anew over the link, the mirror's are read from the log: nothing that the replicator
//! believes is trusted. Runs in the daemon; callers ask how far it is.

mod compare;

use crate::lock::lock;
use crate::operations::{Refusal, RefusalCode, VerifyView};
use crate::remote::{self, Fetched};
use compare::{Compared, Finding, compare};
use hawser_log::{Logs, PartitionLog, Watermarks};
use hawser_sync::SourceError;
use hawser_transport::{Connector, KafkaClient, Target};
use hawser_wire::{BatchError, Offset, ResponseError, TopicPartition, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// Comparisons kept at a time, finished ones included: each holds a report, and a running one a few connections.
const VERIFICATIONS_MAX: usize = 16;
/// A comparison that nobody has asked about for this long is ended and forgotten.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);
/// Partitions compared side by side: each waits for the source's answers most of the time, and holds two batches.
const LANES: usize = 4;
/// Bytes asked for at a time, per partition: a whole batch comes even if larger.
const FETCH_BYTES: i32 = 4 << 20;
/// Findings after which a partition is given up: the first says what is wrong.
const FINDINGS_MAX: u64 = 100;
/// Notes and errors kept in a report.
const NOTES_MAX: usize = 100;
/// How often a broker that cannot answer is asked again before the partition is given up.
const ATTEMPTS_MAX: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// With `follow`, how often partitions are looked at for news.
const FOLLOW_POLL: Duration = Duration::from_millis(200);

/// All comparisons of a daemon.
#[derive(Default)]
pub(crate) struct Verifications {
    running: Mutex<BTreeMap<u64, Verification>>,
    last: AtomicU64,
}

struct Verification {
    view: Arc<Mutex<VerifyView>>,
    task: AbortOnDrop,
    /// When somebody last asked how far it is.
    asked: Instant,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What to compare.
pub(crate) struct Job {
    pub(crate) source: Arc<dyn Connector>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) topics: Vec<JobTopic>,
    pub(crate) follow: bool,
}

/// One mirror topic.
#[derive(Clone, Debug)]
pub(crate) struct JobTopic {
    pub(crate) mirror: String,
    pub(crate) source: String,
    /// The source topic's id as pinned when the mirror was made.
    pub(crate) source_id: Uuid,
    pub(crate) partitions: i32,
    /// Whether it follows its source still, so that it must have all of its partitions.
    pub(crate) follows: bool,
    /// Whether it began where its source did, so that it must hold all that the source holds below its end.
    pub(crate) is_whole: bool,
}

impl Verifications {
    /// Begins a comparison; gives its number.
    ///
    /// # Errors
    /// When too many are kept already.
    pub(crate) fn start(&self, job: Job) -> Result<u64, Refusal> {
        let mut running = lock(&self.running);
        running.retain(|_, verification| verification.asked.elapsed() < ABANDONED_AFTER);
        if running.len() >= VERIFICATIONS_MAX {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                format!("{VERIFICATIONS_MAX} comparisons are running or not collected yet"),
            ));
        }
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let view = Arc::new(Mutex::new(VerifyView::default()));
        let task = AbortOnDrop(tokio::spawn(run(Arc::new(job), view.clone())));
        running.insert(id, Verification { view, task, asked: Instant::now() });
        Ok(id)
    }

    /// How far comparison `id` is.
    ///
    /// # Errors
    /// When there is none of that number.
    pub(crate) fn status(&self, id: u64) -> Result<VerifyView, Refusal> {
        let mut running = lock(&self.running);
        let verification = running.get_mut(&id).ok_or_else(|| not_found(id))?;
        verification.asked = Instant::now();
        let mut view = lock(&verification.view).clone();
        if verification.task.0.is_finished() && !view.finished {
            view.finished = true;
            view.errors.push("the comparison failed; the daemon's log says more".to_owned());
        }
        Ok(view)
    }

    /// Ends comparison `id` and forgets it.
    ///
    /// # Errors
    /// When there is none of that number.
    pub(crate) fn stop(&self, id: u64) -> Result<(), Refusal> {
        lock(&self.running).remove(&id).map(drop).ok_or_else(|| not_found(id))
    }
}

/// One comparison from beginning to end.
async fn run(job: Arc<Job>, view: Arc<Mutex<VerifyView>>) {
    let places = Arc::new(Mutex::new(VecDeque::from(places(&job, &view))));
    let lanes = LANES.min(lock(&places).len());
    let mut walks: JoinSet<()> =
        (0..lanes).map(|_| Walk::new(Arc::clone(&job), Arc::clone(&view)).run(Arc::clone(&places))).collect();
    while let Some(walked) = walks.join_next().await {
        if walked.is_err() {
            return; // it panicked: that this is not finished tells it
        }
    }
    lock(&view).finished = true;
}

/// Every partition that there is to compare, with its bounds as of now.
fn places(job: &Job, view: &Mutex<VerifyView>) -> Vec<Place> {
    let mut places = Vec::new();
    let mut view = lock(view);
    for topic in &job.topics {
        for partition in 0..topic.partitions {
            view.partitions += 1;
            let tp = TopicPartition::new(topic.mirror.as_str(), partition);
            let Some(log) = job.logs.partition(&tp) else {
                keep(&mut view.errors, format!("{tp}: the mirror has no log yet"));
                continue;
            };
            let Watermarks { log_start, log_end, .. } = log.watermarks();
            view.offsets_left += distance(log_start, log_end);
            places.push(Place {
                topic: topic.clone(),
                partition,
                log,
                at: log_start,
                until: log_end,
                are_bounds_compared: !topic.follows,
                compacted: None,
                findings: 0,
                over: false,
            });
        }
    }
    places
}

/// One of those who go through the partitions of a comparison, with connections of its own.
struct Walk {
    job: Arc<Job>,
    view: Arc<Mutex<VerifyView>>,
    /// Leased connections by node, and for each topic its leaders.
    clients: BTreeMap<i32, KafkaClient>,
    leaders: BTreeMap<String, Vec<Option<hawser_wire::NodeId>>>,
}

/// One partition of it.
struct Place {
    topic: JobTopic,
    partition: i32,
    log: Arc<PartitionLog>,
    /// Compared below this.
    at: Offset,
    /// Compared up to this.
    until: Offset,
    /// Whether log start and number of partitions were held against the source's.
    are_bounds_compared: bool,
    compacted: Option<bool>,
    findings: u64,
    /// Given up or done.
    over: bool,
}

/// Why a partition was not compared to its end.
#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error(transparent)]
    Remote(#[from] SourceError),
    #[error("the source's topic {0} is gone")]
    TopicGone(String),
    #[error("the source's topic {topic} was made anew (topic id {now}, was {pinned})")]
    TopicRecreated { topic: String, pinned: Uuid, now: Uuid },
    #[error("the source has no leader for it")]
    NoLeader,
    #[error(transparent)]
    Log(#[from] hawser_log::Error),
    #[error("the source's high watermark is {source_end}, below the mirror's log end {mirror_end}")]
    SourceShorter { source_end: Offset, mirror_end: Offset },
    #[error("the source's log ends below offset {0}, which the mirror holds")]
    BeyondSource(Offset),
    #[error("reading the log failed: {0}")]
    Join(#[from] tokio::task::JoinError),
}

impl WalkError {
    fn is_retriable(&self) -> bool {
        match self {
            Self::Remote(error) => error.is_retriable(),
            // A high watermark lags behind for a moment after a leader change.
            Self::NoLeader | Self::SourceShorter { .. } | Self::BeyondSource(_) => true,
            Self::TopicGone(_) | Self::TopicRecreated { .. } | Self::Log(_) | Self::Join(_) => false,
        }
    }
}

impl WalkError {
    /// Whether the mirror holds what the source does not, once this outlasted every retry.
    fn is_difference(&self) -> bool {
        match self {
            Self::SourceShorter { .. } | Self::BeyondSource(_) | Self::TopicRecreated { .. } => true,
            Self::Remote(_) | Self::TopicGone(_) | Self::NoLeader | Self::Log(_) | Self::Join(_) => false,
        }
    }
}

impl Walk {
    fn new(job: Arc<Job>, view: Arc<Mutex<VerifyView>>) -> Self {
        Self { job, view, clients: BTreeMap::new(), leaders: BTreeMap::new() }
    }

    /// Takes partitions as long as there are any, and with `follow` looks after those that it took.
    async fn run(mut self, places: Arc<Mutex<VecDeque<Place>>>) {
        let mut taken = Vec::new();
        let next = || lock(&places).pop_front();
        while let Some(mut place) = next() {
            self.walk(&mut place).await;
            taken.push(place);
        }
        while self.job.follow && taken.iter().any(|place| !place.over) {
            sleep(FOLLOW_POLL).await;
            for place in taken.iter_mut().filter(|p| !p.over) {
                place.until = place.log.watermarks().log_end;
                self.note(|view| view.offsets_left += distance(place.at, place.until));
                self.walk(place).await;
            }
        }
    }

    /// Compares `place` up to its bound; errors end it.
    async fn walk(&mut self, place: &mut Place) {
        let mut attempts = 0;
        while !place.over && (place.at < place.until || !place.are_bounds_compared) {
            let before = place.at;
            match self.step(place).await {
                Ok(()) => {}
                Err(error) if error.is_retriable() && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    self.clients.clear();
                    self.leaders.remove(&place.topic.source);
                    sleep(RETRY_AFTER).await;
                }
                Err(error) => {
                    place.over = true;
                    self.fail(place, &error);
                }
            }
            let moved = distance(before, place.at);
            if moved > 0 {
                attempts = 0;
            }
            self.note(|view| {
                view.offsets_left = view.offsets_left.saturating_sub(moved);
                view.offsets_compared += moved;
            });
        }
        if !place.over && !self.job.follow {
            place.over = true;
            self.note(|view| view.partitions_done += 1);
        }
    }

    /// One fetch and one read.
    async fn step(&mut self, place: &mut Place) -> Result<(), WalkError> {
        let client = self.leader(place).await?;
        if !place.are_bounds_compared {
            self.compare_bounds(place, &client).await?;
            place.are_bounds_compared = true;
            return Ok(());
        }
        let (topic, partition) = (&place.topic, place.partition);
        let fetched = remote::fetch(&client, &topic.source, topic.source_id, partition, place.at, FETCH_BYTES).await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(SourceError::Answer { error: ResponseError::OffsetOutOfRange, .. }) => {
                let start = remote::earliest(&client, &topic.source, partition).await?;
                return self.trimmed(place, start);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(mirror) = self.mirror(place, fetched.records.len()).await? else { return Ok(()) };
        self.judge(place, fetched, mirror).await
    }

    /// What the bytes do not show: partitions that the mirror lacks, and a beginning that it lacks.
    async fn compare_bounds(&self, place: &Place, client: &KafkaClient) -> Result<(), WalkError> {
        let topic = &place.topic;
        let at_source = self.leaders.get(&topic.source).map_or(0, Vec::len);
        if place.partition == 0 && usize::try_from(topic.partitions) != Ok(at_source) {
            let (name, ours) = (&topic.mirror, topic.partitions);
            self.difference(format!("{name}: the source has {at_source} partitions, the mirror has {ours}"));
        }
        if topic.is_whole {
            let start = remote::earliest(client, &topic.source, place.partition).await?;
            if place.at > start {
                let (tp, at) = (place.tp(), place.at);
                self.difference(format!("{tp}: the source's log starts at offset {start}, the mirror's at {at}"));
            }
        }
        Ok(())
    }

    /// The source no longer has what comes before `start`.
    fn trimmed(&self, place: &mut Place, start: Offset) -> Result<(), WalkError> {
        if start <= place.at {
            return Err(WalkError::BeyondSource(place.at));
        }
        let to = start.min(place.until);
        let note = format!("{}: the source has trimmed offsets {}..{to} since", place.tp(), place.at);
        self.note(|view| keep(&mut view.not_comparable, note));
        place.at = to;
        Ok(())
    }

    /// The mirror's batches from the place on; `None` if its own bounds moved and the place with them.
    async fn mirror(&self, place: &mut Place, bytes: usize) -> Result<Option<bytes::Bytes>, WalkError> {
        let (log, at, until) = (place.log.clone(), place.at, place.until);
        let read = tokio::task::spawn_blocking(move || log.read(at, until, bytes, true)).await?;
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(hawser_log::Error::OutOfRange { log_start, log_end, .. }) if log_start > at || log_end < until => {
                let note = format!("{}: the mirror's own log moved to {log_start}..{log_end} meanwhile", place.tp());
                self.note(|view| keep(&mut view.not_comparable, note));
                place.until = until.min(log_end);
                place.at = at.max(log_start).min(place.until);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn judge(&mut self, place: &mut Place, fetched: Fetched, mirror: bytes::Bytes) -> Result<(), WalkError> {
        let held_by_source = fetched.records.len();
        let Compared { batches, bytes, next, findings } =
            compare(place.at, place.until, fetched.records, mirror.clone());
        self.note(|view| {
            view.batches += batches;
            view.bytes += bytes;
        });
        let moved = next > place.at;
        for finding in findings {
            self.finding(place, &finding).await?;
        }
        if moved {
            place.at = next.min(place.until);
        } else if !place.over {
            if fetched.high_watermark < place.until {
                let (source_end, mirror_end) = (fetched.high_watermark, place.until);
                return Err(WalkError::SourceShorter { source_end, mirror_end });
            }
            // Below the high watermark a leader gives at least one whole batch, and the log does so below its end.
            let (base_offset, need) = (place.at.0, held_by_source.max(mirror.len()));
            let cut = BatchError::Truncated { base_offset, have: held_by_source.min(mirror.len()), need };
            let ours = mirror.len() < held_by_source;
            self.finding(place, &Finding::Corrupt { mirror: ours, at: place.at, error: cut }).await?;
        }
        Ok(())
    }

    /// Counts a finding as a difference, or notes what explains it.
    async fn finding(&mut self, place: &mut Place, finding: &Finding) -> Result<(), WalkError> {
        if finding.is_explained_by_compaction() && self.is_compacted(place).await? {
            let note = format!("{} at offset {}: the source has compacted it since", place.tp(), finding.offset());
            self.note(|view| keep(&mut view.not_comparable, note));
            return Ok(());
        }
        place.findings += 1;
        place.over |= place.findings >= FINDINGS_MAX || matches!(finding, Finding::Corrupt { .. });
        let text = format!("{} at offset {}: {finding}", place.tp(), finding.offset());
        self.difference(text);
        Ok(())
    }

    fn difference(&self, text: String) {
        tracing::warn!(difference = text, "verify found a difference");
        self.note(|view| {
            view.differences += 1;
            view.first_difference.get_or_insert(text);
        });
    }

    async fn is_compacted(&self, place: &mut Place) -> Result<bool, WalkError> {
        if let Some(known) = place.compacted {
            return Ok(known);
        }
        let client = self.lease(Target::Any).await?;
        let configs = remote::topic_configs(&client, &place.topic.source).await?;
        let policy = configs.get("cleanup.policy").map(|config| config.value.as_str()).unwrap_or_default();
        let compacted = policy.contains("compact");
        place.compacted = Some(compacted);
        Ok(compacted)
    }

    /// A connection to the leader of `place` at the source, whose topic must still be the one that was mirrored.
    async fn leader(&mut self, place: &Place) -> Result<KafkaClient, WalkError> {
        let name = &place.topic.source;
        if !self.leaders.contains_key(name) {
            let client = self.lease(Target::Any).await?;
            let topic = remote::topic(&client, name).await?.ok_or_else(|| WalkError::TopicGone(name.clone()))?;
            if topic.id != place.topic.source_id {
                let (pinned, now) = (place.topic.source_id, topic.id);
                return Err(WalkError::TopicRecreated { topic: name.clone(), pinned, now });
            }
            self.leaders.insert(name.clone(), topic.leaders);
        }
        let index = usize::try_from(place.partition).unwrap_or(usize::MAX);
        let leader = self.leaders.get(name).and_then(|l| l.get(index)).copied().flatten().ok_or(WalkError::NoLeader)?;
        if let Some(client) = self.clients.get(&leader.0) {
            return Ok(client.clone());
        }
        let client = self.lease(Target::Node(leader)).await?;
        self.clients.insert(leader.0, client.clone());
        Ok(client)
    }

    async fn lease(&self, target: Target) -> Result<KafkaClient, SourceError> {
        Ok(self.job.source.lease(target).await?)
    }

    fn fail(&self, place: &Place, error: &WalkError) {
        let left = distance(place.at, place.until);
        let text = format!("{} at offset {}: {error}", place.tp(), place.at);
        tracing::warn!(error = text, "verify gave up on a partition");
        self.note(|view| {
            view.offsets_left = view.offsets_left.saturating_sub(left);
            if error.is_difference() {
                view.differences += 1;
                view.first_difference.get_or_insert(text);
            } else {
                keep(&mut view.errors, text);
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut VerifyView)) {
        change(&mut lock(&self.view));
    }
}

impl Place {
    fn tp(&self) -> TopicPartition {
        TopicPartition::new(self.topic.mirror.as_str(), self.partition)
    }
}

fn distance(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0 - from.0).unwrap_or(0)
}

fn keep(notes: &mut Vec<String>, note: String) {
    if notes.len() < NOTES_MAX {
        notes.push(note);
    }
}

fn not_found(id: u64) -> Refusal {
    Refusal::new(RefusalCode::VerificationNotFound, format!("there is no comparison {id}"))
}

#[cfg(test)]
mod tests;
