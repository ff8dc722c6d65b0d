//! DescribeConfigs for topics and for the one broker.

use crate::dispatch::Caller;
use crate::{Broker, Operation, Resource, TopicError};
use hawser_state::TopicRecord;
use hawser_wire::messages::create_topics_response::CreatableTopicConfigs;
use hawser_wire::messages::describe_configs_request::DescribeConfigsResource;
use hawser_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use hawser_wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use std::collections::BTreeMap;

/// `ConfigResource.Type` and `DescribeConfigsResponse.ConfigSource`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// `DescribeConfigsResponse.ConfigType`.
#[derive(Clone, Copy)]
enum Type {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A topic config: name, Kafka's default, type, what it is.
type Known = (&'static str, &'static str, Type, &'static str);

/// Kafka 4.3's topic configs with its defaults (`LogConfig`). A mirror carries its source's values.
const TOPIC_CONFIGS: &[Known] = &[
    ("cleanup.policy", "delete", Type::List, "What happens to old segments: `delete`, `compact` or both."),
    ("compression.gzip.level", "-1", Type::Int, "Level if compression.type is gzip."),
    ("compression.lz4.level", "9", Type::Int, "Level if compression.type is lz4."),
    ("compression.type", "producer", Type::String, "Codec of new batches; `producer` keeps what the producer chose."),
    ("compression.zstd.level", "3", Type::Int, "Level if compression.type is zstd."),
    ("delete.retention.ms", "86400000", Type::Long, "How long tombstones are kept in a compacted topic."),
    ("file.delete.delay.ms", "60000", Type::Long, "How long a deleted file stays on the disk."),
    ("flush.messages", "9223372036854775807", Type::Long, "Records between two forced fsyncs."),
    ("flush.ms", "9223372036854775807", Type::Long, "Time between two forced fsyncs."),
    ("follower.replication.throttled.replicas", "", Type::List, "Replicas throttled on the follower's side."),
    ("index.interval.bytes", "4096", Type::Int, "Bytes between two entries of the offset index."),
    ("leader.replication.throttled.replicas", "", Type::List, "Replicas throttled on the leader's side."),
    ("local.retention.bytes", "-2", Type::Long, "With tiered storage: bytes kept locally."),
    ("local.retention.ms", "-2", Type::Long, "With tiered storage: time kept locally."),
    ("max.compaction.lag.ms", "9223372036854775807", Type::Long, "Longest time that a record stays uncompacted."),
    ("max.message.bytes", "1048588", Type::Int, "Largest record batch."),
    ("message.timestamp.after.max.ms", "3600000", Type::Long, "How far in the future a timestamp may be."),
    ("message.timestamp.before.max.ms", "9223372036854775807", Type::Long, "How far in the past a timestamp may be."),
    (
        "message.timestamp.type",
        "CreateTime",
        Type::String,
        "Whose clock stamps records: `CreateTime` or `LogAppendTime`.",
    ),
    ("min.cleanable.dirty.ratio", "0.5", Type::Double, "Share of uncompacted bytes that starts a compaction."),
    ("min.compaction.lag.ms", "0", Type::Long, "Shortest time that a record stays uncompacted."),
    ("min.insync.replicas", "1", Type::Int, "Replicas that must have a record before acks=all is answered."),
    ("preallocate", "false", Type::Boolean, "Whether segments are preallocated."),
    ("remote.log.copy.disable", "false", Type::Boolean, "With tiered storage: no further uploads."),
    ("remote.log.delete.on.disable", "false", Type::Boolean, "With tiered storage: delete remote data when disabled."),
    ("remote.storage.enable", "false", Type::Boolean, "Whether tiered storage is on."),
    ("retention.bytes", "-1", Type::Long, "Bytes kept per partition; −1 for no bound."),
    ("retention.ms", "604800000", Type::Long, "How long records are kept; −1 for ever."),
    ("segment.bytes", "1073741824", Type::Int, "Size at which a segment is rolled."),
    ("segment.index.bytes", "10485760", Type::Int, "Largest size of an index."),
    ("segment.jitter.ms", "0", Type::Long, "Random time taken off segment.ms."),
    ("segment.ms", "604800000", Type::Long, "Age at which a segment is rolled."),
    ("unclean.leader.election.enable", "false", Type::Boolean, "Whether a replica that lacks records may lead."),
];

/// Checks configs that somebody sets on an ordinary topic (`LogConfig.validateNames`).
pub(crate) fn check(configs: &BTreeMap<String, String>) -> Result<(), TopicError> {
    let unknown = configs.keys().find(|name| !TOPIC_CONFIGS.iter().any(|(known, ..)| known == name));
    match unknown {
        Some(name) => Err(TopicError::new(ResponseError::InvalidConfig, format!("Unknown topic config name: {name}"))),
        None => Ok(()),
    }
}

/// The configs of a topic that was just made, as CreateTopics shows them.
pub(crate) fn of_new_topic(topic: &TopicRecord) -> Vec<CreatableTopicConfigs> {
    let shown = |entry: Entry| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_string(entry.name))
            .with_value(Some(StrBytes::from_string(entry.value)))
            .with_config_source(entry.source)
            .with_read_only(entry.is_read_only)
    };
    entries_of(topic).into_iter().map(shown).collect()
}

