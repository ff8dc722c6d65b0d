//! Every path × every code of the reference: each answer is shown here, or stands in [`never`] with the reason why it does not
//! occur.

use super::http::{Answer, OpenApi, ask, connect, heard};
use super::{ALTER, CONFIG, LIMIT, LINK, LINKS, MIRROR, MIRRORS, Rest, VERBS_REFUSED, daemon, login, until};
use hawser_testkit::ports::free_port;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Status and `error_code`.
type Code = (u16, u64);

/// All that the reference answers when it does not do what it is asked for.
const REFERENCE: [Code; 14] = [
    (400, 400),
    (400, 40002),
    (400, 40035),
    (401, 401),
    (401, 40101),
    (403, 40301),
    (404, 404),
    (404, 40403),
    (408, 408),
    (409, 40902),
    (429, 429),
    (500, 500),
    (500, 50002),
    (500, 50003),
];
const VERBS: [&str; 4] = ["promote", "failover", "pause", "resume"];
/// Requests that a listener does at a time.
const REQUESTS_MAX: usize = 128;

/// Why `operation` does not answer `code`. docs/migrating.md says the same in fewer words.
fn never(operation: &str, code: Code) -> Option<&'static str> {
    let (method, path) = operation.split_once(' ')?;
    let (makes_link, makes_mirror) = (operation == post(LINKS), operation == post(MIRRORS));
    let is_refused = is_refused(path);
    match code {
        (400, 40002) | (404, 40403) if is_refused => Some("it is refused as a whole, whatever is asked"),
        (400, 40002) if method == "GET" || operation == format!("DELETE {LINK}") => {
            Some("it takes only a path and switches, which can be read or not: 400")
        }
        (400, 40035) if !(is_refused || makes_link || makes_mirror) => Some("all of it can be done here"),
        (404, 404) if path == "/clusters" => Some("it names nothing that could be missing"),
        (404, 40403) if VERBS.iter().any(|verb| path.ends_with(&format!(":{verb}"))) => {
            Some("what is wrong with one topic stands in its item of a 200")
        }
        (404, 40403) if !(makes_mirror || operation == format!("GET {MIRROR}")) => Some("it names no topic"),
        (409, 40902) if !makes_link => Some("it makes no link"),
        (500, 500) => Some("only a bug in the daemon is answered so: rest/server.rs tests the answer to a panic"),
        (500, 50002) if method == "GET" || is_refused => Some("it writes nothing, and reads what is in memory"),
        _ => None,
    }
}

