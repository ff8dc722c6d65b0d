//! Cleaning of ordinary partitions: of each key the last record stays, whatever is interrupted; retention and DeleteRecords.

mod common;

use bytes::Bytes;
use common::{config, contents, copy, folder, id, open};
use hawser_log::disk::{Act, Disk, Faults, Verdict};
use hawser_log::{LogConfig, Logs, PartitionLog, TopicConfig};
use hawser_testkit::batches::{BatchBuilder, Codec, Record};
use hawser_wire::{Offset, Record as Held};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const NOW: i64 = 1_700_000_000_000;
const DAY: i64 = 24 * 3_600_000;

fn quiet(segment_bytes: u64) -> LogConfig {
    LogConfig { cleaner_interval: None, ..config(segment_bytes) }
}

fn compacted(log: &PartitionLog, segment_bytes: u64) {
    let mut config = (*log.config()).clone();
    (config.compact, config.delete, config.min_cleanable_dirty_ratio) = (true, false, 0.0);
    (config.segment_bytes, config.index_interval_bytes, config.file_delete_delay_ms) = (segment_bytes, 50, 0);
    log.configure(|| Arc::new(config));
}

fn ordinary(root: &Path, segment_bytes: u64) -> (Logs, Arc<PartitionLog>) {
    let (logs, log) = open(root, &quiet(segment_bytes));
    log.become_leader().expect("leads");
    compacted(&log, segment_bytes);
    (logs, log)
}

fn records(log: &PartitionLog) -> Vec<Held> {
    let batches = contents(log);
    batches.iter().flat_map(|batch| batch.records(1 << 24)).map(|record| record.expect("reads")).collect()
}

/// Key → value of the last record, tombstones left out.
fn latest(records: &[Held]) -> BTreeMap<Bytes, Bytes> {
    let mut latest = BTreeMap::new();
    for record in records {
        let key = record.key.clone().expect("a key");
        match &record.value {
            Some(value) => latest.insert(key, value.clone()),
            None => latest.remove(&key),
        };
    }
    latest
}

/// What a test sends: records of (key, value or tombstone), a codec, a producer.
#[derive(Clone, Debug)]
struct Sent {
    records: Vec<(u8, Option<u8>)>,
    codec: Codec,
    producer: i64,
}

fn sent() -> impl Strategy<Value = Sent> {
    let records = prop::collection::vec((0..6_u8, prop::option::weighted(0.8, any::<u8>())), 1..5);
    let codec = prop::sample::select(Codec::ALL.to_vec());
    (records, codec, -1..3_i64).prop_map(|(records, codec, producer)| Sent { records, codec, producer })
}

/// Appends everything; what each producer sent last.
fn append_all(log: &PartitionLog, all: &[Sent]) -> BTreeMap<i64, Bytes> {
    let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for sent in all {
        let mut batch = BatchBuilder::at(0).timestamp(NOW).codec(sent.codec);
        for (key, value) in &sent.records {
            let key = format!("key-{key}");
            batch = batch.record(match value {
                Some(value) => Record::keyed(key, vec![*value; 30]),
                None => Record::tombstone(key),
            });
        }
        if sent.producer >= 0 {
            let sequence = sequences.entry(sent.producer).or_default();
            batch = batch.idempotent(sent.producer, 0, *sequence);
            *sequence += sent.records.len() as i32;
            last.insert(sent.producer, batch.build());
        }
        log.append_as_leader(batch.build(), NOW).expect("appends");
    }
    log.flush().expect("flushes");
    last
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_record_of_each_key_stays(all in prop::collection::vec(sent(), 1..60), more in prop::collection::vec(sent(), 0..20)) {
        let root = folder();
        let (logs, log) = ordinary(root.path(), 500);
        let mut last = append_all(&log, &all);
        let before = records(&log);
        logs.clean(NOW);
        let after = records(&log);
        prop_assert_eq!(latest(&after), latest(&before));
        prop_assert!(after.iter().all(|record| before.contains(record)), "nothing is made up");
        let checkpoint = std::fs::read_to_string(root.path().join("cleaner-offset-checkpoint")).unwrap_or_default();
        let clean_to = checkpoint.lines().nth(2).and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0);
        let clean: Vec<_> = after.iter().filter(|record| record.offset.0 < clean_to).collect();
        let mut keys: Vec<_> = clean.iter().map(|record| &record.key).collect();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), clean.len(), "each key once below {}", clean_to);

        // Readers find their way from any offset.
        let at = log.watermarks();
        for from in 0..at.log_end.0 {
            let found = log.read(Offset(from), at.log_end, 1 << 20, true).expect("reads");
            let next = after.iter().find(|record| record.offset.0 >= from);
            prop_assert!(next.is_none() || !found.is_empty(), "from {}", from);
        }

        // What was sent last is still known when it comes again, after another round and a crash too.
        if !more.is_empty() && last.is_empty() {
            last = append_all(&log, &more);
            logs.clean(NOW + 1);
        }
        let end = log.watermarks().log_end;
        let held = records(&log);
        drop((log, logs));
        let (_logs, log) = ordinary(root.path(), 500);
        prop_assert_eq!(log.watermarks().log_end, end);
        prop_assert_eq!(records(&log), held);
        for batch in last.values() {
            prop_assert!(log.append_as_leader(batch.clone(), NOW).expect("answers").duplicate);
        }
    }
}

