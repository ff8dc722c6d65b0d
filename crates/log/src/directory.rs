//! What all partitions of a data directory share: its bounds, its disk, its open files, its checkpoints, and the one
//! thread that flushes.
//!
//! The flusher sleeps until a partition is dirty or a checkpoint stale; idle partitions cost nothing.

use crate::cleaner::{Cleaning, Stop};
use crate::disk::{Disk, FileSystem};
use crate::files::OpenFiles;
use crate::flush::{FLUSH_PANICKED, flush_together};
use crate::load::Checkpointed;
use crate::partition::{PartitionLog, Status, lock};
use crate::segment::Segment;
use crate::{Error, LogConfig, checkpoint};
use hawser_wire::{Offset, TopicPartition};
use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

/// How old checkpoints of high watermarks, recovery points and log starts may be (Kafka: 5 s, 60 s and 60 s).
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after the flusher panicked, so that a panic at every turn costs a line a second.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// A full disk fails every partition at every turn; one line each so often names one of them and counts the others.
const WARN_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct Directory {
    pub(crate) root: PathBuf,
    pub(crate) config: LogConfig,
    pub(crate) disk: Disk,
    /// For one sync of many partitions; without it each is synced by itself.
    pub(crate) file_system: Option<FileSystem>,
    pub(crate) open_files: OpenFiles,
    /// Locked for moments only.
    partitions: RwLock<Partitions>,
    /// How often a log end went back since the start: see [`crate::Logs::losses`].
    pub(crate) losses: AtomicU64,
    /// Partitions that could not be loaded, with what the checkpoints said of them and go on to say.
    pub(crate) unloaded: Mutex<BTreeMap<TopicPartition, Checkpointed>>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) cleaning: Mutex<Cleaning>,
    pub(crate) stop_cleaning: Arc<Stop>,
    /// Counts the folders made in `root`.
    pub(crate) names_made: AtomicU64,
    /// How many of them are durable.
    names_synced: AtomicU64,
    checkpoints_stale: AtomicBool,
    writing_checkpoints: Mutex<()>,
}

type Partitions = BTreeMap<TopicPartition, Arc<PartitionLog>>;

/// What the flusher waits on.
#[derive(Default)]
pub(crate) struct Queue {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    /// At most one entry a partition, but for those that must be flushed at once.
    dirty: Vec<Weak<PartitionLog>>,
    at_once: bool,
    checkpoints_stale: bool,
    closed: bool,
}

impl Directory {
    pub(crate) fn new(root: PathBuf, config: LogConfig, disk: Disk) -> io::Result<Self> {
        Ok(Self {
            file_system: disk.file_system(&root)?,
            cleaning: Mutex::new(Cleaning::load(&root)),
            stop_cleaning: Arc::default(),
            root,
            open_files: OpenFiles::new(disk.clone(), config.open_files_max),
            config,
            disk,
            partitions: RwLock::default(),
            losses: AtomicU64::new(0),
            unloaded: Mutex::default(),
            queue: Arc::default(),
            names_made: AtomicU64::new(1), // those that are there; who knows whether they are durable
            names_synced: AtomicU64::new(0),
            checkpoints_stale: AtomicBool::new(false),
            writing_checkpoints: Mutex::default(),
        })
    }

