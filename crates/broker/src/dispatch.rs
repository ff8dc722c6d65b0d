//! From a request frame to its handler and back to bytes.

use crate::{Broker, Operation, Resource, apis, fetch, transactions};
use bytes::{BufMut, Bytes, BytesMut};
use hawser_transport::{HostPort, Principal};
use hawser_wire::api::{encode_response, private};
use hawser_wire::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, AlterUserScramCredentialsRequest, ApiKey,
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreateAclsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeAclsRequest, DescribeClientQuotasRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeQuorumRequest, DescribeTopicPartitionsRequest, DescribeTransactionsRequest,
    DescribeUserScramCredentialsRequest, ElectLeadersRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, ListPartitionReassignmentsRequest, ListTransactionsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest, UnregisterBrokerRequest, UpdateFeaturesRequest,
};
use hawser_wire::{DecodeError, Request, RequestFrame};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Who asks, and over which listener.
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) peer: SocketAddr,
    pub(crate) advertised: Arc<HostPort>,
}

/// A whole response frame in slices, with the memory that it is accounted for until it is written.
pub(crate) struct Reply {
    pub(crate) slices: Vec<Bytes>,
    pub(crate) memory: Option<OwnedSemaphorePermit>,
    /// The charge for the answer, if it or the request was large.
    pub(crate) charge: Option<OwnedSemaphorePermit>,
}

/// Why a connection is closed by this side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Hangup {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("LinkOpen of {0} bytes")]
    LinkOpenTooLarge(usize),
    #[error("peer took no bytes for too long")]
    Stalled,
    /// A producer with acks=0 hears of an error only this way (`KafkaApis.handleProduceRequest`).
    #[error("produce without acknowledgement refused")]
    RefusedWithoutAcks,
    #[error("the append was not finished")]
    Unfinished,
}

impl From<Bytes> for Reply {
    fn from(frame: Bytes) -> Self {
        Self { slices: vec![frame], memory: None, charge: None }
    }
}

