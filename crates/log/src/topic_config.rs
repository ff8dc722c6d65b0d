//! The configs of one topic that its log goes by, parsed once: names, defaults and ranges are Kafka's (`LogConfig`,
//! `TopicConfig`).
//!
//! An ordinary topic is refused with all its bad values at once ([`TopicConfig::parse`]). A mirror carries what its source
//! has accepted, so what cannot be used there is passed over ([`TopicConfig::of_mirror`]). Configs that are known but mean
//! nothing to a single copy of a log (replication throttles, tiered storage, …) are accepted and have no effect.

use crate::LogConfig;
use hawser_wire::Compression;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// Kafka's positions in a segment are 32-bit.
pub(crate) const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// Least `segment.bytes` since Kafka 4.0 (KIP-1030), and before.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
const OLD_SEGMENT_BYTES_MIN: u64 = 14;
/// Topic configs that Kafka knows and a log of its own does not go by.
const WITHOUT_EFFECT: [&str; 12] = [
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "message.downconversion.enable",
    "message.format.version",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "unclean.leader.election.enable",
];

/// How one topic's partitions are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `retention.ms`; negative: no bound.
    pub retention_ms: i64,
    /// `retention.bytes`; negative: no bound.
    pub retention_bytes: i64,
    /// `cleanup.policy` names `delete`.
    pub delete: bool,
    /// `cleanup.policy` names `compact`.
    pub compact: bool,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`, 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `max.message.bytes`: of a whole batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`; `None` keeps what the producer chose.
    pub compression: Option<Compression>,
    /// Level of `compression`, for codecs that have one (`compression.gzip.level` and so on).
    pub compression_level: Option<i32>,
    /// `flush.messages`.
    pub flush_messages: i64,
    /// `flush.ms`. Longer than the data directory's own interval it has no effect.
    pub flush_ms: i64,
}

/// A topic config that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicConfig {
    /// No Kafka has a topic config of this name.
    #[error("unknown topic config name: {0}")]
    UnknownName(String),
    /// The value does not fit.
    #[error("invalid value {value} for configuration {name}: {expected}")]
    Value {
        /// The config.
        name: String,
        /// What was given.
        value: String,
        /// What it may be.
        expected: String,
    },
}

impl TopicConfig {
    /// Kafka's defaults, with those of the data directory.
    pub fn defaults(broker: &LogConfig) -> Self {
        Self {
            segment_bytes: broker.segment_bytes.min(SEGMENT_BYTES_MAX),
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 * 1024 * 1024,
            index_interval_bytes: broker.index_interval_bytes,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            delete: true,
            compact: false,
            delete_retention_ms: 24 * 3_600_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
            file_delete_delay_ms: 60_000,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: None,
            compression_level: None,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
        }
    }

    /// The configs of an ordinary topic.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn parse(configs: &BTreeMap<String, String>, broker: &LogConfig) -> Result<Self, Vec<InvalidTopicConfig>> {
        let (config, errors) = read(configs, broker, SEGMENT_BYTES_MIN);
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// The configs of a mirror: what its source set and can be used.
    pub fn of_mirror(configs: &BTreeMap<String, String>, broker: &LogConfig) -> Self {
        read(configs, broker, OLD_SEGMENT_BYTES_MIN).0
    }

    /// After how long a segment is rolled (`LogConfig.maxSegmentMs`), in ms.
    pub(crate) fn segment_ms_max(&self) -> i64 {
        let lag = if self.compact { self.max_compaction_lag_ms } else { i64::MAX };
        self.segment_ms.min(lag)
    }
}

