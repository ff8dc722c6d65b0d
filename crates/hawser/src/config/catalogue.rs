//! Every key of a daemon's file, once: its name, type, default and meaning. Parsing, error texts, `--dump-config` and
//! `docs/configuration.md` all come from these tables, so they cannot disagree.

use hawser_link::TopicFilters;
use std::fmt;

/// One key, or a family of keys whose name has `<placeholders>`.
pub(crate) struct Key {
    /// Kafka's name where Kafka has the setting. `<x>` stands for one segment between dots.
    pub(crate) name: &'static str,
    /// What a value must look like.
    pub(crate) kind: Kind,
    /// What holds when the key is absent; `None`: nothing, or the key is required.
    pub(crate) default: Option<&'static str>,
    /// Whether the daemon cannot start without it.
    pub(crate) required: bool,
    /// One or two sentences for an operator.
    pub(crate) doc: &'static str,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A whole number within bounds, both included.
    Number {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Items separated by commas.
    List,
    /// Items separated by semicolons.
    SemicolonList,
    /// Topic filters in JSON, as a link's.
    TopicFilters,
    /// A file or folder.
    Path,
    /// `host:port`.
    HostPort,
}

/// A titled part of the catalogue.
pub(crate) struct Section {
    /// Heading in the documentation.
    pub(crate) title: &'static str,
    /// What the keys have in common.
    pub(crate) intro: &'static str,
    /// Put before every key's name; may hold a placeholder.
    pub(crate) prefixes: &'static [&'static str],
    /// The keys.
    pub(crate) keys: &'static [Key],
}

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, kind, default, required: false, doc }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, required: true, doc }
}

const MS_MAX: i64 = i32::MAX as i64;
const MILLIS: Kind = Kind::Number { min: 0, max: MS_MAX };
const COUNT: Kind = Kind::Number { min: 1, max: i32::MAX as i64 };
/// The security protocols of Kafka (`SecurityProtocol`).
pub(crate) const PROTOCOLS: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
const STORE_TYPES: &[&str] = &["PEM", "JKS", "PKCS12"];

