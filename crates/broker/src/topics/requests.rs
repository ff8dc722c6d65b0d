//! CreateTopics, DeleteTopics, CreatePartitions: who may, in which words it is answered (`ControllerApis`).

use super::{Layout, NewTopic};
use crate::cluster::topic_name;
use crate::dispatch::Caller;
use crate::{ApiError, Broker, Operation, Resource, configs};
use hawser_state::TopicRecord;
use hawser_wire::messages::create_partitions_request::CreatePartitionsAssignment;
use hawser_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use hawser_wire::messages::create_topics_request::CreatableTopic;
use hawser_wire::messages::create_topics_response::CreatableTopicResult;
use hawser_wire::messages::delete_topics_response::DeletableTopicResult;
use hawser_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse,
};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use std::collections::{BTreeMap, BTreeSet};

impl Broker {
    pub(crate) async fn create_topics(&self, caller: &Caller, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let may_all = self.may(caller, Operation::Create, Resource::Cluster);
        let mut results = Vec::new();
        for (name, topic) in each_once(request.topics, |topic| topic.name.to_string()) {
            let new = topic.and_then(|topic| {
                if !may_all && !self.may(caller, Operation::Create, Resource::Topic(&name)) {
                    return Err(ApiError::new(ResponseError::TopicAuthorizationFailed, "Authorization failed."));
                }
                wanted(topic)
            });
            let outcome = match new {
                Ok(new) => self.topics.create(new, request.validate_only).await,
                Err(error) => Err(error),
            };
            results.push(match outcome {
                Ok(record) => self.created(caller, &record),
                Err(error) => CreatableTopicResult::default()
                    .with_name(topic_name(&name))
                    .with_error_code(error.code.code())
                    .with_error_message(Some(StrBytes::from_string(error.message))),
            });
        }
        CreateTopicsResponse::default().with_topics(results)
    }

    fn created(&self, caller: &Caller, record: &TopicRecord) -> CreatableTopicResult {
        let result = CreatableTopicResult::default()
            .with_name(topic_name(&record.name))
            .with_topic_id(record.id)
            .with_error_message(None);
        if !self.may(caller, Operation::DescribeConfigs, Resource::Topic(&record.name)) {
            return result.with_topic_config_error_code(ResponseError::TopicAuthorizationFailed.code());
        }
        result
            .with_num_partitions(record.partitions)
            .with_replication_factor(1)
            .with_configs(Some(configs::of_new_topic(record, self.topics.log_config())))
    }

    pub(crate) async fn create_partitions(
        &self,
        caller: &Caller,
        request: CreatePartitionsRequest,
    ) -> CreatePartitionsResponse {
        let mut results = Vec::new();
        for (name, topic) in each_once(request.topics, |topic| topic.name.to_string()) {
            let outcome = match topic {
                Ok(_) if !self.may(caller, Operation::Alter, Resource::Topic(&name)) => {
                    Err(ApiError::of(ResponseError::TopicAuthorizationFailed))
                }
                Ok(topic) => {
                    let nodes = |on: CreatePartitionsAssignment| on.broker_ids.iter().map(|id| id.0).collect();
                    let assignments = topic.assignments.map(|assigned| assigned.into_iter().map(nodes).collect());
                    self.topics.add_partitions(&name, topic.count, assignments, request.validate_only).await
                }
                Err(error) => Err(error),
            };
            let result = CreatePartitionsTopicResult::default().with_name(topic_name(&name));
            results.push(match outcome {
                Ok(()) => result.with_error_message(None),
                Err(error) => result
                    .with_error_code(error.code.code())
                    .with_error_message(Some(StrBytes::from_string(error.message))),
            });
        }
        CreatePartitionsResponse::default().with_results(results)
    }

    /// Makes topics that somebody asked the metadata of (`auto.create.topics.enable`); why those that are not there were not
    /// made.
    pub(crate) async fn auto_create(&self, caller: &Caller, names: &[String]) -> BTreeMap<String, ResponseError> {
        let mut refused = BTreeMap::new();
        let may_all = self.may(caller, Operation::Create, Resource::Cluster);
        for name in names {
            // Who may not know of a topic is told nothing new.
            if self.state.topic(name).is_some() || !self.may(caller, Operation::Describe, Resource::Topic(name)) {
                continue;
            }
            if !may_all && !self.may(caller, Operation::Create, Resource::Topic(name)) {
                refused.insert(name.clone(), ResponseError::TopicAuthorizationFailed);
                continue;
            }
            let layout = Layout::count(-1);
            let new = NewTopic { name: name.clone(), layout, configs: BTreeMap::new(), mirror: None };
            match self.topics.create(new, false).await {
                Ok(_) => {}
                // By somebody else just now.
                Err(error) if error.code == ResponseError::TopicAlreadyExists => {}
                Err(error) => drop(refused.insert(name.clone(), error.code)),
            }
        }
        refused
    }