/// What can be used of `configs`, and what is wrong with the rest.
fn read(
    configs: &BTreeMap<String, String>,
    broker: &LogConfig,
    segment_bytes_min: u64,
) -> (TopicConfig, Vec<InvalidTopicConfig>) {
    let mut to = TopicConfig::defaults(broker);
    let mut errors = Vec::new();
    let mut levels = BTreeMap::new();
    for (name, value) in configs {
        let from = Value { name, value, errors: &mut errors };
        match name.as_str() {
            "segment.bytes" => from.number(&mut to.segment_bytes, segment_bytes_min, SEGMENT_BYTES_MAX),
            "segment.ms" => from.number(&mut to.segment_ms, 1, i64::MAX),
            "segment.jitter.ms" => from.number(&mut to.segment_jitter_ms, 0, i64::MAX),
            "segment.index.bytes" => from.number(&mut to.segment_index_bytes, 4, SEGMENT_BYTES_MAX),
            "index.interval.bytes" => from.number(&mut to.index_interval_bytes, 0, SEGMENT_BYTES_MAX),
            "retention.ms" => from.number(&mut to.retention_ms, -1, i64::MAX),
            "retention.bytes" => from.number(&mut to.retention_bytes, i64::MIN, i64::MAX),
            "cleanup.policy" => from.policy(&mut to),
            "delete.retention.ms" => from.number(&mut to.delete_retention_ms, 0, i64::MAX),
            "min.compaction.lag.ms" => from.number(&mut to.min_compaction_lag_ms, 0, i64::MAX),
            "max.compaction.lag.ms" => from.number(&mut to.max_compaction_lag_ms, 1, i64::MAX),
            "min.cleanable.dirty.ratio" => from.number(&mut to.min_cleanable_dirty_ratio, 0.0, 1.0),
            "file.delete.delay.ms" => from.number(&mut to.file_delete_delay_ms, 0, i64::MAX),
            "max.message.bytes" => from.number(&mut to.max_message_bytes, 0, i32::MAX as usize),
            "message.timestamp.type" => {
                from.one_of(&mut to.log_append_time, &[("CreateTime", false), ("LogAppendTime", true)]);
            }
            "message.timestamp.before.max.ms" => from.number(&mut to.timestamp_before_max_ms, 0, i64::MAX),
            "message.timestamp.after.max.ms" => from.number(&mut to.timestamp_after_max_ms, 0, i64::MAX),
            "compression.type" => from.one_of(&mut to.compression, &CODECS),
            "compression.gzip.level" => from.level(&mut levels, Compression::Gzip, 1, 9, Some(-1)),
            "compression.lz4.level" => from.level(&mut levels, Compression::Lz4, 1, 17, None),
            "compression.zstd.level" => from.level(&mut levels, Compression::Zstd, -131_072, 22, None),
            "flush.messages" => from.number(&mut to.flush_messages, 1, i64::MAX),
            "flush.ms" => from.number(&mut to.flush_ms, 0, i64::MAX),
            known if WITHOUT_EFFECT.contains(&known) => {}
            _ => errors.push(InvalidTopicConfig::UnknownName(name.clone())),
        }
    }
    if to.min_compaction_lag_ms > to.max_compaction_lag_ms {
        errors.push(InvalidTopicConfig::Value {
            name: "min.compaction.lag.ms".into(),
            value: to.min_compaction_lag_ms.to_string(),
            expected: format!("at most max.compaction.lag.ms, {}", to.max_compaction_lag_ms),
        });
        to.min_compaction_lag_ms = to.max_compaction_lag_ms;
    }
    to.compression_level = to.compression.and_then(|codec| levels.get(&(codec as u8)).copied());
    (to, errors)
}

const CODECS: [(&str, Option<Compression>); 6] = [
    ("producer", None),
    ("uncompressed", Some(Compression::None)),
    ("gzip", Some(Compression::Gzip)),
    ("snappy", Some(Compression::Snappy)),
    ("lz4", Some(Compression::Lz4)),
    ("zstd", Some(Compression::Zstd)),
];

/// One config as it was given.
struct Value<'a> {
    name: &'a str,
    value: &'a str,
    errors: &'a mut Vec<InvalidTopicConfig>,
}

