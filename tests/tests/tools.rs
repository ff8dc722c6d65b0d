//! Kafka's own tools, as they are, against ordinary topics of the embedded store; and idempotent producers, its own and
//! librdkafka's, whose daemon is killed under them.

use anyhow::{Context, Result, ensure};
use hawser_testkit::daemon::{Daemon, DaemonSpec};
use hawser_testkit::kafka::{Home, Tool, Version, scratch_folder};
use hawser_tests::{Client, binary};
use std::collections::BTreeMap;
use std::thread;

/// A daemon that lets everybody do everything, and the tools to reach it.
struct Bench {
    daemon: Daemon,
    home: Home,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = scratch_folder("tools")?;
        let spec = DaemonSpec::new(&binary()?, folder.path(), "store", "PLAINTEXT");
        let daemon = spec.property("allow.everyone.if.no.acl.found", "true").start()?;
        Ok(Self { daemon, home: Home::find(Version::V4_3)?, _folder: folder })
    }

    fn tool(&self, class: &str) -> Tool {
        self.home.tool(class).args(["--bootstrap-server", &self.daemon.bootstrap()])
    }

    fn topics(&self, args: &[&str]) -> Result<String> {
        self.tool("org.apache.kafka.tools.TopicCommand").args(args).run()
    }

    fn configs(&self, args: &[&str]) -> Result<String> {
        self.tool("kafka.admin.ConfigCommand").args(args).run()
    }

    /// Has `tool` fail, as it must, with Kafka's `error` and these words in it.
    fn refused(tool: Tool, error: &str, words: &str) -> Result<()> {
        let output = tool.output()?;
        let said = output.stdout + &output.stderr;
        ensure!(!output.status.success(), "it was not refused:\n{said}");
        let named = format!("org.apache.kafka.common.errors.{error}: ");
        let is_it = |line: &str| line.split_once(&named).is_some_and(|(_, message)| message.contains(words));
        ensure!(said.lines().any(is_it), "no {error} with {words:?} in:\n{said}");
        Ok(())
    }

    /// The records of `topic` from its beginning on, as `kafka-console-consumer` prints them.
    fn consume(&self, topic: &str, count: usize) -> Result<Vec<String>> {
        let said = self
            .tool("org.apache.kafka.tools.consumer.ConsoleConsumer")
            .args(["--topic", topic, "--from-beginning", "--timeout-ms", "60000", "--max-messages", &count.to_string()])
            .run()?;
        Ok(said.lines().map(str::to_owned).collect())
    }
}

