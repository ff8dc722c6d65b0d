//! Every key with a good and a bad value; all errors at once; the documentation says what the code does.

use super::*;
use catalogue::Kind;
use std::path::Path;

const LEAST: &str = "listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs=/data\n";

fn parse(text: &str) -> Result<DaemonConfig, ConfigErrors> {
    DaemonConfig::parse(&Properties::parse("daemon.properties", text))
}

fn errors(text: &str) -> Vec<String> {
    parse(text).err().expect("must be refused").0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_least_file_has_every_default() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.broker.node_id.0, 1);
    assert_eq!(config.stop_timeout, Duration::from_secs(30));
    assert_eq!(config.log.segment_bytes, 1 << 30);
    assert_eq!(config.log.flush_interval, Some(Duration::from_secs(1)));
    assert!(config.local.is_none() && config.metrics_listener.is_none());
    let [listener] = config.listeners.as_slice() else { panic!("one listener") };
    assert_eq!((listener.name.as_str(), listener.bind.as_str()), ("PLAINTEXT", "127.0.0.1:0"));
    assert_eq!(listener.security.protocol(), SecurityProtocol::Plaintext);
}

/// The broker's defaults and the catalogue's are the same figures.
#[test]
fn defaults_are_those_of_the_components() {
    let (mut read, default) = (parse(LEAST).unwrap().broker, BrokerConfig::default());
    let shown = std::mem::take(&mut read.settings);
    assert!(shown.iter().any(|setting| setting.name == "log.dirs" && setting.is_set));
    assert!(shown.iter().any(|setting| setting.name == "num.partitions" && !setting.is_set));
    assert_eq!(format!("{read:?}"), format!("{default:?}"));
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
            ("listeners", _) => ("PLAINTEXT://host:9092", Some(",")),
            ("advertised.listeners", _) => ("PLAINTEXT://host:9092", Some("PLAINTEXT//host")),
            ("listener.security.protocol.map", _) => ("CLIENTS:SSL", Some("CLIENTS:TLS")),
            ("local.bootstrap.servers", _) => ("a:1,SASL_SSL://b:2", Some("a")),
            ("super.users", _) => ("User:a;User:b;", Some("a")),
            ("hawser.acls", _) => ("User:a ALTER cluster;", Some("User:a FLY cluster")),
            ("log.dirs", _) => ("/data", Some("/a,/b")),
            ("hawser.rest.listeners", _) => ("http://localhost:8090,http://[::1]:0", Some("http://0.0.0.0:8090")),
            (_, Kind::Text | Kind::Secret) => ("x", None),
            (_, Kind::Number { min, .. }) => (&*min.to_string().leak(), Some("many")),
            (_, Kind::Boolean) => ("true", Some("yes")),
            (_, Kind::Choice(words)) => (words[0], Some("NONE_OF_THEM")),
            (_, Kind::List) => ("a,b", Some("a,,b")),
            (_, Kind::SemicolonList) => ("a;b;", Some("a;;b")),
            (_, Kind::Path) => ("/etc/x", Some(" ")),
            (_, Kind::HostPort) => ("127.0.0.1:9", Some("127.0.0.1")),
            (_, Kind::TopicFilters) => (r#"{"topicFilters":[]}"#, Some("public-*")),
        };
        let beside = if name.starts_with("local.") && name != "local.bootstrap.servers" {
            "local.bootstrap.servers=a:1\n"
        } else {
            ""
        };
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
        "{dir}listeners=clients://[::1]:9092\nlistener.security.protocol.map=CLIENTS:SASL_PLAINTEXT\n\
         sasl.enabled.mechanisms=PLAIN\nlistener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_a=\"b\";\n\
         advertised.listeners=CLIENTS://public:19092\n"
    ));
    let config = config.unwrap();
    let [listener] = config.listeners.as_slice() else { panic!("one listener") };
    assert_eq!((listener.name.as_str(), listener.bind.as_str()), ("CLIENTS", "[::1]:9092"));
    assert_eq!(listener.advertised.as_deref(), Some("public:19092"));
    assert_eq!(listener.security.protocol(), SecurityProtocol::SaslPlaintext);
}

#[test]
fn the_site_says_once_for_all_links_what_may_leave() {
    let key = "hawser.egress.topics.filters";
    let filters = r#"{"topicFilters":[{"name":"public-","patternType":"PREFIXED","filterType":"INCLUDE"}]}"#;
    let config = DaemonConfig::parse(&Properties::parse("f", &format!("{LEAST}{key}={filters}\n"))).unwrap();
    let egress = config.egress.expect("a policy");
    assert!(egress.includes("public-prices") && !egress.includes("salaries"));
    assert!(DaemonConfig::parse(&Properties::parse("f", LEAST)).unwrap().egress.is_none());
    let wrong = errors(&format!("{LEAST}{key}=public-*\n")).concat();
    assert!(wrong.contains(key), "{wrong}");
}