    pub(crate) fn partitions(&self) -> RwLockReadGuard<'_, Partitions> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn partitions_mut(&self) -> RwLockWriteGuard<'_, Partitions> {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Arc<PartitionLog>> {
        self.partitions().values().cloned().collect()
    }

    pub(crate) fn enqueue(&self, log: Weak<PartitionLog>, at_once: bool) {
        let mut work = lock(&self.queue.work);
        let wake = at_once || work.dirty.is_empty();
        work.dirty.push(log);
        work.at_once |= at_once;
        drop(work);
        if wake {
            self.queue.changed.notify_one();
        }
    }

    /// Makes the name of the folder durable that was made as number `made`; one call serves all that were made before it.
    pub(crate) fn sync_name(&self, made: u64) -> io::Result<()> {
        if self.names_synced.load(Ordering::Acquire) < made {
            let until = self.names_made.load(Ordering::Acquire);
            self.disk.sync_dir(&self.root)?;
            self.names_synced.fetch_max(until, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Has the checkpoints written within [`CHECKPOINT_INTERVAL`].
    pub(crate) fn checkpoints_are_stale(&self) {
        if !self.checkpoints_stale.swap(true, Ordering::AcqRel) {
            lock(&self.queue.work).checkpoints_stale = true;
            self.queue.changed.notify_one();
        }
    }

    /// Corrects the checkpoints if they promise more of `log` than is true now. The caller holds its `writing`.
    pub(crate) fn lower_checkpoints(&self, log: &PartitionLog) -> io::Result<()> {
        // Whoever writes them just now has perhaps looked at `log` before.
        let turn = lock(&self.writing_checkpoints);
        let too_high = {
            let state = log.lock();
            state.recovery_point_on_disk > state.flushed || state.log_start_on_disk > state.log_start
        };
        if too_high { self.write_checkpoints_in(&turn) } else { Ok(()) }
    }

    /// Writes high watermarks, recovery points and log starts of all partitions.
    pub(crate) fn write_checkpoints(&self) -> io::Result<()> {
        self.write_checkpoints_in(&lock(&self.writing_checkpoints))
    }

    fn write_checkpoints_in(&self, _turn: &MutexGuard<'_, ()>) -> io::Result<()> {
        self.checkpoints_stale.store(false, Ordering::Release);
        // Looked at first: what is loaded from here on is among the others.
        let mut unloaded = lock(&self.unloaded).clone();
        let logs = self.all();
        for log in &logs {
            unloaded.remove(&log.id);
        }
        let loaded: Vec<Checkpointed> = logs.iter().map(|log| checkpointed(log)).collect();
        let all = logs.iter().map(|log| &log.id).zip(&loaded).chain(&unloaded);
        let write = |name: &str, of: fn(&Checkpointed) -> Option<Offset>| {
            let offsets: Vec<_> = all.clone().filter_map(|(id, at)| Some((id, of(at)?))).collect();
            checkpoint::write_offsets(&self.disk, &self.root.join(name), offsets.into_iter())
        };
        let outcome = (|| {
            write(checkpoint::RECOVERY_POINT, |at| Some(at.recovery_point))?;
            write(checkpoint::HIGH_WATERMARK, |at| Some(at.high_watermark))?;
            write(checkpoint::LOG_START, |at| Some(at.log_start).filter(|start| *start > Offset(0)))
        })();
        if outcome.is_err() {
            self.checkpoints_are_stale();
            return outcome;
        }
        for (log, at) in logs.iter().zip(&loaded) {
            let mut state = log.lock();
            state.recovery_point_on_disk = at.recovery_point;
            state.log_start_on_disk = at.log_start;
        }
        Ok(())
    }
}

/// What the checkpoints are to say of `log`: of its log start only what the first segment's name does not
/// (`LogManager.checkpointLogStartOffsetsInDir`).
fn checkpointed(log: &PartitionLog) -> Checkpointed {
    let state = log.lock();
    let at = state.watermarks();
    let base = state.segments.first().map_or(Offset(0), Segment::base);
    let log_start = if at.log_start > base { at.log_start } else { Offset(0) };
    Checkpointed { recovery_point: at.flushed, high_watermark: at.high_watermark, log_start }
}

impl Queue {
    /// Ends the flusher.
    pub(crate) fn close(&self) {
        lock(&self.work).closed = true;
        self.changed.notify_all();
    }

    /// Whether [`close`](Self::close) was called.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.work).closed
    }

    /// Flushes dirty partitions every `flush_interval`, those with a rolled segment at once, and writes stale checkpoints,
    /// until [`close`](Self::close). `directory` is only held while there is work.
    ///
    /// A panic ends nothing: every partition is looked at again, and those that panic show it as their status.
    pub(crate) fn run(&self, directory: &Weak<Directory>, flush_interval: Option<Duration>) {
        let mut is_first = true;
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take_turns(directory, flush_interval, is_first))) {
            tracing::error!(panic = words(&*panic), "the flusher panicked and goes on");
            is_first = false;
            std::thread::sleep(RESTART_AFTER);
            // Whatever it held is taken up again.
            let Some(directory) = directory.upgrade() else { return };
            directory.checkpoints_stale.store(false, Ordering::Release);
            directory.checkpoints_are_stale();
            for log in directory.all() {
                log.lock().expect_nothing();
                directory.enqueue(Arc::downgrade(&log), false);
            }
        }
    }

    /// `together`: whether the first turn may flush many partitions at once; after a panic each is to fail by itself.
    fn take_turns(&self, directory: &Weak<Directory>, flush_interval: Option<Duration>, mut together: bool) {
        let mut flushed_at = Instant::now();
        let mut written_at = Instant::now();
        let mut warned_at: Option<Instant> = None;
        loop {
            let mut work = lock(&self.work);
            let (dirty, checkpoints_stale) = loop {
                if work.closed {
                    return;
                }
                let now = Instant::now();
                let flush_due = flush_interval.filter(|_| !work.dirty.is_empty()).map(|every| flushed_at + every);
                let write_due = work.checkpoints_stale.then_some(written_at + CHECKPOINT_INTERVAL);
                let flush_now = work.at_once || flush_due.is_some_and(|due| due <= now);
                let write_now = write_due.is_some_and(|due| due <= now);
                if flush_now || write_now {
                    let dirty = if flush_now { std::mem::take(&mut work.dirty) } else { Vec::new() };
                    work.at_once &= !flush_now;
                    work.checkpoints_stale &= !write_now;
                    break (dirty, write_now);
                }
                work = match flush_due.into_iter().chain(write_due).min() {
                    Some(due) => {
                        let wait = due.saturating_duration_since(now);
                        self.changed.wait_timeout(work, wait).unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => self.changed.wait(work).unwrap_or_else(PoisonError::into_inner),
                };
            };
            drop(work);
            if !dirty.is_empty() {
                flushed_at = Instant::now();
            }
            let dirty: Vec<_> = dirty.iter().filter_map(Weak::upgrade).collect();
            let left = if together { flush_together(dirty) } else { dirty };
            together = true;
            let mut failures = left.into_iter().filter_map(|log| Some((flush_caught(&log)?, log)));
            if let Some((error, log)) = failures.next() {
                let others = failures.count();
                if warned_at.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
                    warned_at = Some(Instant::now());
                    tracing::warn!(id = %log.id, %error, others, "background flush failed and is tried again");
                }
            }
            if checkpoints_stale && let Some(directory) = directory.upgrade() {
                written_at = Instant::now();
                if let Err(error) = directory.write_checkpoints() {
                    tracing::error!(root = %directory.root.display(), %error, "write checkpoints");
                }
            }
        }
    }
}

/// As [`flush_or_requeue`]; a panic concerns this log only, is its status, and is a failure like others.
fn flush_caught(log: &PartitionLog) -> Option<Error> {
    catch_unwind(AssertUnwindSafe(|| flush_or_requeue(log))).unwrap_or_else(|panic| {
        let reason = format!("{FLUSH_PANICKED}{}", words(&*panic));
        tracing::error!(id = %log.id, reason, "a flush panicked and is tried again");
        let mut state = log.lock();
        state.expect_nothing();
        if state.status == Status::Online {
            state.status = Status::Failing(reason.clone());
        }
        drop(state);
        log.queued.store(true, Ordering::Release);
        log.directory.enqueue(log.this.clone(), false);
        Some(Error::Offline(reason))
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

/// Flushes a dirty log in the background. What must be done again, at the next turn or by who appends next: a flush that
/// failed before its fsync, which leaves the log online, and the way back of a log that is offline.
fn flush_or_requeue(log: &PartitionLog) -> Option<Error> {
    let error = log.flush().err()?;
    let error = match log.status() {
        Status::Closing | Status::Closed => return None,
        Status::Offline(_) => log.resume().err()?,
        Status::Online | Status::Failing(_) => error,
    };
    log.mark_dirty(false);
    Some(error)
}
