//! DescribeTopicPartitions (KIP-966): metadata of topics, so many partitions at a time
//! (`DescribeTopicPartitionsRequestHandler`).

use crate::cluster::topic_name;
use crate::dispatch::Caller;
use crate::{Broker, Operation, Resource, check_topic_name};
use hawser_state::TopicRecord;
use hawser_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use hawser_wire::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use hawser_wire::{ResponseError, Uuid};
use std::collections::BTreeSet;

/// `max.request.partition.size.limit`: most partitions in one answer.
const PARTITIONS_MAX: i32 = 2000;

impl Broker {
    pub(crate) fn describe_topic_partitions(
        &self,
        caller: &Caller,
        request: DescribeTopicPartitionsRequest,
    ) -> DescribeTopicPartitionsResponse {
        let names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
        let is_of_all = names.is_empty();
        let (from, from_partition) = match &request.cursor {
            Some(cursor) => (cursor.topic_name.to_string(), cursor.partition_index),
            None => (String::new(), 0),
        };
        if from_partition < 0 || (request.cursor.is_some() && !is_of_all && !names.contains(&from)) {
            let invalid = |name: &String| failed(name, ResponseError::InvalidRequest);
            return DescribeTopicPartitionsResponse::default().with_topics(names.iter().map(invalid).collect());
        }
        let all = || self.state.topics().iter().map(|topic| topic.name.clone()).collect();
        let names: BTreeSet<String> = if is_of_all { all() } else { names };

        let mut left = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
        let mut topics = Vec::new();
        for name in names.into_iter().filter(|name| *name >= from) {
            if !self.may(caller, Operation::Describe, Resource::Topic(&name)) {
                if !is_of_all {
                    topics.push(failed(&name, ResponseError::TopicAuthorizationFailed));
                }
                continue;
            }
            let Some(topic) = self.state.topic(&name) else {
                if !is_of_all {
                    let is_name = check_topic_name(&name).is_ok();
                    let unknown = ResponseError::UnknownTopicOrPartition;
                    topics.push(failed(&name, if is_name { unknown } else { ResponseError::InvalidTopicException }));
                }
                continue;
            };
            let begin = if name == from { from_partition } else { 0 };
            let end = topic.partitions.min(begin.saturating_add(left));
            if left == 0 && topic.partitions > 0 {
                return cut(topics, &name, 0);
            }
            topics.push(self.described(caller, &topic, begin..end));
            left -= (end - begin).max(0);
            if end < topic.partitions {
                return cut(topics, &name, end);
            }
        }
        DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(None)
    }

    fn described(
        &self,
        caller: &Caller,
        topic: &TopicRecord,
        partitions: std::ops::Range<i32>,
    ) -> DescribeTopicPartitionsResponseTopic {
        let node = BrokerId(self.config.node_id.0);
        let partition = |index| {
            let partition = DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(index)
                .with_replica_nodes(vec![node])
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()));
            match self.partitions.find(topic, index, -1) {
                Ok(found) => {
                    partition.with_leader_id(node).with_leader_epoch(found.leader_epoch.0).with_isr_nodes(vec![node])
                }
                // The topic is known but the mirror has not opened this partition yet.
                Err(_) => partition
                    .with_error_code(ResponseError::LeaderNotAvailable.code())
                    .with_leader_id(BrokerId(-1))
                    .with_leader_epoch(-1),
            }
        };
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic_name(&topic.name)))
            .with_topic_id(topic.id)
            .with_topic_authorized_operations(
                self.authorizer.allowed_bits(&caller.principal, Resource::Topic(&topic.name)),
            )
            .with_partitions(partitions.map(partition).collect())
    }
}

fn failed(name: &str, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_topic_id(Uuid::nil())
        .with_error_code(error.code())
}

fn cut(topics: Vec<DescribeTopicPartitionsResponseTopic>, name: &str, next: i32) -> DescribeTopicPartitionsResponse {
    let cursor = Cursor::default().with_topic_name(topic_name(name)).with_partition_index(next);
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(Some(cursor))
}