fn keyed(key: &str, value: Option<&'static str>) -> Bytes {
    let record = value.map_or_else(|| Record::tombstone(key.to_owned()), |value| Record::keyed(key.to_owned(), value));
    BatchBuilder::at(0).timestamp(NOW).record(record).build()
}

fn fill(log: &PartitionLog, count: usize) {
    for number in 0..count {
        log.append_as_leader(keyed(&format!("filler-{number}"), Some("x")), NOW).expect("appends");
    }
    log.flush().expect("flushes");
}

#[test]
fn tombstones_stay_for_their_time() {
    let root = folder();
    let (logs, log) = ordinary(root.path(), 300);
    log.append_as_leader(keyed("a", Some("1")), NOW).expect("appends");
    log.append_as_leader(keyed("a", None), NOW).expect("appends");
    fill(&log, 6);
    logs.clean(NOW);
    let tombstones = |log: &PartitionLog| records(log).iter().filter(|record| record.value.is_none()).count();
    assert_eq!(tombstones(&log), 1);
    assert!(records(&log).iter().all(|record| record.value.as_deref() != Some(b"1")));
    let horizon = contents(&log).iter().find_map(|batch| batch.header.delete_horizon());
    assert_eq!(horizon, Some(NOW + DAY));
    fill(&log, 6);
    logs.clean(NOW + DAY - 1);
    assert_eq!(tombstones(&log), 1);
    fill(&log, 6);
    logs.clean(NOW + DAY);
    assert_eq!(tombstones(&log), 0);
}

#[test]
fn transactions_of_a_promoted_mirror_are_compacted_as_they_ended() {
    let root = folder();
    let (logs, log) = open(root.path(), &quiet(1 << 20));
    let in_transaction = |base, producer, key: &str| {
        common::parsed(&BatchBuilder::at(base).transactional(producer, 0, 0).record(Record::keyed(key.to_owned(), "t")))
    };
    log.append(&[
        in_transaction(0, 11, "committed"),
        in_transaction(1, 12, "aborted"),
        common::marker(2, 0, 11, true),
        common::marker(3, 0, 12, false),
        in_transaction(4, 11, "again"),
        common::marker(5, 0, 11, true),
        in_transaction(6, 13, "open"),
    ])
    .expect("appends");
    logs.end_mirroring(&[id()], NOW).pop().expect("one").expect("ends");
    compacted(&log, 300);
    fill(&log, 6);
    logs.clean(NOW);
    let keys = |log: &PartitionLog| -> Vec<_> {
        let data = contents(log).into_iter().filter(|batch| !batch.header.is_control());
        let keys =
            data.flat_map(|batch| batch.records(1 << 20).map(|record| record.expect("reads").key).collect::<Vec<_>>());
        keys.flatten().take_while(|key| !key.starts_with(b"filler")).collect()
    };
    assert_eq!(keys(&log), ["committed", "again"]);
    let markers = |log: &PartitionLog| contents(log).iter().filter(|batch| batch.header.is_control()).count();
    assert_eq!(markers(&log), 4, "markers stay at least a round");
    assert_eq!(log.watermarks().last_stable, log.watermarks().log_end);
    fill(&log, 6);
    logs.clean(NOW + 1); // sees that aborted records are gone
    fill(&log, 6);
    logs.clean(NOW + 2 * DAY);
    assert_eq!(keys(&log), ["committed", "again"]);
    // The abort of 12 is gone; that of the open transaction ends its segment, and stays as the segments' touch.
    assert!(markers(&log) < 4, "{}", markers(&log));
}

