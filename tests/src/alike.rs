//! All that a mirror has in common with its source once both are at rest: the end of the zoo, and of every run with faults.

use crate::{LINK, Pair, digests_of_other_clients};
use anyhow::{Context, Result, anyhow, bail, ensure};
use hawser_testkit::compare::Equal;
use hawser_testkit::daemon::{OPERATOR, OPERATOR_PASSWORD};
use hawser_testkit::kafka::{Digest, Dump, Isolation, Offsets, read_by_console};
use std::path::PathBuf;

const ISOLATIONS: [Isolation; 2] = [Isolation::ReadUncommitted, Isolation::ReadCommitted];

/// Bar 1 for `topics`, which must have caught up: `hawser verify`; answers to ListOffsets; what Kafka's own clients, two
/// librdkafkas and kafka-python read; bytes; segments and indexes as `DumpLogSegments` sees them. Stops the destination,
/// and the brokers if the tool complains.
///
/// # Errors
/// The first difference.
pub fn ensure_alike(pair: &mut Pair, topics: &[&str]) -> Result<Equal> {
    pair.destination.run(&["verify", "--link", LINK])?;
    same_answers(pair, topics)?;
    for isolation in ISOLATIONS {
        let read = same_records(pair, isolation, topics)?;
        other_clients_read_the_same(pair, isolation, topics, &read)?;
        the_console_consumer_reads_the_same(pair, isolation, topics, &read)?;
    }
    pair.destination.stop()?;
    let equal = pair.compare_on_disk(topics)?;
    ensure!(equal.batches > 0, "there was nothing to compare");
    dumps_are_clean(pair, topics)?;
    Ok(equal)
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

/// That they read stock Kafka as Java does is the test `clients`.
fn other_clients_read_the_same(pair: &Pair, isolation: Isolation, topics: &[&str], read: &[Digest]) -> Result<()> {
    let authority = pair.folder().join("cloud-ca.pem");
    let login = Some((OPERATOR, OPERATOR_PASSWORD, authority.as_path()));
    let mut theirs = read.to_vec();
    theirs.sort();
    let ours = digests_of_other_clients(&pair.destination.bootstrap(), login, isolation, topics)?;
    ensure!(theirs.len() == ours.len(), "{} and {} partitions", theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        ensure!(theirs == ours, "{isolation:?}: Java reads the source as {theirs:?}, others the mirror as {ours:?}");
    }
    Ok(())
}

/// The tool of the source's own release prints the same of every record on both sides, whatever the digests leave out.
fn the_console_consumer_reads_the_same(
    pair: &Pair,
    isolation: Isolation,
    topics: &[&str],
    read: &[Digest],
) -> Result<()> {
    let records = read.iter().map(|digest| digest.records).sum();
    let (home, topics) = (pair.kafka.home(), topics.join("|"));
    let (origin, mirror, config) =
        (pair.kafka.bootstrap(), pair.destination.bootstrap(), pair.destination.command_config());
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| read_by_console(home, &origin, None, isolation, &topics, records));
        let ours = read_by_console(home, &mirror, Some(&config), isolation, &topics, records);
        (theirs.join(), ours)
    });
    let (theirs, ours) = (theirs.map_err(|_| anyhow!("reading the source panicked"))??, ours?);
    let different = theirs.iter().zip(&ours).find(|(theirs, ours)| theirs != ours);
    if let Some((theirs, ours)) = different {
        let [theirs, ours] = [theirs, ours].map(|record| String::from_utf8_lossy(record).into_owned());
        bail!("{isolation:?}: the console consumer prints {theirs:.300} of the source, {ours:.300} of the mirror");
    }
    eprintln!("{isolation:?}: the console consumer prints the same {records} records on both sides");
    Ok(())
}

/// Kafka's own tool walks every segment and index of the mirror. It raises false alarms on some of Kafka's own logs: the
/// mirror may have a complaint that the source's log has about the same offset, and no other.
fn dumps_are_clean(pair: &mut Pair, topics: &[&str]) -> Result<()> {
    let folders = pair.folders(topics)?;
    let ours: Vec<PathBuf> = folders.iter().map(|(_, _, ours)| ours.clone()).collect();
    let ours = Dump::of(pair.kafka.home(), &ours)?;
    ensure!(ours.batches > 0 && ours.entries > 0, "{} batches, {} entries were dumped", ours.batches, ours.entries);
    if ours.complaints.is_empty() {
        return Ok(());
    }
    // A running broker's indexes are longer than what they hold.
    for id in pair.kafka.broker_ids() {
        pair.kafka.stop_broker(id)?;
    }
    let doubted = folders.into_iter().filter(|(name, _, _)| ours.complaints.contains_key(name));
    let theirs: Vec<PathBuf> = doubted.map(|(_, theirs, _)| theirs).collect();
    let theirs = Dump::of(pair.kafka.home(), &theirs)?;
    eprintln!("DumpLogSegments complains of the mirror: {:?}; of the source: {:?}", ours.complaints, theirs.complaints);
    for (partition, complaints) in &ours.complaints {
        let known = theirs.complaints.get(partition);
        let new = complaints.iter().find(|complaint| known.is_none_or(|known| !known.contains(*complaint)));
        ensure!(new.is_none(), "DumpLogSegments on {partition}, not at the source: {}", new.context("complaint")?);
    }
    Ok(())
}
