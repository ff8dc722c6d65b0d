//! A disk that fails: every single act once, all of them for a while, fsync, and the power.

mod common;

use common::{answers, answers_to, config, contents, copy, folder, id, joined, plain, zoo};
use hawser_log::disk::{Act, Disk, Faults, Verdict};
use hawser_log::{Error, LogConfig, Logs, PartitionLog, Status, Watermarks};
use hawser_testkit::batches::BatchBuilder;
use hawser_wire::{Batch, Offset, TopicPartition};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak, mpsc};
use std::time::Duration;

const NO_SPACE: i32 = 28;
const IO: i32 = 5;

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn open(disk: Disk, root: &Path, segment_bytes: u64) -> Result<(Logs, Arc<PartitionLog>), Error> {
    let logs = Logs::open_on(disk, root, config(segment_bytes))?;
    let log = logs.open_partition(&id(), common::TOPIC_ID)?;
    Ok((logs, log))
}

/// Fails the act number `at`, or writes only half of it.
struct Once {
    at: usize,
    short: bool,
    acts: AtomicUsize,
}

impl Faults for Once {
    fn before(&self, act: Act, _: &Path) -> Verdict {
        if self.acts.fetch_add(1, Ordering::Relaxed) != self.at {
            return Verdict::Proceed;
        }
        match act {
            Act::Write(bytes) if self.short => Verdict::Short(bytes / 2, error(NO_SPACE)),
            _ => Verdict::Fail(error(IO)),
        }
    }
}

/// Does to a log what a mirror does to it, coming back after every failure as the replicator would: from the log's own
/// position. Gives the batches that are there in the end.
fn live(log: &PartitionLog, mut promised: impl FnMut(Watermarks)) -> Vec<Batch> {
    let zoo = zoo();
    let cut = zoo[8].header.base_offset;
    let mut lineage = zoo[..8].to_vec();
    lineage.extend([plain(27, 2, 3), plain(29, 9, 3), common::transactional(50, 1, 4, 12), plain(51, 2, 5)]);

    let catch_up = |batches: &[Batch], promised: &mut dyn FnMut(Watermarks)| {
        for tries in 0.. {
            assert!(tries < 50, "{:?}", log.status());
            let end = log.watermarks().log_end;
            let rest = &batches[batches.partition_point(|batch| batch.header.next_offset() <= end)..];
            let Some(some) = rest.chunks(2).next() else { break };
            let before = log.watermarks();
            match log.append(some) {
                Ok(after) => assert_eq!(after.log_end, some[some.len() - 1].header.next_offset()),
                Err(Error::Offline(_)) => drop(log.resume()),
                Err(_) => {
                    let after = Watermarks { flushed: before.flushed, ..log.watermarks() };
                    assert_eq!(after, before, "a failed append leaves everything as it was");
                }
            }
            if let Ok(at) = log.flush() {
                promised(at);
            }
        }
    };
    let until_done = |act: &dyn Fn() -> Result<Watermarks, Error>| {
        for tries in 0.. {
            assert!(tries < 50, "{:?}", log.status());
            match act() {
                Ok(_) => return,
                Err(Error::Offline(_)) => drop(log.resume()),
                Err(_) => {}
            }
        }
    };
    catch_up(&zoo, &mut promised);
    until_done(&|| log.truncate_to(cut));
    promised(log.watermarks());
    catch_up(&lineage, &mut promised);
    until_done(&|| log.advance_log_start(Offset(21)));
    catch_up(&lineage, &mut promised);
    lineage
}

#[test]
fn any_single_failure_is_survived() {
    let mut at = 0;
    loop {
        let faults = Arc::new(Once { at, short: at % 2 == 1, acts: AtomicUsize::new(0) });
        let root = folder();
        let opened = (0..3).find_map(|_| open(Disk::with_faults(faults.clone()), root.path(), 400).ok());
        let (logs, log) = opened.expect("opens, at the second try at the latest");
        let promised = Mutex::new(Offset(0));
        let lineage = live(&log, |at| *promised.lock().expect("not poisoned") = at.flushed);
        let live_contents = joined(&contents(&log));
        let expected = &lineage[lineage.partition_point(|batch| batch.header.next_offset() <= Offset(21))..];
        assert_eq!(live_contents, joined(expected), "act {at}");
        let closed = logs.close();
        drop((log, logs));
        let (_logs, log) = open(Disk::default(), root.path(), 400).expect("opens");
        assert!(log.watermarks().log_end >= *promised.lock().expect("not poisoned"), "act {at}");
        // If the checkpoint could not be written, the log start is the older one.
        let mut held = contents(&log);
        held.retain(|batch| batch.header.next_offset() > Offset(21));
        assert_eq!(joined(&held), joined(expected), "act {at}, closed: {closed:?}");
        if faults.acts.load(Ordering::Relaxed) <= at {
            break; // the whole life had fewer acts
        }
        at += 1;
    }
    assert!(at > 100, "only {at} acts");
}

/// Refuses what `refuses` says while it is on.
struct Switch {
    on: AtomicBool,
    refuses: fn(Act, &Path) -> bool,
    number: i32,
}

