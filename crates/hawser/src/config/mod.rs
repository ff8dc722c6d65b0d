//! A daemon's file, read once and whole: every key checked, every error collected, and then one value of plain types.
//! What belongs to a component is handed on as the text it wants (listener and client security).

pub(crate) mod catalogue;

use hawser_link::{ConfigError, ConfigErrors, Properties};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that a daemon's file says.
#[derive(Clone, Debug)]
pub(crate) struct DaemonConfig {
    pub(crate) node_id: i32,
    pub(crate) listeners: Vec<ListenerConfig>,
    pub(crate) log_dir: PathBuf,
    pub(crate) stop_timeout: Duration,
    pub(crate) metrics_listener: Option<String>,
    pub(crate) access: AccessConfig,
    /// `local.*` without the prefix, if the daemon stands beside a cluster.
    pub(crate) local: Option<Properties>,
    pub(crate) egress_topics: Vec<String>,
    pub(crate) egress_bytes_per_second: Option<u64>,
    pub(crate) fetch_bytes_per_second: Option<u64>,
    pub(crate) log: LogSettings,
    pub(crate) limits: Limits,
    /// The whole file, for the components that read their own keys (listener security).
    pub(crate) properties: Properties,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerConfig {
    /// Its name, upper case as in `listeners`.
    pub(crate) name: String,
    /// One of [`catalogue::PROTOCOLS`].
    pub(crate) protocol: String,
    /// `host:port` to bind.
    pub(crate) bind: String,
    /// `host:port` to tell clients; port 0 or `None` stands for the bound one.
    pub(crate) advertised: Option<String>,
}

/// Who may do what.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessConfig {
    pub(crate) super_users: Vec<String>,
    pub(crate) allow_everyone_if_no_acl_found: bool,
    pub(crate) acls: Vec<String>,
}

/// Settings of the embedded log.
#[derive(Clone, Debug)]
pub(crate) struct LogSettings {
    pub(crate) segment_bytes: u64,
    pub(crate) index_interval_bytes: u64,
    pub(crate) flush_interval: Option<Duration>,
    pub(crate) open_files_max: usize,
}

/// Bounds of the listeners.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) request_bytes_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) connection_idle_max: Duration,
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
        Self::parse(Properties::parse(&source, &text))
    }

    /// As [`read`](Self::read), from properties at hand.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn parse(properties: Properties) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(&properties);
        reader.check_keys();
        let listeners = reader.listeners();
        let log_dir = reader.log_dir();
        let config = Self {
            node_id: i32::try_from(reader.number("node.id")).unwrap_or_default(),
            listeners,
            log_dir,
            stop_timeout: reader.millis("hawser.stop.timeout.ms"),
            metrics_listener: reader.text("metrics.listener"),
            access: AccessConfig {
                super_users: reader.items("super.users", ';'),
                allow_everyone_if_no_acl_found: reader.text("allow.everyone.if.no.acl.found").as_deref()
                    == Some("true"),
                acls: reader.items("hawser.acls", ';'),
            },
            local: reader.local(),
            egress_topics: reader.items("hawser.egress.topics", ','),
            egress_bytes_per_second: reader.positive("hawser.egress.bytes.per.second"),
            fetch_bytes_per_second: reader.positive("hawser.link.fetch.bytes.per.second"),
            log: LogSettings {
                segment_bytes: reader.number("log.segment.bytes"),
                index_interval_bytes: reader.number("log.index.interval.bytes"),
                flush_interval: reader.positive("log.flush.interval.ms").map(Duration::from_millis),
                open_files_max: reader.count("hawser.log.open.files.max"),
            },
            limits: Limits {
                request_bytes_max: reader.count("socket.request.max.bytes"),
                connections_max: reader.count("max.connections"),
                connection_idle_max: reader.millis("connections.max.idle.ms"),
            },
            properties: properties.clone(),
        };
        reader.errors.into_result()?;
        Ok(config)
    }
}

/// Every key with the value that holds, secrets hidden: what `--dump-config` prints.
pub(crate) fn dump(properties: &Properties) -> String {
    let mut shown = BTreeMap::new();
    for (name, key) in catalogue::all().filter(|(name, _)| !name.contains('<')) {
        if let Some(default) = key.default {
            shown.insert(name, default.to_owned());
        }
    }
    for (name, value) in properties.iter() {
        let secret = catalogue::find(name).is_none_or(|key| key.kind.is_secret());
        shown.insert(name.to_owned(), if secret { "[hidden]".to_owned() } else { value.to_owned() });
    }
    shown
        .into_iter()
        .map(|(name, value)| format!("{name}={}\n", value.replace('\\', "\\\\").replace('\n', "\\n")))
        .collect()
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
            listeners.push(ListenerConfig { name, protocol, bind, advertised });
        }
        if let Some(name) = advertised.keys().next() {
            self.error("advertised.listeners", format!("{name}: no such listener in listeners"));
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

    fn local(&mut self) -> Option<Properties> {
        let local = self.properties.with_prefix("local.");
        if local.value("bootstrap.servers").is_some() {
            return Some(local);
        }
        if let Some((name, _)) = local.iter().next() {
            self.error(&format!("local.{name}"), "has no effect without local.bootstrap.servers");
        }
        None
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

#[cfg(test)]
mod tests;
