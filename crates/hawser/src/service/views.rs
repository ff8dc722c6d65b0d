//! What is shown of mirror topics: what was decided (the state) and what is seen (the fetchers, the logs).

use super::{Service, kafka_uuid, now_ms};
use crate::operations::{MirrorPartitionView, MirrorView, WaitView};
use hawser_link::mirror::{LinkSeen, MirrorFact, SourceSeen};
use hawser_log::Status;
use hawser_replicate::{LinkStatus, PartitionStatus, Phase, TopicState, TopicStatus};
use hawser_state::{MirrorRecord, MirrorStatus, MirrorStop, TopicRecord};
use hawser_wire::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Service {
    pub(super) fn mirror_view(&self, topic: &TopicRecord, mirror: &MirrorRecord, flow: &Flow) -> MirrorView {
        let status = flow.topic(mirror, &topic.name);
        let partitions: Vec<_> = (0..topic.partitions)
            .map(|index| match usize::try_from(index).ok().and_then(|i| mirror.stopped_at.get(i)) {
                Some(&stopped_at) => self.stopped_view(topic, mirror, index, stopped_at),
                None => self.partition_view(topic, status.and_then(|s| s.partition(index)), index),
            })
            .collect();
        let lag = partitions.iter().map(|p| p.partition_mirror_lag).max().unwrap_or(-1);
        MirrorView {
            link_name: mirror.link.clone(),
            mirror_topic_name: topic.name.clone(),
            source_topic_name: mirror.source_topic.clone(),
            mirror_status: flow.shown(mirror, &topic.name).to_owned(),
            mirror_topic_error: mirror.error.clone().or_else(|| failure(status)),
            status_time_ms: mirror.status_since_ms,
            stopped_by: mirror.stop,
            waits_for: self.promotions.waits(&topic.name).into_iter().map(WaitView::from).collect(),
            mirror_start_offset_spec: mirror.start_offset_spec.clone(),
            link_id: flow.link_id(&mirror.link),
            mirror_topic_id: kafka_uuid(topic.id),
            source_topic_id: (!mirror.source_topic_id.is_nil()).then(|| kafka_uuid(mirror.source_topic_id)),
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
        let (state, reason) = (fetch.map_or("UNKNOWN", |f| shown_phase(f.phase)), fetch.and_then(reason));
        // What the disk says comes first: nothing flows into a log that is offline, whatever its fetcher does.
        let (state, reason) = match log.as_ref().map(|log| log.status()) {
            Some(Status::Offline(why)) => ("OFFLINE", Some(why)),
            Some(Status::Failing(why)) => (state, reason.or(Some(why))),
            Some(Status::Online | Status::Closing | Status::Closed) | None => (state, reason),
        };
        let high_watermark = fetch.and_then(|f| f.source_high_watermark);
        MirrorPartitionView {
            partition: index,
            state: state.to_owned(),
            reason,
            log_start_offset: log_start,
            log_end_offset: log_end,
            last_source_high_watermark: high_watermark.map_or(-1, |hw| hw.0),
            partition_mirror_lag: fetch.and_then(|f| f.lag_records).unwrap_or(-1),
            partition_mirror_lag_ms: fetch.and_then(|f| f.lag_ms),
            last_source_fetch_offset: high_watermark.map_or(-1, |_| log_end),
            time_since_last_fetch_ms: fetch
                .and_then(|f| f.last_fetch_ms)
                .map(|at| (now_ms() - at).max(0).unsigned_abs()),
            stopped_at_offset: None,
            size_bytes: log.map_or(0, |log| log.size_bytes()),
        }
    }

    /// A partition that is a mirror's no more. A promotion left nothing behind; what a failover left, nobody knows.
    fn stopped_view(
        &self,
        topic: &TopicRecord,
        mirror: &MirrorRecord,
        index: i32,
        stopped_at: i64,
    ) -> MirrorPartitionView {
        let was_promoted = mirror.stop == Some(MirrorStop::Promote);
        MirrorPartitionView {
            state: "STOPPED".to_owned(),
            partition_mirror_lag: if was_promoted { 0 } else { -1 },
            last_source_fetch_offset: stopped_at,
            stopped_at_offset: Some(stopped_at),
            ..self.partition_view(topic, None, index)
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
        let links = self.state.links().into_iter().map(|link| {
            let flow = LinkFlow {
                id: link.id.map(kafka_uuid),
                seen: self.links.seen(&link.name),
                topics: self.links.replication(&link.name).map(by_name).unwrap_or_default(),
            };
            (link.name.clone(), flow)
        });
        Flow(links.collect())
    }
}

/// How all links and their mirrors stand, by the link's name.
pub(super) struct Flow(BTreeMap<String, LinkFlow>);

struct LinkFlow {
    id: Option<String>,
    seen: LinkSeen,
    /// With their fetchers, by the topic's name here.
    topics: BTreeMap<Arc<str>, TopicStatus>,
}

impl Flow {
    pub(super) fn topic(&self, mirror: &MirrorRecord, name: &str) -> Option<&TopicStatus> {
        self.0.get(&mirror.link)?.topics.get(name)
    }

    /// What is decided about a mirror; a dead end of one of its partitions counts as one of the whole.
    pub(super) fn standing(&self, mirror: &MirrorRecord, name: &str) -> MirrorStatus {
        match source_seen(self.topic(mirror, name)) {
            SourceSeen::Failed => mirror.status.on_fact(MirrorFact::Fails),
            SourceSeen::There | SourceSeen::Unavailable => mirror.status,
        }
    }

    /// The status that operators see.
    pub(super) fn shown(&self, mirror: &MirrorRecord, name: &str) -> &'static str {
        mirror.status.shown(self.link(&mirror.link), source_seen(self.topic(mirror, name)))
    }

    pub(super) fn link(&self, name: &str) -> LinkSeen {
        self.0.get(name).map_or(LinkSeen::Failed, |link| link.seen)
    }

    fn link_id(&self, name: &str) -> Option<String> {
        self.0.get(name)?.id.clone()
    }
}

impl Flow {
    /// When a fetch of any mirror of `link` was answered last, ms since 1970.
    pub(super) fn last_fetch_ms(&self, link: &str) -> Option<i64> {
        let partitions = self.0.get(link)?.topics.values().flat_map(|topic| &topic.partitions);
        partitions.filter_map(|partition| partition.last_fetch_ms).max()
    }
}

fn by_name(status: LinkStatus) -> BTreeMap<Arc<str>, TopicStatus> {
    status.topics.into_iter().map(|topic| (topic.topic.clone(), topic)).collect()
}

fn source_seen(status: Option<&TopicStatus>) -> SourceSeen {
    match status.map(|status| &status.state) {
        Some(TopicState::SourceUnavailable(_)) => SourceSeen::Unavailable,
        Some(TopicState::Failed(_)) => SourceSeen::Failed,
        Some(TopicState::Starting | TopicState::Active | TopicState::Paused) | None => SourceSeen::There,
    }
}

fn failure(status: Option<&TopicStatus>) -> Option<String> {
    match status.map(|status| &status.state) {
        Some(TopicState::Failed(failure)) => Some(failure.reason.to_string()),
        _ => None,
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