impl Faults for Switch {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        if self.on.load(Ordering::Relaxed) && (self.refuses)(act, path) {
            return match act {
                Act::Write(bytes) => Verdict::Short(bytes / 3, error(self.number)),
                _ => Verdict::Fail(error(self.number)),
            };
        }
        Verdict::Proceed
    }
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(root.join("t-0")).expect("list").map(|entry| entry.expect("list").path());
    entries
        .map(|path| {
            (path.display().to_string().replace(&root.display().to_string(), ""), std::fs::read(path).expect("reads"))
        })
        .collect()
}

#[test]
fn a_full_disk_loses_nothing_and_is_gone_on_from() {
    for segment_bytes in [400, 1 << 20] {
        for number in [NO_SPACE, IO] {
            let faults = Arc::new(Switch {
                on: AtomicBool::new(false),
                refuses: |act, _| matches!(act, Act::Write(_) | Act::Name),
                number,
            });
            let (root, undisturbed) = (folder(), folder());
            let (logs, log) = open(Disk::with_faults(faults.clone()), root.path(), segment_bytes).expect("opens");
            let (others, other) = open(Disk::default(), undisturbed.path(), segment_bytes).expect("opens");
            for batch in zoo() {
                let before = log.watermarks();
                faults.on.store(true, Ordering::Relaxed);
                for _ in 0..2 {
                    let refused = log.append(std::slice::from_ref(&batch)).expect_err("the disk is full");
                    assert!(refused.is_retriable(), "{refused}");
                    assert_eq!(Watermarks { flushed: before.flushed, ..log.watermarks() }, before);
                    assert!(matches!(log.status(), Status::Failing(_)), "{:?}", log.status());
                    assert_eq!(
                        contents(&log).len(),
                        zoo().iter().filter(|held| held.header.next_offset() <= before.log_end).count(),
                        "it can be read meanwhile"
                    );
                }
                faults.on.store(false, Ordering::Relaxed);
                log.append(std::slice::from_ref(&batch)).expect("there is space again");
                assert_eq!(log.status(), Status::Online);
                other.append(std::slice::from_ref(&batch)).expect("appends");
            }
            logs.close().expect("closes");
            others.close().expect("closes");
            assert_eq!(files(root.path()), files(undisturbed.path()), "segments of {segment_bytes}");
        }
    }
}

#[test]
fn after_a_failed_fsync_nothing_unflushed_is_trusted() {
    for (segment_bytes, flushed) in [(400, 6), (1 << 20, 6), (400, 0), (1 << 20, 0)] {
        let faults = Arc::new(Switch {
            on: AtomicBool::new(false),
            refuses: |act, path| act == Act::Sync && path.extension().is_some_and(|suffix| suffix == "log"),
            number: IO,
        });
        let root = folder();
        let (logs, log) = open(Disk::with_faults(faults.clone()), root.path(), segment_bytes).expect("opens");
        let zoo = zoo();
        let (safe, lost) = zoo.split_at(flushed);
        log.append(safe).expect("appends");
        let promised = log.flush().expect("flushes").flushed;
        faults.on.store(true, Ordering::Relaxed);
        log.append(lost).expect("appends");
        log.flush().expect_err("fsync fails, if it has not failed in the background before");
        assert!(matches!(log.status(), Status::Offline(_)), "{:?}", log.status());
        assert_eq!(log.watermarks().log_end, promised, "at once");
        assert_eq!(answers(&log), answers_to(safe), "what was flushed can be read");
        assert!(matches!(log.append(lost), Err(Error::Offline(_))));
        log.resume().expect_err("fsync still fails");
        assert!(matches!(log.append(lost), Err(Error::Offline(_))));
        faults.on.store(false, Ordering::Relaxed);
        assert_eq!(log.resume().expect("the disk works again").log_end, promised);
        assert!(matches!(log.append_unless_lost(lost, 0), Err(Error::Lost(_))), "by one who has not looked");
        log.append_unless_lost(lost, log.losses()).expect("appends again");
        log.flush().expect("flushes");
        assert_eq!(answers(&log), answers_to(&zoo));
        logs.close().expect("closes");
        drop(logs);
        let (_logs, log) = open(Disk::default(), root.path(), segment_bytes).expect("opens");
        assert_eq!(answers(&log), answers_to(&zoo));
    }
}

/// Holds syncs of the log's files, or writes to them, until they are let go on.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    holds_sync: bool,
    holds_write: bool,
    fails_sync: bool,
    in_sync: bool,
    in_write: bool,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.lock().expect("not poisoned"));
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&GateState) -> bool) {
        let state = self.state.lock().expect("not poisoned");
        drop(self.changed.wait_while(state, |state| !until(state)).expect("not poisoned"));
    }
}

impl Faults for Gate {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        if path.extension().is_none_or(|suffix| suffix != "log") {
            return Verdict::Proceed;
        }
        let mut state = self.state.lock().expect("not poisoned");
        match act {
            Act::Sync if state.holds_sync => {
                state.in_sync = true;
                self.changed.notify_all();
                state = self.changed.wait_while(state, |state| state.holds_sync).expect("not poisoned");
                if std::mem::take(&mut state.fails_sync) {
                    self.changed.notify_all();
                    return Verdict::Fail(error(IO));
                }
            }
            Act::Write(_) if state.holds_write => {
                state.in_write = true;
                self.changed.notify_all();
                drop(self.changed.wait_while(state, |state| state.holds_write).expect("not poisoned"));
            }
            _ => {}
        }
        Verdict::Proceed
    }
}

