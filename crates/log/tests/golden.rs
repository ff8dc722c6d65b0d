//! Our bytes = Kafka's bytes: the batches of partition folders that a stock Kafka 4.3.1 wrote (and closed cleanly), fed
//! through `append`, give the same files.
//!
//! How the folders were made: one broker; `index.interval.bytes` as in the table; idempotent producers of every codec with
//! timestamps out of order (`plain`), the same under LogAppendTime (`append-time`), interleaved transactions committed,
//! aborted and one left open (`txn`), two restarts of the broker (`epochs`).

use bytes::Bytes;
use hawser_log::{LogConfig, Logs, PartitionLog};
use hawser_wire::{Batch, Offset, TopicPartition, Uuid};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SEGMENT: &str = "00000000000000000000";

struct Golden {
    topic: &'static str,
    index_interval_bytes: u64,
    /// Kafka was restarted when the log ended here: its close adds a time index entry.
    reopened_at: &'static [i64],
    topic_id: &'static str,
}

const GOLDEN: [Golden; 4] = [
    Golden {
        topic: "plain",
        index_interval_bytes: 300,
        reopened_at: &[200],
        topic_id: "6740f0f9-63fa-4f27-a136-4ebdfde1e77d",
    },
    Golden {
        topic: "append-time",
        index_interval_bytes: 300,
        reopened_at: &[200],
        topic_id: "214fb80b-7647-4f98-b0aa-5cadd41b84a7",
    },
    Golden {
        topic: "txn",
        index_interval_bytes: 200,
        reopened_at: &[51],
        topic_id: "37db45b7-79fd-46e4-8f78-106213207216",
    },
    Golden {
        topic: "epochs",
        index_interval_bytes: 4096,
        reopened_at: &[3, 6, 9],
        topic_id: "e10aa277-6334-427b-8884-0b4a75898b38",
    },
];

fn folder(topic: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{topic}-0"))
}

fn batches(topic: &str) -> Vec<Batch> {
    let mut bytes = Bytes::from(std::fs::read(folder(topic).join(format!("{SEGMENT}.log"))).expect("golden log"));
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let batch = Batch::split_off(&mut bytes).expect("golden batch");
        batch.check_crc().expect("golden CRC");
        batches.push(batch);
    }
    batches
}

fn config(golden: &Golden) -> LogConfig {
    LogConfig { index_interval_bytes: golden.index_interval_bytes, flush_interval: None, ..LogConfig::default() }
}

fn open(root: &Path, golden: &Golden) -> (Logs, Arc<PartitionLog>) {
    let logs = Logs::open(root, config(golden)).expect("opens");
    let id = Uuid::parse_str(golden.topic_id).expect("an id");
    let log = logs.open_partition(&TopicPartition::new(golden.topic, 0), id).expect("opens");
    (logs, log)
}

/// Replays `golden`, `together` batches an append.
fn replay(root: &Path, golden: &Golden, together: usize) {
    let mut rest = batches(golden.topic);
    for end in golden.reopened_at {
        let later = rest.split_off(rest.partition_point(|batch| batch.header.next_offset().0 <= *end));
        let (logs, log) = open(root, golden);
        for some in rest.chunks(together) {
            log.append(some).expect("appends");
        }
        log.observe_high_watermark(log.watermarks().log_end);
        logs.close().expect("closes");
        rest = later;
    }
    assert!(rest.is_empty(), "{}: batches left over", golden.topic);
}

fn assert_same_files(golden: &Golden, ours: &Path, how: &str) {
    for suffix in ["log", "index", "timeindex", "txnindex"] {
        let name = format!("{SEGMENT}.{suffix}");
        let (kafkas, ours) = (std::fs::read(folder(golden.topic).join(&name)), std::fs::read(ours.join(&name)));
        assert_eq!(kafkas.ok(), ours.ok(), "{} {name} {how}", golden.topic);
    }
    let text = |dir: &Path, name: &str| std::fs::read_to_string(dir.join(name)).expect("a text file");
    let name = "partition.metadata";
    assert_eq!(text(&folder(golden.topic), name), text(ours, name), "{} {name} {how}", golden.topic);
    let name = "leader-epoch-checkpoint";
    let kafkas = without_empty_epochs(&text(&folder(golden.topic), name), golden);
    assert_eq!(kafkas, text(ours, name), "{} {name} {how}", golden.topic);
}

/// A leader also notes epochs that have no records yet; no follower's checkpoint has them, nor has ours.
fn without_empty_epochs(checkpoint: &str, golden: &Golden) -> String {
    let end = format!(" {}", golden.reopened_at.last().expect("an end"));
    let entries: Vec<_> = checkpoint.lines().skip(2).filter(|entry| !entry.ends_with(&end)).collect();
    format!("0\n{}\n{}\n", entries.len(), entries.join("\n"))
}

#[test]
fn the_same_batches_give_the_same_files() {
    for golden in &GOLDEN {
        for together in [1, 3, 1000] {
            let root = tempfile::tempdir().expect("temporary folder");
            replay(root.path(), golden, together);
            let ours = root.path().join(format!("{}-0", golden.topic));
            assert_same_files(golden, &ours, &format!("{together} at a time"));
        }
    }
}

