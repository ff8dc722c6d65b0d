//! Carries out what operators decided: makes ordinary topics of the mirrors that are PENDING_STOPPED. One task for each link
//! that has any; [`hawser_link::promotion`] says what a promotion still waits for.
//!
//! A mirror is stopped in steps, each durable before the next, so that a daemon killed in between goes on from there:
//! 1. nobody writes to its copies any more;
//! 2. where they end is written down: from here on the source is not asked any more;
//! 3. the logs abort open transactions and begin a new leader epoch (`Logs::end_mirroring`);
//! 4. producer ids rise above every mirrored one;
//! 5. STOPPED is written down, and the topic takes writes.

mod ask;

pub(crate) use ask::Source;

use crate::links::{Links, is_replicated};
use crate::lock::lock;
use crate::persist::persist;
use crate::service::{Service, now_ms};
use hawser_broker::ProducerIds;
use hawser_link::mirror::{LinkSeen, MirrorFact};
use hawser_link::promotion::{Condition, Copy, Told, Verdict, Wait, judge};
use hawser_log::Logs;
use hawser_state::{MirrorRecord, MirrorStatus, State, TopicRecord};
use hawser_sync::{SourceEnds, Task};
use hawser_wire::{LeaderEpoch, Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Rest between two questions about the same promotions, doubled from the first to the second while nothing changes: with the
/// producers stopped the second answer is the last, and a source that is down for hours is not worth more.
const REST_MIN: Duration = Duration::from_millis(20);
const REST_MAX: Duration = Duration::from_secs(1);

/// Held by whoever changes what is decided about links and mirrors.
pub(crate) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

/// The promotions and failovers of a daemon.
pub(crate) struct Promotions {
    state: State,
    logs: Arc<Logs>,
    producer_ids: Arc<ProducerIds>,
    links: Arc<Links>,
    /// For the syncs of a link.
    service: Weak<Service>,
    /// Of one change at a time.
    changes: Arc<tokio::sync::Mutex<()>>,
    /// What each promotion waits for, by topic.
    waits: Mutex<HashMap<String, Vec<Wait>>>,
    /// Links that have a task.
    attended: Mutex<BTreeSet<String>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// A task's place in [`Promotions::attended`], its own until it leaves it, or ends in a panic.
struct Place<'a> {
    links: &'a Mutex<BTreeSet<String>>,
    link: &'a str,
    /// From then on it may be another task's.
    is_left: bool,
}

impl Place<'_> {
    /// Leaves, unless there is `work` left to do; that is looked at under the lock, so that whoever brings more of it later
    /// finds the place free.
    fn leave_without<T>(&mut self, work: impl FnOnce() -> Vec<T>) -> Option<Vec<T>> {
        let mut links = lock(self.links);
        let work = work();
        if work.is_empty() {
            links.remove(self.link);
            self.is_left = true;
            return None;
        }
        Some(work)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_left {
            lock(self.links).remove(self.link);
        }
    }
}

