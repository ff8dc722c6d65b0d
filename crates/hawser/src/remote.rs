//! What operations and `verify` ask of a link's source cluster, through whatever connection the link has; beside what the
//! syncs ask too.

use hawser_sync::{SourceError, TopicConfigs};
use hawser_transport::KafkaClient;
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use hawser_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::metadata_response::MetadataResponseTopic;
use hawser_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use hawser_wire::messages::{
    BrokerId, FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, TopicName,
};
use hawser_wire::{ApiKey, LeaderEpoch, NodeId, Offset, ResponseError, StrBytes, TopicPartition, Uuid};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// `ListOffsetsRequest.EARLIEST_TIMESTAMP` and `LATEST_TIMESTAMP`.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// The first Fetch version that names topics by id (KIP-516).
const FETCH_BY_ID: i16 = 13;
/// Newest versions that these requests are filled in for.
const FETCH_MAX: i16 = 16;
const METADATA_MAX: i16 = 12;
const LIST_OFFSETS_MAX: i16 = 7;
const EPOCHS_MAX: i16 = 4;

/// A topic of the source.
#[derive(Clone, Debug)]
pub(crate) struct RemoteTopic {
    pub(crate) id: Uuid,
    /// Leader of each partition, by index; `None` while there is none.
    pub(crate) leaders: Vec<Option<NodeId>>,
}

/// The topic `name`; `None` if the source has none of that name.
///
/// # Errors
/// See [`SourceError`].
pub(crate) async fn topic(client: &KafkaClient, name: &str) -> Result<Option<RemoteTopic>, SourceError> {
    let told = topics(client, &[name]).await?.remove(name);
    told.ok_or(SourceError::Incomplete { api: "Metadata" })?
}

/// What the source says of each of `names`; what it does not mention is left out.
///
/// # Errors
/// See [`SourceError`]; what is wrong with one topic stands beside it.
pub(crate) async fn topics(
    client: &KafkaClient,
    names: &[&str],
) -> Result<BTreeMap<String, Result<Option<RemoteTopic>, SourceError>>, SourceError> {
    let topics = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name)))).collect();
    let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
    let (_, response) = client.call(&request, METADATA_MAX, Duration::ZERO).await?;
    let told =
        response.topics.into_iter().filter_map(|topic| Some((topic.name.clone()?.to_string(), remote_topic(topic))));
    Ok(told.collect())
}

fn remote_topic(topic: MetadataResponseTopic) -> Result<Option<RemoteTopic>, SourceError> {
    const API: &str = "Metadata";
    if topic.error_code == ResponseError::UnknownTopicOrPartition.code() {
        return Ok(None);
    }
    SourceError::check(API, topic.error_code)?;
    let mut leaders = vec![None; topic.partitions.len()];
    for partition in &topic.partitions {
        let index = usize::try_from(partition.partition_index).ok();
        let slot = index.and_then(|i| leaders.get_mut(i)).ok_or(SourceError::Incomplete { api: API })?;
        *slot = Some(NodeId(partition.leader_id.0)).filter(|leader| leader.0 >= 0);
    }
    Ok(Some(RemoteTopic { id: topic.topic_id, leaders }))
}

/// All configs of topic `name`.
///
/// # Errors
/// See [`SourceError`].
pub(crate) async fn topic_configs(client: &KafkaClient, name: &str) -> Result<TopicConfigs, SourceError> {
    let told = hawser_sync::topic_configs(client, &[name], None).await?.remove(name);
    told.ok_or(SourceError::Incomplete { api: "DescribeConfigs" })?
}

/// What a broker of the source holds of one partition from one offset on.
pub(crate) struct Fetched {
    /// Whole batches, perhaps cut off at the end.
    pub(crate) records: bytes::Bytes,
    pub(crate) high_watermark: Offset,
}

/// Fetches from `offset` on, without a session and without waiting for new records.
///
/// # Errors
/// See [`SourceError`]; `OFFSET_OUT_OF_RANGE` comes as an [`SourceError::Answer`].
pub(crate) async fn fetch(
    client: &KafkaClient,
    topic: &str,
    topic_id: Uuid,
    partition: i32,
    offset: Offset,
    bytes_max: i32,
) -> Result<Fetched, SourceError> {
    const API: &str = "Fetch";
    let by_id = client.versions(ApiKey::Fetch as i16).is_some_and(|(_, max)| max >= FETCH_BY_ID);
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset.0)
        .with_partition_max_bytes(bytes_max);
    let of = FetchTopic::default().with_partitions(vec![asked]);
    let of = if by_id { of.with_topic_id(topic_id) } else { of.with_topic(topic_name(topic)) };
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(bytes_max)
        .with_session_epoch(-1)
        .with_topics(vec![of]);
    let (_, response) = client.call(&request, if by_id { FETCH_MAX } else { FETCH_BY_ID - 1 }, Duration::ZERO).await?;
    SourceError::check(API, response.error_code)?;
    let topic = response.responses.into_iter().next().ok_or(SourceError::Incomplete { api: API })?;
    let data = topic.partitions.into_iter().next().ok_or(SourceError::Incomplete { api: API })?;
    SourceError::check(API, data.error_code)?;
    Ok(Fetched { records: data.records.unwrap_or_default(), high_watermark: Offset(data.high_watermark) })
}

