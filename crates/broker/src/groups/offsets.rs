//! The APIs of committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.

use super::machine::{Group, Identity};
use super::requests::{code, identity};
use super::{Coordinator, on_blocking_thread};
use crate::dispatch::Caller;
use crate::requests::distinct;
use crate::{Broker, Operation, Resource};
use hawser_state::{CommittedOffset, GroupChange};
use hawser_wire::messages::offset_commit_request::OffsetCommitRequestPartition;
use hawser_wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use hawser_wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use hawser_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use hawser_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use hawser_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use std::collections::{BTreeMap, HashSet};

type Offsets = BTreeMap<(String, i32), CommittedOffset>;

impl Broker {
    pub(crate) async fn offset_commit(
        &self,
        caller: &Caller,
        version: i16,
        request: OffsetCommitRequest,
    ) -> OffsetCommitResponse {
        let group = request.group_id.to_string();
        let identity =
            identity(&request.member_id, request.group_instance_id.as_ref(), request.generation_id_or_member_epoch);
        let mut verdict = self.check_group(caller, Operation::Read, &group);
        let mut changes = Vec::new();
        let mut topics = Vec::new();
        for topic in request.topics {
            let found = self.topic_for(caller, Operation::Read, &topic.name, Uuid::nil());
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let check = match &found {
                    Ok(record) => self.check_commit(&asked, record.partitions),
                    Err(error) => Err(*error),
                };
                partitions.push((asked.partition_index, check));
                if check.is_ok() {
                    changes.push(change(&group, &topic.name, asked));
                }
            }
            topics.push((topic.name, partitions));
        }
        if verdict.is_ok() {
            verdict = self.commit(&group, identity, version >= 9, changes).await;
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, check)| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(code(verdict.and(check)))
            });
            OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }

    fn check_commit(&self, asked: &OffsetCommitRequestPartition, partitions: i32) -> Result<(), ResponseError> {
        if !(0..partitions).contains(&asked.partition_index) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        let metadata = asked.committed_metadata.as_ref().map_or(0, |metadata| metadata.len());
        if metadata > self.config.offset_metadata_max_bytes {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        Ok(())
    }

    async fn commit(
        &self,
        group: &str,
        identity: Identity,
        is_modern: bool,
        changes: Vec<GroupChange>,
    ) -> Result<(), ResponseError> {
        self.groups.may_commit(group, identity, is_modern)?;
        metrics::counter!("hawser_offset_commits_total").increment(changes.len() as u64);
        self.groups.write(changes).await
    }

    pub(crate) async fn offset_fetch(
        &self,
        caller: &Caller,
        version: i16,
        request: OffsetFetchRequest,
    ) -> OffsetFetchResponse {
        if version >= 8 {
            let mut groups = Vec::new();
            for group in distinct(request.groups, |group| group.group_id.clone()) {
                groups.push(self.fetch_group(caller, group).await);
            }
            return OffsetFetchResponse::default().with_groups(groups);
        }
        // One group, in the older fields: the same question in another form. Null topics ask for all from version 2 on.
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic.name)
                    .with_partition_indexes(topic.partition_indexes)
            });
            topics.collect()
        });
        let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics.clone());
        let found = self.fetch_group(caller, group).await;
        if version < 2 && found.error_code != 0 {
            return OffsetFetchResponse::default()
                .with_topics(refuse_each(topics.unwrap_or_default(), found.error_code));
        }
        let topics = found.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|found| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(found.partition_index)
                    .with_committed_offset(found.committed_offset)
                    .with_committed_leader_epoch(found.committed_leader_epoch)
                    .with_metadata(found.metadata)
                    .with_error_code(found.error_code)
            });
            OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
        });
        OffsetFetchResponse::default().with_error_code(found.error_code).with_topics(topics.collect())
    }

    async fn fetch_group(&self, caller: &Caller, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
        let response = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
        let may_fetch = self
            .check_group(caller, Operation::Describe, &asked.group_id)
            .and_then(|()| self.groups.may_fetch(&asked.group_id, asked.member_id.as_deref(), asked.member_epoch));
        let offsets = match may_fetch {
            Ok(()) => self.groups.offsets(&asked.group_id).await,
            Err(error) => Err(error),
        };
        let offsets = match offsets {
            Ok(offsets) => offsets,
            Err(error) => return response.with_error_code(error.code()),
        };
        let is_visible = |topic: &str| self.may(caller, Operation::Describe, Resource::Topic(topic));
        let topics = match asked.topics {
            Some(topics) => topics.into_iter().map(|topic| answer_topic(&offsets, topic, is_visible)).collect(),
            None => answer_all(&offsets, is_visible),
        };
        response.with_topics(topics)
    }

    pub(crate) async fn offset_delete(&self, caller: &Caller, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        let group = request.group_id.to_string();
        let subscribed = match self.check_group(caller, Operation::Delete, &group) {
            Ok(()) => self.groups.subscribed_topics(&group).await,
            Err(error) => Err(error),
        };
        let subscribed = match subscribed {
            Ok(subscribed) => subscribed,
            Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
        };
        let (mut topics, mut changes) = (Vec::new(), Vec::new());
        for topic in request.topics {
            let check = if !self.may(caller, Operation::Read, Resource::Topic(&topic.name)) {
                Err(ResponseError::TopicAuthorizationFailed)
            } else if subscribed.contains(topic.name.as_str()) {
                Err(ResponseError::GroupSubscribedToTopic)
            } else {
                Ok(())
            };
            let mut partitions = Vec::new();
            for partition in topic.partitions {
                let partition = partition.partition_index;
                if check.is_ok() {
                    changes.push((topic.name.to_string(), partition));
                }
                partitions.push((partition, check));
            }
            topics.push((topic.name, partitions));
        }
        let written = self.groups.delete_offsets(group, changes).await;
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, check)| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(code(check.and(written)))
            });
            OffsetDeleteResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        OffsetDeleteResponse::default().with_topics(topics.collect())
    }
}

