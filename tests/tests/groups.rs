//! Groups of the KIP-848 protocol on a mirror: Kafka's own consumer and librdkafka in one group, members that join, leave
//! and are killed; every record is read, and once its offset is committed never again.

use anyhow::{Context, Result, ensure};
use hawser_testkit::daemon::{OPERATOR, OPERATOR_PASSWORD};
use hawser_testkit::kafka::{Jvm, Kafka, Security, cache_dir};
use hawser_testkit::process::{Process, Program};
use hawser_tests::Pair;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
const GROUP: &str = "readers";
const PARTITIONS: u32 = 6;
const ROUND: u32 = 100;
const LIMIT: Duration = Duration::from_secs(240);
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONSOLE: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// What one member read and committed, by partition.
#[derive(Default)]
struct Read {
    offsets: BTreeMap<i32, BTreeSet<i64>>,
    committed: BTreeMap<i32, i64>,
}

impl Read {
    /// `read P O` and `committed P O`, or what the console consumer prints.
    fn parse(log: &str) -> Self {
        let mut read = Self::default();
        for line in log.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize, prefix: &str| words.get(at)?.strip_prefix(prefix)?.parse::<i64>().ok();
            let java = number(0, "Partition:").zip(number(1, "Offset:"));
            let other = number(1, "").zip(number(2, ""));
            match (words.first(), java, other) {
                (Some(&"committed"), _, Some((partition, offset))) => {
                    read.committed.insert(partition as i32, offset);
                }
                (Some(&"read"), _, Some((partition, offset))) | (_, Some((partition, offset)), _) => {
                    read.offsets.entry(partition as i32).or_default().insert(offset);
                }
                _ => {}
            }
        }
        read
    }
}

struct Members<'a> {
    pair: &'a Pair,
    logs: Vec<std::path::PathBuf>,
}

