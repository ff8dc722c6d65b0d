//! A daemon's file, read once and whole: every key checked, every error collected, and then one value of plain types.
//! What belongs to a component is handed on as the text it wants (listener and client security).

pub(crate) mod catalogue;

use crate::rest::Authentication;
use hawser_broker::{Authorizer, BrokerConfig, BrokerSetting};
use hawser_link::{ConfigError, ConfigErrors, Properties, TopicFilters};
use hawser_log::LogConfig;
use hawser_transport::{ClientSecurity, HostPort, SecurityProtocol, ServerSecurity};
use hawser_wire::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that a daemon's file says.
#[derive(Clone)]
pub(crate) struct DaemonConfig {
    pub(crate) listeners: Vec<ListenerConfig>,
    pub(crate) log_dir: PathBuf,
    pub(crate) log: LogConfig,
    pub(crate) stop_timeout: Duration,
    pub(crate) metrics_listener: Option<String>,
    pub(crate) rest: Vec<RestListenerConfig>,
    pub(crate) rest_authentication: Authentication,
    pub(crate) authorizer: Authorizer,
    pub(crate) broker: BrokerConfig,
    pub(crate) local: Option<LocalCluster>,
    /// Of each destination half; `None` for no limit.
    pub(crate) fetch_bytes_per_second: Option<u64>,
    /// What may leave over any link; `None` for every topic.
    pub(crate) egress: Option<TopicFilters>,
}

/// One listener.
#[derive(Clone)]
pub(crate) struct ListenerConfig {
    /// Its name, upper case as in `listeners`.
    pub(crate) name: String,
    /// `host:port` to bind.
    pub(crate) bind: String,
    /// `host:port` to tell clients; `None` stands for the bound one.
    pub(crate) advertised: Option<String>,
    pub(crate) security: ServerSecurity,
}

/// One of `hawser.rest.listeners`.
#[derive(Clone)]
pub(crate) struct RestListenerConfig {
    /// `host:port` to bind.
    pub(crate) bind: String,
    pub(crate) security: ServerSecurity,
}

/// The stock cluster that the daemon stands beside.
#[derive(Clone)]
pub(crate) struct LocalCluster {
    /// `local.bootstrap.servers`.
    pub(crate) bootstrap: Vec<HostPort>,
    pub(crate) security: ClientSecurity,
    /// The same as text, without `local.`, for links that have no settings of their own.
    pub(crate) properties: Properties,
}

impl DaemonConfig {
    /// Reads and checks `file`.
    ///
    /// # Errors
    /// All errors at once: unknown keys (with the nearest known one), values that do not fit, missing keys, keys that
    /// contradict each other. An unreadable file is one error.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigErrors> {
        let source = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|e| {
            ConfigErrors(vec![ConfigError {
                source: source.clone(),
                line: 0,
                key: "file".into(),
                message: e.to_string(),
            }])
        })?;
        Self::parse(&Properties::parse(&source, &text))
    }

    /// As [`read`](Self::read), from properties at hand.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn parse(properties: &Properties) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(properties);
        reader.check_keys();
        let listeners = reader.listeners();
        let log_dir = reader.log_dir();
        let authorizer = Authorizer::from_properties(properties);
        let authorizer = reader.component(authorizer);
        let local = reader.local();
        let stop_timeout = reader.millis("hawser.stop.timeout.ms");
        let metrics_listener = reader.text("metrics.listener");
        let rest = reader.rest();
        let rest_authentication = match reader.text("hawser.rest.authentication").as_deref() {
            Some("NONE") => Authentication::None,
            _ => Authentication::Basic,
        };
        let (log, broker) = (reader.log(), reader.broker());
        let fetch_bytes_per_second = reader.positive("hawser.link.fetch.bytes.per.second");
        let egress = reader.topic_filters("hawser.egress.topics.filters");
        reader.errors.into_result()?;
        // With a part missing there is an error; an empty list is only what the type asks for.
        let authorizer = authorizer.ok_or_else(ConfigErrors::default)?;
        Ok(Self {
            listeners,
            log_dir,
            log,
            stop_timeout,
            metrics_listener,
            rest,
            rest_authentication,
            authorizer,
            broker,
            local,
            fetch_bytes_per_second,
            egress,
        })
    }

    /// What this machine is called: the hosts of `listeners`, `advertised.listeners` and `hawser.rest.listeners`.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        let kafka = self.listeners.iter().flat_map(|listener| [Some(&listener.bind), listener.advertised.as_ref()]);
        kafka.flatten().chain(self.rest.iter().map(|listener| &listener.bind)).map(|address| host_of(address))
    }
}

