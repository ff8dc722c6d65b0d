//! The thin path through everything, as scenario A tells it: both halves, one topic, byte equality, stock clients.

use anyhow::Result;
use hawser_testkit::kafka::{Isolation, Kafka, Security};
use hawser_tests::{LINK, Pair, SOURCE_PASSWORD};
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
