//! Fetch: what consumers, mirrors of mirrors and `verify` read through.
//!
//! The way of one request: session (which partitions, KIP-227) → a glance at each partition in memory → if enough is
//! there, one read per partition on a blocking thread → slices to the socket. If not, a long poll: wait until any of
//! the partitions changes, glance again. Idle polls touch no file.
//!
//! Memory: records are read only under a permit of the process-wide budget (`memory.rs`). It goes along with them, so the
//! records of a partition give theirs back once they are written, whatever else is still to be.

mod memory;
mod response;
mod sessions;

use crate::dispatch::{Caller, Hangup, Reply};
use crate::partitions::Partition;
use crate::{Broker, BrokerConfig, Operation};
use bytes::Bytes;
use hawser_log::{PartitionLog, Watermarks};
use hawser_state::TopicRecord;
use hawser_wire::messages::FetchRequest;
use hawser_wire::{BatchHeader, LeaderEpoch, Offset, RequestFrame, ResponseError};
use memory::{FetchMemory, TooLarge};
use response::{PartitionAnswer, TopicAnswer};
use sessions::{Begun, Sessions, TopicKey, Want};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A client that asks to wait longer is answered, empty, after this.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A poll that wants more than one byte looks again at most this often while records trickle in.
const RECHECK_PAUSE: Duration = Duration::from_millis(5);
/// How long a request that finds the memory budget used up waits for it, at least.
const MEMORY_WAIT_MIN: Duration = Duration::from_secs(1);
const READ_COMMITTED: i8 = 1;

pub(crate) use response::total_bytes;

/// What all fetches share.
pub(crate) struct Fetches {
    sessions: Sessions,
    memory: FetchMemory,
    /// Partitions that incremental fetches have at hand. A request that continues a session names none of them, and costs
    /// memory for each while it waits; by right each session is continued by one request at a time.
    polled: Arc<Semaphore>,
    polled_max: u32,
}

/// The scalar fields of a request, checked.
#[derive(Clone, Copy)]
struct Terms {
    isolation_level: i8,
    bytes_max: usize,
    bytes_min: usize,
    deadline: Instant,
}

/// What a glance at a partition said.
enum Glance {
    /// Answer at once.
    Refused(ResponseError),
    /// The client's last epoch ended earlier here (KIP-595).
    Diverged(Partition, LeaderEpoch, Offset),
    /// Nothing to read yet.
    AtEnd(Partition),
    /// Records from `Want::offset` on, below this.
    Readable(Partition, Offset),
}

impl Fetches {
    pub(crate) fn new(config: &BrokerConfig) -> Self {
        let polled = config.fetch_session_partitions_max.clamp(1, Semaphore::MAX_PERMITS);
        let polled_max = u32::try_from(polled).unwrap_or(u32::MAX);
        Self {
            sessions: Sessions::new(config.fetch_sessions_max, config.fetch_session_partitions_max),
            memory: FetchMemory::new(config.fetch_memory_bytes),
            polled: Arc::new(Semaphore::new(polled_max as usize)),
            polled_max,
        }
    }

    /// Waits until `partitions` more may be at hand; all of them, if they are more than ever may. Cancel-safe.
    async fn poll(&self, partitions: usize) -> Option<OwnedSemaphorePermit> {
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX).min(self.polled_max);
        // Never closed, hence never an error.
        Arc::clone(&self.polled).acquire_many_owned(partitions).await.ok()
    }
}