impl Members<'_> {
    fn log(&mut self, name: &str) -> std::path::PathBuf {
        let log = self.pair.folder().join(format!("{name}.log"));
        self.logs.push(log.clone());
        log
    }

    fn librdkafka(&mut self, name: &str) -> Result<Process> {
        let python = cache_dir().join("venv-librdkafka-new/bin/python");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/group_librdkafka.py");
        let authority = self.pair.folder().join("cloud-ca.pem").display().to_string();
        let program = Program::new(python)
            .arg(program.display().to_string())
            .args([self.pair.destination.bootstrap(), GROUP.to_owned(), TOPIC.to_owned()])
            .env("KAFKA_USER", OPERATOR)
            .env("KAFKA_PASSWORD", OPERATOR_PASSWORD)
            .env("KAFKA_CA", authority);
        program.spawn(name, &self.log(name))
    }

    fn java(&mut self, name: &str) -> Result<Process> {
        let config = self.pair.destination.command_config().display().to_string();
        let bootstrap = self.pair.destination.bootstrap();
        let args = ["--bootstrap-server", &bootstrap, "--topic", TOPIC, "--group", GROUP, "--from-beginning"];
        let more = [
            "--command-config",
            &config,
            "--command-property",
            "group.protocol=consumer",
            "--formatter-property",
            "print.partition=true",
            "--formatter-property",
            "print.offset=true",
            "--formatter-property",
            "print.value=false",
        ];
        let program = self.pair.kafka.home().program(CONSOLE, Jvm::quick(128), None).args(args).args(more);
        program.spawn(name, &self.log(name))
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn read_so_far(logs: &[std::path::PathBuf]) -> Result<Vec<Read>> {
    logs.iter().map(|log| Ok(Read::parse(&std::fs::read_to_string(log)?))).collect()
}

fn total(reads: &[Read]) -> usize {
    let mut all = BTreeSet::new();
    for read in reads {
        all.extend(read.offsets.iter().flat_map(|(partition, offsets)| offsets.iter().map(|o| (*partition, *o))));
    }
    all.len()
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn members_come_go_and_die_and_nothing_is_lost_or_read_again() -> Result<()> {
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    let short = |spec: hawser_testkit::daemon::DaemonSpec| {
        spec.property("group.consumer.session.timeout.ms", "10000")
            .property("group.consumer.heartbeat.interval.ms", "1000")
    };
    let mut pair = Pair::start_with(kafka, |source| source, |destination, _| Ok(short(destination)))?;
    pair.origin.create_topic(TOPIC, PARTITIONS, 1, &[])?;
    pair.create_mirrors(&[TOPIC])?;
    let mut sent = 0;
    let mut send = |pair: &mut Pair| -> Result<usize> {
        for partition in 0..PARTITIONS.cast_signed() {
            pair.origin.send(TOPIC, partition, ROUND, 100, "none")?;
        }
        pair.await_caught_up(&[TOPIC], LIMIT)?;
        sent += (PARTITIONS * ROUND) as usize;
        Ok(sent)
    };

    let mut wanted = send(&mut pair)?;
    let mut logs = Vec::new();
    let mut members = Members { pair: &pair, logs: Vec::new() };
    let mut first = members.librdkafka("first")?;
    let mut java = members.java("java")?;
    let mut doomed = members.librdkafka("doomed")?;
    logs.append(&mut members.logs);
    until("the first round is read", || Ok(total(&read_so_far(&logs)?) >= wanted))?;
    doomed.kill9()?;
    wanted = send(&mut pair)?;
    until("the killed member's partitions are read by others", || Ok(total(&read_so_far(&logs)?) >= wanted))?;
    let mut members = Members { pair: &pair, logs: Vec::new() };
    let mut late = members.librdkafka("late")?;
    logs.append(&mut members.logs);
    first.stop(LIMIT)?;
    // A restart in the middle of it: epochs go on, nobody is fenced for it.
    pair.destination.stop()?;
    pair.destination.start()?;
    wanted = send(&mut pair)?;
    until("the last round is read", || Ok(total(&read_so_far(&logs)?) >= wanted))?;

    let describe = |pair: &Pair, args: &[&str]| {
        let config = pair.destination.command_config().display().to_string();
        let bootstrap = pair.destination.bootstrap();
        let tool = pair.kafka.home().tool(GROUPS).args(["--bootstrap-server", &bootstrap, "--command-config", &config]);
        tool.args(args).run()
    };
    let listed = describe(&pair, &["--list", "--type", "consumer", "--state"])?;
    ensure!(listed.contains(GROUP) && !listed.contains("Empty"), "{listed}");
    let shown = describe(&pair, &["--describe", "--group", GROUP, "--members", "--verbose"])?;
    ensure!(shown.contains(TOPIC), "{shown}");
    late.stop(LIMIT)?;
    java.stop(LIMIT)?;
    until("the group is empty", || Ok(describe(&pair, &["--list", "--state"])?.contains("Empty")))?;
    let offsets = describe(&pair, &["--describe", "--group", GROUP])?;
    let lags: Vec<&str> = offsets
        .lines()
        .filter(|line| line.contains(TOPIC))
        .map(|line| line.split_whitespace().nth(5).context("no lag"))
        .collect::<Result<_>>()?;
    ensure!(lags.len() == PARTITIONS as usize && lags.iter().all(|lag| *lag == "0"), "{offsets}");

    // Read again may be only what a killed member had read and not committed.
    let reads = read_so_far(&logs)?;
    ensure!(total(&reads) == wanted, "{} of {wanted} records were read", total(&reads));
    for (at, read) in reads.iter().enumerate() {
        for (other_at, other) in reads.iter().enumerate().filter(|(other_at, _)| *other_at != at) {
            for (partition, offsets) in &read.offsets {
                let twice = offsets.iter().filter(|o| other.offsets.get(partition).is_some_and(|all| all.contains(o)));
                let doomed = [at, other_at].into_iter().find(|at| logs[*at].ends_with("doomed.log"));
                for offset in twice {
                    let killed = doomed.with_context(|| format!("{partition}@{offset} was read twice"))?;
                    let committed = reads[killed].committed.get(partition).copied().unwrap_or(0);
                    ensure!(*offset >= committed, "{partition}@{offset} was committed and read again");
                }
            }
        }
    }
    Ok(())
}