/// The power goes at the act number `at`.
struct Kill {
    at: usize,
    acts: AtomicUsize,
}

impl Faults for Kill {
    fn before(&self, act: Act, _: &Path) -> Verdict {
        let number = self.acts.fetch_add(1, Ordering::Relaxed);
        let dead = || io::Error::other("killed");
        match act {
            _ if number < self.at => Verdict::Proceed,
            Act::Write(bytes) if number == self.at => Verdict::Short(bytes / 2, dead()),
            _ => Verdict::Fail(dead()),
        }
    }
}

/// Does `act` to copies of `root`, killed at every act in turn, and looks at what is left each time. How many acts it takes.
fn killed_at_every_act(
    root: &Path,
    segment_bytes: u64,
    act: impl Fn(&Logs),
    look: impl Fn(&Logs, &PartitionLog, usize),
) -> usize {
    let opened = |kill: &Arc<Kill>, root: &Path| {
        let logs = Logs::open_on(Disk::with_faults(kill.clone()), root, quiet(segment_bytes)).expect("opens");
        let log = logs.partition(&id()).expect("is there");
        (logs, log)
    };
    let before = {
        let copied = folder();
        copy(root, copied.path());
        let kill = Arc::new(Kill { at: usize::MAX, acts: AtomicUsize::new(0) });
        let _opened = opened(&kill, copied.path());
        kill.acts.load(Ordering::Relaxed)
    };
    for at in before.. {
        let copied = folder();
        copy(root, copied.path());
        let kill = Arc::new(Kill { at, acts: AtomicUsize::new(0) });
        let (logs, log) = opened(&kill, copied.path());
        act(&logs);
        let done = kill.acts.load(Ordering::Relaxed) <= at;
        drop((log, logs));
        let (logs, log) = open(copied.path(), &quiet(segment_bytes));
        look(&logs, &log, at);
        if done {
            return at - before;
        }
    }
    unreachable!("it ends")
}

#[test]
fn a_compaction_killed_anywhere_loses_nothing() {
    let root = folder();
    let (logs, log) = ordinary(root.path(), 400);
    for number in 0..30_usize {
        let (key, value) = (format!("key-{}", number % 4), ["x", "y", "z"][number % 3]);
        log.append_as_leader(keyed(&key, (number % 7 != 0).then_some(value)), NOW).expect("appends");
    }
    log.flush().expect("flushes");
    logs.write_checkpoints().expect("writes");
    let (expected, end) = (latest(&records(&log)), log.watermarks().log_end);
    drop((log, logs));
    let compact = |logs: &Logs| {
        let log = logs.partition(&id()).expect("is there");
        log.become_leader().expect("leads");
        compacted(&log, 400);
        logs.clean(NOW);
    };
    let look = |logs: &Logs, log: &PartitionLog, at: usize| {
        assert_eq!(log.watermarks().log_end, end, "act {at}");
        assert_eq!(latest(&records(log)), expected, "act {at}");
        compact(logs);
        assert_eq!(latest(&records(log)), expected, "act {at}, compacted again");
        let strange = std::fs::read_dir(log.dir())
            .expect("lists")
            .filter_map(|entry| entry.expect("entry").file_name().into_string().ok());
        let strange: Vec<_> = strange.filter(|name| name.ends_with(".swap") || name.ends_with(".cleaned")).collect();
        assert_eq!(strange, [""; 0], "act {at}");
    };
    let acts = killed_at_every_act(root.path(), 400, compact, look);
    assert!(acts > 40, "{acts} acts");
}

#[test]
fn a_promotion_killed_anywhere_is_done_by_doing_it_again() {
    let root = folder();
    let (logs, log) = open(root.path(), &quiet(400));
    let mirrored = common::zoo();
    log.append(&mirrored).expect("appends");
    log.flush().expect("flushes");
    logs.write_checkpoints().expect("writes");
    drop((log, logs));
    let promote = |logs: &Logs| logs.end_mirroring(&[id()], NOW).pop().expect("one");
    let look = |logs: &Logs, log: &PartitionLog, at: usize| {
        let ended = promote(logs).expect("ends");
        assert!(ended.leader_epoch.0 > 6, "act {at}: {ended:?}");
        assert_eq!(ended.largest_producer_id, 12, "act {at}");
        let marks = log.watermarks();
        assert_eq!((marks.last_stable, marks.log_end), (Offset(49), Offset(49)), "act {at}: one marker, of 11");
        assert_eq!(log.aborted_transactions(Offset(44), Offset(49)).expect("reads").len(), 1, "act {at}");
        let like_mirrored = BatchBuilder::at(0).timestamp(NOW).records(1, 5).idempotent(11, 0, 0).build();
        assert!(!log.append_as_leader(like_mirrored, NOW).expect("appends").duplicate, "act {at}");
    };
    let acts = killed_at_every_act(root.path(), 400, |logs| drop(promote(logs)), look);
    assert!(acts > 5, "{acts} acts");
}

