//! Bar 3: promotion and failover under load on both sides, with a killed source and open transactions; what was mirrored is
//! the source's, and what producers write afterwards is neither lost nor taken for something that was mirrored.

use anyhow::{Context, Result, bail, ensure};
use hawser_testkit::compare;
use hawser_testkit::kafka::{Digest, Isolation, Kafka, Security};
use hawser_tests::{LINK, Pair};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
const PROMOTED: &str = "promoted";
const PARTITIONS: u32 = 3;
/// Its source holds a transaction that nobody ends.
const OPEN: &str = "open";
const FAILED_OVER: &str = "failed-over";
const TOPICS: [&str; 3] = [PROMOTED, OPEN, FAILED_OVER];
const COMMITTED: u32 = 10;
const WRITTEN: u32 = 500;

struct Scene {
    pair: Pair,
}

impl Scene {
    /// A mirrored load of idempotent producers, and a transaction that stays open.
    fn start() -> Result<Self> {
        let kafka = Kafka::one_node().security(Security::ScramPlaintext).start()?;
        let mut pair = Pair::start(kafka)?;
        for topic in TOPICS {
            pair.origin.create_topic(topic, PARTITIONS, 1, &[])?;
        }
        pair.create_mirrors(&TOPICS)?;
        let (partitions, committed) = (PARTITIONS.to_string(), COMMITTED.to_string());
        for topic in [OPEN, FAILED_OVER] {
            pair.origin.send(topic, 0, COMMITTED, 50, "none")?;
            pair.origin.ask(&["load", "hold-transaction", topic, &committed])?;
        }
        for topic in [PROMOTED, FAILED_OVER] {
            pair.origin.ask(&["load", "start", topic, &partitions, "400", "500"])?;
        }
        pair.await_caught_up(&TOPICS, LIMIT)?;
        Ok(Self { pair })
    }

    fn digest(&mut self, isolation: Isolation, topic: &str) -> Result<Vec<Digest>> {
        self.pair.mirror.digest(isolation, &[topic])
    }

    fn records(&mut self, isolation: Isolation, topic: &str) -> Result<u64> {
        Ok(self.digest(isolation, topic)?.iter().map(|digest| digest.records).sum())
    }

    /// Waits until `enough` of the numbered records that somebody writes here were taken and refused; how many were taken, and
    /// why the last that was not was refused.
    fn numbers_until(&mut self, enough: impl Fn(u64, u64) -> bool) -> Result<(u64, String)> {
        let began = Instant::now();
        loop {
            let said = self.pair.mirror.ask(&["numbers", "count"])?.pop().context("no answer")?;
            let mut words = said.splitn(3, '\t');
            let (taken, refused, reason) = (words.next(), words.next(), words.next().unwrap_or_default());
            let count = |word: Option<&str>| -> Result<u64> {
                word.and_then(|word| word.parse().ok()).with_context(|| said.clone())
            };
            let (taken, refused) = (count(taken)?, count(refused)?);
            if enough(taken, refused) {
                return Ok((taken, reason.to_owned()));
            }
            ensure!(began.elapsed() < LIMIT, "the producer gets no further: {said}");
            std::thread::sleep(POLL);
        }
    }

    /// Below where each mirror was stopped, its log is its source's. Stops the destination.
    fn mirrored_bytes_are_the_sources(mut self) -> Result<()> {
        let mut stopped_at = BTreeMap::new();
        for topic in TOPICS {
            let said = self.pair.destination.run(&["mirror", "describe", topic, "--output", "json"])?;
            let mirror: serde_json::Value = serde_json::from_str(&said)?;
            for (index, partition) in (0..PARTITIONS).zip(mirror["partitions"].as_array().context("no partitions")?) {
                let end = partition["stopped_at_offset"].as_i64().with_context(|| said.clone())?;
                stopped_at.insert(format!("{topic}-{index}"), end);
            }
        }
        ensure!(stopped_at.len() == TOPICS.len() * 3, "{stopped_at:?}");
        self.pair.destination.stop()?;
        let Some(&broker) = self.pair.kafka.broker_ids().first() else { bail!("no broker") };
        for (partition, end) in stopped_at {
            let theirs = self.pair.kafka.data_dir(broker)?.join(&partition);
            let ours = self.pair.destination.data_dir().join(&partition);
            let equal = compare::prefixes(&theirs, &ours, end).with_context(|| partition.clone())?;
            ensure!(equal.batches > 0 || partition.starts_with(OPEN), "{partition}: nothing was mirrored");
        }
        Ok(())
    }

