//! `verify`: walks mirrors and their sources side by side and compares every byte of every batch, while both run; and
//! what they should have besides: partitions, a beginning, and the end that the source had when the comparison began.
//! The source's bytes are fetched anew over the link, the mirror's are read from the log: nothing that the replicator
//! believes is trusted. Runs in the daemon; callers ask how far it is.
//!
//! All partitions are compared up to where their mirrors end; then again, as often as mirrors that end too early get on.
//! Nobody waits for a mirror that rests (paused, failed), and for the others no longer than the caller's patience after the
//! last of them got on. What is missing then is told as *behind*: it may be lag, and it may be a tail that was lost.

mod compare;
mod place;
mod walk;

use crate::lock::lock;
use crate::operations::{Refusal, RefusalCode, VerifyView};
use crate::promotions::Source;
use hawser_link::promotion::Told;
use hawser_log::Logs;
use hawser_state::{MirrorRecord, TopicRecord};
use hawser_transport::Connector;
use hawser_wire::{Offset, TopicPartition};
use place::Place;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use walk::Walk;

/// Comparisons kept at a time, finished ones included: each holds a report, and a running one a few connections.
const VERIFICATIONS_MAX: usize = 16;
/// A comparison that nobody has asked about for this long is ended and forgotten.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);
/// Partitions compared side by side: each waits for the source's answers most of the time, and holds two batches.
const LANES: usize = 4;
/// Notes and errors kept in a report.
const NOTES_MAX: usize = 100;
/// How often partitions are looked at for news.
const NEWS_POLL: Duration = Duration::from_millis(200);

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
    pub(crate) topics: Vec<Arc<JobTopic>>,
    /// Go on with what arrives, for as long as the comparison is asked about; no end is the last then.
    pub(crate) follow: bool,
    /// How long mirrors that end before their sources may stand still before they are called behind.
    pub(crate) patience: Duration,
}

/// One mirror topic.
pub(crate) struct JobTopic {
    pub(crate) topic: Arc<TopicRecord>,
    /// Its mirror's record.
    pub(crate) mirror: MirrorRecord,
    pub(crate) standing: Standing,
}

/// What a mirror has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All that its source holds, sooner or later.
    Follows,
    /// As much as it holds by now, until somebody acts; the status by which operators know that.
    Rests(&'static str),
    /// What it held when it was stopped. What came after is its own.
    Stopped,
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
    let ends = source_ends(&job.source, job.topics.iter()).await;
    let mut places = places(&job, &ends, &view);
    let walk = |_| Walk::new(job.source.clone(), view.clone());
    let mut walks: Vec<Walk> = (0..LANES.min(places.len())).map(walk).collect();
    let mut got_on = Instant::now();
    while !places.is_empty() {
        let (mut news, mut waiting) = (Vec::new(), Vec::new());
        for mut place in places {
            place.look(job.follow, &view);
            if place.has_news() {
                news.push(place);
            } else if place.waits() || (job.follow && !place.is_over()) {
                waiting.push(place);
            } else {
                place.close(&view, job.patience);
            }
        }
        if !news.is_empty() {
            let Some(walked) = walk_all(&mut walks, news).await else {
                return; // one panicked: that this is not finished tells it
            };
            waiting.extend(walked);
            got_on = Instant::now();
        } else if !job.follow && got_on.elapsed() >= job.patience {
            wait_no_longer(&job, waiting, &view).await;
            break;
        } else {
            sleep(NEWS_POLL).await;
        }
        places = waiting;
    }
    lock(&view).finished = true;
}

/// Every partition that there is to compare, with its bounds as of now.
fn places(job: &Job, ends: &HashMap<TopicPartition, Offset>, view: &Mutex<VerifyView>) -> Vec<Place> {
    let mut places = Vec::new();
    let mut view = lock(view);
    for topic in &job.topics {
        for partition in 0..topic.topic.partitions {
            view.partitions += 1;
            let tp = TopicPartition::new(topic.topic.name.as_str(), partition);
            match job.logs.partition(&tp) {
                Some(log) => places.push(Place::new(topic.clone(), tp, log, ends)),
                None => keep(&mut view.errors, format!("{tp}: the mirror has no log yet")),
            }
        }
    }
    places
}

/// Compares all of `news`, several at a time; `None` if that panicked.
async fn walk_all(walks: &mut Vec<Walk>, news: Vec<Place>) -> Option<Vec<Place>> {
    let queue = Arc::new(Mutex::new(VecDeque::from(news)));
    let mut lanes: JoinSet<_> = walks.drain(..).map(|walk| walk.run(queue.clone())).collect();
    let mut places = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        let (walk, walked) = lane.ok()?;
        walks.push(walk);
        places.extend(walked);
    }
    Some(places)
}

/// Nothing came any more: what is missing now is missing, unless the source lost it, too (an unclean election).
async fn wait_no_longer(job: &Job, waiting: Vec<Place>, view: &Mutex<VerifyView>) {
    let topics: BTreeMap<_, _> = waiting.iter().map(|place| (place.source(), place.topic())).collect();
    let ends = source_ends(&job.source, topics.into_values()).await;
    for mut place in waiting {
        if let Some(end) = ends.get(place.at_source()) {
            place.lower(*end);
        }
        place.close(view, job.patience);
    }
}

/// Where the source ends now, by its own partitions. What it does not tell is missing: whoever compares asks again, and
/// says why it has no answer.
async fn source_ends(
    source: &Arc<dyn Connector>,
    topics: impl Iterator<Item = &Arc<JobTopic>>,
) -> HashMap<TopicPartition, Offset> {
    let topics: Vec<_> = topics.filter(|t| t.standing != Standing::Stopped).map(|t| t.topic.clone()).collect();
    if topics.is_empty() {
        return HashMap::new();
    }
    let told = Source::default().ends(source, &topics).await;
    let of_topic = |(topic, told): (&Arc<TopicRecord>, Vec<Told>)| {
        let source = topic.mirror.as_ref().map(|mirror| mirror.source_topic.clone()).unwrap_or_default();
        (0..).zip(told).filter_map(move |(index, told)| match told {
            Told::End(end) | Told::Lineage(end, _) => Some((TopicPartition::new(source.as_str(), index), end)),
            Told::Silent(_) => None,
        })
    };
    topics.iter().zip(told).flat_map(of_topic).collect()
}

fn distance(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0 - from.0).unwrap_or(0)
}

fn keep<T>(notes: &mut Vec<T>, note: T) {
    if notes.len() < NOTES_MAX {
        notes.push(note);
    }
}

fn not_found(id: u64) -> Refusal {
    Refusal::new(RefusalCode::VerificationNotFound, format!("there is no comparison {id}"))
}

#[cfg(test)]
mod tests;
