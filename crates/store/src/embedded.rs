//! The embedded store: mirrors in Hawser's own log directory, in Kafka's format.
//!
//! The calls block on files, and short ones run where they are called: the append of a few records is a write into the page
//! cache of some ten microseconds, less than handing it to another thread and back. Flush, truncation, restart, an append that
//! begins a segment (they wait for the disk) and a long append (milliseconds of copying) hand over to tokio's blocking threads:
//! a thread of the runtime that blocks may be the one that watches the sockets, and nothing would be received meanwhile.
//!
//! When the disk loses what was not flushed (see `hawser_log::Status::Offline`), the log end goes back. Appends are then refused
//! until the caller has asked for the [`position`](MirrorPartition::position) anew: one at the old end would pass for a gap of
//! compaction. So is a log start above the new end, which the caller could not know. The partition comes back by itself,
//! through the flusher or the next call.

use crate::conformance::Inspect;
use crate::{MirrorPartition, Position, Store, StoreError, TopicSpec};
use bytes::Bytes;
use hawser_log::{Error, Logs, PartitionLog, Status, Watermarks};
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Appends of so many bytes leave their thread: they take a tenth of a millisecond, several times the hand-over.
const LONG_APPEND_BYTES: usize = 256 * 1024;

/// A store over a log directory. Clones share it.
#[derive(Clone)]
pub struct EmbeddedStore {
    logs: Arc<Logs>,
    /// The generation of each partition's latest writer, as long as any writer of it is left.
    writers: Arc<Mutex<HashMap<TopicPartition, Weak<AtomicU64>>>>,
}

/// The write side of one partition of an [`EmbeddedStore`].
pub struct EmbeddedPartition {
    log: Arc<PartitionLog>,
    turn: Turn,
    /// What [`PartitionLog::losses`] was when the caller asked for the position last.
    losses_seen: AtomicU64,
}

/// One writer's time with a partition, until the partition is opened again.
#[derive(Clone)]
struct Turn {
    generation: u64,
    latest: Arc<AtomicU64>,
}

impl EmbeddedStore {
    /// A store over `logs`.
    pub fn new(logs: Arc<Logs>) -> Self {
        Self { logs, writers: Arc::default() }
    }

    /// The log directory.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// Where the generation of the latest writer of `id` stands; without writers it begins anew.
    fn latest(&self, id: TopicPartition) -> Arc<AtomicU64> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if writers.len() == writers.capacity() {
            writers.retain(|_, latest| latest.strong_count() > 0); // rather than grow
        }
        let entry = writers.entry(id).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let latest = Arc::default();
            *entry = Arc::downgrade(&latest);
            latest
        })
    }
}

impl Store for EmbeddedStore {
    type Partition = EmbeddedPartition;

    async fn open(&self, topic: &TopicSpec, partition: i32) -> Result<EmbeddedPartition, StoreError> {
        let id = TopicPartition::new(topic.name.clone(), partition);
        let (logs, topic_id, asked) = (self.logs.clone(), topic.id, id.clone());
        let log = blocking(move || {
            let log = logs.open_partition(&asked, topic_id)?;
            if log.leads().is_some() {
                return Err(Error::Led(asked).into());
            }
            log.resume()?;
            Ok(log)
        })
        .await?;
        let latest = self.latest(id);
        let generation = latest.fetch_add(1, Ordering::AcqRel) + 1;
        let losses_seen = AtomicU64::new(log.losses());
        Ok(EmbeddedPartition { log, turn: Turn { generation, latest }, losses_seen })
    }

    fn losses(&self) -> u64 {
        self.logs.losses()
    }
}