fn expect(said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(said.contains(word), "no {word:?} in:\n{said}");
    }
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn stock_tools_make_fill_change_and_delete_topics() -> Result<()> {
    let bench = Bench::new()?;
    bench.topics(&["--create", "--topic", "orders", "--partitions", "2", "--config", "retention.ms=86400000"])?;
    let described = bench.topics(&["--describe", "--topic", "orders"])?;
    expect(&described, &["PartitionCount: 2", "ReplicationFactor: 1", "retention.ms=86400000", "Leader: 1", "Isr: 1"])?;
    expect(&bench.topics(&["--create", "--topic", "orders", "--if-not-exists"])?, &[])?;
    let create = || bench.tool("org.apache.kafka.tools.TopicCommand").arg("--create");
    Bench::refused(create().args(["--topic", "orders"]), "TopicExistsException", "Topic 'orders' already exists.")?;
    Bench::refused(create().args(["--topic", "a b"]), "InvalidTopicException", "Topic name is invalid")?;
    let two = create().args(["--topic", "two", "--replication-factor", "2"]);
    Bench::refused(two, "InvalidReplicationFactorException", "only 1 broker(s) are registered")?;
    bench.topics(&["--alter", "--topic", "orders", "--partitions", "3"])?;
    expect(&bench.topics(&["--describe", "--topic", "orders"])?, &["PartitionCount: 3"])?;

    let orders = ["--entity-type", "topics", "--entity-name", "orders"];
    let alter = ["--alter", "--add-config", "max.message.bytes=200000,cleanup.policy=[compact,delete]"];
    bench.configs(&[&orders[..], &alter].concat())?;
    bench.configs(&[&orders[..], &["--alter", "--delete-config", "retention.ms"]].concat())?;
    let shown = bench.configs(&[&orders[..], &["--describe"]].concat())?;
    expect(&shown, &["max.message.bytes=200000", "cleanup.policy=compact,delete"])?;
    ensure!(!shown.contains("retention.ms="), "{shown}");
    let all = bench.configs(&[&orders[..], &["--describe", "--all"]].concat())?;
    expect(&all, &["segment.bytes=1073741824 sensitive=false synonyms={DEFAULT_CONFIG:log.segment.bytes=1073741824}"])?;
    for (setting, words) in [
        ("retention.ms=x", "Invalid value x for configuration retention.ms"),
        ("retention.mss=1", "Unknown topic config name: retention.mss"),
    ] {
        let bad = bench.tool("kafka.admin.ConfigCommand").args(orders).args(["--alter", "--add-config", setting]);
        Bench::refused(bad, "InvalidConfigurationException", words)?;
    }
    let broker = bench.configs(&["--entity-type", "brokers", "--entity-name", "1", "--describe", "--all"])?;
    expect(&broker, &["num.partitions=1", "log.dirs="])?;

    bench.topics(&["--create", "--topic", "codecs", "--partitions", "1"])?;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        bench
            .tool("org.apache.kafka.tools.ConsoleProducer")
            .args(["--topic", "codecs", "--compression-codec", codec])
            .input(format!("{codec} one\n{codec} two\n"))
            .run()?;
    }
    let expected: Vec<_> = codecs.iter().flat_map(|codec| [format!("{codec} one"), format!("{codec} two")]).collect();
    assert_eq!(bench.consume("codecs", expected.len())?, expected);

    // Not into `orders`: a compacted topic takes no records without a key.
    bench.topics(&["--create", "--topic", "load", "--partitions", "3"])?;
    let perf = ["--topic", "load", "--num-records", "5000", "--record-size", "100", "--throughput", "-1"];
    let perf = bench.home.tool("org.apache.kafka.tools.ProducerPerformance").args(perf);
    let said = perf.args(["--bootstrap-server", &bench.daemon.bootstrap(), "--command-property", "acks=all"]).run()?;
    expect(&said, &["5000 records sent"])?;
    let offsets = bench.tool("org.apache.kafka.tools.GetOffsetShell").args(["--topic", "load"]).run()?;
    let total: i64 = offsets.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok()).sum();
    assert_eq!(total, 5000, "{offsets}");
    let perf = bench.tool("org.apache.kafka.tools.ConsumerPerformance");
    let perf = perf.args(["--topic", "load", "--num-records", "5000", "--timeout", "60000", "--hide-header"]);
    let said = perf.run()?;
    // start, end, MB, MB/s, records, …
    ensure!(said.lines().any(|line| line.split(", ").nth(4) == Some("5000")), "{said}");

    let file = bench.daemon.folder().join("delete.json");
    std::fs::write(&file, r#"{"version":1,"partitions":[{"topic":"codecs","partition":0,"offset":4}]}"#)?;
    let deleted = bench
        .tool("org.apache.kafka.tools.DeleteRecordsCommand")
        .args(["--offset-json-file", &file.display().to_string()])
        .run()?;
    expect(&deleted, &["partition: codecs-0\tlow_watermark: 4"])?;
    assert_eq!(bench.consume("codecs", 6)?, expected.get(4..).context("six")?);

    let dirs = bench.tool("org.apache.kafka.tools.LogDirsCommand").arg("--describe").run()?;
    expect(&dirs, &["\"partition\":\"orders-2\"", &bench.daemon.data_dir().display().to_string()])?;
    expect(&bench.tool("org.apache.kafka.tools.BrokerApiVersionsCommand").run()?, &["CreateTopics", "Produce(0)"])?;
    let cluster = bench.home.tool("org.apache.kafka.tools.ClusterTool");
    let cluster = cluster.args(["cluster-id", "--bootstrap-server", &bench.daemon.bootstrap()]).run()?;
    expect(&cluster, &["Cluster ID: "])?;
    let elected = bench.tool("org.apache.kafka.tools.LeaderElectionCommand");
    expect(&elected.args(["--election-type", "preferred", "--all-topic-partitions"]).run()?, &[])?;

    bench.topics(&["--delete", "--topic", "codecs"])?;
    assert_eq!(bench.topics(&["--list"])?.lines().collect::<Vec<_>>(), ["load", "orders"]);
    Ok(())
}