/// The whole catalogue, in the order of the documentation.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "The daemon",
        intro: "Who this daemon is, where it listens and where it keeps its data.",
        prefixes: &[""],
        keys: &[
            key(
                "node.id",
                Kind::Number { min: 0, max: i32::MAX as i64 },
                Some("1"),
                "The id that Kafka clients see in metadata.",
            ),
            required(
                "listeners",
                Kind::List,
                "Where to listen, as `NAME://host:port`. NAME is a security protocol, or a name that \
                 `listener.security.protocol.map` gives one. Port 0 takes a free port; the `ready` line tells which.",
            ),
            key(
                "advertised.listeners",
                Kind::List,
                None,
                "What clients are told to connect to, as `NAME://host:port`. Default: the bound addresses.",
            ),
            key(
                "listener.security.protocol.map",
                Kind::List,
                None,
                "`NAME:PROTOCOL` pairs for listeners whose name is not a protocol.",
            ),
            required(
                "log.dirs",
                Kind::Path,
                "The one folder for partitions and state. Made if absent; locked while in use.",
            ),
            key(
                "hawser.stop.timeout.ms",
                Kind::Number { min: 100, max: MS_MAX },
                Some("30000"),
                "How long a stop may take to drain connections before the daemon goes on to flush and exit.",
            ),
            key(
                "metrics.listener",
                Kind::HostPort,
                None,
                "Where `/metrics` (Prometheus), a status page (`/`), `/health/live` and `/health/ready` are served, in plain HTTP and without a login: \
                 bind it to an address that only the monitoring reaches. Default: not served.",
            ),
        ],
    },
    Section {
        title: "REST",
        intro: "The v3 paths of links and mirrors over HTTP; `docs/openapi.yaml` has them all. Rights are those of the Kafka \
                listeners: DESCRIBE on the cluster to look, ALTER to change.",
        prefixes: &[""],
        keys: &[
            key(
                "hawser.rest.listeners",
                Kind::List,
                None,
                "Where REST is served, as `https://host:port` or `http://host:port`. HTTPS takes `ssl.*`, or \
                 `listener.name.rest.ssl.*` for certificates of its own. HTTP carries passwords in the clear, so it takes a \
                 loopback address only. Port 0 takes a free port. Default: not served.",
            ),
            key(
                "hawser.rest.authentication",
                Kind::Choice(&["BASIC", "NONE"]),
                Some("BASIC"),
                "`BASIC`: a request comes with name and password of a user of any SASL listener (PLAIN or SCRAM), or over a \
                 connection with a client certificate. `NONE`: a request without either is `User:ANONYMOUS`'s.",
            ),
        ],
    },
    Section {
        title: "Access",
        intro: "Who may do what. A principal is `User:` and the name that the login proved (`User:ANONYMOUS` without one).",
        prefixes: &[""],
        keys: &[
            key("super.users", Kind::SemicolonList, None, "Principals that may do everything, separated by `;`."),
            key(
                "allow.everyone.if.no.acl.found",
                Kind::Boolean,
                Some("false"),
                "Whether a resource without any grant is open to everyone.",
            ),
            key(
                "hawser.acls",
                Kind::SemicolonList,
                None,
                "Static grants, separated by `;`: `User:name [DENY] OPERATION resource`, where OPERATION is one of Kafka's (READ, \
                 DESCRIBE, ALTER, …, ALL) and resource is `cluster`, `topic:NAME`, `group:NAME` or `transactional-id:NAME`; a `*` at the end of \
                 NAME makes it a prefix. They count beside the ACLs of `kafka-acls`, which neither lists nor removes them. A link's login needs ALTER on the cluster.",
            ),
            key(
                "sasl.enabled.mechanisms",
                Kind::List,
                None,
                "Mechanisms offered by SASL listeners: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512. Needed if there is such a listener.",
            ),
        ],
    },
    Section {
        title: "Listener security",
        intro: "Kafka's names, for all listeners or, with `listener.name.<listener>.` in front, for one (its name in lower case).",
        prefixes: &["", "listener.name.<listener>."],
        keys: SERVER_TLS,
    },
    Section {
        title: "Logins of one listener",
        intro: "Users stand in the JAAS line of a listener and a mechanism: `… required user_NAME=\"PASSWORD\" …;`, for SCRAM too \
                (where Kafka's stored form, `salt=…,stored_key=…,server_key=…,iterations=…`, may take the place of the password). SCRAM users can \
                also be made while the daemon runs, with `kafka-configs --entity-type users`; those come first, and SCRAM needs no JAAS \
                line then.",
        prefixes: &["listener.name.<listener>."],
        keys: &[
            key("sasl.enabled.mechanisms", Kind::List, None, "As `sasl.enabled.mechanisms`, for this listener."),
            key(
                "<mechanism>.sasl.jaas.config",
                Kind::Secret,
                None,
                "The users of this mechanism (its name in lower case, such as `plain` or `scram-sha-512`) as `user_NAME=\"PASSWORD\"` options.",
            ),
        ],
    },
    Section {
        title: "The cluster beside",
        intro: "The stock Kafka cluster that this daemon stands beside and speaks for. Without it the daemon is a cluster of its own \
                (the embedded store). Source halves use these settings where their link has no `local.*` keys.",
        prefixes: &["local."],
        keys: CLIENT,
    },
    Section {
        title: "Links",
        intro: "What all links of this daemon keep to. A link's own settings stand in its own file.",
        prefixes: &[""],
        keys: &[
            key(
                "hawser.link.fetch.bytes.per.second",
                Kind::Number { min: 0, max: i64::MAX },
                Some("0"),
                "Most bytes per second that each destination half fetches; 0 for no limit.",
            ),
            key(
                "hawser.egress.topics.filters",
                Kind::TopicFilters,
                None,
                "Topics that may leave this site over any link. A link's own `hawser.egress.topics.filters` narrows it and \
                 cannot widen it. Unset: each link decides.",
            ),
        ],
    },
    Section {
        title: "Log",
        intro: "The embedded store's partitions, in Kafka's format.",
        prefixes: &[""],
        keys: &[
            key(
                "log.segment.bytes",
                Kind::Number { min: 14, max: i32::MAX as i64 },
                Some("1073741824"),
                "Size at which a new segment begins.",
            ),
            key(
                "log.index.interval.bytes",
                Kind::Number { min: 0, max: i32::MAX as i64 },
                Some("4096"),
                "Bytes between two entries of an index.",
            ),
            key(
                "log.flush.interval.ms",
                Kind::Number { min: 0, max: MS_MAX },
                Some("1000"),
                "Partitions with new data are fsynced at least this often; 0 leaves it to the kernel, as Kafka does by default.",
            ),
            key(
                "hawser.log.open.files.max",
                Kind::Number { min: 64, max: 1_000_000 },
                Some("4096"),
                "Most file descriptors kept open over all partitions.",
            ),
            key(
                "log.cleaner.backoff.ms",
                Kind::Number { min: 1, max: MS_MAX },
                Some("15000"),
                "How often ordinary topics are cleaned: retention, compaction, removal of deleted files.",
            ),
            key(
                "log.cleaner.dedupe.buffer.size",
                Kind::Number { min: 1_048_576, max: i32::MAX as i64 },
                Some("134217728"),
                "Memory in bytes for the keys of one compaction.",
            ),
            key(
                "producer.id.expiration.ms",
                Kind::Number { min: 1, max: i32::MAX as i64 },
                Some("86400000"),
                "An idempotent producer that wrote nothing to a partition for so long is forgotten there.",
            ),
        ],
    },
    Section {
        title: "Topics",
        intro: "Ordinary topics of the embedded store.",
        prefixes: &[""],
        keys: &[
            key(
                "num.partitions",
                Kind::Number { min: 1, max: 10_000 },
                Some("1"),
                "Partitions of a new topic that does not say how many.",
            ),
            key(
                "auto.create.topics.enable",
                Kind::Boolean,
                Some("false"),
                "Whether a client that asks for a topic which does not exist makes it. Kafka's own default is true.",
            ),
        ],
    },
    Section {
        title: "Consumer groups",
        intro: "Groups of the embedded store.",
        prefixes: &[""],
        keys: &[
            key("group.min.session.timeout.ms", MILLIS, Some("6000"), "Shortest session that a member may ask for."),
            key("group.max.session.timeout.ms", MILLIS, Some("1800000"), "Longest session that a member may ask for."),
            key(
                "group.consumer.session.timeout.ms",
                MILLIS,
                Some("45000"),
                "How long a member of the consumer protocol (`group.protocol=consumer`) may be silent before it is out.",
            ),
            key(
                "group.consumer.heartbeat.interval.ms",
                MILLIS,
                Some("5000"),
                "How often members of the consumer protocol are to send a heartbeat.",
            ),
            key(
                "group.initial.rebalance.delay.ms",
                MILLIS,
                Some("3000"),
                "How long an empty group waits for more members before it is assigned.",
            ),
            key("group.max.size", COUNT, Some("1000"), "Most members of one group."),
            key(
                "offsets.retention.minutes",
                COUNT,
                Some("10080"),
                "How long the offsets of a group without members are kept.",
            ),
            key(
                "offset.metadata.max.bytes",
                Kind::Number { min: 0, max: i32::MAX as i64 },
                Some("4096"),
                "Longest text that a client may keep with an offset.",
            ),
        ],
    },
    Section {
        title: "Limits",
        intro: "What one client or all of them may ask of a listener.",
        prefixes: &[""],
        keys: &[
            key(
                "socket.request.max.bytes",
                Kind::Number { min: 1024, max: i32::MAX as i64 },
                Some("16777216"),
                "Largest request frame that is read.",
            ),
            key(
                "fetch.max.bytes",
                Kind::Number { min: 1024, max: i32::MAX as i64 },
                Some("16777216"),
                "Most bytes of records in one fetch response, whatever the client asks for; one larger batch is still sent whole.",
            ),
            key(
                "max.incremental.fetch.session.cache.slots",
                COUNT,
                Some("1000"),
                "Most fetch sessions; clients beyond it name all partitions in every fetch.",
            ),
            key(
                "queued.max.request.bytes",
                Kind::Number { min: 1 << 20, max: 1 << 40 },
                Some("67108864"),
                "Most bytes of requests that are decoded or handled and of answers that are not written yet, over all \
                 connections; what finds no room waits. Beyond it come requests and answers below 4 KiB, 16 answers \
                 that are being built, records (which have a budget of their own) and the answers to changes and joins, \
                 which do not wait. Decoded, a request takes up to 16 times its length.",
            ),
            key(
                "max.connections",
                Kind::Number { min: 1, max: 1 << 20 },
                Some("20000"),
                "Most connections at a time, per listener. Those that have not logged in take no place: of them there are at \
                 most 1024, and a newcomer pushes out the oldest.",
            ),
            key(
                "connections.max.idle.ms",
                Kind::Number { min: 1000, max: i64::MAX / 1_000_000 },
                Some("600000"),
                "A client connection without a request for this long is closed.",
            ),
            key(
                "connections.max.reauth.ms",
                Kind::Number { min: 0, max: i64::MAX / 1_000_000 },
                Some("0"),
                "After this long a client must log in again (KIP-368); 0 for never.",
            ),
            key(
                "connection.failed.authentication.delay.ms",
                Kind::Number { min: 0, max: 60_000 },
                Some("100"),
                "How long a failed login waits for its answer.",
            ),
            key(
                "socket.send.buffer.bytes",
                Kind::Number { min: -1, max: 1 << 30 },
                Some("-1"),
                "TCP send buffer; -1 for the system's.",
            ),
            key(
                "socket.receive.buffer.bytes",
                Kind::Number { min: -1, max: 1 << 30 },
                Some("-1"),
                "TCP receive buffer; -1 for the system's.",
            ),
        ],
    },
];

