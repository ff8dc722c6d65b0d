//! Produce and InitProducerId (`KafkaApis.handleProduceRequest`, `ReplicaManager.appendRecords`). What a batch must look
//! like is decided in `hawser_log`; here is who may write where, and what the producer is told.
//!
//! There is one replica, so acks=1 and acks=all mean the same: the batch is in the log, and consumers see it. It is fsynced
//! within the flush interval, as everything in the log is.

use crate::dispatch::{Caller, Hangup};
use crate::groups::wall_ms;
use crate::{Broker, Operation, Resource};
use bytes::Bytes;
use hawser_log::{Appended, BadRecord, LeaderAppendError, PartitionLog};
use hawser_state::TopicRecord;
use hawser_wire::messages::produce_request::TopicProduceData;
use hawser_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use hawser_wire::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId, TopicName,
};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use std::sync::Arc;
use tracing::{debug, error, warn};

/// `acks`: nobody waits for an answer.
const NONE: i16 = 0;

/// One topic of a request: for each partition what is to be appended where, or why nothing is.
struct Job {
    name: TopicName,
    id: Uuid,
    partitions: Vec<(i32, Result<Append, Refused>)>,
}

/// Records as they came, and where they go.
struct Append {
    log: Arc<PartitionLog>,
    records: Bytes,
}

/// What a producer is told instead of an offset.
#[derive(Clone, Debug)]
struct Refused {
    code: ResponseError,
    message: Option<String>,
    records: Vec<BadRecord>,
}

impl Broker {
    /// `None` where nobody waits for an answer.
    pub(crate) async fn produce(
        &self,
        caller: &Caller,
        request: ProduceRequest,
    ) -> Result<Option<ProduceResponse>, Hangup> {
        let acks = request.acks;
        let jobs: Vec<Job> = request.topic_data.into_iter().map(|topic| self.job(caller, acks, topic)).collect();
        let now_ms = wall_ms();
        // Checking decompresses, appending writes: not for this thread. Dropped, it goes on to its end.
        let appending = tokio::task::spawn_blocking(move || jobs.into_iter().map(|job| job.append(now_ms)).collect());
        let topics: Vec<TopicProduceResponse> = appending.await.map_err(|_| Hangup::Unfinished)?;
        if acks != NONE {
            return Ok(Some(ProduceResponse::default().with_responses(topics)));
        }
        let is_refused = topics.iter().flat_map(|topic| &topic.partition_responses).any(|p| p.error_code != 0);
        if is_refused { Err(Hangup::RefusedWithoutAcks) } else { Ok(None) }
    }

    fn job(&self, caller: &Caller, acks: i16, topic: TopicProduceData) -> Job {
        let TopicProduceData { name, topic_id: id, partition_data, .. } = topic;
        let target = self.writable(caller, acks, &name, id);
        let partitions = partition_data.into_iter().map(|partition| {
            let found = target.clone().and_then(|topic| Ok(self.partitions.find(&topic, partition.index, -1)?.log));
            (partition.index, found.map(|log| Append { log, records: partition.records.unwrap_or_default() }))
        });
        let partitions = partitions.collect();
        Job { name, id, partitions }
    }

    /// The topic, if the caller may write to it and anybody may.
    fn writable(&self, caller: &Caller, acks: i16, name: &str, id: Uuid) -> Result<Arc<TopicRecord>, Refused> {
        if !(-1..=1).contains(&acks) {
            let message = format!("acks={acks}: expected -1, 0 or 1");
            return Err(Refused::new(ResponseError::InvalidRequiredAcks, Some(message)));
        }
        let topic = self.topic_for(caller, Operation::Write, name, id)?;
        if topic.is_read_only() {
            let message = format!("Cannot append records to read-only mirror topic '{}'", topic.name);
            return Err(Refused::new(ResponseError::InvalidRequest, Some(message)));
        }
        Ok(topic)
    }

