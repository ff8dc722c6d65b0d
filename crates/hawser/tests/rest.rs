//! The REST face of a daemon as a process: every path with what it answers when all is well, and every path with every code
//! that it answers when it is not. Every answer is held against `docs/openapi.yaml`.

#[path = "rest/codes.rs"]
mod codes;
#[path = "common/http.rs"]
mod http;
#[path = "rest/https.rs"]
mod https;

use base64::Engine;
use hawser_testkit::batches::{BatchBuilder, Codec};
use hawser_testkit::daemon::DaemonSpec;
use hawser_testkit::fake_source::FakeSource;
use hawser_testkit::ports::free_port;
use http::{Answer, OpenApi, ask};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const C: &str = "/clusters/{cluster_id}";
const LINKS: &str = "/clusters/{cluster_id}/links";
const LINK: &str = "/clusters/{cluster_id}/links/{link_name}";
const CONFIGS: &str = "/clusters/{cluster_id}/links/{link_name}/configs";
const CONFIG: &str = "/clusters/{cluster_id}/links/{link_name}/configs/{config_name}";
const ALTER: &str = "/clusters/{cluster_id}/links/{link_name}/configs:alter";
const MIRRORS: &str = "/clusters/{cluster_id}/links/{link_name}/mirrors";
const MIRROR: &str = "/clusters/{cluster_id}/links/{link_name}/mirrors/{mirror_topic_name}";
const ALL: &str = "/clusters/{cluster_id}/links/-/mirrors";
const VERBS_REFUSED: [&str; 5] = [
    "reverse-and-start-mirror",
    "reverse-and-pause-mirror",
    "promote-local-and-start-remote-mirror",
    "promote-local-and-pause-remote-mirror",
    "truncate-and-restore",
];

/// A daemon's REST with a login.
struct Rest {
    port: u16,
    cluster_id: String,
    link: &'static str,
    openapi: OpenApi,
}

impl Rest {
    /// As `user` (password `USER-secret`), with the file's name of the path and what follows it.
    fn by(&mut self, user: &str, method: &str, path: &str, query: &str, body: Option<&Value>) -> Answer {
        let head = format!("{}Content-Type: application/json\r\n", login(user));
        let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let answer = ask(self.port, method, &format!("{}{query}", self.target(path)), &head, &body);
        self.openapi.check(method, path, &answer);
        answer
    }

    /// The file's name of a path, filled in.
    fn target(&self, path: &str) -> String {
        let target = path
            .replace("{cluster_id}", &self.cluster_id)
            .replace("{link_name}", self.link)
            .replace("{config_name}", "metadata.max.age.ms")
            .replace("{mirror_topic_name}", "orders");
        format!("/kafka/v3{target}")
    }

    fn ok(&mut self, method: &str, path: &str, query: &str, body: Option<&Value>) -> Value {
        let answer = self.by("admin", method, path, query, body);
        assert!(matches!(answer.status, 200 | 204), "{method} {path}{query}: {answer:?}");
        answer.json()
    }

    fn refused(&mut self, (method, path, query): (&str, &str, &str), body: Option<&Value>, (status, code): (u16, u64)) {
        let answer = self.by("admin", method, path, query, body);
        assert_eq!(
            (answer.status, answer.json()["error_code"].as_u64()),
            (status, Some(code)),
            "{method} {path}{query} {body:?}: {answer:?}"
        );
    }
}

fn login(user: &str) -> String {
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{user}-secret"));
    format!("Authorization: Basic {token}\r\n")
}