impl Coordinator {
    async fn offsets(&self, group: &str) -> Result<Offsets, ResponseError> {
        let (state, group) = (self.state.clone(), group.to_owned());
        let offsets = on_blocking_thread(move || state.offsets(&group)).await?;
        Ok(offsets.into_iter().map(|(topic, partition, committed)| ((topic, partition), committed)).collect())
    }

    /// Deletes committed offsets of these topics and partitions.
    ///
    /// # Errors
    /// `GroupSubscribedToTopic` when a member came meanwhile that consumes one of them: none is deleted then.
    pub(super) async fn delete_offsets(&self, group: String, offsets: Vec<(String, i32)>) -> Result<(), ResponseError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let delete = move |groups: &Self| {
            let consumed = groups.topics_of_members(&group)?.unwrap_or_default();
            if offsets.iter().any(|(topic, _)| consumed.contains(topic)) {
                return Err(ResponseError::GroupSubscribedToTopic);
            }
            let change = |(topic, partition)| GroupChange::DeleteOffset { group: group.clone(), topic, partition };
            Ok(offsets.into_iter().map(change).collect())
        };
        self.writer.write_decided(delete).await
    }

    /// Topics whose offsets may not be deleted, as members consume them.
    ///
    /// # Errors
    /// `GroupIdNotFound`; `NonEmptyGroup` when members follow a protocol of their own that nobody here can read.
    async fn subscribed_topics(&self, group: &str) -> Result<HashSet<String>, ResponseError> {
        if let Some(topics) = self.topics_of_members(group)? {
            return Ok(topics);
        }
        let stored = self.state.group(group).ok().flatten();
        if stored.is_none_or(|record| record.consumer.is_none()) {
            self.describe(group).await?.ok_or(ResponseError::GroupIdNotFound)?;
        }
        Ok(HashSet::new())
    }

    /// The topics that members consume; `None` if the group has none.
    ///
    /// # Errors
    /// As [`subscribed_topics`](Self::subscribed_topics).
    fn topics_of_members(&self, group: &str) -> Result<Option<HashSet<String>>, ResponseError> {
        if let Some(topics) = self.topics_of_consumer_group(group) {
            return Ok(Some(topics));
        }
        let cell = self.cells().get(group).cloned();
        let look = |group: &Group| (group.protocol_type().to_owned(), group.members().collect::<Vec<_>>());
        let Some((protocol_type, members)) = cell.and_then(|cell| cell.look(look)) else { return Ok(None) };
        if members.is_empty() {
            return Ok(None);
        }
        if protocol_type != "consumer" {
            return Err(ResponseError::NonEmptyGroup);
        }
        let mut topics = HashSet::new();
        for (member, subscription) in &members {
            // Between two rounds no assignor is agreed on; any of them names the topics.
            let first = member.protocols.first().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
            let subscription = if subscription.is_empty() { first } else { subscription };
            topics.extend(topics_of(subscription).ok_or(ResponseError::NonEmptyGroup)?);
        }
        Ok(Some(topics))
    }
}

