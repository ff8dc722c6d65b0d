//! The thin path through everything, as scenario A tells it: both halves, one topic, byte equality, stock clients.

use anyhow::{Result, ensure};
use hawser_testkit::daemon::DaemonSpec;
use hawser_testkit::kafka::{Isolation, Kafka, Security};
use hawser_tests::{LINK, Pair, SOURCE_LOGIN, SOURCE_PASSWORD};
use std::time::Duration;

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_topic_crosses_the_link_and_is_equal() -> Result<()> {
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    kafka.create_topic("from-on-prem", 1, 1, &[])?;
    kafka
        .tool("org.apache.kafka.tools.ConsoleProducer")
        .args(["--topic", "from-on-prem"])
        .input("1\n2\n3\n4\n5\n")
        .run()?;
    let mut pair = Pair::start(kafka)?;
    pair.create_mirrors(&["from-on-prem"])?;
    pair.await_caught_up(&["from-on-prem"], Duration::from_secs(30))?;

    let list = pair.destination.run(&["mirror", "list"])?;
    let row = list.lines().find(|l| l.contains("from-on-prem-link")).unwrap_or_default().to_owned();
    assert!(row.contains("ACTIVE"), "{list}");
    let read = pair
        .kafka
        .home()
        .tool("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .args(["--bootstrap-server", &pair.destination.bootstrap()])
        .args(["--command-config", &pair.destination.command_config().display().to_string()])
        .args(["--topic", "from-on-prem", "--from-beginning", "--max-messages", "5", "--timeout-ms", "30000"])
        .output()?;
    assert_eq!(read.stdout, "1\n2\n3\n4\n5\n", "{}", read.stderr);

    // It goes on: what is produced now arrives, too, at the same offsets.
    pair.origin.send("from-on-prem", 0, 1000, 300, "zstd")?;
    pair.await_caught_up(&["from-on-prem"], Duration::from_secs(30))?;
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let theirs = pair.origin.digest(isolation, &["from-on-prem"])?;
        assert_eq!(pair.mirror.digest(isolation, &["from-on-prem"])?, theirs);
    }
    pair.destination.run(&["verify", "--link", LINK])?;

    pair.destination.stop()?;
    let equal = pair.compare_on_disk(&["from-on-prem"])?;
    assert!(equal.batches >= 2, "{equal:?}");
    pair.source.stop()?;
    for log in [pair.source.log(), pair.destination.log()] {
        assert!(!log.contains(SOURCE_PASSWORD) && !log.contains("panicked"), "{log}");
    }
    Ok(())
}

/// The source's brokers ask for TLS with a certificate of the client's own, a SCRAM login, and rights.
#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_source_that_asks_for_certificates_logins_and_rights_is_mirrored() -> Result<()> {
    let kafka = Kafka::one_node()
        .security(Security::SaslSsl)
        .property("listener.name.sasl_ssl.ssl.client.auth", "required")
        .start()?;
    let own = kafka.authority().client(SOURCE_LOGIN)?.write(kafka.folder(), "source-half")?;
    let store = own.key_store.display().to_string();
    let with_certificate = |source: DaemonSpec| {
        source.property("local.ssl.keystore.type", "PEM").property("local.ssl.keystore.location", &store)
    };
    let mut pair = Pair::unlinked(kafka, with_certificate, |d, _| Ok(d))?;
    let refused = pair.link_through(&pair.destination.bootstrap());
    let reason = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(reason.contains("certificate"), "a half without a certificate: {reason:?}");

    pair.destination.run(&["link", "delete", LINK, "--force"])?;
    let lines = format!("local.ssl.keystore.type=PEM\nlocal.ssl.keystore.location={store}\n");
    pair.link_with(&pair.destination.bootstrap(), &lines)?;
    for topic in ["orders", "not-allowed"] {
        pair.origin.create_topic(topic, 2, 1, &[])?;
        pair.origin.send(topic, -1, 500, 200, "zstd")?;
    }
    let principal = format!("User:{SOURCE_LOGIN}");
    let rights = ["--operation", "Read", "--operation", "DescribeConfigs", "--topic", "orders"];
    pair.kafka
        .tool("org.apache.kafka.tools.AclCommand")
        .args(["--add", "--allow-principal", &principal])
        .args(rights)
        .run()?;
    pair.create_mirrors(&["orders"])?;
    pair.await_caught_up(&["orders"], Duration::from_secs(60))?;
    let refused = pair.destination.command(&["mirror", "create", "not-allowed", "--link", LINK])?;
    ensure!(refused.code == 1, "a mirror of a topic that the login may not read: {refused:?}");
    // The login is made anew with every life of the half and of its broker.
    pair.kafka.stop_broker(1)?;
    pair.kafka.start_broker(1)?;
    pair.source.stop()?;
    pair.source.start()?;
    pair.origin.send("orders", -1, 500, 200, "zstd")?;
    pair.await_caught_up(&["orders"], Duration::from_secs(60))?;
    pair.destination.stop()?;
    pair.compare_on_disk(&["orders"])?;
    pair.source.stop()?;
    for log in [pair.source.log(), pair.destination.log()] {
        assert!(!log.contains(SOURCE_PASSWORD) && !log.contains("panicked"), "{log}");
    }
    Ok(())
}