fn daemon(folder: &Path, name: &str, rest_port: u16) -> DaemonSpec {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let users = ["admin", "viewer", "nobody"].map(|user| format!("user_{user}=\"{user}-secret\"")).join(" ");
    DaemonSpec::new(Path::new(env!("CARGO_BIN_EXE_hawser")), folder, name, "SASL_PLAINTEXT")
        .property("sasl.enabled.mechanisms", "PLAIN")
        .property("listener.name.sasl_plaintext.plain.sasl.jaas.config", &format!("{module} required {users};"))
        .property("hawser.acls", "User:viewer DESCRIBE cluster")
        .property("hawser.rest.listeners", &format!("http://127.0.0.1:{rest_port}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_answers_as_described() {
    let source = FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    for topic in ["orders", "payments", "returns"] {
        source.create(topic, 2);
        source.append(topic, 0, BatchBuilder::at(0).codec(Codec::None).records(50, 100).build());
    }
    tokio::task::spawn_blocking(move || story(&source, &at)).await.unwrap();
}

fn story(_source: &FakeSource, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut daemon = daemon(folder.path(), "rest", port).start().expect("daemon");
    let mut rest = Rest { port, cluster_id: String::new(), link: "west", openapi: OpenApi::read() };

    // Clients begin here, to learn the cluster's id.
    let clusters = rest.ok("GET", "/clusters", "", None);
    rest.cluster_id = clusters["data"][0]["cluster_id"].as_str().unwrap().to_owned();
    assert_eq!(rest.ok("GET", C, "", None), clusters["data"][0]);
    let place = format!("http://localhost:{port}/kafka/v3/clusters");
    assert_eq!(clusters["metadata"]["self"], *place);

    // A link, first only tried out; secrets go in and never come out.
    assert_eq!(rest.ok("GET", LINKS, "", None)["data"], json!([]));
    let configs = json!([
        { "name": "bootstrap.servers", "value": at },
        { "name": "metadata.max.age.ms", "value": "1000" },
        { "name": "ssl.truststore.password", "value": "hunter2" },
    ]);
    let create = json!({ "configs": configs });
    rest.ok("POST", LINKS, "?link_name=west&validate_only=true", Some(&create));
    assert_eq!(rest.ok("GET", LINKS, "", None)["data"], json!([]));
    // What is taken without effect is said in a header.
    let harmless =
        json!({ "configs": [{ "name": "bootstrap.servers", "value": at }, { "name": "source.x", "value": "1" }] });
    let warned = rest.by("admin", "POST", LINKS, "?link_name=west&validate_only=true", Some(&harmless));
    assert_eq!(warned.status, 204, "{warned:?}");
    assert!(warned.head.contains("hawser-warning: link west: source.x: has no effect"), "{warned:?}");
    rest.ok("POST", LINKS, "/?link_name=west".trim_start_matches('/'), Some(&create));
    rest.refused(("POST", LINKS, "?link_name=west"), Some(&create), (409, 40902));
    let link = until("link", || {
        let link = rest.ok("GET", LINK, "?include_tasks=true", None);
        (link["link_state"] == "ACTIVE").then_some(link)
    });
    assert_eq!((&link["link_name"], &link["link_error"]), (&json!("west"), &json!("NO_ERROR")));
    assert!(link["tasks"].is_array() && link["cluster_link_id"].as_str().is_some_and(|id| id.len() == 22), "{link}");
    // When each task ran, and what it did.
    until("a run", || {
        let link = rest.ok("GET", LINK, "?include_tasks=true", None);
        let tasks = link["tasks"].as_array().unwrap();
        let configs = tasks.iter().find(|task| task["task_name"] == "TopicConfigsSync").expect("the task");
        (configs["runs"].as_u64() > Some(0)).then(|| {
            assert!(configs["last_run_ms"].is_i64() && configs["changed"] == 0 && configs["skipped"] == 0, "{link}");
        })
    });
    let older = link["link_id"].as_str().unwrap();
    assert_eq!(older.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{link}");
    assert_eq!(link["metadata"]["self"], format!("{place}/{}/links/west", rest.cluster_id));

    // Its settings, in both spellings.
    let all = rest.ok("GET", CONFIGS, "", None);
    assert!(!all.to_string().contains("hunter2"), "{all}");
    let one = rest.ok("GET", CONFIG, "", None);
    assert_eq!((&one["value"], &one["is_default"], &one["default"]), (&json!("1000"), &json!(false), &json!(false)));
    assert!(all["data"].as_array().unwrap().contains(&one), "{all}");
    rest.ok("PUT", CONFIG, "", Some(&json!({ "value": "2000" })));
    assert_eq!(rest.ok("GET", CONFIG, "", None)["value"], "2000");
    let batch =
        |value: &str| json!({ "data": [{ "name": "metadata.max.age.ms", "value": value, "operation": "SET" }] });
    rest.ok("PUT", ALTER, "?validate_only=true", Some(&batch("3000")));
    assert_eq!(rest.ok("GET", CONFIG, "", None)["value"], "2000");
    rest.ok("PUT", ALTER, "", Some(&batch("4000")));
    assert_eq!(rest.ok("GET", CONFIG, "", None)["value"], "4000");
    rest.ok("DELETE", CONFIG, "", None);
    let one = rest.ok("GET", CONFIG, "", None);
    assert_eq!((&one["is_default"], &one["source"]), (&json!(true), &json!("DEFAULT_CONFIG")));

    // Mirrors.
    rest.ok(
        "POST",
        MIRRORS,
        "",
        Some(&json!({ "source_topic_name": "orders", "replication_factor": 1, "configs": [] })),
    );
    rest.ok("POST", MIRRORS, "", Some(&json!({ "source_topic_name": "payments", "mirror_topic_name": "payments" })));
    rest.refused(("POST", MIRRORS, ""), Some(&json!({ "source_topic_name": "orders" })), (400, 40002));
    let mirror = until("caught up", || {
        let mirror = rest.ok("GET", MIRROR, "?include_state_transition_errors=true", None);
        (mirror["mirror_lags"][0] == json!({ "partition": 0, "lag": 0, "last_source_fetch_offset": 50 }))
            .then_some(mirror)
    });
    assert_eq!((&mirror["mirror_status"], &mirror["mirror_topic_error"]), (&json!("ACTIVE"), &json!("NO_ERROR")));
    for path in [MIRRORS, ALL] {
        let names = |list: Value| {
            list["data"].as_array().unwrap().iter().map(|m| m["mirror_topic_name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(rest.ok("GET", path, "", None)), ["orders", "payments"]);
        assert_eq!(names(rest.ok("GET", path, "?mirror_status=active", None)), ["orders", "payments"]);
        assert_eq!(names(rest.ok("GET", path, "?mirror_status=STOPPED", None)), [""; 0]);
    }
    assert_eq!(rest.ok("GET", LINK, "", None)["topic_names"], json!(["orders", "payments"]));
    codes::cross(&mut rest);

    // What can be done to them.
    let orders = json!({ "mirror_topic_names": ["orders"] });
    for (verb, status) in [("pause", "PAUSED"), ("resume", "ACTIVE"), ("failover", "STOPPED")] {
        let path = format!("{MIRRORS}:{verb}");
        let done = rest.ok("POST", &path, "", Some(&orders));
        assert_eq!(
            (&done["data"][0]["mirror_topic_name"], &done["data"][0]["error_code"]),
            (&json!("orders"), &Value::Null),
            "{done}"
        );
        until(status, || (rest.ok("GET", MIRROR, "", None)["mirror_status"] == status).then_some(()));
    }
    let promote = format!("{MIRRORS}:promote");
    let again = rest.ok("POST", &promote, "", Some(&json!({ "mirror_topic_names": ["orders", "none"] })));
    assert_eq!(
        (&again["data"][0]["error_code"], &again["data"][1]["error_code"]),
        (&json!(400), &json!(40403)),
        "{again}"
    );
    rest.ok("POST", &promote, "?validate_only=true", Some(&json!({ "mirror_topic_name_pattern": "pay.*" })));
    for verb in VERBS_REFUSED {
        rest.refused(("POST", &format!("{MIRRORS}:{verb}"), ""), Some(&orders), (400, 40035));
    }

    codes::the_cluster_does_not_answer(&mut rest, folder.path());
    codes::the_disk_takes_nothing(&mut rest, folder.path(), at);
    codes::each_is_shown_or_never_occurs(&rest.openapi);

    // The end.
    rest.refused(("DELETE", LINK, ""), None, (403, 40301));
    rest.refused(("DELETE", LINK, "?validate_only=true"), None, (403, 40301));
    rest.ok("DELETE", LINK, "?force=true&validate_only=true", None);
    rest.ok("DELETE", LINK, "?force=true", None);
    rest.refused(("GET", LINK, ""), None, (404, 404));

    for (operation, statuses) in rest.openapi.operations() {
        for status in statuses.iter().filter(|status| status.starts_with('2')) {
            assert!(
                rest.openapi.seen.contains(&format!("{operation} {status}")),
                "{operation} never answered {status}"
            );
        }
    }
    let log = daemon.log();
    assert!(!log.contains("panicked") && !log.contains("hunter2") && !log.contains("-secret"), "{log}");
    for (verdict, operation, subject) in [
        ("dry run", "link create", "west"),
        ("done", "link create", "west"),
        ("done", "mirror create", "west/orders"),
        ("refused", "mirror create", "west/orders"),
        ("done", "mirror pause", "west/orders"),
        ("accepted", "mirror failover", "west/orders"),
        ("refused", "mirror promote", "west/orders"),
        ("dry run", "mirror promote", "west/payments"),
        ("dry run", "link delete", "west"),
    ] {
        let line = format!("audit: {verdict} principal=\"User:admin\" operation=\"{operation}\" subject=\"{subject}\"");
        assert!(log.contains(&line), "no {line} in\n{log}");
    }
    let promoted = "operation=\"mirror promote\" subject=\"west/payments\"";
    let verdicts = log.lines().filter(|line| line.contains(promoted)).filter(|line| line.contains("done"));
    assert_eq!(verdicts.count(), 0, "a dry run is called done");
    daemon.stop().unwrap();
}

fn until<T>(what: &str, mut good: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = good() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
