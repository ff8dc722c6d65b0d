//! Kafka's own `DumpLogSegments` reads the logs that are led here: native, promoted and compacted ones.

mod common;

use anyhow::{Context, Result, ensure};
use common::{TOPIC_ID, config, marker, parsed, zoo};
use hawser_log::{Logs, PartitionLog};
use hawser_testkit::batches::{BatchBuilder, Codec, Record};
use hawser_testkit::kafka::{Dump, Home, Version};
use hawser_wire::TopicPartition;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NOW: i64 = 1_700_000_000_000;

/// Keyed records of an idempotent producer in every codec.
fn fill(log: &PartitionLog, producer: i64) -> Result<()> {
    for number in 0..40 {
        let codec = Codec::ALL[number % Codec::ALL.len()];
        let key = format!("key-{}", number % 7);
        let record = if number % 5 == 0 { Record::tombstone(key) } else { Record::keyed(key, vec![b'x'; number]) };
        let batch = BatchBuilder::at(0).timestamp(NOW + number as i64).codec(codec).record(record);
        log.append_as_leader(batch.idempotent(producer, 0, number as i32).build(), NOW)?;
    }
    Ok(log.flush().map(|_| ())?)
}

/// The folders of three partitions: native, promoted and then written to, promoted and then compacted.
fn written(root: &Path) -> Result<Vec<PathBuf>> {
    let mut of = config(1000);
    of.cleaner_interval = None;
    let logs = Logs::open(root, of)?;
    let open = |topic: &str| logs.open_partition(&TopicPartition::new(topic, 0), TOPIC_ID);
    let (native, promoted, compacted) = (open("native")?, open("promoted")?, open("compacted")?);
    native.become_leader()?;
    fill(&native, 5)?;
    promoted.append(&zoo())?;
    let transactional = |base, producer| {
        parsed(&BatchBuilder::at(base).transactional(producer, 0, 0).record(Record::keyed("key-1", "t")))
    };
    compacted.append(&[transactional(0, 11), transactional(1, 12), marker(2, 0, 11, true), marker(3, 0, 12, false)])?;
    compacted.append(&[transactional(4, 13)])?;
    let mirrors = [&promoted, &compacted].map(|log| log.id().clone());
    for outcome in logs.end_mirroring(&mirrors, NOW) {
        outcome?;
    }
    fill(&promoted, 100)?;
    let mut config = (*compacted.config()).clone();
    (config.compact, config.min_cleanable_dirty_ratio, config.file_delete_delay_ms) = (true, 0.0, 0);
    compacted.configure(|| Arc::new(config));
    for producer in 100..103 {
        fill(&compacted, producer)?;
        logs.clean(NOW + producer);
    }
    let folders = [&native, &promoted, &compacted].map(|log| log.dir().to_owned());
    drop((native, promoted, compacted));
    logs.close()?;
    Ok(folders.to_vec())
}

#[test]
#[ignore = "needs stock Kafka: cargo xtask kafka"]
fn kafka_reads_logs_that_are_led_here() -> Result<()> {
    let home = Home::find(Version::V4_3)?;
    let root = tempfile::tempdir()?;
    let folders = written(root.path())?;
    let dump = Dump::of(&home, &folders)?;
    ensure!(dump.batches > 100 && dump.entries > 0, "{} batches, {} entries", dump.batches, dump.entries);
    for (partition, complaints) in &dump.complaints {
        // Compaction and what was mirrored leave gaps.
        let is_gap = |complaint: &str| complaint.contains(" is followed by ");
        let bad = complaints.iter().find(|complaint| partition == "native-0" || !is_gap(complaint));
        ensure!(bad.is_none(), "{partition}: {}", bad.context("complaint")?);
    }
    let mut others = Vec::new();
    for folder in &folders {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let suffix = path.extension().unwrap_or_default();
            if suffix == "snapshot" || suffix == "txnindex" {
                others.push(path.display().to_string());
            }
        }
    }
    let said = home.tool(home.dump_log_segments()).args(["--files", &others.join(",")]).run()?;
    for expected in ["producerId: 5 ", "producerId: 102 "] {
        ensure!(said.contains(expected), "no {expected}in {said}");
    }
    Ok(())
}
