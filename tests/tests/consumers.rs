//! Bar 2 of the link operations: groups stop at the source and go on at the promoted mirrors, each partition at its exact
//! offset. Twenty groups, half of them of Kafka's own client and half of librdkafka, of both group protocols, on 120
//! partitions; none of them reads a record again, none leaves one out.
//!
//! Nothing but the promotion can make this exact: from before the groups stop on, the next regular pass of the offset sync
//! is an hour away.

use anyhow::{Context, Result, ensure};
use hawser_testkit::daemon::{OPERATOR, OPERATOR_PASSWORD};
use hawser_testkit::kafka::{Driver, Kafka, Security, Tool};
use hawser_tests::{Client, LINK, Login, Pair, Session};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);
const TOPICS: [&str; 3] = ["orders", "payments", "shipments"];
/// Of each topic.
const PARTITIONS: u32 = 40;
/// Partitions at the end of each topic that get no records while groups read, so that groups stand at their very ends.
const QUIET: u32 = 4;
const GROUPS: u32 = 20;
const SYNC: &str = "ConsumerOffsetSync";
const SETTINGS: &str = "consumer.offset.sync.enable=true\n\
    consumer.offset.sync.ms=1000\n\
    consumer.offset.group.filters={\"groupFilters\":[{\"name\":\"*\",\"patternType\":\"LITERAL\",\"filterType\":\"INCLUDE\"}]}\n";
const ONCE_AN_HOUR: &str = "consumer.offset.sync.ms=3600000\n";
/// Records that producers write at the destination after the move.
const WRITTEN_HERE: u64 = 2_000;

/// By topic and partition.
type Ends = BTreeMap<(String, i32), i64>;
/// By group, topic and partition: committed offset, end of the partition, lag.
type Shown = BTreeMap<(String, String, i32), [i64; 3]>;
/// By group, topic and partition: the runs of consecutive offsets, as they were read.
type Read = BTreeMap<(String, String, i32), Vec<(i64, i64)>>;

fn is_java(group: u32) -> bool {
    group < GROUPS / 2
}

fn name(group: u32) -> String {
    format!("{}-{group:02}", if is_java(group) { "java" } else { "librdkafka" })
}

/// Records in a partition before anybody reads: uneven, none in the last of each topic.
fn sent(topic: u32, partition: u32) -> u32 {
    if partition == PARTITIONS - 1 { 0 } else { 20 + (partition * 7 + topic * 11) % 40 }
}

/// Where a group stops at the source: anywhere from the beginning to the end of what was sent, mostly within a batch.
fn last_stop(group: u32, topic: u32, partition: u32) -> u32 {
    let sent = sent(topic, partition);
    if partition >= PARTITIONS - QUIET { sent } else { (group * 17 + topic * 5 + partition * 13) % (sent + 1) }
}

/// One session, with a stop for each partition of each topic (by its number).
fn session(group: u32, stop: impl Fn(u32, u32) -> i64) -> Session {
    let stops = TOPICS.into_iter().zip(0..).map(|(name, topic)| {
        let stops = (0..PARTITIONS).map(|partition| stop(topic, partition)).collect();
        (name.to_owned(), stops)
    });
    let protocol = if group.is_multiple_of(2) { "classic" } else { "consumer" };
    Session { group: name(group), protocol, stops: stops.collect() }
}

