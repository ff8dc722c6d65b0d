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
    fn says_what_is_wrong() {
        let wrong = parse_include("retention.ms,bogus,leader.replication.throttled.replicas".split(',')).unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("bogus") && wrong[1].contains("leave it out"));
        assert!(wrong[2].starts_with("cleanup.policy, max.message.bytes, message.timestamp.type must"), "{wrong:?}");
    }
}
