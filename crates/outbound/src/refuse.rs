//! Answers to requests that are not let through, in the form of their own API, so that a client reads an error and not a
//! broken connection. Where no such answer can be built, the channel is closed.

use crate::guard::{Forbidden, Verdict, forbidden, versions};
use crate::policy::Policy;
use bytes::Bytes;
use hawser_wire::api::encode_response;
use hawser_wire::messages::alter_configs_response::AlterConfigsResourceResponse as AlterConfigsResult;
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::create_acls_response::AclCreationResult;
use hawser_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use hawser_wire::messages::create_topics_response::CreatableTopicResult;
use hawser_wire::messages::delete_acls_response::DeleteAclsFilterResult;
use hawser_wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use hawser_wire::messages::delete_topics_response::DeletableTopicResult;
use hawser_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use hawser_wire::messages::find_coordinator_response::Coordinator;
use hawser_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use hawser_wire::messages::list_offsets_request::ListOffsetsTopic;
use hawser_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use hawser_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
use hawser_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use hawser_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use hawser_wire::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AlterConfigsRequest, AlterConfigsResponse, ApiVersionsRequest,
    ApiVersionsResponse, CreateAclsRequest, CreateAclsResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteAclsRequest, DeleteAclsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, EndTxnRequest, EndTxnResponse, FetchRequest,
    FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest, InitProducerIdResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest,
    ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use hawser_wire::{ApiKey, DecodeError, Request, RequestFrame, ResponseError};

/// An API that is never let through.
pub(crate) fn api(key: ApiKey, request: &RequestFrame) -> Verdict {
    let why = forbidden(key, "only reading APIs are let through");
    let group = ResponseError::GroupAuthorizationFailed.code();
    let cluster = ResponseError::ClusterAuthorizationFailed.code();
    let sasl = ResponseError::IllegalSaslState.code();
    let answer = match key {
        ApiKey::Produce => produce(request),
        ApiKey::CreateTopics => create_topics(request),
        ApiKey::DeleteTopics => delete_topics(request),
        ApiKey::CreatePartitions => create_partitions(request),
        ApiKey::DeleteRecords => delete_records(request),
        ApiKey::AlterConfigs => alter_configs(request),
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs(request),
        ApiKey::CreateAcls => create_acls(request),
        ApiKey::DeleteAcls => delete_acls(request),
        ApiKey::InitProducerId => {
            respond::<InitProducerIdRequest>(request, InitProducerIdResponse::default().with_error_code(cluster))
        }
        ApiKey::AddOffsetsToTxn => {
            respond::<AddOffsetsToTxnRequest>(request, AddOffsetsToTxnResponse::default().with_error_code(cluster))
        }
        ApiKey::EndTxn => respond::<EndTxnRequest>(request, EndTxnResponse::default().with_error_code(cluster)),
        ApiKey::JoinGroup => respond::<JoinGroupRequest>(request, JoinGroupResponse::default().with_error_code(group)),
        ApiKey::SyncGroup => respond::<SyncGroupRequest>(request, SyncGroupResponse::default().with_error_code(group)),
        ApiKey::Heartbeat => respond::<HeartbeatRequest>(request, HeartbeatResponse::default().with_error_code(group)),
        ApiKey::LeaveGroup => {
            respond::<LeaveGroupRequest>(request, LeaveGroupResponse::default().with_error_code(group))
        }
        ApiKey::SaslHandshake => {
            respond::<SaslHandshakeRequest>(request, SaslHandshakeResponse::default().with_error_code(sasl))
        }
        ApiKey::SaslAuthenticate => {
            respond::<SaslAuthenticateRequest>(request, SaslAuthenticateResponse::default().with_error_code(sasl))
        }
        _ => return Verdict::Close(why),
    };
    verdict(answer, why)
}

/// An API that is let through in other versions.
pub(crate) fn version(key: ApiKey, request: &RequestFrame, reason: String) -> Verdict {
    let why = forbidden(key, reason);
    if key != ApiKey::ApiVersions {
        return Verdict::Close(why);
    }
    // KIP-511: version 0 of the answer, with what would do.
    let (min, max) = versions(key).unwrap_or_default();
    let offer = ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max);
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![offer]);
    verdict(encode_response::<ApiVersionsRequest>(0, request.correlation_id, &response), why)
}