impl EmbeddedPartition {
    /// The log underneath, for readers.
    pub fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }

    fn refuse_if_fenced(&self) -> Result<(), StoreError> {
        self.turn.refuse_if_over(&self.log)
    }

    /// Hands the outcome on. If the partition is offline, tries to bring it back, for the caller's next attempt.
    async fn outcome(&self, outcome: Result<Watermarks, StoreError>) -> Result<Position, StoreError> {
        if outcome.is_err() && matches!(self.log.status(), Status::Offline(_)) {
            let log = self.log.clone();
            if let Err(error) = blocking(move || Ok(log.resume()?)).await {
                tracing::debug!(id = %self.log.id(), %error, "still offline");
            }
        }
        outcome.map(position)
    }

    /// Runs a call that may wait for the disk on a blocking thread. Dropping the future lets the call run to its end.
    async fn on_disk(
        &self,
        call: impl FnOnce(&PartitionLog) -> Result<Watermarks, Error> + Send + 'static,
    ) -> Result<Position, StoreError> {
        self.refuse_if_fenced()?;
        let (log, turn) = (self.log.clone(), self.turn.clone());
        let outcome = blocking(move || {
            turn.refuse_if_over(&log)?; // it may have waited for a thread
            Ok(call(&log)?)
        })
        .await;
        self.outcome(outcome).await
    }
}

impl Turn {
    fn refuse_if_over(&self, log: &PartitionLog) -> Result<(), StoreError> {
        if self.latest.load(Ordering::Acquire) == self.generation {
            return Ok(());
        }
        Err(StoreError::Fenced(format!("{} was opened again", log.id())))
    }
}

impl MirrorPartition for EmbeddedPartition {
    fn id(&self) -> &TopicPartition {
        self.log.id()
    }

    fn position(&self) -> Position {
        self.losses_seen.store(self.log.losses(), Ordering::Release);
        position(self.log.watermarks())
    }

    fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.log.end_of_epoch(epoch)
    }

    async fn append(&mut self, batches: &[Batch]) -> Result<Position, StoreError> {
        self.refuse_if_fenced()?;
        let losses_seen = self.losses_seen.load(Ordering::Acquire);
        let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        if bytes >= LONG_APPEND_BYTES || self.log.rolls_at(batches) {
            // Refcounts of the batches' bytes.
            let batches = batches.to_vec();
            return self.on_disk(move |log| log.append_unless_lost(&batches, losses_seen)).await;
        }
        self.outcome(self.log.append_unless_lost(batches, losses_seen).map_err(StoreError::from)).await
    }

    fn observe_high_watermark(&mut self, high_watermark: Offset) {
        if self.refuse_if_fenced().is_ok() {
            self.log.observe_high_watermark(high_watermark);
        }
    }

    async fn truncate_to(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.on_disk(move |log| log.truncate_to(offset)).await
    }

    async fn advance_log_start(&mut self, offset: Offset) -> Result<Position, StoreError> {
        let losses_seen = self.losses_seen.load(Ordering::Acquire);
        self.on_disk(move |log| match log.advance_log_start(offset) {
            // It was not above the end that the caller knows.
            Err(Error::OutOfRange { .. }) if log.losses() != losses_seen => Err(Error::Lost(log.id().clone())),
            outcome => outcome,
        })
        .await
    }

    async fn restart_at(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.on_disk(move |log| log.restart_at(offset)).await
    }

    async fn flush(&mut self) -> Result<Position, StoreError> {
        self.on_disk(PartitionLog::flush).await
    }
}

impl Inspect for EmbeddedStore {
    fn bytes(&self, id: &TopicPartition) -> Bytes {
        let Some(log) = self.logs.partition(id) else { return Bytes::new() };
        let at = log.watermarks();
        let mut bytes = Vec::new();
        let mut from = at.log_start;
        while let Ok(chunk) = log.read(from, at.high_watermark, 1024 * 1024, true)
            && !chunk.is_empty()
        {
            bytes.extend_from_slice(&chunk);
            let mut rest = chunk;
            while let Ok(batch) = Batch::split_off(&mut rest) {
                from = batch.header.next_offset();
            }
        }
        bytes.into()
    }

