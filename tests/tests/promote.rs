//! Bar 3: promotion and failover under load, with a killed source and an open transaction; what producers write afterwards
//! is neither lost nor taken for something that was mirrored.

use anyhow::{Result, bail, ensure};
use hawser_testkit::kafka::{Digest, Isolation, Kafka, Security};
use hawser_tests::{LINK, Pair};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
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
        for topic in [PROMOTED, FAILED_OVER] {
            pair.origin.ask(&["load", "start", topic, &partitions, "400", "500"])?;
        }
        pair.origin.send(OPEN, 0, COMMITTED, 50, "none")?;
        pair.origin.ask(&["load", "hold-transaction", OPEN, &committed])?;
        pair.await_caught_up(&TOPICS, LIMIT)?;
        Ok(Self { pair })
    }

    fn digest(&mut self, isolation: Isolation, topic: &str) -> Result<Vec<Digest>> {
        self.pair.mirror.digest(isolation, &[topic])
    }

    fn records(&mut self, isolation: Isolation, topic: &str) -> Result<u64> {
        Ok(self.digest(isolation, topic)?.iter().map(|digest| digest.records).sum())
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

    // Failover while the load goes on, and the source dies. Nobody writes to a mirror before.
    let refused = scene.pair.mirror.send(FAILED_OVER, 0, 1, 10, "none");
    ensure!(refused.is_err(), "a mirror took a record");
    scene.pair.origin.ask(&["load", "stop"])?;
    scene.pair.await_caught_up(&TOPICS, LIMIT)?;
    let theirs = scene.pair.origin.digest(Isolation::ReadUncommitted, &[PROMOTED])?;
    scene.pair.origin.ask(&["load", "start", FAILED_OVER, &PARTITIONS.to_string(), "400", "500"])?;

    // Promotion waits for what is missing, and has all of it.
    scene.pair.destination.run(&["mirror", "promote", PROMOTED, OPEN, "--link", LINK])?;
    scene.pair.await_stopped(&[PROMOTED, OPEN], LIMIT)?;
    ensure!(scene.digest(Isolation::ReadUncommitted, PROMOTED)? == theirs, "the promoted topic is not its source");
    let again = scene.pair.destination.command(&["mirror", "promote", PROMOTED, "--link", LINK])?;
    let already = format!("Topic '{PROMOTED}' has already stopped its mirror from '{LINK}'");
    ensure!(format!("{}{}", again.stdout, again.stderr).contains(&already), "{again:?}");
    scene.write(PROMOTED)?;

    // The open transaction was aborted: who reads what is committed goes on behind it.
    ensure!(scene.records(Isolation::ReadUncommitted, OPEN)? == u64::from(2 * COMMITTED), "open: all is there");
    ensure!(scene.records(Isolation::ReadCommitted, OPEN)? == u64::from(COMMITTED), "open: not all is committed");
    scene.write(OPEN)?;

    let Some(&broker) = scene.pair.kafka.broker_ids().first() else { bail!("no broker") };
    scene.pair.kafka.kill_broker(broker)?;
    scene.pair.destination.run(&["mirror", "failover", FAILED_OVER, "--link", LINK])?;
    ensure!(scene.pair.is_stopped(FAILED_OVER)?, "failover takes its time");
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
    Ok(())
}