impl Broker {
    /// Answers one request. Dropping it gives the request up; what it has handed on (a commit, a join) goes on.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        caller: &Caller,
        frame: RequestFrame,
        shutdown: &CancellationToken,
    ) -> Result<Reply, Hangup> {
        let api = api_name(frame.api_key);
        let charge = self.requests.charge(frame.body.len()).await;
        let begun = Instant::now();
        let mut reply = self.route(caller, &frame, shutdown).await;
        if let Ok(reply) = &mut reply {
            // What a Fetch answers with is accounted for by itself.
            let bytes = if reply.memory.is_some() { 0 } else { fetch::total_bytes(&reply.slices) };
            reply.charge = self.requests.charge_answer(charge, bytes);
        }
        metrics::counter!("hawser_requests_total", "api" => api).increment(1);
        metrics::histogram!("hawser_request_duration_seconds", "api" => api).record(begun.elapsed().as_secs_f64());
        reply
    }

    async fn route(
        self: &Arc<Self>,
        caller: &Caller,
        frame: &RequestFrame,
        shutdown: &CancellationToken,
    ) -> Result<Reply, Hangup> {
        if frame.api_key == private::OPERATE {
            let body = self.private.operate(&caller.principal, frame.body.clone()).await;
            return Ok(private_reply(frame.correlation_id, &body));
        }
        let unsupported =
            || Hangup::Decode(DecodeError::Unsupported { key: frame.api_key, version: frame.api_version });
        let api = ApiKey::try_from(frame.api_key).map_err(|()| unsupported())?;
        if api == ApiKey::ApiVersions {
            let (version, response) = apis::answer(frame);
            return Ok(encode_response::<ApiVersionsRequest>(version, frame.correlation_id, &response)?.into());
        }
        if !apis::is_spoken(frame) {
            return Err(unsupported());
        }
        let version = frame.api_version;
        let reply = match api {
            ApiKey::Fetch => return self.fetch(caller, frame, frame.decode()?, shutdown).await,
            ApiKey::Produce => {
                return match self.produce(caller, frame.decode()?).await? {
                    Some(response) => Ok(encode::<ProduceRequest>(frame, &response)?.into()),
                    None => Ok(Reply { slices: Vec::new(), memory: None, charge: None }),
                };
            }
            ApiKey::InitProducerId => {
                Ok(encode::<InitProducerIdRequest>(frame, &self.init_producer_id(caller, &frame.decode()?).await))
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let client_id = frame.client_id.as_deref().unwrap_or_default();
                let response = self.consumer_group_heartbeat(caller, client_id, frame.decode()?).await;
                Ok(encode::<ConsumerGroupHeartbeatRequest>(frame, &response))
            }
            ApiKey::ConsumerGroupDescribe => {
                let response = self.consumer_group_describe(caller, frame.decode()?);
                Ok(encode::<ConsumerGroupDescribeRequest>(frame, &response))
            }
            ApiKey::Metadata => {
                Ok(encode::<MetadataRequest>(frame, &self.metadata(caller, version, frame.decode()?).await))
            }
            ApiKey::DescribeCluster => {
                Ok(encode::<DescribeClusterRequest>(frame, &self.describe_cluster(caller, frame.decode()?)))
            }
            ApiKey::CreateTopics => {
                Ok(encode::<CreateTopicsRequest>(frame, &self.create_topics(caller, frame.decode()?).await))
            }
            ApiKey::DeleteTopics => {
                Ok(encode::<DeleteTopicsRequest>(frame, &self.delete_topics(caller, version, frame.decode()?).await))
            }
            ApiKey::AlterConfigs => {
                Ok(encode::<AlterConfigsRequest>(frame, &self.alter_configs(caller, frame.decode()?).await))
            }
            ApiKey::AlterPartitionReassignments => Ok(encode::<AlterPartitionReassignmentsRequest>(
                frame,
                &self.alter_partition_reassignments(caller, frame.decode()?),
            )),
            ApiKey::CreatePartitions => {
                Ok(encode::<CreatePartitionsRequest>(frame, &self.create_partitions(caller, frame.decode()?).await))
            }
            ApiKey::DeleteRecords => {
                Ok(encode::<DeleteRecordsRequest>(frame, &self.delete_records(caller, frame.decode()?).await))
            }
            ApiKey::DescribeLogDirs => {
                Ok(encode::<DescribeLogDirsRequest>(frame, &self.describe_log_dirs(caller, frame.decode()?).await))
            }
            ApiKey::DescribeProducers => {
                Ok(encode::<DescribeProducersRequest>(frame, &self.describe_producers(caller, frame.decode()?)))
            }
            ApiKey::DescribeQuorum => Ok(encode::<DescribeQuorumRequest>(frame, &self.describe_quorum(caller))),
            ApiKey::DescribeTopicPartitions => Ok(encode::<DescribeTopicPartitionsRequest>(
                frame,
                &self.describe_topic_partitions(caller, frame.decode()?),
            )),
            ApiKey::DescribeTransactions => {
                Ok(encode::<DescribeTransactionsRequest>(frame, &self.describe_transactions(caller, frame.decode()?)))
            }
            ApiKey::ElectLeaders => {
                Ok(encode::<ElectLeadersRequest>(frame, &self.elect_leaders(caller, version, frame.decode()?)))
            }
            ApiKey::IncrementalAlterConfigs => Ok(encode::<IncrementalAlterConfigsRequest>(
                frame,
                &self.incremental_alter_configs(caller, frame.decode()?).await,
            )),
            ApiKey::ListPartitionReassignments => {
                Ok(encode::<ListPartitionReassignmentsRequest>(frame, &self.list_partition_reassignments(caller)))
            }
            ApiKey::ListTransactions => {
                Ok(encode::<ListTransactionsRequest>(frame, &transactions::list_transactions(frame.decode()?)))
            }
            ApiKey::UnregisterBroker => {
                Ok(encode::<UnregisterBrokerRequest>(frame, &self.unregister_broker(caller, &frame.decode()?)))
            }
            ApiKey::UpdateFeatures => {
                Ok(encode::<UpdateFeaturesRequest>(frame, &self.update_features(caller, version, frame.decode()?)))
            }
            ApiKey::DescribeConfigs => {
                Ok(encode::<DescribeConfigsRequest>(frame, &self.describe_configs(caller, frame.decode()?)))
            }
            ApiKey::FindCoordinator => {
                Ok(encode::<FindCoordinatorRequest>(frame, &self.find_coordinator(caller, version, frame.decode()?)))
            }
            ApiKey::ListOffsets => {
                Ok(encode::<ListOffsetsRequest>(frame, &self.list_offsets(caller, version, frame.decode()?).await))
            }
            ApiKey::OffsetForLeaderEpoch => {
                let response = self.offset_for_leader_epoch(caller, frame.decode()?);
                Ok(encode::<OffsetForLeaderEpochRequest>(frame, &response))
            }
            ApiKey::JoinGroup => {
                let client_id = frame.client_id.as_deref().unwrap_or_default();
                let response = self.join_group(caller, version, client_id, frame.decode()?).await;
                Ok(encode::<JoinGroupRequest>(frame, &response))
            }
            ApiKey::SyncGroup => {
                Ok(encode::<SyncGroupRequest>(frame, &self.sync_group(caller, version, frame.decode()?).await))
            }
            ApiKey::Heartbeat => Ok(encode::<HeartbeatRequest>(frame, &self.heartbeat(caller, frame.decode()?))),
            ApiKey::LeaveGroup => {
                Ok(encode::<LeaveGroupRequest>(frame, &self.leave_group(caller, version, frame.decode()?)))
            }
            ApiKey::OffsetCommit => {
                Ok(encode::<OffsetCommitRequest>(frame, &self.offset_commit(caller, version, frame.decode()?).await))
            }
            ApiKey::OffsetFetch => {
                Ok(encode::<OffsetFetchRequest>(frame, &self.offset_fetch(caller, version, frame.decode()?).await))
            }
            ApiKey::ListGroups => {
                Ok(encode::<ListGroupsRequest>(frame, &self.list_groups(caller, frame.decode()?).await))
            }
            ApiKey::DescribeGroups => {
                let response = self.describe_groups(caller, version, frame.decode()?).await;
                Ok(encode::<DescribeGroupsRequest>(frame, &response))
            }
            ApiKey::DeleteGroups => {
                Ok(encode::<DeleteGroupsRequest>(frame, &self.delete_groups(caller, frame.decode()?).await))
            }
            ApiKey::OffsetDelete => {
                Ok(encode::<OffsetDeleteRequest>(frame, &self.offset_delete(caller, frame.decode()?).await))
            }
            ApiKey::DescribeAcls => {
                Ok(encode::<DescribeAclsRequest>(frame, &self.describe_acls(caller, frame.decode()?)))
            }
            ApiKey::CreateAcls => {
                Ok(encode::<CreateAclsRequest>(frame, &self.create_acls(caller, frame.decode()?).await))
            }
            ApiKey::DeleteAcls => {
                Ok(encode::<DeleteAclsRequest>(frame, &self.delete_acls(caller, frame.decode()?).await))
            }
            ApiKey::DescribeUserScramCredentials => {
                let response = self.describe_user_scram_credentials(caller, frame.decode()?);
                Ok(encode::<DescribeUserScramCredentialsRequest>(frame, &response))
            }
            ApiKey::AlterUserScramCredentials => {
                let response = self.alter_user_scram_credentials(caller, frame.decode()?).await;
                Ok(encode::<AlterUserScramCredentialsRequest>(frame, &response))
            }
            ApiKey::DescribeClientQuotas => {
                let response = self.describe_client_quotas(caller, &frame.decode()?);
                Ok(encode::<DescribeClientQuotasRequest>(frame, &response))
            }
            _ => Err(unsupported()),
        };
        Ok(reply??.into())
    }

    pub(crate) fn may(&self, caller: &Caller, operation: Operation, resource: Resource<'_>) -> bool {
        self.authorizer.authorize(&caller.principal, operation, resource)
    }
}

