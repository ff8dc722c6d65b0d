//! Connections of the fake source, and every answer but Fetch's.

use super::{Cluster, State, fetch, syncs};
use bytes::Bytes;
use hawser_transport::{Listener, ServerConnection};
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use hawser_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use hawser_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use hawser_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use hawser_wire::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, DescribeAclsRequest, DescribeConfigsRequest,
    DescribeConfigsResponse, ListGroupsRequest, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, OffsetFetchRequest, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use hawser_wire::{DecodeError, RequestFrame, StrBytes, api};
use std::sync::Arc;
use tokio::task::JoinSet;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER: i16 = 6;
/// `ConfigSource.DEFAULT_CONFIG`.
const DEFAULT_CONFIG: i8 = 5;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

pub(super) async fn accept(cluster: Arc<Cluster>, node: usize, listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            connection = listener.accept() => {
                connections.spawn(connection_served(cluster.clone(), node, connection));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves until the peer goes, or its node drops its connections.
async fn connection_served(cluster: Arc<Cluster>, node: usize, mut connection: ServerConnection) {
    let generation = |cluster: &Cluster| cluster.lock().nodes[node].generation;
    let mut changed = cluster.changed.subscribe();
    let born = generation(&cluster);
    tokio::select! {
        _ = changed.wait_for(|_| generation(&cluster) != born) => {}
        _ = requests_served(&cluster, node, &mut connection) => {}
    }
}

async fn requests_served(cluster: &Cluster, node: usize, connection: &mut ServerConnection) -> anyhow::Result<()> {
    while let Some(frame) = connection.next_frame().await? {
        let request = RequestFrame::parse(frame)?;
        let mut changed = cluster.changed.subscribe();
        changed.wait_for(|_| !cluster.lock().nodes[node].stalled).await?;
        *cluster.lock().requests.entry(request.api_key).or_default() += 1;
        let pieces = if request.api_key == ApiKey::Fetch as i16 {
            fetch::answer(cluster, node, &request).await?
        } else {
            vec![answer(&mut cluster.lock(), node, &cluster.addresses, &request)?]
        };
        connection.write(&pieces).await?;
    }
    Ok(())
}

fn answer(
    state: &mut State,
    node: usize,
    addresses: &[std::net::SocketAddr],
    request: &RequestFrame,
) -> Result<Bytes, DecodeError> {
    let RequestFrame { api_key, api_version: version, correlation_id: id, .. } = *request;
    match ApiKey::try_from(api_key) {
        Ok(ApiKey::ApiVersions) => {
            let (version, error_code) = if version <= 4 { (version, 0) } else { (0, 35) }; // KIP-511
            let answer = api_versions(state.fetch_version_max).with_error_code(error_code);
            api::encode_response::<ApiVersionsRequest>(version, id, &answer)
        }
        Ok(ApiKey::Metadata) => {
            let answer = metadata(state, addresses, &request.decode::<MetadataRequest>()?, version);
            api::encode_response::<MetadataRequest>(version, id, &answer)
        }
        Ok(ApiKey::ListOffsets) => {
            let answer = list_offsets(state, node, &request.decode()?);
            api::encode_response::<ListOffsetsRequest>(version, id, &answer)
        }
        Ok(ApiKey::OffsetForLeaderEpoch) => {
            let answer = epoch_ends(state, node, &request.decode()?);
            api::encode_response::<OffsetForLeaderEpochRequest>(version, id, &answer)
        }
        Ok(ApiKey::DescribeConfigs) => {
            let request = request.decode::<DescribeConfigsRequest>()?;
            api::encode_response::<DescribeConfigsRequest>(version, id, &describe_configs(state, request))
        }
        Ok(ApiKey::ListGroups) => {
            api::encode_response::<ListGroupsRequest>(version, id, &syncs::list_groups(state, node))
        }
        Ok(ApiKey::OffsetFetch) => {
            let answer = syncs::fetch_offsets(state, &request.decode()?);
            api::encode_response::<OffsetFetchRequest>(version, id, &answer)
        }
        Ok(ApiKey::DescribeAcls) => {
            api::encode_response::<DescribeAclsRequest>(version, id, &syncs::describe_acls(state))
        }
        _ => Err(DecodeError::Unsupported { key: api_key, version }),
    }
}

/// Nothing is configured anywhere; mirrors tell what they are.
fn describe_configs(state: &State, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let clusters =
            state.topics.get(resource.resource_name.as_str()).and_then(|topic| topic.source_clusters.clone());
        let configs = clusters.map(|clusters| {
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str("mirror.source.cluster.ids"))
                .with_value(Some(StrBytes::from_string(clusters)))
                .with_read_only(true)
                .with_config_source(DEFAULT_CONFIG)
        });
        DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs.into_iter().collect())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn api_versions(fetch_version_max: i16) -> ApiVersionsResponse {
    let keys = [
        (ApiKey::Fetch, 4, fetch_version_max),
        (ApiKey::ListOffsets, 1, 8),
        (ApiKey::Metadata, 0, 12),
        (ApiKey::ApiVersions, 0, 4),
        (ApiKey::OffsetForLeaderEpoch, 2, 4),
        (ApiKey::DescribeConfigs, 1, 4),
        (ApiKey::ListGroups, 0, 5),
        (ApiKey::OffsetFetch, 8, 9),
        (ApiKey::DescribeAcls, 1, 3),
    ];
    let keys = keys.map(|(key, min, max)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.into())
}

fn metadata(
    state: &State,
    addresses: &[std::net::SocketAddr],
    request: &MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let brokers = addresses.iter().zip(1..).map(|(address, node)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node))
            .with_host(StrBytes::from_string(address.ip().to_string()))
            .with_port(i32::from(address.port()))
    });
    let names: Vec<String> = match &request.topics {
        None => state.topics.keys().map(ToString::to_string).collect(),
        Some(topics) => topics.iter().filter_map(|topic| Some(topic.name.as_ref()?.0.to_string())).collect(),
    };
    let topics = names.into_iter().map(|name| {
        let answer = MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.clone()))));
        let Some(topic) = state.topics.get(name.as_str()) else {
            return answer.with_error_code(UNKNOWN_TOPIC_OR_PARTITION);
        };
        let partitions = topic.partitions.iter().zip(0..).map(|(log, index)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(log.leader))
                .with_leader_epoch(if version >= 7 { log.epoch } else { -1 })
                .with_replica_nodes(vec![BrokerId(log.leader)])
                .with_isr_nodes(vec![BrokerId(log.leader)])
        });
        let id = if version >= 10 { topic.id } else { uuid::Uuid::nil() };
        answer.with_topic_id(id).with_partitions(partitions.collect())
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_static_str("fake-source")))
        .with_controller_id(BrokerId(1))
        .with_topics(topics.collect())
}

