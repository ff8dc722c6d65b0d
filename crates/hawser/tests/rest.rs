//! The REST face of a daemon as a process: every path with what it answers when all is well, and a table of what it answers
//! when it is not. Every answer is held against `docs/openapi.yaml`.

#[path = "common/http.rs"]
mod http;
#[path = "rest/https.rs"]
mod https;

use base64::Engine;
use hawser_testkit::batches::{BatchBuilder, Codec};
use hawser_testkit::daemon::{Daemon, DaemonSpec};
use hawser_testkit::fake_source::FakeSource;
use hawser_testkit::ports::free_port;
use http::{Answer, OpenApi, ask};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
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
        let target = path
            .replace("{cluster_id}", &self.cluster_id)
            .replace("{link_name}", self.link)
            .replace("{config_name}", "metadata.max.age.ms")
            .replace("{mirror_topic_name}", "orders");
        let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{user}-secret"));
        let head = format!("Authorization: Basic {token}\r\nContent-Type: application/json\r\n");
        let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let answer = ask(self.port, method, &format!("/kafka/v3{target}{query}"), &head, &body);
        self.openapi.check(method, path, &answer);
        answer
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

fn daemon(folder: &Path, rest_port: u16) -> Daemon {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let users = ["admin", "viewer", "nobody"].map(|user| format!("user_{user}=\"{user}-secret\"")).join(" ");
    DaemonSpec::new(Path::new(env!("CARGO_BIN_EXE_hawser")), folder, "rest", "SASL_PLAINTEXT")
        .property("sasl.enabled.mechanisms", "PLAIN")
        .property("listener.name.sasl_plaintext.plain.sasl.jaas.config", &format!("{module} required {users};"))
        .property("hawser.acls", "User:viewer DESCRIBE cluster")
        .property("hawser.rest.listeners", &format!("http://127.0.0.1:{rest_port}"))
        .start()
        .expect("daemon")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_answers_as_described() {
    let source = FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    for topic in ["orders", "payments"] {
        source.create(topic, 2);
        source.append(topic, 0, BatchBuilder::at(0).codec(Codec::None).records(50, 100).build());
    }
    tokio::task::spawn_blocking(move || story(&source, &at)).await.unwrap();
}

fn story(_source: &FakeSource, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut daemon = daemon(folder.path(), port);
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
    rest.ok("POST", LINKS, "/?link_name=west".trim_start_matches('/'), Some(&create));
    rest.refused(("POST", LINKS, "?link_name=west"), Some(&create), (409, 40902));
    let link = until("link", || {
        let link = rest.ok("GET", LINK, "?include_tasks=true", None);
        (link["link_state"] == "ACTIVE").then_some(link)
    });
    assert_eq!((&link["link_name"], &link["link_error"]), (&json!("west"), &json!("NO_ERROR")));
    assert!(link["tasks"].is_array() && link["cluster_link_id"].as_str().is_some_and(|id| id.len() == 22), "{link}");
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
    errors(&mut rest);

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
    daemon.stop().unwrap();
}

/// Path × error.
fn errors(rest: &mut Rest) {
    // Nobody, somebody else, somebody with too few rights: on every path alike.
    let operations = rest.openapi.operations();
    let changes =
        |operation: &str| !operation.starts_with("GET") && !VERBS_REFUSED.iter().any(|v| operation.ends_with(v));
    for (operation, _) in &operations {
        let (method, path) = operation.split_once(' ').unwrap();
        let query = if path == LINKS { "?link_name=east" } else { "" };
        let body = match path {
            LINKS | MIRRORS => {
                json!({ "source_topic_name": "orders", "configs": [{ "name": "connection.mode", "value": "INBOUND" }] })
            }
            CONFIG => json!({ "value": "5000" }),
            ALTER => json!({ "data": [{ "name": "metadata.max.age.ms", "value": "5000" }] }),
            _ => json!({ "mirror_topic_names": ["orders"] }),
        };
        let body = (method != "GET").then_some(&body);
        let code = |answer: &Answer| (answer.status, answer.json()["error_code"].as_u64().unwrap_or_default());
        let denied = rest.by("nobody", method, path, query, body);
        assert_eq!(code(&denied), (403, 40301), "nobody {operation}");
        if changes(operation) {
            let denied = rest.by("viewer", method, path, query, body);
            assert_eq!(code(&denied), (403, 40301), "viewer {operation}");
        } else if method == "GET" {
            assert_eq!(rest.by("viewer", method, path, query, body).status, 200, "viewer {operation}");
        }
        let stranger = rest.by("stranger", method, path, query, body);
        assert_eq!(code(&stranger), (401, 40101), "stranger {operation}");
        let target = path.replace("{cluster_id}", &rest.cluster_id).replace("{link_name}", "west");
        for head in ["", "Authorization: Bearer abc\r\n", "Authorization: Basic !!!\r\n"] {
            let unknown = ask(rest.port, method, &format!("/v3{target}"), head, b"");
            let expected = if head.is_empty() { (401, 401) } else { (401, 40101) };
            assert_eq!(code(&unknown), expected, "{head} {operation}");
            assert!(unknown.head.to_ascii_lowercase().contains("www-authenticate: basic"), "{unknown:?}");
            rest.openapi.check(method, path, &unknown);
        }
        if path.contains("{cluster_id}") {
            let own = std::mem::replace(&mut rest.cluster_id, "another".to_owned());
            rest.refused((method, path, query), body, (404, 404));
            rest.cluster_id = own;
        }
        if path.contains("{link_name}") && !VERBS_REFUSED.iter().any(|verb| path.ends_with(verb)) {
            rest.link = "no-such-link";
            rest.refused((method, path, query), body, (404, 404));
            rest.link = "west";
        }
        if matches!(method, "POST" | "PUT") && !VERBS_REFUSED.iter().any(|verb| path.ends_with(verb)) {
            for unreadable in [json!([]), json!("text"), json!({ "data": 1, "configs": 2, "mirror_topic_names": 3 })] {
                rest.refused((method, path, query), Some(&unreadable), (400, 400));
            }
        }
    }
    let null = &Value::Null;
    let configs = |key: &str, value: &str| json!({ "configs": [{ "name": key, "value": value }] });
    let bad_value = json!({ "value": "soon" });
    /// Who, method and path; the body; status and code.
    type Row<'a> = ((&'a str, &'a str, &'a str), &'a Value, (u16, u64));
    let table: [Row<'_>; 16] = [
        (("POST", LINKS, ""), &json!({}), (400, 400)),
        (("POST", LINKS, "?link_name="), &json!({}), (400, 400)),
        (("POST", LINKS, "?link_name=-"), &json!({}), (400, 400)),
        (("POST", LINKS, "?link_name=a%20b"), &configs("connection.mode", "INBOUND"), (400, 40002)),
        (("POST", LINKS, "?link_name=east&validate_only=perhaps"), &json!({}), (400, 400)),
        (("POST", LINKS, "?link_name=east"), &configs("no.such.key", "1"), (400, 40002)),
        (("POST", LINKS, "?link_name=east"), &json!({ "cluster_link_id": "abc" }), (400, 40002)),
        (
            ("POST", LINKS, "?link_name=east"),
            &json!({ "source_cluster_id": "a", "destination_cluster_id": "b" }),
            (400, 40002),
        ),
        (("GET", LINK, "?include_tasks=1"), null, (400, 400)),
        (("DELETE", LINK, "?force=yes"), null, (400, 400)),
        (("PUT", CONFIG, ""), &bad_value, (400, 40002)),
        (("PUT", CONFIG, ""), &json!({}), (400, 400)),
        (("PUT", ALTER, ""), &json!({ "data": [] }), (400, 400)),
        (("PUT", ALTER, ""), &json!({ "data": [{ "name": "metadata.max.age.ms" }] }), (400, 400)),
        (("GET", MIRRORS, "?mirror_status=HAPPY"), null, (400, 400)),
        (("POST", MIRRORS, ""), &json!({ "source_topic_name": "none" }), (404, 40403)),
    ];
    for (request, body, expected) in table {
        rest.refused(request, (!body.is_null()).then_some(body), expected);
    }
    for verb in ["promote", "failover", "pause", "resume"] {
        let both = json!({ "mirror_topic_names": ["orders"], "mirror_topic_name_pattern": ".*" });
        for body in [json!({}), both] {
            rest.refused(("POST", &format!("{MIRRORS}:{verb}"), ""), Some(&body), (400, 400));
        }
    }
    // Outside of the table.
    let port = rest.port;
    for (method, path, expected) in [
        ("GET", "/v3/nonsense", (404, 404)),
        ("GET", "/", (404, 404)),
        ("POST", "/v3/clusters", (405, 405)),
        ("POST", "/v3/clusters/c/links/l/configs:alter", (405, 405)),
    ] {
        let answer = ask(port, method, path, "", b"");
        assert_eq!((answer.status, answer.json()["error_code"].as_u64().unwrap()), expected, "{method} {path}");
    }
    let token = base64::engine::general_purpose::STANDARD.encode("admin:admin-secret");
    let login = format!("Authorization: Basic {token}\r\n");
    let links = format!("/v3/clusters/{}/links", rest.cluster_id);
    let large = ask(port, "POST", &format!("{links}?link_name=east"), &login, &vec![b' '; (1 << 20) + 1]);
    assert_eq!((large.status, large.json()["error_code"].as_u64()), (413, Some(413)));
    rest.openapi.check("POST", LINKS, &large);
    let not_utf8 = ask(port, "GET", &format!("{links}/%ff%fe"), &login, b"");
    assert_eq!((not_utf8.status, not_utf8.json()["error_code"].as_u64()), (400, Some(400)));
    // Not even HTTP: closed or answered with 400, and the server goes on.
    for garbage in [
        &b"\x16\x03\x01\x00\xee\x01\x00"[..],
        b"\0\0\0\x08\0\x03\0\x09\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ] {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        tcp.write_all(garbage).unwrap();
        // The server may have closed by now.
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = tcp.read_to_end(&mut said);
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400") || said.starts_with(b"HTTP/1.1 4"), "{said:?}");
    }
    rest.ok("GET", "/clusters", "", None);
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
