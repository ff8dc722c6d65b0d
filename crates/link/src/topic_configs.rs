//! Which topic configs follow the source (§4.1 of the reference's facts): some always, some if
//! `topic.config.sync.include` lists them, all others are the mirror's own.

use std::collections::BTreeSet;

/// Copied whatever is listed: they say how the log is to be read. They cannot be set on a mirror.
/// (`message.timestamp.difference.max.ms`, which Kafka 4 no longer has, is accepted in a list.)
pub const ALWAYS: [&str; 4] =
    ["cleanup.policy", "max.message.bytes", "message.timestamp.difference.max.ms", "message.timestamp.type"];

/// Copied if listed.
const IF_LISTED: [&str; 22] = [
    "compression.type",
    "confluent.segment.speculative.prefetch.enable",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "max.compaction.lag.ms",
    "message.downconversion.enable",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// What `topic.config.sync.include` is when nobody sets it. The reference's own default is not published; this is what
/// says how a log is kept, read and compacted, so that a promoted topic goes on as its source did.
pub(crate) const DEFAULT_INCLUDE: [&str; 14] = [
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
];

/// Never copied, whatever anybody lists.
const INDEPENDENT: [&str; 2] = ["follower.replication.throttled.replicas", "leader.replication.throttled.replicas"];

/// A read-only config of a mirror, and of Hawser's alone: the ids of the clusters that its records came through, where they
/// were written first, separated by commas. Never copied: each mirror has its own. From it auto-create knows a mirror that
/// would come back to where its records are from, however many clusters lie between.
pub const SOURCE_CLUSTERS: &str = "mirror.source.cluster.ids";

/// Clusters of a chain that are kept: the nearest, if a source names more.
const SOURCE_CLUSTERS_MAX: usize = 32;
/// Longest id that a source is believed; Kafka's have 22 bytes.
const CLUSTER_ID_BYTES_MAX: usize = 128;

/// The [`SOURCE_CLUSTERS`] of a mirror of a topic of cluster `source`, which has `theirs`.
pub fn source_clusters(theirs: &str, source: &str) -> Vec<String> {
    let is_id =
        |id: &&str| !id.is_empty() && id.len() <= CLUSTER_ID_BYTES_MAX && id.chars().all(|c| c.is_ascii_graphic());
    let mut ids: Vec<_> = theirs.split(',').filter(is_id).chain([source]).rev().take(SOURCE_CLUSTERS_MAX).collect();
    ids.reverse();
    ids.into_iter().map(str::to_owned).collect()
}

/// Whether `clusters`, a value of [`SOURCE_CLUSTERS`], names `cluster`.
pub fn came_through(clusters: &str, cluster: &str) -> bool {
    clusters.split(',').any(|id| id == cluster)
}

/// Reads `topic.config.sync.include`.
///
/// # Errors
/// What is wrong with the list, each thing with its remedy.
pub(crate) fn parse_include<'a>(names: impl Iterator<Item = &'a str>) -> Result<BTreeSet<&'static str>, Vec<String>> {
    let (mut include, mut wrong) = (BTreeSet::new(), Vec::new());
    for name in names {
        match ALWAYS.iter().chain(&IF_LISTED).find(|known| **known == name) {
            Some(known) => {
                include.insert(*known);
            }
            None if INDEPENDENT.contains(&name) || name.starts_with("confluent.") => {
                wrong.push(format!("{name} is independent on each side and is never copied: leave it out"));
            }
            None => wrong.push(format!("{name} is not a topic config that can be copied")),
        }
    }
    let missing: Vec<_> =
        ALWAYS.iter().filter(|name| !include.contains(*name) && **name != ALWAYS[2]).copied().collect();
    if !missing.is_empty() {
        wrong.push(format!("{} must be in the list: they are always copied", missing.join(", ")));
    }
    if wrong.is_empty() { Ok(include) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_list_from_practice() {
        let list = "min.compaction.lag.ms,max.compaction.lag.ms,message.timestamp.type,message.timestamp.difference.max.ms,\
                    cleanup.policy,max.message.bytes";
        let include = parse_include(list.split(',')).unwrap();
        assert!(include.contains("max.compaction.lag.ms") && !include.contains("retention.ms"));
        assert!(parse_include(DEFAULT_INCLUDE.into_iter()).is_ok());
    }

    #[test]
    fn a_chain_of_clusters_grows_by_its_nearest() {
        assert_eq!(source_clusters("", "a"), ["a"]);
        assert_eq!(source_clusters("a,b", "c"), ["a", "b", "c"]);
        let odd = format!(",a b,ü,{},b", "x".repeat(CLUSTER_ID_BYTES_MAX + 1));
        assert_eq!(source_clusters(&odd, "c"), ["b", "c"]);
        let long = source_clusters(&(0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(","), "end");
        assert_eq!((long.len(), &*long[0], &*long[31]), (SOURCE_CLUSTERS_MAX, "69", "end"));
        for (id, is_named) in [("a", true), ("b", true), ("", false), ("a,b", false), ("ab", false)] {
            assert_eq!(came_through("a,b", id), is_named, "{id}");
        }
    }

    #[test]
    fn no_link_copies_what_a_mirror_tells_of_itself() {
        let list = DEFAULT_INCLUDE.into_iter().chain([SOURCE_CLUSTERS]);
        let wrong = parse_include(list).unwrap_err();
        assert!(wrong[0].contains(SOURCE_CLUSTERS), "{wrong:?}");
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = parse_include("retention.ms,bogus,leader.replication.throttled.replicas".split(',')).unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("bogus") && wrong[1].contains("leave it out"));
        assert!(wrong[2].starts_with("cleanup.policy, max.message.bytes, message.timestamp.type must"), "{wrong:?}");
    }
}
