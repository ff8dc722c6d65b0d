//! Whatever a crash leaves of the unflushed tail, the recovered log is a prefix of what was appended, ends at a batch
//! boundary, holds at least what was flushed, and answers as a log that never held more.

mod common;

use bytes::Bytes;
use common::{Answers, answers, answers_to, config, contents, copy, joined, open, zoo};
use hawser_wire::{Batch, Offset};
use std::path::{Path, PathBuf};

/// A log of which `flushed` batches were flushed and the recovery point written, then all others appended, then killed.
struct Killed {
    root: tempfile::TempDir,
    segment_bytes: u64,
    flushed: usize,
    expected: Vec<Answers>,
}

fn killed(segment_bytes: u64, flushed: usize) -> Killed {
    let root = common::folder();
    let batches = zoo();
    let (logs, log) = open(root.path(), &config(segment_bytes));
    let (before, after) = batches.split_at(flushed);
    for batch in before {
        log.append(std::slice::from_ref(batch)).expect("appends");
    }
    log.flush().expect("flushes");
    logs.write_checkpoints().expect("writes checkpoints");
    log.append(after).expect("appends");
    drop(logs);
    let expected = (0..=batches.len()).map(|count| answers_to(&batches[..count])).collect();
    Killed { root, segment_bytes, flushed, expected }
}

impl Killed {
    fn folder(&self) -> PathBuf {
        self.root.path().join("t-0")
    }

    /// Files that a crash may have left in any state, and from which byte on.
    fn unflushed(&self) -> Vec<(String, usize)> {
        let mut position: usize = zoo().iter().take(self.flushed).map(|batch| batch.bytes.len()).sum();
        let mut found = Vec::new();
        for name in self.names(".log") {
            let length = std::fs::metadata(self.folder().join(&name)).expect("stat").len() as usize;
            if position < length {
                found.push((name.clone(), position));
                let stem = name.trim_end_matches("log");
                found.extend(["index", "timeindex"].map(|suffix| (format!("{stem}{suffix}"), 0)));
                if self.folder().join(format!("{stem}txnindex")).exists() {
                    found.push((format!("{stem}txnindex"), 0));
                }
            }
            position = position.saturating_sub(length);
        }
        found
    }

    fn names(&self, suffix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).expect("list");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("list").file_name().into_string().expect("UTF-8")).collect();
        names.retain(|name| name.ends_with(suffix));
        names.sort();
        names
    }

    /// Bytes of base offsets and leader epochs: the format's CRC does not cover them. A batch whose base offset was raised
    /// looks like one after a gap; Kafka cannot tell either. What a torn write leaves is zeros, and they are noticed.
    fn uncovered(&self, name: &str) -> Vec<usize> {
        let mut bytes = Bytes::from(std::fs::read(self.folder().join(name)).expect("reads"));
        let mut found = Vec::new();
        let mut start = 0;
        while let Ok(batch) = Batch::split_off(&mut bytes) {
            found.extend((start..start + 8).chain(start + 12..start + 16));
            start += batch.bytes.len();
        }
        found
    }

    /// What a log says that never held more than the first `count` batches.
    fn expected(&self, count: usize) -> &Answers {
        &self.expected[count]
    }

    /// Recovers a copy in which `damage` was done to the file `name`.
    fn check(&self, name: &str, what: &str, thorough: bool, damage: impl FnOnce(&Path)) {
        let copied = common::folder();
        copy(self.root.path(), copied.path());
        damage(&copied.path().join("t-0").join(name));
        let batches = zoo();
        let (logs, log) = open(copied.path(), &config(self.segment_bytes));
        let held = contents(&log);
        let prefix = batches.get(..held.len()).expect("not more than was appended");
        assert_eq!(joined(&held), joined(prefix), "{name} {what}: a prefix");
        assert!(held.len() >= self.flushed, "{name} {what}: {} of {} flushed", held.len(), self.flushed);
        assert_eq!(&answers(&log), self.expected(held.len()), "{name} {what}");
        if !thorough {
            return;
        }
        // It goes on from there, and a clean restart changes nothing.
        log.append(batches.get(held.len()..).expect("the rest")).expect("appends the rest");
        assert_eq!(&answers(&log), self.expected(batches.len()), "{name} {what}: after the rest");
        logs.close().expect("closes");
        drop(logs);
        let (_logs, log) = open(copied.path(), &config(self.segment_bytes));
        assert_eq!(&answers(&log), self.expected(batches.len()), "{name} {what}: after a restart");
    }
}

fn set_length(path: &Path, length: usize) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opens");
    file.set_len(length as u64).expect("sets the length");
}

fn garble(path: &Path, at: usize, with: impl Fn(u8) -> u8) {
    let mut bytes = std::fs::read(path).expect("reads");
    bytes[at] = with(bytes[at]);
    std::fs::write(path, bytes).expect("writes");
}