/// Every key with its meaning and the value that holds, secrets hidden: what `--dump-config` prints. It is a file that
/// can be used, but for the secrets.
pub(crate) fn dump(properties: &Properties) -> String {
    let mut out = String::new();
    for section in catalogue::SECTIONS {
        let _ = write!(out, "\n## {}\n# {}\n", section.title, section.intro);
        for (prefix, key) in section.prefixes.iter().flat_map(|p| section.keys.iter().map(move |k| (p, k))) {
            let pattern = format!("{prefix}{}", key.name);
            let set: Vec<_> = properties.iter().filter(|(name, _)| catalogue::matches(&pattern, name)).collect();
            match (set.as_slice(), key.default) {
                ([], Some(default)) if !pattern.contains('<') => {
                    let _ = write!(out, "# {}\n{pattern}={default}\n", key.doc);
                }
                ([], _) => {
                    let _ = write!(out, "# {}\n#{pattern}=\n", key.doc);
                }
                (set, _) => {
                    let _ = writeln!(out, "# {}", key.doc);
                    for (name, value) in set {
                        let value = if key.kind.is_secret() { "[hidden]" } else { value };
                        let _ = writeln!(out, "{name}={}", value.replace('\\', "\\\\").replace('\n', "\\n"));
                    }
                }
            }
        }
    }
    out
}

/// What DescribeConfigs shows of this daemon: what its file sets, and the defaults of what it does not.
fn settings(properties: &Properties) -> Vec<BrokerSetting> {
    let setting = |name: &str, key: &catalogue::Key, value: Option<&str>, is_set| BrokerSetting {
        name: name.to_owned(),
        value: value.filter(|_| !key.kind.is_secret()).map(str::to_owned),
        is_set,
        documentation: key.doc,
    };
    let set =
        properties.iter().filter_map(|(name, value)| Some(setting(name, catalogue::find(name)?, Some(value), true)));
    let unset = catalogue::all().filter(|(name, _)| !name.contains('<') && properties.value(name).is_none());
    let unset = unset.filter_map(|(name, key)| Some(setting(&name, key, Some(key.default?), false)));
    set.chain(unset).collect()
}

struct Reader<'a> {
    properties: &'a Properties,
    errors: ConfigErrors,
}

impl<'a> Reader<'a> {
    fn new(properties: &'a Properties) -> Self {
        Self { properties, errors: ConfigErrors::default() }
    }

    fn error(&mut self, key: &str, message: impl Into<String>) {
        self.errors.0.push(self.properties.error(key, message));
    }

    /// Unknown keys, values that do not fit, required keys that are absent.
    fn check_keys(&mut self) {
        for (name, value) in self.properties.iter() {
            match catalogue::find(name) {
                Some(key) => {
                    if let Err(expected) = key.kind.check(value) {
                        self.error(name, expected);
                    }
                }
                None => match catalogue::nearest(name) {
                    Some(nearest) => self.error(name, format!("unknown key; did you mean {nearest}?")),
                    None => self.error(name, "unknown key; docs/configuration.md lists them all"),
                },
            }
        }
        for (name, key) in catalogue::all().filter(|(_, key)| key.required) {
            if self.properties.value(&name).is_none() {
                self.error(&name, format!("required; expected {}", key.kind));
            }
        }
    }