impl Broker {
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        caller: &Caller,
        frame: &RequestFrame,
        request: FetchRequest,
        shutdown: &CancellationToken,
    ) -> Result<Reply, Hangup> {
        let version = frame.api_version;
        let terms = Terms::of(&request, self.config.fetch_max_bytes);
        let (sessions, owner) = (&self.fetch.sessions, caller.principal.as_str());
        let expected = sessions.partitions(version, &request);
        let _polled = self.fetch.poll(expected).await;
        let begun = match sessions.begin(owner, version, request) {
            // It grew while this one waited for room: the client begins anew.
            Ok(begun) if begun.is_above(expected) => Err(ResponseError::FetchSessionIdNotFound),
            begun => begun,
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let slices = response::encode(version, frame.correlation_id, error.code(), 0, &[])?;
                return Ok(Reply { slices, memory: None, charge: None });
            }
        };
        let (answers, memory) = self.fetch_answers(caller, &begun.wants, terms, shutdown).await;
        let topics = begun.filter(answers);
        let slices = response::encode(version, frame.correlation_id, 0, begun.session_id, &topics)?;
        Ok(Reply { slices, memory, charge: None })
    }

    /// One answer per want, in order; returns when enough is there, something is wrong, or the deadline passes.
    async fn fetch_answers(
        self: &Arc<Self>,
        caller: &Caller,
        wants: &[Want],
        terms: Terms,
        shutdown: &CancellationToken,
    ) -> (Vec<PartitionAnswer>, Option<OwnedSemaphorePermit>) {
        loop {
            let topics = self.topics_of(caller, wants);
            let glance = |(want, topic)| self.glance(want, topic, terms.isolation_level);
            let glances: Vec<Glance> = wants.iter().zip(&topics).map(glance).collect();
            let is_final = terms.deadline <= Instant::now() || shutdown.is_cancelled();
            let is_pressing = glances.iter().any(|g| matches!(g, Glance::Refused(_) | Glance::Diverged(..)));
            let is_readable = glances.iter().any(|g| matches!(g, Glance::Readable(..)));
            let watched = glances.iter().filter_map(Glance::partition).map(|p| (Arc::clone(&p.log), p.marks));
            let watched: Vec<(Arc<PartitionLog>, Watermarks)> = watched.collect();
            if is_readable {
                let (answers, memory) = self.read(wants, glances, terms).await;
                let bytes: usize = answers.iter().map(|answer| answer.records.len()).sum();
                let is_failed = answers.iter().any(|answer| answer.error != 0);
                if bytes >= terms.bytes_min || is_final || is_pressing || is_failed {
                    return (answers, memory);
                }
                drop((answers, memory));
                sleep_until((Instant::now() + RECHECK_PAUSE).min(terms.deadline)).await;
            } else if is_final || is_pressing || terms.bytes_min == 0 || wants.is_empty() {
                let answers = wants.iter().zip(glances).map(|(want, glance)| glance.without_records(want)).collect();
                return (answers, None);
            }
            tokio::select! {
                () = any_change(&watched) => {}
                () = sleep_until(terms.deadline) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// The topic of each want, or why it may not be read; looked up once per run of equal topics.
    fn topics_of(&self, caller: &Caller, wants: &[Want]) -> Vec<Result<Arc<TopicRecord>, ResponseError>> {
        let mut topics: Vec<Result<Arc<TopicRecord>, ResponseError>> = Vec::with_capacity(wants.len());
        let mut last: Option<&TopicKey> = None;
        for want in wants {
            let topic = match topics.last() {
                Some(topic) if last == Some(&want.topic) => topic.clone(),
                _ => self.topic_for(caller, Operation::Read, &want.topic.name, want.topic.id),
            };
            last = Some(&want.topic);
            topics.push(topic);
        }
        topics
    }

    /// `Partition.fetchRecords`, without touching a file.
    fn glance(&self, want: &Want, topic: &Result<Arc<TopicRecord>, ResponseError>, isolation_level: i8) -> Glance {
        let topic = match topic {
            Ok(topic) => topic,
            Err(error) => return Glance::Refused(*error),
        };
        let partition = match self.partitions.find(topic, want.partition, want.leader_epoch) {
            Ok(partition) => partition,
            Err(error) => return Glance::Refused(error),
        };
        if want.last_fetched_epoch >= 0 {
            match partition.end_of_epoch(LeaderEpoch(want.last_fetched_epoch)) {
                None => return Glance::Refused(ResponseError::OffsetOutOfRange),
                Some((epoch, end)) if epoch.0 < want.last_fetched_epoch || end < want.offset => {
                    return Glance::Diverged(partition, epoch, end);
                }
                Some(_) => {}
            }
        }
        let marks = partition.marks;
        if want.offset < marks.log_start || want.offset > marks.log_end {
            return Glance::Refused(ResponseError::OffsetOutOfRange);
        }
        let end = partition.readable_end(isolation_level);
        if want.offset < end { Glance::Readable(partition, end) } else { Glance::AtEnd(partition) }
    }

    /// Reads what is readable, within the budget: less than was asked for where that is short, and nothing where it gives
    /// out. A first batch that is larger is charged as well: if there is no room for it, it is let go, waited for, and read
    /// again.
    async fn read(
        self: &Arc<Self>,
        wants: &[Want],
        glances: Vec<Glance>,
        mut terms: Terms,
    ) -> (Vec<PartitionAnswer>, Option<OwnedSemaphorePermit>) {
        let readable = wants.iter().zip(&glances).filter(|(_, glance)| matches!(glance, Glance::Readable(..)));
        let wanted: usize = readable.map(|(want, _)| want.bytes_max).fold(0, usize::saturating_add);
        let patience = terms.deadline.max(Instant::now() + MEMORY_WAIT_MIN);
        let asked: Arc<Vec<(Want, Glance)>> = Arc::new(wants.iter().cloned().zip(glances).collect());
        let mut charge = self.fetch.memory.charge(wanted.min(terms.bytes_max), patience).await;
        loop {
            let Some(leave) = charge else {
                metrics::counter!("hawser_fetch_memory_exhausted_total").increment(1);
                return (asked.iter().map(|(want, glance)| glance.without_records(want)).collect(), None);
            };
            terms.bytes_max = terms.bytes_max.min(leave.bytes_max);
            let asking = Arc::clone(&asked);
            // The charge goes along: a reader that is given up still holds what it reads.
            let read = move || (read_all(&asking, terms), leave);
            let Ok((mut answers, leave)) = tokio::task::spawn_blocking(read).await else {
                return (Vec::new(), None);
            };
            match self.fetch.memory.settle(leave, answers.iter_mut().map(|answer| &mut answer.records)) {
                Ok(rest) => return (answers, Some(rest)),
                Err(TooLarge(bytes)) => charge = self.fetch.memory.charge_whole(bytes, patience).await,
            }
        }
    }
}

fn read_all(asked: &[(Want, Glance)], terms: Terms) -> Vec<PartitionAnswer> {
    let mut bytes_left = terms.bytes_max;
    let mut at_least_one = true;
    let answer = |(want, glance): &(Want, Glance)| match glance {
        Glance::Readable(partition, end) => {
            let bytes_max = want.bytes_max.min(bytes_left);
            let answer = read_one(want, partition, *end, bytes_max, at_least_one, terms);
            at_least_one &= answer.records.is_empty();
            bytes_left = bytes_left.saturating_sub(answer.records.len());
            answer
        }
        glance => glance.without_records(want),
    };
    asked.iter().map(answer).collect()
}

fn read_one(
    want: &Want,
    partition: &Partition,
    end: Offset,
    bytes_max: usize,
    at_least_one: bool,
    terms: Terms,
) -> PartitionAnswer {
    let mut answer = PartitionAnswer::of(want, partition);
    if bytes_max == 0 && !at_least_one {
        return answer;
    }
    let outcome = partition.log.read(want.offset, end, bytes_max, at_least_one).and_then(|records| {
        if terms.isolation_level == READ_COMMITTED {
            let end = end_of(&records).unwrap_or(end).min(end);
            answer.aborted = Some(partition.log.aborted_transactions(want.offset, end)?);
        }
        answer.records = records;
        Ok(())
    });
    match outcome {
        Ok(()) => answer,
        Err(hawser_log::Error::OutOfRange { .. }) => PartitionAnswer::refused(want, ResponseError::OffsetOutOfRange),
        Err(error) => {
            warn!(topic = %want.topic.name, partition = want.partition, %error, "read failed");
            PartitionAnswer::refused(want, ResponseError::KafkaStorageError)
        }
    }
}

/// The offset behind the last batch of `records`.
fn end_of(records: &Bytes) -> Option<Offset> {
    let (mut rest, mut end) = (&records[..], None);
    while let Ok(header) = BatchHeader::parse(rest) {
        end = Some(header.next_offset());
        rest = rest.get(header.size_bytes..)?;
    }
    end
}

/// Resolves when any of the partitions is no longer as it was seen, or is gone.
async fn any_change(watched: &[(Arc<PartitionLog>, Watermarks)]) {
    let mut changes: Vec<watch::Receiver<u64>> = watched.iter().map(|(log, _)| log.changes()).collect();
    // Between the glance and the subscription.
    if watched.iter().any(|(log, seen)| log.watermarks() != *seen) {
        return;
    }
    let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::with_capacity(changes.len());
    for change in &mut changes {
        waits.push(Box::pin(async { drop(change.changed().await) }));
    }
    std::future::poll_fn(|context| {
        let is_any_ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
        if is_any_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Glance {
    fn partition(&self) -> Option<&Partition> {
        match self {
            Self::Refused(_) => None,
            Self::Diverged(partition, ..) | Self::AtEnd(partition) | Self::Readable(partition, _) => Some(partition),
        }
    }

    fn without_records(&self, want: &Want) -> PartitionAnswer {
        match self {
            Self::Refused(error) => PartitionAnswer::refused(want, *error),
            Self::AtEnd(partition) | Self::Readable(partition, _) => PartitionAnswer::of(want, partition),
            Self::Diverged(partition, epoch, end) => {
                PartitionAnswer { diverging: Some((epoch.0, end.0)), ..PartitionAnswer::of(want, partition) }
            }
        }
    }
}

impl Terms {
    fn of(request: &FetchRequest, bytes_cap: usize) -> Self {
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(bytes_cap);
        let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
        Self { isolation_level: request.isolation_level, bytes_max, bytes_min, deadline: Instant::now() + wait }
    }
}

impl Begun {
    /// Puts the answers into topics, leaving out what an incremental session need not repeat.
    fn filter(&self, answers: Vec<PartitionAnswer>) -> Vec<TopicAnswer> {
        let mut topics: Vec<TopicAnswer> = Vec::new();
        let due = self.due(&answers);
        for ((want, answer), due) in self.wants.iter().zip(answers).zip(due) {
            if !due {
                continue;
            }
            match topics.last_mut() {
                Some(topic) if topic.key == want.topic => topic.partitions.push(answer),
                _ => topics.push(TopicAnswer { key: want.topic.clone(), partitions: vec![answer] }),
            }
        }
        topics
    }
}

#[cfg(test)]
mod tests;
