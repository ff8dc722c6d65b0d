//! Ordinary partitions: what a leader takes from producers, and what becomes of a mirror that is promoted.

mod common;

use bytes::Bytes;
use common::{config, contents, folder, id, open, plain, transactional, zoo};
use hawser_log::{Appended, LeaderAppendError, Logs, PartitionLog, TopicConfig};
use hawser_testkit::batches::{BatchBuilder, Codec, Record};
use hawser_wire::{Batch, LeaderEpoch, Offset};
use std::sync::Arc;

const NOW: i64 = 1_700_000_000_000;

fn records(count: usize) -> BatchBuilder {
    BatchBuilder::at(0).timestamp(NOW).records(count, 20)
}

fn sent(producer_id: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    records(count).idempotent(producer_id, epoch, sequence).build()
}

fn append(log: &PartitionLog, records: Bytes) -> Result<Appended, LeaderAppendError> {
    log.append_as_leader(records, NOW)
}

fn ordinary(root: &std::path::Path) -> (Logs, Arc<PartitionLog>) {
    let (logs, log) = open(root, &config(1 << 20));
    log.become_leader().expect("leads");
    (logs, log)
}

fn configured(log: &PartitionLog, change: impl FnOnce(&mut TopicConfig)) {
    let mut config = (*log.config()).clone();
    change(&mut config);
    log.configure(|| Arc::new(config));
}

fn promote(logs: &Logs) -> hawser_log::EndedMirror {
    let mut outcomes = logs.end_mirroring(&[id()], NOW + 1);
    outcomes.pop().expect("one outcome").expect("ends")
}

#[test]
fn batches_of_every_codec_get_offsets_and_epoch() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    for (number, codec) in (0..).zip(Codec::ALL) {
        let appended = append(&log, records(3).codec(codec).build()).expect("appends");
        assert_eq!((appended.first_offset, appended.last_offset), (Offset(number * 3), Offset(number * 3 + 2)));
        assert_eq!(appended.log_append_time, None);
    }
    let held = contents(&log); // checks CRCs
    assert_eq!(held.len(), Codec::ALL.len());
    for batch in &held {
        assert_eq!(batch.header.leader_epoch, LeaderEpoch(0));
        let records: Vec<_> = batch.records(1 << 20).map(|record| record.expect("reads").offset).collect();
        assert_eq!(records.len(), 3);
        assert_eq!(records[0], batch.header.base_offset);
    }
    let at = log.watermarks();
    assert_eq!((at.high_watermark, at.last_stable, at.log_end), (Offset(15), Offset(15), Offset(15)));
}

#[test]
fn what_no_leader_takes_is_refused_by_name() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    configured(&log, |config| config.max_message_bytes = 1000);
    let two = [records(1).build(), records(1).build()].concat();
    let mut flipped = records(1).build().to_vec();
    *flipped.last_mut().expect("bytes") ^= 1;
    let cut = records(1).build().slice(..70);
    let mut old = records(1).build().to_vec();
    old[16] = 1;
    let unknown_codec = |mut bytes: Vec<u8>| {
        bytes[22] |= 7;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    let mut not_gzip = records(1).codec(Codec::Gzip).build().to_vec();
    not_gzip[61] ^= 0xff;
    let crc = crc32c(&not_gzip[21..]);
    not_gzip[17..21].copy_from_slice(&crc.to_be_bytes());
    for (bytes, expected) in [
        (Bytes::new(), "no batch"),
        (two.into(), "exactly one"),
        (flipped.into(), "Corrupt"),
        (cut, "Corrupt"),
        (old.into(), "message format v1"),
        (BatchBuilder::at(5).records(1, 5).build(), "base offset must be 0"),
        (records(50).build(), "BatchTooLarge"),
        (records(2).last_offset_delta(5).build(), "last offset delta"),
        (BatchBuilder::at(0).build(), "last offset delta"),
        (BatchBuilder::marker(0, 5, 0, true).build(), "control"),
        (records(1).idempotent(5, 0, -1).build(), "sequence"),
        (records(1).transactional(5, 0, 0).build(), "Transactional"),
        (unknown_codec(records(1).build().to_vec()).into(), "UnknownCompression"),
        (not_gzip.into(), "decompressed"),
        (records(1).log_append_time(NOW).build(), "InvalidTimestamps"),
        (records(1).timestamp(NOW + 3_600_001).build(), "InvalidTimestamps"),
    ] {
        let error = append(&log, bytes).expect_err(expected);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert_eq!(log.watermarks().log_end, Offset(0), "nothing was appended");
    append(&log, records(1).timestamp(NOW + 3_600_000).build()).expect("an hour ahead is in range");
}

/// CRC-32C bit by bit (Castagnoli, reflected).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn a_compacted_topic_takes_only_records_with_keys() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    configured(&log, |config| config.compact = true);
    let mixed = BatchBuilder::at(0).timestamp(NOW).record(Record::keyed("k", "v")).record(Record::value("v"));
    match append(&log, mixed.build()).expect_err("a record without key") {
        LeaderAppendError::InvalidRecords(bad) => assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1]),
        other => panic!("{other:?}"),
    }
    append(&log, BatchBuilder::at(0).timestamp(NOW).record(Record::tombstone("k")).build()).expect("a tombstone");
}