fn encode<M: Request>(frame: &RequestFrame, response: &M::Response) -> Result<Bytes, DecodeError> {
    encode_response::<M>(frame.api_version, frame.correlation_id, response)
}

/// Private keys have a v0 response head: the correlation id alone.
fn private_reply(correlation_id: i32, body: &Bytes) -> Reply {
    let mut head = BytesMut::with_capacity(8);
    head.put_i32(i32::try_from(body.len()).unwrap_or(i32::MAX).saturating_add(4));
    head.put_i32(correlation_id);
    Reply { slices: vec![head.freeze(), body.clone()], memory: None, charge: None }
}

/// A name for metrics; few and fixed, whatever a peer sends.
fn api_name(key: i16) -> &'static str {
    match ApiKey::try_from(key) {
        Ok(ApiKey::Produce) => "Produce",
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::ListOffsets) => "ListOffsets",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::OffsetCommit) => "OffsetCommit",
        Ok(ApiKey::OffsetFetch) => "OffsetFetch",
        Ok(ApiKey::FindCoordinator) => "FindCoordinator",
        Ok(ApiKey::JoinGroup) => "JoinGroup",
        Ok(ApiKey::Heartbeat) => "Heartbeat",
        Ok(ApiKey::LeaveGroup) => "LeaveGroup",
        Ok(ApiKey::SyncGroup) => "SyncGroup",
        Ok(ApiKey::DescribeGroups) => "DescribeGroups",
        Ok(ApiKey::ListGroups) => "ListGroups",
        Ok(ApiKey::ApiVersions) => "ApiVersions",
        Ok(ApiKey::OffsetForLeaderEpoch) => "OffsetForLeaderEpoch",
        Ok(ApiKey::DescribeConfigs) => "DescribeConfigs",
        Ok(ApiKey::CreateTopics) => "CreateTopics",
        Ok(ApiKey::DeleteTopics) => "DeleteTopics",
        Ok(ApiKey::AlterConfigs) => "AlterConfigs",
        Ok(ApiKey::AlterPartitionReassignments) => "AlterPartitionReassignments",
        Ok(ApiKey::CreatePartitions) => "CreatePartitions",
        Ok(ApiKey::DeleteRecords) => "DeleteRecords",
        Ok(ApiKey::DescribeLogDirs) => "DescribeLogDirs",
        Ok(ApiKey::DescribeProducers) => "DescribeProducers",
        Ok(ApiKey::DescribeQuorum) => "DescribeQuorum",
        Ok(ApiKey::DescribeTopicPartitions) => "DescribeTopicPartitions",
        Ok(ApiKey::DescribeTransactions) => "DescribeTransactions",
        Ok(ApiKey::ElectLeaders) => "ElectLeaders",
        Ok(ApiKey::IncrementalAlterConfigs) => "IncrementalAlterConfigs",
        Ok(ApiKey::ListPartitionReassignments) => "ListPartitionReassignments",
        Ok(ApiKey::ListTransactions) => "ListTransactions",
        Ok(ApiKey::UnregisterBroker) => "UnregisterBroker",
        Ok(ApiKey::UpdateFeatures) => "UpdateFeatures",
        Ok(ApiKey::DeleteGroups) => "DeleteGroups",
        Ok(ApiKey::OffsetDelete) => "OffsetDelete",
        Ok(ApiKey::DescribeCluster) => "DescribeCluster",
        Ok(ApiKey::InitProducerId) => "InitProducerId",
        Ok(ApiKey::ConsumerGroupHeartbeat) => "ConsumerGroupHeartbeat",
        Ok(ApiKey::ConsumerGroupDescribe) => "ConsumerGroupDescribe",
        Ok(ApiKey::DescribeAcls) => "DescribeAcls",
        Ok(ApiKey::CreateAcls) => "CreateAcls",
        Ok(ApiKey::DeleteAcls) => "DeleteAcls",
        Ok(ApiKey::DescribeUserScramCredentials) => "DescribeUserScramCredentials",
        Ok(ApiKey::AlterUserScramCredentials) => "AlterUserScramCredentials",
        Ok(ApiKey::DescribeClientQuotas) => "DescribeClientQuotas",
        _ if key == private::OPERATE => "Operate",
        _ => "other",
    }
}
