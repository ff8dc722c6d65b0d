//! Every key of a link configuration, in one table: parsing, error messages and the documentation come from it.

use crate::{Half, Properties};
use std::collections::BTreeMap;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, as operators of Kafka and of cluster links know it.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// Its value when it is not set; `None`: none.
    pub default: Option<&'static str>,
    /// Which halves take it.
    pub belongs: Belongs,
    /// Whether it can be changed on an existing link.
    pub change: Change,
    /// What it does.
    pub doc: &'static str,
    /// Whether something is done with it. Otherwise it is known and checked, and setting it gives a warning.
    pub acted_on: bool,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number in this range, ends included.
    Integer(i64, i64),
    /// Any text.
    Text,
    /// Texts with commas between.
    List,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Topic filters in JSON.
    TopicFilters,
    /// Group filters in JSON.
    GroupFilters,
    /// ACL filters in JSON.
    AclFilters,
    /// Names of topic configs that may follow the source, with commas between.
    TopicConfigs,
    /// `earliest`, `latest` or an ISO-8601 instant.
    StartOffset,
    /// At most 12 characters legal in topic names.
    Prefix,
    /// Secret: never shown, not even in an error.
    Password,
    /// Means something to a JVM only: accepted with a warning.
    Jvm,
}

/// Which halves take a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// Every half.
    Both,
    /// The half that holds mirrors.
    Mirrors,
    /// The half that dials.
    Dials,
    /// The half that lends its local cluster: the source half.
    Lends,
}

/// Whether a key can be changed on an existing link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At creation only.
    Fixed,
    /// Any time; takes effect without a restart of the daemon.
    Live,
}

impl Belongs {
    /// Whether `half` takes it.
    pub fn to(self, half: Half) -> bool {
        match self {
            Self::Both => true,
            Self::Mirrors => half.holds_mirrors(),
            Self::Dials => half.dials(),
            Self::Lends => half.lends_local(),
        }
    }

    /// Where it goes, for somebody who put it elsewhere.
    pub fn place(self) -> &'static str {
        match self {
            Self::Both => "it belongs into either half",
            Self::Mirrors => {
                "it belongs into the half that holds the mirrors: set it on the destination's link (link.mode=DESTINATION)"
            }
            Self::Dials => {
                "it belongs into the half that dials (connection.mode=OUTBOUND): an INBOUND half waits and needs no \
                 address and no login of the other cluster"
            }
            Self::Lends => {
                "it belongs into the source half (link.mode=SOURCE), which logs in to its own cluster with it"
            }
        }
    }
}

const MS_MAX: i64 = i32::MAX as i64;

const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    belongs: Belongs,
    change: Change,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, belongs, change, doc, acted_on: true }
}

impl Key {
    /// A key that nothing is done with yet.
    const fn not_yet(self) -> Self {
        Self { acted_on: false, ..self }
    }
}

use Belongs::{Both, Dials, Lends, Mirrors};
use Change::{Fixed, Live};
use Kind::{
    AclFilters, Boolean, Choice, GroupFilters, Integer, Jvm, List, Password, Prefix, StartOffset, Text, TopicConfigs,
    TopicFilters,
};

