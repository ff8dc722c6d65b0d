//! Against stock Kafka: our client at its listeners, its client at ours.
#![allow(missing_docs)]

mod support;

use hawser_testkit::kafka::{ADMIN, ADMIN_PASSWORD, Home, Kafka, Security, Version};
use hawser_transport::{Connector, DialError, Direct, HostPort, KafkaClient, Target, TlsProblem};
use hawser_wire::NodeId;
use hawser_wire::messages::MetadataRequest;
use std::time::Duration;
use support::{Authority, SOON, client, options, serve, server};

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

async fn cluster_id(client: &KafkaClient) -> Result<String, hawser_transport::ClientError> {
    let (_, response) = client.call(&MetadataRequest::default(), 12, Duration::ZERO).await?;
    Ok(response.cluster_id.map(|id| id.to_string()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
async fn we_log_in_to_stock_kafka() {
    let kafka = tokio::task::spawn_blocking(|| {
        Kafka::one_node().security(Security::SaslSsl).property("connections.max.reauth.ms", "2500").start().unwrap()
    });
    let kafka = kafka.await.unwrap();
    let secure: HostPort = kafka.secure_bootstrap().parse().unwrap();
    let open: HostPort = kafka.bootstrap().parse().unwrap();
    for mechanism in MECHANISMS {
        let (user, password) = if mechanism == "PLAIN" { ("bob", "bob-secret") } else { (ADMIN, ADMIN_PASSWORD) };
        let security = client(&kafka.client_properties(user, password, mechanism));
        let stream = security.dial(&secure, SOON).await.unwrap();
        let client_ = KafkaClient::start(stream, options()).await.unwrap();
        assert_eq!(cluster_id(&client_).await.unwrap(), kafka.cluster_id(), "{mechanism}");
        // Three session lives: the broker would close the connection without a new login in each.
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(7) {
            assert_eq!(cluster_id(&client_).await.unwrap(), kafka.cluster_id(), "{mechanism} {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for (user, password) in [(user, "wrong"), ("nobody", password)] {
            let security = client(&kafka.client_properties(user, password, mechanism));
            let error = security.dial(&secure, SOON).await.unwrap_err();
            eprintln!("{mechanism} {user}: {error}");
            assert!(matches!(error, DialError::Authentication { .. }), "{mechanism}: {error}");
        }
    }
    let tls = kafka.client_properties(ADMIN, ADMIN_PASSWORD, "SCRAM-SHA-512");
    let error = client(&tls).dial(&open, SOON).await.unwrap_err();
    eprintln!("TLS to plain: {error}");
    assert!(matches!(error, DialError::Tls(TlsProblem::ClosedAtHello)), "{error}");
    let error = client(&tls.replace("SASL_SSL", "SASL_PLAINTEXT")).dial(&secure, SOON).await.unwrap_err();
    eprintln!("plain to TLS: {error}");
    assert!(matches!(error, DialError::PeerIsTls | DialError::ClosedInLogin), "{error}");
    let error = client(&tls.replace("SASL_SSL", "SASL_PLAINTEXT")).dial(&open, SOON).await.unwrap_err();
    eprintln!("login to a port without: {error}");
    assert!(matches!(error, DialError::NoLoginHere | DialError::ClosedInLogin), "{error}");

    let direct = Direct::new(client(&tls), vec![HostPort::new("localhost", 1), secure.clone()], options(), SOON);
    let client_ = direct.lease(Target::Node(NodeId(1))).await.unwrap();
    assert_eq!(cluster_id(&client_).await.unwrap(), kafka.cluster_id());
    let error = direct.lease(Target::Node(NodeId(77))).await.unwrap_err().to_string();
    assert!(error.contains("does not list it"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
async fn stock_clients_log_in_to_us() {
    let home = Home::find(Version::V4_3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new(folder.path(), "ca");
    let own = ca.issue("srv.pem", "localhost", false);
    let module = |m: &str| {
        let class = if m == "PLAIN" { "plain.Plain" } else { "scram.Scram" };
        format!("org.apache.kafka.common.security.{class}LoginModule required")
    };
    let mut text = format!(
        "ssl.keystore.type=PEM\nssl.keystore.location={own}\nsasl.enabled.mechanisms={}\n",
        MECHANISMS.join(",")
    );
    for mechanism in MECHANISMS {
        let key = mechanism.to_ascii_lowercase();
        text += &format!("listener.name.front.{key}.sasl.jaas.config={} user_alice=\"wonder\";\n", module(mechanism));
    }
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"] {
        let front = serve(server(protocol, &text)).await;
        for mechanism in MECHANISMS {
            for (password, good) in [("wonder", true), ("land", false)] {
                let file = folder.path().join("client.properties");
                let config = format!(
                    "security.protocol={protocol}\nsasl.mechanism={mechanism}\nsasl.jaas.config={} username=\"alice\" \
                     password=\"{password}\";\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
                    module(mechanism),
                    ca.path("ca")
                );
                std::fs::write(&file, config).unwrap();
                let tool = home
                    .tool("org.apache.kafka.tools.BrokerApiVersionsCommand")
                    .args(["--bootstrap-server", &support::at(&front).to_string()])
                    .args(["--command-config", &file.display().to_string()]);
                let output = tokio::task::spawn_blocking(|| tool.output().unwrap()).await.unwrap();
                let said = format!("{}{}", output.stdout, output.stderr);
                if good {
                    assert!(said.contains("Metadata(3): 0 to 12"), "{protocol} {mechanism}: {said}");
                } else {
                    eprintln!("{protocol} {mechanism}: {}", said.lines().next().unwrap_or_default());
                    assert!(said.contains("SaslAuthenticationException"), "{protocol} {mechanism}: {said}");
                }
            }
        }
        assert_eq!(front.counts().too_slow, 0);
        eprintln!("{protocol}: {:?}", front.counts());
    }
}