const SERVER_TLS: &[Key] = &[
    key(
        "ssl.keystore.type",
        Kind::Choice(STORE_TYPES),
        None,
        "Format of the key store. Only PEM is read, and needs no type; for others the error has the line that converts them.",
    ),
    key("ssl.keystore.location", Kind::Path, None, "File with the certificate chain and the private key."),
    key("ssl.keystore.password", Kind::Secret, None, "Password of the key store file."),
    key("ssl.keystore.certificate.chain", Kind::Secret, None, "Certificate chain, PEM text."),
    key("ssl.keystore.key", Kind::Secret, None, "Private key, PEM text (PKCS#8)."),
    key("ssl.key.password", Kind::Secret, None, "Password of the private key."),
    key("ssl.truststore.type", Kind::Choice(STORE_TYPES), None, "Format of the trust store; as `ssl.keystore.type`."),
    key("ssl.truststore.location", Kind::Path, None, "File with the certificates that clients are checked against."),
    key("ssl.truststore.password", Kind::Secret, None, "Password of the trust store file."),
    key("ssl.truststore.certificates", Kind::Secret, None, "Trusted certificates, PEM text."),
    key(
        "ssl.client.auth",
        Kind::Choice(&["none", "requested", "required"]),
        Some("none"),
        "Whether clients show a certificate.",
    ),
    key("ssl.enabled.protocols", Kind::List, Some("TLSv1.2,TLSv1.3"), "TLS versions offered."),
    key(
        "ssl.protocol",
        Kind::Text,
        Some("TLSv1.3"),
        "Accepted for files written for Kafka; `ssl.enabled.protocols` decides.",
    ),
    key("ssl.cipher.suites", Kind::List, None, "TLS cipher suites, IANA names. Default: rustls' own list."),
];

