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
    /// `num.cluster.link.fetchers`: fetchers, each with a connection of its own, to each source broker.
    pub fetchers: usize,
    /// What one fetch may bring.
    pub bounds: FetchBounds,
    /// `replica.socket.timeout.ms` is kept by the clients; this is `retry.backoff.ms` and its kin.
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
    /// Takes a link's settings over.
    pub fn new(link: &str, config: &LinkConfig) -> Self {
        let mirrors = &config.mirrors;
        Self {
            link: link.into(),
            fetchers: mirrors.fetchers.max(1),
            bounds: FetchBounds {
                wait_ms_max: i32::try_from(mirrors.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
                bytes_min: mirrors.fetch_bytes_min,
                response_bytes_max: mirrors.fetch_bytes_max,
                partition_bytes_max: mirrors.fetch_partition_bytes_max,
            },
            patience: Patience {
                retry_backoff: config.connection.retry_backoff.max(Duration::from_millis(1)),
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
            fetchers: 1,
            bounds: FetchBounds {
                wait_ms_max: 500,
                bytes_min: 1,
                response_bytes_max: 10 << 20,
                partition_bytes_max: 5 << 20,
            },
            patience: Patience {
                retry_backoff: Duration::from_millis(100),
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