/// Lets groups read in `sessions` (by group) and notes what they read. The older librdkafka knows the classic protocol only.
fn consume(
    read: &mut Read,
    java: &mut Driver,
    (bootstrap, login): (&str, Option<Login<'_>>),
    sessions: BTreeMap<u32, Session>,
) -> Result<()> {
    let mut runs = Vec::new();
    let mut librdkafka = [(Client::LibrdkafkaOld, Vec::new()), (Client::LibrdkafkaNew, Vec::new())];
    for (group, session) in sessions {
        match librdkafka.get_mut(usize::from(session.protocol != "classic")) {
            Some((_, sessions)) if !is_java(group) => sessions.push(session),
            _ => runs.extend(session.by_java(java)?),
        }
    }
    for (client, sessions) in librdkafka {
        runs.extend(client.consume(bootstrap, login, &sessions)?);
    }
    for run in runs {
        read.entry((run.group, run.topic, run.partition)).or_default().push((run.first, run.next));
    }
    Ok(())
}

/// Every group read every offset once, in order, from 0 to the end.
fn ensure_each_once(read: &Read, ends: &Ends) -> Result<()> {
    for group in (0..GROUPS).map(name) {
        for ((topic, partition), end) in ends {
            let runs = read.get(&(group.clone(), topic.clone(), *partition)).map(Vec::as_slice).unwrap_or_default();
            let mut at = 0;
            for (first, next) in runs {
                ensure!(*first == at, "{group} in {topic}-{partition}: {first} follows {at} in {runs:?}, end {end}");
                at = *next;
            }
            ensure!(at == *end, "{group} in {topic}-{partition}: {runs:?} does not reach the end {end}");
        }
    }
    Ok(())
}

fn ends(driver: &mut Driver) -> Result<Ends> {
    let offsets = driver.ends(&TOPICS)?;
    Ok(offsets.into_iter().map(|o| ((o.topic, o.partition), o.latest)).collect())
}

/// What Kafka's own tool says about all groups.
fn shown(tool: Tool) -> Result<Shown> {
    let text = tool.args(["--describe", "--all-groups"]).run()?;
    let mut shown = Shown::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [group, topic, partition, committed, end, lag, ..] = words[..] else { continue };
        if !TOPICS.contains(&topic) {
            continue;
        }
        let number = |word: &str| word.parse::<i64>().with_context(|| line.to_owned());
        let at = (group.to_owned(), topic.to_owned(), partition.parse().with_context(|| line.to_owned())?);
        shown.insert(at, [number(committed)?, number(end)?, number(lag)?]);
    }
    Ok(shown)
}

/// What the tool must say. Kafka's own client commits wherever it was a member, librdkafka only where it read.
fn to_be_shown(ends: &Ends) -> Result<Shown> {
    let mut wanted = Shown::new();
    for group in 0..GROUPS {
        for (topic, topic_name) in (0..).zip(TOPICS) {
            for partition in 0..PARTITIONS {
                let (at, committed) = (partition.cast_signed(), i64::from(last_stop(group, topic, partition)));
                let end = *ends.get(&(topic_name.to_owned(), at)).context("a partition without an end")?;
                if is_java(group) || committed > 0 {
                    wanted.insert((name(group), topic_name.to_owned(), at), [committed, end, end - committed]);
                }
            }
        }
    }
    Ok(wanted)
}

fn ensure_same(what: &str, shown: &Shown, wanted: &Shown) -> Result<()> {
    let differing: Vec<_> = wanted.iter().filter(|(at, offsets)| shown.get(*at) != Some(offsets)).collect();
    let first: Vec<_> = differing.iter().take(5).map(|(at, offsets)| (at, offsets, shown.get(*at))).collect();
    ensure!(differing.is_empty(), "{what}: {} differ; wanted, and shown: {first:?}", differing.len());
    ensure!(shown.len() == wanted.len(), "{what}: {} offsets instead of {}", shown.len(), wanted.len());
    Ok(())
}