/// # Panics
/// When a pair of operation and code is neither shown nor explained, or both.
pub(super) fn each_is_shown_or_never_occurs(openapi: &OpenApi) {
    let mut wrong = Vec::new();
    for (operation, _) in openapi.operations() {
        for (status, code) in REFERENCE {
            let is_shown = openapi.refused.contains(&(operation.clone(), status, code));
            match never(&operation, (status, code)) {
                Some(why) if is_shown => wrong.push(format!("{operation} answered {status}/{code}, although {why}")),
                None if !is_shown => wrong.push(format!("{operation} never answered {status}/{code}")),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

fn post(path: &str) -> String {
    format!("POST {path}")
}

fn is_refused(path: &str) -> bool {
    VERBS_REFUSED.iter().any(|verb| path.ends_with(verb))
}

fn changes(method: &str, path: &str) -> bool {
    method != "GET" && !is_refused(path)
}

fn code(answer: &Answer) -> Code {
    (answer.status, answer.json()["error_code"].as_u64().unwrap_or_default())
}

/// A query and a body with which the operation would be done.
fn request(method: &str, path: &str) -> (&'static str, Option<Value>) {
    let body = match path {
        LINKS | MIRRORS => {
            json!({ "source_topic_name": "returns", "configs": [{ "name": "connection.mode", "value": "INBOUND" }] })
        }
        CONFIG => json!({ "value": "5000" }),
        ALTER => json!({ "data": [{ "name": "metadata.max.age.ms", "value": "5000" }] }),
        _ => json!({ "mirror_topic_names": ["orders"] }),
    };
    (if path == LINKS { "?link_name=east" } else { "" }, (method != "GET").then_some(body))
}

/// What a daemon answers that is well: to nobody, somebody else, somebody with too few rights; to wrong requests, slow ones
/// and too many.
pub(super) fn cross(rest: &mut Rest) {
    for (operation, _) in rest.openapi.operations() {
        let (method, path) = operation.split_once(' ').unwrap();
        let (query, body) = request(method, path);
        let body = body.as_ref();
        let denied = rest.by("nobody", method, path, query, body);
        assert_eq!(code(&denied), (403, 40301), "nobody {operation}");
        if changes(method, path) {
            let denied = rest.by("viewer", method, path, query, body);
            assert_eq!(code(&denied), (403, 40301), "viewer {operation}");
        } else if method == "GET" {
            assert_eq!(rest.by("viewer", method, path, query, body).status, 200, "viewer {operation}");
        }
        let stranger = rest.by("stranger", method, path, query, body);
        assert_eq!(code(&stranger), (401, 40101), "stranger {operation}");
        // The other base.
        let target = rest.target(path).replacen("/kafka", "", 1);
        for head in ["", "Authorization: Bearer abc\r\n", "Authorization: Basic !!!\r\n"] {
            let unknown = ask(rest.port, method, &target, head, b"");
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
        if path.contains("{link_name}") && !is_refused(path) {
            rest.link = "no-such-link";
            rest.refused((method, path, query), body, (404, 404));
            rest.link = "west";
        }
        if matches!(method, "POST" | "PUT") && !is_refused(path) {
            for unreadable in [json!([]), json!("text"), json!({ "data": 1, "configs": 2, "mirror_topic_names": 3 })] {
                rest.refused((method, path, query), Some(&unreadable), (400, 400));
            }
        }
        let garbled = begun(rest.port, method, &target, "Transfer-Encoding: chunked", b"no-length\r\n");
        let answer = heard(garbled).expect("an answer");
        assert_eq!(code(&answer), (400, 400), "{operation}");
        rest.openapi.check(method, path, &answer);
        let large = format!("{}X-Padding: {}\r\n", login("admin"), "a".repeat(66_000));
        let answer = ask(rest.port, method, &target, &large, b"");
        assert_eq!(answer.status, 431, "{operation}");
        from_web_pages(rest, method, path, &target);
    }
    wrong_values(rest);
    outside_of_the_table(rest);
    too_slow_and_too_many(rest);
}

/// A page of another site, and one whose name was made to lead here, have a browser ask with its user's login.
fn from_web_pages(rest: &mut Rest, method: &str, path: &str, target: &str) {
    let own = format!("localhost:{}", rest.port);
    for (host, origin, expected) in
        [(own.as_str(), "evil.example", (403, 40301)), ("evil.example", "evil.example", (421, 421))]
    {
        let head = format!("Host: {host}\r\nOrigin: http://{origin}\r\nConnection: close\r\n{}", login("admin"));
        let mut stream = connect(rest.port);
        stream.write_all(format!("{method} {target} HTTP/1.1\r\n{head}\r\n").as_bytes()).expect("a listener");
        let answer = heard(stream).expect("an answer");
        assert_eq!(code(&answer), expected, "{host} {method} {target}");
        rest.openapi.check(method, path, &answer);
    }
}

/// The begin of a request of the operator, whose body is `body` so far.
fn begun(port: u16, method: &str, target: &str, length: &str, body: &[u8]) -> TcpStream {
    let login = login("admin");
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{login}{length}\r\n\r\n");
    let mut stream = connect(port);
    stream.write_all(&[head.as_bytes(), body].concat()).expect("a listener");
    stream
}

fn wrong_values(rest: &mut Rest) {
    let null = &Value::Null;
    let configs = |pairs: &[(&str, &str)]| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        json!({ "configs": pairs })
    };
    let inbound = configs(&[("connection.mode", "INBOUND")]);
    let nowhere = format!("127.0.0.1:{}", free_port());
    /// Method, path and query; the body; status and code.
    type Row<'a> = ((&'a str, &'a str, &'a str), &'a Value, Code);
    let table: [Row<'_>; 22] = [
        (("POST", LINKS, ""), &json!({}), (400, 400)),
        (("POST", LINKS, "?link_name="), &inbound, (400, 400)),
        (("POST", LINKS, "?link_name=-"), &inbound, (400, 400)),
        (("POST", LINKS, "?link_name=a%20b"), &inbound, (400, 400)),
        (("POST", LINKS, "?link_name=east&validate_only=perhaps"), &inbound, (400, 400)),
        (("POST", LINKS, "?link_name=east"), &configs(&[("no.such.key", "1")]), (400, 40002)),
        (("POST", LINKS, "?link_name=east"), &json!({ "cluster_link_id": "abc" }), (400, 40002)),
        (
            ("POST", LINKS, "?link_name=east"),
            &json!({ "source_cluster_id": "a", "destination_cluster_id": "b" }),
            (400, 40002),
        ),
        (
            ("POST", LINKS, "?link_name=east"),
            &configs(&[("link.mode", "BIDIRECTIONAL"), ("connection.mode", "INBOUND")]),
            (400, 40035),
        ),
        (("POST", LINKS, "?link_name=west"), &inbound, (409, 40902)),
        (("POST", LINKS, "?link_name=east"), &configs(&[("bootstrap.servers", &nowhere)]), (500, 50003)),
        (("GET", LINK, "?include_tasks=1"), null, (400, 400)),
        (("DELETE", LINK, "?force=yes"), null, (400, 400)),
        (("DELETE", LINK, ""), null, (403, 40301)),
        (("PUT", CONFIG, ""), &json!({ "value": "soon" }), (400, 40002)),
        (("PUT", CONFIG, ""), &json!({}), (400, 400)),
        (("PUT", ALTER, ""), &json!({ "data": [] }), (400, 400)),
        (("PUT", ALTER, ""), &json!({ "data": [{ "name": "metadata.max.age.ms" }] }), (400, 400)),
        (("PUT", ALTER, ""), &json!({ "data": [{ "name": "no.such.key", "value": "1" }] }), (400, 40002)),
        (("GET", MIRRORS, "?mirror_status=HAPPY"), null, (400, 400)),
        (("POST", MIRRORS, ""), &json!({ "source_topic_name": "none" }), (404, 40403)),
        (
            ("POST", MIRRORS, ""),
            &json!({ "source_topic_name": "returns", "mirror_topic_name": "others" }),
            (400, 40035),
        ),
    ];
    for (request, body, expected) in table {
        rest.refused(request, (!body.is_null()).then_some(body), expected);
    }
    let nameless = rest.by("admin", "POST", MIRRORS, "", Some(&json!({ "configs": [] }))).json()["message"].to_string();
    assert!(nameless.contains("The body lacks source_topic_name"), "{nameless}");
    let happy = rest.by("admin", "GET", MIRRORS, "?mirror_status=HAPPY", None).json()["message"].to_string();
    assert!(happy.contains("mirror_status=HAPPY") && happy.contains("PENDING_STOPPED"), "{happy}");
    for verb in VERBS {
        let both = json!({ "mirror_topic_names": ["orders"], "mirror_topic_name_pattern": ".*" });
        for (body, expected) in
            [(json!({}), (400, 400)), (both, (400, 400)), (json!({ "mirror_topic_name_pattern": "(" }), (400, 40002))]
        {
            rest.refused(("POST", &format!("{MIRRORS}:{verb}"), ""), Some(&body), expected);
        }
    }
    // Of other names than those that paths are filled in with.
    let value = br#"{"value":"1"}"#;
    let is_needed = rest.target(CONFIG).replace("metadata.max.age.ms", "bootstrap.servers");
    let is_none = rest.target(CONFIG).replace("metadata.max.age.ms", "no.such.key");
    let no_mirror = rest.target(MIRROR).replace("/orders", "/none");
    let rows: [(&str, &str, String, &[u8], Code); 5] = [
        ("DELETE", CONFIG, is_needed, b"", (400, 40002)),
        ("GET", CONFIG, is_none.clone(), b"", (400, 400)),
        ("PUT", CONFIG, is_none.clone(), value, (400, 400)),
        ("DELETE", CONFIG, is_none, b"", (400, 400)),
        ("GET", MIRROR, no_mirror, b"", (404, 40403)),
    ];
    for (method, path, target, body, expected) in rows {
        let answer = ask(rest.port, method, &target, &login("admin"), body);
        assert_eq!(code(&answer), expected, "{method} {target}: {answer:?}");
        rest.openapi.check(method, path, &answer);
    }
}

/// Neither path nor verb is known; what is sent is larger than anything that is asked, or no HTTP.
fn outside_of_the_table(rest: &mut Rest) {
    let port = rest.port;
    for (method, path, expected) in [
        ("GET", "/v3/nonsense", (404, 404)),
        ("GET", "/", (404, 404)),
        ("POST", "/v3/clusters", (405, 405)),
        ("POST", "/v3/clusters/c/links/l/configs:alter", (405, 405)),
    ] {
        assert_eq!(code(&ask(port, method, path, "", b"")), expected, "{method} {path}");
    }
    let (login, links) = (login("admin"), rest.target(LINKS));
    let large = ask(port, "POST", &format!("{links}?link_name=east"), &login, &vec![b' '; (1 << 20) + 1]);
    assert_eq!(code(&large), (413, 413));
    rest.openapi.check("POST", LINKS, &large);
    assert_eq!(code(&ask(port, "GET", &format!("{links}/%ff%fe"), &login, b"")), (400, 400));
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
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{said:?}");
    }
    rest.ok("GET", "/clusters", "", None);
}

/// Bodies that never come fill the room for requests; who comes now is told so, and later those who filled it are.
fn too_slow_and_too_many(rest: &mut Rest) {
    let operations = rest.openapi.operations();
    let begin = |index: usize| {
        let (method, path) = operations[index % operations.len()].0.split_once(' ').unwrap();
        begun(rest.port, method, &rest.target(path), "Content-Length: 5", b"")
    };
    let mut slow: Vec<_> = (0..REQUESTS_MAX).map(begin).collect();
    until("the room is full", || {
        let asked = ask(rest.port, "GET", "/v3/clusters", &login("admin"), b"");
        (asked.status == 429).then_some(())
    });
    for (operation, _) in &operations {
        let (method, path) = operation.split_once(' ').unwrap();
        let answer = rest.by("admin", method, path, "", None);
        assert_eq!(code(&answer), (429, 429), "{operation}");
        assert!(answer.head.to_ascii_lowercase().contains("\r\nretry-after: 1"), "{answer:?}");
    }
    slow.truncate(operations.len());
    for ((operation, _), stream) in operations.iter().zip(slow) {
        let (method, path) = operation.split_once(' ').unwrap();
        let answer = heard(stream).expect("an answer");
        assert_eq!(code(&answer), (408, 408), "{operation}");
        rest.openapi.check(method, path, &answer);
    }
    until("there is room again", || {
        let asked = ask(rest.port, "GET", "/v3/clusters", &login("admin"), b"");
        (asked.status == 200).then_some(())
    });
}

/// A daemon beside a cluster that is not there can do nothing for now.
pub(super) fn the_cluster_does_not_answer(rest: &mut Rest, folder: &Path) {
    let port = free_port();
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut beside =
        daemon(folder, "beside", port).property("local.bootstrap.servers", &nobody).start().expect("daemon");
    let own = std::mem::replace(&mut rest.port, port);
    for (operation, _) in rest.openapi.operations() {
        let (method, path) = operation.split_once(' ').unwrap();
        let (query, body) = request(method, path);
        rest.refused((method, path, query), body.as_ref(), (500, 50003));
    }
    rest.port = own;
    beside.stop().unwrap();
}

/// A daemon whose disk refuses every write refuses every change, and goes on when there is room again.
pub(super) fn the_disk_takes_nothing(rest: &mut Rest, folder: &Path, source: &str) {
    // A write beyond a process' limit is an error then, and not its end.
    let wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned);
    let port = free_port();
    let mut full = daemon(folder, "full", port).under(&wrapper).start().expect("daemon");
    let pid = full.process().unwrap().pid().to_string();
    let limit = |bytes: &str| {
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status();
        assert!(set.expect("prlimit").success());
    };
    let own = std::mem::replace(&mut rest.port, port);
    let clusters = rest.ok("GET", "/clusters", "", None);
    let id = clusters["data"][0]["cluster_id"].as_str().unwrap().to_owned();
    let own_id = std::mem::replace(&mut rest.cluster_id, id);
    let configs = [("bootstrap.servers", source), ("metadata.max.age.ms", "1000")];
    let configs = configs.map(|(name, value)| json!({ "name": name, "value": value }));
    rest.ok("POST", LINKS, "?link_name=west", Some(&json!({ "configs": configs })));
    for topic in ["orders", "payments"] {
        rest.ok("POST", MIRRORS, "", Some(&json!({ "source_topic_name": topic })));
    }
    let payments = json!({ "mirror_topic_names": ["payments"] });
    rest.ok("POST", &format!("{MIRRORS}:pause"), "", Some(&payments));

    limit("1");
    // The link itself last.
    let mut operations = rest.openapi.operations();
    operations.sort_by_key(|(operation, _)| *operation == format!("DELETE {LINK}"));
    for (operation, _) in &operations {
        let (method, path) = operation.split_once(' ').unwrap();
        if !changes(method, path) {
            continue;
        }
        let (query, body) = match path {
            LINK => ("?force=true", None),
            MIRRORS => ("", Some(json!({ "source_topic_name": "returns" }))),
            _ if path.ends_with(":resume") => ("", Some(payments.clone())),
            _ => request(method, path),
        };
        rest.refused((method, path, query), body.as_ref(), (500, 50002));
    }
    limit("unlimited");
    let names: Vec<_> = rest.ok("GET", MIRRORS, "", None)["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mirror| (mirror["mirror_topic_name"].clone(), mirror["mirror_status"] == "PAUSED"))
        .collect();
    assert_eq!(names, [(json!("orders"), false), (json!("payments"), true)], "nothing was changed");
    until("it takes changes again", || {
        sleep(Duration::from_millis(50));
        let (query, body) = request("POST", LINKS);
        (rest.by("admin", "POST", LINKS, query, body.as_ref()).status == 204).then_some(())
    });
    (rest.port, rest.cluster_id) = (own, own_id);
    full.stop().unwrap();
    let log = full.log();
    assert!(!log.contains("panicked"), "{log}");
}
