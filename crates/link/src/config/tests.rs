//! Every key with a bad value, keys in the wrong half, unknown keys, and the files of the scenarios.

use super::*;
use crate::catalogue::{Belongs, CATALOGUE, LOGIN};

fn parse(text: &str) -> Result<Parsed, ConfigErrors> {
    LinkConfig::parse(&Properties::parse("link.config", text))
}

fn errors(text: &str) -> String {
    parse(text).map(|_| ()).expect_err(text).to_string()
}

const SOURCE: &str = "link.mode=SOURCE\nconnection.mode=OUTBOUND\nbootstrap.servers=cloud:9092\n";
const DESTINATION: &str = "link.mode=DESTINATION\nconnection.mode=INBOUND\n";

#[test]
fn scenario_a3_source_half() {
    let text = "link.mode=SOURCE\nconnection.mode=OUTBOUND\n\nbootstrap.servers=SASL_SSL://cloud:9092\n\
        ssl.endpoint.identification.algorithm=https\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n\
        sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username='k' password='s';\n\
        local.listener.name=SASL_PLAINTEXT\nlocal.security.protocol=SASL_PLAINTEXT\n\
        local.sasl.mechanism=SCRAM-SHA-512\nlocal.sasl.jaas.config=x required username=\"u\" password=\"p\";\n";
    let parsed = parse(text).expect("scenario A3");
    assert!(parsed.warnings.is_empty());
    assert_eq!(parsed.config.half, Half::SourceOutbound);
    assert_eq!(parsed.config.bootstrap_servers, ["SASL_SSL://cloud:9092"]);
    assert_eq!(parsed.config.lends.listener.as_deref(), Some("SASL_PLAINTEXT"));
    assert!(parsed.config.lends.topics.is_none());
}

#[test]
fn defaults_are_the_reference_s() {
    let config = parse(DESTINATION).expect("scenario A1").config;
    assert_eq!(config.half, Half::DestinationInbound);
    assert_eq!(config.mirrors.fetch_partition_bytes_max, 5_242_880);
    assert_eq!(config.mirrors.fetch_bytes_max, 10_485_760);
    assert_eq!(config.mirrors.fetch_wait_max, Duration::from_millis(500));
    assert_eq!(config.mirrors.start, StartOffset::Earliest);
    assert_eq!(config.connection.reconnect_backoff, Duration::from_millis(50));
    assert_eq!(config.connection.reconnect_backoff_max, Duration::from_secs(1));
    assert_eq!(config.connection.idle_max, Duration::from_secs(600));
    assert!(config.mirrors.auto_create.is_none() && config.mirrors.offset_sync.is_none());
}

#[test]
fn mode_pairs() {
    for (link, connection, half) in [
        ("DESTINATION", "OUTBOUND", Some(Half::DestinationOutbound)),
        ("destination", "inbound", Some(Half::DestinationInbound)),
        ("SOURCE", "OUTBOUND", Some(Half::SourceOutbound)),
        ("SOURCE", "INBOUND", None),
        ("BIDIRECTIONAL", "OUTBOUND", Some(Half::BidirectionalOutbound)),
        ("BIDIRECTIONAL", "INBOUND", Some(Half::BidirectionalInbound)),
        ("BOTH", "INBOUND", None),
    ] {
        let servers = if connection == "OUTBOUND" { "bootstrap.servers=h:1" } else { "" };
        let parsed = parse(&format!("link.mode={link}\nconnection.mode={connection}\n{servers}"));
        assert_eq!(parsed.ok().map(|p| p.config.half), half, "{link} {connection}");
    }
}

#[test]
fn every_key_with_a_bad_value() {
    for key in CATALOGUE {
        let bad = match key.kind {
            Kind::Boolean => "maybe",
            Kind::Integer(..) => "ten",
            Kind::Choice(_) => "NEITHER",
            Kind::TopicFilters | Kind::GroupFilters | Kind::AclFilters => "{oops",
            Kind::TopicConfigs => "retention.ms,bogus",
            Kind::StartOffset => "yesterday",
            Kind::Prefix => "much-too-long-a-prefix",
            Kind::Text | Kind::List | Kind::Password | Kind::Jvm => continue,
        };
        let base = if key.belongs == Belongs::Lends { SOURCE } else { DESTINATION };
        let text = format!("# a comment\n{}={bad}\n{base}", key.name);
        let error = match parse(&text) {
            // `link.mode` and `connection.mode` are set twice then; the last wins.
            Ok(_) => errors(&format!("{base}{}={bad}\n", key.name)),
            Err(errors) => errors.to_string(),
        };
        assert!(error.contains(&format!("{}: ", key.name)), "{error}");
        assert!(error.starts_with("link.config:"), "{error}");
    }
}

#[test]
fn every_key_in_the_wrong_half() {
    let login = LOGIN
        .iter()
        .flat_map(|key| [(key.name.to_owned(), Belongs::Dials), (format!("local.{}", key.name), Belongs::Lends)]);
    for (name, belongs) in CATALOGUE.iter().map(|k| (k.name.to_owned(), k.belongs)).chain(login) {
        let (base, place) = match belongs {
            Belongs::Both => continue,
            Belongs::Mirrors => (SOURCE, "link.mode=DESTINATION"),
            Belongs::Dials => (DESTINATION, "connection.mode=OUTBOUND"),
            Belongs::Lends => (DESTINATION, "link.mode=SOURCE"),
        };
        let error = errors(&format!("{base}{name}=1\n"));
        assert!(error.contains(place) && error.contains(&name), "{error}");
    }
}