fn entries_of(topic: &TopicRecord) -> Vec<Entry> {
    let mut set: BTreeMap<&str, &str> =
        topic.configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut entries: Vec<Entry> = TOPIC_CONFIGS.iter().map(|known| Entry::of_topic(known, &mut set)).collect();
    // What a newer source has set and this table does not know is shown all the same.
    entries.extend(set.into_iter().map(|(name, value)| Entry::unknown_of_topic(name, value)));
    entries
}

impl Broker {
    pub(crate) fn describe_configs(&self, caller: &Caller, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
        let results = request.resources.into_iter().map(|resource| {
            let outcome = match resource.resource_type {
                TOPIC => self.topic_configs(caller, &resource),
                BROKER => self.broker_configs(caller, &resource),
                _ => Err((ResponseError::InvalidRequest, "only topics and brokers have configs here")),
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
                Err((error, message)) => {
                    result.with_error_code(error.code()).with_error_message(Some(StrBytes::from_static_str(message)))
                }
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }

    fn topic_configs(&self, caller: &Caller, asked: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
        let topic = self
            .topic_for(caller, Operation::DescribeConfigs, &asked.resource_name, Uuid::nil())
            .map_err(|error| (error, "no such topic, or not authorized to describe its configs"))?;
        Ok(entries_of(&topic))
    }

    fn broker_configs(&self, caller: &Caller, asked: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
        let node_id = self.config.node_id.to_string();
        if !self.may(caller, Operation::DescribeConfigs, Resource::Cluster) {
            return Err((
                ResponseError::ClusterAuthorizationFailed,
                "not authorized to describe the cluster's configs",
            ));
        }
        match asked.resource_name.as_str() {
            // The cluster-wide dynamic defaults: none is ever set.
            "" => Ok(Vec::new()),
            name if name == node_id => Ok(self.config_entries()),
            _ => Err((ResponseError::InvalidRequest, "no such broker")),
        }
    }

    fn config_entries(&self) -> Vec<Entry> {
        let config = &self.config;
        let ms = |duration: std::time::Duration| duration.as_millis().to_string();
        let entries = [
            ("node.id", config.node_id.to_string(), Type::Int),
            ("broker.id", config.node_id.to_string(), Type::Int),
            ("broker.rack", config.rack.clone().unwrap_or_default(), Type::String),
            ("auto.create.topics.enable", "false".into(), Type::Boolean),
            ("default.replication.factor", "1".into(), Type::Int),
            ("fetch.max.bytes", config.fetch_max_bytes.to_string(), Type::Int),
            ("group.consumer.heartbeat.interval.ms", ms(config.consumer_group_heartbeat_interval), Type::Int),
            ("group.consumer.session.timeout.ms", ms(config.consumer_group_session_timeout), Type::Int),
            ("group.initial.rebalance.delay.ms", ms(config.group_initial_rebalance_delay), Type::Int),
            ("group.max.session.timeout.ms", ms(config.group_max_session_timeout), Type::Int),
            ("group.max.size", config.group_max_size.to_string(), Type::Int),
            ("group.min.session.timeout.ms", ms(config.group_min_session_timeout), Type::Int),
            ("max.incremental.fetch.session.cache.slots", config.fetch_sessions_max.to_string(), Type::Int),
            ("offset.metadata.max.bytes", config.offset_metadata_max_bytes.to_string(), Type::Int),
            ("offsets.retention.minutes", (config.offsets_retention.as_secs() / 60).to_string(), Type::Int),
        ];
        let entry = |(name, value, config_type): (&str, String, Type)| Entry {
            name: name.to_owned(),
            value,
            default: None,
            source: SOURCE_STATIC_BROKER,
            is_read_only: true,
            config_type,
            documentation: "",
        };
        entries.into_iter().map(entry).collect()
    }
}

type Refusal = (ResponseError, &'static str);

struct Entry {
    name: String,
    value: String,
    default: Option<&'static str>,
    source: i8,
    is_read_only: bool,
    config_type: Type,
    documentation: &'static str,
}

impl Entry {
    fn of_topic(known: &Known, set: &mut BTreeMap<&str, &str>) -> Self {
        let &(name, default, config_type, documentation) = known;
        let value = set.remove(name);
        Self {
            name: name.to_owned(),
            value: value.unwrap_or(default).to_owned(),
            default: Some(default),
            source: if value.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT },
            is_read_only: false,
            config_type,
            documentation,
        }
    }

    fn unknown_of_topic(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_owned(),
            default: None,
            source: SOURCE_TOPIC,
            is_read_only: false,
            config_type: Type::String,
            documentation: "",
        }
    }

    fn shown(self, with_synonyms: bool, with_documentation: bool) -> DescribeConfigsResourceResult {
        let synonym = |value: &str, source| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_string(self.name.clone()))
                .with_value(Some(StrBytes::from_string(value.to_owned())))
                .with_source(source)
        };
        let mut synonyms = Vec::new();
        if with_synonyms {
            if self.source != SOURCE_DEFAULT {
                synonyms.push(synonym(&self.value, self.source));
            }
            synonyms.extend(self.default.map(|default| synonym(default, SOURCE_DEFAULT)));
        }
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(self.name))
            .with_value(Some(StrBytes::from_string(self.value)))
            .with_read_only(self.is_read_only)
            .with_config_source(self.source)
            .with_synonyms(synonyms)
            .with_config_type(self.config_type as i8)
            .with_documentation(with_documentation.then(|| StrBytes::from_static_str(self.documentation)))
    }
}