#[test]
fn recovery_gives_the_same_files() {
    for golden in GOLDEN.iter().filter(|golden| golden.reopened_at.len() == 1) {
        let root = tempfile::tempdir().expect("temporary folder");
        let ours = root.path().join(format!("{}-0", golden.topic));
        std::fs::create_dir(&ours).expect("folder");
        for name in [format!("{SEGMENT}.log"), "partition.metadata".to_owned()] {
            std::fs::copy(folder(golden.topic).join(&name), ours.join(&name)).expect("copy");
        }
        let (logs, _) = open(root.path(), golden);
        logs.close().expect("closes");
        assert_same_files(golden, &ours, "after recovery from the log alone");
    }
}

#[test]
fn a_folder_that_kafka_closed_is_trusted() {
    for golden in &GOLDEN {
        let root = tempfile::tempdir().expect("temporary folder");
        let ours = root.path().join(format!("{}-0", golden.topic));
        std::fs::create_dir(&ours).expect("folder");
        for entry in std::fs::read_dir(folder(golden.topic)).expect("golden folder") {
            let entry = entry.expect("entry");
            std::fs::copy(entry.path(), ours.join(entry.file_name())).expect("copy");
        }
        std::fs::write(root.path().join(".kafka_cleanshutdown"), r#"{"version":0,"brokerEpoch":97}"#).expect("mark");
        let (logs, log) = open(root.path(), golden);
        let end = log.watermarks().log_end;
        assert_eq!(Some(&end.0), golden.reopened_at.last());
        assert_eq!(log.watermarks().flushed, end, "trusted, not scanned");
        log.observe_high_watermark(end);
        if golden.topic == "txn" {
            assert_eq!(log.watermarks().last_stable, Offset(48), "the open transaction is in Kafka's snapshot");
        }
        logs.close().expect("closes");
        assert_same_files(golden, &ours, "after a visit");
    }
}

#[test]
fn aborted_transactions_are_found() {
    let golden = &GOLDEN[2];
    let root = tempfile::tempdir().expect("temporary folder");
    replay(root.path(), golden, 5);
    let (_logs, log) = open(root.path(), golden);
    let end = log.watermarks().log_end;
    let all = log.aborted_transactions(Offset(0), end).expect("reads");
    assert_eq!(all.len(), 9);
    for (from, up_to) in (0..end.0).flat_map(|from| (from + 1..=end.0).map(move |up_to| (from, up_to))) {
        let expected: Vec<_> =
            all.iter().filter(|txn| txn.last_offset.0 >= from && txn.first_offset.0 < up_to).copied().collect();
        let found = log.aborted_transactions(Offset(from), Offset(up_to)).expect("reads");
        assert_eq!(found, expected, "[{from}, {up_to})");
    }
}

/// (offset, timestamp, epoch) of every record.
fn records(topic: &str) -> Vec<(i64, i64, i32)> {
    let in_batch = |batch: &Batch| {
        let epoch = batch.header.leader_epoch.0;
        let record = move |record: hawser_wire::Record| (record.offset.0, record.timestamp, epoch);
        batch.records(1 << 20).map(|found| record(found.expect("golden record"))).collect::<Vec<_>>()
    };
    batches(topic).iter().flat_map(in_batch).collect()
}

#[test]
fn timestamps_are_found_as_a_scan_finds_them() {
    for golden in &GOLDEN {
        let root = tempfile::tempdir().expect("temporary folder");
        replay(root.path(), golden, 7);
        let (_logs, log) = open(root.path(), golden);
        let mut records = records(golden.topic);
        for log_start in [0, 30] {
            if log.watermarks().log_end.0 < log_start {
                continue;
            }
            log.advance_log_start(Offset(log_start)).expect("advances");
            records.retain(|(offset, ..)| *offset >= log_start);
            let asked = records.iter().flat_map(|(_, timestamp, _)| [timestamp - 1, *timestamp, timestamp + 1]);
            for timestamp in asked.chain([0, i64::MAX]) {
                let expected = records.iter().find(|(_, found, _)| *found >= timestamp).copied();
                let found = log.offset_for_timestamp(timestamp).expect("looks up");
                let found = found.map(|found| (found.offset.0, found.timestamp, found.leader_epoch.0));
                assert_eq!(found, expected, "{} at {timestamp} from {log_start}", golden.topic);
            }
        }
    }
}

#[test]
fn the_largest_timestamp_is_found() {
    for golden in &GOLDEN {
        let root = tempfile::tempdir().expect("temporary folder");
        replay(root.path(), golden, 7);
        let (_logs, log) = open(root.path(), golden);
        let records = records(golden.topic);
        let largest = records.iter().map(|(_, timestamp, _)| *timestamp).max();
        let expected = records.iter().find(|(_, timestamp, _)| Some(*timestamp) == largest).copied();
        let found = log.offset_of_max_timestamp().expect("looks up");
        assert_eq!(found.map(|found| (found.offset.0, found.timestamp, found.leader_epoch.0)), expected);
    }
}
