//! What a source's administrators do to topics while they are mirrored, on stock Kafka: the mirrors follow or say why they
//! cannot, and nobody else's records wait for that. Bytes are compared by the testkit, not by Hawser.

use anyhow::{Context, Result, bail, ensure};
use hawser_testkit::compare::{self, Walk};
use hawser_testkit::kafka::{Driver, Kafka, Security};
use hawser_tests::{LINK, Pair};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Written to and mirrored from the beginning to the end, whatever becomes of the others.
const STEADY: &str = "steady";
const GROWS: &str = "grows";
const TRIMMED: &str = "trimmed";
const RECREATED: &str = "recreated";
const DELETED: &str = "deleted";
/// Inside of a batch of [`TRIMMED`].
const TRIMMED_TO: i64 = 250;
/// How long a topic may be missing. Much longer than it takes to make one anew.
const GRACE: &str = "cluster.link.retry.timeout.ms=15000";

struct Scene {
    pair: Pair,
    /// Where the mirror of [`STEADY`] ended when somebody last looked.
    reached: i64,
}

impl Scene {
    fn start() -> Result<Self> {
        let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
        let mut pair = Pair::start(kafka)?;
        pair.configure(&format!("metadata.max.age.ms=500\n{GRACE}\n"))?;
        for (topic, partitions) in [(STEADY, 3), (GROWS, 1), (TRIMMED, 1), (RECREATED, 2), (DELETED, 2)] {
            pair.origin.create_topic(topic, partitions, 1, &[])?;
        }
        pair.origin.send(TRIMMED, 0, 500, 100, "none")?;
        for topic in [RECREATED, DELETED] {
            pair.origin.send(topic, -1, 300, 200, "zstd")?;
        }
        let topics = [STEADY, GROWS, TRIMMED, RECREATED, DELETED];
        pair.create_mirrors(&topics)?;
        pair.origin.ask(&["load", "start", STEADY, "3", "200", "300"])?;
        pair.origin.ask(&["load", "start-transactional", STEADY, "3", "100", "300"])?;
        pair.await_caught_up(&topics, LIMIT)?;
        Ok(Self { pair, reached: 0 })
    }

    /// Records of now arrive.
    fn flows(&mut self) -> Result<()> {
        self.pair.await_caught_up(&[STEADY], LIMIT)?;
        let reached: i64 = self.pair.mirror.ends(&[STEADY])?.iter().map(|partition| partition.latest).sum();
        ensure!(reached > self.reached, "{STEADY} ends at {reached}, as before");
        self.reached = reached;
        Ok(())
    }

    /// Where the mirror's partitions of `topic` begin and end.
    fn bounds(&mut self, topic: &str) -> Result<Vec<(i64, i64)>> {
        Ok(self
            .pair
            .mirror
            .ends(&[topic])?
            .into_iter()
            .map(|partition| (partition.earliest, partition.latest))
            .collect())
    }

    /// Waits until mirror `topic` is FAILED; how it then describes itself, and which statuses it had.
    fn await_failed(&self, topic: &str) -> Result<(Value, Vec<String>)> {
        let (began, mut seen) = (Instant::now(), Vec::new());
        loop {
            let said = self.pair.destination.run(&["mirror", "describe", topic, "--output", "json"])?;
            let mirror: Value = serde_json::from_str(&said)?;
            let status = mirror["mirror_status"].as_str().unwrap_or_default().to_owned();
            if status == "FAILED" {
                return Ok((mirror, seen));
            }
            if seen.last() != Some(&status) {
                seen.push(status);
            }
            ensure!(began.elapsed() < LIMIT, "{topic} does not fail: {said}");
            std::thread::sleep(POLL);
        }
    }

