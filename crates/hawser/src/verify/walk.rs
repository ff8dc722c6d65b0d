//! Goes through partitions: fetches from the source, reads the mirror, holds one against the other and enters what it finds
//! in the report.

use super::compare::{Compared, Finding, compare};
use super::place::Place;
use super::{distance, keep};
use crate::lock::lock;
use crate::operations::VerifyView;
use crate::remote::{self, Fetched};
use hawser_sync::SourceError;
use hawser_transport::{Connector, KafkaClient, Target};
use hawser_wire::{BatchError, NodeId, Offset, ResponseError, TopicPartition, Uuid};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// Bytes asked for at a time, per partition: a whole batch comes even if larger.
const FETCH_BYTES: i32 = 4 << 20;
/// Findings after which a partition is given up: the first says what is wrong.
const FINDINGS_MAX: u64 = 100;
/// How often a broker that cannot answer is asked again before the partition is given up.
const ATTEMPTS_MAX: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// One of those who go through the partitions of a comparison, with connections of its own.
pub(super) struct Walk {
    source: Arc<dyn Connector>,
    view: Arc<Mutex<VerifyView>>,
    /// Leased connections by node, and for each topic its leaders.
    clients: BTreeMap<i32, KafkaClient>,
    leaders: BTreeMap<String, Vec<Option<NodeId>>>,
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

    /// Whether the mirror holds what the source does not, once this outlasted every retry.
    fn is_difference(&self) -> bool {
        match self {
            Self::SourceShorter { .. } | Self::BeyondSource(_) | Self::TopicRecreated { .. } => true,
            Self::Remote(_) | Self::TopicGone(_) | Self::NoLeader | Self::Log(_) | Self::Join(_) => false,
        }
    }
}

impl Walk {
    pub(super) fn new(source: Arc<dyn Connector>, view: Arc<Mutex<VerifyView>>) -> Self {
        Self { source, view, clients: BTreeMap::new(), leaders: BTreeMap::new() }
    }

    /// Takes places as long as there are any, and compares each up to its bound; gives back what it took.
    pub(super) async fn run(mut self, places: Arc<Mutex<VecDeque<Place>>>) -> (Self, Vec<Place>) {
        let mut taken = Vec::new();
        let next = || lock(&places).pop_front();
        while let Some(mut place) = next() {
            self.walk(&mut place).await;
            taken.push(place);
        }
        (self, taken)
    }

    /// Compares `place` up to its bound; errors end it.
    async fn walk(&mut self, place: &mut Place) {
        let mut attempts = 0;
        while place.has_news() {
            let before = place.at;
            match self.step(place).await {
                Ok(()) => {}
                Err(error) if error.is_retriable() && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    self.clients.clear();
                    self.leaders.remove(place.source());
                    sleep(RETRY_AFTER).await;
                }
                Err(error) => {
                    place.give_up();
                    self.fail(place, &error);
                }
            }
            let moved = distance(before, place.at);
            if moved > 0 {
                attempts = 0;
            }
            self.note(|view| view.offsets_compared += moved);
            place.count(&self.view);
        }
    }

    /// One question, or one fetch and one read.
    async fn step(&mut self, place: &mut Place) -> Result<(), WalkError> {
        let client = self.leader(place).await?;
        let (source, partition) = (place.source(), place.tp().partition);
        if place.goal.is_none() {
            place.goal = Some(remote::latest(&client, source, partition).await?);
            return Ok(());
        }
        if !place.are_bounds_compared {
            self.compare_bounds(place, &client).await?;
            place.are_bounds_compared = true;
            return Ok(());
        }
        let fetched = remote::fetch(&client, source, place.source_id(), partition, place.at, FETCH_BYTES).await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(SourceError::Answer { error: ResponseError::OffsetOutOfRange, .. }) => {
                let start = remote::earliest(&client, source, partition).await?;
                return self.trimmed(place, start);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(mirror) = self.mirror(place, fetched.records.len()).await? else { return Ok(()) };
        self.judge(place, fetched, mirror).await
    }

    /// What the bytes do not show: partitions that the mirror lacks, and a beginning that it lacks.
    async fn compare_bounds(&self, place: &Place, client: &KafkaClient) -> Result<(), WalkError> {
        let (source, TopicPartition { topic, partition }) = (place.source(), place.tp());
        let (at_source, ours) = (self.leaders.get(source).map_or(0, Vec::len), place.topic().topic.partitions);
        if *partition == 0 && usize::try_from(ours) != Ok(at_source) {
            self.difference(format!("{topic}: the source has {at_source} partitions, the mirror has {ours}"));
        }
        if place.is_whole() {
            let start = remote::earliest(client, source, *partition).await?;
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
        let (log, at, until) = (place.log().clone(), place.at, place.until);
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
        } else if !place.is_over() {
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
        if place.findings >= FINDINGS_MAX || matches!(finding, Finding::Corrupt { .. }) {
            place.give_up();
        }
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
        let configs = remote::topic_configs(&client, place.source()).await?;
        let policy = configs.get("cleanup.policy").map(|config| config.value.as_str()).unwrap_or_default();
        let compacted = policy.contains("compact");
        place.compacted = Some(compacted);
        Ok(compacted)
    }

    /// A connection to the leader of `place` at the source, whose topic must still be the one that was mirrored.
    async fn leader(&mut self, place: &Place) -> Result<KafkaClient, WalkError> {
        let name = place.source();
        if !self.leaders.contains_key(name) {
            let client = self.lease(Target::Any).await?;
            let topic = remote::topic(&client, name).await?.ok_or_else(|| WalkError::TopicGone(name.to_owned()))?;
            if topic.id != place.source_id() {
                let (pinned, now) = (place.source_id(), topic.id);
                return Err(WalkError::TopicRecreated { topic: name.to_owned(), pinned, now });
            }
            self.leaders.insert(name.to_owned(), topic.leaders);
        }
        let index = usize::try_from(place.tp().partition).unwrap_or(usize::MAX);
        let leader = self.leaders.get(name).and_then(|l| l.get(index)).copied().flatten().ok_or(WalkError::NoLeader)?;
        if let Some(client) = self.clients.get(&leader.0) {
            return Ok(client.clone());
        }
        let client = self.lease(Target::Node(leader)).await?;
        self.clients.insert(leader.0, client.clone());
        Ok(client)
    }

    async fn lease(&self, target: Target) -> Result<KafkaClient, SourceError> {
        Ok(self.source.lease(target).await?)
    }

    fn fail(&self, place: &Place, error: &WalkError) {
        let text = format!("{} at offset {}: {error}", place.tp(), place.at);
        tracing::warn!(error = text, "verify gave up on a partition");
        self.note(|view| {
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
