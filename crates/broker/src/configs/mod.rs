//! Configs of topics and of the one broker, as Kafka's admin APIs show them (DescribeConfigs; CreateTopics for a topic that was
//! just made).

mod alter;
mod table;

pub(crate) use table::{Type, find};

use crate::dispatch::Caller;
use crate::requests::distinct;
use crate::{ApiError, Broker, Operation, Resource};
use hawser_link::topic_configs;
use hawser_log::LogConfig;
use hawser_state::TopicRecord;
use hawser_wire::messages::create_topics_response::CreatableTopicConfigs;
use hawser_wire::messages::describe_configs_request::DescribeConfigsResource;
use hawser_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use hawser_wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use std::collections::BTreeMap;
use table::{Known, TOPIC_CONFIGS};

/// `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
/// `DescribeConfigsResponse.ConfigSource`.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// A config of the daemon, as DescribeConfigs shows it.
#[derive(Clone, Debug)]
pub struct BrokerSetting {
    /// Its key in the daemon's file.
    pub name: String,
    /// `None` for a secret.
    pub value: Option<String>,
    /// Whether the file sets it.
    pub is_set: bool,
    /// One or two sentences.
    pub documentation: &'static str,
}

impl Broker {
    pub(crate) fn describe_configs(&self, caller: &Caller, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
        let resources = distinct(request.resources, |asked| (asked.resource_type, asked.resource_name.clone()));
        let results = resources.into_iter().map(|resource| {
            let outcome = match resource.resource_type {
                TOPIC => self.topic_configs(caller, &resource),
                BROKER => self.broker_configs(caller, &resource),
                BROKER_LOGGER => Err(ApiError::new(ResponseError::InvalidRequest, "There are no loggers to set here.")),
                _ => Err(ApiError::new(ResponseError::InvalidRequest, "Only topics and brokers have configs here.")),
            };
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name);
            match outcome {
                Ok(entries) => {
                    let wanted = |name: &str| {
                        resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| &**key == name))
                    };
                    let entries = entries.into_iter().filter(|entry| wanted(&entry.name));
                    result.with_configs(entries.map(|entry| entry.shown(synonyms, documentation)).collect())
                }
                Err(error) => result
                    .with_error_code(error.code.code())
                    .with_error_message(Some(StrBytes::from_string(error.message))),
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }

    fn topic_configs(&self, caller: &Caller, asked: &DescribeConfigsResource) -> Result<Vec<Entry>, ApiError> {
        let topic = self.topic_for(caller, Operation::DescribeConfigs, &asked.resource_name, Uuid::nil());
        let topic = topic.map_err(ApiError::of)?;
        let mut entries = entries_of(&topic, self.topics.log_config());
        let copied = self.topics.copied_configs(&topic);
        for entry in &mut entries {
            entry.is_read_only = copied.contains(entry.name.as_str());
        }
        if let Some(mirror) = topic.mirror.as_ref().filter(|_| topic.is_read_only()) {
            entries.extend(Entry::of_source_clusters(&mirror.source_clusters));
        }
        Ok(entries)
    }

    fn broker_configs(&self, caller: &Caller, asked: &DescribeConfigsResource) -> Result<Vec<Entry>, ApiError> {
        if !self.may(caller, Operation::DescribeConfigs, Resource::Cluster) {
            return Err(ApiError::of(ResponseError::ClusterAuthorizationFailed));
        }
        match asked.resource_name.as_str() {
            // The cluster-wide dynamic defaults: none is ever set.
            "" => Ok(Vec::new()),
            name if name == self.config.node_id.to_string() => Ok(self.broker_entries()),
            name => {
                let expected = self.config.node_id;
                let message = format!("Unexpected broker id, expected {expected} or empty string, but received {name}");
                Err(ApiError::new(ResponseError::InvalidRequest, message))
            }
        }
    }

    fn broker_entries(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.config.settings.iter().map(Entry::of_broker).collect();
        // What clients ask a Kafka broker for, and here follows from there being one node without a file of that name.
        for (name, value) in
            [("broker.id", self.config.node_id.to_string()), ("default.replication.factor", "1".into())]
        {
            let documentation = "As in every cluster of one node.";
            let setting = BrokerSetting { name: name.to_owned(), value: Some(value), is_set: false, documentation };
            entries.push(Entry::of_broker(&setting));
        }
        entries
    }
}