    /// A copy of what the source holds of `topic` now, partition by partition. Nobody may write to it.
    fn keep(&mut self, topic: &str) -> Result<Vec<(String, PathBuf)>> {
        let mut kept = Vec::new();
        for (name, theirs, _) in self.pair.folders(&[topic])? {
            let folder = self.pair.folder().join(format!("kept-{name}"));
            fs::create_dir(&folder)?;
            for entry in fs::read_dir(theirs)? {
                let file = entry?.path();
                if file.extension().is_some_and(|extension| extension == "log") {
                    fs::copy(&file, folder.join(file.file_name().context("a name")?))?;
                }
            }
            kept.push((name, folder));
        }
        Ok(kept)
    }
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn mirrors_follow_what_is_done_to_their_topics_or_say_why_not() -> Result<()> {
    let mut scene = Scene::start()?;

    // More partitions, one of them written to at once.
    scene.pair.origin.ask(&["load", "start", GROWS, "1", "100", "300"])?;
    scene.pair.origin.ask(&["topics", "grow", GROWS, "3"])?;
    scene.pair.origin.ask(&["load", "start", GROWS, "3", "100", "300"])?;
    await_that("the mirror grows", || Ok(scene.bounds(GROWS)?.len() == 3))?;
    scene.pair.await_caught_up(&[GROWS], LIMIT)?;
    scene.flows()?;

    // Records deleted up to the middle of a batch, while there come more.
    scene.pair.origin.ask(&["load", "start", TRIMMED, "1", "100", "300"])?;
    scene.pair.origin.ask(&["topics", "trim", TRIMMED, "0", &TRIMMED_TO.to_string()])?;
    await_that("the mirror begins later", || Ok(scene.bounds(TRIMMED)?[0].0 == TRIMMED_TO))?;
    scene.pair.await_caught_up(&[TRIMMED], LIMIT)?;
    scene.flows()?;

    // Another topic under the same name: its records are none of the mirror's.
    let recreated = scene.keep(RECREATED)?;
    let held = scene.bounds(RECREATED)?;
    scene.pair.origin.ask(&["topics", "delete", RECREATED])?;
    let created = || Ok(scene.pair.origin.create_topic(RECREATED, 2, 1, &[]).is_ok());
    await_that("its name is free", created)?;
    scene.pair.origin.send(RECREATED, -1, 900, 200, "none")?;
    let (mirror, _) = scene.await_failed(RECREATED)?;
    ensure!(mirror["mirror_topic_error"] == "SOURCE_TOPIC_ID_CHANGED", "{mirror}");
    let said = scene.pair.destination.run(&["mirror", "describe", RECREATED])?;
    ensure!(said.contains("FAILED") && said.contains("SOURCE_TOPIC_ID_CHANGED"), "{said}");
    ensure!(scene.bounds(RECREATED)? == held, "it took records of the other topic");
    scene.flows()?;

    // A topic that is gone for longer than its grace.
    let deleted = scene.keep(DELETED)?;
    let held = scene.bounds(DELETED)?;
    scene.pair.origin.ask(&["topics", "delete", DELETED])?;
    let (mirror, seen) = scene.await_failed(DELETED)?;
    ensure!(mirror["mirror_topic_error"] == "SOURCE_TOPIC_MAY_BE_DELETED", "{mirror}");
    ensure!(seen.last().is_some_and(|status| status == "SOURCE_UNAVAILABLE"), "it had no grace: {seen:?}");
    ensure!(scene.bounds(DELETED)? == held, "what was mirrored is gone");
    scene.flows()?;

    scene.pair.origin.ask(&["load", "stop"])?;
    let alive = [STEADY, GROWS, TRIMMED];
    scene.pair.await_caught_up(&alive, LIMIT)?;
    let said = scene.pair.destination.command(&["verify", "--link", LINK, "--timeout-ms", "1000"])?;
    ensure!(said.code == 3 && said.stdout.contains("was made anew"), "{said:?}");
    scene.pair.destination.stop()?;
    let equal = scene.pair.compare_on_disk(&alive)?;
    ensure!(equal.batches > 0, "there was nothing to compare");
    for (name, theirs) in recreated.iter().chain(&deleted) {
        let ours = scene.pair.destination.data_dir().join(name);
        compare::partitions(theirs, &ours, 0).with_context(|| name.clone())?;
    }
    let (_, theirs, _) = scene.pair.folders(&[TRIMMED])?.pop().context("no folder")?;
    ensure!(is_inside_a_batch(&theirs, TRIMMED_TO)?, "{TRIMMED_TO} is where a batch begins");
    Ok(())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_prefix_and_every_place_to_begin() -> Result<()> {
    const PREFIXED: &str = "prefixed";
    let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
    let mut pair = Pair::unlinked(kafka, |source| source, |destination, _| Ok(destination))?;
    let id = pair.kafka.cluster_id().to_owned();
    let destination = "link.mode=DESTINATION,connection.mode=INBOUND,cluster.link.prefix=dc1.";
    pair.destination.run(&["link", "create", PREFIXED, "--source-cluster", &id, "--config", destination])?;
    let file = pair.folder().join("prefixed.config");
    fs::write(&file, pair.source_half(&pair.destination.bootstrap()))?;
    let words = ["link", "create", PREFIXED, "--destination-cluster", &pair.destination_id, "--config-file"];
    pair.source.run(&[&words[..], &[&file.display().to_string()]].concat())?;

    let topics = ["whole", "from-now", "from-then"];
    for topic in topics {
        pair.origin.create_topic(topic, 1, 1, &[])?;
        pair.origin.send(topic, 0, 100, 100, "lz4")?;
    }
    let newest = newest_ms(&mut pair.origin, "from-then")?;
    // No record of what comes next is as old as that one.
    await_that("a later millisecond", || Ok(now_ms()? > newest + 1))?;
    pair.origin.send("from-then", 0, 100, 100, "lz4")?;
    let then = iso_8601(newest + 1)?;
    for (topic, spec) in topics.into_iter().zip(["earliest", "latest", &then]) {
        let name = format!("dc1.{topic}");
        let words = ["mirror", "create", &name, "--link", PREFIXED, "--source-topic", topic];
        pair.destination.run(&[&words[..], &["--mirror-start-offset-spec", spec]].concat())?;
    }
    let wanted = [(0, 100), (100, 100), (100, 200)];
    let mirrors = topics.map(|topic| format!("dc1.{topic}"));
    let bounds = |mirror: &mut Driver| -> Result<Vec<(i64, i64)>> {
        let mut found = Vec::new();
        for name in &mirrors {
            found.extend(mirror.ends(&[name])?.into_iter().map(|at| (at.earliest, at.latest)));
        }
        Ok(found)
    };
    await_that("the mirrors begin where they should", || Ok(bounds(&mut pair.mirror)? == wanted))?;
    for topic in topics {
        pair.origin.send(topic, 0, 50, 100, "zstd")?;
    }
    let wanted = [(0, 150), (100, 150), (100, 250)];
    await_that("the mirrors go on", || Ok(bounds(&mut pair.mirror)? == wanted))?;
    ensure!(pair.mirror.ends(&["whole"]).is_err(), "there is a topic without the prefix");
    let said = pair.destination.run(&["verify", "--link", PREFIXED])?;
    ensure!(said.contains("in 3 of 3 partitions: in sync"), "{said}");

    pair.destination.stop()?;
    for ((_, theirs, _), (start, end)) in pair.folders(&topics)?.into_iter().zip(in_order_of_names(wanted)) {
        let name = format!("dc1.{}", theirs.file_name().context("a name")?.to_string_lossy());
        let equal = compare::partitions(&theirs, &pair.destination.data_dir().join(&name), start)
            .with_context(|| name.clone())?;
        ensure!((equal.start, equal.end) == (start, end) && equal.batches > 0, "{name}: {equal:?}");
    }
    Ok(())
}

/// Of `whole`, `from-now`, `from-then`: the source describes topics by name.
fn in_order_of_names<T>([whole, from_now, from_then]: [T; 3]) -> [T; 3] {
    [from_now, from_then, whole]
}

/// Whether `offset` is neither a batch's first nor missing.
fn is_inside_a_batch(folder: &Path, offset: i64) -> Result<bool> {
    let mut walk = Walk::new(folder)?;
    while let Some(batch) = walk.next_batch()? {
        if batch.last_offset >= offset {
            return Ok(batch.base_offset < offset);
        }
    }
    bail!("{} ends before {offset}", folder.display())
}

/// Of the newest record of a topic of one partition.
fn newest_ms(origin: &mut Driver, topic: &str) -> Result<i64> {
    let said = origin.ends(&[topic])?.pop().context("no partition")?.answers;
    let newest = said.split(' ').nth(2).and_then(|answer| answer.split('@').nth(1));
    newest.and_then(|ms| ms.parse().ok()).with_context(|| said.clone())
}

fn now_ms() -> Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

fn iso_8601(ms: i64) -> Result<String> {
    let at = format!("@{}.{:03}", ms / 1_000, ms % 1_000);
    let said = Command::new("date").args(["--utc", "--date", &at, "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output()?;
    ensure!(said.status.success(), "{said:?}");
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

fn await_that(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so()? {
        ensure!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(POLL);
    }
    Ok(())
}
