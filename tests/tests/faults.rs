//! Bar 2: whatever dies, hangs or is cut while producers run, nothing is skipped and nothing doubled, and bar 1 holds.

use anyhow::{Context, Result, ensure};
use hawser_testkit::daemon::{Daemon, DaemonSpec};
use hawser_testkit::faults::Relay;
use hawser_testkit::kafka::{Kafka, Security};
use hawser_tests::{LINK, Pair, SOURCE_LOGIN, SOURCE_PASSWORD, binary, ensure_alike, figure};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const TOPICS: [&str; 2] = ["faults-plain", "faults-transactions"];
/// What a test fails at, however busy the machine is. What is aimed at is [`RECOVERY_TARGET`].
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
/// The bar: from repair to flowing. A busy machine may miss it, so the run only says whether it was met.
const RECOVERY_TARGET: Duration = Duration::from_secs(5);
/// For what is no recovery: the first records, and the last.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
const KILLS: usize = 100;
/// How long processes are stopped.
const PAUSE: Duration = Duration::from_secs(20);

/// Three brokers, two topics, producers at work, and the link through a relay.
struct Scene {
    name: &'static str,
    pair: Pair,
    relay: Relay,
    /// Times from a repair until everything that the source had then was at the mirror.
    recoveries: Vec<(String, Duration)>,
}

impl Scene {
    fn start(name: &'static str) -> Result<Self> {
        let kafka = Kafka::three_brokers().security(Security::ScramPlaintext).start()?;
        let mut pair = Pair::unlinked(kafka, |s| s, |d, _| Ok(d))?;
        let destination = SocketAddr::from((Ipv4Addr::LOCALHOST, pair.destination.port()));
        let relay = Relay::start(destination)?;
        pair.link_through(&format!("localhost:{}", relay.port()))?;
        for (topic, partitions) in TOPICS.iter().zip([6, 3]) {
            pair.origin.create_topic(topic, partitions, 3, &["min.insync.replicas=2"])?;
        }
        pair.create_mirrors(&TOPICS)?;
        pair.origin.ask(&["load", "start", TOPICS[0], "6", "400", "500"])?;
        pair.origin.ask(&["load", "start-transactional", TOPICS[1], "3", "200", "300"])?;
        pair.await_caught_up(&TOPICS, CATCH_UP_LIMIT)?;
        Ok(Self { name, pair, relay, recoveries: Vec::new() })
    }

    /// Everything is whole again: how long until the mirror has what the source has now?
    fn repaired(&mut self, what: &str) -> Result<()> {
        let took = self.pair.await_caught_up(&TOPICS, RECOVERY_LIMIT).with_context(|| what.to_owned())?;
        self.recoveries.push((what.to_owned(), took));
        Ok(())
    }

    /// The end of the story: producers stop, and bar 1 holds.
    fn check(mut self) -> Result<()> {
        let counts = self.pair.origin.ask(&["load", "stop"])?;
        let sent =
            counts.first().and_then(|c| c.split('\t').next()?.parse::<u64>().ok()).context("counts of the load")?;
        ensure!(sent > 1000, "the producers hardly sent anything: {counts:?}");
        self.pair.origin.ask(&["topics", "await-in-sync", TOPICS[0], TOPICS[1]])?;
        self.pair.await_caught_up(&TOPICS, CATCH_UP_LIMIT)?;
        let equal = ensure_alike(&mut self.pair, &TOPICS)?;
        for daemon in [&self.pair.source, &self.pair.destination] {
            ensure!(!daemon.log().contains("panicked"), "a daemon panicked:\n{}", daemon.log());
        }
        self.report(&format!("{sent} records sent, {} batches of {} bytes alike", equal.batches, equal.bytes));
        Ok(())
    }

    /// Members of the source half as the destination sees them, with their channels.
    fn members(&self) -> Result<BTreeMap<String, u64>> {
        let said = self.pair.destination.run(&["link", "describe", LINK, "--output", "json"])?;
        let link: serde_json::Value = serde_json::from_str(&said)?;
        let members = link["members"].as_array().with_context(|| format!("no members in {said}"))?;
        let member = |m: &serde_json::Value| Some((m["member"].as_str()?.to_owned(), m["channels"].as_u64()?));
        members.iter().map(|m| member(m).with_context(|| format!("read {m}"))).collect()
    }

