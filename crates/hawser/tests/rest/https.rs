//! REST over TLS: who is let in by a password and who by a certificate, who gets no further than the handshake, and that
//! neither large nor slow requests of strangers keep others out.

use super::http::{Answer, OpenApi, ask_over, connect, heard};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hawser_testkit::certificates::{Authority, Identity};
use hawser_testkit::daemon::{Daemon, DaemonSpec};
use hawser_testkit::ports::free_port;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const CLUSTERS: &str = "/v3/clusters";
/// More than a REST listener serves at a time (256).
const CROWD: usize = 300;

/// A daemon with REST over TLS only, beside a listener whose users have PLAIN passwords `USER-secret`.
struct Bench {
    folder: TempDir,
    authority: Authority,
    port: u16,
    daemon: Daemon,
}

impl Bench {
    /// `client_auth` is the listener's `ssl.client.auth`.
    fn start(client_auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("the-site").unwrap();
        let trust = authority.write_pem(folder.path().join("ca.pem")).unwrap();
        let server = authority.server().unwrap().write(folder.path(), "server").unwrap();
        let users = ["admin", "viewer", "nobody"].map(|user| format!("user_{user}=\"{user}-secret\"")).join(" ");
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let port = free_port();
        let binary = Path::new(env!("CARGO_BIN_EXE_hawser"));
        let daemon = DaemonSpec::new(binary, folder.path(), "rest", "SASL_PLAINTEXT")
            .property("sasl.enabled.mechanisms", "PLAIN")
            .property("listener.name.sasl_plaintext.plain.sasl.jaas.config", &format!("{module} required {users};"))
            .property("super.users", "User:admin;User:CN=chief")
            .property("hawser.acls", "User:viewer DESCRIBE cluster;User:CN=watch DESCRIBE cluster")
            .property("hawser.rest.listeners", &format!("https://127.0.0.1:{port}"))
            .property("listener.name.rest.ssl.keystore.type", "PEM")
            .property("listener.name.rest.ssl.keystore.location", &server.key_store.display().to_string())
            .property("listener.name.rest.ssl.truststore.type", "PEM")
            .property("listener.name.rest.ssl.truststore.location", &trust.display().to_string())
            .property("listener.name.rest.ssl.client.auth", client_auth)
            .start()
            .expect("daemon");
        Self { folder, authority, port, daemon }
    }

