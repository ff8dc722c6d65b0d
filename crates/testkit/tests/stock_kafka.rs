//! The harness itself against stock Kafka: each shape and each kind of login comes up and serves.

use anyhow::Result;
use hawser_testkit::Kafka;
use hawser_testkit::kafka::{PLAIN_USERS, Security, ToolOutput, Version};

const CONSOLE_PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

fn read_five(kafka: &Kafka, bootstrap: &str, login: &std::path::Path) -> Result<ToolOutput> {
    kafka
        .home()
        .tool(CONSOLE_CONSUMER)
        .args(["--bootstrap-server", bootstrap, "--command-config", &login.display().to_string()])
        .args(["--topic", "t", "--from-beginning", "--max-messages", "5", "--timeout-ms", "20000"])
        .output()
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn one_node_as_in_scenario_a() -> Result<()> {
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    kafka.create_topic("t", 1, 1, &[])?;
    kafka.tool(CONSOLE_PRODUCER).args(["--topic", "t"]).input("1\n2\n3\n4\n5\n").run()?;
    kafka.add_scram_user("cp-to-cloud-link", "link-secret")?;
    let login = kafka.client_file("cp-to-cloud-link", "link-secret", "SCRAM-SHA-512")?;
    assert_eq!(read_five(&kafka, &kafka.secure_bootstrap(), &login)?.stdout, "1\n2\n3\n4\n5\n");
    let wrong = kafka.client_file("admin", "not-it", "SCRAM-SHA-512")?;
    let refused = read_five(&kafka, &kafka.secure_bootstrap(), &wrong)?.stderr;
    assert!(refused.contains("SaslAuthenticationException"), "{refused}");
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn three_brokers_with_tls_and_authorizer_survive_a_kill() -> Result<()> {
    let mut kafka = Kafka::three_brokers().security(Security::SaslSsl).start()?;
    kafka.create_topic("t", 2, 3, &[])?;
    kafka.tool(CONSOLE_PRODUCER).args(["--topic", "t"]).input("1\n2\n3\n4\n5\n").run()?;
    let mut expected: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let admin = kafka.admin_file()?;
    assert_eq!(sorted(read_five(&kafka, &kafka.secure_bootstrap(), &admin)?.stdout), expected);
    let (user, password) = PLAIN_USERS[0];
    let bob = kafka.client_file(user, password, "PLAIN")?;
    let denied = read_five(&kafka, &kafka.secure_bootstrap(), &bob)?.stderr;
    assert!(denied.contains("AuthorizationException"), "{denied}");

    kafka.kill_broker(2)?;
    kafka.start_broker(2)?;
    expected.sort();
    assert_eq!(sorted(read_five(&kafka, &kafka.secure_bootstrap(), &admin)?.stdout), expected);
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn the_older_release_starts_too() -> Result<()> {
    let kafka = Kafka::one_node().version(Version::V3_9).start()?;
    kafka.create_topic("t", 1, 1, &[])?;
    let described = kafka.tool("org.apache.kafka.tools.TopicCommand").args(["--describe", "--topic", "t"]).run()?;
    assert!(described.contains("PartitionCount: 1"), "{described}");
    Ok(())
}
