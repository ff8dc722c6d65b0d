//! Every protocol with every mechanism, and every way in which they go wrong, by name.
#![allow(missing_docs)]

mod support;

use hawser_transport::{DialError, TlsProblem};
use support::{Authority, client, dial, serve, server, who_am_i};

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

fn module(mechanism: &str) -> &str {
    if mechanism == "PLAIN" { PLAIN } else { SCRAM }
}

fn users(mechanisms: &str) -> String {
    let mut text = format!("sasl.enabled.mechanisms={mechanisms}\n");
    for mechanism in mechanisms.split(',') {
        let (key, module) = (mechanism.to_ascii_lowercase(), module(mechanism));
        text += &format!(
            "listener.name.front.{key}.sasl.jaas.config={module} required user_alice=\"wonder,=land\" user_bob='x y';\n"
        );
    }
    text
}

fn login(mechanism: &str, name: &str, password: &str) -> String {
    format!(
        "sasl.mechanism={mechanism}\nsasl.jaas.config={} required username=\"{name}\" password=\"{password}\";\n",
        module(mechanism)
    )
}

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

struct Tls {
    _folder: tempfile::TempDir,
    ca: Authority,
}

impl Tls {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new(folder.path(), "ca");
        Self { _folder: folder, ca }
    }

    fn trust(&self) -> String {
        format!("ssl.truststore.type=PEM\nssl.truststore.location={}\n", self.ca.path("ca"))
    }

    fn own(&self, host: &str, expired: bool) -> String {
        let file = format!("{host}-{expired}-all.pem");
        format!("ssl.keystore.type=PEM\nssl.keystore.location={}\n", self.ca.issue(&file, host, expired))
    }
}