/// The topics of a `ConsumerProtocolSubscription`: version, count, names; the rest does not matter here.
fn topics_of(subscription: &[u8]) -> Option<Vec<String>> {
    let (_version, rest) = subscription.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (name, tail) = tail.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
        topics.push(std::str::from_utf8(name).ok()?.to_owned());
        rest = tail;
    }
    Some(topics)
}

fn change(group: &str, topic: &TopicName, asked: OffsetCommitRequestPartition) -> GroupChange {
    let committed = CommittedOffset {
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.map(|metadata| metadata.to_string()).unwrap_or_default(),
        commit_timestamp_ms: super::wall_ms(),
    };
    GroupChange::PutOffset {
        group: group.to_owned(),
        topic: topic.to_string(),
        partition: asked.partition_index,
        committed,
    }
}

fn answer_topic(
    offsets: &Offsets,
    asked: OffsetFetchRequestTopics,
    is_visible: impl Fn(&str) -> bool,
) -> OffsetFetchResponseTopics {
    let name = asked.name.to_string();
    let is_visible = is_visible(&name);
    let answer = |index: i32| {
        if !is_visible {
            return no_offset(index).with_error_code(ResponseError::TopicAuthorizationFailed.code());
        }
        offsets.get(&(name.clone(), index)).map_or_else(|| no_offset(index), |committed| shown(index, committed))
    };
    let partitions = asked.partition_indexes.into_iter().map(answer).collect();
    OffsetFetchResponseTopics::default().with_name(asked.name).with_partitions(partitions)
}

fn answer_all(offsets: &Offsets, is_visible: impl Fn(&str) -> bool) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for ((topic, index), committed) in offsets.iter().filter(|((topic, _), _)| is_visible(topic)) {
        match topics.last_mut() {
            Some(last) if last.name.as_str() == topic => last.partitions.push(shown(*index, committed)),
            _ => topics.push(
                OffsetFetchResponseTopics::default()
                    .with_name(crate::cluster::topic_name(topic))
                    .with_partitions(vec![shown(*index, committed)]),
            ),
        }
    }
    topics
}

fn shown(index: i32, committed: &CommittedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(committed.offset)
        .with_committed_leader_epoch(committed.leader_epoch)
        .with_metadata(Some(StrBytes::from_string(committed.metadata.clone())))
}

/// Nothing committed: −1 and no error.
fn no_offset(index: i32) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::default()))
}

/// Version 1 has no error of its own for the whole group.
fn refuse_each(topics: Vec<OffsetFetchRequestTopics>, error: i16) -> Vec<OffsetFetchResponseTopic> {
    let refuse = |topic: OffsetFetchRequestTopics| {
        let partitions = topic.partition_indexes.into_iter().map(|index| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(-1)
                .with_metadata(Some(StrBytes::default()))
                .with_error_code(error)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    };
    topics.into_iter().map(refuse).collect()
}
