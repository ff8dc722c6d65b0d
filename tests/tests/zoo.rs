//! Bar 1: the zoo of awkward data, from three stock brokers over the link, is byte-equal and reads the same everywhere.

use anyhow::{Result, ensure};
use hawser_testkit::kafka::{Jvm, Kafka, Security, Version};
use hawser_testkit::zoo;
use hawser_tests::{Pair, ensure_alike, figure};
use std::time::Duration;

const CATCH_UP_LIMIT: Duration = Duration::from_secs(180);

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn every_animal_of_the_zoo_arrives_unchanged() -> Result<()> {
    whole_zoo(Version::V4_3)
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn every_animal_arrives_from_an_older_kafka() -> Result<()> {
    whole_zoo(Version::V3_9)
}

/// The two releases have the same zoo: there is nothing in it that 3.9 cannot do.
fn whole_zoo(version: Version) -> Result<()> {
    // Records of 10 MB need more than a test broker's usual heap.
    let cluster = Kafka::three_brokers().version(version).jvm(Jvm::quick(448));
    let mut kafka = cluster.security(Security::ScramPlaintext).start()?;
    let mut driver = kafka.driver()?;
    let zoo = zoo::fill(&mut kafka, &mut driver, zoo::Size::default())?;
    let names = zoo.names();
    let mut pair = Pair::start(kafka)?;
    pair.create_mirrors(&names)?;
    let took = pair.await_caught_up(&names, CATCH_UP_LIMIT)?;
    let equal = ensure_alike(&mut pair, &names)?;
    figure(&format!(
        "zoo of {version:?}: {} partitions caught up after {took:.1?}; {} batches of {} bytes alike",
        zoo.partitions.len(),
        equal.batches,
        equal.bytes
    ));
    ensure!(equal.emptied > 0 && equal.gaps > 0, "the zoo lost its compacted logs: {equal:?}");
    Ok(())
}
