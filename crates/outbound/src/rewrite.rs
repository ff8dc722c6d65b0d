//! The answers that are decoded on their way out: ApiVersions, so that it offers exactly what the guard lets through,
//! and, under a site policy, those that list topics or lack some that were asked for.

use crate::guard::{Forbidden, HIDDEN, forbidden, versions};
use crate::policy::Policy;
use bytes::Bytes;
use hawser_wire::api::{decode_response, encode_response, split_response};
use hawser_wire::messages::list_offsets_response::ListOffsetsTopicResponse;
use hawser_wire::messages::offset_for_leader_epoch_response::OffsetForLeaderTopicResult;
use hawser_wire::messages::{
    ApiVersionsRequest, DescribeAclsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeTopicPartitionsRequest, ListOffsetsRequest, MetadataRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
};
use hawser_wire::{ApiKey, DecodeError, Request, ResponseError};
use std::sync::Arc;

/// `ConfigResource.Type.TOPIC` and `ResourceType.TOPIC`.
const TOPIC: i8 = 2;

/// Which topics a Metadata request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    All,
    ByName,
    ById,
}

/// An answer as it leaves.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// The whole frame.
    pub(crate) frame: Bytes,
    /// When the request named what may not leave, and only the answer showed it.
    pub(crate) forbidden: Option<Forbidden>,
}

/// How to rewrite an answer.
#[derive(Clone, Debug)]
pub(crate) enum Rewrite {
    ApiVersions { version: i16 },
    ListOffsets { version: i16, denied: Vec<ListOffsetsTopicResponse> },
    OffsetForLeaderEpoch { version: i16, denied: Vec<OffsetForLeaderTopicResult> },
    Metadata { version: i16, asked: Asked, policy: Arc<Policy> },
    DescribeConfigs { version: i16, policy: Arc<Policy> },
    OffsetFetch { version: i16, policy: Arc<Policy> },
    DescribeAcls { version: i16, policy: Arc<Policy> },
    DescribeGroups { version: i16 },
    DescribeTopicPartitions { version: i16, named: bool, policy: Arc<Policy> },
}

impl Rewrite {
    /// The answer to send in place of `frame` (without its length prefix).
    ///
    /// # Errors
    /// When the broker's answer cannot be read; it is not let out then.
    pub(crate) fn apply(&self, frame: Bytes) -> Result<Rewritten, DecodeError> {
        let denied = ResponseError::TopicAuthorizationFailed.code();
        // The API of which something was asked for by its name or id, and is hidden.
        let mut refused = None;
        let frame = match self {
            Self::ApiVersions { version } => api_versions(*version, frame)?,
            Self::ListOffsets { version, denied } => edit::<ListOffsetsRequest>(*version, frame, |response| {
                response.topics.extend_from_slice(denied);
            })?,
            Self::OffsetForLeaderEpoch { version, denied } => {
                edit::<OffsetForLeaderEpochRequest>(*version, frame, |response| {
                    response.topics.extend_from_slice(denied);
                })?
            }
            Self::Metadata { version, asked, policy } => edit::<MetadataRequest>(*version, frame, |response| {
                response.topics.retain_mut(|topic| {
                    let name = topic.name.as_ref().map_or("", |name| name.as_str());
                    if name.is_empty() || policy.learn(name, topic.topic_id) {
                        return true;
                    }
                    topic.error_code = denied;
                    topic.partitions.clear();
                    // As Kafka's own authorizer has it: who asks by name learns no id, who asks by id no name.
                    match asked {
                        Asked::All => return false,
                        Asked::ByName => topic.topic_id = hawser_wire::Uuid::nil(),
                        Asked::ById => topic.name = None,
                    }
                    refused = Some(ApiKey::Metadata);
                    true
                });
            })?,
            Self::DescribeTopicPartitions { version, named, policy } => {
                edit::<DescribeTopicPartitionsRequest>(*version, frame, |response| {
                    response.topics.retain_mut(|topic| {
                        let name = topic.name.as_ref().map_or("", |name| name.as_str());
                        if name.is_empty() || policy.learn(name, topic.topic_id) {
                            return true;
                        }
                        topic.error_code = denied;
                        topic.topic_id = hawser_wire::Uuid::nil();
                        topic.partitions.clear();
                        if *named {
                            refused = Some(ApiKey::DescribeTopicPartitions);
                        }
                        *named
                    });
                    if response.next_cursor.as_ref().is_some_and(|c| !policy.lets_out(&c.topic_name)) {
                        // The next page begins at a hidden topic; end the list rather than name it.
                        response.next_cursor = None;
                    }
                })?
            }
            Self::DescribeConfigs { version, policy } => edit::<DescribeConfigsRequest>(*version, frame, |response| {
                for result in response.results.iter_mut().filter(|r| r.resource_type == TOPIC) {
                    if !policy.lets_out(&result.resource_name) {
                        result.error_code = denied;
                        result.error_message = None;
                        result.configs.clear();
                        refused = Some(ApiKey::DescribeConfigs);
                    }
                }
            })?,
            Self::OffsetFetch { version, policy } => edit::<OffsetFetchRequest>(*version, frame, |response| {
                response.topics.retain(|topic| policy.lets_out(&topic.name));
                for group in &mut response.groups {
                    group.topics.retain(|topic| policy.lets_out(&topic.name));
                }
            })?,
            Self::DescribeAcls { version, policy } => edit::<DescribeAclsRequest>(*version, frame, |response| {
                response.resources.retain(|r| r.resource_type != TOPIC || policy.lets_out(&r.resource_name));
            })?,
            Self::DescribeGroups { version } => edit::<DescribeGroupsRequest>(*version, frame, |response| {
                // Subscriptions and assignments name topics, in a form that is the clients' own.
                for member in response.groups.iter_mut().flat_map(|group| &mut group.members) {
                    member.member_metadata = Bytes::new();
                    member.member_assignment = Bytes::new();
                }
            })?,
        };
        Ok(Rewritten { frame, forbidden: refused.map(|api| forbidden(api, HIDDEN)) })
    }
}

fn edit<M: Request>(version: i16, frame: Bytes, change: impl FnOnce(&mut M::Response)) -> Result<Bytes, DecodeError> {
    let (correlation_id, body) = split_response(M::KEY, version, frame)?;
    let mut response = decode_response::<M>(version, body)?;
    change(&mut response);
    encode_response::<M>(version, correlation_id, &response)
}

/// Keeps what the guard lets through, in the versions that both it and the broker know.
fn api_versions(version: i16, frame: Bytes) -> Result<Bytes, DecodeError> {
    let (correlation_id, body) = split_response(ApiKey::ApiVersions as i16, version, frame)?;
    // A broker that does not know the version answers in version 0 (KIP-511).
    let (version, mut response) = match decode_response::<ApiVersionsRequest>(version, body.clone()) {
        Ok(response) => (version, response),
        Err(_) => (0, decode_response::<ApiVersionsRequest>(0, body)?),
    };
    response.api_keys.retain_mut(|api| {
        let Some((min, max)) = ApiKey::try_from(api.api_key).ok().and_then(versions) else { return false };
        api.min_version = api.min_version.max(min);
        api.max_version = api.max_version.min(max);
        api.min_version <= api.max_version
    });
    encode_response::<ApiVersionsRequest>(version, correlation_id, &response)
}