    /// A connection that trusts the site and shows `identity`; the handshake begins with the first byte.
    fn open(&self, identity: Option<&Identity>) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { chain_pem, key_pem }) => {
                let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).map(Result::unwrap).collect();
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap()).unwrap()
            }
        };
        let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(tls, connect(self.port))
    }

    fn ask(&self, identity: Option<&Identity>, method: &str, path: &str, head: &str, body: &[u8]) -> Answer {
        ask_over(self.open(identity), self.port, method, path, head, body).expect("an answer")
    }

    /// The server's alert to a client that shows `identity`.
    fn alert(&self, identity: Option<&Identity>) -> Option<AlertDescription> {
        let head = basic("admin", "admin-secret");
        let error = ask_over(self.open(identity), self.port, "GET", CLUSTERS, &head, b"").expect_err("no answer");
        match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
            _ => None,
        }
    }

    /// Its log holds no secret and no panic, and it stops as it should.
    fn end(mut self) -> String {
        let log = self.daemon.log();
        assert!(!log.contains("panicked") && !log.contains("-secret") && !log.contains("PRIVATE KEY"), "{log}");
        self.daemon.stop().unwrap();
        drop(self.folder);
        log
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

fn status(answer: &Answer) -> (u16, Option<u64>) {
    (answer.status, answer.json()["error_code"].as_u64())
}

/// Everything of an answer that is not the time of day.
fn words(answer: &Answer) -> (String, Vec<u8>) {
    let head = answer.head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
    (head.collect::<Vec<_>>().join("\n"), answer.body.clone())
}

#[test]
fn passwords_over_tls() {
    let bench = Bench::start("none");
    let mut openapi = OpenApi::read();
    let mut ask = |user: &str, password: &str| {
        let answer = bench.ask(None, "GET", CLUSTERS, &basic(user, password), b"");
        openapi.check("GET", "/clusters", &answer);
        answer
    };
    let listed = ask("admin", "admin-secret");
    assert_eq!(status(&listed), (200, None));
    let place = &listed.json()["metadata"]["self"];
    assert_eq!(*place, format!("https://localhost:{}/v3/clusters", bench.port));
    assert_eq!(status(&ask("viewer", "viewer-secret")), (200, None));
    assert_eq!(status(&ask("nobody", "nobody-secret")), (403, Some(40301)));

    // Who guesses learns nothing from the answer: neither whether the user exists nor how much of the password is right.
    let wrong = ask("admin", "not-the-password");
    assert_eq!(status(&wrong), (401, Some(40101)));
    for (user, password) in
        [("viewer", "viewer-secre"), ("stranger", "admin-secret"), ("", "admin-secret"), ("admin", "")]
    {
        assert_eq!(words(&ask(user, password)), words(&wrong), "{user}");
    }
    let nameless = bench.ask(None, "GET", CLUSTERS, "", b"");
    assert_eq!(status(&nameless), (401, Some(401)));

    // A certificate that nobody asked for is not looked at.
    let chief = bench.authority.client("chief").unwrap();
    assert_eq!(status(&bench.ask(Some(&chief), "GET", CLUSTERS, "", b"")), (401, Some(401)));
    bench.end();
}

#[test]
fn a_certificate_is_a_login_where_one_is_required() {
    let bench = Bench::start("required");
    let (chief, watch) = (bench.authority.client("chief").unwrap(), bench.authority.client("watch").unwrap());
    let listed = bench.ask(Some(&watch), "GET", CLUSTERS, "", b"");
    assert_eq!(status(&listed), (200, None));
    let links = format!("{CLUSTERS}/{}/links", listed.json()["data"][0]["cluster_id"].as_str().unwrap());
    let inbound = json!({ "configs": [{ "name": "connection.mode", "value": "INBOUND" }] }).to_string();
    let create = |identity: &Identity, head: &str| {
        let head = format!("Content-Type: application/json\r\n{head}");
        bench.ask(Some(identity), "POST", &format!("{links}?link_name=west"), &head, inbound.as_bytes())
    };
    // The subject is the principal, and its rights are what counts.
    let denied = create(&watch, "");
    assert_eq!(status(&denied), (403, Some(40301)));
    assert!(denied.json()["message"].as_str().is_some_and(|words| words.contains("User:CN=watch")), "{denied:?}");
    let stranger = bench.authority.client("stranger").unwrap();
    assert_eq!(status(&bench.ask(Some(&stranger), "GET", CLUSTERS, "", b"")), (403, Some(40301)));
    // What a request says of itself counts before what its connection says.
    assert_eq!(status(&create(&chief, &basic("viewer", "viewer-secret"))), (403, Some(40301)));
    assert_eq!(status(&create(&chief, &basic("admin", "not-the-password"))), (401, Some(40101)));
    assert_eq!(create(&chief, "").status, 204);

    // Without a certificate, or with one that nobody here vouches for, no password helps.
    let elsewhere = Authority::new("elsewhere").unwrap();
    let namesake = Authority::new("the-site").unwrap();
    assert_eq!(bench.alert(None), Some(AlertDescription::CertificateRequired));
    assert_eq!(bench.alert(Some(&elsewhere.client("chief").unwrap())), Some(AlertDescription::UnknownCA));
    assert!(bench.alert(Some(&namesake.client("chief").unwrap())).is_some());
    assert_eq!(
        bench.alert(Some(&bench.authority.expired_server().unwrap())),
        Some(AlertDescription::CertificateExpired)
    );
    assert_eq!(status(&bench.ask(Some(&watch), "GET", CLUSTERS, "", b"")), (200, None));
    let log = bench.end();
    assert!(log.contains("connection refused"), "{log}");
}

#[test]
fn a_certificate_or_a_password_where_one_is_requested() {
    let bench = Bench::start("requested");
    let watch = bench.authority.client("watch").unwrap();
    assert_eq!(status(&bench.ask(Some(&watch), "GET", CLUSTERS, "", b"")), (200, None));
    assert_eq!(status(&bench.ask(None, "GET", CLUSTERS, &basic("viewer", "viewer-secret"), b"")), (200, None));
    assert_eq!(status(&bench.ask(None, "GET", CLUSTERS, "", b"")), (401, Some(401)));
    let elsewhere = Authority::new("elsewhere").unwrap();
    assert_eq!(bench.alert(Some(&elsewhere.client("watch").unwrap())), Some(AlertDescription::UnknownCA));
    bench.end();
}

#[test]
fn large_slow_and_foreign_requests_keep_nobody_out() {
    let bench = Bench::start("none");
    let login = basic("admin", "admin-secret");
    let cluster = bench.ask(None, "GET", CLUSTERS, &login, b"").json()["data"][0]["cluster_id"].clone();
    let links = format!("{CLUSTERS}/{}/links?link_name=west", cluster.as_str().unwrap());

    let body = vec![b' '; (1 << 20) + 1];
    assert_eq!(status(&bench.ask(None, "POST", &links, &login, &body)), (413, Some(413)));
    // A head has 64 KiB and not a byte more.
    let around =
        format!("GET {CLUSTERS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{login}X-Padding: \r\n\r\n");
    for (head_bytes, expected) in [(64 * 1024, 200), (64 * 1024 + 1, 431), (72 * 1024, 431), (256 * 1024, 431)] {
        let padding = format!("X-Padding: {}\r\n\r\n", "a".repeat(head_bytes - around.len()));
        let mut stream = bench.open(None);
        // A server that has seen enough need not take the rest.
        let _ = stream.write_all(around.replace("X-Padding: \r\n\r\n", &padding).as_bytes());
        assert_eq!(heard(stream).expect("an answer").status, expected, "{head_bytes}");
    }

    // Plain HTTP hears in TLS's own words that this is another protocol, and no password of it is looked at.
    let mut plain = connect(bench.port);
    plain.write_all(format!("GET {CLUSTERS} HTTP/1.1\r\nHost: localhost\r\n{login}\r\n").as_bytes()).unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"\x15\x03\x03\x00\x02\x02\x0a");

    // Some never begin their handshake, others never end their request's head.
    let silent: Vec<_> = (0..CROWD)
        .map(|turn| {
            let mut tcp = connect(bench.port);
            tcp.write_all(if turn % 2 == 0 { b"" } else { b"\x16\x03\x01\x02" }).unwrap();
            tcp
        })
        .collect();
    let begin = |_| {
        let mut stream = bench.open(None);
        stream.write_all(format!("GET {CLUSTERS} HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").as_bytes()).unwrap();
        stream.flush().unwrap();
        stream
    };
    let mut slow: Vec<_> = (0..CROWD).map(begin).collect();
    assert_eq!(status(&bench.ask(None, "GET", CLUSTERS, &login, b"")), (200, None));
    // The oldest made room; the youngest may still come to its end.
    let mut rest = Vec::new();
    let ended = slow[0].read_to_end(&mut rest);
    assert!(!matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{ended:?}");
    assert!(rest.is_empty(), "{rest:?}");
    let mut youngest = slow.pop().unwrap();
    youngest.write_all(format!("no\r\nConnection: close\r\n{login}\r\n").as_bytes()).unwrap();
    youngest.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&rest));
    drop((silent, slow));
    bench.end();
}