fn start_load(driver: &mut Driver, partitions: u32, records_per_second: u32) -> Result<()> {
    for topic in TOPICS {
        driver.ask(&["load", "start", topic, &partitions.to_string(), &records_per_second.to_string(), "100"])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn groups_go_on_at_their_exact_offsets() -> Result<()> {
    const TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let mut pair = Pair::start(Kafka::one_node().security(Security::ScramPlaintext).start()?)?;
    for (topic, topic_name) in (0..).zip(TOPICS) {
        pair.origin.create_topic(topic_name, PARTITIONS, 1, &[])?;
        for (partition, codec) in (0..PARTITIONS).zip(["none", "lz4", "zstd"].into_iter().cycle()) {
            pair.origin.send(topic_name, partition.cast_signed(), sent(topic, partition), 100, codec)?;
        }
    }
    pair.create_mirrors(&TOPICS)?;
    pair.configure(SETTINGS)?;

    // Half of the groups read a part, and are known at the destination before they read on.
    start_load(&mut pair.origin, PARTITIONS - QUIET, 60)?;
    let at_source = pair.kafka.bootstrap();
    let mut read = Read::new();
    let early = (0..GROUPS).filter(|group| group % 4 < 2);
    let early = early.map(|g| (g, session(g, |topic, partition| i64::from(last_stop(g, topic, partition) / 2))));
    consume(&mut read, &mut pair.origin, (&at_source, None), early.collect())?;
    let pass = pair.next_pass(SYNC, LIMIT)?;
    ensure!(pass["state"] == "ACTIVE" && pass["examined"] == GROUPS / 2, "{pass}");
    pair.configure(ONCE_AN_HOUR)?;
    let before = pair.await_passes(SYNC, 1, LIMIT)?["runs"].as_u64().context("no runs")?;

    // All of them read on and stop; then their topics move.
    let late = (0..GROUPS).map(|g| (g, session(g, |topic, partition| i64::from(last_stop(g, topic, partition)))));
    consume(&mut read, &mut pair.origin, (&at_source, None), late.collect())?;
    pair.origin.ask(&["load", "stop"])?;
    let began = Instant::now();
    pair.destination.run(&[&["mirror", "promote"], &TOPICS[..], &["--link", LINK]].concat())?;
    pair.await_stopped(&TOPICS, LIMIT)?;
    let promotion = began.elapsed();
    let last_pass = pair.task(SYNC)?;
    ensure!(last_pass["runs"].as_u64() > Some(before), "the promotion has not asked for offsets: {last_pass}");

    let moved = ends(&mut pair.origin)?;
    ensure!(ends(&mut pair.mirror)? == moved, "the promoted topics end elsewhere");
    let wanted = to_be_shown(&moved)?;
    ensure_same("at the source", &shown(pair.kafka.tool(TOOL))?, &wanted)?;
    ensure_same("at the destination", &shown(pair.tool_at_destination(TOOL))?, &wanted)?;

    // Producers move, too, and every group reads to the end.
    start_load(&mut pair.mirror, PARTITIONS, 1_000)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let count = pair.mirror.ask(&["load", "count"])?.pop().context("no count")?;
        let acknowledged: u64 = count.split('\t').next().unwrap_or_default().parse()?;
        if acknowledged >= WRITTEN_HERE {
            break;
        }
        ensure!(Instant::now() < deadline, "the promoted topics take no records: {count}");
        std::thread::sleep(Duration::from_millis(50));
    }
    pair.mirror.ask(&["load", "stop"])?;
    let ends = ends(&mut pair.mirror)?;
    let end = |topic: u32, partition: u32| {
        let at = (TOPICS[topic as usize].to_owned(), partition.cast_signed());
        ends.get(&at).copied().unwrap_or_default()
    };
    let authority = pair.folder().join("cloud-ca.pem");
    let here = pair.destination.bootstrap();
    let login = Some((OPERATOR, OPERATOR_PASSWORD, authority.as_path()));
    consume(&mut read, &mut pair.mirror, (&here, login), (0..GROUPS).map(|g| (g, session(g, end))).collect())?;
    ensure_each_once(&read, &ends)?;

    let partitions = ends.len();
    let (records, moved): (i64, i64) = (ends.values().sum(), moved.values().sum());
    eprintln!(
        "{GROUPS} groups on {partitions} partitions with {records} records ({moved} of the source): each read once by every \
         group; promoted in {promotion:?}, its pass over {} offsets took {} ms and wrote {}",
        wanted.len(),
        last_pass["last_duration_ms"],
        last_pass["changed"],
    );
    Ok(())
}
