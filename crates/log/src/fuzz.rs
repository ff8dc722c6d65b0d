//! Mutants of the files that a stock Kafka 4.3.1 wrote (`tests/golden`), alone and in their folder (the driver and its
//! environment variables: `hawser_testkit::fuzz`). A damaged file costs at most what it held: no panic, and what is read
//! after a recovery is whole batches with good CRCs.

use crate::checkpoint;
use crate::snapshot::{self, Snapshot};
use crate::transactions::{ABORTED_BYTES, Aborted};
use crate::{LogConfig, Logs};
use hawser_testkit::fuzz::{run, run_some};
use hawser_wire::{Batch, Offset, TopicPartition};
use std::fs;
use std::path::{Path, PathBuf};

const TOPICS: [&str; 4] = ["plain", "append-time", "txn", "epochs"];
/// A folder is written, opened and read for each: milliseconds.
const FOLDERS: u64 = 150;
/// Three small files are written and read for each.
const FILES: u64 = 5_000;

fn golden(topic: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{topic}-0"))
}

/// Every golden file: its topic, its name, its bytes.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    for topic in TOPICS {
        for entry in fs::read_dir(golden(topic)).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(File { topic, name, bytes: fs::read(entry.path()).unwrap() });
        }
    }
    found.sort_by(|a, b| (a.topic, &a.name).cmp(&(b.topic, &b.name)));
    found
}

struct File {
    topic: &'static str,
    name: String,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn named(part: &str) -> Vec<File> {
    let found: Vec<_> = files().into_iter().filter(|file| file.name.ends_with(part)).collect();
    assert!(!found.is_empty(), "no golden file is a {part}");
    found
}

#[test]
fn checkpoints_and_topic_ids() {
    let mut corpus: Vec<Vec<u8>> = ["leader-epoch-checkpoint", "partition.metadata"]
        .iter()
        .flat_map(|part| named(part).into_iter().map(|file| file.bytes))
        .collect();
    corpus.push(b"0\n3\nplain 0 200\ntxn 0 51\n__consumer_offsets 4 9223372036854775807\n".to_vec());
    let folder = tempfile::tempdir().unwrap();
    let offsets = folder.path().join(checkpoint::RECOVERY_POINT);
    run_some(FILES, "checkpoints", &corpus, |_, bytes| {
        for path in
            [&offsets, &folder.path().join("leader-epoch-checkpoint"), &folder.path().join("partition.metadata")]
        {
            fs::write(path, bytes).unwrap();
        }
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert!(checkpoint::read_offsets(&offsets).is_none_or(|offsets| offsets.len() < lines));
        if let Some(epochs) = checkpoint::read_epochs(folder.path()) {
            let entries = epochs.entries();
            assert!(entries.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start));
            assert!(entries.len() < lines);
        }
        let _ = checkpoint::read_topic_id(folder.path());
    });
}

/// A snapshot with the CRC that it should have, so that what is behind it is read.
fn sealed(snapshot: &[u8]) -> Vec<u8> {
    let Some((version, rest)) = snapshot.split_at_checked(2) else { return snapshot.to_vec() };
    let entries = rest.get(4..).unwrap_or_default();
    [version, &crc32c::crc32c(entries).to_be_bytes(), entries].concat()
}

#[test]
fn producer_snapshots() {
    let encode = |of: &Snapshot| snapshot::encode(&of.transactions, Some(&of.producers), of.largest_producer_id);
    run("snapshots", &named(".snapshot"), |_, bytes| {
        let _ = Snapshot::decode(bytes);
        if let Some(read) = Snapshot::decode(&sealed(bytes)) {
            // What is no producer at all (a negative epoch, say) may be lost the first time.
            let again = Snapshot::decode(&encode(&read)).unwrap();
            assert_eq!(Snapshot::decode(&encode(&again)), Some(again));
        }
    });
}

#[test]
fn entries_of_the_transaction_index() {
    run("aborted transactions", &named(".txnindex"), |_, bytes| {
        for entry in bytes.chunks(ABORTED_BYTES) {
            if let Some(aborted) = Aborted::decode(entry) {
                assert_eq!(aborted.encode(), entry);
            }
        }
    });
}

/// One file of a folder is damaged. After a crash the log is read through; after a clean shutdown it is believed, and then
/// even its damage may only be wrong, never fatal.
#[test]
fn folders_with_one_damaged_file() {
    let corpus = files();
    run_some(FOLDERS, "folders", &corpus, |from, bytes| {
        let damaged = &corpus[from];
        let bytes = if damaged.name.ends_with(".snapshot") { &sealed(bytes) } else { bytes };
        for clean in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join(format!("{}-0", damaged.topic));
            fs::create_dir(&folder).unwrap();
            for file in corpus.iter().filter(|file| file.topic == damaged.topic) {
                let content = if file.name == damaged.name { bytes } else { &file.bytes };
                fs::write(folder.join(&file.name), content).unwrap();
            }
            if clean {
                fs::write(root.path().join(checkpoint::CLEAN_SHUTDOWN), r#"{"version":0,"brokerEpoch":1}"#).unwrap();
            }
            read_everything(root.path(), damaged.topic, clean);
        }
    });
}

fn read_everything(root: &Path, topic: &str, clean: bool) {
    let config = LogConfig { flush_interval: None, ..LogConfig::default() };
    let logs = Logs::open(root, config).unwrap();
    let Some(log) = logs.partition(&TopicPartition::new(topic, 0)) else { return };
    let marks = log.watermarks();
    let _ = log.offset_of_max_timestamp();
    for timestamp in [i64::MIN, 0, 1_690_000_000_000, i64::MAX] {
        let _ = log.offset_for_timestamp(timestamp);
    }
    let _ = log.aborted_transactions(marks.log_start, marks.log_end);
    let mut from = marks.log_start;
    while from < marks.log_end {
        let Ok(mut bytes) = log.read(from, marks.log_end, 64 * 1024, true) else {
            assert!(clean, "a recovered log cannot be read at {from}");
            return;
        };
        let before = from;
        while !bytes.is_empty() {
            let Ok(batch) = Batch::split_off(&mut bytes) else {
                assert!(clean, "a recovered log holds what is no batch, at {from}");
                return;
            };
            assert!(clean || batch.check_crc().is_ok(), "a recovered log holds a bad CRC, at {from}");
            from = Offset(from.0.max(batch.header.next_offset().0));
        }
        if from == before {
            assert!(clean, "a recovered log has nothing at {from}, below its end {}", marks.log_end);
            return;
        }
    }
}
