//! Bounds and policies of the Kafka face. Names in brackets are Kafka's broker configs; the values are shown by
//! DescribeConfigs.

use crate::BrokerSetting;
use hawser_wire::NodeId;
use std::time::Duration;

/// Settings of a [`Broker`](crate::Broker). `Default` gives Kafka's defaults where there is one.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id`: the one broker of this cluster.
    pub node_id: NodeId,
    /// `broker.rack`, if any.
    pub rack: Option<String>,
    /// `num.partitions`: of a topic that does not say.
    pub num_partitions: i32,
    /// `auto.create.topics.enable`: whether asking for the metadata of a topic makes it.
    pub auto_create_topics: bool,
    /// What DescribeConfigs shows of the broker.
    pub settings: Vec<BrokerSetting>,
    /// `queued.max.request.bytes`: most bytes of request frames that are decoded or handled and of answers that are not
    /// written yet, over all connections; what finds no room waits. What comes beyond it stands in `requests.rs`. Decoded, a
    /// frame takes up to 16 times its length.
    pub request_memory_bytes: usize,
    /// `fetch.max.bytes`: most bytes of records in one response, whatever the client asks for; one batch that is larger
    /// is still sent whole. Kafka's is 55 MiB; ours bounds what a slow reader can hold in memory.
    pub fetch_max_bytes: usize,
    /// Most bytes of records held in memory for responses that are not written yet, over all connections; one response holds
    /// half of them at most.
    pub fetch_memory_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// Most partitions over all fetch sessions; beyond it, clients get full fetches.
    pub fetch_session_partitions_max: usize,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout: Duration,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_group_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_group_heartbeat_interval: Duration,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay: Duration,
    /// `group.max.size`: members of one group. Kafka's default is no bound.
    pub group_max_size: usize,
    /// Most groups with members.
    pub groups_max: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`: how long the offsets of a group without members are kept.
    pub offsets_retention: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            node_id: NodeId(1),
            rack: None,
            num_partitions: 1,
            auto_create_topics: false,
            settings: Vec::new(),
            request_memory_bytes: 64 << 20,
            fetch_max_bytes: 16 << 20,
            fetch_memory_bytes: 256 << 20,
            fetch_sessions_max: 1000,
            fetch_session_partitions_max: 1_000_000,
            group_min_session_timeout: Duration::from_secs(6),
            group_max_session_timeout: Duration::from_secs(1800),
            consumer_group_session_timeout: Duration::from_secs(45),
            consumer_group_heartbeat_interval: Duration::from_secs(5),
            group_initial_rebalance_delay: Duration::from_secs(3),
            group_max_size: 1000,
            groups_max: 10_000,
            offset_metadata_max_bytes: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