#[test]
fn a_dump_and_an_error_hide_secrets() {
    let secret =
        "listener.name.plaintext.plain.sasl.jaas.config=x required user_a=\"hunter2\";\nssl.key.password=hunter2\n";
    let text = format!("{LEAST}{secret}unknown.password=hunter2\nnode.id=hunter2\n");
    let dump = dump(&Properties::parse("f", &text.replace("node.id=hunter2", "node.id=7")));
    assert!(!dump.contains("hunter2"), "{dump}");
    assert!(dump.contains("ssl.key.password=[hidden]\n") && dump.contains("node.id=7\n"), "{dump}");
    assert!(dump.contains("# Size at which a new segment begins.\nlog.segment.bytes=1073741824\n"), "{dump}");
    assert!(dump.contains("\n## Log\n"), "{dump}");
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
         This page is made from the catalogues in the code (`crates/hawser/src/config/catalogue.rs` and\n\
         `crates/link/src/catalogue.rs`); a test compares them. Files are Java-style `.properties`. All errors of a file are\n\
         reported at once, as `file:line: key: expectation`.\n\n\
         ## A daemon's file\n\n\
         `hawser serve FILE` reads one file. `hawser serve --dump-config FILE` checks it and prints every key with the value\n\
         that holds.\n{}\n\
         ## A link half's file\n\n\
         `hawser link create NAME --config-file FILE` takes one half's settings. *Half* says which halves a key is for: \
         those that\n*dial* the other cluster, those that hold *mirrors*, those that *lend* their local cluster over the \
         connections that they\ndial (source halves), or *both* sides. *Change* says whether a running link takes a new \
         value.\nA key that is *not acted on yet* is checked and kept, and gives a warning when it is set.\n\n{}\n\
         ### Logins\n\n\
         Without a prefix for the cluster that is dialled; with `local.` in front for the local cluster of a source half. \
         The\nlatter never cross the link. A source half without any takes those of the daemon's file.\n\n{}",
        daemon_tables(),
        link_table(hawser_link::catalogue::CATALOGUE),
        link_table(hawser_link::catalogue::LOGIN),
    )
}

fn link_table(keys: &[hawser_link::catalogue::Key]) -> String {
    use hawser_link::catalogue::Kind as LinkKind;
    let mut table = String::from("| key | value | default | half | change | meaning |\n|---|---|---|---|---|---|\n");
    for key in keys {
        let value = match key.kind {
            LinkKind::Integer(min, i64::MAX) => format!("{min} or more"),
            LinkKind::Integer(min, max) => format!("{min} to {max}"),
            LinkKind::Choice(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}").to_lowercase(),
        };
        let default = key.default.map_or("–".to_owned(), |d| format!("`{d}`"));
        let half = format!("{:?}", key.belongs).to_lowercase();
        let change = format!("{:?}", key.change).to_lowercase();
        let doc = if key.acted_on { key.doc.to_owned() } else { format!("*Not acted on yet.* {}", key.doc) };
        table.push_str(&format!("| `{}` | {value} | {default} | {half} | {change} | {doc} |\n", key.name));
    }
    table
}

fn daemon_tables() -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for section in catalogue::SECTIONS {
        let _ = write!(out, "\n### {}\n\n{}\n\n", section.title, section.intro);
        if let [prefix] = section.prefixes
            && !prefix.is_empty()
        {
            let _ = write!(out, "Each with `{prefix}` in front.\n\n");
        }
        out.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let default = match (key.default, key.required) {
                (_, true) => "**required**".to_owned(),
                (Some(value), _) => format!("`{value}`"),
                (None, _) => "–".to_owned(),
            };
            let _ = writeln!(out, "| `{}` | {} | {default} | {} |", key.name, key.kind, key.doc.replace('|', "\\|"));
        }
    }
    out
}

#[test]
fn rest_is_off_until_it_is_asked_for_and_http_stays_on_this_machine() {
    let config = parse(LEAST).unwrap();
    assert!(config.rest.is_empty() && config.rest_authentication == Authentication::Basic);
    let config = parse(&format!("{LEAST}hawser.rest.listeners=http://127.0.0.1:0\nhawser.rest.authentication=NONE\n"));
    let config = config.unwrap();
    assert_eq!((config.rest[0].bind.as_str(), config.rest_authentication), ("127.0.0.1:0", Authentication::None));
    let config = parse(
        "listeners=PLAINTEXT://0.0.0.0:0\nadvertised.listeners=PLAINTEXT://hub:9092\nlog.dirs=/tmp/x\n\
         hawser.rest.listeners=http://[::1]:0\n",
    );
    assert_eq!(config.unwrap().hosts().collect::<Vec<_>>(), ["0.0.0.0", "hub", "::1"]);
    for (listener, expected) in [
        ("http://10.0.0.1:8090", "carries passwords in the clear"),
        ("http://:8090", "carries passwords in the clear"),
        ("https://0.0.0.0:8090", "ssl.keystore"),
        ("ftp://127.0.0.1:1", "expected https://host:port"),
        ("http://127.0.0.1", "expected https://host:port"),
    ] {
        let found = errors(&format!("{LEAST}hawser.rest.listeners={listener}\n"));
        assert!(found.iter().any(|error| error.contains(expected)), "{listener}: {found:?}");
    }
}
