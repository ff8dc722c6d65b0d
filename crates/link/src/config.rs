//! A link half's configuration as typed values, read from `Properties` through the catalogue. Every error is
//! collected before any is returned.

use crate::catalogue::{self, Kind};
use crate::filter::{AclFilters, GroupFilters, TopicFilters};
use crate::{ConfigError, ConfigErrors, ConnectionMode, Half, LinkMode, Properties, topic_configs};
use std::collections::BTreeSet;
use std::time::Duration;

/// A half's configuration. Logins are not in it: `transport` reads them from the same properties.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Which half it is.
    pub half: Half,
    /// `bootstrap.servers`, as written.
    pub bootstrap_servers: Vec<String>,
    /// Time-outs and waits of connections.
    pub connection: ConnectionConfig,
    /// What a half that holds mirrors does.
    pub mirrors: MirrorConfig,
    /// What a half that lends its local cluster does.
    pub lends: LendConfig,
}

/// Time-outs and waits of connections.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`, not below `retry_backoff`.
    pub retry_backoff_max: Duration,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`.
    pub api_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`.
    pub setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`.
    pub setup_timeout_max: Duration,
    /// `connections.max.idle.ms`.
    pub idle_max: Duration,
    /// `metadata.max.age.ms`.
    pub metadata_max_age: Duration,
}

/// What a half that holds mirrors does.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// `cluster.link.paused`.
    pub paused: bool,
    /// `cluster.link.prefix`, empty for none.
    pub prefix: String,
    /// `consumer.group.prefix.enable`.
    pub prefix_groups: bool,
    /// `mirror.start.offset.spec`.
    pub start: StartOffset,
    /// `cluster.link.retry.timeout.ms`.
    pub retry_timeout: Duration,
    /// `availability.check.ms`.
    pub availability_check: Duration,
    /// `availability.check.consecutive.failure.threshold`.
    pub availability_failures_max: u32,
    /// `num.cluster.link.fetchers`.
    pub fetchers: usize,
    /// `replica.fetch.backoff.ms`.
    pub fetch_backoff: Duration,
    /// `replica.fetch.max.bytes`.
    pub fetch_partition_bytes_max: i32,
    /// `replica.fetch.min.bytes`.
    pub fetch_bytes_min: i32,
    /// `replica.fetch.response.max.bytes`.
    pub fetch_bytes_max: i32,
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max: Duration,
    /// `replica.socket.timeout.ms`.
    pub fetch_timeout: Duration,
    /// `replica.socket.receive.buffer.bytes`; `None`: the system's.
    pub receive_buffer_bytes: Option<usize>,
    /// `consumer.offset.sync.*`: how often and which groups, when on.
    pub offset_sync: Option<(Duration, GroupFilters)>,
    /// `auto.create.mirror.topics.*`: which topics, when on.
    pub auto_create: Option<TopicFilters>,
    /// `acl.sync.*`: how often and which ACLs, when on.
    pub acl_sync: Option<(Duration, AclFilters)>,
    /// `topic.config.sync.ms`.
    pub config_sync: Duration,
    /// `topic.config.sync.include`.
    pub config_include: BTreeSet<&'static str>,
}

/// What a half that lends its local cluster does.
#[derive(Clone, Debug)]
pub struct LendConfig {
    /// `local.bootstrap.servers`, as written; empty: the daemon's own cluster.
    pub bootstrap_servers: Vec<String>,
    /// `local.listener.name` or `local.listener`.
    pub listener: Option<String>,
    /// `hawser.egress.topics.filters`; `None`: every topic may leave.
    pub topics: Option<TopicFilters>,
    /// `hawser.egress.bytes.per.second`; `None`: no limit.
    pub bytes_per_second: Option<u64>,
    /// `hawser.channels.max`.
    pub channels_max: usize,
}

/// Where a new mirror begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOffset {
    /// At the log start.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record not older than this, in ms since 1970.
    Timestamp(i64),
}

impl StartOffset {
    /// Reads `mirror.start.offset.spec`: `earliest`, `latest`, or `YYYY-MM-DDThh:mm:ss[.fff](Z|±hh:mm)`.
    pub fn parse(text: &str) -> Option<Self> {
        start_offset(text)
    }
}

/// A configuration, and what was accepted without having an effect.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The configuration.
    pub config: LinkConfig,
    /// To be logged and shown.
    pub warnings: Vec<ConfigError>,
}

impl LinkConfig {
    /// Reads a half. Keys of the other half are refused with the place where they go, unknown ones with the nearest
    /// name; keys that only mean something to a JVM or are not acted on yet, and `source.*` (one author's own
    /// addition), give a warning.
    ///
    /// # Errors
    /// Every error at once.
    pub fn parse(properties: &Properties) -> Result<Parsed, ConfigErrors> {
        let mut reader = Reader { properties, errors: Vec::new(), warnings: Vec::new() };
        let half = reader.half();
        reader.check_names(half);
        let config = reader.config(half.unwrap_or(Half::DestinationOutbound));
        if half.is_some() {
            reader.check_rules(&config);
            reader.check_effects();
        }
        ConfigErrors(reader.errors).into_result()?;
        Ok(Parsed { config, warnings: reader.warnings })
    }
}

struct Reader<'a> {
    properties: &'a Properties,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Reader<'_> {
    fn half(&mut self) -> Option<Half> {
        let link = self.text("link.mode").parse().ok()?;
        let connection = match self.text("connection.mode").to_ascii_uppercase().as_str() {
            "OUTBOUND" => ConnectionMode::Outbound,
            "INBOUND" => ConnectionMode::Inbound,
            _ => return None,
        };
        let half = Half::new(link, connection);
        if half.is_none() {
            let message = "a SOURCE half always dials: set connection.mode=OUTBOUND. A destination-initiated link has no \
                           half at the source";
            self.error("connection.mode", message);
        }
        half
    }

    fn check_names(&mut self, half: Option<Half>) {
        for (name, value) in self.properties.iter() {
            let Some(key) = catalogue::find(name) else {
                if name.starts_with("source.") {
                    self.warnings.push(self.properties.error(name, "has no effect and was ignored"));
                } else {
                    self.error(name, catalogue::unknown(name));
                }
                continue;
            };
            if let Some(half) = half.filter(|half| !key.belongs.to(*half)) {
                self.error(name, format!("is not for a {half} half; {}", key.belongs.place()));
                continue;
            }
            if key.kind == Kind::Jvm {
                self.warnings.push(self.properties.error(name, format!("has no effect here. {}", key.doc)));
            } else if let Err(expected) = check(key.kind, value) {
                self.error(name, expected);
            } else if !key.acted_on && key.default.is_none_or(|default| !default.eq_ignore_ascii_case(value.trim())) {
                let message = format!("is not acted on yet and changes nothing. Meant for later: {}", key.doc);
                self.warnings.push(self.properties.error(name, message));
            }
        }
    }

    fn config(&self, half: Half) -> LinkConfig {
        let enabled = |name| self.text(name).eq_ignore_ascii_case("true");
        let connection = ConnectionConfig {
            reconnect_backoff: self.ms("reconnect.backoff.ms"),
            reconnect_backoff_max: self.ms("reconnect.backoff.max.ms"),
            retry_backoff: self.ms("retry.backoff.ms"),
            retry_backoff_max: self.ms("retry.backoff.max.ms").max(self.ms("retry.backoff.ms")),
            request_timeout: self.ms("request.timeout.ms"),
            api_timeout: self.ms("default.api.timeout.ms"),
            setup_timeout: self.ms("socket.connection.setup.timeout.ms"),
            setup_timeout_max: self.ms("socket.connection.setup.timeout.max.ms"),
            idle_max: self.ms("connections.max.idle.ms"),
            metadata_max_age: self.ms("metadata.max.age.ms"),
        };
        let groups = || GroupFilters::parse(self.text("consumer.offset.group.filters")).unwrap_or_default();
        let acls = || AclFilters::parse(self.text("acl.filters")).unwrap_or_default();
        let config_include = match self.value("topic.config.sync.include") {
            Some(names) => topic_configs::parse_include(list(names).iter().map(String::as_str)).unwrap_or_default(),
            None => topic_configs::DEFAULT_INCLUDE.into(),
        };
        let mirrors = MirrorConfig {
            paused: enabled("cluster.link.paused"),
            prefix: self.text("cluster.link.prefix").to_owned(),
            prefix_groups: enabled("consumer.group.prefix.enable"),
            start: start_offset(self.text("mirror.start.offset.spec")).unwrap_or(StartOffset::Earliest),
            retry_timeout: self.ms("cluster.link.retry.timeout.ms"),
            availability_check: self.ms("availability.check.ms"),
            availability_failures_max: self.number("availability.check.consecutive.failure.threshold"),
            fetchers: self.number("num.cluster.link.fetchers"),
            fetch_backoff: self.ms("replica.fetch.backoff.ms"),
            fetch_partition_bytes_max: self.number("replica.fetch.max.bytes"),
            fetch_bytes_min: self.number("replica.fetch.min.bytes"),
            fetch_bytes_max: self.number("replica.fetch.response.max.bytes"),
            fetch_wait_max: self.ms("replica.fetch.wait.max.ms"),
            fetch_timeout: self.ms("replica.socket.timeout.ms"),
            receive_buffer_bytes: usize::try_from(self.number::<i32>("replica.socket.receive.buffer.bytes"))
                .ok()
                .filter(|bytes| *bytes > 0),
            offset_sync: enabled("consumer.offset.sync.enable").then(|| (self.ms("consumer.offset.sync.ms"), groups())),
            auto_create: enabled("auto.create.mirror.topics.enable")
                .then(|| TopicFilters::parse(self.text("auto.create.mirror.topics.filters")).unwrap_or_default()),
            acl_sync: enabled("acl.sync.enable").then(|| (self.ms("acl.sync.ms"), acls())),
            config_sync: self.ms("topic.config.sync.ms"),
            config_include,
        };
        let listener = self.value("local.listener.name").or_else(|| self.value("local.listener"));
        let topics = self.value("hawser.egress.topics.filters");
        let lends = LendConfig {
            bootstrap_servers: list(self.text("local.bootstrap.servers")),
            listener: listener.map(str::to_owned),
            topics: topics.map(|json| TopicFilters::parse(json).unwrap_or_default()),
            bytes_per_second: self.value("hawser.egress.bytes.per.second").and_then(|v| v.trim().parse().ok()),
            channels_max: self.number("hawser.channels.max"),
        };
        let bootstrap_servers = list(self.text("bootstrap.servers"));
        LinkConfig { half, bootstrap_servers, connection, mirrors, lends }
    }

    /// Rules between keys.
    fn check_rules(&mut self, config: &LinkConfig) {
        if config.half.dials() && config.bootstrap_servers.is_empty() {
            self.error("bootstrap.servers", "is needed: HOST:PORT of the other cluster, as this half dials it");
        }
        let connection = &config.connection;
        if connection.reconnect_backoff_max < connection.reconnect_backoff {
            self.error("reconnect.backoff.max.ms", "is below reconnect.backoff.ms");
        }
        if connection.setup_timeout_max < connection.setup_timeout {
            self.error("socket.connection.setup.timeout.max.ms", "is below socket.connection.setup.timeout.ms");
        }
        if config.mirrors.prefix_groups && config.mirrors.prefix.is_empty() {
            self.error("consumer.group.prefix.enable", "needs cluster.link.prefix");
        }
        if config.mirrors.prefix_groups && config.half.link_mode() == LinkMode::Bidirectional {
            self.error("consumer.group.prefix.enable", "is not possible on a BIDIRECTIONAL link");
        }
        let acls = self.text("acl.sync.enable").eq_ignore_ascii_case("true");
        if acls && !config.mirrors.prefix.is_empty() {
            self.error("acl.sync.enable", "is not possible together with cluster.link.prefix");
        }
        for (enable, filters, on) in [
            ("consumer.offset.sync.enable", "consumer.offset.group.filters", config.mirrors.offset_sync.is_some()),
            (
                "auto.create.mirror.topics.enable",
                "auto.create.mirror.topics.filters",
                config.mirrors.auto_create.is_some(),
            ),
            ("acl.sync.enable", "acl.filters", acls),
        ] {
            if on && self.text(filters).trim().is_empty() {
                self.error(enable, format!("needs {filters}: without it nothing would match"));
            }
        }
    }

    /// Values that are taken and do nothing.
    fn check_effects(&mut self) {
        const LOOKUP: &str = "client.dns.lookup";
        if self.text(LOOKUP).eq_ignore_ascii_case("resolve_canonical_bootstrap_servers_only") {
            let message = "has no effect here: addresses are not turned back into names, which only Kerberos needs and \
                           that is not spoken. Every address of a name is tried, as with use_all_dns_ips";
            self.warnings.push(self.properties.error(LOOKUP, message));
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.properties.value(name)
    }

    /// The value, or the default of the catalogue, or nothing.
    fn text(&self, name: &str) -> &str {
        let default = || catalogue::find(name).and_then(|key| key.default).unwrap_or("");
        self.value(name).map(str::trim).unwrap_or_else(default)
    }

    /// A number, or the default where the value is none (that error is collected already).
    fn number<T: std::str::FromStr + Default>(&self, name: &str) -> T {
        let default = || catalogue::find(name).and_then(|key| key.default).and_then(|d| d.parse().ok());
        self.text(name).parse().ok().or_else(default).unwrap_or_default()
    }

    fn ms(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    fn error(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(self.properties.error(name, message));
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Whether `value` is of `kind`; what was expected otherwise. A secret is never repeated.
fn check(kind: Kind, value: &str) -> Result<(), String> {
    let value = value.trim();
    let expected = |what: &str| format!("is {value:?}; expected {what}");
    match kind {
        Kind::Boolean if matches!(value.to_ascii_lowercase().as_str(), "true" | "false") => Ok(()),
        Kind::Boolean => Err(expected("true or false")),
        Kind::Integer(min, max) => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ if max == i64::MAX => Err(expected(&format!("a whole number, {min} or more"))),
            _ => Err(expected(&format!("a whole number from {min} to {max}"))),
        },
        Kind::Choice(choices) if choices.iter().any(|c| c.eq_ignore_ascii_case(value)) => Ok(()),
        Kind::Choice(choices) => Err(expected(&format!("one of {choices:?}"))),
        Kind::TopicFilters => TopicFilters::parse(value).map(drop).map_err(|e| e.to_string()),
        Kind::GroupFilters => GroupFilters::parse(value).map(drop).map_err(|e| e.to_string()),
        Kind::AclFilters => AclFilters::parse(value).map(drop).map_err(|e| e.to_string()),
        Kind::TopicConfigs => {
            topic_configs::parse_include(list(value).iter().map(String::as_str)).map(drop).map_err(|e| e.join("; "))
        }
        Kind::StartOffset if start_offset(value).is_some() => Ok(()),
        Kind::StartOffset => Err(expected("earliest, latest, or an instant like 2026-01-31T12:00:00Z")),
        Kind::Prefix => {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if value.len() <= 12 && value.bytes().all(legal) {
                Ok(())
            } else {
                Err(expected("at most 12 of the characters a-z A-Z 0-9 . _ -"))
            }
        }
        Kind::Text | Kind::List | Kind::Password | Kind::Jvm => Ok(()),
    }
}

/// `earliest`, `latest`, or `YYYY-MM-DDThh:mm:ss[.fff](Z|±hh:mm)`.
fn start_offset(text: &str) -> Option<StartOffset> {
    match text.to_ascii_lowercase().as_str() {
        "earliest" => return Some(StartOffset::Earliest),
        "latest" => return Some(StartOffset::Latest),
        _ => {}
    }
    let (date, time) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers::<3>(date, '-')?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers::<3>(clock, ':')?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || fraction.is_empty() {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let [hours, minutes] = numbers::<2>(zone.get(1..)?, ':')?;
            // `java.time.ZoneOffset`: at most ±18:00.
            if hours > 18 || minutes > 59 || (hours == 18 && minutes > 0) {
                return None;
            }
            (hours * 60 + minutes) * if zone.starts_with('-') { -1 } else { 1 }
        }
    };
    let days_of_month = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=days_of_month).contains(&day) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + (hour * 60 + minute - offset_minutes) * 60 + second;
    Some(StartOffset::Timestamp(seconds * 1000 + millis))
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let parse = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    let all: Option<Vec<i64>> = text.split(separator).map(parse).collect();
    all?.try_into().ok()
}

/// Howard Hinnant's `days_from_civil`, for years from 1970.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests;
