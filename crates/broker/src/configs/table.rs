//! Kafka's topic configs: names, defaults, types and what each is, as DescribeConfigs shows them. What values they may have is
//! decided by `hawser_log::TopicConfig`, which parses them.

use hawser_log::LogConfig;

/// `DescribeConfigsResponse.ConfigType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// One topic config.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// Kafka's default.
    pub(crate) default: &'static str,
    pub(crate) config_type: Type,
    /// The broker config that a topic without a value goes by, where that one has a default of its own
    /// (`ServerTopicConfigSynonyms`).
    pub(crate) broker_config: Option<&'static str>,
    pub(crate) documentation: &'static str,
}

/// Kafka 4.3's, sorted by name.
pub(crate) const TOPIC_CONFIGS: &[Known] = &[
    known(
        "cleanup.policy",
        "delete",
        Type::List,
        "log.cleanup.policy",
        "What happens to old segments: `delete`, `compact` or both.",
    ),
    known("compression.gzip.level", "-1", Type::Int, "compression.gzip.level", "Level if compression.type is gzip."),
    known("compression.lz4.level", "9", Type::Int, "compression.lz4.level", "Level if compression.type is lz4."),
    known(
        "compression.type",
        "producer",
        Type::String,
        "compression.type",
        "Codec of new batches; `producer` keeps what the producer chose.",
    ),
    known("compression.zstd.level", "3", Type::Int, "compression.zstd.level", "Level if compression.type is zstd."),
    known(
        "delete.retention.ms",
        "86400000",
        Type::Long,
        "log.cleaner.delete.retention.ms",
        "How long tombstones are kept in a compacted topic.",
    ),
    known(
        "file.delete.delay.ms",
        "60000",
        Type::Long,
        "log.segment.delete.delay.ms",
        "How long a deleted file stays on the disk.",
    ),
    known(
        "flush.messages",
        "9223372036854775807",
        Type::Long,
        "log.flush.interval.messages",
        "Records between two forced fsyncs.",
    ),
    known("flush.ms", "9223372036854775807", Type::Long, "", "Time between two forced fsyncs."),
    known(
        "follower.replication.throttled.replicas",
        "",
        Type::List,
        "",
        "Replicas throttled on the follower's side; there are none here.",
    ),
    known(
        "index.interval.bytes",
        "4096",
        Type::Int,
        "log.index.interval.bytes",
        "Bytes between two entries of the offset index.",
    ),
    known(
        "leader.replication.throttled.replicas",
        "",
        Type::List,
        "",
        "Replicas throttled on the leader's side; there are none here.",
    ),
    known(
        "local.retention.bytes",
        "-2",
        Type::Long,
        "log.local.retention.bytes",
        "With tiered storage, which is not here: bytes kept locally.",
    ),
    known(
        "local.retention.ms",
        "-2",
        Type::Long,
        "log.local.retention.ms",
        "With tiered storage, which is not here: time kept locally.",
    ),
    known(
        "max.compaction.lag.ms",
        "9223372036854775807",
        Type::Long,
        "log.cleaner.max.compaction.lag.ms",
        "Longest time that a record stays uncompacted.",
    ),
    known("max.message.bytes", "1048588", Type::Int, "message.max.bytes", "Largest record batch."),
    known(
        "message.timestamp.after.max.ms",
        "3600000",
        Type::Long,
        "log.message.timestamp.after.max.ms",
        "How far in the future a timestamp may be.",
    ),
    known(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        Type::Long,
        "log.message.timestamp.before.max.ms",
        "How far in the past a timestamp may be.",
    ),
    known(
        "message.timestamp.type",
        "CreateTime",
        Type::String,
        "log.message.timestamp.type",
        "Whose clock stamps records: `CreateTime` or `LogAppendTime`.",
    ),
    known(
        "min.cleanable.dirty.ratio",
        "0.5",
        Type::Double,
        "log.cleaner.min.cleanable.ratio",
        "Share of uncompacted bytes that starts a compaction.",
    ),
    known(
        "min.compaction.lag.ms",
        "0",
        Type::Long,
        "log.cleaner.min.compaction.lag.ms",
        "Shortest time that a record stays uncompacted.",
    ),
    known(
        "min.insync.replicas",
        "1",
        Type::Int,
        "min.insync.replicas",
        "Replicas that must have a record before acks=all is answered; never more than there are.",
    ),
    known(
        "preallocate",
        "false",
        Type::Boolean,
        "log.preallocate",
        "Whether segments are preallocated; they are not here.",
    ),
    known(
        "remote.log.copy.disable",
        "false",
        Type::Boolean,
        "",
        "With tiered storage, which is not here: no further uploads.",
    ),
    known(
        "remote.log.delete.on.disable",
        "false",
        Type::Boolean,
        "",
        "With tiered storage, which is not here: delete remote data when disabled.",
    ),
    known("remote.storage.enable", "false", Type::Boolean, "", "Whether tiered storage is on."),
    known("retention.bytes", "-1", Type::Long, "log.retention.bytes", "Bytes kept per partition; -1 for no bound."),
    known("retention.ms", "604800000", Type::Long, "", "How long records are kept; -1 for ever."),
    known("segment.bytes", "1073741824", Type::Int, "log.segment.bytes", "Size at which a segment is rolled."),
    known("segment.index.bytes", "10485760", Type::Int, "log.index.size.max.bytes", "Largest size of an index."),
    known("segment.jitter.ms", "0", Type::Long, "", "Random time taken off segment.ms."),
    known("segment.ms", "604800000", Type::Long, "", "Age at which a segment is rolled."),
    known(
        "unclean.leader.election.enable",
        "false",
        Type::Boolean,
        "unclean.leader.election.enable",
        "Whether a replica that lacks records may lead.",
    ),
];

const fn known(
    name: &'static str,
    default: &'static str,
    config_type: Type,
    broker_config: &'static str,
    documentation: &'static str,
) -> Known {
    let broker_config = if broker_config.is_empty() { None } else { Some(broker_config) };
    Known { name, default, config_type, broker_config, documentation }
}

/// The topic config of this name.
pub(crate) fn find(name: &str) -> Option<&'static Known> {
    TOPIC_CONFIGS.iter().find(|known| known.name == name)
}

impl Known {
    /// What a topic without a value of its own goes by in this daemon.
    pub(crate) fn broker_default(&self, log: &LogConfig) -> String {
        match self.name {
            "segment.bytes" => log.segment_bytes.to_string(),
            "index.interval.bytes" => log.index_interval_bytes.to_string(),
            _ => self.default.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_log::TopicConfig;
    use std::collections::BTreeMap;

    #[test]
    fn every_default_is_a_good_value_and_is_what_the_log_goes_by() {
        let log = LogConfig::default();
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|known| known.name));
        for known in TOPIC_CONFIGS {
            let set = BTreeMap::from([(known.name.to_owned(), known.default.to_owned())]);
            let parsed = TopicConfig::parse(&set, &log).unwrap_or_else(|errors| panic!("{errors:?}"));
            let defaults = TopicConfig::defaults(&log);
            // A level that is set counts for its codec only, and no codec is.
            assert_eq!(parsed, defaults, "{}", known.name);
            assert!(!known.documentation.is_empty());
        }
    }
}
