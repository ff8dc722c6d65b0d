//! Admin APIs whose answer follows from there being one node: it leads every partition and holds its only replica, it has no
//! KRaft quorum and no features that change (`ControllerApis`, `ReplicationControlManager`).

use crate::dispatch::Caller;
use crate::{ApiError, Broker, Operation, Resource};
use hawser_wire::messages::alter_partition_reassignments_request::ReassignablePartition;
use hawser_wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use hawser_wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use hawser_wire::messages::update_features_response::UpdatableFeatureResult;
use hawser_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, ElectLeadersRequest, ElectLeadersResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, UnregisterBrokerRequest, UnregisterBrokerResponse, UpdateFeaturesRequest,
    UpdateFeaturesResponse,
};
use hawser_wire::{ResponseError, StrBytes};

impl Broker {
    pub(crate) fn elect_leaders(
        &self,
        caller: &Caller,
        version: i16,
        request: ElectLeadersRequest,
    ) -> ElectLeadersResponse {
        let mut response = ElectLeadersResponse::default();
        let refused = self.cluster_refusal(caller, Operation::Alter);
        // Version 0 has no error of the whole.
        if let (Some(code), true) = (refused, version > 0) {
            return response.with_error_code(code);
        }
        for topic in request.topic_partitions.unwrap_or_default() {
            let outcome = |partition: i32| {
                if let Some(code) = refused {
                    return PartitionResult::default().with_partition_id(partition).with_error_code(code);
                }
                let error = if self.has_partition(&topic.topic, partition) {
                    ApiError::new(ResponseError::ElectionNotNeeded, "Leader election not needed for topic partition.")
                } else {
                    let message = format!("No such partition as {}-{partition}", topic.topic.as_str());
                    ApiError::new(ResponseError::UnknownTopicOrPartition, message)
                };
                PartitionResult::default()
                    .with_partition_id(partition)
                    .with_error_code(error.code.code())
                    .with_error_message(Some(StrBytes::from_string(error.message)))
            };
            let results = topic.partitions.iter().map(|partition| outcome(*partition)).collect();
            let result = ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(results);
            response.replica_election_results.push(result);
        }
        response
    }

    pub(crate) fn alter_partition_reassignments(
        &self,
        caller: &Caller,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        let response = AlterPartitionReassignmentsResponse::default().with_error_message(None);
        if let Some(code) = self.cluster_refusal(caller, Operation::Alter) {
            return response.with_error_code(code);
        }
        let topics = request.topics.into_iter().map(|topic| {
            let reassign = |partition: ReassignablePartition| {
                let index = partition.partition_index;
                let answer =
                    ReassignablePartitionResponse::default().with_partition_index(index).with_error_message(None);
                let outcome = if self.has_partition(&topic.name, index) {
                    self.reassign(partition)
                } else {
                    Err(ApiError::of(ResponseError::UnknownTopicOrPartition))
                };
                match outcome {
                    Ok(()) => answer,
                    Err(error) => answer
                        .with_error_code(error.code.code())
                        .with_error_message(Some(StrBytes::from_string(error.message))),
                }
            };
            let partitions = topic.partitions.into_iter().map(reassign).collect();
            ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        response.with_responses(topics)
    }

    /// Where every partition is, it may be moved to.
    fn reassign(&self, partition: ReassignablePartition) -> Result<(), ApiError> {
        let node_id = self.config.node_id.0;
        match partition.replicas {
            None => {
                let message = "No partition reassignment is in progress.";
                Err(ApiError::new(ResponseError::NoReassignmentInProgress, message))
            }
            Some(nodes) if matches!(nodes.as_slice(), [node] if node.0 == node_id) => Ok(()),
            Some(_) => {
                let message = format!("The only broker is {node_id}: a partition has one replica, there.");
                Err(ApiError::new(ResponseError::InvalidReplicaAssignment, message))
            }
        }
    }

    pub(crate) fn list_partition_reassignments(
        &self,
        caller: &Caller,
        _request: &ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        let code = self.cluster_refusal(caller, Operation::Describe).unwrap_or_default();
        ListPartitionReassignmentsResponse::default().with_error_code(code).with_error_message(None)
    }

    pub(crate) fn unregister_broker(
        &self,
        caller: &Caller,
        request: &UnregisterBrokerRequest,
    ) -> UnregisterBrokerResponse {
        let refused = |code: i16, message: Option<String>| {
            UnregisterBrokerResponse::default()
                .with_error_code(code)
                .with_error_message(message.map(StrBytes::from_string))
        };
        if let Some(code) = self.cluster_refusal(caller, Operation::Alter) {
            return refused(code, None);
        }
        let id = request.broker_id.0;
        if id == self.config.node_id.0 {
            let message = format!("Broker {id} is the only one of this cluster and cannot leave it.");
            return refused(ResponseError::InvalidRequest.code(), Some(message));
        }
        refused(
            ResponseError::BrokerIdNotRegistered.code(),
            Some(format!("Broker ID {id} is not currently registered")),
        )
    }

    pub(crate) fn update_features(
        &self,
        caller: &Caller,
        version: i16,
        request: UpdateFeaturesRequest,
    ) -> UpdateFeaturesResponse {
        let message = || Some(StrBytes::from_static_str("There are no features here that change."));
        let response = UpdateFeaturesResponse::default().with_error_message(None);
        if let Some(code) = self.cluster_refusal(caller, Operation::Alter) {
            return response.with_error_code(code);
        }
        let code = ResponseError::InvalidUpdateVersion.code();
        if version >= 2 {
            return response.with_error_code(code).with_error_message(message());
        }
        let result = |update: hawser_wire::messages::update_features_request::FeatureUpdateKey| {
            UpdatableFeatureResult::default()
                .with_feature(update.feature)
                .with_error_code(code)
                .with_error_message(message())
        };
        response.with_results(request.feature_updates.into_iter().map(result).collect())
    }

    pub(crate) fn describe_quorum(&self, caller: &Caller, _request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
        let message =
            StrBytes::from_static_str("There is no KRaft quorum here: this cluster is one node without controllers.");
        let code = self.cluster_refusal(caller, Operation::Describe);
        DescribeQuorumResponse::default()
            .with_error_code(code.unwrap_or(ResponseError::InvalidRequest.code()))
            .with_error_message(Some(message))
    }

    /// What a caller is told who may not do `operation` to the cluster.
    fn cluster_refusal(&self, caller: &Caller, operation: Operation) -> Option<i16> {
        let may = self.may(caller, operation, Resource::Cluster);
        (!may).then(|| ResponseError::ClusterAuthorizationFailed.code())
    }

    fn has_partition(&self, topic: &str, partition: i32) -> bool {
        self.state.topic(topic).is_some_and(|topic| (0..topic.partitions).contains(&partition))
    }
}
