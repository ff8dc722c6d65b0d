//! A topic that somebody wants, and whether it can be (`ReplicationControlManager.createTopics`): a decision without I/O.

use super::configure::parse;
use super::name::{check_topic_name, collide};
use super::{PARTITIONS_PER_REQUEST_MAX, TopicDefaults};
use crate::ApiError;
use hawser_log::LogConfig;
use hawser_state::{MirrorRecord, TopicRecord};
use hawser_wire::{ResponseError, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The head topic of KRaft, which nobody else may make.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// A topic to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions, and where.
    pub layout: Layout,
    /// Configs that differ from the defaults.
    pub configs: BTreeMap<String, String>,
    /// Set for a mirror: its link makes the logs, and its configs are the source's, whatever they are.
    pub mirror: Option<MirrorRecord>,
}

/// How many partitions, and on which nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As many, with so many replicas each; −1 for the default.
    Count {
        /// Partitions.
        partitions: i32,
        /// Replicas of each: there is one node.
        replication_factor: i16,
    },
    /// These partitions on these nodes.
    Assigned(Vec<(i32, Vec<i32>)>),
}

impl Layout {
    /// `partitions` of them.
    pub fn count(partitions: i32) -> Self {
        Self::Count { partitions, replication_factor: -1 }
    }

    /// The number of partitions, if it can be had on the one node of `defaults`.
    fn partitions(&self, defaults: &TopicDefaults) -> Result<i32, ApiError> {
        let refused = |code, message: String| Err(ApiError::new(code, message));
        match self {
            Self::Assigned(assignments) => {
                let mut seen = BTreeSet::new();
                for (partition, nodes) in assignments {
                    if !seen.insert(*partition) {
                        let message = format!("Found multiple manual partition assignments for partition {partition}");
                        return refused(ResponseError::InvalidReplicaAssignment, message);
                    }
                    check_replicas(nodes, defaults)?;
                }
                // Without duplicates: from 0 on without a gap, if first and last fit the number.
                let last = i32::try_from(seen.len()).unwrap_or(i32::MAX) - 1;
                if seen.first() != Some(&0) || seen.last() != Some(&last) {
                    let message = "partitions should be a consecutive 0-based integer sequence".to_owned();
                    return refused(ResponseError::InvalidReplicaAssignment, message);
                }
                Ok(last + 1)
            }
            Self::Count { replication_factor, .. } if *replication_factor < -1 || *replication_factor == 0 => refused(
                ResponseError::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.".to_owned(),
            ),
            Self::Count { partitions, .. } if *partitions < -1 || *partitions == 0 => refused(
                ResponseError::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.".to_owned(),
            ),
            Self::Count { replication_factor: wanted @ 2.., .. } => refused(
                ResponseError::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {wanted} time(s): The target replication factor of {wanted} cannot be \
                     reached because only 1 broker(s) are registered."
                ),
            ),
            Self::Count { partitions: -1, .. } => Ok(defaults.partitions),
            Self::Count { partitions, .. } => Ok(*partitions),
        }
    }
}

/// `ReplicationControlManager.validateManualPartitionAssignment`, with one node.
pub(super) fn check_replicas(nodes: &[i32], defaults: &TopicDefaults) -> Result<(), ApiError> {
    let refused = |message: String| Err(ApiError::new(ResponseError::InvalidReplicaAssignment, message));
    let node_id = defaults.node_id.0;
    if let Some(other) = nodes.iter().find(|node| **node != node_id) {
        return refused(format!(
            "The manual partition assignment includes broker {other}, but no such broker is registered."
        ));
    }
    match nodes {
        [] => refused("The manual partition assignment includes an empty replica list.".to_owned()),
        [_] => Ok(()),
        _ => refused(format!("The manual partition assignment includes the broker {node_id} more than once.")),
    }
}

impl NewTopic {
    /// The record of this topic with a new id, if it may be beside `existing` ones.
    pub(super) fn check(
        self,
        defaults: &TopicDefaults,
        log: &LogConfig,
        existing: &[Arc<TopicRecord>],
    ) -> Result<TopicRecord, ApiError> {
        let Self { name, layout, configs, mirror } = self;
        if name == CLUSTER_METADATA {
            let message = format!("Creation of internal topic {name} is prohibited.");
            return Err(ApiError::new(ResponseError::InvalidRequest, message));
        }
        if existing.iter().any(|topic| topic.name == name) {
            return Err(ApiError::new(ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        check_topic_name(&name).map_err(|reason| ApiError::new(ResponseError::InvalidTopicException, reason))?;
        if let Some(other) = existing.iter().find(|topic| collide(&topic.name, &name)) {
            let message = format!("Topic '{name}' collides with existing topic: {}", other.name);
            return Err(ApiError::new(ResponseError::InvalidTopicException, message));
        }
        if mirror.is_none() {
            parse(&configs, log)?;
        }
        let partitions = layout.partitions(defaults)?;
        if partitions > PARTITIONS_PER_REQUEST_MAX {
            return Err(too_many_partitions());
        }
        Ok(TopicRecord { name, id: Uuid::new_v4(), partitions, configs, mirror })
    }
}

pub(super) fn too_many_partitions() -> ApiError {
    ApiError::new(
        ResponseError::PolicyViolation,
        format!("Excessively large number of partitions per request: at most {PARTITIONS_PER_REQUEST_MAX}."),
    )
}