const CLIENT: &[Key] = &[
    key(
        "bootstrap.servers",
        Kind::List,
        None,
        "Brokers to begin with, `host:port`; a `PROTOCOL://` in front is accepted.",
    ),
    key("listener.name", Kind::Text, None, "Accepted for files written for the reference; the addresses decide."),
    key("security.protocol", Kind::Choice(PROTOCOLS), Some("PLAINTEXT"), "How to reach them."),
    key(
        "sasl.mechanism",
        Kind::Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        None,
        "How to log in; needed with a SASL protocol.",
    ),
    key("sasl.jaas.config", Kind::Secret, None, "The login, as Kafka's JAAS line."),
    key(
        "ssl.endpoint.identification.algorithm",
        Kind::Text,
        Some("https"),
        "Empty turns the check of the host name in the certificate off.",
    ),
    key("ssl.truststore.type", Kind::Choice(STORE_TYPES), None, "Format of the trust store; as `ssl.keystore.type`."),
    key("ssl.truststore.location", Kind::Path, None, "File with the trusted certificates."),
    key("ssl.truststore.password", Kind::Secret, None, "Password of the trust store file."),
    key("ssl.truststore.certificates", Kind::Secret, None, "Trusted certificates, PEM text."),
    key(
        "ssl.keystore.type",
        Kind::Choice(STORE_TYPES),
        None,
        "Format of the key store (mutual TLS); as `ssl.keystore.type`.",
    ),
    key("ssl.keystore.location", Kind::Path, None, "File with our certificate chain and key."),
    key("ssl.keystore.password", Kind::Secret, None, "Password of the key store file."),
    key("ssl.keystore.certificate.chain", Kind::Secret, None, "Our certificate chain, PEM text."),
    key("ssl.keystore.key", Kind::Secret, None, "Our private key, PEM text (PKCS#8)."),
    key("ssl.key.password", Kind::Secret, None, "Password of the private key."),
    key("ssl.enabled.protocols", Kind::List, Some("TLSv1.2,TLSv1.3"), "TLS versions offered."),
    key(
        "ssl.protocol",
        Kind::Text,
        Some("TLSv1.3"),
        "Accepted for files written for Kafka; `ssl.enabled.protocols` decides.",
    ),
    key("ssl.cipher.suites", Kind::List, None, "TLS cipher suites, IANA names."),
];