impl Promotions {
    /// Over the daemon's parts.
    pub(crate) fn new(
        state: State,
        logs: Arc<Logs>,
        producer_ids: Arc<ProducerIds>,
        links: Arc<Links>,
        service: Weak<Service>,
        changes: Arc<tokio::sync::Mutex<()>>,
    ) -> Arc<Self> {
        let (waits, attended) = (Mutex::default(), Mutex::default());
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self { state, logs, producer_ids, links, service, changes, waits, attended, tasks, stopping })
    }

    /// Goes on with what an earlier life of the daemon left undone.
    pub(crate) fn resume(self: &Arc<Self>) {
        let links = self.state.topics().into_iter().filter_map(|topic| Some(pending(&topic)?.link.clone()));
        for link in links.collect::<BTreeSet<_>>() {
            self.attend(&link);
        }
    }

    /// Begins no more steps and waits for the one that is being done.
    pub(crate) async fn end(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Sees to it that the mirrors of `link` that are PENDING_STOPPED get on.
    pub(crate) fn attend(self: &Arc<Self>, link: &str) {
        if self.stopping.is_cancelled() || !lock(&self.attended).insert(link.to_owned()) {
            return;
        }
        let (promotions, link) = (self.clone(), link.to_owned());
        self.tasks.spawn(async move {
            promotions.run(Place { links: &promotions.attended, link: &link, is_left: false }).await;
        });
    }

    /// What the promotion of `topic` waits for; empty also before the source was first asked.
    pub(crate) fn waits(&self, topic: &str) -> Vec<Wait> {
        lock(&self.waits).get(topic).cloned().unwrap_or_default()
    }

    /// Stops mirrors of `link` that are PENDING_STOPPED; whether all are stopped. Those that cannot be stopped say why in
    /// [`waits`](Self::waits), and are to be [attended](Self::attend); one that still follows its source is fetched again.
    /// To be waited for to its end.
    pub(crate) async fn stop(&self, _turn: &Turn<'_>, link: &str, topics: Vec<String>) -> bool {
        self.links.end_mirrors(link, &topics).await;
        let (logs, ids, names) = (self.logs.clone(), self.producer_ids.clone(), topics.clone());
        let outcome = persist(&self.state, move |state| stop(state, &logs, &ids, &names)).await;
        let failed =
            outcome.unwrap_or_else(|error| topics.iter().map(|name| (name.clone(), error.to_string())).collect());
        let follows = |topic: &Arc<TopicRecord>| pending(topic).is_some_and(is_replicated);
        let left: Vec<_> = failed.keys().filter_map(|name| self.state.topic(name)).filter(follows).collect();
        if !left.is_empty() {
            self.links.restart_mirrors(link, &left).await;
        }
        let mut waits = lock(&self.waits);
        for name in &topics {
            match failed.get(name) {
                Some(reason) => {
                    tracing::error!(topic = name, reason, "the mirror cannot be stopped yet");
                    waits.insert(name.clone(), vec![Wait { condition: Condition::Log, reason: reason.clone() }]);
                }
                None => {
                    waits.remove(name);
                }
            }
        }
        failed.is_empty()
    }

    async fn run(&self, mut place: Place<'_>) {
        let link = place.link;
        let (mut source, mut rest) = (Source::default(), REST_MIN);
        loop {
            lock(&self.waits).retain(|name, _| self.waits_still(name));
            let Some(topics) = place.leave_without(|| self.pending_of(link)) else { return };
            let is_stopped = self.round(link, &topics, &mut source).await;
            rest = if is_stopped { REST_MIN } else { (rest * 2).min(REST_MAX) };
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// The mirrors of `link` that are PENDING_STOPPED.
    fn pending_of(&self, link: &str) -> Vec<Arc<TopicRecord>> {
        let is_meant = |topic: &Arc<TopicRecord>| pending(topic).is_some_and(|mirror| mirror.link == link);
        self.state.topics().into_iter().filter(is_meant).collect()
    }

    fn waits_still(&self, name: &str) -> bool {
        self.state.topic(name).is_some_and(|topic| pending(&topic).is_some())
    }

    /// Asks and judges once, and stops what may be; whether any was, and none in vain.
    async fn round(&self, link: &str, topics: &[Arc<TopicRecord>], source: &mut Source) -> bool {
        let (promoted, mut due): (Vec<_>, Vec<_>) = topics.iter().cloned().partition(|topic| asks_the_source(topic));
        if !promoted.is_empty() {
            let verdicts = tokio::select! {
                () = self.stopping.cancelled() => return false,
                verdicts = self.verdicts(link, &promoted, source) => verdicts,
            };
            let mut waits = lock(&self.waits);
            // It took a while to ask: what was stopped, failed or deleted meanwhile waits for nothing any more.
            let waits_still = |name: &str| self.waits_still(name);
            for (topic, verdict) in promoted.iter().zip(verdicts) {
                match verdict {
                    Verdict::InSync => due.push(topic.clone()),
                    Verdict::Waits(found) if waits_still(&topic.name) => drop(waits.insert(topic.name.clone(), found)),
                    Verdict::AskLineage | Verdict::Waits(_) => {}
                }
            }
        }
        if due.is_empty() {
            return false;
        }
        let turn = tokio::select! {
            () = self.stopping.cancelled() => return false,
            turn = self.changes.lock() => turn,
        };
        self.stop(&turn, link, due.iter().map(|topic| topic.name.clone()).collect()).await
    }

    /// First the data, then what follows it: where it is missing, the offsets of consumers would be cut short.
    async fn verdicts(&self, link: &str, topics: &[Arc<TopicRecord>], source: &mut Source) -> Vec<Verdict> {
        let (mut verdicts, told) = self.judge(link, topics, source).await;
        let in_sync = topics.iter().zip(&verdicts).zip(&told).filter(|((_, verdict), _)| **verdict == Verdict::InSync);
        let in_sync: SourceEnds =
            in_sync.map(|((topic, _), told)| (topic.name.as_str().into(), ends_of(told))).collect();
        let Some(service) = self.service.upgrade().filter(|_| !in_sync.is_empty()) else { return verdicts };
        let mut open = service.settle_syncs(link, in_sync).await;
        for (topic, verdict) in topics.iter().zip(&mut verdicts) {
            if let (Verdict::InSync, Some(open)) = (&*verdict, open.remove(topic.name.as_str())) {
                *verdict = Verdict::Waits(open.into_iter().map(wait_for_sync).collect());
            }
        }
        verdicts
    }

    /// The verdicts, and what the source told for them; by topic.
    async fn judge(
        &self,
        link: &str,
        topics: &[Arc<TopicRecord>],
        source: &mut Source,
    ) -> (Vec<Verdict>, Vec<Vec<Told>>) {
        let seen = self.links.seen(link);
        let Some(cluster) = self.links.source(link).filter(|_| seen != LinkSeen::Paused) else {
            let seen = if seen == LinkSeen::Paused { seen } else { LinkSeen::Failed };
            return topics.iter().map(|_| (judge(seen, &[], &[]), Vec::new())).unzip();
        };
        let mut told = source.ends(&cluster, topics).await;
        let copies: Vec<_> = topics.iter().map(|topic| self.copies(topic)).collect();
        let verdicts = |told: &[Vec<Told>]| -> Vec<_> {
            copies.iter().zip(told).map(|(copies, told)| judge(seen, copies, told)).collect()
        };
        let first = verdicts(&told);
        let asks = first.iter().enumerate().filter(|(_, verdict)| **verdict == Verdict::AskLineage).map(|(at, _)| at);
        let asks: Vec<_> = asks.flat_map(|at| lineages_of(at, topics, &copies)).collect();
        if asks.is_empty() {
            return (first, told);
        }
        source.lineages(&cluster, &asks, &mut told).await;
        (verdicts(&told), told)
    }

    fn copies(&self, topic: &TopicRecord) -> Vec<Copy> {
        let copy = |index| {
            let log = self.logs.partition(&TopicPartition::new(topic.name.as_str(), index));
            log.map_or(Copy { log_end: Offset(0), last_epoch: LeaderEpoch::NONE }, |log| {
                let at = log.watermarks();
                Copy { log_end: at.log_end, last_epoch: at.last_epoch }
            })
        };
        (0..topic.partitions).map(copy).collect()
    }
}

/// A question about the lineage of one copy: which topic, which partition, its name at the source, the copy's last epoch.
pub(crate) struct LineageOf {
    topic: usize,
    partition: usize,
    id: TopicPartition,
    epoch: LeaderEpoch,
}

fn lineages_of(at: usize, topics: &[Arc<TopicRecord>], copies: &[Vec<Copy>]) -> Vec<LineageOf> {
    let source_topic = topics.get(at).and_then(|topic| pending(topic)).map(|mirror| mirror.source_topic.as_str());
    let (Some(source_topic), Some(copies)) = (source_topic, copies.get(at)) else { return Vec::new() };
    let asked = copies.iter().zip(0..).enumerate().filter(|(_, (copy, _))| copy.last_epoch != LeaderEpoch::NONE);
    asked
        .map(|(partition, (copy, index))| LineageOf {
            topic: at,
            partition,
            id: TopicPartition::new(source_topic, index),
            epoch: copy.last_epoch,
        })
        .collect()
}

/// Where the source's partitions end, as far as it told.
fn ends_of(told: &[Told]) -> Vec<Offset> {
    let ends = told.iter().map_while(|told| match told {
        Told::Silent(_) => None,
        Told::End(end) | Told::Lineage(end, _) => Some(*end),
    });
    ends.collect()
}

fn wait_for_sync((task, reason): (Task, String)) -> Wait {
    let condition = match task {
        Task::TopicConfigsSync => Condition::TopicConfigs,
        Task::ConsumerOffsetSync | Task::AclSync | Task::AutoCreateMirror => Condition::ConsumerOffsets,
    };
    Wait { condition, reason }
}

/// The mirror of `topic`, if it is PENDING_STOPPED.
fn pending(topic: &TopicRecord) -> Option<&MirrorRecord> {
    topic.mirror.as_ref().filter(|mirror| mirror.status == MirrorStatus::PendingStopped)
}

/// A failover never does; a promotion until it was found in sync.
fn asks_the_source(topic: &TopicRecord) -> bool {
    topic.mirror.as_ref().is_some_and(|mirror| !mirror.is_let_go())
}

/// Steps 2 to 5; the topics that failed, and why.
fn stop(
    state: &State,
    logs: &Logs,
    producer_ids: &ProducerIds,
    names: &[String],
) -> Result<BTreeMap<String, String>, hawser_state::Error> {
    let ends = |topic: &TopicRecord| {
        let end = |index| {
            logs.partition(&TopicPartition::new(topic.name.as_str(), index)).map(|log| log.watermarks().log_end.0)
        };
        (0..topic.partitions).map(|index| end(index).unwrap_or_default()).collect::<Vec<_>>()
    };
    state.update_topics(names, |topic| {
        let is_news = pending(topic).is_some_and(|mirror| mirror.stopped_at.is_empty());
        if is_news {
            let ends = ends(topic);
            topic.mirror.iter_mut().for_each(|mirror| mirror.stopped_at.clone_from(&ends));
        }
        is_news
    })?;
    let topics: Vec<_> =
        names.iter().filter_map(|name| state.topic(name)).filter(|topic| pending(topic).is_some()).collect();
    let mut failed = BTreeMap::new();
    let mut mirrors = Vec::new();
    for topic in &topics {
        for index in 0..topic.partitions {
            let id = TopicPartition::new(topic.name.as_str(), index);
            match logs.open_partition(&id, topic.id) {
                Ok(_) => mirrors.push(id),
                Err(error) => drop(failed.insert(topic.name.clone(), error.to_string())),
            }
        }
    }
    let mut largest_producer_id = -1;
    for (id, outcome) in mirrors.iter().zip(logs.end_mirroring(&mirrors, now_ms())) {
        match outcome {
            Ok(ended) => {
                largest_producer_id = largest_producer_id.max(ended.largest_producer_id);
                if ended.aborted > 0 {
                    tracing::warn!(partition = %id, transactions = ended.aborted, "open transactions were aborted");
                }
            }
            Err(error) => drop(failed.insert(id.topic.to_string(), error.to_string())),
        }
    }
    // Before anybody may write: no producer of ours is taken for one that was mirrored.
    producer_ids.raise_above(largest_producer_id)?;
    let stopped: Vec<_> =
        topics.iter().map(|topic| topic.name.clone()).filter(|name| !failed.contains_key(name)).collect();
    let changed = state.update_topics(&stopped, |topic| {
        let Some(mirror) = topic.mirror.as_mut().filter(|mirror| mirror.status == MirrorStatus::PendingStopped) else {
            return false;
        };
        mirror.set_status(mirror.status.on_fact(MirrorFact::Stopped), now_ms());
        mirror.error = None;
        true
    })?;
    for topic in &changed {
        let mirror = topic.mirror.as_ref();
        let (link, stop) = (mirror.map(|m| m.link.as_str()), mirror.and_then(|m| m.stop));
        tracing::info!(topic = topic.name, link, ?stop, "the mirror is an ordinary topic now");
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_left_is_another_tasks() {
        let links = Mutex::new(BTreeSet::from(["l".to_owned()]));
        let place = || Place { links: &links, link: "l", is_left: false };
        let is_taken = || lock(&links).contains("l");
        let mut first = place();
        assert_eq!(first.leave_without(|| vec!["work"]), Some(vec!["work"]));
        assert!(is_taken());
        assert_eq!(first.leave_without(Vec::<&str>::new), None);
        assert!(!is_taken(), "the next finds it free");
        lock(&links).insert("l".to_owned());
        drop(first);
        assert!(is_taken(), "the next one's place was taken away");
        // One that ends in a panic leaves too.
        drop(place());
        assert!(!is_taken());
    }
}