fn every_byte(segment_bytes: u64, flushed: usize) {
    let killed = killed(segment_bytes, flushed);
    for (name, from) in killed.unflushed() {
        let length = std::fs::metadata(killed.folder().join(&name)).expect("stat").len() as usize;
        let uncovered = if name.ends_with(".log") { killed.uncovered(&name) } else { Vec::new() };
        for at in from..length {
            let thorough = at % 16 == 0;
            killed.check(&name, &format!("cut at {at}"), thorough, |path| set_length(path, at));
            let with = |byte| if uncovered.contains(&at) { 0 } else { byte ^ 0xff };
            killed.check(&name, &format!("garbled at {at}"), thorough, |path| garble(path, at, with));
        }
        if from == 0 {
            killed.check(&name, "missing", true, |path| std::fs::remove_file(path).expect("removes"));
        }
    }
}

#[test]
fn any_byte_of_one_segment() {
    every_byte(1 << 20, 9);
}

#[test]
fn any_byte_of_several_segments() {
    every_byte(400, 6);
}

#[test]
fn a_tail_that_was_allocated_but_never_written() {
    for segment_bytes in [400, 1 << 20] {
        let killed = killed(segment_bytes, 6);
        for (name, from) in killed.unflushed().iter().filter(|(name, _)| name.ends_with(".log")) {
            let length = std::fs::metadata(killed.folder().join(name)).expect("stat").len() as usize;
            for at in (*from..length).step_by(7) {
                killed.check(name, &format!("zeros from {at}"), true, |path| {
                    set_length(path, at);
                    set_length(path, length + 100);
                });
            }
        }
    }
}

#[test]
fn a_checkpoint_that_is_missing_or_damaged() {
    let killed = killed(400, 6);
    for name in ["leader-epoch-checkpoint", "partition.metadata"] {
        let length = std::fs::metadata(killed.folder().join(name)).expect("stat").len() as usize;
        killed.check(name, "missing", true, |path| std::fs::remove_file(path).expect("removes"));
        if name == "leader-epoch-checkpoint" {
            killed.check(name, "empty", true, |path| set_length(path, 0));
            killed.check(name, "cut", true, |path| set_length(path, length / 2));
            killed.check(name, "not a number", true, |path| garble(path, length - 2, |_| b'x'));
        }
    }
    for name in ["recovery-point-offset-checkpoint", "replication-offset-checkpoint", "log-start-offset-checkpoint"] {
        killed.check(&format!("../{name}"), "missing", true, |path| std::fs::remove_file(path).expect("removes"));
        killed.check(&format!("../{name}"), "garbled", true, |path| garble(path, 0, |byte| byte ^ 0xff));
    }
}

#[test]
fn a_clean_shutdown_is_trusted_and_an_unclean_one_is_not() {
    let root = common::folder();
    let batches = zoo();
    let (logs, log) = open(root.path(), &config(400));
    log.append(&batches).expect("appends");
    logs.close().expect("closes");
    assert!(root.path().join(".kafka_cleanshutdown").exists());
    drop(logs);
    let (logs, log) = open(root.path(), &config(400));
    assert!(!root.path().join(".kafka_cleanshutdown").exists(), "it speaks of one shutdown only");
    assert_eq!(log.watermarks().flushed, log.watermarks().log_end);
    assert_eq!(answers(&log), answers_to(&batches));
    drop(logs);
    let (_logs, log) = open(root.path(), &config(400));
    assert_eq!(answers(&log), answers_to(&batches));
}

#[test]
fn recovery_after_truncation_does_not_bring_the_old_lineage_back() {
    for segment_bytes in [300, 1 << 20] {
        let root = common::folder();
        let (logs, log) = open(root.path(), &config(segment_bytes));
        let batches = zoo();
        log.append(&batches).expect("appends");
        log.flush().expect("flushes");
        logs.write_checkpoints().expect("writes checkpoints");
        log.truncate_to(batches[5].header.base_offset).expect("truncates");
        let mut lineage: Vec<Batch> = batches[..5].to_vec();
        lineage.extend([common::plain(8, 2, 2), common::transactional(10, 2, 2, 12), common::plain(12, 30, 2)]);
        log.append(&lineage[5..]).expect("appends the new lineage");
        drop(logs); // killed: nothing of the new lineage was flushed
        let (_logs, log) = open(root.path(), &config(segment_bytes));
        assert_eq!(answers(&log), answers_to(&lineage), "segments of {segment_bytes}");
    }
}

#[test]
fn all_that_a_killed_log_still_holds_may_be_read() {
    for segment_bytes in [300, 1 << 20] {
        let root = common::folder();
        let (logs, log) = open(root.path(), &config(segment_bytes));
        let batches = zoo();
        log.append(&batches[..6]).expect("appends");
        log.observe_high_watermark(log.watermarks().log_end);
        logs.write_checkpoints().expect("writes checkpoints");
        log.append(&batches[6..]).expect("appends");
        log.observe_high_watermark(log.watermarks().log_end);
        let at = log.watermarks();
        drop((log, logs)); // killed before the next checkpoint
        let (_logs, log) = open(root.path(), &config(segment_bytes));
        let read_anew = log.watermarks();
        assert_eq!((read_anew.high_watermark, read_anew.last_stable), (at.log_end, Offset(44)));
        assert_eq!(read_anew.last_stable, at.last_stable, "behind the transaction that is open");
        assert_eq!(joined(&contents(&log)), joined(&batches));
    }
}