#[test]
fn native_batches_killed_at_any_byte_leave_a_prefix_and_its_producers() {
    let root = folder();
    let (logs, log) = open(root.path(), &quiet(1 << 20));
    log.append(&common::zoo()).expect("appends");
    logs.end_mirroring(&[id()], NOW).pop().expect("one").expect("ends");
    logs.write_checkpoints().expect("writes");
    let batch = |number: i32| {
        BatchBuilder::at(0)
            .timestamp(NOW)
            .records(2, 10)
            .idempotent(50 + i64::from(number % 2), 0, number / 2 * 2)
            .build()
    };
    let sizes: Vec<_> = (0..6)
        .map(|number| {
            log.append_as_leader(batch(number), NOW).expect("appends");
            batch(number).len()
        })
        .collect();
    drop((log, logs));
    let native = "t-0/00000000000000000049.log";
    let length = std::fs::metadata(root.path().join(native)).expect("stat").len() as usize;
    assert_eq!(length, sizes.iter().sum::<usize>());
    for at in 0..length {
        let copied = folder();
        copy(root.path(), copied.path());
        let file = std::fs::OpenOptions::new().write(true).open(copied.path().join(native)).expect("opens");
        file.set_len(at as u64).expect("cuts");
        let (_logs, log) = open(copied.path(), &quiet(1 << 20));
        log.become_leader().expect("leads");
        let whole = sizes
            .iter()
            .scan(0, |end, size| {
                *end += size;
                Some(*end)
            })
            .filter(|end| *end <= at)
            .count();
        assert_eq!(log.watermarks().log_end, Offset(49 + 2 * whole as i64), "cut at {at}");
        for number in 0..6 {
            let appended = log.append_as_leader(batch(number), NOW).expect("answers");
            assert_eq!(appended.duplicate, (number as usize) < whole, "cut at {at}, batch {number}");
        }
    }
}

#[test]
fn retention_by_time_and_size_and_delete_records() {
    let root = folder();
    let (logs, log) = open(root.path(), &quiet(300));
    log.become_leader().expect("leads");
    let set = |change: &dyn Fn(&mut TopicConfig)| {
        let mut config = (*log.config()).clone();
        change(&mut config);
        log.configure(|| Arc::new(config));
    };
    set(&|config| (config.retention_ms, config.timestamp_after_max_ms) = (1000, i64::MAX));
    for number in 0..20 {
        let batch = BatchBuilder::at(0).timestamp(NOW + number * 100).records(1, 50).build();
        log.append_as_leader(batch, NOW).expect("appends");
    }
    logs.clean(NOW + 1000);
    assert_eq!(log.watermarks().log_start, Offset(0), "not older than a second");
    logs.clean(NOW + 1501);
    assert_eq!(log.watermarks().log_start, Offset(6), "up to NOW + 500");
    let files = |suffix: &str| {
        let names = std::fs::read_dir(log.dir()).expect("lists").map(|entry| entry.expect("entry").path());
        names.filter(|path| path.to_string_lossy().ends_with(suffix)).count()
    };
    assert_eq!(files(".log.deleted"), 3, "deleted in a minute");
    set(&|config| (config.retention_bytes, config.file_delete_delay_ms) = (600, 0));
    logs.clean(NOW);
    assert!(log.watermarks().log_start > Offset(6));
    assert!(files(".log") >= 2);
    let start = log.watermarks().log_start;
    log.delete_records(Offset(start.0 + 1)).expect("inside a segment");
    log.delete_records(Offset(21)).expect_err("above the high watermark");
    assert_eq!(log.delete_records(Offset(-1)).expect("everything").log_start, Offset(20));
    set(&|config| config.retention_bytes = -1);
    logs.clean(NOW + 1_000_000);
    let appended =
        log.append_as_leader(BatchBuilder::at(0).timestamp(NOW).records(1, 5).build(), NOW).expect("appends");
    assert_eq!(appended.first_offset, Offset(20));
    logs.clean(NOW + 1_000_000);
    assert_eq!(log.watermarks().log_start, Offset(21), "the active segment too");
}

