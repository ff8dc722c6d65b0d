//! Which topic configs of a mirror to change.

use std::collections::{BTreeMap, BTreeSet};

/// One config of a source topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// As it holds for the topic.
    pub value: String,
    /// Who sets it.
    pub set_by: SetBy,
}

/// Who sets a config of a topic (`ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// The topic itself.
    Topic,
    /// Its cluster, for all topics.
    Brokers,
    /// It is Kafka's own default.
    Nobody,
}

/// What to set, and what to take back to its default (`None`), so that `here` has the source's values for `include`.
/// A value that the source's brokers set for all topics counts as the topic's own: the brokers here need not set it.
pub(crate) fn changes(
    source: &BTreeMap<String, SourceConfig>,
    include: &BTreeSet<String>,
    here: &BTreeMap<String, String>,
) -> BTreeMap<String, Option<String>> {
    let mut changes = BTreeMap::new();
    for name in include {
        // A config that the source does not have (an older Kafka) is left alone.
        let Some(config) = source.get(name) else { continue };
        let is_default = config.set_by == SetBy::Nobody;
        match here.get(name) {
            Some(value) if is_default && *value != config.value => changes.insert(name.clone(), None),
            Some(value) if *value != config.value => changes.insert(name.clone(), Some(config.value.clone())),
            None if !is_default => changes.insert(name.clone(), Some(config.value.clone())),
            _ => None,
        };
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_table() {
        let include = BTreeSet::from(["retention.ms".to_owned()]);
        let source = |value: &str, is_default| {
            let set_by = if is_default { SetBy::Nobody } else { SetBy::Topic };
            BTreeMap::from([
                ("retention.ms".to_owned(), SourceConfig { value: value.to_owned(), set_by }),
                ("segment.bytes".to_owned(), SourceConfig { value: "1".to_owned(), set_by: SetBy::Brokers }),
            ])
        };
        let here = |value: Option<&str>| -> BTreeMap<String, String> {
            value.map(|value| ("retention.ms".to_owned(), value.to_owned())).into_iter().collect()
        };
        for (at_source, is_default, ours, expected) in [
            ("5", false, None, Some(Some("5"))),
            ("5", false, Some("4"), Some(Some("5"))),
            ("5", false, Some("5"), None),
            ("7", true, None, None),
            ("7", true, Some("4"), Some(None)),
            ("7", true, Some("7"), None),
        ] {
            let found = changes(&source(at_source, is_default), &include, &here(ours));
            let expected = expected.map(|value| ("retention.ms".to_owned(), value.map(str::to_owned)));
            assert_eq!(found, expected.into_iter().collect(), "{at_source} {is_default} {ours:?}");
        }
        assert!(changes(&BTreeMap::new(), &include, &here(Some("4"))).is_empty());
    }
}