    /// The value or its default; `None` also for a value that does not fit, which `check_keys` has reported.
    fn text(&self, name: &str) -> Option<String> {
        let key = catalogue::find(name)?;
        let value = self.properties.value(name).filter(|v| key.kind.check(v).is_ok());
        value.or(key.default).map(|v| v.trim().to_owned())
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).and_then(|v| v.parse().ok()).unwrap_or_default()
    }

    fn positive(&self, name: &str) -> Option<u64> {
        Some(self.number(name)).filter(|n| *n > 0)
    }

    /// Filters that do not parse are an error of their own: they let nothing out.
    fn topic_filters(&self, name: &str) -> Option<TopicFilters> {
        self.properties.value(name).map(|json| TopicFilters::parse(json).unwrap_or_default())
    }

    fn count(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    fn items(&self, name: &str, separator: char) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(separator).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// What a component read from its own keys; its errors join the others, once each.
    fn component<T>(&mut self, read: Result<T, ConfigErrors>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(ConfigErrors(errors)) => {
                for error in errors {
                    if !self.errors.0.iter().any(|known| known.key == error.key && known.line == error.line) {
                        self.errors.0.push(error);
                    }
                }
                None
            }
        }
    }

    fn log(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.number("log.segment.bytes"),
            index_interval_bytes: self.number("log.index.interval.bytes"),
            flush_interval: self.positive("log.flush.interval.ms").map(Duration::from_millis),
            open_files_max: self.count("hawser.log.open.files.max"),
            producer_id_expiration_ms: self.number("producer.id.expiration.ms").cast_signed(),
            cleaner_interval: Some(self.millis("log.cleaner.backoff.ms")),
            cleaner_dedupe_buffer_bytes: self.count("log.cleaner.dedupe.buffer.size"),
        }
    }

    fn broker(&self) -> BrokerConfig {
        BrokerConfig {
            num_partitions: i32::try_from(self.number("num.partitions")).unwrap_or(i32::MAX),
            auto_create_topics: self.text("auto.create.topics.enable").as_deref() == Some("true"),
            settings: settings(self.properties),
            node_id: NodeId(i32::try_from(self.number("node.id")).unwrap_or(i32::MAX)),
            request_memory_bytes: self.count("queued.max.request.bytes"),
            fetch_max_bytes: self.count("fetch.max.bytes"),
            fetch_sessions_max: self.count("max.incremental.fetch.session.cache.slots"),
            group_min_session_timeout: self.millis("group.min.session.timeout.ms"),
            group_max_session_timeout: self.millis("group.max.session.timeout.ms"),
            consumer_group_session_timeout: self.millis("group.consumer.session.timeout.ms"),
            consumer_group_heartbeat_interval: self.millis("group.consumer.heartbeat.interval.ms"),
            group_initial_rebalance_delay: self.millis("group.initial.rebalance.delay.ms"),
            group_max_size: self.count("group.max.size"),
            offset_metadata_max_bytes: self.count("offset.metadata.max.bytes"),
            offsets_retention: Duration::from_secs(60)
                .saturating_mul(u32::try_from(self.number("offsets.retention.minutes")).unwrap_or(u32::MAX)),
            ..BrokerConfig::default()
        }
    }

    fn log_dir(&mut self) -> PathBuf {
        let text = self.text("log.dirs").unwrap_or_default();
        if text.contains(',') {
            self.error("log.dirs", "expected one folder; several are not supported");
        }
        PathBuf::from(text)
    }

    fn listeners(&mut self) -> Vec<ListenerConfig> {
        let map = self.protocol_map();
        let mut advertised: BTreeMap<String, String> = BTreeMap::new();
        for item in self.items("advertised.listeners", ',') {
            match split_listener(&item) {
                Ok((name, address)) => drop(advertised.insert(name, address)),
                Err(expected) => self.error("advertised.listeners", format!("{item}: {expected}")),
            }
        }
        let mut listeners = Vec::new();
        let mut names = BTreeSet::new();
        for item in self.items("listeners", ',') {
            let (name, bind) = match split_listener(&item) {
                Ok(parts) => parts,
                Err(expected) => {
                    self.error("listeners", format!("{item}: {expected}"));
                    continue;
                }
            };
            if !names.insert(name.clone()) {
                self.error("listeners", format!("{name}: stands there twice; give each listener a name of its own"));
            }
            let known = catalogue::PROTOCOLS.iter().find(|p| **p == name).map(|p| (*p).to_owned());
            let Some(protocol) = map.get(&name).cloned().or(known) else {
                self.error(
                    "listeners",
                    format!("{name}: not a protocol; name its protocol in listener.security.protocol.map"),
                );
                continue;
            };
            let advertised = advertised.remove(&name);
            if advertised.is_none() && ["0.0.0.0:", "[::]:"].iter().any(|all| bind.starts_with(all)) {
                self.error(
                    "listeners",
                    format!("{name}: listens on all addresses, so say in advertised.listeners what clients connect to"),
                );
            }
            // A list of its own words: every name in it is a protocol.
            let Ok(protocol) = protocol.parse::<SecurityProtocol>() else { continue };
            let security = ServerSecurity::from_properties(self.properties, &name, protocol);
            if let Some(security) = self.component(security) {
                listeners.push(ListenerConfig { name, bind, advertised, security });
            }
        }
        if let Some(name) = advertised.keys().next() {
            self.error("advertised.listeners", format!("{name}: no such listener in listeners"));
        }
        listeners
    }

    fn rest(&mut self) -> Vec<RestListenerConfig> {
        const KEY: &str = "hawser.rest.listeners";
        let mut listeners = Vec::new();
        for item in self.items(KEY, ',') {
            let protocol = match split_listener(&item) {
                Ok((name, bind)) if name == "HTTPS" => Ok((SecurityProtocol::Ssl, bind)),
                Ok((name, bind)) if name == "HTTP" && is_loopback(&bind) => Ok((SecurityProtocol::Plaintext, bind)),
                Ok((name, _)) if name == "HTTP" => {
                    Err("HTTP carries passwords in the clear: use https://, or a loopback address")
                }
                _ => Err("expected https://host:port or http://host:port"),
            };
            match protocol {
                Ok((protocol, bind)) => {
                    let security = ServerSecurity::from_properties(self.properties, "rest", protocol);
                    listeners.extend(self.component(security).map(|security| RestListenerConfig { bind, security }));
                }
                Err(expected) => self.error(KEY, format!("{item}: {expected}")),
            }
        }
        listeners
    }

    fn protocol_map(&mut self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for item in self.items("listener.security.protocol.map", ',') {
            match item.split_once(':') {
                Some((name, protocol)) if catalogue::PROTOCOLS.contains(&protocol) => {
                    map.insert(name.to_uppercase(), protocol.to_owned());
                }
                _ => self.error(
                    "listener.security.protocol.map",
                    format!("{item}: expected NAME:PROTOCOL, PROTOCOL one of {}", catalogue::PROTOCOLS.join(", ")),
                ),
            }
        }
        map
    }

    fn local(&mut self) -> Option<LocalCluster> {
        let local = self.properties.with_prefix("local.");
        let servers = self.items("local.bootstrap.servers", ',');
        if servers.is_empty() {
            if let Some((name, _)) = local.iter().next() {
                self.error(&format!("local.{name}"), "has no effect without local.bootstrap.servers");
            }
            return None;
        }
        let mut bootstrap = Vec::new();
        for server in &servers {
            match server.parse::<HostPort>() {
                Ok(server) => bootstrap.push(server),
                Err(error) => self.error("local.bootstrap.servers", error.to_string()),
            }
        }
        let security = ClientSecurity::from_properties(&local).map_err(|ConfigErrors(errors)| {
            let named = |error: ConfigError| ConfigError { key: format!("local.{}", error.key), ..error };
            ConfigErrors(errors.into_iter().map(named).collect())
        });
        self.component(security).map(|security| LocalCluster { bootstrap, security, properties: local })
    }
}

/// `NAME://host:port` → name in upper case and `host:port`; an empty host stands for all addresses, as in Kafka.
fn split_listener(item: &str) -> Result<(String, String), String> {
    let expected = || "expected NAME://host:port".to_owned();
    let (name, address) = item.split_once("://").ok_or_else(expected)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
    if name.is_empty() || port.parse::<u16>().is_err() {
        return Err(expected());
    }
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok((name.to_uppercase(), format!("{host}:{port}")))
}

/// The host of `host:port`; that of an IPv6 address without its brackets.
pub(crate) fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

/// Whether `host:port` is reached from this machine only.
fn is_loopback(bind: &str) -> bool {
    let host = host_of(bind);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