#[test]
fn readers_and_producers_go_on_while_segments_are_swapped() {
    let root = folder();
    let (logs, log) = ordinary(root.path(), 400);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !done.load(Ordering::Acquire) || rounds == 0 {
                        let found = records(&log); // checks offsets, sizes and CRCs of batches
                        assert!(found.is_sorted_by(|a, b| a.offset < b.offset));
                        log.offset_for_timestamp(NOW).expect("looks up");
                        log.aborted_transactions(Offset(0), log.watermarks().log_end).expect("looks up");
                        rounds += 1;
                    }
                })
            })
            .collect();
        let cleaner = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                logs.clean(NOW);
            }
        });
        for number in 0..400 {
            log.append_as_leader(keyed(&format!("key-{}", number % 5), Some("value")), NOW).expect("appends");
            if number % 10 == 0 {
                log.flush().expect("flushes");
            }
        }
        done.store(true, Ordering::Release);
        readers.into_iter().for_each(|reader| reader.join().expect("a reader found nothing amiss"));
        cleaner.join().expect("cleans");
    });
    log.flush().expect("flushes");
    logs.clean(NOW);
    assert!(records(&log).len() < 100, "{} of 400 are left", records(&log).len());
    assert_eq!(latest(&records(&log)).len(), 5);
}

/// fsync fails while it is told to.
struct FailingSync(AtomicBool);

impl Faults for FailingSync {
    fn before(&self, act: Act, _: &Path) -> Verdict {
        match act {
            Act::Sync if self.0.load(Ordering::Acquire) => Verdict::Fail(io::Error::other("no fsync")),
            _ => Verdict::Proceed,
        }
    }
}

#[test]
fn what_a_failed_fsync_lost_is_not_taken_for_a_duplicate() {
    let root = folder();
    let faults = Arc::new(FailingSync(AtomicBool::new(false)));
    let logs = Logs::open_on(Disk::with_faults(faults.clone()), root.path(), quiet(1 << 20)).expect("opens");
    let log = logs.open_partition(&id(), common::TOPIC_ID).expect("opens");
    let epoch = log.become_leader().expect("leads");
    let batch = |sequence| BatchBuilder::at(0).timestamp(NOW).records(1, 5).idempotent(7, 0, sequence).build();
    log.append_as_leader(batch(0), NOW).expect("appends");
    log.flush().expect("flushes");
    log.append_as_leader(batch(1), NOW).expect("appends");
    faults.0.store(true, Ordering::Release);
    log.flush().expect_err("fsync fails");
    log.append_as_leader(batch(1), NOW).expect_err("offline");
    faults.0.store(false, Ordering::Release);
    log.resume().expect("comes back");
    assert_eq!(log.watermarks().log_end, Offset(1));
    assert!(log.leads().expect("still led") > epoch, "what was read before was of another lineage");
    assert!(log.append_as_leader(batch(0), NOW).expect("answers").duplicate);
    let again = log.append_as_leader(batch(1), NOW).expect("appends");
    assert_eq!((again.first_offset, again.duplicate), (Offset(1), false));
}

#[test]
fn many_mirrors_are_promoted_with_one_flush() {
    let root = folder(); // on a disk the time is that of one syncfs, and what others have written meanwhile
    let logs = Logs::open(root.path(), quiet(1 << 20)).expect("opens");
    let mirrors: Vec<_> = (0..1000)
        .map(|partition| {
            let id = hawser_wire::TopicPartition::new("many", partition);
            let log = logs.open_partition(&id, common::TOPIC_ID).expect("opens");
            log.append(&common::zoo()).expect("appends");
            id
        })
        .collect();
    let begun = std::time::Instant::now();
    let outcomes = logs.end_mirroring(&mirrors, NOW);
    println!("{} mirrors promoted in {:?}", outcomes.len(), begun.elapsed());
    for (id, outcome) in mirrors.iter().zip(outcomes) {
        assert_eq!(outcome.expect("ends").aborted, 1);
        let at = logs.partition(id).expect("is there").watermarks();
        assert_eq!((at.flushed, at.last_stable), (at.log_end, at.log_end), "{id}");
    }
}