#[test]
fn an_append_under_way_does_not_hide_a_failed_fsync() {
    let gate = Arc::new(Gate::default());
    let root = folder();
    let (logs, log) = open(Disk::with_faults(gate.clone()), root.path(), 300).expect("opens");
    log.append(&[plain(0, 5, 0)]).expect("appends");
    log.flush().expect("flushes");
    gate.set(|state| (state.holds_sync, state.fails_sync) = (true, true));
    for base in [5, 8, 11, 14, 17] {
        log.append(&[plain(base, 3, 0)]).expect("appends");
    }
    gate.wait(|state| state.in_sync); // a segment was rolled, so the flusher is at work
    gate.set(|state| state.holds_write = true);
    let append = std::thread::spawn({
        let log = log.clone();
        move || log.append(&[plain(20, 3, 0)])
    });
    gate.wait(|state| state.in_write);
    gate.set(|state| state.holds_sync = false);
    gate.wait(|state| !state.fails_sync); // the fsync has failed
    gate.set(|state| state.holds_write = false);
    append.join().expect("no panic").expect("ends before anybody knows");
    // Waits for the flusher, which may have brought it back by now.
    assert_eq!(log.resume().expect("the disk works again").log_end, Offset(5));
    assert_eq!((log.status(), log.losses()), (Status::Online, 1));
    let names = std::fs::read_dir(log.dir()).expect("lists").map(|entry| entry.expect("lists").path());
    let last = log.dir().join("00000000000000000005.log");
    let strays: Vec<_> = names.filter(|path| path.extension() == last.extension() && *path > last).collect();
    assert!(strays.is_empty(), "a start could take them for a part of the log: {strays:?}");
    // Fetched again, from a leader with other borders of batches.
    for base in [5, 9, 13, 17, 21, 25] {
        log.append(&[plain(base, 4, 1)]).expect("appends");
    }
    log.flush().expect("flushes");
    let expected = answers(&log);
    logs.write_checkpoints().expect("writes");
    drop((log, logs)); // a crash
    let (_logs, log) = open(Disk::default(), root.path(), 300).expect("opens");
    assert_eq!(answers(&log), expected);
}

#[test]
fn nothing_is_appended_behind_a_clean_shutdown() {
    let gate = Arc::new(Gate::default());
    let root = folder();
    let (logs, log) = open(Disk::with_faults(gate.clone()), root.path(), 1 << 20).expect("opens");
    log.append(&[plain(0, 5, 0)]).expect("appends");
    log.flush().expect("flushes");
    gate.set(|state| state.holds_sync = true);
    std::thread::scope(|threads| {
        let close = threads.spawn(|| logs.close());
        gate.wait(|state| state.in_sync); // the files have their final state
        let late = log.append(&[common::transactional(5, 3, 0, 9)]);
        gate.set(|state| state.holds_sync = false);
        assert!(matches!(late, Err(Error::Closing)), "{late:?}");
        let new = logs.open_partition(&TopicPartition::new("new", 0), common::TOPIC_ID);
        assert!(matches!(new, Err(Error::Closing)));
        close.join().expect("no panic").expect("closes");
    });
    let expected = answers(&log);
    drop((log, logs));
    let (_logs, log) = open(Disk::default(), root.path(), 1 << 20).expect("opens");
    assert_eq!(answers(&log), expected);
    assert_eq!(log.watermarks().log_end, Offset(5));
}

/// Fails the first act on a file of this name.
struct FirstOn {
    name: &'static str,
    met: AtomicBool,
}

impl Faults for FirstOn {
    fn before(&self, _: Act, path: &Path) -> Verdict {
        if path.ends_with(self.name) && !self.met.swap(true, Ordering::Relaxed) {
            return Verdict::Fail(error(NO_SPACE));
        }
        Verdict::Proceed
    }
}

#[tokio::test]
async fn a_background_flush_that_fails_before_its_fsync_is_tried_again() {
    let faults = Arc::new(FirstOn { name: "leader-epoch-checkpoint.tmp", met: AtomicBool::new(false) });
    let root = folder();
    let config = LogConfig { flush_interval: Some(Duration::from_millis(5)), ..config(1 << 20) };
    let logs = Logs::open_on(Disk::with_faults(faults.clone()), root.path(), config).expect("opens");
    let log = logs.open_partition(&id(), common::TOPIC_ID).expect("opens");
    let mut changes = log.changes();
    let end = log.append(&zoo()).expect("appends").log_end;
    // Nothing more is appended: nobody but the flusher brings this log to its end.
    let flushed = changes.wait_for(|_| log.watermarks().flushed == end);
    tokio::time::timeout(Duration::from_secs(20), flushed).await.expect("is flushed").expect("is there");
    assert!(faults.met.load(Ordering::Relaxed), "the first try failed");
    assert_eq!(log.status(), Status::Online);
    assert_eq!(log.losses(), 0, "no fsync failed");
}

