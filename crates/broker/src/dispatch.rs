//! From a request frame to its handler and back to bytes.

use crate::requests::{NoRoom, is_question};
use crate::{Broker, Operation, Resource, apis, fetch, transactions};
use bytes::{BufMut, Bytes, BytesMut};
use hawser_transport::{HostPort, Principal};
use hawser_wire::api::{self, encode_response, private};
use hawser_wire::messages::{ApiKey, ApiVersionsRequest, ProduceRequest};
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
    #[error("peer is too slow to take its answer")]
    TooSlow,
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
        let is_question = is_question(frame.api_key);
        let mut begun;
        let mut needed = frame.body.len();
        let reply = loop {
            let charge = self.requests.charge(needed).await;
            let _building = if is_question { self.requests.build(frame.api_key).await } else { None };
            begun = Instant::now();
            let mut reply = match self.route(caller, &frame, shutdown).await {
                Ok(reply) => reply,
                Err(hangup) => break Err(hangup),
            };
            // What a Fetch answers with is accounted for by itself.
            let bytes = if reply.memory.is_some() { 0 } else { fetch::total_bytes(&reply.slices) };
            if !is_question {
                reply.charge = self.requests.charge_answer_partly(charge, bytes);
                break Ok(reply);
            }
            match self.requests.charge_answer(charge, bytes) {
                Ok(charge) => {
                    reply.charge = charge;
                    break Ok(reply);
                }
                Err(NoRoom) => needed = bytes.max(frame.body.len()),
            }
        };
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
        let client_id = frame.client_id.as_deref().unwrap_or_default();
        let reply = match api {
            ApiKey::Fetch => return self.fetch(caller, frame, frame.decode()?, shutdown).await,
            ApiKey::Produce => {
                return match self.produce(caller, frame.decode()?).await? {
                    Some(response) => {
                        Ok(encode_response::<ProduceRequest>(version, frame.correlation_id, &response)?.into())
                    }
                    None => Ok(Reply { slices: Vec::new(), memory: None, charge: None }),
                };
            }
            ApiKey::InitProducerId => later(frame, |r| self.init_producer_id(caller, r)).await,

            ApiKey::Metadata => later(frame, |r| self.metadata(caller, version, r)).await,
            ApiKey::DescribeCluster => now(frame, |r| self.describe_cluster(caller, r)),
            ApiKey::DescribeTopicPartitions => now(frame, |r| self.describe_topic_partitions(caller, r)),
            ApiKey::ListOffsets => later(frame, |r| self.list_offsets(caller, version, r)).await,
            ApiKey::OffsetForLeaderEpoch => now(frame, |r| self.offset_for_leader_epoch(caller, r)),

            ApiKey::CreateTopics => later(frame, |r| self.create_topics(caller, r)).await,
            ApiKey::CreatePartitions => later(frame, |r| self.create_partitions(caller, r)).await,
            ApiKey::DeleteTopics => later(frame, |r| self.delete_topics(caller, version, r)).await,
            ApiKey::DeleteRecords => later(frame, |r| self.delete_records(caller, r)).await,
            ApiKey::DescribeConfigs => now(frame, |r| self.describe_configs(caller, r)),
            ApiKey::IncrementalAlterConfigs => later(frame, |r| self.incremental_alter_configs(caller, r)).await,
            ApiKey::AlterConfigs => later(frame, |r| self.alter_configs(caller, r)).await,
            ApiKey::DescribeLogDirs => later(frame, |r| self.describe_log_dirs(caller, r)).await,

            ApiKey::ElectLeaders => now(frame, |r| self.elect_leaders(caller, version, r)),
            ApiKey::AlterPartitionReassignments => now(frame, |r| self.alter_partition_reassignments(caller, r)),
            ApiKey::ListPartitionReassignments => now(frame, |r| self.list_partition_reassignments(caller, &r)),
            ApiKey::DescribeQuorum => now(frame, |r| self.describe_quorum(caller, &r)),
            ApiKey::UnregisterBroker => now(frame, |r| self.unregister_broker(caller, &r)),
            ApiKey::UpdateFeatures => now(frame, |r| self.update_features(caller, version, r)),

            ApiKey::DescribeProducers => now(frame, |r| self.describe_producers(caller, r)),
            ApiKey::DescribeTransactions => now(frame, |r| self.describe_transactions(caller, r)),
            ApiKey::ListTransactions => now(frame, transactions::list_transactions),

            ApiKey::FindCoordinator => now(frame, |r| self.find_coordinator(caller, version, r)),
            ApiKey::JoinGroup => later(frame, |r| self.join_group(caller, version, client_id, r)).await,
            ApiKey::SyncGroup => later(frame, |r| self.sync_group(caller, version, r)).await,
            ApiKey::Heartbeat => now(frame, |r| self.heartbeat(caller, r)),
            ApiKey::LeaveGroup => now(frame, |r| self.leave_group(caller, version, r)),
            ApiKey::ConsumerGroupHeartbeat => {
                later(frame, |r| self.consumer_group_heartbeat(caller, client_id, r)).await
            }
            ApiKey::ConsumerGroupDescribe => now(frame, |r| self.consumer_group_describe(caller, r)),
            ApiKey::OffsetCommit => later(frame, |r| self.offset_commit(caller, version, r)).await,
            ApiKey::OffsetFetch => later(frame, |r| self.offset_fetch(caller, version, r)).await,
            ApiKey::OffsetDelete => later(frame, |r| self.offset_delete(caller, r)).await,
            ApiKey::ListGroups => later(frame, |r| self.list_groups(caller, r)).await,
            ApiKey::DescribeGroups => later(frame, |r| self.describe_groups(caller, version, r)).await,
            ApiKey::DeleteGroups => later(frame, |r| self.delete_groups(caller, r)).await,

            ApiKey::DescribeAcls => now(frame, |r| self.describe_acls(caller, r)),
            ApiKey::CreateAcls => later(frame, |r| self.create_acls(caller, r)).await,
            ApiKey::DeleteAcls => later(frame, |r| self.delete_acls(caller, r)).await,
            ApiKey::DescribeUserScramCredentials => now(frame, |r| self.describe_user_scram_credentials(caller, r)),
            ApiKey::AlterUserScramCredentials => later(frame, |r| self.alter_user_scram_credentials(caller, r)).await,
            ApiKey::DescribeClientQuotas => now(frame, |r| self.describe_client_quotas(caller, &r)),
            _ => Err(unsupported()),
        };
        Ok(reply?.into())
    }

    pub(crate) fn may(&self, caller: &Caller, operation: Operation, resource: Resource<'_>) -> bool {
        self.authorizer.authorize(&caller.principal, operation, resource)
    }
}

/// The frame that answers the request in `frame`, as `handle` does.
fn now<M: Request>(frame: &RequestFrame, handle: impl FnOnce(M) -> M::Response) -> Result<Bytes, Hangup> {
    Ok(encode_response::<M>(frame.api_version, frame.correlation_id, &handle(frame.decode()?))?)
}

/// The same for a handler that waits for something.
async fn later<M: Request, F>(frame: &RequestFrame, handle: impl FnOnce(M) -> F) -> Result<Bytes, Hangup>
where
    F: Future<Output = M::Response>,
{
    Ok(encode_response::<M>(frame.api_version, frame.correlation_id, &handle(frame.decode()?).await)?)
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
    if key == private::OPERATE { "Operate" } else { api::name(key).unwrap_or("other") }
}