/// What a leader checks before it answers about a partition.
pub(super) fn refusal(log: &super::Log, node: usize, leader_epoch: i32) -> i16 {
    let is_leader = usize::try_from(log.leader).is_ok_and(|leader| leader == node + 1);
    match () {
        () if log.error_code != 0 => log.error_code,
        () if !is_leader => NOT_LEADER,
        () if leader_epoch >= 0 && leader_epoch < log.epoch => FENCED_LEADER_EPOCH,
        () if leader_epoch > log.epoch => UNKNOWN_LEADER_EPOCH,
        () => 0,
    }
}

fn list_offsets(state: &mut State, node: usize, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            let Some(log) = state.log(topic.name.0.as_str(), asked.partition_index) else {
                return answer.with_error_code(UNKNOWN_TOPIC_OR_PARTITION);
            };
            let code = refusal(log, node, asked.current_leader_epoch);
            let (offset, timestamp) = match asked.timestamp {
                _ if code != 0 => (-1, -1),
                -2 => (log.start, -1),
                -1 => (log.end, -1),
                timestamp => log.offset_for_timestamp(timestamp).unwrap_or((-1, -1)),
            };
            answer.with_error_code(code).with_offset(offset).with_timestamp(timestamp).with_leader_epoch(log.epoch)
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn epoch_ends(state: &mut State, node: usize, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            let Some(log) = state.log(topic.topic.0.as_str(), asked.partition) else {
                return answer.with_error_code(UNKNOWN_TOPIC_OR_PARTITION);
            };
            match refusal(log, node, asked.current_leader_epoch) {
                0 => {
                    let (epoch, end) = log.end_of_epoch(asked.leader_epoch);
                    answer.with_leader_epoch(epoch).with_end_offset(end)
                }
                code => answer.with_error_code(code),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