#[test]
fn all_errors_at_once_with_their_lines() {
    let error = errors(
        "link.mode=SOURCE\nconnection.mode=OUTBOUND\nreconnect.backoff.ms=x\nauto.create.mirror.topics.enable=true\n\
         botstrap.servers=a:1\nlocal.sasl.jaas.conf=secret-value\n",
    );
    for (line, says) in [
        ("link.config:3: reconnect.backoff.ms", "whole number"),
        ("link.config:4: auto.create.mirror.topics.enable", "destination's link"),
        ("link.config:5: botstrap.servers", "did you mean bootstrap.servers?"),
        ("link.config:6: local.sasl.jaas.conf", "did you mean local.sasl.jaas.config?"),
        ("link.config: bootstrap.servers", "is needed"),
    ] {
        assert!(error.lines().any(|l| l.starts_with(line) && l.contains(says)), "{line} {says} in\n{error}");
    }
    assert!(!error.contains("secret-value"));
}

#[test]
fn meaningless_keys_warn() {
    let text = format!("{SOURCE}ssl.keymanager.algorithm=SunX509\nsource.bootstrap.servers=x:1\n");
    let warnings = parse(&text).expect("warnings only").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|w| w.line > 0 && w.message.contains("no effect")));
}

/// Nobody is to believe that offsets are synced because the key was taken.
#[test]
fn keys_that_are_not_acted_on_warn() {
    let text = format!("{SOURCE}availability.check.ms=60000\nremote.link.connection.mode=INBOUND\n");
    let text = text.replace("SOURCE", "DESTINATION") + "client.dns.lookup=resolve_canonical_bootstrap_servers_only\n";
    let warnings = parse(&text).expect("warnings only").warnings;
    let keys: Vec<_> = warnings.iter().map(|w| (w.key.as_str(), w.line)).collect();
    assert_eq!(keys, [("remote.link.connection.mode", 5), ("client.dns.lookup", 6)]);
    let said = warnings[0].to_string();
    assert!(said.contains("is not acted on yet") && said.contains("bidirectional link"), "{said}");
    assert!(warnings[1].to_string().contains("has no effect here"), "{}", warnings[1]);
    assert!(
        parse(&text.replace("resolve_canonical_bootstrap_servers_only", "use_all_dns_ips")).unwrap().warnings.len()
            == 1
    );
}

#[test]
fn waits_and_buffers_of_the_client() {
    let config = |more: &str| parse(&format!("{DESTINATION}{more}\n")).expect("valid");
    let defaults = config("");
    assert!(defaults.warnings.is_empty());
    let defaults = defaults.config;
    assert_eq!(
        (defaults.connection.api_timeout, defaults.mirrors.fetch_timeout),
        (Duration::from_secs(60), Duration::from_secs(30))
    );
    assert_eq!(defaults.mirrors.receive_buffer_bytes, None);
    let set = config(
        "default.api.timeout.ms=5000\nreplica.socket.timeout.ms=7000\nreplica.socket.receive.buffer.bytes=65536",
    );
    assert!(set.warnings.is_empty(), "{:?}", set.warnings);
    let set = set.config;
    assert_eq!(
        (set.connection.api_timeout, set.mirrors.fetch_timeout),
        (Duration::from_secs(5), Duration::from_secs(7))
    );
    assert_eq!(set.mirrors.receive_buffer_bytes, Some(65536));
    assert_eq!(config("replica.socket.receive.buffer.bytes=0").config.mirrors.receive_buffer_bytes, None);
}

#[test]
fn rules_between_keys() {
    for (text, says) in [
        ("auto.create.mirror.topics.enable=true", "needs auto.create.mirror.topics.filters"),
        ("consumer.offset.sync.enable=true", "needs consumer.offset.group.filters"),
        ("acl.sync.enable=true", "needs acl.filters"),
        ("acl.sync.enable=true\nacl.filters={}\ncluster.link.prefix=p.", "not possible together"),
        ("consumer.group.prefix.enable=true", "needs cluster.link.prefix"),
        ("reconnect.backoff.ms=2000", "is below reconnect.backoff.ms"),
        ("socket.connection.setup.timeout.ms=40000", "is below socket.connection.setup.timeout.ms"),
    ] {
        let error = errors(&format!("{DESTINATION}{text}\n"));
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn start_offsets() {
    for (text, expected) in [
        ("earliest", Some(StartOffset::Earliest)),
        ("LATEST", Some(StartOffset::Latest)),
        ("1970-01-01T00:00:00Z", Some(StartOffset::Timestamp(0))),
        ("2026-11-21T09:37:41Z", Some(StartOffset::Timestamp(1_795_253_861_000))),
        ("2026-11-21T10:37:41.5+01:00", Some(StartOffset::Timestamp(1_795_253_861_500))),
        ("2024-02-29T00:00:00.123456Z", Some(StartOffset::Timestamp(1_709_164_800_123))),
        ("2024-02-29T00:00:00+18:00", Some(StartOffset::Timestamp(1_709_100_000_000))),
        ("2024-02-29T00:00:00+18:01", None),
        ("2024-02-29T00:00:00+00:60", None),
        ("2024-02-29T00:00:00+9223372036854775807:00", None),
        ("2023-02-29T00:00:00Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-11-21", None),
        ("2026-11-21T09:37:41", None),
        ("2026-11-21T24:00:00Z", None),
        ("+026-11-21T09:00:00Z", None),
        ("", None),
    ] {
        assert_eq!(start_offset(text), expected, "{text}");
    }
}