    pub(crate) async fn delete_topics(
        &self,
        caller: &Caller,
        version: i16,
        request: DeleteTopicsRequest,
    ) -> DeleteTopicsResponse {
        let mut answers = Answers { version, results: Vec::new() };
        let mut names: Vec<String> = request.topic_names.iter().map(|name| name.to_string()).collect();
        let mut ids: Vec<Uuid> = Vec::new();
        let invalid = |message| Err(ApiError::new(ResponseError::InvalidRequest, message));
        for topic in request.topics {
            match (topic.name, topic.topic_id.is_nil()) {
                (None, true) => answers.add(None, Uuid::nil(), invalid("Neither topic name nor id were specified.")),
                (None, false) => ids.push(topic.topic_id),
                (Some(name), true) => names.push(name.to_string()),
                (Some(name), false) => {
                    let both = invalid("You may not specify both topic name and topic id.");
                    answers.add(Some(&name), topic.topic_id, both);
                }
            }
        }
        let (names_repeated, ids_repeated) = (repeated(names.iter().cloned()), repeated(ids.iter().copied()));
        for name in &names_repeated {
            answers.add(Some(name), Uuid::nil(), invalid("Duplicate topic name."));
        }
        for id in &ids_repeated {
            answers.add(None, *id, invalid("Duplicate topic id."));
        }
        names.retain(|name| !names_repeated.contains(name));
        ids.retain(|id| !ids_repeated.contains(id));

        let may_all = self.may(caller, Operation::Delete, Resource::Cluster);
        let may = |operation, name: &str| may_all || self.may(caller, operation, Resource::Topic(name));
        let denied = || Err(ApiError::of(ResponseError::TopicAuthorizationFailed));
        // By id, so that what is deleted is what was meant.
        let mut doomed: BTreeMap<Uuid, String> = BTreeMap::new();
        for id in ids {
            match self.state.topic_by_id(id) {
                None => answers.add(None, id, Err(ApiError::of(ResponseError::UnknownTopicId))),
                Some(topic) if may(Operation::Delete, &topic.name) => drop(doomed.insert(id, topic.name.clone())),
                Some(topic) if may(Operation::Describe, &topic.name) => answers.add(Some(&topic.name), id, denied()),
                Some(_) => answers.add(None, id, denied()),
            }
        }
        for name in names {
            if !may(Operation::Describe, &name) {
                answers.add(Some(&name), Uuid::nil(), denied());
                continue;
            }
            match self.state.topic(&name) {
                None => {
                    let unknown = Err(ApiError::of(ResponseError::UnknownTopicOrPartition));
                    answers.add(Some(&name), Uuid::nil(), unknown);
                }
                Some(_) if !may(Operation::Delete, &name) => answers.add(Some(&name), Uuid::nil(), denied()),
                Some(topic) => {
                    if ids_repeated.contains(&topic.id) || doomed.insert(topic.id, name.clone()).is_some() {
                        doomed.remove(&topic.id);
                        let twice = invalid("The provided topic name maps to an ID that was already supplied.");
                        answers.add(Some(&name), topic.id, twice);
                    }
                }
            }
        }
        for (id, name) in doomed {
            answers.add(Some(&name), id, self.topics.delete(id).await);
        }
        DeleteTopicsResponse::default().with_responses(answers.results)
    }
}

/// The answers to DeleteTopics.
struct Answers {
    version: i16,
    results: Vec<DeletableTopicResult>,
}

impl Answers {
    fn add(&mut self, name: Option<&str>, id: Uuid, outcome: Result<(), ApiError>) {
        // Only from version 6 on a name may be absent.
        let name = name.or((self.version < 6).then_some(""));
        let result = DeletableTopicResult::default().with_name(name.map(topic_name)).with_topic_id(id);
        self.results.push(match outcome {
            Ok(()) => result,
            Err(error) => {
                result.with_error_code(error.code.code()).with_error_message(Some(StrBytes::from_string(error.message)))
            }
        });
    }
}

/// What a request asks for, before it is held against what there is.
fn wanted(topic: CreatableTopic) -> Result<NewTopic, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ResponseError::InvalidRequest, message));
    let layout = if topic.assignments.is_empty() {
        Layout::Count { partitions: topic.num_partitions, replication_factor: topic.replication_factor }
    } else if topic.replication_factor != -1 {
        return invalid("A manual partition assignment was specified, but replication factor was not set to -1.");
    } else if topic.num_partitions != -1 {
        return invalid("A manual partition assignment was specified, but numPartitions was not set to -1.");
    } else {
        let assigned = topic.assignments.into_iter();
        let nodes = |nodes: Vec<_>| nodes.into_iter().map(|node: hawser_wire::messages::BrokerId| node.0).collect();
        Layout::Assigned(assigned.map(|a| (a.partition_index, nodes(a.broker_ids))).collect())
    };
    let nulls: Vec<&str> = topic.configs.iter().filter(|c| c.value.is_none()).map(|c| c.name.as_str()).collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(ApiError::new(ResponseError::InvalidConfig, message));
    }
    let set = |config: hawser_wire::messages::create_topics_request::CreatableTopicConfig| {
        Some((config.name.to_string(), config.value?.to_string()))
    };
    let configs = topic.configs.into_iter().filter_map(set).collect();
    Ok(NewTopic { name: topic.name.to_string(), layout, configs, mirror: None })
}

/// `topics` by name, each name once; the refusal of those that are named more often.
fn each_once<T>(topics: Vec<T>, name: impl Fn(&T) -> String) -> Vec<(String, Result<T, ApiError>)> {
    let repeated = repeated(topics.iter().map(&name));
    let mut seen = BTreeSet::new();
    let named = topics.into_iter().map(|topic| (name(&topic), topic)).filter(|(name, _)| seen.insert(name.clone()));
    let judged = named.map(|(name, topic)| match repeated.contains(&name) {
        true => (name, Err(ApiError::new(ResponseError::InvalidRequest, "Duplicate topic name."))),
        false => (name, Ok(topic)),
    });
    judged.collect()
}

/// What stands in `items` more than once.
pub(crate) fn repeated<T: Ord + Clone>(items: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    let mut repeated = BTreeSet::new();
    for item in items {
        if !seen.insert(item.clone()) {
            repeated.insert(item);
        }
    }
    repeated
}
