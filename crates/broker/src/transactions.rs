//! What is asked about transactions and idempotent producers: there is no transaction coordinator here, and transactions are
//! those of mirrored topics.

use crate::dispatch::Caller;
use crate::requests::distinct;
use crate::{Broker, Operation, Resource};
use hawser_wire::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use hawser_wire::messages::describe_transactions_response::TransactionState;
use hawser_wire::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use hawser_wire::{ResponseError, StrBytes, Uuid};

/// `TransactionState` of Kafka's coordinator.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// None; filters by states that Kafka does not have are named, as its coordinator does.
pub(crate) fn list_transactions(request: ListTransactionsRequest) -> ListTransactionsResponse {
    let unknown = request.state_filters.into_iter().filter(|state| !STATES.contains(&state.as_str()));
    ListTransactionsResponse::default().with_unknown_state_filters(unknown.collect())
}

impl Broker {
    /// No transactional id is known here.
    pub(crate) fn describe_transactions(
        &self,
        caller: &Caller,
        request: DescribeTransactionsRequest,
    ) -> DescribeTransactionsResponse {
        let unknown = |id: TransactionalId| {
            let error = if self.may(caller, Operation::Describe, Resource::TransactionalId(&id)) {
                ResponseError::TransactionalIdNotFound
            } else {
                ResponseError::TransactionalIdAuthorizationFailed
            };
            TransactionState::default()
                .with_transactional_id(id)
                .with_error_code(error.code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        };
        let states = request.transactional_ids.into_iter().map(unknown).collect();
        DescribeTransactionsResponse::default().with_transaction_states(states)
    }

    /// `ReplicaManager.activeProducerState`.
    pub(crate) fn describe_producers(
        &self,
        caller: &Caller,
        request: DescribeProducersRequest,
    ) -> DescribeProducersResponse {
        let topics = distinct(request.topics, |topic| topic.name.clone()).into_iter().map(|topic| {
            let found = self.topic_for(caller, Operation::Read, &topic.name, Uuid::nil());
            let answer = |index: i32| {
                let answer = PartitionResponse::default().with_partition_index(index).with_error_message(None);
                let partition = match &found {
                    Ok(record) => self.partitions.find(record, index, -1),
                    Err(error) => Err(*error),
                };
                match partition {
                    Ok(partition) => {
                        let producers = partition.log.active_producers().into_iter().map(|producer| {
                            ProducerState::default()
                                .with_producer_id(ProducerId(producer.producer_id))
                                .with_producer_epoch(i32::from(producer.producer_epoch))
                                .with_last_sequence(producer.last_sequence)
                                .with_last_timestamp(producer.last_timestamp)
                                .with_coordinator_epoch(-1)
                                .with_current_txn_start_offset(producer.transaction_start.map_or(-1, |start| start.0))
                        });
                        answer.with_active_producers(producers.collect())
                    }
                    Err(error) => answer
                        .with_error_code(error.code())
                        .with_error_message(Some(StrBytes::from_string(format!("{error:?}")))),
                }
            };
            let partitions = distinct(topic.partition_indexes, |index| *index).into_iter().map(answer).collect();
            TopicResponse::default().with_name(topic.name).with_partitions(partitions)
        });
        DescribeProducersResponse::default().with_topics(topics.collect())
    }
}
