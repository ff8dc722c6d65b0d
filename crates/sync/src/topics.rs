//! Which topics of the source get a mirror.

use crate::destination::TopicHere;
use crate::source::{SourceTopic, TopicConfigs};
use crate::status::{TaskError, TaskErrorCode};
use hawser_link::{TopicFilters, topic_configs};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Topics that are a cluster's own affair.
const INTERNAL: [&str; 2] = ["__", "_confluent"];

/// Topics that match, are no internal ones and have no mirror yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Nothing has their name here.
    pub(crate) create: Vec<Arc<str>>,
    /// Something has.
    pub(crate) taken: Vec<Arc<str>>,
}

impl Missing {
    /// Those of `topics`.
    pub(crate) fn of(topics: &[SourceTopic], filters: &TopicFilters, here: impl Fn(&str) -> TopicHere) -> Self {
        let mut missing = Self::default();
        let is_internal = |t: &SourceTopic| t.is_internal || INTERNAL.iter().any(|prefix| t.name.starts_with(prefix));
        for topic in topics.iter().filter(|topic| !is_internal(topic) && filters.includes(&topic.name)) {
            match here(&topic.name) {
                TopicHere::None => missing.create.push(topic.name.clone()),
                TopicHere::MirrorOfLink => {}
                TopicHere::Other => missing.taken.push(topic.name.clone()),
            }
        }
        missing
    }

    /// All of them.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.create.iter().chain(&self.taken).cloned().collect()
    }

    /// Takes out what the records of cluster `own` were mirrored into, and says why: with a prefix on each side mirrors of
    /// these would be mirrored over there again, and so on without an end. `configs` has what the source tells of each
    /// topic; one that tells nothing is an ordinary topic, or a mirror of a system that is not Hawser.
    pub(crate) fn leave_out_loops(&mut self, configs: &BTreeMap<Arc<str>, TopicConfigs>, own: &str) -> Vec<String> {
        let comes_from_here = |topic: &mut Arc<str>| {
            let clusters = configs.get(topic).and_then(|configs| configs.get(topic_configs::SOURCE_CLUSTERS));
            clusters.is_some_and(|clusters| topic_configs::came_through(&clusters.value, own))
        };
        let loops = self.create.extract_if(.., comes_from_here).chain(self.taken.extract_if(.., comes_from_here));
        let why = |topic| {
            format!(
                "topic '{topic}' of the source gets no mirror: it is itself a mirror whose records come from this cluster, as \
                 its {} says. To have it all the same, make the mirror by hand.",
                topic_configs::SOURCE_CLUSTERS
            )
        };
        loops.map(why).collect()
    }

    /// What is wrong with names that are taken.
    pub(crate) fn errors(&self) -> Vec<TaskError> {
        let error = |topic| {
            let message = format!(
                "topic '{topic}' of the source gets no mirror: its name is taken here by a topic that is no mirror of this \
                 link. Delete or rename that one, or exclude this one in auto.create.mirror.topics.filters."
            );
            TaskError::new(TaskErrorCode::TopicExists, message)
        };
        self.taken.iter().map(error).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::{SetBy, SourceConfig};

    #[test]
    fn takes_what_matches_and_is_not_there() {
        let filters = r#"{"topicFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"},
            {"name":"no_mirror","patternType":"PREFIXED","filterType":"EXCLUDE"}]}"#;
        let filters = TopicFilters::parse(filters).unwrap();
        let topic = |name: &str, is_internal| SourceTopic { name: name.into(), is_internal };
        let topics = [
            topic("orders", false),
            topic("mirrored", false),
            topic("taken", false),
            topic("no_mirror_1", false),
            topic("__consumer_offsets", true),
            topic("__odd", false),
            topic("_confluent-metrics", false),
        ];
        let missing = Missing::of(&topics, &filters, |name| match name {
            "mirrored" => TopicHere::MirrorOfLink,
            "taken" => TopicHere::Other,
            _ => TopicHere::None,
        });
        assert_eq!(
            (&missing.create, &missing.names()),
            (&vec!["orders".into()], &vec!["orders".into(), "taken".into()])
        );
        let [taken] = &missing.errors()[..] else { panic!("one is taken") };
        assert_eq!(taken.code, TaskErrorCode::TopicExists);
        assert!(taken.message.contains("'taken'"));
    }

    #[test]
    fn leaves_out_what_comes_from_here() {
        let told = |clusters: &str| {
            let config = SourceConfig { value: clusters.to_owned(), set_by: SetBy::Nobody };
            TopicConfigs::from([(topic_configs::SOURCE_CLUSTERS.to_owned(), config)])
        };
        let configs =
            [("ours", told("own")), ("far", told("own,jump")), ("theirs", told("a,b")), ("plain", TopicConfigs::new())];
        let configs = configs.map(|(topic, configs)| (Arc::from(topic), configs)).into();
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let mut missing =
            Missing { create: names(&["ours", "theirs", "plain", "untold"]), taken: names(&["far", "other"]) };
        let skipped = missing.leave_out_loops(&configs, "own");
        assert_eq!(missing, Missing { create: names(&["theirs", "plain", "untold"]), taken: names(&["other"]) });
        assert_eq!(skipped.len(), 2);
        assert!(skipped[1].contains("'far'") && skipped[1].contains("mirror.source.cluster.ids"), "{skipped:?}");
    }
}
