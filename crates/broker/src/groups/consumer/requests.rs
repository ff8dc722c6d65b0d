//! ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848).

use super::assignors::Assignor;
use super::{Beaten, Catalogue, Heartbeat, LEAVE, LEAVE_FOR_NOW};
use crate::cluster::{OPERATIONS_OMITTED, topic_name};
use crate::dispatch::Caller;
use crate::requests::distinct;
use crate::{ApiError, Broker, Operation, Resource};
use hawser_state::{ConsumerMemberRecord, Partitions, TopicShape};
use hawser_wire::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member, TopicPartitions as DescribedPartitions,
};
use hawser_wire::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use hawser_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, GroupId,
};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest regex, in bytes, and most memory that a compiled one may take: it runs over every topic's name.
const REGEX_BYTES_MAX: usize = 4096;
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Most topic names in one subscription; each is stored with every change of the group.
const NAMES_MAX: usize = 10_000;
/// `MemberType` of a member that speaks this protocol.
const CONSUMER: i8 = 1;

impl Broker {
    pub(crate) async fn consumer_group_heartbeat(
        &self,
        caller: &Caller,
        client_id: &str,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let interval = i32::try_from(self.config.consumer_group_heartbeat_interval.as_millis()).unwrap_or(i32::MAX);
        let group = request.group_id.to_string();
        let beaten = match self.parse_heartbeat(caller, client_id, request) {
            Ok(heartbeat) => self.beat(caller, &group, heartbeat).await,
            Err(refusal) => Err(refusal),
        };
        match beaten {
            Ok(beaten) => ConsumerGroupHeartbeatResponse::default()
                .with_member_id(Some(StrBytes::from_string(beaten.member_id)))
                .with_member_epoch(beaten.epoch)
                .with_heartbeat_interval_ms(interval)
                .with_assignment(beaten.assignment.map(|assigned| {
                    let topic = |(id, indexes): (Uuid, BTreeSet<i32>)| {
                        TopicPartitions::default().with_topic_id(id).with_partitions(indexes.into_iter().collect())
                    };
                    Assignment::default().with_topic_partitions(assigned.into_iter().map(topic).collect())
                })),
            Err(error) => ConsumerGroupHeartbeatResponse::default()
                .with_error_code(error.code.code())
                .with_error_message(Some(StrBytes::from_string(error.message)))
                .with_member_id(None)
                .with_assignment(None),
        }
    }

    async fn beat(&self, caller: &Caller, group: &str, mut heartbeat: Heartbeat) -> Result<Beaten, ApiError> {
        let topic = |name: &str| {
            let topic = self.state.topic(name)?;
            Some(TopicShape { id: topic.id, partitions: topic.partitions })
        };
        let catalogue = Catalogue { version: self.state.catalogue_version(), topic: &topic };
        let asked = heartbeat.regex.clone().filter(|regex| !regex.is_empty());
        let regex = asked.or_else(|| self.groups.stale_regex(group, &heartbeat.member_id, catalogue.version));
        if let Some(regex) = regex {
            let regex = compile(&regex)?;
            let topics = self.state.topics();
            let named = topics.iter().filter(|topic| regex.is_match(&topic.name) && self.may_see(caller, &topic.name));
            heartbeat.resolved = Some(named.map(|topic| topic.name.clone()).collect());
        }
        self.groups.consumer_heartbeat(group, heartbeat, &catalogue).await
    }

