//! Answers to requests that are not let through, in the form of their own API, so that a client reads an error and not a
//! broken connection. Where no such answer can be built, the channel is closed.

use crate::guard::{Forbidden, Verdict, forbidden, versions};
use crate::policy::Policy;
use bytes::Bytes;
use hawser_wire::api::encode_response;
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::create_topics_response::CreatableTopicResult;
use hawser_wire::messages::delete_topics_response::DeletableTopicResult;
use hawser_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use hawser_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use hawser_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use hawser_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use hawser_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use hawser_wire::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, EndTxnRequest, EndTxnResponse, FetchRequest,
    FetchResponse, HeartbeatRequest, HeartbeatResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use hawser_wire::{ApiKey, DecodeError, Request, RequestFrame, ResponseError};

/// An API that is never let through.
pub(crate) fn api(key: ApiKey, request: &RequestFrame) -> Verdict {
    let why = forbidden(format!("{key:?}"), "only reading APIs are let through");
    let group = ResponseError::GroupAuthorizationFailed.code();
    let cluster = ResponseError::ClusterAuthorizationFailed.code();
    let sasl = ResponseError::IllegalSaslState.code();
    let answer = match key {
        ApiKey::Produce => produce(request),
        ApiKey::CreateTopics => create_topics(request),
        ApiKey::DeleteTopics => delete_topics(request),
        ApiKey::IncrementalAlterConfigs => alter_configs(request),
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
    let why = forbidden(format!("{key:?}"), reason);
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
            Some(policy) if policy.lets_out_fetch(topic) => 0,
            // An id that was never seen: the client has to ask for Metadata, and so shows it here.
            Some(_) if !topic.topic_id.is_nil() => ResponseError::UnknownTopicId.code(),
            Some(_) | None => ResponseError::TopicAuthorizationFailed.code(),
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
        forbidden("Fetch", reason),
    )
}

/// A ListOffsets: forbidden topics are named, the others are to be asked again.
pub(crate) fn list_offsets(
    request: &RequestFrame,
    body: &ListOffsetsRequest,
    policy: Option<&std::sync::Arc<Policy>>,
    reason: &str,
) -> Verdict {
    let topics = body.topics.iter().map(|topic| {
        let error = topic_error(policy, &topic.name);
        let partition = |index: i32| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(error)
                .with_offset(-1)
                .with_timestamp(-1)
        };
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(|p| partition(p.partition_index)).collect())
    });
    let response = ListOffsetsResponse::default().with_topics(topics.collect());
    let answer = encode_response::<ListOffsetsRequest>(request.api_version, request.correlation_id, &response);
    verdict(answer, forbidden("ListOffsets", reason))
}

/// An OffsetForLeaderEpoch, likewise.
pub(crate) fn leader_epoch(
    request: &RequestFrame,
    body: &OffsetForLeaderEpochRequest,
    policy: Option<&std::sync::Arc<Policy>>,
    reason: &str,
) -> Verdict {
    let topics = body.topics.iter().map(|topic| {
        let error = topic_error(policy, &topic.topic);
        let partition = |index: i32| EpochEndOffset::default().with_partition(index).with_error_code(error);
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(topic.partitions.iter().map(|p| partition(p.partition)).collect())
    });
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    let answer = encode_response::<OffsetForLeaderEpochRequest>(request.api_version, request.correlation_id, &response);
    verdict(answer, forbidden("OffsetForLeaderEpoch", reason))
}

fn topic_error(policy: Option<&std::sync::Arc<Policy>>, topic: &str) -> i16 {
    match policy {
        Some(policy) if policy.lets_out(topic) => ResponseError::LeaderNotAvailable.code(),
        Some(_) | None => ResponseError::TopicAuthorizationFailed.code(),
    }
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

fn alter_configs(request: &RequestFrame) -> Result<Bytes, DecodeError> {
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

fn respond<M: Request>(request: &RequestFrame, response: M::Response) -> Result<Bytes, DecodeError> {
    encode_response::<M>(request.api_version, request.correlation_id, &response)
}

fn verdict(answer: Result<Bytes, DecodeError>, why: Forbidden) -> Verdict {
    match answer {
        Ok(frame) => Verdict::Answer(frame, why),
        Err(_) => Verdict::Close(why),
    }
}