/// A fetch: forbidden topics are named, the others get nothing this time. Without a session id the client begins a new
/// session, which then holds none of them.
pub(crate) fn fetch(
    request: &RequestFrame,
    body: &FetchRequest,
    policy: Option<&std::sync::Arc<Policy>>,
    reason: &str,
) -> Verdict {
    let topics = body.topics.iter().map(|topic| {
        let error = match policy {
            None => ResponseError::TopicAuthorizationFailed.code(),
            Some(policy) => match policy.lets_out_fetch(topic) {
                Some(true) => 0,
                Some(false) => ResponseError::TopicAuthorizationFailed.code(),
                // The client has to ask for Metadata, and so shows it here.
                None => ResponseError::UnknownTopicId.code(),
            },
        };
        let partition = |index: i32| {
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(error)
                .with_high_watermark(-1)
                .with_last_stable_offset(-1)
                .with_log_start_offset(-1)
                .with_records(Some(Bytes::new()))
        };
        FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(topic.partitions.iter().map(|p| partition(p.partition)).collect())
    });
    // Topics that nothing is wrong with are left out: no word about them is better than a wrong one.
    let topics = topics.filter(|t| t.partitions.iter().any(|p| p.error_code != 0)).collect();
    let response = FetchResponse::default().with_responses(topics);
    verdict(
        encode_response::<FetchRequest>(request.api_version, request.correlation_id, &response),
        forbidden(ApiKey::Fetch, reason),
    )
}

/// A fetch that continues or closes a session which was not given on its channel: as if there were none of that id.
pub(crate) fn session(request: &RequestFrame) -> Verdict {
    let response = FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    verdict(respond::<FetchRequest>(request, response), forbidden(ApiKey::Fetch, "not a session of this channel"))
}

/// A FindCoordinator for anything but groups.
pub(crate) fn coordinator(request: &RequestFrame, body: &FindCoordinatorRequest) -> Verdict {
    let error = ResponseError::ClusterAuthorizationFailed.code();
    let node = hawser_wire::messages::BrokerId(-1);
    // Below version 4 one key is asked for, and the answer is about it; from then on each has its own.
    let each = |key: &hawser_wire::StrBytes| {
        Coordinator::default().with_key(key.clone()).with_node_id(node).with_port(-1).with_error_code(error)
    };
    let response = match request.api_version {
        ..4 => FindCoordinatorResponse::default().with_node_id(node).with_port(-1).with_error_code(error),
        _ => FindCoordinatorResponse::default().with_coordinators(body.coordinator_keys.iter().map(each).collect()),
    };
    let reason = format!("coordinators of groups only, not of key type {}", body.key_type);
    verdict(respond::<FindCoordinatorRequest>(request, response), forbidden(ApiKey::FindCoordinator, reason))
}

/// A ListOffsets of which nothing is let through.
pub(crate) fn list_offsets(request: &RequestFrame, topics: &[ListOffsetsTopic], reason: &str) -> Verdict {
    let response = ListOffsetsResponse::default().with_topics(topics.iter().map(denied_offsets).collect());
    verdict(respond::<ListOffsetsRequest>(request, response), forbidden(ApiKey::ListOffsets, reason))
}

/// What ListOffsets says of a topic that may not leave.
pub(crate) fn denied_offsets(topic: &ListOffsetsTopic) -> ListOffsetsTopicResponse {
    let partition = |index| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(ResponseError::TopicAuthorizationFailed.code())
            .with_offset(-1)
            .with_timestamp(-1)
    };
    ListOffsetsTopicResponse::default()
        .with_name(topic.name.clone())
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
}

/// An OffsetForLeaderEpoch of which nothing is let through.
pub(crate) fn leader_epoch(request: &RequestFrame, topics: &[OffsetForLeaderTopic], reason: &str) -> Verdict {
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics.iter().map(denied_epoch).collect());
    verdict(respond::<OffsetForLeaderEpochRequest>(request, response), forbidden(ApiKey::OffsetForLeaderEpoch, reason))
}

/// What OffsetForLeaderEpoch says of a topic that may not leave.
pub(crate) fn denied_epoch(topic: &OffsetForLeaderTopic) -> OffsetForLeaderTopicResult {
    let error = ResponseError::TopicAuthorizationFailed.code();
    let partition = |index| EpochEndOffset::default().with_partition(index).with_error_code(error);
    OffsetForLeaderTopicResult::default()
        .with_topic(topic.topic.clone())
        .with_partitions(topic.partitions.iter().map(|p| partition(p.partition)).collect())
}

