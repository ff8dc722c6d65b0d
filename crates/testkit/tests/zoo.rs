//! The zoo is what it claims to be, and the comparison finds stock Kafka's own replicas equal.

use anyhow::Result;
use hawser_testkit::kafka::{Dump, Isolation, Kafka};
use hawser_testkit::{compare, zoo};

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn a_stock_follower_is_equal_to_its_leader_over_the_whole_zoo() -> Result<()> {
    let mut kafka = Kafka::three_brokers().start()?;
    let mut driver = kafka.driver()?;
    let size = zoo::Size { records: 500, transactions: 5, wide_partitions: 20, leader_moves: 7 };
    let zoo = zoo::fill(&mut kafka, &mut driver, size)?;
    let names = zoo.names();
    let offsets = driver.offsets(&names)?;
    assert_eq!(offsets.len(), zoo.partitions.len());
    let mut compared = compare::Equal::default();
    for (partition, offsets) in zoo.partitions.iter().zip(&offsets) {
        assert_eq!((&partition.topic, partition.partition), (&offsets.topic, offsets.partition));
        let leader = zoo.source_folder(&kafka, partition)?;
        for replica in partition.replicas.iter().filter(|r| **r != partition.leader) {
            let folder = format!("{}-{}", partition.topic, partition.partition);
            let equal = compare::partitions(&leader, &kafka.data_dir(*replica)?.join(folder), offsets.earliest)?;
            compared.batches += equal.batches;
            compared.bytes += equal.bytes;
        }
    }
    assert!(compared.batches > 300 && compared.bytes > 30_000_000, "{compared:?}");

    let committed = driver.digest(Isolation::ReadCommitted, &names)?;
    let uncommitted = driver.digest(Isolation::ReadUncommitted, &names)?;
    assert_eq!(committed.len(), zoo.partitions.len());
    let records = |all: &[hawser_testkit::kafka::Digest]| all.iter().map(|d| d.records).sum::<u64>();
    assert!(records(&committed) < records(&uncommitted));

    // Kafka's own tool reads all of it, once the brokers no longer hold indexes open.
    let folders: Vec<_> = zoo.partitions.iter().map(|p| zoo.source_folder(&kafka, p)).collect::<Result<_>>()?;
    for id in kafka.broker_ids() {
        kafka.stop_broker(id)?;
    }
    let dump = Dump::of(kafka.home(), &folders)?;
    assert!(dump.batches > 300 && dump.entries > 0, "{dump:?}");
    Ok(())
}
