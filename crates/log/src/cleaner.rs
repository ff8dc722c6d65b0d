//! The one thread that cleans ordinary partitions: retention, compaction, files that were deleted a while ago, producers
//! that are silent. Kafka's `LogCleaner`, `LogCleanerManager` and the retention task of `LogManager`.
//!
//! It wakes every `log.cleaner.backoff.ms`. Of the logs to be compacted the dirtiest comes first; how far each is clean stands
//! in `cleaner-offset-checkpoint`. A log on which cleaning fails otherwise than by the disk, or panics, is left alone until
//! the next start, and the others go on. Memory: the keys of one log's dirty part within `log.cleaner.dedupe.buffer.size`,
//! and one batch.

use crate::checkpoint;
use crate::compact::{CompactError, Dirty};
use crate::directory::Directory;
use crate::logs::Logs;
use crate::partition::{PartitionLog, lock};
use crate::retention::Doomed;
use hawser_wire::{Offset, TopicPartition};
use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Memory that a key takes in the map of latest offsets: hash, offset and a table that was just doubled.
const KEY_BYTES: usize = 64;
/// Least keys that the map holds: more than one batch of the default size has.
const KEYS_MIN: usize = 100_000;

/// What is known of cleaning, of a whole data directory.
#[derive(Default)]
pub(crate) struct Cleaning {
    /// How far each compacted log is clean.
    pub(crate) cleaned: HashMap<TopicPartition, Offset>,
    pub(crate) doomed: Doomed,
    uncleanable: HashSet<TopicPartition>,
}

/// Tells the cleaner to end.
#[derive(Default)]
pub(crate) struct Stop {
    pub(crate) asked: AtomicBool,
    sleeping: Mutex<()>,
    woken: Condvar,
}

impl Cleaning {
    pub(crate) fn load(root: &std::path::Path) -> Self {
        let cleaned = checkpoint::read_offsets(&root.join(checkpoint::CLEANER_OFFSET)).unwrap_or_default();
        Self { cleaned, ..Self::default() }
    }

    /// Forgets a partition that is deleted.
    pub(crate) fn forget(&mut self, id: &TopicPartition) {
        self.cleaned.remove(id);
        self.uncleanable.remove(id);
    }
}

impl Logs {
    /// Cleans once what is to be cleaned at `now_ms`, in ms since 1970; the cleaner does the same every so often. Blocks.
    pub fn clean(&self, now_ms: i64) {
        pass(&self.directory, now_ms);
    }
}

/// Starts the thread; `directory` is only held while it works.
pub(crate) fn start(directory: Weak<Directory>, stop: Arc<Stop>, every: Duration) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("hawser-log-clean".into()).spawn(move || {
        while stop.sleep(every) {
            let Some(directory) = directory.upgrade() else { return };
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
            if catch_unwind(AssertUnwindSafe(|| pass(&directory, now_ms))).is_err() {
                tracing::error!(root = %directory.root.display(), "cleaning panicked and is begun again in a while");
            }
        }
    })
}

impl Stop {
    /// Has the cleaner end as soon as it can.
    pub(crate) fn ask(&self) {
        let _sleeping = lock(&self.sleeping);
        self.asked.store(true, Ordering::Release);
        self.woken.notify_all();
    }

    /// False if the cleaner shall end.
    fn sleep(&self, time: Duration) -> bool {
        let sleeping = lock(&self.sleeping);
        let asked = |_: &mut ()| !self.asked.load(Ordering::Acquire);
        drop(self.woken.wait_timeout_while(sleeping, time, asked).unwrap_or_else(PoisonError::into_inner));
        !self.asked.load(Ordering::Acquire)
    }
}

fn pass(directory: &Directory, now_ms: i64) {
    let led: Vec<_> = directory.all().into_iter().filter(|log| log.leads().is_some()).collect();
    for log in &led {
        log.expire_producers(now_ms);
        if let Err(error) = log.delete_old_segments(now_ms) {
            tracing::warn!(id = %log.id, %error, "delete old segments");
        }
    }
    // Each turn makes a log cleaner than it was, so this ends; the bound is for a clock or a disk gone mad.
    for _ in 0..=led.len() {
        if directory.stop_cleaning.asked.load(Ordering::Acquire) || !compact_dirtiest(directory, &led, now_ms) {
            break;
        }
    }
    lock(&directory.cleaning).doomed.remove_due(&directory.disk);
}

/// Compacts the log with the largest dirty share; false if no log is dirty enough.
fn compact_dirtiest(directory: &Directory, led: &[Arc<PartitionLog>], now_ms: i64) -> bool {
    let mut dirtiest: Option<(&Arc<PartitionLog>, Dirty)> = None;
    for log in led {
        let (cleaned_to, uncleanable) = {
            let cleaning = lock(&directory.cleaning);
            (cleaning.cleaned.get(&log.id).copied(), cleaning.uncleanable.contains(&log.id))
        };
        if uncleanable {
            continue;
        }
        match log.dirty(cleaned_to, now_ms) {
            Ok(Some(dirty)) if dirtiest.as_ref().is_none_or(|(_, most)| dirty.share > most.share) => {
                dirtiest = Some((log, dirty));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(id = %log.id, %error, "look for what to compact"),
        }
    }
    let Some((log, dirty)) = dirtiest else { return false };
    let keys_max = (directory.config.cleaner_dedupe_buffer_bytes / KEY_BYTES).max(KEYS_MIN);
    let outcome = catch_unwind(AssertUnwindSafe(|| log.compact(&dirty, keys_max, now_ms)));
    match outcome {
        Ok(Ok(end)) => {
            tracing::debug!(id = %log.id, from = %dirty.from, %end, "compacted");
            note_cleaned(directory, log.id(), end);
            true
        }
        Ok(Err(CompactError::Interrupted)) => false,
        Ok(Err(CompactError::Io(error))) => {
            tracing::warn!(id = %log.id, %error, "compact: tried again later");
            false
        }
        Ok(Err(CompactError::Unreadable(reason))) => {
            tracing::error!(id = %log.id, reason, "this log cannot be compacted and is left alone until the next start");
            lock(&directory.cleaning).uncleanable.insert(log.id.clone())
        }
        Err(_) => {
            tracing::error!(id = %log.id, "compaction panicked: this log is left alone until the next start");
            lock(&directory.cleaning).uncleanable.insert(log.id.clone())
        }
    }
}

fn note_cleaned(directory: &Directory, id: &TopicPartition, end: Offset) {
    let mut cleaning = lock(&directory.cleaning);
    cleaning.cleaned.insert(id.clone(), end);
    let path = directory.root.join(checkpoint::CLEANER_OFFSET);
    let offsets = cleaning.cleaned.iter().map(|(id, end)| (id, *end));
    if let Err(error) = checkpoint::write_offsets(&directory.disk, &path, offsets) {
        tracing::warn!(%error, "write {}: the next start compacts again", path.display());
    }
}