/// The configs of a topic that was just made, as CreateTopics shows them.
pub(crate) fn of_new_topic(topic: &TopicRecord, log: &LogConfig) -> Vec<CreatableTopicConfigs> {
    let shown = |entry: Entry| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_string(entry.name))
            .with_value(entry.value.map(StrBytes::from_string))
            .with_config_source(entry.source)
            .with_read_only(entry.is_read_only)
    };
    entries_of(topic, log).into_iter().map(shown).collect()
}

fn entries_of(topic: &TopicRecord, log: &LogConfig) -> Vec<Entry> {
    let mut set: BTreeMap<&str, &str> =
        topic.configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let of_topic = |known: &Known| Entry::of_topic(known, set.remove(known.name), log);
    let mut entries: Vec<Entry> = TOPIC_CONFIGS.iter().map(of_topic).collect();
    // What a newer source has set and this table does not know is shown all the same.
    entries.extend(set.into_iter().map(|(name, value)| Entry::unknown_of_topic(name, value)));
    entries
}

struct Entry {
    name: String,
    /// `None` for a secret.
    value: Option<String>,
    source: i8,
    is_read_only: bool,
    is_sensitive: bool,
    config_type: Type,
    documentation: &'static str,
    /// What holds, in the order of precedence: name, value, source.
    synonyms: Vec<(String, Option<String>, i8)>,
}

impl Entry {
    fn of_topic(known: &Known, set: Option<&str>, log: &LogConfig) -> Self {
        let default = known.broker_default(log);
        let default_source = if default == known.default { SOURCE_DEFAULT } else { SOURCE_STATIC_BROKER };
        let mut synonyms = Vec::new();
        if let Some(value) = set {
            synonyms.push((known.name.to_owned(), Some(value.to_owned()), SOURCE_TOPIC));
        }
        if let Some(name) = known.broker_config {
            synonyms.push((name.to_owned(), Some(default.clone()), default_source));
            if default_source == SOURCE_STATIC_BROKER {
                synonyms.push((name.to_owned(), Some(known.default.to_owned()), SOURCE_DEFAULT));
            }
        }
        Self {
            name: known.name.to_owned(),
            value: Some(set.map_or(default, str::to_owned)),
            source: if set.is_some() { SOURCE_TOPIC } else { default_source },
            is_read_only: false,
            is_sensitive: false,
            config_type: known.config_type,
            documentation: known.documentation,
            synonyms,
        }
    }

    fn unknown_of_topic(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            source: SOURCE_TOPIC,
            is_read_only: false,
            is_sensitive: false,
            config_type: Type::String,
            documentation: "Set at the source; unknown here.",
            synonyms: vec![(name.to_owned(), Some(value.to_owned()), SOURCE_TOPIC)],
        }
    }

    /// What a mirror tells of where it comes from; one made by an older daemon does not know. Nobody sets it, so it counts as
    /// a default: tools that copy configs leave it alone.
    fn of_source_clusters(clusters: &[String]) -> Option<Self> {
        (!clusters.is_empty()).then(|| Self {
            name: topic_configs::SOURCE_CLUSTERS.to_owned(),
            value: Some(clusters.join(",")),
            source: SOURCE_DEFAULT,
            is_read_only: true,
            is_sensitive: false,
            config_type: Type::List,
            documentation: "Clusters that the records of this mirror came through, where they were written first.",
            synonyms: Vec::new(),
        })
    }

    fn of_broker(setting: &BrokerSetting) -> Self {
        let BrokerSetting { name, value, is_set, documentation } = setting;
        let source = if *is_set { SOURCE_STATIC_BROKER } else { SOURCE_DEFAULT };
        Self {
            name: name.clone(),
            value: value.clone(),
            source,
            is_read_only: true,
            is_sensitive: value.is_none(),
            config_type: Type::String,
            documentation,
            synonyms: vec![(name.clone(), value.clone(), source)],
        }
    }

    fn shown(self, with_synonyms: bool, with_documentation: bool) -> DescribeConfigsResourceResult {
        let synonym = |(name, value, source): (String, Option<String>, i8)| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_string(name))
                .with_value(value.map(StrBytes::from_string))
                .with_source(source)
        };
        let synonyms = if with_synonyms { self.synonyms } else { Vec::new() };
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(self.name))
            .with_value(self.value.map(StrBytes::from_string))
            .with_read_only(self.is_read_only)
            .with_is_sensitive(self.is_sensitive)
            .with_config_source(self.source)
            .with_synonyms(synonyms.into_iter().map(synonym).collect())
            .with_config_type(self.config_type as i8)
            .with_documentation(with_documentation.then(|| StrBytes::from_static_str(self.documentation)))
    }
}
