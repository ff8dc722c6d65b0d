//! What a link's configuration says to its fetchers, and what a mirror is.

use crate::broker::FetchBounds;
use crate::partition::{Patience, Start};
use hawser_link::LinkConfig;
use hawser_store::TopicSpec;
use hawser_wire::Uuid;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Settings of one link's replication.
#[derive(Clone, Debug)]
pub struct ReplicateConfig {
    /// The link's name, for logs and metric labels.
    pub link: Arc<str>,
    /// Id of the source cluster: no other is mirrored. `None`: the first answer tells it (see
    /// [`crate::MirrorEvent::SourceKnown`]).
    pub source_cluster_id: Option<String>,
    /// `reconnect.backoff.ms`: the wait before the first try to connect again; it doubles from try to try.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`: the longest such wait.
    pub reconnect_backoff_max: Duration,
    /// `num.cluster.link.fetchers`: fetchers, each with a connection of its own, to each source broker.
    pub fetchers: usize,
    /// What one fetch may bring; `response_bytes_max` is shared by the fetchers of a broker.
    pub bounds: FetchBounds,
    /// `replica.socket.timeout.ms`: how long the answer to a fetch is waited for, beyond `bounds.wait_ms_max`.
    pub fetch_timeout: Duration,
    /// `retry.backoff.ms` and its kin.
    pub patience: Patience,
    /// `metadata.max.age.ms`: how long new partitions may go unseen.
    pub metadata_age_max: Duration,
    /// `availability.check.ms`: how often the source is asked for a sign of life when nothing else is asked of it. `None`:
    /// somebody else finds out, as the beats of a reversed link do.
    pub availability_check: Option<Duration>,
    /// `availability.check.consecutive.failure.threshold`: questions in a row without an answer before the source counts as
    /// unreachable. They follow each other at `patience`'s pace.
    pub availability_failures_max: u32,
    /// Bytes per second over all fetchers; `None` for no limit.
    pub bytes_per_second: Option<u64>,
}

/// A mirror topic, as the daemon wants it mirrored.
#[derive(Clone, Debug)]
pub struct MirrorSpec {
    /// The topic here: its name may differ from the source's (prefix).
    pub topic: TopicSpec,
    /// Name at the source.
    pub source_topic: Arc<str>,
    /// Id at the source, once pinned. `None` lets the first answer pin it (see [`crate::MirrorEvent::Pinned`]).
    pub source_topic_id: Option<Uuid>,
    /// Partitions known so far, 0 for a new mirror.
    pub partitions: i32,
    /// Where copies that are still empty begin. Once [`crate::MirrorEvent::Started`] was seen, the daemon
    /// passes `Earliest`: a copy that began elsewhere knows it by its own position.
    pub start: Start,
    /// Partitions whose beginning is history already (see [`crate::MirrorEvent::PartitionStarted`]), whatever `start` says.
    pub started: BTreeSet<i32>,
    /// Whether it is paused from the beginning.
    pub paused: bool,
}

impl MirrorSpec {
    /// A new one, from the beginning, of the source's topic of that name.
    pub fn new(topic: TopicSpec) -> Self {
        Self {
            source_topic: topic.name.clone(),
            topic,
            source_topic_id: None,
            partitions: 0,
            start: Start::Earliest,
            started: BTreeSet::new(),
            paused: false,
        }
    }
}

impl ReplicateConfig {
    /// The wait before the next try to connect, after `failures` in vain since the last connection.
    pub(crate) fn reconnect_after(&self, failures: u32) -> Duration {
        self.reconnect_backoff.saturating_mul(1 << failures.min(16)).min(self.reconnect_backoff_max)
    }

    /// Takes a link's settings over.
    pub fn new(link: &str, config: &LinkConfig) -> Self {
        let mirrors = &config.mirrors;
        Self {
            link: link.into(),
            source_cluster_id: None,
            reconnect_backoff: config.connection.reconnect_backoff,
            reconnect_backoff_max: config.connection.reconnect_backoff_max,
            fetchers: mirrors.fetchers.max(1),
            bounds: FetchBounds {
                wait_ms_max: i32::try_from(mirrors.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
                bytes_min: mirrors.fetch_bytes_min,
                response_bytes_max: mirrors.fetch_bytes_max,
                partition_bytes_max: mirrors.fetch_partition_bytes_max,
            },
            fetch_timeout: mirrors.fetch_timeout,
            patience: Patience {
                retry_backoff: config.connection.retry_backoff.max(Duration::from_millis(1)),
                retry_backoff_max: config.connection.retry_backoff_max.max(Duration::from_millis(1)),
                fetch_backoff: mirrors.fetch_backoff.max(Duration::from_millis(1)),
                retry_timeout: mirrors.retry_timeout,
            },
            metadata_age_max: config.connection.metadata_max_age,
            availability_check: Some(mirrors.availability_check),
            availability_failures_max: mirrors.availability_failures_max,
            bytes_per_second: None,
        }
    }

    /// The defaults of every key.
    pub fn with_defaults(link: &str) -> Self {
        Self {
            link: link.into(),
            source_cluster_id: None,
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            fetchers: 2,
            bounds: FetchBounds {
                wait_ms_max: 500,
                bytes_min: 1,
                response_bytes_max: 10 << 20,
                partition_bytes_max: 5 << 20,
            },
            fetch_timeout: Duration::from_secs(30),
            patience: Patience {
                retry_backoff: Duration::from_millis(100),
                retry_backoff_max: Duration::from_secs(1),
                fetch_backoff: Duration::from_secs(1),
                retry_timeout: Duration::from_secs(300),
            },
            metadata_age_max: Duration::from_secs(300),
            availability_check: Some(Duration::from_secs(60)),
            availability_failures_max: 5,
            bytes_per_second: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_link::Properties;

    #[test]
    fn waits_are_those_of_the_link() {
        let text = "bootstrap.servers=b:9092\nreconnect.backoff.ms=30\nreconnect.backoff.max.ms=100\nretry.backoff.ms=7\n\
                    retry.backoff.max.ms=20\n";
        let link = LinkConfig::parse(&Properties::parse("link", text)).expect("valid");
        assert!(link.warnings.is_empty(), "{:?}", link.warnings);
        let config = ReplicateConfig::new("l", &link.config);
        let waits = [0, 1, 2, 40].map(|failures| config.reconnect_after(failures).as_millis());
        assert_eq!(waits, [30, 60, 100, 100]);
        let Patience { retry_backoff, retry_backoff_max, .. } = config.patience;
        assert_eq!([retry_backoff, retry_backoff_max].map(|wait| wait.as_millis()), [7, 20]);
    }
}