/// The source's log start of one partition.
///
/// # Errors
/// See [`SourceError`].
pub(crate) async fn earliest(client: &KafkaClient, topic: &str, partition: i32) -> Result<Offset, SourceError> {
    offset(client, TopicPartition::new(topic, partition), EARLIEST).await
}

/// The source's high watermark of one partition.
///
/// # Errors
/// See [`SourceError`].
pub(crate) async fn latest(client: &KafkaClient, topic: &str, partition: i32) -> Result<Offset, SourceError> {
    offset(client, TopicPartition::new(topic, partition), LATEST).await
}

async fn offset(client: &KafkaClient, id: TopicPartition, timestamp: i64) -> Result<Offset, SourceError> {
    let told = offsets(client, std::slice::from_ref(&id), timestamp).await?.remove(&id);
    told.ok_or(SourceError::Incomplete { api: "ListOffsets" })?
}

/// The high watermark of each of `partitions`, all of them led by `client`'s broker.
///
/// # Errors
/// See [`SourceError`]; what is wrong with one partition stands beside it.
pub(crate) async fn ends(
    client: &KafkaClient,
    partitions: &[TopicPartition],
) -> Result<HashMap<TopicPartition, Result<Offset, SourceError>>, SourceError> {
    offsets(client, partitions, LATEST).await
}

async fn offsets(
    client: &KafkaClient,
    partitions: &[TopicPartition],
    timestamp: i64,
) -> Result<HashMap<TopicPartition, Result<Offset, SourceError>>, SourceError> {
    let topics = by_topic(partitions.iter().map(|id| (id, ()))).into_iter().map(|(name, asked)| {
        let asked = asked.into_iter().map(|(index, ())| {
            let asked = ListOffsetsPartition::default().with_partition_index(index);
            asked.with_current_leader_epoch(-1).with_timestamp(timestamp)
        });
        ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(asked.collect())
    });
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
    let (_, response) = client.call(&request, LIST_OFFSETS_MAX, Duration::ZERO).await?;
    let told = response.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            let id = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
            (id, SourceError::check("ListOffsets", partition.error_code).map(|()| Offset(partition.offset)))
        })
    });
    Ok(told.collect())
}

/// For each partition, the largest leader epoch at or below the one asked for and where it ends; `None` if none is known. All
/// partitions are led by `client`'s broker.
///
/// # Errors
/// See [`SourceError`]; what is wrong with one partition stands beside it.
pub(crate) async fn epoch_ends(
    client: &KafkaClient,
    asked: &[(TopicPartition, LeaderEpoch)],
) -> Result<HashMap<TopicPartition, Result<Option<(LeaderEpoch, Offset)>, SourceError>>, SourceError> {
    let topics = by_topic(asked.iter().map(|(id, epoch)| (id, *epoch))).into_iter().map(|(name, asked)| {
        let asked = asked.into_iter().map(|(index, epoch)| {
            let asked = OffsetForLeaderPartition::default().with_partition(index);
            asked.with_current_leader_epoch(-1).with_leader_epoch(epoch.0)
        });
        OffsetForLeaderTopic::default().with_topic(topic_name(name)).with_partitions(asked.collect())
    });
    let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
    let (_, response) = client.call(&request, EPOCHS_MAX, Duration::ZERO).await?;
    let told = response.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            let id = TopicPartition::new(topic.topic.0.as_str(), partition.partition);
            let known = partition.leader_epoch >= 0 && partition.end_offset >= 0;
            let end = known.then_some((LeaderEpoch(partition.leader_epoch), Offset(partition.end_offset)));
            (id, SourceError::check("OffsetForLeaderEpoch", partition.error_code).map(|()| end))
        })
    });
    Ok(told.collect())
}

fn by_topic<'a, T>(partitions: impl Iterator<Item = (&'a TopicPartition, T)>) -> BTreeMap<&'a str, Vec<(i32, T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, T)>> = BTreeMap::new();
    for (id, asked) in partitions {
        topics.entry(&id.topic).or_default().push((id.partition, asked));
    }
    topics
}

/// The cluster id that a broker answers with.
///
/// # Errors
/// See [`SourceError`].
pub(crate) async fn cluster_id(client: &KafkaClient) -> Result<String, SourceError> {
    let request = MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
    let (_, response) = client.call(&request, METADATA_MAX, Duration::ZERO).await?;
    let id = response.cluster_id.filter(|id| !id.is_empty());
    id.map(|id| id.to_string()).ok_or(SourceError::Incomplete { api: "Metadata" })
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