#[test]
fn log_append_time_is_stamped() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    configured(&log, |config| config.log_append_time = true);
    let appended = append(&log, records(2).timestamp(5).codec(Codec::Lz4).build()).expect("appends");
    assert_eq!(appended.log_append_time, Some(NOW));
    let held = contents(&log);
    assert!(held[0].header.is_log_append_time());
    assert!(held[0].records(1 << 20).all(|record| record.expect("reads").timestamp == NOW));
}

#[test]
fn a_batch_sent_twice_is_appended_once_also_after_a_restart() {
    for clean in [true, false] {
        let root = folder();
        let (logs, log) = ordinary(root.path());
        append(&log, sent(7, 0, 0, 3)).expect("first");
        let second = append(&log, sent(7, 0, 3, 2)).expect("second");
        assert!(append(&log, sent(7, 0, 0, 3)).expect("first again").duplicate);
        let again = append(&log, sent(7, 0, 3, 2)).expect("second again");
        assert_eq!(again, Appended { duplicate: true, ..second });
        assert!(matches!(
            append(&log, sent(7, 0, 9, 1)),
            Err(LeaderAppendError::OutOfOrderSequence { last_sequence: 4, sequence: 9, .. })
        ));
        append(&log, sent(7, 1, 0, 1)).expect("a new epoch begins at 0");
        assert!(matches!(
            append(&log, sent(7, 0, 5, 1)),
            Err(LeaderAppendError::InvalidProducerEpoch { epoch: 0, known: 1, .. })
        ));
        assert_eq!(log.watermarks().log_end, Offset(6));
        assert_eq!(log.largest_producer_id(), 7);
        if clean {
            logs.close().expect("closes");
        } else {
            log.flush().expect("flushes");
        }
        drop((log, logs));

        let (_logs, log) = open(root.path(), &config(1 << 20));
        assert_eq!(log.largest_producer_id(), 7);
        assert!(matches!(append(&log, sent(7, 1, 1, 1)), Err(LeaderAppendError::NotLeader)));
        assert_eq!(log.become_leader().expect("leads"), LeaderEpoch(1), "a new leadership");
        assert!(append(&log, sent(7, 1, 0, 1)).expect("sent before the restart").duplicate, "clean: {clean}");
        let next = append(&log, sent(7, 1, 1, 1)).expect("goes on");
        assert_eq!(next.first_offset, Offset(6));
        assert_eq!(contents(&log).last().expect("a batch").header.leader_epoch, LeaderEpoch(1));
    }
}

#[test]
fn an_expired_producer_may_go_on_anywhere() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    append(&log, sent(7, 0, 0, 1)).expect("appends");
    append(&log, sent(7, 0, 9, 1)).expect_err("out of order");
    log.append_as_leader(sent(7, 0, 9, 1), NOW + 24 * 3_600_000).expect("forgotten after a day");
}

#[test]
fn who_sends_old_records_is_not_forgotten() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    let old = records(1).timestamp(5).idempotent(7, 0, 0).build();
    append(&log, old.clone()).expect("appends");
    assert!(append(&log, old).expect("sent twice").duplicate);
}

#[test]
fn a_log_that_is_only_compacted_keeps_its_records() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    append(&log, records(3).build()).expect("appends");
    configured(&log, |config| (config.compact, config.delete) = (true, false));
    assert!(matches!(log.delete_records(Offset(1)), Err(hawser_log::Error::Kept(_))));
    configured(&log, |config| config.delete = true);
    assert_eq!(log.delete_records(Offset(1)).expect("deletes").log_start, Offset(1));
}

#[test]
fn a_log_begun_anew_knows_nothing_of_the_one_before() {
    let root = folder();
    let (logs, log) = open(root.path(), &config(1 << 20));
    log.append(&[transactional(0, 5, 0, 11)]).expect("appends");
    logs.close().expect("closes");
    drop((log, logs));
    let (logs, log) = open(root.path(), &config(1 << 20));
    log.restart_at(Offset(5)).expect("begins at 5");
    log.append(&[plain(5, 1, 0)]).expect("appends");
    drop((log, logs)); // killed
    let (_logs, log) = open(root.path(), &config(1 << 20));
    log.observe_high_watermark(Offset(6));
    assert_eq!(log.watermarks().last_stable, Offset(6), "no transaction is open");
}