/// Both kinds of client stop at once, with the reason in their own error.
#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn transactional_producers_are_told_that_there_are_no_transactions() -> Result<()> {
    const WHY: &str = "transactional producers are not supported by the embedded store yet";
    let bench = Bench::new()?;
    for client in [Client::LibrdkafkaOld, Client::LibrdkafkaNew] {
        let said = client.transact(&bench.daemon.bootstrap())?;
        expect(&said, &["TRANSACTIONAL_ID_AUTHORIZATION_FAILED\tTrue\t", WHY])?;
    }
    let server = format!("bootstrap.servers={}", bench.daemon.bootstrap());
    let perf = bench.home.tool("org.apache.kafka.tools.ProducerPerformance").args(["--producer-props", &server]);
    let perf = perf.args(["--topic", "t", "--num-records", "1", "--record-size", "1", "--throughput", "-1"]);
    let output = perf.args(["--transactional-id", "orders-writer"]).output()?;
    let said = output.stdout + &output.stderr;
    ensure!(!output.status.success(), "it was not refused:\n{said}");
    expect(&said, &["Could not find a coordinator", WHY])
}

/// What one idempotent producer writes in ten seconds, in small batches, several in flight.
const COUNTED: usize = 30_000;
const COUNTED_A_SECOND: usize = 3_000;

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn an_idempotent_producer_loses_and_doubles_nothing_when_the_daemon_is_killed() -> Result<()> {
    let bench = Bench::new()?;
    let server = format!("bootstrap.servers={}", bench.daemon.bootstrap());
    let producer = bench
        .home
        .tool("org.apache.kafka.tools.ProducerPerformance")
        .args([
            "--topic",
            "counted",
            "--num-records",
            &COUNTED.to_string(),
            "--throughput",
            &COUNTED_A_SECOND.to_string(),
        ])
        .args(["--payload-monotonic", "--producer-props", &server, "acks=all", "enable.idempotence=true"])
        .args(["batch.size=500", "linger.ms=0"]);
    let sent = format!("{COUNTED} records sent");
    counted_while_killed(bench, move || expect(&producer.run()?, &[sent.as_str()]))
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn librdkafkas_idempotent_producer_loses_and_doubles_nothing_either() -> Result<()> {
    let bench = Bench::new()?;
    let at = bench.daemon.bootstrap();
    counted_while_killed(bench, move || Client::LibrdkafkaNew.produce(&at, "counted", COUNTED, COUNTED_A_SECOND))
}

/// Kills the daemon as often as it can be while `produce` writes the numbers below [`COUNTED`] to topic `counted`. Each is there
/// once afterwards.
fn counted_while_killed(mut bench: Bench, produce: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    bench.topics(&["--create", "--topic", "counted", "--partitions", "1"])?;
    let producing = thread::spawn(produce);
    let mut killed = 0;
    while !producing.is_finished() {
        let offsets = bench.tool("org.apache.kafka.tools.GetOffsetShell").args(["--topic", "counted"]).run()?;
        let end: usize = offsets.trim().rsplit(':').next().context("no offset")?.parse()?;
        if end > 0 && end < COUNTED {
            bench.daemon.kill9()?;
            bench.daemon.start()?;
            killed += 1;
        }
    }
    producing.join().map_err(|_| anyhow::anyhow!("the producer's thread panicked"))??;
    ensure!(killed > 0, "the producer was done before the daemon was killed once");
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for line in bench.consume("counted", COUNTED)? {
        *seen.entry(line.trim().parse()?).or_default() += 1;
    }
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).take(5).collect();
    ensure!(seen.len() == COUNTED && doubled.is_empty(), "{} of {COUNTED}, doubled {doubled:?}", seen.len());
    let offsets = bench.tool("org.apache.kafka.tools.GetOffsetShell").args(["--topic", "counted"]).run()?;
    assert_eq!(offsets.trim(), format!("counted:0:{COUNTED}"), "killed {killed} times");
    Ok(())
}
