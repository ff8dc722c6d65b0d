//! Every key with a good and a bad value; all errors at once; the documentation says what the code does.

use super::*;
use catalogue::Kind;
use std::path::Path;

const LEAST: &str = "listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs=/data\n";

fn parse(text: &str) -> Result<DaemonConfig, ConfigErrors> {
    DaemonConfig::parse(Properties::parse("daemon.properties", text))
}

fn errors(text: &str) -> Vec<String> {
    parse(text).expect_err("must be refused").0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_least_file_has_every_default() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.node_id, 1);
    assert_eq!(config.stop_timeout, Duration::from_secs(30));
    assert_eq!(config.log.segment_bytes, 1 << 30);
    assert_eq!(config.log.flush_interval, Some(Duration::from_secs(1)));
    assert_eq!(config.egress_topics, ["*"]);
    assert_eq!(config.egress_bytes_per_second, None);
    assert_eq!(config.limits.request_bytes_max, 104_857_600);
    assert!(config.local.is_none());
    let listener = ListenerConfig {
        name: "PLAINTEXT".into(),
        protocol: "PLAINTEXT".into(),
        bind: "127.0.0.1:0".into(),
        advertised: None,
    };
    assert_eq!(config.listeners, [listener]);
}

#[test]
fn every_default_fits_its_own_key() {
    for (name, key) in catalogue::all() {
        if let Some(default) = key.default {
            assert_eq!(key.kind.check(default), Ok(()), "{name}");
        }
    }
}

/// A good and a bad value for each kind, put through the whole parser for every key of the catalogue.
#[test]
fn every_key_takes_a_good_value_and_names_a_bad_one() {
    for (pattern, key) in catalogue::all() {
        let name = pattern.replace("<listener>", "plaintext").replace("<mechanism>", "plain");
        let (good, bad) = match (name.as_str(), key.kind) {
            ("listeners", _) => ("PLAINTEXT://:9092", Some(",")),
            ("advertised.listeners", _) => ("PLAINTEXT://host:9092", Some("PLAINTEXT//host")),
            ("listener.security.protocol.map", _) => ("CLIENTS:SSL", Some("CLIENTS:TLS")),
            ("log.dirs", _) => ("/data", Some("/a,/b")),
            (_, Kind::Text | Kind::Secret) => ("x", None),
            (_, Kind::Number { min, .. }) => (&*min.to_string().leak(), Some("many")),
            (_, Kind::Boolean) => ("true", Some("yes")),
            (_, Kind::Choice(words)) => (words[0], Some("NONE_OF_THEM")),
            (_, Kind::List) => ("a,b", Some("a,,b")),
            (_, Kind::SemicolonList) => ("a;b;", Some("a;;b")),
            (_, Kind::Path) => ("/etc/x", Some(" ")),
            (_, Kind::HostPort) => ("127.0.0.1:9", Some("127.0.0.1")),
        };
        let beside = if name.starts_with("local.") { "local.bootstrap.servers=a:1\n" } else { "" };
        let text = |value: &str| format!("{LEAST}{beside}{name}={value}\n");
        parse(&text(good)).unwrap_or_else(|e| panic!("{name}={good}: {e}"));
        if let Some(bad) = bad {
            let errors = errors(&text(bad));
            assert!(errors.iter().any(|e| e.contains(&format!(": {name}: "))), "{name}={bad}: {errors:?}");
        }
    }
}

#[test]
fn all_errors_come_at_once_with_file_line_key_and_expectation() {
    let text = "listners=PLAINTEXT://:9092\n\nnode.id=one\nlog.segment.bytes=1\nhawser.acl=x\nfoo.bar.baz=1\n\
                local.security.protocol=SSL\n";
    assert_eq!(
        errors(text),
        [
            "daemon.properties:6: foo.bar.baz: unknown key; docs/configuration.md lists them all",
            "daemon.properties:5: hawser.acl: unknown key; did you mean hawser.acls?",
            "daemon.properties:1: listners: unknown key; did you mean listeners?",
            "daemon.properties:4: log.segment.bytes: expected a whole number from 14 to 2147483647",
            "daemon.properties:3: node.id: expected a whole number from 0 to 2147483647",
            "daemon.properties: listeners: required; expected a list separated by commas, without empty items",
            "daemon.properties: log.dirs: required; expected a path",
            "daemon.properties:7: local.security.protocol: has no effect without local.bootstrap.servers",
        ]
    );
}

#[test]
fn listeners_that_contradict_each_other_are_named() {
    let dir = "log.dirs=/data\n";
    let cases = [
        ("listeners=CLIENTS://:9092", "CLIENTS: not a protocol; name its protocol in listener.security.protocol.map"),
        ("listeners=SSL://:1,SSL://:2", "SSL: stands there twice; give each listener a name of its own"),
        ("listeners=SSL://:1\nadvertised.listeners=SASL_SSL://h:1", "SASL_SSL: no such listener in listeners"),
        ("listeners=SSL:9092", "SSL:9092: expected NAME://host:port"),
        ("listeners=SSL://:99999", "SSL://:99999: expected NAME://host:port"),
    ];
    for (text, expected) in cases {
        let errors = errors(&format!("{dir}{text}\n"));
        assert!(errors.iter().any(|e| e.ends_with(expected)), "{text}: {errors:?}");
    }
    let config = parse(&format!(
        "{dir}listeners=clients://[::1]:9092\nlistener.security.protocol.map=CLIENTS:SASL_SSL\n\
         advertised.listeners=CLIENTS://public:19092\n"
    ));
    let listener = ListenerConfig {
        name: "CLIENTS".into(),
        protocol: "SASL_SSL".into(),
        bind: "[::1]:9092".into(),
        advertised: Some("public:19092".into()),
    };
    assert_eq!(config.unwrap().listeners, [listener]);
}

#[test]
fn a_dump_and_an_error_hide_secrets() {
    let secret =
        "listener.name.plaintext.plain.sasl.jaas.config=x required user_a=\"hunter2\";\nssl.key.password=hunter2\n";
    let text = format!("{LEAST}{secret}unknown.password=hunter2\nnode.id=hunter2\n");
    let dump = dump(&Properties::parse("f", &text.replace("node.id=hunter2", "node.id=7")));
    assert!(!dump.contains("hunter2"), "{dump}");
    assert!(dump.contains("ssl.key.password=[hidden]\n") && dump.contains("node.id=7\n"), "{dump}");
    assert!(dump.contains("log.segment.bytes=1073741824\n"), "{dump}");
    assert!(!errors(&text).concat().contains("hunter2"));
}

/// `HAWSER_WRITE_DOCS=1 cargo test -p hawser documentation` writes the page anew.
#[test]
fn the_documentation_is_the_catalogue() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = documentation();
    if std::env::var_os("HAWSER_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is out of date: HAWSER_WRITE_DOCS=1 cargo test -p hawser documentation"
    );
}

fn documentation() -> String {
    format!(
        "# Configuration\n\n\
         This page is made from the catalogues in the code (`crates/hawser/src/config/catalogue.rs` and the link\n\
         crate's); a test compares them. Files are Java-style `.properties`. All errors of a file are reported at once, as\n\
         `file:line: key: expectation`. `hawser serve --dump-config FILE` prints every key with the value that holds.\n\n\
         ## A daemon's file\n\n\
         `hawser serve FILE` reads one file.\n{}",
        catalogue::markdown()
    )
}
