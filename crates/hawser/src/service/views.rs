//! What is shown of mirror topics: what was decided (the state) and what is seen (the fetchers, the logs).

use super::{Service, now_ms};
use crate::operations::{MirrorPartitionView, MirrorView};
use hawser_replicate::{LinkStatus, PartitionStatus, Phase, TopicState, TopicStatus};
use hawser_state::{MirrorRecord, MirrorStatus, TopicRecord};
use hawser_wire::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Service {
    pub(super) fn mirror_view(&self, topic: &TopicRecord, mirror: &MirrorRecord, flow: &Flow) -> MirrorView {
        let status = flow.topic(mirror, &topic.name);
        let partitions: Vec<_> = (0..topic.partitions)
            .map(|index| {
                let fetch = status.and_then(|s| s.partitions.iter().find(|p| p.partition == index));
                self.partition_view(topic, fetch, index)
            })
            .collect();
        let lag = partitions.iter().map(|p| p.partition_mirror_lag).max().unwrap_or(-1);
        MirrorView {
            link_name: mirror.link.clone(),
            mirror_topic_name: topic.name.clone(),
            source_topic_name: mirror.source_topic.clone(),
            mirror_status: shown_status(mirror.status, status).to_owned(),
            mirror_topic_error: mirror.error.clone(),
            status_time_ms: mirror.status_since_ms,
            num_partition: topic.partitions,
            max_per_partition_mirror_lag: lag,
            partitions,
        }
    }

    pub(super) fn partition_view(
        &self,
        topic: &TopicRecord,
        fetch: Option<&PartitionStatus>,
        index: i32,
    ) -> MirrorPartitionView {
        let log = self.logs.partition(&TopicPartition::new(topic.name.as_str(), index));
        let marks = log.as_ref().map(|log| log.watermarks());
        let (log_start, log_end) = marks.map_or((0, 0), |m| (m.log_start.0, m.log_end.0));
        let reason = |f: &PartitionStatus| {
            f.failure.as_ref().map(ToString::to_string).or_else(|| f.trouble.as_ref().map(ToString::to_string))
        };
        let high_watermark = fetch.and_then(|f| f.source_high_watermark);
        MirrorPartitionView {
            partition: index,
            state: fetch.map_or("UNKNOWN", |f| shown_phase(f.phase)).to_owned(),
            reason: fetch.and_then(reason),
            log_start_offset: log_start,
            log_end_offset: log_end,
            last_source_high_watermark: high_watermark.map_or(-1, |hw| hw.0),
            partition_mirror_lag: fetch.and_then(|f| f.lag_records).unwrap_or(-1),
            partition_mirror_lag_ms: fetch.and_then(|f| f.lag_ms),
            last_source_fetch_offset: high_watermark.map_or(-1, |_| log_end),
            time_since_last_fetch_ms: fetch
                .and_then(|f| f.last_fetch_ms)
                .map(|at| (now_ms() - at).max(0).unsigned_abs()),
            size_bytes: log.map_or(0, |log| log.size_bytes()),
        }
    }

    pub(super) fn mirrors_of(&self, link: Option<&str>) -> impl Iterator<Item = (Arc<TopicRecord>, MirrorRecord)> {
        let topics = self.state.topics().into_iter();
        let mirrors = topics.filter_map(|topic| topic.mirror.clone().map(|mirror| (topic, mirror)));
        mirrors.filter(move |(_, mirror)| link.is_none_or(|link| mirror.link == link))
    }

    /// Every mirror with its partitions, for metrics.
    pub(crate) fn mirrors(&self) -> Vec<MirrorView> {
        let flow = self.flow();
        self.mirrors_of(None).map(|(topic, mirror)| self.mirror_view(&topic, &mirror, &flow)).collect()
    }

    /// One glance at every link's fetchers.
    pub(super) fn flow(&self) -> Flow {
        let links = self.state.links().into_iter();
        let statuses = links.filter_map(|link| self.links.replication(&link.name).map(|status| (link.name, status)));
        Flow(statuses.map(|(name, status)| (name, by_name(status))).collect())
    }
}

/// How all mirrors stand with their fetchers, by link and by the topic's name here.
pub(super) struct Flow(BTreeMap<String, BTreeMap<Arc<str>, TopicStatus>>);

impl Flow {
    pub(super) fn topic(&self, mirror: &MirrorRecord, name: &str) -> Option<&TopicStatus> {
        self.0.get(&mirror.link)?.get(name)
    }
}

fn by_name(status: LinkStatus) -> BTreeMap<Arc<str>, TopicStatus> {
    status.topics.into_iter().map(|topic| (topic.topic.clone(), topic)).collect()
}

/// The status as the reference names it: what was decided, and while ACTIVE what is seen.
fn shown_status(decided: MirrorStatus, seen: Option<&TopicStatus>) -> &'static str {
    match (decided, seen.map(|s| &s.state)) {
        (MirrorStatus::Active, Some(TopicState::SourceUnavailable(_))) => "SOURCE_UNAVAILABLE",
        (MirrorStatus::Active, Some(TopicState::Failed(_))) | (MirrorStatus::Failed, _) => "FAILED",
        (MirrorStatus::Active, _) => "ACTIVE",
        (MirrorStatus::PendingMirror, _) => "PENDING_MIRROR",
        (MirrorStatus::Paused, _) => "PAUSED",
        (MirrorStatus::PendingStopped, _) => "PENDING_STOPPED",
        (MirrorStatus::Stopped, _) => "STOPPED",
    }
}

fn shown_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "STARTING",
        Phase::Fetching => "FETCHING",
        Phase::Waiting => "WAITING",
        Phase::Paused => "PAUSED",
        Phase::Failed => "FAILED",
    }
}
