//! Produce: refused. A mirror has one writer, its link; ordinary topics come with promotion.
//!
//! InitProducerId is answered all the same: Java producers and librdkafka with idempotence ask for an id first, and
//! without one they fail with an error that says nothing of mirrors. No record is ever appended under these ids.

use crate::dispatch::{Caller, Hangup};
use crate::{Broker, Operation, Resource};
use hawser_state::{MirrorStatus, TopicRecord};
use hawser_wire::messages::produce_request::TopicProduceData;
use hawser_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use hawser_wire::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};
use hawser_wire::{ResponseError, StrBytes};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Broker {
    pub(crate) fn produce(
        &self,
        caller: &Caller,
        version: i16,
        request: ProduceRequest,
    ) -> Result<ProduceResponse, Hangup> {
        if request.acks == 0 {
            return Err(Hangup::RefusedWithoutAcks);
        }
        let responses = request.topic_data.into_iter().map(|topic| self.refuse_topic(caller, version, topic)).collect();
        Ok(ProduceResponse::default().with_responses(responses))
    }

    pub(crate) fn init_producer_id(&self, caller: &Caller, request: &InitProducerIdRequest) -> InitProducerIdResponse {
        let refused = |error: ResponseError| {
            InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_error_code(error.code())
        };
        if request.transactional_id.is_some() {
            return refused(ResponseError::TransactionalIdAuthorizationFailed);
        }
        let writes = |topic: &Arc<TopicRecord>| self.may(caller, Operation::Write, Resource::Topic(&topic.name));
        // `AuthHelper.authorizeByResourceType`: who may write to any topic may do so with idempotence.
        if !self.may(caller, Operation::IdempotentWrite, Resource::Cluster) && !self.state.topics().iter().any(writes) {
            return refused(ResponseError::ClusterAuthorizationFailed);
        }
        let id = self.producer_ids.fetch_add(1, Ordering::Relaxed);
        InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0)
    }

    fn refuse_topic(&self, caller: &Caller, version: i16, topic: TopicProduceData) -> TopicProduceResponse {
        let (error, message) = match self.topic_for(caller, Operation::Write, &topic.name, topic.topic_id) {
            Ok(record) => refusal(&record),
            Err(error) => (error, None),
        };
        let message = message.filter(|_| version >= 8).map(StrBytes::from_string);
        let refuse = |index| {
            PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(error.code())
                .with_base_offset(-1)
                .with_error_message(message.clone())
        };
        let partitions = topic.partition_data.iter().map(|partition| refuse(partition.index)).collect();
        TopicProduceResponse::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions)
    }
}

fn refusal(topic: &TopicRecord) -> (ResponseError, Option<String>) {
    let is_read_only = topic.mirror.as_ref().is_some_and(|mirror| mirror.status != MirrorStatus::Stopped);
    let message = if is_read_only {
        format!("Cannot append records to read-only mirror topic '{}'", topic.name)
    } else {
        format!("Topic '{}' cannot be written to: this broker does not take records yet", topic.name)
    };
    (ResponseError::InvalidRequest, Some(message))
}