#[test]
fn a_partition_that_went_offline_comes_back_though_nobody_calls() {
    let faults = Arc::new(Switch { on: AtomicBool::new(false), refuses: |act, _| act == Act::Sync, number: IO });
    let root = folder();
    let config = LogConfig { flush_interval: Some(Duration::from_millis(5)), ..config(1 << 20) };
    let logs = Logs::open_on(Disk::with_faults(faults.clone()), root.path(), config).expect("opens");
    let log = logs.open_partition(&id(), common::TOPIC_ID).expect("opens");
    let began = std::time::Instant::now();
    let until = |holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", log.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let end = log.append(&zoo()).expect("appends").log_end;
    until(&|| log.watermarks().flushed == end); // the flusher has nothing to do with it any more
    faults.on.store(true, Ordering::Relaxed);
    log.truncate_to(Offset(5)).expect_err("the cut cannot be made durable");
    assert!(matches!(log.status(), Status::Offline(_)), "{:?}", log.status());
    faults.on.store(false, Ordering::Relaxed);
    until(&|| log.status() == Status::Online);
    assert_eq!((log.watermarks().log_end, log.losses()), (Offset(5), 0));
}

/// While the first file of the log is about to be synced, appends a batch that holds the log start, for which that file
/// gives way to another.
#[derive(Default)]
struct RenamesMeanwhile(OnceLock<Arc<PartitionLog>>, AtomicBool);

impl Faults for RenamesMeanwhile {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        match self.0.get() {
            Some(log) if act == Act::Sync && path.ends_with("00000000000000000105.log") => {
                log.append(&[plain(100, 10, 1)]).expect("appends");
                self.1.store(true, Ordering::Relaxed);
                Verdict::Fail(io::ErrorKind::NotFound.into())
            }
            _ => Verdict::Proceed,
        }
    }
}

#[test]
fn a_file_that_gives_way_to_another_is_no_failed_fsync() {
    let faults = Arc::new(RenamesMeanwhile::default());
    let root = folder();
    let (_logs, log) = open(Disk::with_faults(faults.clone()), root.path(), 400).expect("opens");
    log.restart_at(Offset(105)).expect("restarts");
    assert!(faults.0.set(log.clone()).is_ok());
    assert_eq!(log.flush().expect("looks again").flushed, Offset(110));
    assert!(faults.1.load(Ordering::Relaxed), "the file went away meanwhile");
    assert_eq!((log.status(), log.losses()), (Status::Online, 0));
}

/// Where somebody is held until he is let go on.
#[derive(Default)]
struct Turnstile {
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Idle,
    Armed,
    Held,
    LetGo,
}

impl Turnstile {
    fn reach(&self, stage: Stage) {
        *self.stage.lock().expect("not poisoned") = stage;
        self.changed.notify_all();
    }

    fn wait(&self, stage: Stage) {
        let reached = self.stage.lock().expect("not poisoned");
        drop(self.changed.wait_while(reached, |reached| *reached < stage).expect("not poisoned"));
    }
}

/// Holds who writes the recovery points, once it is armed.
#[derive(Default)]
struct HoldsCheckpoints(Turnstile);

impl Faults for HoldsCheckpoints {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        let is_armed = || *self.0.stage.lock().expect("not poisoned") == Stage::Armed;
        if act == Act::Name && path.ends_with("recovery-point-offset-checkpoint.tmp") && is_armed() {
            self.0.reach(Stage::Held);
            self.0.wait(Stage::LetGo);
        }
        Verdict::Proceed
    }
}

#[test]
fn a_recovery_point_written_during_a_truncation_is_corrected() {
    let faults = Arc::new(HoldsCheckpoints::default());
    let root = folder();
    let (logs, log) = open(Disk::with_faults(faults.clone()), root.path(), 300).expect("opens");
    log.append(&zoo()).expect("appends");
    log.flush().expect("flushes");
    faults.0.reach(Stage::Armed);
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| logs.write_checkpoints());
        faults.0.wait(Stage::Held); // it has seen how far the log is flushed
        let (done, truncated) = mpsc::channel();
        let log = &log;
        threads.spawn(move || done.send(log.truncate_to(Offset(5)).map(drop)));
        // It does not end before the writer has: then the checkpoint would be wrong.
        let early = truncated.recv_timeout(Duration::from_millis(300));
        faults.0.reach(Stage::LetGo);
        assert!(early.is_err(), "{early:?}");
        truncated.recv().expect("no panic").expect("truncates");
        writer.join().expect("no panic").expect("writes");
    });
    let text = std::fs::read_to_string(root.path().join("recovery-point-offset-checkpoint")).expect("reads");
    assert_eq!(text, "0\n1\nt 0 5\n");
}

/// Knows what a power cut would leave: the contents of each file (by inode) as last synced, under the names that their
/// folder held when it was synced.
#[derive(Default)]
struct Platter {
    synced: Mutex<BTreeMap<u64, Vec<u8>>>,
    names: Mutex<BTreeMap<PathBuf, BTreeMap<PathBuf, u64>>>,
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.ino())
}

impl Faults for Platter {
    fn before(&self, _: Act, _: &Path) -> Verdict {
        Verdict::Proceed
    }

