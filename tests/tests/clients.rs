//! The digest programs themselves: on a stock cluster every client reads what Kafka's own reads. Without this, a difference
//! on a mirror could be the program's.

use anyhow::Result;
use hawser_testkit::kafka::{Isolation, Kafka};
use hawser_testkit::zoo;
use hawser_tests::digests_of_other_clients;

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn every_client_reads_stock_kafka_alike() -> Result<()> {
    let mut kafka = Kafka::three_brokers().start()?;
    let mut driver = kafka.driver()?;
    let size = zoo::Size { records: 300, transactions: 5, wide_partitions: 10, leader_moves: 7 };
    let zoo = zoo::fill(&mut kafka, &mut driver, size)?;
    let names = zoo.names();
    for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        let mut own = driver.digest(isolation, &names)?;
        own.sort();
        let other = digests_of_other_clients(&kafka.bootstrap(), None, isolation, &names)?;
        for (own, other) in own.iter().zip(&other) {
            assert_eq!(own, other, "{isolation:?}");
        }
        assert_eq!(own.len(), other.len());
    }
    Ok(())
}
