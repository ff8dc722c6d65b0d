//! A small HTTP client, and a check of answers against `docs/openapi.yaml`.

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` if there is none.
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// A connection to `port` of this machine; what is read from it comes within a minute.
pub(crate) fn connect(port: u16) -> TcpStream {
    let tcp = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    tcp.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
    tcp
}

/// One request on a connection of its own. `head` holds whole header lines.
pub(crate) fn ask(port: u16, method: &str, path: &str, head: &str, body: &[u8]) -> Answer {
    ask_over(connect(port), port, method, path, head, body).expect("an answer")
}

/// As [`ask`], as the only request on `stream`; the error of a server that says nothing.
pub(crate) fn ask_over(
    mut stream: impl Read + Write,
    port: u16,
    method: &str,
    path: &str,
    head: &str,
    body: &[u8],
) -> io::Result<Answer> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nContent-Length: {}\r\n{head}\r\n",
        body.len()
    );
    // A server that has refused what came before need not take the rest.
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
    heard(stream)
}

/// The answer to the only request on `stream`.
pub(crate) fn heard(mut stream: impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if bytes.is_empty() => Err(error),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) | Err(_) => Ok(parse(&bytes)),
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {bytes:?}"));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("status");
    let mut body = bytes[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Answer { status, head, body }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|w| w == b"\r\n").expect("chunk");
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).expect("hex"), 16).expect("hex");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + size]);
        bytes = &bytes[line + 2 + size + 2..];
    }
}

/// `docs/openapi.yaml`, and which of it was answered.
pub(crate) struct OpenApi {
    file: Value,
    /// `GET /clusters 200`
    pub(crate) seen: BTreeSet<String>,
    /// `GET /clusters` with status and `error_code` of every refusal.
    pub(crate) refused: BTreeSet<(String, u16, u64)>,
}

impl OpenApi {
    pub(crate) fn read() -> Self {
        let file = serde_saphyr::from_str(include_str!("../../../../docs/openapi.yaml")).expect("YAML");
        Self { file, seen: BTreeSet::new(), refused: BTreeSet::new() }
    }

    /// Every verb on every path, as `GET /clusters`, with the statuses that it may answer.
    pub(crate) fn operations(&self) -> Vec<(String, Vec<String>)> {
        let mut all = Vec::new();
        for (path, item) in self.file["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("item").iter().filter(|(key, _)| *key != "parameters") {
                let statuses = operation["responses"].as_object().expect("responses").keys().cloned().collect();
                all.push((format!("{} {path}", method.to_ascii_uppercase()), statuses));
            }
        }
        all
    }

    /// Holds an answer against what the file says of `path` (with its placeholders).
    pub(crate) fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let operation = &self.file["paths"][path][method.to_ascii_lowercase()];
        let named = self.resolve(&operation["responses"][answer.status.to_string()]);
        assert!(named.is_object(), "{method} {path}: {} is not described: {answer:?}", answer.status);
        match &named["content"]["application/json"]["schema"] {
            Value::Null => assert!(answer.body.is_empty(), "{method} {path}: {answer:?}"),
            schema => self.fits(&answer.json(), schema, &format!("{method} {path}")),
        }
        self.seen.insert(format!("{method} {path} {}", answer.status));
        if let Some(code) = answer.json()["error_code"].as_u64() {
            self.refused.insert((format!("{method} {path}"), answer.status, code));
        }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.file.pointer(reference.trim_start_matches('#')).expect("reference"),
            None => value,
        }
    }

    /// The part of JSON Schema that the file uses.
    fn fits(&self, value: &Value, schema: &Value, at: &str) {
        let schema = self.resolve(schema);
        if value.is_null() {
            assert_eq!(schema["nullable"], true, "{at} is null");
            return;
        }
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(allowed.contains(value), "{at}: {value} is none of {allowed:?}");
        }
        match schema["type"].as_str() {
            Some("string") => assert!(value.is_string(), "{at}: {value}"),
            Some("integer") => assert!(value.is_i64(), "{at}: {value}"),
            Some("boolean") => assert!(value.is_boolean(), "{at}: {value}"),
            Some("array") => {
                let items = value.as_array().unwrap_or_else(|| panic!("{at}: {value}"));
                for (index, item) in items.iter().enumerate() {
                    self.fits(item, &schema["items"], &format!("{at}[{index}]"));
                }
            }
            Some("object") => {
                let fields = value.as_object().unwrap_or_else(|| panic!("{at}: {value}"));
                for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    assert!(fields.contains_key(name), "{at} lacks {name}: {value}");
                }
                for (name, value) in fields {
                    let property = &schema["properties"][name];
                    assert!(property.is_object(), "{at} has {name}, which is not described");
                    self.fits(value, property, &format!("{at}.{name}"));
                }
            }
            other => panic!("{at}: the check does not know type {other:?}"),
        }
    }
}
