//! IncrementalAlterConfigs and AlterConfigs (`ConfigAdminManager`): configs of topics change, those of the broker stand in the
//! daemon's file.

use super::{BROKER, TOPIC};
use crate::dispatch::Caller;
use crate::topics::{ConfigChange, ConfigOp, repeated};
use crate::{ApiError, Broker, Operation, Resource};
use hawser_wire::messages::alter_configs_response::AlterConfigsResourceResponse as ReplaceAnswer;
use hawser_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as AlterAnswer;
use hawser_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use hawser_wire::{ResponseError, StrBytes};
use std::collections::BTreeSet;

/// One resource of a request: type, name, and what is asked for it.
struct Asked {
    resource_type: i8,
    name: String,
    /// Key, operation, value.
    changes: Vec<(String, i8, Option<String>)>,
}

/// `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

impl Broker {
    pub(crate) async fn incremental_alter_configs(
        &self,
        caller: &Caller,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let asked = request.resources.into_iter().map(|resource| {
            let changes = resource.configs.into_iter();
            let changes = changes.map(|c| (c.name.to_string(), c.config_operation, c.value.map(|v| v.to_string())));
            let name = resource.resource_name.to_string();
            Asked { resource_type: resource.resource_type, name, changes: changes.collect() }
        });
        let answers = self.alter_each(caller, asked.collect(), true, request.validate_only).await;
        IncrementalAlterConfigsResponse::default().with_responses(answers)
    }

    pub(crate) async fn alter_configs(&self, caller: &Caller, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let asked = request.resources.into_iter().map(|resource| {
            let changes = resource.configs.into_iter();
            let changes = changes.map(|c| (c.name.to_string(), SET, c.value.map(|v| v.to_string())));
            let name = resource.resource_name.to_string();
            Asked { resource_type: resource.resource_type, name, changes: changes.collect() }
        });
        let answers = self.alter_each(caller, asked.collect(), false, request.validate_only).await;
        let answers = answers.into_iter().map(|answer| {
            ReplaceAnswer::default()
                .with_resource_type(answer.resource_type)
                .with_resource_name(answer.resource_name)
                .with_error_code(answer.error_code)
                .with_error_message(answer.error_message)
        });
        AlterConfigsResponse::default().with_responses(answers.collect())
    }

    async fn alter_each(
        &self,
        caller: &Caller,
        asked: Vec<Asked>,
        is_incremental: bool,
        validate_only: bool,
    ) -> Vec<AlterAnswer> {
        let repeated = repeated(asked.iter().map(|asked| (asked.resource_type, asked.name.clone())));
        let mut answers = Vec::new();
        for asked in asked {
            let outcome = match repeated.contains(&(asked.resource_type, asked.name.clone())) {
                true => Err(ApiError::new(ResponseError::InvalidRequest, "Each resource must appear at most once.")),
                false => self.alter(caller, &asked, is_incremental, validate_only).await,
            };
            let answer = AlterAnswer::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(StrBytes::from_string(asked.name));
            answers.push(match outcome {
                Ok(()) => answer.with_error_message(None),
                Err(error) => answer
                    .with_error_code(error.code.code())
                    .with_error_message(Some(StrBytes::from_string(error.message))),
            });
        }
        answers
    }

    async fn alter(
        &self,
        caller: &Caller,
        asked: &Asked,
        is_incremental: bool,
        validate_only: bool,
    ) -> Result<(), ApiError> {
        let invalid = |message: String| Err(ApiError::new(ResponseError::InvalidRequest, message));
        let mut keys = BTreeSet::new();
        if !asked.changes.iter().all(|(key, ..)| keys.insert(key)) {
            return invalid("Error due to duplicate config keys".to_owned());
        }
        let is_null = |(_, operation, value): &&(String, i8, Option<String>)| *operation != DELETE && value.is_none();
        let nulls: Vec<&str> = asked.changes.iter().filter(is_null).map(|(key, ..)| key.as_str()).collect();
        if !nulls.is_empty() {
            return invalid(format!("Null value not supported for : {}", nulls.join(", ")));
        }
        match asked.resource_type {
            TOPIC => {
                if !self.may(caller, Operation::AlterConfigs, Resource::Topic(&asked.name)) {
                    return Err(ApiError::of(ResponseError::TopicAuthorizationFailed));
                }
                let change = asked.change(is_incremental)?;
                self.topics.alter_configs(&asked.name, change, validate_only).await
            }
            BROKER => {
                if !self.may(caller, Operation::AlterConfigs, Resource::Cluster) {
                    return Err(ApiError::of(ResponseError::ClusterAuthorizationFailed));
                }
                let keys: Vec<&str> = asked.changes.iter().map(|(key, ..)| key.as_str()).collect();
                invalid(format!(
                    "Configs of the broker do not change while it runs: set {} in the daemon's file and start it again.",
                    keys.join(", ")
                ))
            }
            other => invalid(format!("Only topics have configs that change here, not resources of type {other}.")),
        }
    }
}

impl Asked {
    fn change(&self, is_incremental: bool) -> Result<ConfigChange, ApiError> {
        let mut operations = Vec::new();
        for (key, operation, value) in &self.changes {
            let value = value.clone().unwrap_or_default();
            let operation = match *operation {
                SET => ConfigOp::Set(value),
                DELETE => ConfigOp::Delete,
                APPEND => ConfigOp::Append(value),
                SUBTRACT => ConfigOp::Subtract(value),
                other => {
                    let message = format!("Unknown operations type {other}");
                    return Err(ApiError::new(ResponseError::InvalidRequest, message));
                }
            };
            operations.push((key.clone(), operation));
        }
        Ok(if is_incremental { ConfigChange::Incremental(operations) } else { ConfigChange::Replace(operations) })
    }
}