impl Value<'_> {
    fn number<T: FromStr + PartialOrd + Display>(self, to: &mut T, least: T, most: T) {
        match self.value.trim().parse::<T>() {
            Ok(number) if number >= least && number <= most => *to = number,
            _ => self.refuse(format!("a number from {least} to {most}")),
        }
    }

    fn one_of<T: Copy>(self, to: &mut T, choices: &[(&str, T)]) {
        match choices.iter().find(|(name, _)| *name == self.value.trim()) {
            Some((_, choice)) => *to = *choice,
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                self.refuse(format!("one of {}", names.join(", ")));
            }
        }
    }

    /// A list of `delete` and `compact`; an empty one keeps everything.
    fn policy(self, to: &mut TopicConfig) {
        let named: Vec<_> = self.value.split(',').map(str::trim).filter(|policy| !policy.is_empty()).collect();
        if named.iter().all(|policy| ["delete", "compact"].contains(policy)) {
            to.delete = named.contains(&"delete");
            to.compact = named.contains(&"compact");
        } else {
            self.refuse("delete, compact, or both separated by a comma".into());
        }
    }

    fn level(self, to: &mut BTreeMap<u8, i32>, codec: Compression, least: i32, most: i32, default: Option<i32>) {
        let mut level = default.unwrap_or(least);
        if default.is_some_and(|default| self.value.trim().parse() == Ok(default)) {
            return;
        }
        let known = self.errors.len();
        Value { errors: self.errors, ..self }.number(&mut level, least, most);
        if self.errors.len() == known {
            to.insert(codec as u8, level);
        }
    }

    fn refuse(self, expected: String) {
        let (name, value) = (self.name.to_owned(), self.value.to_owned());
        self.errors.push(InvalidTopicConfig::Value { name, value, expected });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(configs: &[(&str, &str)]) -> Result<TopicConfig, Vec<InvalidTopicConfig>> {
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TopicConfig::parse(&configs, &LogConfig::default())
    }

    #[test]
    fn nothing_set_is_kafkas_default() {
        assert_eq!(parse(&[]), Ok(TopicConfig::defaults(&LogConfig::default())));
    }

    #[test]
    fn ranges_are_kafkas() {
        for (name, good, bad) in [
            ("segment.bytes", &["1048576", "2147483647"][..], &["1048575", "2147483648", "x", ""][..]),
            ("segment.ms", &["1"], &["0"]),
            ("segment.jitter.ms", &["0"], &["-1"]),
            ("segment.index.bytes", &["4"], &["3"]),
            ("index.interval.bytes", &["0"], &["-1"]),
            ("retention.ms", &["-1", "0"], &["-2"]),
            ("retention.bytes", &["-1", "-5", "0"], &["1.5"]),
            ("cleanup.policy", &["delete", "compact", "compact,delete", "compact, delete", ""], &["none", "compact;"]),
            ("delete.retention.ms", &["0"], &["-1"]),
            ("max.compaction.lag.ms", &["1"], &["0"]),
            ("min.cleanable.dirty.ratio", &["0", "1", "0.25"], &["1.1", "-0.1", "NaN"]),
            ("file.delete.delay.ms", &["0"], &["-1"]),
            ("max.message.bytes", &["0"], &["-1", "2147483648"]),
            ("message.timestamp.type", &["CreateTime", "LogAppendTime"], &["createtime"]),
            ("message.timestamp.before.max.ms", &["0"], &["-1"]),
            ("compression.type", &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"], &["none"]),
            ("compression.gzip.level", &["-1", "1", "9"], &["0", "10"]),
            ("compression.lz4.level", &["1", "17"], &["0", "18"]),
            ("compression.zstd.level", &["-131072", "22"], &["23"]),
            ("flush.messages", &["1"], &["0"]),
            ("flush.ms", &["0"], &["-1"]),
            ("min.insync.replicas", &["1"], &[]),
        ] {
            for value in good {
                assert!(parse(&[(name, value)]).is_ok(), "{name}={value}");
            }
            for value in bad {
                let errors = parse(&[(name, value)]).expect_err(value);
                assert!(matches!(&errors[..], [InvalidTopicConfig::Value { name: named, .. }] if named == name));
            }
        }
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let errors = parse(&[("retention.ms", "x"), ("no.such", "1"), ("segment.ms", "0")]).expect_err("three");
        assert_eq!(errors.len(), 3, "{errors:?}");
        let lags = parse(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]).expect_err("crossed");
        assert_eq!(lags.len(), 1);
    }

    #[test]
    fn a_level_counts_for_its_codec_only() {
        let levels = [("compression.gzip.level", "4"), ("compression.zstd.level", "7")];
        let with = |codec| parse(&[levels[0], levels[1], ("compression.type", codec)]).expect("good");
        assert_eq!(with("gzip").compression_level, Some(4));
        assert_eq!(with("zstd").compression_level, Some(7));
        assert_eq!(with("lz4").compression_level, None);
        assert_eq!(with("producer").compression_level, None);
    }

    #[test]
    fn a_mirror_uses_what_it_can() {
        let configs =
            [("segment.bytes", "14"), ("index.interval.bytes", "77"), ("segment.ms", "0"), ("confluent.key", "x")];
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = TopicConfig::of_mirror(&configs, &LogConfig::default());
        assert_eq!(config.index_interval_bytes, 77);
        assert_eq!(config.segment_bytes, 14, "an older Kafka takes it");
        assert_eq!(config.segment_ms, TopicConfig::defaults(&LogConfig::default()).segment_ms);
    }
}
