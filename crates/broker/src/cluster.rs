//! Metadata, DescribeCluster and FindCoordinator: one cluster with one broker, which is reached at the address that the
//! client's listener advertises.

use crate::dispatch::Caller;
use crate::requests::distinct;
use crate::{Broker, Operation, Resource, check_topic_name};
use hawser_state::TopicRecord;
use hawser_wire::messages::describe_cluster_response::DescribeClusterBroker;
use hawser_wire::messages::find_coordinator_response::Coordinator;
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use hawser_wire::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use std::collections::BTreeMap;

/// Not asked for (`AUTHORIZED_OPERATIONS_OMITTED`).
pub(crate) const OPERATIONS_OMITTED: i32 = i32::MIN;
const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;
/// The first FindCoordinator that asks for many keys at once (KIP-699).
const FIND_MANY: i16 = 4;
/// What a transactional producer is told.
const NO_TRANSACTIONS: &str =
    "transactional producers are not supported by the embedded store yet: produce without transactional.id";
const ENDPOINT_BROKERS: i8 = 1;

impl Broker {
    pub(crate) async fn metadata(&self, caller: &Caller, version: i16, request: MetadataRequest) -> MetadataResponse {
        let with_operations = request.include_topic_authorized_operations;
        // Version 0 has no null: an empty list asks for all.
        let asked = request.topics.filter(|topics| version > 0 || !topics.is_empty());
        // A set, as in `KafkaApis.handleTopicMetadataRequest`.
        let asked = asked.map(|topics| distinct(topics, |topic| (topic.name.clone(), topic.topic_id)));
        let refused = match &asked {
            Some(topics) if request.allow_auto_topic_creation && self.config.auto_create_topics => {
                let names = topics.iter().filter_map(|topic| topic.name.as_ref().map(|name| name.to_string()));
                self.auto_create(caller, &names.collect::<Vec<_>>()).await
            }
            _ => BTreeMap::new(),
        };
        let topics = match asked {
            Some(topics) => {
                let named = |topic: MetadataRequestTopic| {
                    let why = topic.name.as_ref().and_then(|name| refused.get(name.as_str())).copied();
                    let shown = self.named_topic(caller, topic, with_operations);
                    match why {
                        Some(error) if shown.error_code != 0 => shown.with_error_code(error.code()),
                        _ => shown,
                    }
                };
                topics.into_iter().map(named).collect()
            }
            None => self.every_topic(caller, with_operations),
        };
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(self.config.node_id.0))
            .with_host(StrBytes::from_string(caller.advertised.host.clone()))
            .with_port(i32::from(caller.advertised.port))
            .with_rack(self.config.rack.clone().map(StrBytes::from_string));
        let mut response = MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(StrBytes::from_string(self.state.cluster_id().to_owned())))
            .with_controller_id(BrokerId(self.config.node_id.0))
            .with_topics(topics);
        if request.include_cluster_authorized_operations && (8..=10).contains(&version) {
            response.cluster_authorized_operations = self.authorizer.allowed_bits(&caller.principal, Resource::Cluster);
        }
        response
    }

    fn every_topic(&self, caller: &Caller, with_operations: bool) -> Vec<MetadataResponseTopic> {
        let topics = self.state.topics();
        let visible = topics.iter().filter(|topic| self.may(caller, Operation::Describe, Resource::Topic(&topic.name)));
        visible.map(|topic| self.described_topic(caller, topic, with_operations)).collect()
    }

    fn named_topic(
        &self,
        caller: &Caller,
        asked: MetadataRequestTopic,
        with_operations: bool,
    ) -> MetadataResponseTopic {
        let missing = |error: ResponseError, name: Option<TopicName>| {
            MetadataResponseTopic::default()
                .with_error_code(error.code())
                .with_name(name)
                .with_topic_id(asked.topic_id)
                .with_topic_authorized_operations(OPERATIONS_OMITTED)
        };
        let Some(name) = asked.name else {
            // Whether an id exists is as secret as the name behind it.
            let topic = self.state.topic_by_id(asked.topic_id);
            let visible = topic.filter(|topic| self.may(caller, Operation::Describe, Resource::Topic(&topic.name)));
            return match visible {
                Some(topic) => self.described_topic(caller, &topic, with_operations),
                None => missing(ResponseError::UnknownTopicId, None),
            };
        };
        if !self.may(caller, Operation::Describe, Resource::Topic(&name)) {
            return missing(ResponseError::TopicAuthorizationFailed, Some(name));
        }
        match self.state.topic(&name) {
            Some(topic) => self.described_topic(caller, &topic, with_operations),
            None if check_topic_name(&name).is_ok() => missing(ResponseError::UnknownTopicOrPartition, Some(name)),
            None => missing(ResponseError::InvalidTopicException, Some(name)),
        }
    }

    fn described_topic(&self, caller: &Caller, topic: &TopicRecord, with_operations: bool) -> MetadataResponseTopic {
        let operations = if with_operations {
            self.authorizer.allowed_bits(&caller.principal, Resource::Topic(&topic.name))
        } else {
            OPERATIONS_OMITTED
        };
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(&topic.name)))
            .with_topic_id(topic.id)
            .with_partitions((0..topic.partitions).map(|index| self.described_partition(topic, index)).collect())
            .with_topic_authorized_operations(operations)
    }

    fn described_partition(&self, topic: &TopicRecord, index: i32) -> MetadataResponsePartition {
        let node = BrokerId(self.config.node_id.0);
        let partition = MetadataResponsePartition::default().with_partition_index(index).with_replica_nodes(vec![node]);
        match self.partitions.find(topic, index, -1) {
            Ok(found) => {
                partition.with_leader_id(node).with_leader_epoch(found.leader_epoch.0).with_isr_nodes(vec![node])
            }
            // Its log is offline, or not opened by the mirror yet: clients ask again.
            Err(error) => partition
                .with_offline_replicas(if error == ResponseError::KafkaStorageError { vec![node] } else { vec![] })
                .with_error_code(ResponseError::LeaderNotAvailable.code())
                .with_leader_id(BrokerId(-1))
                .with_leader_epoch(-1),
        }
    }

    pub(crate) fn describe_cluster(&self, caller: &Caller, request: DescribeClusterRequest) -> DescribeClusterResponse {
        let mut response = DescribeClusterResponse::default()
            .with_cluster_id(StrBytes::from_string(self.state.cluster_id().to_owned()))
            .with_endpoint_type(ENDPOINT_BROKERS)
            .with_cluster_authorized_operations(OPERATIONS_OMITTED);
        if request.endpoint_type != ENDPOINT_BROKERS {
            response.error_code = ResponseError::UnsupportedEndpointType.code();
            response.error_message = Some(StrBytes::from_static_str("there are no controller endpoints here"));
            return response;
        }
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = self.authorizer.allowed_bits(&caller.principal, Resource::Cluster);
        }
        let broker = DescribeClusterBroker::default()
            .with_broker_id(BrokerId(self.config.node_id.0))
            .with_host(StrBytes::from_string(caller.advertised.host.clone()))
            .with_port(i32::from(caller.advertised.port))
            .with_rack(self.config.rack.clone().map(StrBytes::from_string));
        response.with_controller_id(BrokerId(self.config.node_id.0)).with_brokers(vec![broker])
    }

    pub(crate) fn find_coordinator(
        &self,
        caller: &Caller,
        version: i16,
        request: FindCoordinatorRequest,
    ) -> FindCoordinatorResponse {
        if version >= FIND_MANY {
            let keys = request.coordinator_keys.into_iter();
            let coordinators = keys.map(|key| self.coordinator(caller, version, request.key_type, key)).collect();
            return FindCoordinatorResponse::default().with_coordinators(coordinators);
        }
        let found = self.coordinator(caller, version, request.key_type, request.key);
        FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(found.error_message)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port)
    }

    fn coordinator(&self, caller: &Caller, version: i16, key_type: i8, key: StrBytes) -> Coordinator {
        let refused = |key, error: ResponseError, message| {
            Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_static_str(message)))
        };
        if key_type == KEY_TYPE_TRANSACTION && !self.may(caller, Operation::Describe, Resource::TransactionalId(&key)) {
            let error = ResponseError::TransactionalIdAuthorizationFailed;
            return refused(key, error, "not authorized to describe this transactional id");
        }
        if key_type == KEY_TYPE_TRANSACTION {
            // librdkafka, which asks in an old version, would ask again after any other error until its time is up; with this
            // one it stops at once and shows the message. Java's client drops the message of this one, and shows any other's.
            let error = match version >= FIND_MANY {
                true => ResponseError::InvalidRequest,
                false => ResponseError::TransactionalIdAuthorizationFailed,
            };
            return refused(key, error, NO_TRANSACTIONS);
        }
        if key_type != KEY_TYPE_GROUP {
            return refused(key, ResponseError::InvalidRequest, "there are coordinators of groups only");
        }
        if !self.may(caller, Operation::Describe, Resource::Group(&key)) {
            return refused(key, ResponseError::GroupAuthorizationFailed, "not authorized to describe this group");
        }
        Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(self.config.node_id.0))
            .with_host(StrBytes::from_string(caller.advertised.host.clone()))
            .with_port(i32::from(caller.advertised.port))
    }

    /// The topic of a request that names it by id (then `id` is not nil) or by name, if the caller may do `operation`
    /// to it.
    ///
    /// # Errors
    /// What each partition of the topic is to be answered with.
    pub(crate) fn topic_for(
        &self,
        caller: &Caller,
        operation: Operation,
        name: &str,
        id: Uuid,
    ) -> Result<std::sync::Arc<TopicRecord>, ResponseError> {
        if id.is_nil() {
            if !self.may(caller, operation, Resource::Topic(name)) {
                return Err(ResponseError::TopicAuthorizationFailed);
            }
            return self.state.topic(name).ok_or(ResponseError::UnknownTopicOrPartition);
        }
        let topic = self.state.topic_by_id(id).ok_or(ResponseError::UnknownTopicId)?;
        if self.may(caller, operation, Resource::Topic(&topic.name)) {
            return Ok(topic);
        }
        Err(ResponseError::TopicAuthorizationFailed)
    }
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