    fn high_watermark(&self, id: &TopicPartition) -> Offset {
        self.logs.partition(id).map_or(Offset(0), |log| log.watermarks().high_watermark)
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { what, source } => Self::Io { what, source },
            Error::OutOfOrder { base, log_end, reason } => Self::OutOfOrder { base, log_end, reason },
            Error::Offline(reason) => {
                Self::Io { what: "partition is offline".into(), source: io::Error::other(reason) }
            }
            Error::Lost(_) => {
                Self::Io { what: "the copy is shorter than it was".into(), source: io::Error::other(error) }
            }
            Error::Closing => Self::Io { what: "partition takes no appends".into(), source: io::Error::other(error) },
            other => Self::Refused(other.to_string()),
        }
    }
}

fn position(at: Watermarks) -> Position {
    Position { log_start: at.log_start, log_end: at.log_end, flushed: at.flushed, last_epoch: at.last_epoch }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(outcome) => outcome,
        Err(stopped) => {
            let source = io::Error::other(stopped);
            Err(StoreError::Io { what: "file call was not finished".into(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{batch, conformance, topic};
    use hawser_log::LogConfig;
    use hawser_log::disk::{Act, Disk, Faults, Verdict};
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::thread::ThreadId;

    #[tokio::test]
    async fn conforms() {
        for segment_bytes in [1, 100, 1 << 30] {
            let config = LogConfig { segment_bytes, index_interval_bytes: 100, ..LogConfig::default() };
            let root = tempfile::tempdir().expect("temporary folder");
            let made = std::cell::Cell::new(0);
            let make = || {
                made.set(made.get() + 1);
                let dir = root.path().join(made.get().to_string());
                EmbeddedStore::new(Arc::new(Logs::open(&dir, config.clone()).expect("opens")))
            };
            conformance(make).await;
        }
    }

    #[test]
    fn writers_that_are_gone_are_forgotten() {
        let root = tempfile::tempdir().expect("temporary folder");
        let store = EmbeddedStore::new(Arc::new(Logs::open(root.path(), LogConfig::default()).expect("opens")));
        let id = |index| TopicPartition::new("t", index);
        let kept = store.latest(id(0));
        for index in 1..1000 {
            store.latest(id(index)).store(7, Ordering::Relaxed);
        }
        kept.store(9, Ordering::Relaxed);
        assert_eq!(store.latest(id(0)).load(Ordering::Relaxed), 9);
        assert!(store.writers.lock().expect("not poisoned").len() < 100);
    }

    #[derive(Default)]
    struct FailingSync(AtomicBool);

    impl Faults for FailingSync {
        fn before(&self, act: Act, _: &Path) -> Verdict {
            match act {
                Act::Sync if self.0.load(Ordering::Relaxed) => Verdict::Fail(io::Error::from_raw_os_error(5)),
                _ => Verdict::Proceed,
            }
        }
    }

    /// A store that flushes only when it is told to.
    fn store_on(faults: Arc<dyn Faults>, root: &Path) -> EmbeddedStore {
        let config = LogConfig { flush_interval: None, ..LogConfig::default() };
        EmbeddedStore::new(Arc::new(Logs::open_on(Disk::with_faults(faults), root, config).expect("opens")))
    }

    #[tokio::test]
    async fn after_a_lost_flush_the_position_is_asked_for_anew() {
        let root = tempfile::tempdir().expect("temporary folder");
        let faults = Arc::new(FailingSync::default());
        let store = store_on(faults.clone(), root.path());
        let mut writer = store.open(&topic("t"), 0).await.expect("opens");
        writer.append(&[batch(0, 10, 1)]).await.expect("appends");
        writer.flush().await.expect("flushes");
        writer.append(&[batch(10, 10, 1)]).await.expect("appends");
        faults.0.store(true, Ordering::Relaxed);
        let failed = writer.flush().await.expect_err("fsync fails");
        assert!(failed.is_retriable(), "{failed}");
        faults.0.store(false, Ordering::Relaxed);

        let blind = writer.append(&[batch(20, 10, 1)]).await.expect_err("would leave a hole");
        assert!(blind.is_retriable(), "{blind}");
        let still = writer.append(&[batch(20, 10, 1)]).await.expect_err("it has not looked");
        assert!(still.to_string().contains("ask for its position"), "{still}");
        assert_eq!((writer.position().log_end, store.losses()), (Offset(10), 1));
        writer.append(&[batch(10, 10, 1), batch(20, 10, 1)]).await.expect("appends");
        assert_eq!(writer.flush().await.expect("flushes").flushed, Offset(30));
    }

    #[tokio::test]
    async fn a_log_start_above_what_was_lost_is_no_refusal() {
        let root = tempfile::tempdir().expect("temporary folder");
        let faults = Arc::new(FailingSync::default());
        let store = store_on(faults.clone(), root.path());
        let mut writer = store.open(&topic("t"), 0).await.expect("opens");
        writer.append(&[batch(0, 10, 1)]).await.expect("appends");
        writer.flush().await.expect("flushes");
        writer.append(&[batch(10, 10, 1)]).await.expect("appends");
        faults.0.store(true, Ordering::Relaxed);
        writer.log().flush().expect_err("fsync fails in the background");
        faults.0.store(false, Ordering::Relaxed);
        writer.log().resume().expect("the flusher brings it back");

        let blind = writer.advance_log_start(Offset(15)).await.expect_err("the log ends at 10 again");
        assert!(blind.is_retriable(), "{blind}");
        assert_eq!(writer.position().log_end, Offset(10));
        let mistaken = writer.advance_log_start(Offset(15)).await.expect_err("the caller knows where it ends");
        assert!(!mistaken.is_retriable(), "{mistaken}");
        writer.append(&[batch(10, 10, 1)]).await.expect("appends");
        assert_eq!(writer.advance_log_start(Offset(15)).await.expect("raises").log_start, Offset(15));
    }

    /// Notes what was done to files on which thread.
    #[derive(Default)]
    struct Threads(Mutex<Vec<(Act, ThreadId)>>);

    impl Faults for Threads {
        fn before(&self, act: Act, _: &Path) -> Verdict {
            self.0.lock().expect("not poisoned").push((act, std::thread::current().id()));
            Verdict::Proceed
        }
    }

    impl Threads {
        fn of(&self, asked: impl Fn(Act) -> bool) -> Vec<ThreadId> {
            let acts = self.0.lock().expect("not poisoned");
            acts.iter().filter(|(act, _)| asked(*act)).map(|(_, thread)| *thread).collect()
        }
    }

    #[tokio::test]
    async fn long_appends_and_those_that_roll_leave_their_thread() {
        let root = tempfile::tempdir().expect("temporary folder");
        let threads = Arc::new(Threads::default());
        let store = store_on(threads.clone(), root.path());
        let mut writer = store.open(&topic("t"), 0).await.expect("opens");
        let here = std::thread::current().id();
        threads.0.lock().expect("not poisoned").clear();
        writer.append(&[batch(0, 10, 1), batch(10, 10, 1)]).await.expect("appends");
        assert_eq!(threads.of(|_| true), [here; 2], "two writes, at once");

        threads.0.lock().expect("not poisoned").clear();
        let long: Vec<_> = (0..50).map(|n| batch(20 + n * 1000, 1000, 1)).collect();
        assert!(long.iter().map(|batch| batch.bytes.len()).sum::<usize>() > LONG_APPEND_BYTES);
        writer.append(&long).await.expect("appends");
        assert!(!threads.of(|_| true).is_empty() && !threads.of(|_| true).contains(&here));

        threads.0.lock().expect("not poisoned").clear();
        let far = 1 << 32; // for a 32-bit relative offset: the segment before is synced first
        assert_eq!(writer.append(&[batch(far, 10, 1)]).await.expect("appends").log_end, Offset(far + 10));
        assert!(!threads.of(|act| act == Act::Sync).is_empty());
        assert!(!threads.of(|_| true).contains(&here));
    }
}