    fn after(&self, act: Act, path: &Path) {
        if act != Act::Sync {
            return;
        }
        if path.is_dir() {
            let paths = std::fs::read_dir(path).expect("list").map(|entry| entry.expect("list").path());
            let names = paths.filter_map(|path| inode(&path).ok().map(|inode| (path, inode))).collect();
            self.names.lock().expect("not poisoned").insert(path.to_owned(), names);
        } else if let (Ok(inode), Ok(contents)) = (inode(path), std::fs::read(path)) {
            // Otherwise the flusher synced a file that is being removed.
            self.synced.lock().expect("not poisoned").insert(inode, contents);
        }
    }
}

impl Platter {
    /// Makes `image` what `root` would be after a power cut. Of bytes written but not synced, the first `torn` of a
    /// hundred parts of each file made it to the disk.
    fn cut_power(&self, root: &Path, image: &Path, torn: usize) {
        let synced = self.synced.lock().expect("not poisoned");
        let names = self.names.lock().expect("not poisoned");
        for (dir, entries) in names.iter() {
            let inside = |path: &Path| image.join(path.strip_prefix(root).expect("below the root"));
            let named = dir == root || names.get(root).is_some_and(|top| top.contains_key(dir));
            if !named {
                continue;
            }
            std::fs::create_dir_all(inside(dir)).expect("make a folder");
            for (path, file) in entries {
                if path.is_dir() {
                    std::fs::create_dir_all(inside(path)).expect("make a folder");
                    continue;
                }
                let mut contents = synced.get(file).cloned().unwrap_or_default();
                let same_file = inode(path).is_ok_and(|inode| inode == *file);
                let now = std::fs::read(path).unwrap_or_default();
                if same_file && now.len() > contents.len() && now.starts_with(&contents) {
                    let more = (now.len() - contents.len()) * torn / 100;
                    contents.extend_from_slice(&now[contents.len()..contents.len() + more]);
                }
                std::fs::write(inside(path), contents).expect("writes");
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize),
    Flush,
    Checkpoint,
    Truncate(usize),
    AdvanceLogStart(usize),
    Restart,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4usize).prop_map(Step::Append),
        3 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        1 => (1..5usize).prop_map(Step::Truncate),
        1 => (1..5usize).prop_map(Step::AdvanceLogStart),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

/// A log next to the list of batches that it should hold.
struct Model {
    /// On which disk, where, in segments of which size.
    bed: (Disk, PathBuf, u64),
    logs: Option<Logs>,
    log: Arc<PartitionLog>,
    batches: Vec<Batch>,
    epoch: i32,
    /// Flushed and not cut off since.
    promised: Offset,
}

impl Model {
    fn append(&mut self, count: usize) {
        let mut some = Vec::new();
        for _ in 0..count {
            let last: Option<&Batch> = some.last().or(self.batches.last());
            let end = last.map_or(self.log.watermarks().log_end.0, |last| last.header.next_offset().0);
            let end = end.max(self.log.watermarks().log_end.0);
            let base = end + i64::from(end % 5 == 0);
            some.push(match base % 4 {
                0 => common::transactional(base, 2, self.epoch, 11 + base % 3),
                1 => common::marker(base, self.epoch, 11 + base % 3, base % 8 < 4),
                _ => plain(base, 1 + (base % 3) as usize, self.epoch),
            });
        }
        self.log.append(&some).expect("appends");
        self.batches.extend(some);
    }

    fn on(disk: Disk, root: &Path, segment_bytes: u64) -> Self {
        let (logs, log) = open(disk.clone(), root, segment_bytes).expect("opens");
        let bed = (disk, root.to_owned(), segment_bytes);
        Self { bed, logs: Some(logs), log, batches: Vec::new(), epoch: 0, promised: Offset(0) }
    }

    fn run(&mut self, step: Step) {
        let at = self.log.watermarks();
        match step {
            Step::Append(count) => self.append(count),
            Step::Flush => self.promised = self.log.flush().expect("flushes").flushed,
            Step::Checkpoint => {
                let logs = self.logs.as_ref().expect("is open");
                logs.write_checkpoints().expect("writes checkpoints");
            }
            Step::Truncate(back) => {
                let to = Offset((at.log_end.0 - 3 * back as i64).max(at.log_start.0));
                let after = self.log.truncate_to(to).expect("truncates");
                self.batches.retain(|batch| batch.header.next_offset() <= after.log_end);
                self.promised = self.promised.min(after.log_end);
                self.epoch += 1;
            }
            Step::AdvanceLogStart(by) => {
                let to = Offset((at.log_start.0 + 3 * by as i64).min(at.log_end.0));
                self.log.advance_log_start(to).expect("advances");
            }
            Step::Restart => {
                let to = Offset(at.log_end.0 + 7);
                self.log.restart_at(to).expect("restarts");
                self.batches.clear();
                self.promised = Offset(0); // an empty log is not flushed
                self.epoch += 1;
            }
            Step::Kill => {
                self.logs = None;
                let (disk, root, segment_bytes) = self.bed.clone();
                let (logs, log) = open(disk, &root, segment_bytes).expect("opens");
                assert_eq!(log.watermarks().log_end, at.log_end, "the kernel keeps what was written");
                (self.logs, self.log) = (Some(logs), log);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_leaves_a_prefix_with_all_that_was_flushed(
        steps in proptest::collection::vec(step(), 1..25),
        torn in prop_oneof![Just(0usize), Just(100), 1..100usize],
        segment_bytes in prop_oneof![Just(250u64), Just(700), Just(1 << 20)],
    ) {
        let (root, image) = (folder(), folder());
        let platter = Arc::new(Platter::default());
        let mut model = Model::on(Disk::with_faults(platter.clone()), root.path(), segment_bytes);
        for step in steps {
            model.run(step);
        }
        // As long as the folder was never flushed the whole partition may be missing: nothing was promised.
        platter.cut_power(root.path(), image.path(), torn);
        let (again, recovered) = open(Disk::default(), image.path(), segment_bytes).expect("opens");
        let at = recovered.watermarks();
        prop_assert!(at.log_end >= model.promised, "{at:?}, promised {}", model.promised);
        let held = contents(&recovered);
        let log_start = model.log.watermarks().log_start;
        let comparable: Vec<_> = held.iter().filter(|batch| batch.header.next_offset() > log_start).cloned().collect();
        let expected: Vec<_> = model.batches.iter().filter(|batch| batch.header.next_offset() > log_start).take(comparable.len()).cloned().collect();
        prop_assert_eq!(joined(&comparable), joined(&expected), "{:?}", at);

        // What was recovered is what a second look finds, and what a clean restart finds.
        let first_look = answers(&recovered).lasting();
        drop((recovered, again));
        let (again, recovered) = open(Disk::default(), image.path(), segment_bytes).expect("opens");
        prop_assert_eq!(&answers(&recovered).lasting(), &first_look);
        again.close().expect("closes");
        drop((recovered, again));
        let (_again, recovered) = open(Disk::default(), image.path(), segment_bytes).expect("opens");
        prop_assert_eq!(&answers(&recovered).lasting(), &first_look);
    }
}

#[test]
fn many_partitions_are_closed_with_one_sync() {
    for works in [true, false] {
        let refuses = |act: Act, _: &Path| act == Act::SyncFileSystem;
        let faults = Arc::new(Switch { on: AtomicBool::new(!works), refuses, number: IO });
        let root = folder();
        let (logs, _) = open(Disk::with_faults(faults), root.path(), 400).expect("opens");
        let ids: Vec<_> = (0..70).map(|partition| TopicPartition::new("many", partition)).collect();
        for id in &ids {
            let log = logs.open_partition(id, common::TOPIC_ID).expect("opens");
            log.append(&zoo()).expect("appends");
        }
        assert_eq!(logs.close().is_ok(), works);
        drop(logs);
        assert_eq!(root.path().join(".kafka_cleanshutdown").exists(), works);
        let (logs, _) = open(Disk::default(), root.path(), 400).expect("opens");
        for id in &ids {
            let log = logs.partition(id).expect("is there");
            assert_eq!(log.watermarks().flushed, log.watermarks().log_end, "each was flushed, together or one by one");
            assert_eq!(answers(&log), answers_to(&zoo()));
        }
    }
}

/// Counts syncs of `.log` files and of the file system.
#[derive(Default)]
struct Syncs {
    logs: AtomicUsize,
    file_system: AtomicUsize,
}

impl Faults for Syncs {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        if act == Act::SyncFileSystem {
            self.file_system.fetch_add(1, Ordering::Relaxed);
        } else if act == Act::Sync && path.extension().is_some_and(|suffix| suffix == "log") {
            self.logs.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Proceed
    }
}

#[test]
fn where_syncfs_hides_errors_each_partition_is_synced_by_itself() {
    let syncs = Arc::new(Syncs::default());
    let root = folder();
    let disk = Disk::with_faults(syncs.clone()).without_syncfs();
    let (logs, _) = open(disk, root.path(), 1 << 20).expect("opens");
    for partition in 0..70 {
        let log = logs.open_partition(&TopicPartition::new("many", partition), common::TOPIC_ID).expect("opens");
        log.append(&zoo()).expect("appends");
    }
    logs.close().expect("closes");
    assert_eq!(syncs.file_system.load(Ordering::Relaxed), 0);
    assert!(syncs.logs.load(Ordering::Relaxed) >= 70, "{:?}", syncs.logs);
}

/// Refuses syncfs; notes what is synced without it.
#[derive(Default)]
struct OneByOne(Mutex<BTreeSet<PathBuf>>);

impl Faults for OneByOne {
    fn before(&self, act: Act, _: &Path) -> Verdict {
        if act == Act::SyncFileSystem { Verdict::Fail(error(IO)) } else { Verdict::Proceed }
    }

    fn after(&self, act: Act, path: &Path) {
        if act == Act::Sync {
            self.0.lock().expect("notes").insert(path.to_owned());
        }
    }
}

#[test]
fn mirrors_promoted_while_syncfs_fails_are_synced_one_by_one() {
    let root = folder();
    let synced = Arc::new(OneByOne::default());
    let (logs, _) = open(Disk::with_faults(synced.clone()), root.path(), 1 << 20).expect("opens");
    let mirrors: Vec<_> = (0..70)
        .map(|partition| {
            let id = TopicPartition::new("many", partition);
            let log = logs.open_partition(&id, common::TOPIC_ID).expect("opens");
            let batches = if partition % 2 == 0 { zoo() } else { Vec::new() };
            log.append(&batches).expect("appends");
            log.flush().expect("flushes");
            id
        })
        .collect();
    synced.0.lock().expect("notes").clear();
    let outcomes = logs.end_mirroring(&mirrors, 1_700_000_000_000);
    let synced = synced.0.lock().expect("notes");
    for (id, outcome) in mirrors.iter().zip(outcomes) {
        let ended = outcome.expect("ends");
        let log = logs.partition(id).expect("is there");
        assert_eq!(log.watermarks().flushed, ended.log_end, "{id}");
        let snapshot = format!("{:020}.snapshot", ended.log_end.0);
        for path in [log.dir().to_owned(), log.dir().join(snapshot), log.dir().join("leader-epoch-checkpoint.tmp")] {
            assert!(synced.contains(&path), "{} is not durable", path.display());
        }
    }
}

/// Holds syncfs; notes what is synced without it.
#[derive(Default)]
struct HoldsSyncfs {
    gate: Turnstile,
    others: OneByOne,
}

impl Faults for HoldsSyncfs {
    fn before(&self, act: Act, _: &Path) -> Verdict {
        if act == Act::SyncFileSystem {
            self.gate.reach(Stage::Held);
            self.gate.wait(Stage::LetGo);
        }
        Verdict::Proceed
    }

    fn after(&self, act: Act, path: &Path) {
        self.others.after(act, path);
    }
}

#[test]
fn a_leader_waits_for_no_syncfs_to_have_its_epoch_durable() {
    let root = folder();
    let faults = Arc::new(HoldsSyncfs::default());
    let (logs, _) = open(Disk::with_faults(faults.clone()), root.path(), 1 << 20).expect("opens");
    let mirror = |partition| {
        let id = TopicPartition::new("many", partition);
        logs.open_partition(&id, common::TOPIC_ID).expect("opens");
        id
    };
    let mirrors: Vec<_> = (0..70).map(mirror).collect();
    let log = logs.partition(&mirrors[0]).expect("is there");
    std::thread::scope(|threads| {
        let ended = threads.spawn(|| logs.end_mirroring(&mirrors, 1_700_000_000_000));
        faults.gate.wait(Stage::Held); // the epoch is in the file, and the file perhaps in the page cache only
        let record = BatchBuilder::at(0).records(1, 10).build();
        let appended = log.append_as_leader(record, 1_700_000_000_000);
        let synced = faults.others.0.lock().expect("notes").contains(&log.dir().join("leader-epoch-checkpoint.tmp"));
        faults.gate.reach(Stage::LetGo);
        appended.expect("appends");
        assert!(synced, "consumers can read a batch of an epoch that a power cut forgets");
        assert!(ended.join().expect("no panic").iter().all(Result::is_ok));
    });
}

#[test]
fn a_copy_of_a_running_log_is_a_crash_image_too() {
    let (root, image) = (folder(), folder());
    let (logs, log) = open(Disk::default(), root.path(), 400).expect("opens");
    log.append(&zoo()).expect("appends");
    copy(root.path(), image.path());
    let (_again, recovered) = open(Disk::default(), image.path(), 400).expect("opens");
    assert_eq!(answers(&recovered), answers_to(&zoo()));
    drop(logs);
}

/// Panics at acts of one kind, as often as `left` says.
struct Panics {
    at: Act,
    left: AtomicUsize,
}

impl Faults for Panics {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        let is_log = act == Act::SyncFileSystem || path.extension().is_some_and(|kind| kind == "log");
        let is_left =
            || self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        assert!(act != self.at || !is_log || !is_left(), "a wire was tripped");
        Verdict::Proceed
    }
}

fn flushed_in_the_end(at: Act, times: usize, partitions: i32) {
    let root = folder();
    let panics = Arc::new(Panics { at, left: AtomicUsize::new(times) });
    let config = LogConfig { flush_interval: Some(Duration::from_millis(100)), ..config(1 << 20) };
    let logs = Logs::open_on(Disk::with_faults(panics.clone()), root.path(), config).unwrap();
    let open = |index| logs.open_partition(&TopicPartition::new("t", index), common::TOPIC_ID).unwrap();
    let all: Vec<_> = (0..partitions).map(open).collect();
    let began = std::time::Instant::now();
    let wait = |log: &PartitionLog, what: &str| {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: {:?}", log.status());
        std::thread::sleep(Duration::from_millis(5));
    };
    // A slow machine may not append to all of them between two flushes: again, until a flush met them together.
    let mut end = 0;
    while panics.left.load(Ordering::Relaxed) > 0 {
        for log in &all {
            log.append(&[plain(end, 3, 0)]).unwrap();
        }
        end += 3;
        wait(&all[0], "the wire is not tripped");
    }
    while let Some(log) = all.iter().find(|log| log.watermarks().flushed < Offset(end)) {
        wait(log, "not flushed");
    }
    // And it still works.
    all[0].append(&[plain(end, 1, 0)]).unwrap();
    while all[0].watermarks().flushed < Offset(end + 1) {
        wait(&all[0], "not flushed after that");
    }
    assert_eq!(all[0].status(), Status::Online);
    logs.close().unwrap();
}

#[test]
fn a_flush_that_panics_is_tried_again() {
    flushed_in_the_end(Act::Sync, 2, 3);
}

#[test]
fn a_flusher_that_panics_goes_on_with_everything() {
    flushed_in_the_end(Act::SyncFileSystem, 1, 70);
}

/// Looks a partition up from another thread during every act.
#[derive(Default)]
struct LookUps {
    logs: OnceLock<Weak<Logs>>,
    done: AtomicUsize,
}

impl Faults for LookUps {
    fn before(&self, _: Act, _: &Path) -> Verdict {
        if let Some(logs) = self.logs.get().and_then(Weak::upgrade) {
            let (send, found) = mpsc::channel();
            std::thread::spawn(move || send.send(logs.partition(&id()).is_some()));
            let found = found.recv_timeout(Duration::from_secs(30));
            assert!(found.expect("a look-up does not wait for another partition's files"));
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Proceed
    }
}

#[test]
fn partitions_are_found_while_others_are_made_and_deleted() {
    let root = folder();
    let faults = Arc::new(LookUps::default());
    let (logs, _) = open(Disk::with_faults(faults.clone()), root.path(), 400).expect("opens");
    let logs = Arc::new(logs);
    faults.logs.set(Arc::downgrade(&logs)).expect("set once");
    let other = TopicPartition::new("other", 0);
    logs.open_partition(&other, common::TOPIC_ID).expect("opens");
    let made = faults.done.load(Ordering::Relaxed);
    logs.delete_partition(&other).expect("deletes");
    assert!(0 < made && made < faults.done.load(Ordering::Relaxed));
}

/// While it is set, fails whatever is made, renamed or removed in the folder of the one partition.
struct Unloadable(AtomicBool);

impl Faults for Unloadable {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        let is_its = path.parent().and_then(Path::file_name).is_some_and(|folder| folder == "t-0");
        let fails = is_its && act == Act::Name && self.0.load(Ordering::Relaxed);
        if fails { Verdict::Fail(error(IO)) } else { Verdict::Proceed }
    }
}

/// A directory whose one partition was killed and cannot be recovered now; what it said of itself before.
fn unloaded(root: &Path) -> (Logs, Arc<Unloadable>, Watermarks) {
    let (logs, log) = open(Disk::default(), root, 400).expect("opens");
    log.append(&zoo()).expect("appends");
    log.flush().expect("flushes");
    log.observe_high_watermark(Offset(43));
    let at = log.advance_log_start(Offset(4)).expect("raises");
    logs.write_checkpoints().expect("writes");
    drop(logs);
    let faults = Arc::new(Unloadable(AtomicBool::new(true)));
    let logs = Logs::open_on(Disk::with_faults(faults.clone()), root, config(400)).expect("opens without it");
    assert!(logs.partition(&id()).is_none());
    (logs, faults, at)
}

/// What the log that stood so says when it is read again: all of it may be read, but for the transaction of 11.
fn read_anew(at: Watermarks) -> Watermarks {
    assert_eq!((at.high_watermark, at.last_stable), (Offset(43), Offset(40)));
    Watermarks { high_watermark: at.log_end, last_stable: Offset(44), ..at }
}

#[test]
fn the_checkpoints_keep_what_they_say_of_a_partition_that_is_not_loaded() {
    let root = folder();
    let (logs, _, at) = unloaded(root.path());
    logs.close().expect("closes");
    drop(logs);
    let checkpointed = |name: &str| std::fs::read_to_string(root.path().join(name)).expect("reads");
    for (name, says) in [
        ("recovery-point-offset-checkpoint", "0\n1\nt 0 48\n"),
        ("replication-offset-checkpoint", "0\n1\nt 0 43\n"),
        ("log-start-offset-checkpoint", "0\n1\nt 0 4\n"),
    ] {
        assert_eq!(checkpointed(name), says, "{name}");
    }
    assert_eq!(open(Disk::default(), root.path(), 400).expect("opens").1.watermarks(), read_anew(at));
}

#[test]
fn the_checkpoints_follow_a_partition_that_is_loaded_later() {
    let root = folder();
    let (logs, faults, at) = unloaded(root.path());
    faults.0.store(false, Ordering::Relaxed);
    let log = logs.open_partition(&id(), common::TOPIC_ID).expect("opens");
    assert_eq!(log.watermarks(), read_anew(at));
    log.append(&[plain(60, 1, 7)]).expect("appends");
    log.observe_high_watermark(Offset(61));
    logs.close().expect("closes");
    let later = log.watermarks();
    drop(logs);
    assert_eq!(open(Disk::default(), root.path(), 400).expect("opens").1.watermarks(), later);
}

#[test]
fn a_partition_that_is_not_loaded_can_be_deleted() {
    let root = folder();
    let (logs, _, _) = unloaded(root.path());
    logs.delete_partition(&id()).expect("deletes");
    assert!(!root.path().join("t-0").exists());
    logs.close().expect("closes");
    drop(logs);
    assert_eq!(open(Disk::default(), root.path(), 400).expect("opens").1.watermarks().log_end, Offset(0));
}