    /// `GroupMetadataManager.throwIfConsumerGroupHeartbeatRequestIsInvalid`.
    fn parse_heartbeat(
        &self,
        caller: &Caller,
        client_id: &str,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Result<Heartbeat, ApiError> {
        let invalid = |message: &str| ApiError::new(ResponseError::InvalidRequest, message);
        if request.group_id.is_empty() {
            return Err(invalid("GroupId can't be empty."));
        }
        self.check_group(caller, Operation::Read, &request.group_id)
            .map_err(|error| ApiError::new(error, "not authorized: READ on the group is needed"))?;
        if request.instance_id.as_ref().is_some_and(|id| id.is_empty()) {
            return Err(invalid("InstanceId can't be empty."));
        }
        if request.rack_id.as_ref().is_some_and(|id| id.is_empty()) {
            return Err(invalid("RackId can't be empty."));
        }
        let epoch = request.member_epoch;
        let has_subscription = request.subscribed_topic_names.is_some()
            || request.subscribed_topic_regex.as_ref().is_some_and(|regex| !regex.is_empty());
        if request.member_id.is_empty() && epoch != 0 {
            return Err(invalid("MemberId can't be empty."));
        }
        match epoch {
            0 if request.rebalance_timeout_ms == -1 => {
                return Err(invalid("RebalanceTimeoutMs must be provided in first request."));
            }
            0 if request.topic_partitions.as_ref().is_none_or(|partitions| !partitions.is_empty()) => {
                return Err(invalid("TopicPartitions must be empty when (re-)joining."));
            }
            0 if !has_subscription => {
                return Err(invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be set in first request.",
                ));
            }
            LEAVE_FOR_NOW if request.instance_id.is_none() => return Err(invalid("InstanceId can't be null.")),
            LEAVE | LEAVE_FOR_NOW | 0.. => {}
            _ => return Err(invalid("MemberEpoch is invalid.")),
        }
        if let Some(assignor) = request.server_assignor.as_ref().filter(|name| Assignor::named(name).is_none()) {
            let known = Assignor::ALL.map(Assignor::as_str).join(", ");
            let message = format!("ServerAssignor {assignor} is not supported. Supported assignors: {known}.");
            return Err(ApiError::new(ResponseError::UnsupportedAssignor, message));
        }
        let names = request.subscribed_topic_names;
        if names.as_ref().is_some_and(|names| names.len() > NAMES_MAX) {
            return Err(invalid(&format!("more than {NAMES_MAX} topics in a subscription: use a regex")));
        }
        if names.iter().flatten().any(|name| !self.may_see(caller, name)) {
            let message = "not authorized: DESCRIBE on each subscribed topic is needed";
            return Err(ApiError::new(ResponseError::TopicAuthorizationFailed, message));
        }
        let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
        // A client of version 0 leaves it to us to name it.
        let member_id = match request.member_id.to_string() {
            id if id.is_empty() => Uuid::new_v4().to_string(),
            id => id,
        };
        Ok(Heartbeat {
            member_id,
            epoch,
            instance_id: text(request.instance_id),
            rack_id: text(request.rack_id),
            rebalance_timeout: u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis),
            names: names.map(|names| names.iter().map(|name| name.to_string()).collect()),
            regex: text(request.subscribed_topic_regex),
            resolved: None,
            assignor: text(request.server_assignor),
            owned: request.topic_partitions.map(|owned| {
                owned.into_iter().map(|topic| (topic.topic_id, topic.partitions.into_iter().collect())).collect()
            }),
            client_id: client_id.to_owned(),
            client_host: format!("/{}", caller.peer.ip()),
        })
    }

    fn may_see(&self, caller: &Caller, topic: &str) -> bool {
        self.may(caller, Operation::Describe, Resource::Topic(topic))
    }

    pub(crate) fn consumer_group_describe(
        &self,
        caller: &Caller,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        let mut groups = Vec::new();
        for id in distinct(request.group_ids, Clone::clone) {
            let mut described = match self.check_group(caller, Operation::Describe, &id) {
                Ok(()) => self.describe_consumer_group(caller, &id),
                Err(error) => DescribedGroup::default().with_error_code(error.code()),
            };
            described.authorized_operations = OPERATIONS_OMITTED;
            if request.include_authorized_operations && described.error_code == 0 {
                described.authorized_operations = self.authorizer.allowed_bits(&caller.principal, Resource::Group(&id));
            }
            groups.push(described.with_group_id(GroupId(id.0)));
        }
        ConsumerGroupDescribeResponse::default().with_groups(groups)
    }

    fn describe_consumer_group(&self, caller: &Caller, id: &str) -> DescribedGroup {
        let refused = |error: ResponseError, message: String| {
            DescribedGroup::default()
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(message)))
        };
        let (record, state) = match self.groups.consumer_record(id) {
            Ok(Some(found)) => found,
            Ok(None) => return refused(ResponseError::GroupIdNotFound, format!("Group {id} is not a consumer group.")),
            Err(error) => return refused(error, "the group could not be read".to_owned()),
        };
        let Some(consumer) = record.consumer else {
            return refused(ResponseError::GroupIdNotFound, format!("Group {id} is not a consumer group."));
        };
        let mut topics = consumer.members.iter().flat_map(ConsumerMemberRecord::topics);
        if topics.any(|topic| !self.may_see(caller, topic)) {
            let message = "The group has described topic(s) that the client is not authorized to describe.";
            return refused(ResponseError::TopicAuthorizationFailed, message.to_owned());
        }
        let names: BTreeMap<Uuid, &String> = consumer.topics.iter().map(|(name, shape)| (shape.id, name)).collect();
        let shown = |partitions: &Partitions| {
            let topics = partitions.iter().map(|(topic, indexes)| {
                DescribedPartitions::default()
                    .with_topic_id(*topic)
                    .with_topic_name(topic_name(names.get(topic).map_or("", |name| name.as_str())))
                    .with_partitions(indexes.iter().copied().collect())
            });
            DescribedAssignment::default().with_topic_partitions(topics.collect())
        };
        let members = consumer.members.iter().map(|member| {
            Member::default()
                .with_member_id(StrBytes::from_string(member.member_id.clone()))
                .with_instance_id(member.instance_id.clone().map(StrBytes::from_string))
                .with_rack_id(member.rack_id.clone().map(StrBytes::from_string))
                .with_member_epoch(member.epoch)
                .with_client_id(StrBytes::from_string(member.client_id.clone()))
                .with_client_host(StrBytes::from_string(member.client_host.clone()))
                .with_subscribed_topic_names(member.names.iter().map(|name| topic_name(name)).collect())
                .with_subscribed_topic_regex(member.regex.clone().map(StrBytes::from_string))
                .with_assignment(shown(&member.assigned))
                .with_target_assignment(shown(&member.target))
                .with_member_type(CONSUMER)
        });
        DescribedGroup::default()
            .with_group_state(StrBytes::from_static_str(state))
            .with_group_epoch(record.generation)
            .with_assignment_epoch(consumer.assignment_epoch)
            .with_assignor_name(StrBytes::from_string(consumer.assignor))
            .with_members(members.collect())
    }
}

/// RE2's syntax, as Kafka's brokers take it; a topic is named if the whole of its name matches.
fn compile(regex: &str) -> Result<Regex, ApiError> {
    let refused = |reason: String| {
        let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {reason}.");
        ApiError::new(ResponseError::InvalidRegularExpression, message)
    };
    if regex.len() > REGEX_BYTES_MAX {
        return Err(ApiError::new(
            ResponseError::InvalidRegularExpression,
            format!("a regex has at most {REGEX_BYTES_MAX} bytes"),
        ));
    }
    // First alone, so that a stray parenthesis does not pair up with ours.
    let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_COMPILED_BYTES_MAX).build();
    let checked = build(regex).and_then(|_| build(&format!("^(?:{regex})$")));
    checked.map_err(|error| refused(error.to_string().lines().last().unwrap_or_default().to_owned()))
}
