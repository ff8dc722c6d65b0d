//! Changes of a topic's configs: what the configs are afterwards is a decision without I/O; the logs go by them from then on.

use super::Topics;
use crate::{ApiError, configs};
use hawser_log::{InvalidTopicConfig, LogConfig, TopicConfig};
use hawser_state::TopicRecord;
use hawser_wire::{ResponseError, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to become of the configs of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Each key by itself (IncrementalAlterConfigs).
    Incremental(Vec<(String, ConfigOp)>),
    /// All keys that are not named fall back to their defaults (AlterConfigs).
    Replace(Vec<(String, ConfigOp)>),
}

/// What is to become of one config (`AlterConfigOp.OpType`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// This value.
    Set(String),
    /// The default.
    Delete,
    /// These items too, of a list.
    Append(String),
    /// Without these items, of a list.
    Subtract(String),
}

impl ConfigChange {
    /// The configs after this change.
    fn apply(self, current: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
        let (mut configs, operations) = match self {
            Self::Incremental(operations) => (current.clone(), operations),
            Self::Replace(operations) => (BTreeMap::new(), operations),
        };
        for (key, operation) in operations {
            let value = match operation {
                ConfigOp::Set(value) => Some(value),
                ConfigOp::Delete => None,
                ConfigOp::Append(more) => {
                    let mut items = items(&configs, &key, "APPEND")?;
                    for item in more.split(',') {
                        if !items.iter().any(|known| known == item) {
                            items.push(item.to_owned());
                        }
                    }
                    Some(items.join(","))
                }
                ConfigOp::Subtract(less) => {
                    let mut items = items(&configs, &key, "SUBTRACT")?;
                    items.retain(|item| !less.split(',').any(|gone| gone == item));
                    Some(items.join(","))
                }
            };
            match value {
                Some(value) => configs.insert(key, value),
                None => configs.remove(&key),
            };
        }
        Ok(configs)
    }
}

