//! ListOffsets and OffsetForLeaderEpoch. Both answer a partition once, however often it is named, so that a request costs no
//! more than the partitions that there are; searches of logs wait for each other and hold up nothing else.

use crate::dispatch::Caller;
use crate::partitions::Partition;
use crate::requests::distinct;
use crate::{Broker, Operation};
use hawser_log::TimestampedOffset;
use hawser_wire::messages::list_offsets_request::ListOffsetsPartition;
use hawser_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use hawser_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use hawser_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use hawser_wire::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use hawser_wire::{LeaderEpoch, Offset, ResponseError, Uuid};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::warn;

/// `ListOffsetsRequest.EARLIEST_TIMESTAMP` and its siblings.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

const NOT_FOUND: TimestampedOffset =
    TimestampedOffset { timestamp: -1, offset: Offset(-1), leader_epoch: LeaderEpoch::NONE };

/// Searches of logs at a time, over all connections: each reads a disk on a thread of its own, and as many are under way in
/// Kafka (`num.io.threads`). A request has one under way; they take turns, so nobody waits for the whole of another's.
const SEARCHES_MAX: usize = 8;

/// Room for searches; one a broker.
pub(crate) struct Searches(Arc<Semaphore>);

impl Searches {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(SEARCHES_MAX)))
    }

    /// Looks into indexes and batches: on a blocking thread, when it is its turn.
    async fn search(
        &self,
        partition: Partition,
        isolation_level: i8,
        timestamp: i64,
    ) -> Result<TimestampedOffset, ResponseError> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let end = partition.readable_end(isolation_level);
        let log = partition.log;
        let search = move || {
            // It goes along: a search whose asker has left still reads.
            let _turn = turn;
            if timestamp == MAX_TIMESTAMP { log.offset_of_max_timestamp() } else { log.offset_for_timestamp(timestamp) }
        };
        match tokio::task::spawn_blocking(search).await {
            Ok(Ok(found)) => Ok(found.filter(|found| found.offset < end).unwrap_or(NOT_FOUND)),
            Ok(Err(error)) => {
                warn!(%error, timestamp, "offset search failed");
                Err(ResponseError::KafkaStorageError)
            }
            Err(_) => Err(ResponseError::UnknownServerError),
        }
    }
}

impl Broker {
    /// A partition that is named more than once is refused, once (`ListOffsetsRequest.duplicatePartitions`).
    pub(crate) async fn list_offsets(
        &self,
        caller: &Caller,
        version: i16,
        request: ListOffsetsRequest,
    ) -> ListOffsetsResponse {
        let isolation_level = request.isolation_level;
        let mut times_named: HashMap<(TopicName, i32), usize> = HashMap::new();
        for topic in &request.topics {
            for asked in &topic.partitions {
                *times_named.entry((topic.name.clone(), asked.partition_index)).or_default() += 1;
            }
        }
        let mut topics = Vec::new();
        for topic in request.topics {
            let found = self.topic_for(caller, Operation::Describe, &topic.name, Uuid::nil());
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let Some(times) = times_named.remove(&(topic.name.clone(), asked.partition_index)) else { continue };
                let outcome = match &found {
                    Err(ResponseError::TopicAuthorizationFailed) => Err(ResponseError::TopicAuthorizationFailed),
                    _ if times > 1 => Err(ResponseError::InvalidRequest),
                    Ok(record) => {
                        let partition = self.partitions.find(record, asked.partition_index, asked.current_leader_epoch);
                        self.list_offset(partition, isolation_level, asked.timestamp).await
                    }
                    Err(error) => Err(*error),
                };
                partitions.push(answer_list(version, &asked, outcome));
            }
            if !partitions.is_empty() {
                topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
            }
        }
        ListOffsetsResponse::default().with_topics(topics)
    }

    /// `Partition.fetchOffsetForTimestamp`: within what the isolation level shows.
    async fn list_offset(
        &self,
        partition: Result<Partition, ResponseError>,
        isolation_level: i8,
        timestamp: i64,
    ) -> Result<TimestampedOffset, ResponseError> {
        let partition = partition?;
        let at = |offset: Offset, leader_epoch| TimestampedOffset { timestamp: -1, offset, leader_epoch };
        match timestamp {
            EARLIEST | EARLIEST_LOCAL => {
                let log_start = partition.marks.log_start;
                Ok(at(log_start, partition.log.epoch_at(log_start).unwrap_or(LeaderEpoch::NONE)))
            }
            LATEST => Ok(at(partition.readable_end(isolation_level), partition.leader_epoch)),
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOT_FOUND),
            MAX_TIMESTAMP | 0.. => self.searches.search(partition, isolation_level, timestamp).await,
            _ => Err(ResponseError::InvalidRequest),
        }
    }

    pub(crate) fn offset_for_leader_epoch(
        &self,
        caller: &Caller,
        request: OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        let topics = distinct(request.topics, |topic| topic.topic.clone()).into_iter().map(|topic| {
            let found = self.topic_for(caller, Operation::Describe, &topic.topic, Uuid::nil());
            let answer = |asked: OffsetForLeaderPartition| {
                let partition = match &found {
                    Ok(record) => self.partitions.find(record, asked.partition, asked.current_leader_epoch),
                    Err(error) => Err(*error),
                };
                answer_epoch(&asked, partition)
            };
            let partitions = distinct(topic.partitions, |asked| asked.partition).into_iter().map(answer).collect();
            OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }
}

fn answer_epoch(asked: &OffsetForLeaderPartition, partition: Result<Partition, ResponseError>) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(asked.partition);
    match partition {
        Ok(partition) => match partition.end_of_epoch(LeaderEpoch(asked.leader_epoch)) {
            Some((epoch, end)) => answer.with_leader_epoch(epoch.0).with_end_offset(end.0),
            None => answer.with_leader_epoch(-1).with_end_offset(-1),
        },
        Err(error) => answer.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
    }
}

fn answer_list(
    version: i16,
    asked: &ListOffsetsPartition,
    outcome: Result<TimestampedOffset, ResponseError>,
) -> ListOffsetsPartitionResponse {
    let (found, error) = match outcome {
        Ok(found) => (found, 0),
        Err(error) => (NOT_FOUND, error.code()),
    };
    let answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_error_code(error)
        .with_timestamp(found.timestamp)
        .with_offset(found.offset.0);
    if version >= 4 { answer.with_leader_epoch(found.leader_epoch.0) } else { answer }
}
