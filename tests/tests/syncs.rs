//! What a link keeps like its source besides the data: offsets, topic configs, ACLs.

use anyhow::{Result, ensure};
use hawser_testkit::kafka::{Kafka, Security};
use hawser_tests::{LINK, Pair, SOURCE_LOGIN};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SETTINGS: &str = "consumer.offset.sync.enable=true\n\
    consumer.offset.sync.ms=1000\n\
    consumer.offset.group.filters={\"groupFilters\":[{\"name\":\"*\",\"patternType\":\"LITERAL\",\"filterType\":\"INCLUDE\"},\
    {\"name\":\"own.\",\"patternType\":\"PREFIXED\",\"filterType\":\"EXCLUDE\"}]}\n\
    acl.sync.enable=true\n\
    acl.sync.ms=1000\n\
    acl.filters={\"aclFilters\":[{\"resourceFilter\":{\"resourceType\":\"topic\",\"patternType\":\"any\"},\
    \"accessFilter\":{\"operation\":\"any\",\"permissionType\":\"any\"}}]}\n\
    topic.config.sync.ms=1000\n";

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn offsets_configs_and_acls_follow_the_source() -> Result<()> {
    const ACLS: &str = "org.apache.kafka.tools.AclCommand";
    const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    const CONFIGS: &str = "kafka.admin.ConfigCommand";
    let mut pair = Pair::start(Kafka::one_node().security(Security::SaslSsl).start()?)?;
    pair.origin.create_topic("moves", 3, 1, &["retention.ms=86400000"])?;
    for partition in 0..3 {
        pair.origin.send("moves", partition, 100, 100, "lz4")?;
    }
    let principal = format!("User:{SOURCE_LOGIN}");
    let allow = |words: &[&str]| {
        pair.kafka.tool(ACLS).args(["--add", "--allow-principal", &principal]).args(words).run().map(drop)
    };
    allow(&["--operation", "Read", "--operation", "DescribeConfigs", "--topic", "moves"])?;
    allow(&["--operation", "Describe", "--group", "*"])?;
    allow(&["--operation", "Describe", "--cluster"])?;
    let ann = ["--allow-principal", "User:ann", "--operation", "Read", "--topic", "moves"];
    pair.kafka.tool(ACLS).arg("--add").args(ann).run()?;
    for group in ["billing", "own.reports"] {
        let to_seven = ["--reset-offsets", "--topic", "moves", "--to-offset", "7", "--execute"];
        pair.kafka.tool(GROUPS).args(["--group", group]).args(to_seven).run()?;
    }
    pair.tool_at_destination(ACLS)
        .args(["--add", "--allow-principal", "User:bert", "--operation", "Read", "--topic", "moves"])
        .run()?;

    pair.create_mirrors(&["moves"])?;
    pair.await_caught_up(&["moves"], LIMIT)?;
    pair.configure(SETTINGS)?;

    let offsets = pair.next_pass("ConsumerOffsetSync", LIMIT)?;
    ensure!(offsets["state"] == "ACTIVE" && offsets["changed"] == 3 && offsets["examined"] == 1, "{offsets}");
    let acls = pair.next_pass("AclSync", LIMIT)?;
    ensure!(acls["state"] == "ACTIVE", "{acls}");
    let listed = pair.tool_at_destination(ACLS).arg("--list").run()?;
    ensure!(listed.contains("User:ann") && listed.contains("User:bert"), "{listed}");
    ensure!(!listed.contains("resourceType=GROUP"), "the filter names topics only: {listed}");

    // Changes follow; what was made at the destination stays.
    pair.kafka.tool(ACLS).args(["--remove", "--force"]).args(ann).run()?;
    let retention =
        ["--alter", "--entity-type", "topics", "--entity-name", "moves", "--add-config", "retention.ms=3600000"];
    pair.kafka.tool(CONFIGS).args(retention).run()?;
    pair.next_pass("AclSync", LIMIT)?;
    let configs = pair.next_pass("TopicConfigsSync", LIMIT)?;
    ensure!(configs["state"] == "ACTIVE", "{configs}");
    let listed = pair.tool_at_destination(ACLS).arg("--list").run()?;
    ensure!(!listed.contains("User:ann") && listed.contains("User:bert"), "{listed}");
    let shown = ["--describe", "--entity-type", "topics", "--entity-name", "moves"];
    let shown = pair.tool_at_destination(CONFIGS).args(shown).run()?;
    ensure!(shown.contains("retention.ms=3600000"), "{shown}");

    // The group goes on at the mirror at its exact offsets: none is read again, none is left out.
    pair.destination.run(&["mirror", "promote", "moves", "--link", LINK])?;
    pair.await_stopped(&["moves"], LIMIT)?;
    let described = pair.tool_at_destination(GROUPS).args(["--describe", "--group", "billing"]).run()?;
    let rows: Vec<Vec<&str>> = described
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<&str>| words.get(1) == Some(&"moves"))
        .collect();
    ensure!(rows.len() == 3 && rows.iter().all(|row| row.get(3) == Some(&"7")), "{described}");
    let left: i64 = rows.iter().filter_map(|row| row.get(5)?.parse::<i64>().ok()).sum();
    ensure!(left == 3 * (100 - 7), "{described}");
    let known = pair.tool_at_destination(GROUPS).arg("--list").run()?;
    ensure!(!known.contains("own.reports"), "an excluded group was copied: {known}");
    Ok(())
}
