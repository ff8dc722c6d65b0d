//! Bar 1: the zoo of awkward data, from three stock brokers over the link, is byte-equal and reads the same everywhere.

use anyhow::{Context, Result, bail, ensure};
use hawser_testkit::kafka::{Digest, Dump, Isolation, Jvm, Kafka, Offsets, Security, Version, read_by_console};
use hawser_testkit::zoo::{self, Zoo};
use hawser_tests::{LINK, Pair, digests_of_other_clients};
use std::time::Duration;

const CATCH_UP_LIMIT: Duration = Duration::from_secs(180);
const ISOLATIONS: [Isolation; 2] = [Isolation::ReadUncommitted, Isolation::ReadCommitted];

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
    eprintln!("{} partitions caught up after {took:?}", zoo.partitions.len());
    pair.destination.run(&["verify", "--link", LINK])?;

    same_answers(&mut pair, &names)?;
    for isolation in ISOLATIONS {
        let theirs = same_records(&mut pair, isolation, &names)?;
        other_clients_read_the_same(&pair, isolation, &names, &theirs)?;
        the_console_consumer_reads_the_same(&pair, isolation, &theirs)?;
    }

    pair.destination.stop()?;
    let equal = pair.compare_on_disk(&names)?;
    eprintln!("compared {equal:?}");
    ensure!(equal.emptied > 0 && equal.gaps > 0, "the zoo lost its compacted logs: {equal:?}");
    dumps_are_clean(&mut pair, &zoo)
}

/// Earliest, latest, max-timestamp and by-timestamp. A stock leader may name a record below its log start as the one of
/// the largest timestamp when all records are gone; a copy that never had that record cannot, and should not.
fn same_answers(pair: &mut Pair, topics: &[&str]) -> Result<()> {
    let theirs = pair.origin.offsets(topics)?;
    let ours = pair.mirror.offsets(topics)?;
    ensure!(theirs.len() == ours.len(), "{} and {} partitions", theirs.len(), ours.len());
    for (theirs, ours) in theirs.into_iter().zip(ours) {
        let readable = |answer: &str| match answer.split('@').next().and_then(|o| o.parse::<i64>().ok()) {
            Some(offset) if offset < theirs.earliest => "-1".to_owned(),
            _ => answer.to_owned(),
        };
        let answers: Vec<String> = theirs.answers.split(' ').map(readable).collect();
        let theirs = Offsets { answers: answers.join(" "), ..theirs };
        ensure!(theirs == ours, "the source answers {theirs:?}, the mirror {ours:?}");
    }
    Ok(())
}

/// Java's consumer on both sides. Returns what it reads.
fn same_records(pair: &mut Pair, isolation: Isolation, topics: &[&str]) -> Result<Vec<Digest>> {
    let theirs = pair.origin.digest(isolation, topics)?;
    let ours = pair.mirror.digest(isolation, topics)?;
    ensure!(theirs.len() == ours.len(), "{} and {} partitions", theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        ensure!(theirs == ours, "{isolation:?}: the source reads as {theirs:?}, the mirror as {ours:?}");
    }
    Ok(theirs)
}

fn other_clients_read_the_same(pair: &Pair, isolation: Isolation, topics: &[&str], theirs: &[Digest]) -> Result<()> {
    use hawser_testkit::daemon::{OPERATOR, OPERATOR_PASSWORD};
    let authority = pair.folder().join("cloud-ca.pem");
    let login = Some((OPERATOR, OPERATOR_PASSWORD, authority.as_path()));
    let mut theirs = theirs.to_vec();
    theirs.sort();
    let ours = digests_of_other_clients(&pair.destination.bootstrap(), login, isolation, topics)?;
    ensure!(theirs.len() == ours.len(), "{} and {} partitions", theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        ensure!(theirs == ours, "{isolation:?}: Java reads the source as {theirs:?}, others the mirror as {ours:?}");
    }
    Ok(())
}

/// The tool of the source's own release prints the same of every record on both sides, whatever the digests leave out.
fn the_console_consumer_reads_the_same(pair: &Pair, isolation: Isolation, read: &[Digest]) -> Result<()> {
    let records = read.iter().map(|digest| digest.records).sum();
    let (home, topics) = (pair.kafka.home(), "zoo-.*");
    let (origin, mirror, config) =
        (pair.kafka.bootstrap(), pair.destination.bootstrap(), pair.destination.command_config());
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| read_by_console(home, &origin, None, isolation, topics, records));
        let ours = read_by_console(home, &mirror, Some(&config), isolation, topics, records);
        (theirs.join(), ours)
    });
    let (theirs, ours) = (theirs.map_err(|_| anyhow::anyhow!("reading the source panicked"))??, ours?);
    let different = theirs.iter().zip(&ours).find(|(theirs, ours)| theirs != ours);
    if let Some((theirs, ours)) = different {
        let [theirs, ours] = [theirs, ours].map(|record| String::from_utf8_lossy(record).into_owned());
        bail!("{isolation:?}: the console consumer prints {theirs:.300} of the source, {ours:.300} of the mirror");
    }
    eprintln!("{isolation:?}: the console consumer prints the same {records} records on both sides");
    Ok(())
}

/// Kafka's own tool walks every segment and index of the mirror. It raises false alarms on some of Kafka's own logs, so the
/// mirror may have no complaint that the source's log, read when its brokers are stopped, has not.
fn dumps_are_clean(pair: &mut Pair, zoo: &Zoo) -> Result<()> {
    let names: Vec<String> = zoo.partitions.iter().map(|p| format!("{}-{}", p.topic, p.partition)).collect();
    let ours: Vec<_> = names.iter().map(|n| pair.destination.data_dir().join(n)).collect();
    let ours = Dump::of(pair.kafka.home(), &ours)?;
    ensure!(ours.batches > 0, "nothing was dumped");
    if ours.complaints.is_empty() {
        return Ok(());
    }
    let theirs: Vec<_> = zoo.partitions.iter().map(|p| zoo.source_folder(&pair.kafka, p)).collect::<Result<_>>()?;
    for id in pair.kafka.broker_ids() {
        pair.kafka.stop_broker(id)?;
    }
    let theirs = Dump::of(pair.kafka.home(), &theirs)?;
    for (partition, complaints) in &ours.complaints {
        let known = theirs.complaints.get(partition).map(Vec::as_slice).unwrap_or_default();
        let new = complaints.iter().find(|c| !known.contains(c));
        ensure!(new.is_none(), "DumpLogSegments on {partition}: {}", new.context("complaint")?);
    }
    Ok(())
}