/// The items of list `key`, as set or by default.
fn items(configs: &BTreeMap<String, String>, key: &str, operation: &str) -> Result<Vec<String>, ApiError> {
    let invalid = |message| ApiError::new(ResponseError::InvalidConfig, message);
    let known = configs::find(key).ok_or_else(|| invalid(format!("Unknown topic config name: {key}")))?;
    if known.config_type != configs::Type::List {
        return Err(invalid(format!("Can't {operation} to key {key} because its type is not LIST.")));
    }
    let value = configs.get(key).map_or(known.default, String::as_str);
    Ok(value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// Parses configs that somebody set, telling all that is wrong with them.
pub(super) fn parse(configs: &BTreeMap<String, String>, log: &LogConfig) -> Result<TopicConfig, ApiError> {
    TopicConfig::parse(configs, log).map_err(|errors| {
        let said = |error: &InvalidTopicConfig| {
            let mut said = error.to_string();
            if let Some(first) = said.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            said
        };
        let errors: Vec<_> = errors.iter().map(said).collect();
        ApiError::new(ResponseError::InvalidConfig, errors.join("; "))
    })
}

impl Topics {
    /// Changes the configs of topic `name`, or with `validate_only` says whether they could be. Of a mirror only those change
    /// that its link does not copy. Runs to its end even when dropped.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`; `InvalidConfig` naming every key that cannot be so; `InvalidRequest` for a mirror's configs
    /// that its link copies; `KafkaStorageError` when it could not be written.
    pub async fn alter_configs(
        self: &Arc<Self>,
        name: &str,
        change: ConfigChange,
        validate_only: bool,
    ) -> Result<(), ApiError> {
        let name = name.to_owned();
        self.change(move |topics| {
            let unknown = || ApiError::of(ResponseError::UnknownTopicOrPartition);
            let topic = topics.state.topic(&name).ok_or_else(unknown)?;
            let configs = change.apply(&topic.configs)?;
            topics.check_configs(&topic, &configs)?;
            if !validate_only && configs != topic.configs {
                topics.write_configs(&topic, configs)?;
            }
            Ok(())
        })
        .await
    }

    /// Sets configs of mirror `name` that its link copies; `None` takes one back to its default. Values are the source's,
    /// and good there. Runs to its end even when dropped.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `KafkaStorageError`.
    pub async fn sync_configs(
        self: &Arc<Self>,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), ApiError> {
        let name = name.to_owned();
        self.change(move |topics| {
            let mirror = topics.state.topic(&name).filter(|topic| topic.is_read_only());
            let topic = mirror.ok_or_else(|| ApiError::of(ResponseError::UnknownTopicOrPartition))?;
            let mut configs = topic.configs.clone();
            for (key, value) in changes {
                match value {
                    Some(value) => configs.insert(key, value),
                    None => configs.remove(&key),
                };
            }
            if configs != topic.configs {
                topics.write_configs(&topic, configs)?;
            }
            Ok(())
        })
        .await
    }

    /// Which configs of `topic` are copied by its link, and cannot be changed here.
    pub(crate) fn copied_configs(&self, topic: &TopicRecord) -> BTreeSet<&'static str> {
        if topic.is_read_only() { self.mirrors.copied_configs(topic) } else { BTreeSet::new() }
    }

    /// Whether a new topic can have `configs`.
    ///
    /// # Errors
    /// `InvalidConfig` naming every key that cannot be so.
    pub fn check_new_configs(&self, configs: &BTreeMap<String, String>) -> Result<(), ApiError> {
        parse(configs, self.logs.config()).map(drop)
    }

    fn check_configs(&self, topic: &TopicRecord, configs: &BTreeMap<String, String>) -> Result<(), ApiError> {
        let log = self.logs.config();
        let keys: BTreeSet<&String> = topic.configs.keys().chain(configs.keys()).collect();
        let changed = || keys.iter().filter(|key| topic.configs.get(**key) != configs.get(**key));
        let follows = self.copied_configs(topic);
        let copied: Vec<&str> = changed().map(|key| key.as_str()).filter(|key| follows.contains(key)).collect();
        if !copied.is_empty() {
            let message = format!(
                "Cannot modify mirror topic '{}' because '{}' are set to always sync: they follow the source topic.",
                topic.name,
                copied.join(", ")
            );
            return Err(ApiError::new(ResponseError::InvalidRequest, message));
        }
        // What was copied from a source is not held against what this release knows, also after the promotion: what stood
        // there before counts as far as it is good.
        let is_good =
            |key: &String, value: &String| parse(&BTreeMap::from([(key.clone(), value.clone())]), log).is_ok();
        let is_news = |key: &String| topic.configs.get(key) != configs.get(key);
        let judged = configs.iter().filter(|(key, value)| is_news(key) || is_good(key, value));
        parse(&judged.map(|(key, value)| (key.clone(), value.clone())).collect(), log).map(drop)
    }

    fn write_configs(&self, topic: &TopicRecord, configs: BTreeMap<String, String>) -> Result<(), ApiError> {
        let replace = |topic: &mut TopicRecord| {
            topic.configs = configs;
            true
        };
        self.state.update_topic(&topic.name, replace).map_err(|error| ApiError::storage(&error))?;
        for partition in 0..topic.partitions {
            self.logs.reconfigure(&TopicPartition::new(topic.name.as_str(), partition));
        }
        tracing::info!(topic = topic.name, "configs changed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_give_what_kafka_gives() {
        use ConfigOp::{Append, Delete, Set, Subtract};
        let current = BTreeMap::from([("cleanup.policy".into(), "delete".into()), ("retention.ms".into(), "5".into())]);
        let text = |configs: &BTreeMap<String, String>| {
            configs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let apply = |key: &str, op: ConfigOp| {
            let change = ConfigChange::Incremental(vec![(key.to_owned(), op)]);
            change.apply(&current).map_or_else(|error| error.message, |configs| text(&configs))
        };
        let table = [
            ("retention.ms", Set("7".into()), "cleanup.policy=delete retention.ms=7"),
            ("segment.ms", Set("7".into()), "cleanup.policy=delete retention.ms=5 segment.ms=7"),
            ("retention.ms", Delete, "cleanup.policy=delete"),
            ("segment.ms", Delete, "cleanup.policy=delete retention.ms=5"),
            ("cleanup.policy", Append("compact,delete".into()), "cleanup.policy=delete,compact retention.ms=5"),
            ("cleanup.policy", Subtract("delete".into()), "cleanup.policy= retention.ms=5"),
            ("retention.ms", Append("1".into()), "Can't APPEND to key retention.ms because its type is not LIST."),
            ("retention.ms", Subtract("1".into()), "Can't SUBTRACT to key retention.ms because its type is not LIST."),
            ("no.such", Append("1".into()), "Unknown topic config name: no.such"),
        ];
        for (key, op, expected) in table {
            assert_eq!(apply(key, op), expected, "{key}");
        }
        // The default of a list counts as its items.
        let append = ConfigChange::Incremental(vec![("cleanup.policy".into(), Append("compact".into()))]);
        assert_eq!(text(&append.apply(&BTreeMap::new()).unwrap()), "cleanup.policy=delete,compact");
        let replace = ConfigChange::Replace(vec![("segment.ms".into(), Set("9".into()))]);
        assert_eq!(text(&replace.apply(&current).unwrap()), "segment.ms=9");
    }
}
