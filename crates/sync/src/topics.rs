//! Which topics of the source get a mirror.

use crate::destination::TopicHere;
use crate::source::SourceTopic;
use crate::status::{TaskError, TaskErrorCode};
use hawser_link::TopicFilters;
use std::sync::Arc;

/// Topics that are a cluster's own affair.
const INTERNAL: [&str; 2] = ["__", "_confluent"];

/// The topics that match, are no internal ones and have no mirror yet; and those whose name is taken here.
pub(crate) fn missing(
    topics: &[SourceTopic],
    filters: &TopicFilters,
    here: impl Fn(&str) -> TopicHere,
) -> (Vec<Arc<str>>, Vec<TaskError>) {
    let (mut create, mut taken) = (Vec::new(), Vec::new());
    let is_internal = |t: &SourceTopic| t.is_internal || INTERNAL.iter().any(|prefix| t.name.starts_with(prefix));
    for topic in topics.iter().filter(|topic| !is_internal(topic) && filters.includes(&topic.name)) {
        match here(&topic.name) {
            TopicHere::None => create.push(topic.name.clone()),
            TopicHere::MirrorOfLink => {}
            TopicHere::Other => taken.push(TaskError::new(
                TaskErrorCode::TopicExists,
                format!(
                    "topic '{}' of the source gets no mirror: its name is taken here by a topic that is no mirror of this \
                     link. Delete or rename that one, or exclude this one in auto.create.mirror.topics.filters.",
                    topic.name
                ),
            )),
        }
    }
    (create, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (create, taken) = missing(&topics, &filters, |name| match name {
            "mirrored" => TopicHere::MirrorOfLink,
            "taken" => TopicHere::Other,
            _ => TopicHere::None,
        });
        assert_eq!(create, ["orders".into()]);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].code, TaskErrorCode::TopicExists);
        assert!(taken[0].message.contains("'taken'"));
    }
}