fn produce(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::TopicAuthorizationFailed.code();
    let body = request.decode::<ProduceRequest>()?;
    if body.acks == 0 {
        // No answer is expected, and one would be taken for the next request's.
        return Err(DecodeError::Unsupported { key: request.api_key, version: request.api_version });
    }
    let topics = body.topic_data.iter().map(|topic| {
        let partition = |index| PartitionProduceResponse::default().with_index(index).with_error_code(error);
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(topic.partition_data.iter().map(|p| partition(p.index)).collect())
    });
    respond::<ProduceRequest>(request, ProduceResponse::default().with_responses(topics.collect()))
}

fn create_topics(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::TopicAuthorizationFailed.code();
    let body = request.decode::<CreateTopicsRequest>()?;
    let topic = |name| CreatableTopicResult::default().with_name(name).with_error_code(error);
    let topics = body.topics.into_iter().map(|t| topic(t.name)).collect();
    respond::<CreateTopicsRequest>(request, CreateTopicsResponse::default().with_topics(topics))
}

fn delete_topics(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::TopicAuthorizationFailed.code();
    let body = request.decode::<DeleteTopicsRequest>()?;
    let by_name = body.topic_names.into_iter().map(|name| (Some(name), hawser_wire::Uuid::nil()));
    let topics = by_name.chain(body.topics.into_iter().map(|t| (t.name, t.topic_id)));
    let result = |(name, id)| DeletableTopicResult::default().with_name(name).with_topic_id(id).with_error_code(error);
    respond::<DeleteTopicsRequest>(
        request,
        DeleteTopicsResponse::default().with_responses(topics.map(result).collect()),
    )
}

fn incremental_alter_configs(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::ClusterAuthorizationFailed.code();
    let body = request.decode::<IncrementalAlterConfigsRequest>()?;
    let results = body.resources.into_iter().map(|resource| {
        AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(error)
    });
    let response = IncrementalAlterConfigsResponse::default().with_responses(results.collect());
    respond::<IncrementalAlterConfigsRequest>(request, response)
}

fn alter_configs(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::ClusterAuthorizationFailed.code();
    let body = request.decode::<AlterConfigsRequest>()?;
    let results = body.resources.into_iter().map(|resource| {
        AlterConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(error)
    });
    respond::<AlterConfigsRequest>(request, AlterConfigsResponse::default().with_responses(results.collect()))
}

fn create_partitions(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::TopicAuthorizationFailed.code();
    let body = request.decode::<CreatePartitionsRequest>()?;
    let result = |name| CreatePartitionsTopicResult::default().with_name(name).with_error_code(error);
    let results = body.topics.into_iter().map(|topic| result(topic.name)).collect();
    respond::<CreatePartitionsRequest>(request, CreatePartitionsResponse::default().with_results(results))
}

fn delete_records(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::TopicAuthorizationFailed.code();
    let body = request.decode::<DeleteRecordsRequest>()?;
    let partition = |index| {
        DeleteRecordsPartitionResult::default()
            .with_partition_index(index)
            .with_low_watermark(-1)
            .with_error_code(error)
    };
    let topics = body.topics.into_iter().map(|topic| {
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
    });
    respond::<DeleteRecordsRequest>(request, DeleteRecordsResponse::default().with_topics(topics.collect()))
}

/// One result for each ACL asked for, in their order.
fn create_acls(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::ClusterAuthorizationFailed.code();
    let asked = request.decode::<CreateAclsRequest>()?.creations;
    let results = asked.iter().map(|_| AclCreationResult::default().with_error_code(error)).collect();
    respond::<CreateAclsRequest>(request, CreateAclsResponse::default().with_results(results))
}

/// Likewise, one for each filter.
fn delete_acls(request: &RequestFrame) -> Result<Bytes, DecodeError> {
    let error = ResponseError::ClusterAuthorizationFailed.code();
    let asked = request.decode::<DeleteAclsRequest>()?.filters;
    let results = asked.iter().map(|_| DeleteAclsFilterResult::default().with_error_code(error)).collect();
    respond::<DeleteAclsRequest>(request, DeleteAclsResponse::default().with_filter_results(results))
}

fn respond<M: Request>(request: &RequestFrame, response: M::Response) -> Result<Bytes, DecodeError> {
    encode_response::<M>(request.api_version, request.correlation_id, &response)
}

fn verdict(answer: Result<Bytes, DecodeError>, why: Forbidden) -> Verdict {
    match answer {
        Ok(frame) => Verdict::Answer(frame, why),
        Err(_) => Verdict::Close(why),
    }
}
