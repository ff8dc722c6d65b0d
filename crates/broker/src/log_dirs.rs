//! DescribeLogDirs and DeleteRecords: what the log directory holds, and less of it.

use crate::dispatch::Caller;
use crate::{Broker, Operation, Resource};
use hawser_log::PartitionLog;
use hawser_wire::messages::delete_records_request::DeleteRecordsPartition;
use hawser_wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use hawser_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use hawser_wire::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use hawser_wire::{Offset, ResponseError, StrBytes, TopicPartition, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tracing::warn;

use crate::cluster::topic_name;

impl Broker {
    /// The one log directory (`ReplicaManager.describeLogDirs`).
    pub(crate) async fn describe_log_dirs(
        &self,
        caller: &Caller,
        request: DescribeLogDirsRequest,
    ) -> DescribeLogDirsResponse {
        if !self.may(caller, Operation::Describe, Resource::Cluster) {
            return DescribeLogDirsResponse::default()
                .with_error_code(ResponseError::ClusterAuthorizationFailed.code());
        }
        let wanted: Option<BTreeSet<TopicPartition>> = request.topics.map(|topics| {
            let each = |topic: &hawser_wire::messages::describe_log_dirs_request::DescribableLogDirTopic| {
                let name = topic.topic.to_string();
                topic.partitions.iter().map(|index| TopicPartition::new(name.as_str(), *index)).collect::<Vec<_>>()
            };
            topics.iter().flat_map(each).collect()
        });
        let logs = Arc::clone(self.partitions.logs());
        // The file system is asked for its space.
        let looked = tokio::task::spawn_blocking(move || {
            let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
            let held =
                logs.partitions().into_iter().filter(|id| wanted.as_ref().is_none_or(|wanted| wanted.contains(id)));
            for id in held {
                let Some(log) = logs.partition(&id) else { continue };
                let size = bytes(log.log_bytes());
                let partition =
                    DescribeLogDirsPartition::default().with_partition_index(id.partition).with_partition_size(size);
                topics.entry(id.topic.to_string()).or_default().push(partition);
            }
            let (total, usable) = logs.space().map_or((-1, -1), |(total, usable)| (bytes(total), bytes(usable)));
            (logs.root().display().to_string(), topics, total, usable)
        });
        let Ok((log_dir, topics, total, usable)) = looked.await else {
            return DescribeLogDirsResponse::default().with_error_code(ResponseError::UnknownServerError.code());
        };
        let topics = topics.into_iter().map(|(name, partitions)| {
            DescribeLogDirsTopic::default().with_name(topic_name(&name)).with_partitions(partitions)
        });
        let result = DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from_string(log_dir))
            .with_topics(topics.collect())
            .with_total_bytes(total)
            .with_usable_bytes(usable);
        DescribeLogDirsResponse::default().with_results(vec![result])
    }

    /// Raises log starts (`ReplicaManager.deleteRecords`). A mirror's is its source's.
    pub(crate) async fn delete_records(&self, caller: &Caller, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
        let mut topics = Vec::new();
        for topic in request.topics {
            let found = self.topic_for(caller, Operation::Delete, &topic.name, Uuid::nil());
            let mut partitions = Vec::new();
            for DeleteRecordsPartition { partition_index, offset, .. } in topic.partitions {
                let log = match &found {
                    Ok(record) if record.is_read_only() => Err(ResponseError::InvalidRequest),
                    Ok(record) => self.partitions.find(record, partition_index, -1).map(|partition| partition.log),
                    Err(error) => Err(*error),
                };
                let outcome = match log {
                    Ok(log) => delete_before(log, Offset(offset)).await,
                    Err(error) => Err(error),
                };
                let answer = DeleteRecordsPartitionResult::default().with_partition_index(partition_index);
                partitions.push(match outcome {
                    Ok(log_start) => answer.with_low_watermark(log_start.0),
                    Err(error) => answer.with_low_watermark(-1).with_error_code(error.code()),
                });
            }
            topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
        }
        DeleteRecordsResponse::default().with_topics(topics)
    }
}

fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

async fn delete_before(log: Arc<PartitionLog>, before: Offset) -> Result<Offset, ResponseError> {
    // `Partition.deleteRecordsOnLeader`: what a compacted topic holds is not to be taken by age.
    if !log.config().delete {
        return Err(ResponseError::PolicyViolation);
    }
    let deleted = tokio::task::spawn_blocking(move || (log.delete_records(before), log));
    match deleted.await {
        Ok((Ok(marks), _)) => Ok(marks.log_start),
        Ok((Err(hawser_log::Error::OutOfRange { .. }), _)) => Err(ResponseError::OffsetOutOfRange),
        Ok((Err(error), log)) => {
            warn!(id = %log.id(), %error, "records not deleted");
            Err(ResponseError::KafkaStorageError)
        }
        Err(_) => Err(ResponseError::UnknownServerError),
    }
}