    /// A producer of the destination writes: whatever is acknowledged is there, once, and is read as committed.
    ///
    /// Its cluster gives out its first producer ids now, from 0 on as the source did, each with epoch 0 and sequences from 0
    /// on: unless they were raised, its batches repeat mirrored ones.
    fn write(&mut self, topic: &str) -> Result<()> {
        for codec in ["none", "zstd"] {
            let both = [Isolation::ReadUncommitted, Isolation::ReadCommitted];
            let before = both.map(|isolation| self.records(isolation, topic));
            self.pair.mirror.send(topic, -1, WRITTEN, 100, codec)?;
            for (isolation, before) in both.into_iter().zip(before) {
                let (before, after) = (before?, self.records(isolation, topic)?);
                ensure!(after == before + u64::from(WRITTEN), "{topic} {codec} {isolation:?}: {before}, then {after}");
            }
        }
        Ok(())
    }
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn promotion_and_failover_lose_and_double_nothing() -> Result<()> {
    let mut scene = Scene::start()?;

    // Somebody writes here all the time: a mirror takes nothing.
    scene.pair.mirror.ask(&["numbers", "start", PROMOTED, &PARTITIONS.to_string()])?;
    let (taken, reason) = scene.numbers_until(|_, refused| refused > 0)?;
    ensure!(taken == 0 && reason.contains("read-only mirror topic"), "a mirror took {taken} records: {reason}");

    // Promotion goes on until the mirror has all that there is, while there is ever more.
    scene.pair.destination.run(&["mirror", "promote", PROMOTED, OPEN, "--link", LINK])?;
    scene.pair.await_stopped(&[PROMOTED, OPEN], LIMIT)?;
    let (now, _) = scene.numbers_until(|_, _| true)?;
    scene.numbers_until(|taken, _| taken > now + 100)?;
    scene.pair.mirror.ask(&["numbers", "stop"])?;
    scene.pair.mirror.ask(&["numbers", "check", PROMOTED])?;
    let again = scene.pair.destination.command(&["mirror", "promote", PROMOTED, "--link", LINK])?;
    let already = format!("Topic '{PROMOTED}' has already stopped its mirror from '{LINK}'");
    ensure!(format!("{}{}", again.stdout, again.stderr).contains(&already), "{again:?}");
    scene.write(PROMOTED)?;

    // The open transaction was aborted: who reads what is committed goes on behind it.
    ensure!(scene.records(Isolation::ReadUncommitted, OPEN)? == u64::from(2 * COMMITTED), "open: all is there");
    ensure!(scene.records(Isolation::ReadCommitted, OPEN)? == u64::from(COMMITTED), "open: not all is committed");
    scene.write(OPEN)?;

    // Failover while the load goes on, and the source dies, in the middle of a transaction.
    let hidden = |scene: &mut Scene| -> Result<u64> {
        let all = scene.records(Isolation::ReadUncommitted, FAILED_OVER)?;
        Ok(all - scene.records(Isolation::ReadCommitted, FAILED_OVER)?)
    };
    let Some(&broker) = scene.pair.kafka.broker_ids().first() else { bail!("no broker") };
    scene.pair.kafka.kill_broker(broker)?;
    ensure!(hidden(&mut scene)? > u64::from(COMMITTED), "an open transaction hides nothing behind it");
    scene.pair.destination.run(&["mirror", "failover", FAILED_OVER, "--link", LINK])?;
    ensure!(scene.pair.is_stopped(FAILED_OVER)?, "failover takes its time");
    ensure!(hidden(&mut scene)? == u64::from(COMMITTED), "more is hidden than what was aborted");
    scene.write(FAILED_OVER)?;

    // All of it survives.
    let both = |scene: &mut Scene| TOPICS.map(|topic| scene.digest(Isolation::ReadCommitted, topic).ok());
    let before = both(&mut scene);
    scene.pair.destination.kill9()?;
    scene.pair.destination.start()?;
    scene.pair.mirror = scene.pair.destination.driver()?;
    ensure!(both(&mut scene) == before && before.iter().all(Option::is_some), "a kill changed what is read");
    for topic in TOPICS {
        scene.write(topic)?;
    }
    scene.mirrored_bytes_are_the_sources()
}