#[test]
fn an_ordinary_partition_takes_no_mirrors_batches() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    log.append(&[plain(0, 1, 0)]).expect_err("led");
    log.truncate_to(Offset(0)).expect_err("led");
    log.restart_at(Offset(9)).expect_err("led");
    append(&log, records(2).build()).expect("appends");
    log.advance_log_start(Offset(1)).expect_err("led");
    assert_eq!(log.delete_records(Offset(1)).expect("deletes").log_start, Offset(1));
}

#[test]
fn a_promoted_mirror_aborts_what_is_open_and_knows_no_mirrored_producer() {
    let root = folder();
    let (logs, log) = open(root.path(), &config(1 << 20));
    let mirrored: Vec<Batch> = zoo();
    log.append(&mirrored).expect("appends");
    log.append(&[common::parsed(&BatchBuilder::at(48).epoch(6).idempotent(90, 2, 0).records(2, 5))]).expect("appends");
    log.append(&[transactional(50, 1, 6, 15)]).expect("appends");
    log.observe_high_watermark(Offset(51));
    assert_eq!(log.watermarks().last_stable, Offset(44), "transactions of 11 and 15 are open");

    let ended = promote(&logs);
    assert_eq!((ended.aborted, ended.largest_producer_id, ended.log_end), (2, 90, Offset(53)));
    assert_eq!(ended.leader_epoch, LeaderEpoch(7), "above every mirrored one");
    let at = log.watermarks();
    assert_eq!((at.last_stable, at.high_watermark, at.flushed), (Offset(53), Offset(53), Offset(53)));
    let aborted = log.aborted_transactions(Offset(44), Offset(53)).expect("reads");
    let aborted: Vec<_> = aborted.iter().map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset)).collect();
    assert_eq!(aborted, [(11, Offset(44), Offset(51)), (15, Offset(50), Offset(52))]);

    // A batch like a mirrored one: same id, epoch and sequence.
    let native = append(&log, sent(90, 2, 0, 2)).expect("appends");
    assert_eq!((native.first_offset, native.duplicate), (Offset(53), false));
    assert!(append(&log, sent(90, 2, 0, 2)).expect("sent twice").duplicate);
    assert_eq!(promote(&logs).aborted, 0, "again: nothing to do");
    drop((log, logs)); // killed

    let (_logs, log) = open(root.path(), &config(1 << 20));
    assert_eq!(log.become_leader().expect("leads"), LeaderEpoch(8));
    assert_eq!(log.watermarks().last_stable, Offset(55));
    assert!(append(&log, sent(90, 2, 0, 2)).expect("sent twice").duplicate, "native batches are known");
    let mirrored_only = append(&log, sent(11, 0, 0, 1)).expect("appends");
    assert!(!mirrored_only.duplicate);
}

#[test]
fn an_empty_mirror_is_promoted() {
    let root = folder();
    let (logs, log) = open(root.path(), &config(1 << 20));
    log.restart_at(Offset(40)).expect("begins at 40");
    let ended = promote(&logs);
    assert_eq!((ended.log_end, ended.leader_epoch, ended.largest_producer_id), (Offset(40), LeaderEpoch(0), -1));
    assert_eq!(append(&log, records(1).build()).expect("appends").first_offset, Offset(40));
}

#[test]
fn an_old_segment_is_rolled_by_the_timestamps_of_records() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    configured(&log, |config| config.segment_ms = 1000);
    let segments = || {
        std::fs::read_dir(log.dir())
            .expect("lists")
            .filter(|entry| entry.as_ref().expect("entry").path().extension().is_some_and(|suffix| suffix == "log"))
    };
    for (timestamp, expected) in [(0, 1), (1000, 1), (1001, 2), (2001, 2), (2002, 3)] {
        append(&log, records(1).timestamp(NOW - 10_000 + timestamp).build()).expect("appends");
        assert_eq!(segments().count(), expected, "at {timestamp}");
    }
}

#[test]
fn a_topics_own_codec_is_used() {
    let root = folder();
    let (_logs, log) = ordinary(root.path());
    for target in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd, Codec::None] {
        let codec = hawser_wire::BatchHeader::parse(&records(1).codec(target).build()).expect("parses").compression();
        configured(&log, |config| config.compression = codec);
        for codec in Codec::ALL {
            let appended = append(&log, records(3).codec(codec).build()).expect("appends");
            let held = contents(&log).pop().expect("a batch");
            assert_eq!(held.header.compression(), log.config().compression, "{codec:?} to {target:?}");
            assert_eq!(held.header.base_offset, appended.first_offset);
            let offsets: Vec<_> = held.records(1 << 20).map(|record| record.expect("reads").offset).collect();
            assert_eq!(offsets.len(), 3);
            assert_eq!(offsets.last(), Some(&appended.last_offset));
        }
    }
}