    /// Waits until the destination sees `count` members.
    fn await_members(&self, count: usize) -> Result<BTreeMap<String, u64>> {
        let deadline = Instant::now() + RECOVERY_LIMIT;
        loop {
            let members = self.members()?;
            if members.len() == count {
                return Ok(members);
            }
            ensure!(Instant::now() < deadline, "not {count} members after {RECOVERY_LIMIT:?}: {members:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn report(&mut self, summary: &str) {
        self.recoveries.sort_by_key(|(_, took)| *took);
        let (Some((_, median)), Some((what, worst))) =
            (self.recoveries.get(self.recoveries.len() / 2), self.recoveries.last())
        else {
            return;
        };
        let judged = if *worst < RECOVERY_TARGET { "met" } else { "MISSED" };
        figure(&format!(
            "{}: from repair to flowing median {median:.2?}, worst {worst:.2?} ({what}) of {} repairs; \
             target < {RECOVERY_TARGET:?}: {judged}; {summary}",
            self.name,
            self.recoveries.len(),
        ));
    }
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_hundred_kills_lose_and_double_nothing() -> Result<()> {
    let mut scene = Scene::start("kills")?;
    let mut second = second_member(&scene.pair)?;
    let mut dice = Dice(0x5eed);
    for round in 0..KILLS {
        match dice.roll(20) {
            0..=6 => {
                scene.pair.source.kill9()?;
                scene.repaired("source half killed, the other member takes over")?;
                scene.pair.source.start()?;
            }
            7 | 8 => {
                scene.pair.source.kill9()?;
                second.kill9()?;
                scene.pair.source.start()?;
                scene.repaired("both members killed")?;
                second.start()?;
            }
            9..=17 => {
                scene.pair.destination.kill9()?;
                scene.pair.destination.start()?;
                scene.repaired("destination killed")?;
            }
            _ => {
                let id = 1 + i32::try_from(round % 3)?;
                scene.pair.kafka.kill_broker(id)?;
                scene.pair.kafka.start_broker(id)?;
                scene.repaired("broker killed")?;
            }
        }
    }
    ensure!(!second.log().contains("panicked"), "the second member panicked:\n{}", second.log());
    scene.check()
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn cuts_pauses_and_half_open_connections_lose_and_double_nothing() -> Result<()> {
    let mut scene = Scene::start("cuts and pauses")?;
    for _ in 0..10 {
        scene.relay.reset_all();
        scene.repaired("connections reset")?;
    }
    for _ in 0..2 {
        scene.relay.freeze_all();
        scene.repaired("connections half-open")?;
    }
    scene.relay.silence(true);
    std::thread::sleep(PAUSE);
    scene.relay.silence(false);
    scene.repaired("network silent for 20 s")?;
    scene.relay.refuse(true);
    scene.relay.reset_all();
    std::thread::sleep(Duration::from_secs(5));
    scene.relay.refuse(false);
    scene.repaired("destination unreachable for 5 s")?;

    scene.pair.source.process()?.pause()?;
    std::thread::sleep(PAUSE);
    scene.pair.source.process()?.resume()?;
    scene.repaired("source half stopped for 20 s")?;
    scene.pair.destination.process()?.pause()?;
    std::thread::sleep(PAUSE);
    scene.pair.destination.process()?.resume()?;
    scene.repaired("destination stopped for 20 s")?;
    one_member_of_two_stands_still(&mut scene)?;
    for id in [1, 2] {
        scene.pair.kafka.pause_broker(id)?;
        std::thread::sleep(PAUSE);
        scene.pair.kafka.resume_broker(id)?;
        scene.repaired("broker stopped for 20 s")?;
    }
    scene.check()
}

/// Each in turn, so that the one which has the channels does too: they move to the other one before it goes on.
fn one_member_of_two_stands_still(scene: &mut Scene) -> Result<()> {
    let mut second = second_member(&scene.pair)?;
    let mut moved = 0;
    for first_stands in [true, false] {
        let before = scene.await_members(2)?;
        {
            let still = if first_stands { &mut scene.pair.source } else { &mut second };
            still.process()?.pause()?;
        }
        scene.repaired("one member of two stopped, the other takes over")?;
        let after = scene.await_members(1)?;
        let left: Vec<_> = before.iter().filter(|(member, _)| !after.contains_key(*member)).collect();
        moved += left.iter().map(|(_, channels)| **channels).sum::<u64>();
        ensure!(after.values().all(|channels| *channels > 0), "it flows without channels: {before:?}, {after:?}");
        {
            let still = if first_stands { &mut scene.pair.source } else { &mut second };
            still.process()?.resume()?;
        }
        scene.repaired("the stopped member of two goes on")?;
    }
    ensure!(moved > 0, "none of the members that stood still had a channel");
    scene.await_members(2)?;
    ensure!(!second.log().contains("panicked"), "the second member panicked:\n{}", second.log());
    second.stop()?;
    scene.repaired("one member of two gone for good")
}

/// Another daemon of the same source half, beside the same cluster.
fn second_member(pair: &Pair) -> Result<Daemon> {
    let spec = DaemonSpec::source(&binary()?, pair.folder(), "on-prem-2", &pair.kafka, SOURCE_LOGIN, SOURCE_PASSWORD)?;
    let second = spec.start()?;
    let file = pair.folder().join("clusterlink-CP-src.config").display().to_string();
    second.run(&["link", "create", LINK, "--destination-cluster", &pair.destination_id, "--config-file", &file])?;
    Ok(second)
}

/// xorshift64: the same faults in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