/// The table. Keys of the login (`security.protocol`, `ssl.*`, `sasl.*`) stand in [`LOGIN`], as they exist twice.
#[rustfmt::skip]
pub const CATALOGUE: &[Key] = &[
    // Role.
    key("link.mode", Choice(&["DESTINATION", "SOURCE", "BIDIRECTIONAL"]), Some("DESTINATION"), Both, Fixed, "Role of this half."),
    key("connection.mode", Choice(&["OUTBOUND", "INBOUND"]), Some("OUTBOUND"), Both, Fixed, "Whether this half dials the other cluster or waits to be dialled."),
    key("remote.link.connection.mode", Choice(&["OUTBOUND", "INBOUND"]), None, Both, Fixed, "Connection mode of the other half of a bidirectional link, which there is none of yet.").not_yet(),
    key("cluster.link.prefix", Prefix, None, Mirrors, Fixed, "Put before the names of mirror topics."),
    key("consumer.group.prefix.enable", Boolean, Some("false"), Mirrors, Fixed, "Put the prefix before synced group ids too."),
    key("cluster.link.paused", Boolean, Some("false"), Mirrors, Live, "Pauses the whole link."),
    key("mirror.start.offset.spec", StartOffset, Some("earliest"), Mirrors, Live, "Where a new mirror begins: earliest, latest, or an ISO-8601 instant."),
    key("link.prefix", Jvm, None, Both, Live, "An alias in some outputs: the key is cluster.link.prefix."),
    key("cluster.link.id", Jvm, None, Both, Live, "The destination gives it."),
    // Reaching the clusters.
    key("bootstrap.servers", List, None, Dials, Live, "HOST:PORT of brokers of the other cluster; a PROTOCOL:// in front is accepted."),
    key("local.bootstrap.servers", List, None, Lends, Live, "HOST:PORT of brokers of the local cluster; default: the cluster that the daemon stands beside. Brokers named here count as near."),
    key("local.listener.name", Text, None, Lends, Live, "Name of the local cluster's listener. Informative: addresses are those that the bootstrap listener advertises."),
    key("local.listener", Text, None, Lends, Live, "Another spelling of local.listener.name."),
    key("client.dns.lookup", Choice(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"]), Some("use_all_dns_ips"), Dials, Live, "Every address of a name is tried, one after the other. The second value, which Kerberos needs, has no other effect here."),
    // Time-outs.
    key("reconnect.backoff.ms", Integer(1, MS_MAX), Some("50"), Both, Live, "First wait before connecting again; doubles. A source half adds 20 % jitter."),
    key("reconnect.backoff.max.ms", Integer(1, MS_MAX), Some("1000"), Both, Live, "Longest wait before connecting again."),
    key("retry.backoff.ms", Integer(0, MS_MAX), Some("100"), Both, Live, "Wait before a failed request is sent again."),
    key("retry.backoff.max.ms", Integer(0, MS_MAX), Some("1000"), Both, Live, "Longest wait before a failed request is sent again."),
    key("request.timeout.ms", Integer(1, MS_MAX), Some("30000"), Both, Live, "How long an answer is waited for."),
    key("default.api.timeout.ms", Integer(1, MS_MAX), Some("60000"), Both, Live, "How long a question to the source may take, its connection included: one that a task puts, or that is put when a mirror is made; at a source half, one to its own cluster."),
    key("socket.connection.setup.timeout.ms", Integer(100, MS_MAX), Some("10000"), Both, Live, "How long one dial (TCP, TLS, login) may take; where the other half dials, how long a channel is waited for."),
    key("socket.connection.setup.timeout.max.ms", Integer(100, MS_MAX), Some("30000"), Both, Live, "How long setting up a connection with its retries may take."),
    key("connections.max.idle.ms", Integer(1000, i64::MAX), Some("600000"), Both, Live, "A channel, or a connection to the source, without requests for that long is closed."),
    key("metadata.max.age.ms", Integer(100, MS_MAX), Some("300000"), Both, Live, "How often topics and brokers of the source are read again."),
    key("cluster.link.retry.timeout.ms", Integer(0, MS_MAX), Some("300000"), Mirrors, Live, "How long a missing source topic is retried before its mirror is FAILED."),
    key("availability.check.ms", Integer(1000, MS_MAX), Some("60000"), Mirrors, Live, "How often a half that dials asks its source for a sign of life when nothing else is asked; where the source dials, beats tell."),
    key("availability.check.consecutive.failure.threshold", Integer(1, 1000), Some("5"), Mirrors, Live, "Questions without an answer, one after the other at the pace of retries, before a link that dials is UNAVAILABLE."),
    // Fetching.
    key("num.cluster.link.fetchers", Integer(1, 64), Some("2"), Mirrors, Live, "Fetch connections to each source broker: while one writes what came, the next brings more."),
    key("replica.fetch.backoff.ms", Integer(0, MS_MAX), Some("1000"), Mirrors, Live, "Wait after a partition's error."),
    key("replica.fetch.max.bytes", Integer(1024, MS_MAX), Some("5242880"), Mirrors, Live, "Most bytes of one partition in a fetch."),
    key("replica.fetch.min.bytes", Integer(0, MS_MAX), Some("1"), Mirrors, Live, "Bytes that a fetch waits for."),
    key("replica.fetch.response.max.bytes", Integer(1024, MS_MAX), Some("10485760"), Mirrors, Live, "Most bytes that the fetches to one source broker bring at a time; its fetch connections share them."),
    key("replica.fetch.wait.max.ms", Integer(0, 60_000), Some("500"), Mirrors, Live, "How long a fetch waits for its least bytes."),
    key("replica.socket.timeout.ms", Integer(1000, MS_MAX), Some("30000"), Mirrors, Live, "How long a fetch's answer is waited for, beyond replica.fetch.wait.max.ms."),
    key("replica.socket.receive.buffer.bytes", Integer(-1, MS_MAX), Some("-1"), Mirrors, Live, "TCP receive buffer of connections to the source, in bytes; -1 or 0: the system's."),
    // The source half's own say over what leaves.
    key("hawser.egress.topics.filters", TopicFilters, None, Lends, Live, "Topics that may leave this site, in the form of auto.create.mirror.topics.filters; all others are hidden and refused. Unset: all."),
    key("hawser.egress.bytes.per.second", Integer(1024, i64::MAX), None, Lends, Live, "Most bytes a second that leave over this link, all channels together. Unset: no limit."),
    key("hawser.channels.max", Integer(1, 4096), Some("256"), Lends, Live, "Most channels that the destination may have open to this member."),
    // Syncs.
    key("consumer.offset.sync.enable", Boolean, Some("false"), Mirrors, Live, "Copies committed offsets of consumer groups."),
    key("consumer.offset.sync.ms", Integer(1000, MS_MAX), Some("30000"), Mirrors, Live, "How often."),
    key("consumer.offset.group.filters", GroupFilters, None, Mirrors, Live, "Of which groups."),
    key("acl.sync.enable", Boolean, Some("false"), Mirrors, Live, "Copies ACLs that match; removes those that it copied once they are gone at the source."),
    key("acl.sync.ms", Integer(1000, MS_MAX), Some("5000"), Mirrors, Live, "How often."),
    key("acl.filters", AclFilters, None, Mirrors, Live, "Which ACLs."),
    key("auto.create.mirror.topics.enable", Boolean, Some("false"), Mirrors, Live, "Creates mirrors of matching topics, present and future."),
    key("auto.create.mirror.topics.filters", TopicFilters, None, Mirrors, Live, "Which topics."),
    key("topic.config.sync.ms", Integer(1000, MS_MAX), Some("5000"), Mirrors, Live, "How often topic configs are copied."),
    key("topic.config.sync.include", TopicConfigs, None, Mirrors, Live, "Which topic configs are copied. Default: those that say how a log is kept, read and compacted."),
];

/// Keys of a login. Without a prefix they are for the other cluster ([`Belongs::Dials`]); with `local.` in front
/// for the local one ([`Belongs::Lends`]). `transport` gives them their meaning.
#[rustfmt::skip]
pub const LOGIN: &[Key] = &[
    key("security.protocol", Choice(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), Some("PLAINTEXT"), Dials, Live, "TLS or not, login or not."),
    key("sasl.mechanism", Text, None, Dials, Live, "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."),
    key("sasl.jaas.config", Password, None, Dials, Live, "Login as a JAAS line."),
    key("ssl.truststore.type", Choice(&["JKS", "PKCS12", "PEM"]), None, Dials, Live, "Form of the trust store. Only PEM is read, and needs no type."),
    key("ssl.truststore.location", Text, None, Dials, Live, "File of the trusted certificates."),
    key("ssl.truststore.password", Password, None, Dials, Live, "Password of the trust store."),
    key("ssl.truststore.certificates", Password, None, Dials, Live, "Trusted certificates, PEM."),
    key("ssl.keystore.type", Choice(&["JKS", "PKCS12", "PEM"]), None, Dials, Live, "Form of the key store. Only PEM is read, and needs no type."),
    key("ssl.keystore.location", Text, None, Dials, Live, "File of the own certificate and key."),
    key("ssl.keystore.password", Password, None, Dials, Live, "Password of the key store."),
    key("ssl.keystore.key", Password, None, Dials, Live, "Own private key, PEM."),
    key("ssl.keystore.certificate.chain", Password, None, Dials, Live, "Own certificates, PEM."),
    key("ssl.key.password", Password, None, Dials, Live, "Password of the private key."),
    key("ssl.endpoint.identification.algorithm", Choice(&["https", ""]), Some("https"), Dials, Live, "Empty: the host name is not checked."),
    key("ssl.protocol", Text, Some("TLSv1.3"), Dials, Live, "Newest TLS version."),
    key("ssl.enabled.protocols", List, Some("TLSv1.2,TLSv1.3"), Dials, Live, "TLS versions."),
    key("ssl.cipher.suites", List, None, Dials, Live, "Cipher suites."),
    key("ssl.keymanager.algorithm", Jvm, None, Dials, Live, "JVM only."),
    key("ssl.trustmanager.algorithm", Jvm, None, Dials, Live, "JVM only."),
    key("ssl.provider", Jvm, None, Dials, Live, "JVM only."),
    key("ssl.secure.random.implementation", Jvm, None, Dials, Live, "JVM only."),
    key("ssl.engine.factory.class", Jvm, None, Dials, Live, "JVM only."),
    key("security.providers", Jvm, None, Dials, Live, "JVM only."),
    key("sasl.login.class", Jvm, None, Dials, Live, "JVM only."),
    key("sasl.login.callback.handler.class", Jvm, None, Dials, Live, "JVM only."),
    key("sasl.client.callback.handler.class", Jvm, None, Dials, Live, "JVM only."),
    key("sasl.oauthbearer.token.endpoint.url", Jvm, None, Dials, Live, "OAUTHBEARER is not spoken yet."),
    key("sasl.kerberos.service.name", Jvm, None, Dials, Live, "GSSAPI is not spoken."),
    key("sasl.kerberos.kinit.cmd", Jvm, None, Dials, Live, "GSSAPI is not spoken."),
    key("sasl.kerberos.ticket.renew.window.factor", Jvm, None, Dials, Live, "GSSAPI is not spoken."),
    key("sasl.kerberos.ticket.renew.jitter", Jvm, None, Dials, Live, "GSSAPI is not spoken."),
    key("sasl.kerberos.min.time.before.relogin", Jvm, None, Dials, Live, "GSSAPI is not spoken."),
    key("sasl.login.refresh.window.factor", Jvm, None, Dials, Live, "JVM only."),
    key("sasl.login.refresh.window.jitter", Jvm, None, Dials, Live, "JVM only."),
    key("sasl.login.refresh.min.period.seconds", Jvm, None, Dials, Live, "JVM only."),
    key("sasl.login.refresh.buffer.seconds", Jvm, None, Dials, Live, "JVM only."),
];

/// The row of `name`, where `local.` in front of a login key makes it one of the local cluster.
pub fn find(name: &str) -> Option<Key> {
    let plain = |table: &[Key], name: &str| table.iter().find(|key| key.name == name).copied();
    let local = || plain(LOGIN, name.strip_prefix("local.")?).map(|key| Key { belongs: Lends, ..key });
    plain(CATALOGUE, name).or_else(|| plain(LOGIN, name)).or_else(local)
}

/// What of a running half a change of a setting concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: it is read when it is used next.
    WhenUsed,
    /// Whether it fetches.
    Pause,
    /// How it works.
    Work,
    /// How it reaches the other cluster.
    Connection,
}

/// What of a running half a change of `name` concerns.
pub fn effect(name: &str) -> Effect {
    const WHEN_USED: [&str; 5] = ["acl.", "auto.create.", "consumer.", "mirror.start.", "topic.config."];
    match find(name) {
        None => Effect::WhenUsed,
        Some(key) if key.kind == Jvm => Effect::WhenUsed,
        Some(_) if WHEN_USED.iter().any(|prefix| name.starts_with(prefix)) => Effect::WhenUsed,
        Some(_) if name == "cluster.link.paused" => Effect::Pause,
        // Their time-outs are the connections'.
        Some(_) if name == "request.timeout.ms" || name == "connections.max.idle.ms" => Effect::Connection,
        Some(_) if name.starts_with("socket.connection.") || name.starts_with("replica.socket.receive.") => {
            Effect::Connection
        }
        Some(key) if key.belongs == Dials => Effect::Connection,
        Some(_) => Effect::Work,
    }
}

/// `properties` without the keys that only a JVM understands: those were warned about, and a login need not refuse them.
pub fn without_jvm(properties: &Properties) -> Properties {
    let mut known = properties.clone();
    for (name, _) in properties.iter().filter(|(name, _)| find(name).is_some_and(|key| key.kind == Jvm)) {
        known.remove(name);
    }
    known
}

/// Whether the value of `name` is secret.
pub fn is_secret(name: &str) -> bool {
    find(name).is_none_or(|key| key.kind == Password)
}

/// The known name nearest to `name`, if one is near enough to be meant.
pub fn nearest(name: &str) -> Option<String> {
    let plain = CATALOGUE.iter().chain(LOGIN).map(|key| key.name.to_owned());
    let local = LOGIN.iter().map(|key| format!("local.{}", key.name));
    let (distance, best) = plain.chain(local).map(|known| (edits(name, &known), known)).min()?;
    (distance <= 2.max(name.len() / 5)).then_some(best)
}

/// What to say of a name that is none.
pub fn unknown(name: &str) -> String {
    let hint = nearest(name).map(|n| format!(": did you mean {n}?")).unwrap_or_default();
    format!("is not a key of a link{hint}")
}

/// Every key that `half` takes, those of its logins included, by name.
pub fn keys_of(half: Half) -> BTreeMap<String, Key> {
    let own = CATALOGUE.iter().chain(LOGIN).map(|key| (key.name.to_owned(), *key));
    let local = LOGIN.iter().map(|key| (format!("local.{}", key.name), Key { belongs: Lends, ..*key }));
    own.chain(local).filter(|(_, key)| key.belongs.to(half)).collect()
}

/// Levenshtein's distance, in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (diagonal + usize::from(x != y)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_parse() {
        let mut seen = std::collections::BTreeSet::new();
        for key in CATALOGUE.iter().chain(LOGIN) {
            assert!(seen.insert(key.name), "{} twice", key.name);
            assert!(!key.doc.is_empty());
            match (key.kind, key.default) {
                (Integer(min, max), Some(default)) => {
                    let value: i64 = default.parse().expect(key.name);
                    assert!((min..=max).contains(&value), "{}", key.name);
                }
                (Choice(choices), Some(default)) => assert!(choices.contains(&default), "{}", key.name),
                (Boolean, default) => assert!(matches!(default, Some("true" | "false")), "{}", key.name),
                _ => {}
            }
        }
    }

    #[test]
    fn finds_and_guesses() {
        assert_eq!(find("local.sasl.jaas.config").map(|k| k.belongs), Some(Lends));
        assert_eq!(find("sasl.jaas.config").map(|k| k.belongs), Some(Dials));
        assert!(find("local.link.mode").is_none());
        for (typo, meant) in [
            ("bootstrap.server", Some("bootstrap.servers")),
            ("local.sasl.jass.config", Some("local.sasl.jaas.config")),
            ("conection.mode", Some("connection.mode")),
            ("completely.else", None),
        ] {
            assert_eq!(nearest(typo).as_deref(), meant, "{typo}");
        }
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
