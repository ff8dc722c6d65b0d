//! More partitions for an ordinary topic (`ReplicationControlManager.createPartitions`).

use super::new::{check_replicas, too_many_partitions};
use super::{PARTITIONS_PER_REQUEST_MAX, TopicDefaults, Topics};
use crate::ApiError;
use hawser_state::TopicRecord;
use hawser_wire::{ResponseError, TopicPartition};
use std::ops::Range;
use std::sync::Arc;

impl Topics {
    /// Gives topic `name` `count` partitions, more than it has; the new ones on the nodes of `assignments`, if they are
    /// named. With `validate_only` says whether it could be. Runs to its end even when dropped.
    ///
    /// # Errors
    /// Kafka's; `InvalidRequest` for a mirror, whose partitions are its source's; `KafkaStorageError` when they could not be
    /// made, and then there are none.
    pub async fn add_partitions(
        self: &Arc<Self>,
        name: &str,
        count: i32,
        assignments: Option<Vec<Vec<i32>>>,
        validate_only: bool,
    ) -> Result<(), ApiError> {
        let name = name.to_owned();
        self.change(move |topics| {
            let unknown = || ApiError::of(ResponseError::UnknownTopicOrPartition);
            let topic = topics.state.topic(&name).ok_or_else(unknown)?;
            check(&topic, count, assignments.as_deref(), &topics.defaults)?;
            if validate_only {
                return Ok(());
            }
            let before = topic.partitions;
            // The logs first: a partition that clients see can be written to.
            let grown = TopicRecord { partitions: count, ..TopicRecord::clone(&topic) };
            let grow = |topic: &mut TopicRecord| {
                topic.partitions = count;
                if let Some(mirror) = &mut topic.mirror {
                    mirror.stopped_at.resize(usize::try_from(count).unwrap_or_default(), 0);
                }
                true
            };
            let opened =
                topics.remove_uncounted(&name, before..count).and_then(|()| topics.open_logs(&grown, before..count));
            let written = opened.and_then(|()| {
                let written = topics.state.update_topic(&name, grow);
                written.map(drop).map_err(|error| ApiError::storage(&error))
            });
            if written.is_err() {
                for partition in before..count {
                    let id = TopicPartition::new(name.as_str(), partition);
                    if let Err(error) = topics.logs.delete_partition(&id) {
                        tracing::warn!(%id, %error, "the log of a partition that was not made remains");
                    }
                }
            }
            written?;
            tracing::info!(topic = name, from = before, to = count, "partitions added");
            Ok(())
        })
        .await
    }

    /// Deletes logs of partitions that topic `name` does not have: what a mirror began to fetch when it was stopped, or a
    /// growth that a crash cut short. A new partition is empty.
    fn remove_uncounted(&self, name: &str, partitions: Range<i32>) -> Result<(), ApiError> {
        for partition in partitions {
            let id = TopicPartition::new(name, partition);
            if self.logs.topic_id(&id).is_some() {
                tracing::warn!(%id, "the topic did not have this partition: its log is deleted");
                self.logs.delete_partition(&id).map_err(|error| ApiError::storage(&error))?;
            }
        }
        Ok(())
    }
}

fn check(
    topic: &TopicRecord,
    count: i32,
    assignments: Option<&[Vec<i32>]>,
    defaults: &TopicDefaults,
) -> Result<(), ApiError> {
    let (name, has) = (&topic.name, topic.partitions);
    let refused = |code, message| Err(ApiError::new(code, message));
    if topic.is_read_only() {
        let message = format!("Cannot add partitions to mirror topic '{name}': it has those of its source topic.");
        return refused(ResponseError::InvalidRequest, message);
    }
    if count == has {
        return refused(ResponseError::InvalidPartitions, format!("Topic already has {has} partition(s)."));
    }
    if count < has {
        let message = format!("The topic {name} currently has {has} partition(s); {count} would not be an increase.");
        return refused(ResponseError::InvalidPartitions, message);
    }
    let more = count - has;
    if more > PARTITIONS_PER_REQUEST_MAX {
        return Err(too_many_partitions());
    }
    let Some(assignments) = assignments else { return Ok(()) };
    if usize::try_from(more) != Ok(assignments.len()) {
        let message = format!(
            "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return refused(ResponseError::InvalidReplicaAssignment, message);
    }
    assignments.iter().try_for_each(|nodes| check_replicas(nodes, defaults))
}