    /// An id for an idempotent producer. Transactional ones are refused: there is no coordinator for them.
    pub(crate) async fn init_producer_id(
        &self,
        caller: &Caller,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        let refused = |error: ResponseError| {
            InitProducerIdResponse::default()
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
                .with_error_code(error.code())
        };
        match request.transactional_id.as_deref().map(|id| &**id) {
            None => {}
            Some("") => return refused(ResponseError::InvalidRequest),
            // The refusal to look for a coordinator said why; this one only has to be final to every client.
            Some(_) => return refused(ResponseError::TransactionalIdAuthorizationFailed),
        }
        let writes = |topic: &Arc<TopicRecord>| self.may(caller, Operation::Write, Resource::Topic(&topic.name));
        // `AuthHelper.authorizeByResourceType`: who may write to any topic may do so with idempotence.
        if !self.may(caller, Operation::IdempotentWrite, Resource::Cluster) && !self.state.topics().iter().any(writes) {
            return refused(ResponseError::ClusterAuthorizationFailed);
        }
        // Also for who names the id that he had: only a transactional producer keeps it over an error (KIP-360).
        match self.topics.producer_ids().next().await {
            Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
            Err(error) => {
                error!(%error, "no producer id");
                refused(ResponseError::CoordinatorNotAvailable)
            }
        }
    }
}

impl Job {
    /// Appends to one partition after the other.
    fn append(self, now_ms: i64) -> TopicProduceResponse {
        let answer = |(index, append): (i32, Result<Append, Refused>)| {
            let outcome = append.and_then(|Append { log, records }| {
                let bytes = records.len();
                let outcome = log.append_as_leader(records, now_ms);
                if outcome.is_ok() {
                    metrics::counter!("hawser_produced_bytes_total").increment(bytes as u64);
                }
                outcome.map_err(|error| Refused::of(&log, error))
            });
            answer(index, outcome)
        };
        TopicProduceResponse::default()
            .with_name(self.name)
            .with_topic_id(self.id)
            .with_partition_responses(self.partitions.into_iter().map(answer).collect())
    }
}

fn answer(index: i32, outcome: Result<Appended, Refused>) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index).with_error_message(None);
    match outcome {
        Ok(appended) => answer
            .with_base_offset(appended.first_offset.0)
            .with_log_append_time_ms(appended.log_append_time.unwrap_or(-1))
            .with_log_start_offset(appended.log_start.0),
        Err(refused) => {
            let record = |bad: BadRecord| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(bad.index)
                    .with_batch_index_error_message(Some(StrBytes::from_string(bad.reason)))
            };
            answer
                .with_error_code(refused.code.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
                .with_record_errors(refused.records.into_iter().map(record).collect())
                .with_error_message(refused.message.map(StrBytes::from_string))
        }
    }
}

impl Refused {
    fn new(code: ResponseError, message: Option<String>) -> Self {
        Self { code, message, records: Vec::new() }
    }

    fn of(log: &PartitionLog, error: LeaderAppendError) -> Self {
        use LeaderAppendError as E;
        let message = Some(error.to_string());
        let code = match error {
            E::NotLeader => ResponseError::NotLeaderOrFollower,
            E::Corrupt(_) => ResponseError::CorruptMessage,
            E::InvalidBatch(_) => ResponseError::InvalidRecord,
            E::InvalidRecords(records) => return Self { code: ResponseError::InvalidRecord, message, records },
            E::InvalidTimestamps(records) => return Self { code: ResponseError::InvalidTimestamp, message, records },
            E::UnknownCompression(_) => ResponseError::UnsupportedCompressionType,
            E::BatchTooLarge { .. } => ResponseError::MessageTooLarge,
            E::LargerThanSegment { .. } => ResponseError::RecordListTooLarge,
            E::Transactional => ResponseError::InvalidTxnState,
            E::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
            E::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
            E::Log(error) => {
                warn!(id = %log.id(), %error, "append failed");
                // What a file is called is no business of a producer's.
                return Self::new(ResponseError::KafkaStorageError, None);
            }
            _ => ResponseError::UnknownServerError,
        };
        debug!(id = %log.id(), ?code, message, "records refused");
        Self::new(code, message)
    }
}

impl From<ResponseError> for Refused {
    fn from(code: ResponseError) -> Self {
        Self::new(code, None)
    }
}