#[tokio::test]
async fn every_protocol_with_every_mechanism() {
    let tls = Tls::new();
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"] {
        let front =
            serve(server(protocol, &format!("{}{}", tls.own("localhost", false), users(&MECHANISMS.join(","))))).await;
        for mechanism in MECHANISMS {
            let to = format!("security.protocol={protocol}\n{}", tls.trust());
            for (name, password, principal) in [("alice", "wonder,=land", "User:alice"), ("bob", "x y", "User:bob")] {
                let security = client(&format!("{to}{}", login(mechanism, name, password)));
                assert_eq!(who_am_i(&security, &front).await.unwrap(), principal, "{protocol} {mechanism}");
            }
            let mut answers = Vec::new();
            for (name, password) in [("alice", "wonder,=lane"), ("nobody", "wonder,=land")] {
                let security = client(&format!("{to}{}", login(mechanism, name, password)));
                let error = dial(&security, &front).await.unwrap_err();
                assert!(matches!(error, DialError::Authentication { .. }), "{protocol} {mechanism} {name}: {error}");
                assert!(error.is_authentication());
                answers.push(error.to_string());
            }
            assert_eq!(answers[0], answers[1], "a wrong name must look like a wrong password");
        }
        let counts = front.counts();
        assert_eq!((counts.logged_in, counts.wrong_credentials, counts.refused), (6, 6, 6), "{protocol}");
    }
    let front = serve(server("PLAINTEXT", "")).await;
    assert_eq!(who_am_i(&client(""), &front).await.unwrap(), "User:ANONYMOUS");
    let front = serve(server("SSL", &tls.own("localhost", false))).await;
    let security = client(&format!("security.protocol=SSL\n{}", tls.trust()));
    assert_eq!(who_am_i(&security, &front).await.unwrap(), "User:ANONYMOUS");
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_named_with_those_that_are() {
    let front = serve(server("SASL_PLAINTEXT", &users("PLAIN,SCRAM-SHA-256"))).await;
    let security = client(&format!("security.protocol=SASL_PLAINTEXT\n{}", login("SCRAM-SHA-512", "alice", "x")));
    match dial(&security, &front).await.unwrap_err() {
        DialError::Mechanism { wanted, enabled } => {
            assert_eq!((wanted.as_str(), enabled.join(" ").as_str()), ("SCRAM-SHA-512", "PLAIN SCRAM-SHA-256"));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn bad_certificates_are_named() {
    let (tls, other) = (Tls::new(), Tls::new());
    let good = serve(server("SSL", &tls.own("localhost", false))).await;
    let expired = serve(server("SSL", &tls.own("localhost", true))).await;
    let elsewhere = serve(server("SSL", &tls.own("elsewhere.example", false))).await;
    let to = |trust: &Tls, more: &str| client(&format!("security.protocol=SSL\n{}{more}", trust.trust()));
    let problem = |error: DialError| match error {
        DialError::Tls(problem) => problem,
        other => panic!("{other}"),
    };
    assert_eq!(problem(dial(&to(&other, ""), &good).await.unwrap_err()), TlsProblem::UnknownAuthority);
    assert_eq!(problem(dial(&to(&tls, ""), &expired).await.unwrap_err()), TlsProblem::Expired);
    let host = "localhost".to_owned();
    assert_eq!(problem(dial(&to(&tls, ""), &elsewhere).await.unwrap_err()), TlsProblem::HostName { host });
    // Without the check of the name the chain still counts.
    let any = "ssl.endpoint.identification.algorithm=\n";
    who_am_i(&to(&tls, any), &elsewhere).await.unwrap();
    assert_eq!(problem(dial(&to(&other, any), &elsewhere).await.unwrap_err()), TlsProblem::UnknownAuthority);
    assert_eq!(problem(dial(&to(&tls, any), &expired).await.unwrap_err()), TlsProblem::Expired);
    let own = format!("ssl.keystore.type=PEM\nssl.keystore.location={}\n", tls.ca.itself("ca-all.pem"));
    let authority = serve(server("SSL", &own)).await;
    assert_eq!(problem(dial(&to(&tls, ""), &authority).await.unwrap_err()), TlsProblem::AuthorityItself);
    let old = serve(server("SSL", &format!("{}ssl.enabled.protocols=TLSv1.2\n", tls.own("localhost", false)))).await;
    who_am_i(&to(&tls, ""), &old).await.unwrap();
    let newer = to(&tls, "ssl.enabled.protocols=TLSv1.3\n");
    assert_eq!(problem(dial(&newer, &old).await.unwrap_err()), TlsProblem::NothingInCommon);
}

#[tokio::test]
async fn client_certificates() {
    let (tls, other) = (Tls::new(), Tls::new());
    let listen =
        |auth: &str| server("SSL", &format!("{}{}ssl.client.auth={auth}\n", tls.own("localhost", false), tls.trust()));
    let to = |own: &str| client(&format!("security.protocol=SSL\n{}{own}", tls.trust()));
    let required = serve(listen("required")).await;
    let known = tls.own("member.example", false);
    assert_eq!(who_am_i(&to(&known), &required).await.unwrap(), "User:CN=member.example,O=Acme");
    let missing = who_am_i(&to(""), &required).await.unwrap_err();
    assert!(missing.contains("requires a client certificate"), "{missing}");
    let foreign = who_am_i(&to(&other.own("member.example", false)), &required).await.unwrap_err();
    assert!(foreign.contains("refused our certificate"), "{foreign:?}");
    let requested = serve(listen("requested")).await;
    assert_eq!(who_am_i(&to(""), &requested).await.unwrap(), "User:ANONYMOUS");
    assert_eq!(who_am_i(&to(&known), &requested).await.unwrap(), "User:CN=member.example,O=Acme");
    // Inline, with the line ends lost as in a properties file.
    let (key, chain) = tls.ca.pem("inline.example", false);
    let flat = |pem: &str| pem.replace('\n', " ");
    let inline = format!(
        "ssl.keystore.type=PEM\nssl.keystore.key={}\nssl.keystore.certificate.chain={}\n",
        flat(&key),
        flat(&chain)
    );
    assert_eq!(who_am_i(&to(&inline), &required).await.unwrap(), "User:CN=inline.example,O=Acme");
}

#[tokio::test]
async fn tls_to_a_plain_port_and_the_reverse() {
    let tls = Tls::new();
    let plain = serve(server("PLAINTEXT", "")).await;
    let secret = serve(server("SASL_SSL", &format!("{}{}", tls.own("localhost", false), users("PLAIN")))).await;
    let ssl = client(&format!("security.protocol=SSL\n{}", tls.trust()));
    let error = dial(&ssl, &plain).await.unwrap_err();
    assert!(matches!(error, DialError::Tls(TlsProblem::ClosedAtHello)), "{error}");
    let login_in_the_clear = client(&format!("security.protocol=SASL_PLAINTEXT\n{}", login("PLAIN", "alice", "x")));
    let error = dial(&login_in_the_clear, &secret).await.unwrap_err();
    assert!(matches!(error, DialError::PeerIsTls), "{error}");
    let error = who_am_i(&client(""), &secret).await.unwrap_err();
    assert!(error.contains("the peer speaks TLS on this port"), "{error}");
    assert_eq!((plain.counts().refused, secret.counts().refused), (1, 2));
    // No login where one is needed, and one where none is.
    let guarded = serve(server("SASL_PLAINTEXT", &users("PLAIN"))).await;
    assert!(who_am_i(&client(""), &guarded).await.unwrap_err().contains("closed"));
}
