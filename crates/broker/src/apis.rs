//! Which APIs are spoken here, in which versions. Everything else is answered as KIP-511 says (ApiVersions) or ends
//! the connection.

use hawser_wire::Request;
use hawser_wire::api::supported_versions;
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, AlterUserScramCredentialsRequest, ApiKey,
    ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    CreateAclsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeAclsRequest, DescribeClientQuotasRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest, DescribeTransactionsRequest,
    DescribeUserScramCredentialsRequest, ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, ListPartitionReassignmentsRequest, ListTransactionsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest, UnregisterBrokerRequest, UpdateFeaturesRequest,
};
use hawser_wire::{RequestFrame, ResponseError};
use std::sync::LazyLock;

/// The versions of one API that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// API key.
    pub key: i16,
    /// Oldest version.
    pub min: i16,
    /// Newest version.
    pub max: i16,
}

/// Every API that a client may use after its login.
pub fn advertised_apis() -> &'static [ApiRange] {
    &APIS
}

/// What a SASL listener answers to ApiVersions before the login: all of [`advertised_apis`], as some clients ask only
/// once, and the login itself. librdkafka takes a listener for one without SASL unless SaslHandshake begins at version 0, so
/// it is offered, and refused by name to the clients from before Kafka 1.0 that use it.
pub fn api_versions_before_login() -> ApiVersionsResponse {
    let login = [(ApiKey::SaslHandshake, 0, 1), (ApiKey::SaslAuthenticate, 0, 2)];
    let login = login.map(|(key, min, max)| ApiRange { key: key as i16, min, max });
    ApiVersionsResponse::default().with_api_keys(login.iter().chain(APIS.iter()).map(ApiRange::shown).collect())
}

static APIS: LazyLock<Vec<ApiRange>> = LazyLock::new(|| {
    let ranges = [
        range::<ProduceRequest>(),
        range::<FetchRequest>(),
        range::<ListOffsetsRequest>(),
        range::<MetadataRequest>(),
        range::<OffsetCommitRequest>(),
        range::<OffsetFetchRequest>(),
        range::<FindCoordinatorRequest>(),
        range::<JoinGroupRequest>(),
        range::<HeartbeatRequest>(),
        range::<LeaveGroupRequest>(),
        range::<SyncGroupRequest>(),
        range::<DescribeGroupsRequest>(),
        range::<ListGroupsRequest>(),
        range::<ApiVersionsRequest>(),
        range::<CreateTopicsRequest>(),
        range::<DeleteTopicsRequest>(),
        range::<InitProducerIdRequest>(),
        range::<OffsetForLeaderEpochRequest>(),
        range::<DescribeConfigsRequest>(),
        range::<DeleteGroupsRequest>(),
        range::<OffsetDeleteRequest>(),
        range::<DescribeClusterRequest>(),
        range::<AlterConfigsRequest>(),
        range::<AlterPartitionReassignmentsRequest>(),
        range::<CreatePartitionsRequest>(),
        range::<DeleteRecordsRequest>(),
        range::<DescribeLogDirsRequest>(),
        range::<DescribeProducersRequest>(),
        range::<DescribeQuorumRequest>(),
        range::<DescribeTopicPartitionsRequest>(),
        range::<DescribeTransactionsRequest>(),
        range::<ElectLeadersRequest>(),
        range::<IncrementalAlterConfigsRequest>(),
        range::<ListPartitionReassignmentsRequest>(),
        range::<ListTransactionsRequest>(),
        range::<UnregisterBrokerRequest>(),
        range::<UpdateFeaturesRequest>(),
        range::<ConsumerGroupHeartbeatRequest>(),
        range::<ConsumerGroupDescribeRequest>(),
        range::<DescribeAclsRequest>(),
        range::<CreateAclsRequest>(),
        range::<DeleteAclsRequest>(),
        range::<DescribeUserScramCredentialsRequest>(),
        range::<AlterUserScramCredentialsRequest>(),
        range::<DescribeClientQuotasRequest>(),
    ];
    ranges.into_iter().flatten().collect()
});

/// What the guard, the codec and Kafka 4.3's own schema have in common.
fn range<M: Request>() -> Option<ApiRange> {
    supported_versions::<M>().map(|(min, max)| ApiRange { key: M::KEY, min, max })
}

impl ApiRange {
    fn shown(&self) -> ApiVersion {
        ApiVersion::default().with_api_key(self.key).with_min_version(self.min).with_max_version(self.max)
    }
}

/// Whether `frame` is of an API and version that is answered.
pub(crate) fn is_spoken(frame: &RequestFrame) -> bool {
    let range = APIS.iter().find(|range| range.key == frame.api_key);
    range.is_some_and(|range| (range.min..=range.max).contains(&frame.api_version))
}

/// The answer to ApiVersions. A version that is not spoken gets the error and the list, in version 0 (KIP-511).
pub(crate) fn answer(frame: &RequestFrame) -> (i16, ApiVersionsResponse) {
    let response = ApiVersionsResponse::default().with_api_keys(APIS.iter().map(ApiRange::shown).collect());
    if !is_spoken(frame) {
        return (0, response.with_error_code(ResponseError::UnsupportedVersion.code()));
    }
    match frame.decode::<ApiVersionsRequest>() {
        Ok(request) if frame.api_version >= 3 && !is_software_named(&request) => {
            (frame.api_version, response.with_error_code(ResponseError::InvalidRequest.code()))
        }
        Ok(_) => (frame.api_version, response),
        Err(_) => (frame.api_version, response.with_error_code(ResponseError::InvalidRequest.code())),
    }
}

/// `ApiVersionsRequest.isValid` (KIP-511).
fn is_software_named(request: &ApiVersionsRequest) -> bool {
    let is_name = |text: &str| {
        let alphanumeric = |c: char| c.is_ascii_alphanumeric();
        text.starts_with(alphanumeric)
            && text.ends_with(alphanumeric)
            && text.chars().all(|c| alphanumeric(c) || c == '-' || c == '.')
    };
    is_name(&request.client_software_name) && is_name(&request.client_software_version)
}