/// Every key with its prefix and its section's rank.
pub(crate) fn all() -> impl Iterator<Item = (String, &'static Key)> {
    SECTIONS.iter().flat_map(|section| {
        section.prefixes.iter().flat_map(|prefix| section.keys.iter().map(move |k| (format!("{prefix}{}", k.name), k)))
    })
}

/// The catalogue's entry for `name`, placeholders matched segment by segment.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    all().find(|(pattern, _)| matches(pattern, name)).map(|(_, key)| key)
}

/// The known key that looks most like `name`, if any is near enough to be meant.
pub(crate) fn nearest(name: &str) -> Option<String> {
    all()
        .filter(|(pattern, _)| !pattern.contains('<'))
        .map(|(pattern, _)| (edits(&pattern, name), pattern))
        .min()
        .filter(|(edits, pattern)| *edits <= (pattern.len() / 4).max(2))
        .map(|(_, pattern)| pattern)
}

impl Kind {
    /// Whether values must never be shown.
    pub(crate) fn is_secret(self) -> bool {
        self == Self::Secret
    }

    /// Checks `value`, giving what was expected if it does not fit.
    pub(crate) fn check(self, value: &str) -> Result<(), String> {
        let fits = match self {
            Self::Text | Self::Secret => true,
            Self::Path => !value.trim().is_empty(),
            Self::Number { min, max } => value.trim().parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            Self::Boolean => matches!(value.trim(), "true" | "false"),
            Self::Choice(words) => words.contains(&value.trim()),
            Self::List => value.split(',').all(|item| !item.trim().is_empty()),
            Self::SemicolonList => value.trim().trim_end_matches(';').split(';').all(|item| !item.trim().is_empty()),
            Self::TopicFilters => return TopicFilters::parse(value).map(drop).map_err(|error| error.to_string()),
            Self::HostPort => {
                value.trim().rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok())
            }
        };
        if fits { Ok(()) } else { Err(format!("expected {self}")) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Secret => f.write_str("a secret"),
            Self::Number { min: i64::MIN..=0, max: i64::MAX } => f.write_str("a whole number, 0 or more"),
            Self::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Boolean => f.write_str("true or false"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::List => f.write_str("a list separated by commas, without empty items"),
            Self::SemicolonList => f.write_str("a list separated by semicolons, without empty items"),
            Self::TopicFilters => f.write_str("topic filters in JSON"),
            Self::Path => f.write_str("a path"),
            Self::HostPort => f.write_str("host:port"),
        }
    }
}

/// Whether `name` is `pattern`, where a placeholder stands for any one segment.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern = pattern.split('.');
    let mut name = name.split('.');
    loop {
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some(p), Some(n)) if p == n || (p.starts_with('<') && !n.is_empty()) => {}
            _ => return false,
        }
    }
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
