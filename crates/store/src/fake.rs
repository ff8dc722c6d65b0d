//! A store in memory, for simulations and tests: it keeps every rule of the trait, forgets at a crash what was not
//! flushed, and fails when told to.
//!
//! A [`FakeStore`] is a handle: clones share the same partitions, so that a test looks at what a replicator writes.

use crate::conformance::Inspect;
use crate::{MirrorPartition, Position, Store, StoreError, TopicSpec};
use bytes::Bytes;
use hawser_log::LeaderEpochs;
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition, Uuid};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store whose disk is memory.
#[derive(Clone, Default)]
pub struct FakeStore {
    shared: Arc<Mutex<Shared>>,
}

/// The write side of one partition of a [`FakeStore`].
pub struct FakePartition {
    id: TopicPartition,
    generation: u64,
    /// What its log's losses were when the caller asked for the position last.
    losses_seen: AtomicU64,
    shared: Arc<Mutex<Shared>>,
}

/// What an append begins with.
type Prelude = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[derive(Default)]
struct Shared {
    logs: BTreeMap<TopicPartition, FakeLog>,
    before_append: Option<Prelude>,
    append_fault: Option<io::ErrorKind>,
    flush_fault: Option<io::ErrorKind>,
    losses: u64,
}

#[derive(Default)]
struct FakeLog {
    topic_id: Uuid,
    generation: u64,
    batches: Vec<Batch>,
    epochs: LeaderEpochs,
    log_start: Offset,
    log_end: Offset,
    flushed: Offset,
    observed_high_watermark: Offset,
    losses: u64,
}

impl FakeStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on appends fail with `fault`; `None` mends the disk.
    pub fn fail_appends(&self, fault: Option<io::ErrorKind>) {
        self.lock().append_fault = fault;
    }

    /// From now on every append begins with `act`, as on a slow disk.
    pub fn before_appends<F: Future<Output = ()> + Send + 'static>(&self, act: impl Fn() -> F + Send + Sync + 'static) {
        self.lock().before_append = Some(Arc::new(move || Box::pin(act())));
    }

    /// From now on flushes fail with `fault`, and lose what they should have kept, as a failed fsync does; `None` mends the
    /// disk.
    pub fn fail_flushes(&self, fault: Option<io::ErrorKind>) {
        self.lock().flush_fault = fault;
    }

    /// Power cut: every partition is cut at its flushed offset and every writer is fenced.
    pub fn crash(&self) {
        self.crash_keeping(|_, position| position.flushed);
    }

    /// Power cut after which each partition still holds the batches that end at or below the offset that `keep`
    /// chooses between `flushed` and `log_end`.
    pub fn crash_keeping(&self, mut keep: impl FnMut(&TopicPartition, Position) -> Offset) {
        for (id, log) in &mut self.lock().logs {
            let position = log.position();
            log.keep(keep(id, position).clamp(position.flushed, position.log_end));
            log.observed_high_watermark = log.log_end; // as a log directory that is read anew
            log.generation += 1;
        }
    }

    /// A failed fsync in the background: the partitions that `is_met` picks are cut at their flushed offsets, and their
    /// writers stay.
    pub fn lose_unflushed(&self, mut is_met: impl FnMut(&TopicPartition) -> bool) {
        let mut shared = self.lock();
        let Shared { logs, losses, .. } = &mut *shared;
        for (_, log) in logs.iter_mut().filter(|(id, _)| is_met(id)) {
            log.lose_unflushed();
            *losses += 1;
        }
    }

    /// Every partition that was ever opened.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.lock().logs.keys().cloned().collect()
    }

    /// Where `id` stands, `None` if it was never opened.
    pub fn position(&self, id: &TopicPartition) -> Option<Position> {
        self.lock().logs.get(id).map(FakeLog::position)
    }

    /// The batches of `id`, oldest first.
    pub fn batches(&self, id: &TopicPartition) -> Vec<Batch> {
        self.lock().logs.get(id).map(|log| log.batches.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for FakeStore {
    type Partition = FakePartition;

    async fn open(&self, topic: &TopicSpec, partition: i32) -> Result<FakePartition, StoreError> {
        let id = TopicPartition::new(topic.name.clone(), partition);
        let mut shared = self.lock();
        let log = shared.logs.entry(id.clone()).or_insert_with(|| FakeLog { topic_id: topic.id, ..FakeLog::default() });
        if log.topic_id != topic.id {
            return Err(StoreError::Refused(format!("{id} has topic id {}, not {}", log.topic_id, topic.id)));
        }
        log.generation += 1;
        let (generation, losses_seen) = (log.generation, AtomicU64::new(log.losses));
        Ok(FakePartition { id, generation, losses_seen, shared: self.shared.clone() })
    }

    fn losses(&self) -> u64 {
        self.lock().losses
    }
}

impl Inspect for FakeStore {
    fn bytes(&self, id: &TopicPartition) -> Bytes {
        self.batches(id).iter().flat_map(|batch| batch.bytes.iter().copied()).collect()
    }

    fn high_watermark(&self, id: &TopicPartition) -> Offset {
        self.lock().logs.get(id).map_or(Offset(0), FakeLog::high_watermark)
    }
}

impl FakePartition {
    /// Runs `act` on the log unless another writer has it or the disk has `fault`.
    fn act(
        &self,
        fault: impl FnOnce(&Shared) -> Option<io::ErrorKind>,
        act: impl FnOnce(&mut FakeLog) -> Result<(), StoreError>,
    ) -> Result<Position, StoreError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = fault(&shared);
        let log = shared.logs.entry(self.id.clone()).or_default();
        if log.generation != self.generation {
            return Err(StoreError::Fenced(format!("{} was opened again", self.id)));
        }
        if let Some(kind) = fault {
            return Err(StoreError::Io { what: format!("write {}", self.id), source: kind.into() });
        }
        act(log)?;
        log.check();
        Ok(log.position())
    }

    fn look<T>(&self, look: impl FnOnce(&FakeLog) -> T) -> T {
        look(self.shared.lock().unwrap_or_else(PoisonError::into_inner).logs.entry(self.id.clone()).or_default())
    }
}

impl MirrorPartition for FakePartition {
    fn id(&self) -> &TopicPartition {
        &self.id
    }

    fn position(&self) -> Position {
        self.look(|log| {
            self.losses_seen.store(log.losses, Ordering::Relaxed);
            log.position()
        })
    }

    fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.look(|log| log.epochs.end_of(epoch, log.log_end))
    }

    async fn append(&mut self, batches: &[Batch]) -> Result<Position, StoreError> {
        let before = self.shared.lock().unwrap_or_else(PoisonError::into_inner).before_append.clone();
        if let Some(before) = before {
            before().await;
        }
        let losses_seen = self.losses_seen.load(Ordering::Relaxed);
        self.act(
            |shared| shared.append_fault,
            |log| {
                log.refuse_if_lost(losses_seen)?;
                log.append(batches)
            },
        )
    }

    fn observe_high_watermark(&mut self, high_watermark: Offset) {
        // A fenced writer has no say; there is nobody to tell.
        let _ = self.act(
            |_| None,
            |log| {
                log.observed_high_watermark = log.observed_high_watermark.max(high_watermark);
                Ok(())
            },
        );
    }

    async fn truncate_to(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.act(
            |shared| shared.append_fault,
            |log| {
                log.truncate_to(offset);
                Ok(())
            },
        )
    }

    async fn advance_log_start(&mut self, offset: Offset) -> Result<Position, StoreError> {
        let losses_seen = self.losses_seen.load(Ordering::Relaxed);
        self.act(
            |shared| shared.append_fault,
            |log| {
                if offset > log.log_end {
                    log.refuse_if_lost(losses_seen)?; // the caller could not know
                }
                log.advance_log_start(offset)
            },
        )
    }

    async fn restart_at(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.act(
            |shared| shared.append_fault,
            |log| {
                log.restart_at(offset);
                Ok(())
            },
        )
    }

    async fn flush(&mut self) -> Result<Position, StoreError> {
        let flushed = self.act(
            |shared| shared.flush_fault,
            |log| {
                log.flushed = log.log_end;
                Ok(())
            },
        );
        if matches!(flushed, Err(StoreError::Io { .. })) {
            FakeStore { shared: self.shared.clone() }.lose_unflushed(|id| *id == self.id);
        }
        flushed
    }
}

impl FakeLog {
    fn position(&self) -> Position {
        Position {
            log_start: self.log_start,
            log_end: self.log_end,
            flushed: self.flushed,
            last_epoch: self.epochs.latest(),
        }
    }

    fn high_watermark(&self) -> Offset {
        self.observed_high_watermark.clamp(self.log_start, self.log_end)
    }

    /// Keeps the batches that end at or below `offset`, and calls them durable.
    fn keep(&mut self, offset: Offset) {
        let kept = self.batches.partition_point(|batch| batch.header.next_offset() <= offset);
        self.batches.truncate(kept);
        self.log_end = self.batches.last().map_or(self.log_start, |last| last.header.next_offset().max(self.log_start));
        self.epochs.truncate_from_end(self.log_end);
        self.flushed = self.log_end;
    }

    fn lose_unflushed(&mut self) {
        self.keep(self.flushed);
        self.observed_high_watermark = self.observed_high_watermark.min(self.log_end);
        self.losses += 1;
    }

    fn refuse_if_lost(&self, losses_seen: u64) -> Result<(), StoreError> {
        if self.losses == losses_seen {
            return Ok(());
        }
        let source = io::Error::other("ask for its position");
        Err(StoreError::Io { what: "the copy is shorter than it was".into(), source })
    }

    fn append(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let (mut end, mut epoch) = (self.log_end, self.epochs.latest());
        if let Some(first) = batches.first().map(|batch| &batch.header)
            && self.batches.is_empty()
            && first.base_offset < end
            && first.next_offset() > end
        {
            end = first.base_offset; // the source's log start lies inside this batch
        }
        for Batch { header, .. } in batches {
            let refused = |reason: String| StoreError::OutOfOrder { base: header.base_offset, log_end: end, reason };
            if header.base_offset < end {
                return Err(refused("offsets overlap".into()));
            }
            if header.leader_epoch < epoch {
                return Err(refused(format!("leader epoch falls from {epoch} to {}", header.leader_epoch)));
            }
            (end, epoch) = (header.next_offset(), header.leader_epoch);
        }
        for batch in batches {
            self.epochs.assign(batch.header.leader_epoch, batch.header.base_offset);
            self.batches.push(batch.clone());
        }
        self.epochs.truncate_from_start(self.log_start);
        self.log_end = end;
        Ok(())
    }

    fn truncate_to(&mut self, offset: Offset) {
        if offset >= self.log_end {
            return;
        }
        if offset < self.log_start {
            return self.restart_at(offset);
        }
        let kept = self.batches.partition_point(|batch| batch.header.next_offset() <= offset);
        self.batches.truncate(kept);
        // A batch that held `offset` was dropped whole: the log ends where that batch began, and it is fetched whole.
        let end = self.batches.last().map_or(self.log_start, |last| last.header.next_offset());
        self.log_end = end.max(self.log_start).min(offset);
        self.epochs.truncate_from_end(self.log_end);
        self.flushed = self.flushed.min(self.log_end);
        self.observed_high_watermark = self.observed_high_watermark.min(self.log_end);
    }

    fn advance_log_start(&mut self, offset: Offset) -> Result<(), StoreError> {
        if offset > self.log_end {
            return Err(StoreError::Refused(format!("log start {offset} is above the log end {}", self.log_end)));
        }
        if offset > self.log_start {
            self.log_start = offset;
            self.flushed = self.flushed.max(offset);
            self.observed_high_watermark = self.observed_high_watermark.max(offset);
            let gone = self.batches.partition_point(|batch| batch.header.next_offset() <= offset);
            self.batches.drain(..gone);
            self.epochs.truncate_from_start(offset);
        }
        Ok(())
    }

    fn restart_at(&mut self, offset: Offset) {
        self.batches.clear();
        self.epochs.clear();
        self.log_start = offset;
        self.log_end = offset;
        self.flushed = offset;
        self.observed_high_watermark = offset;
    }

    /// The invariants of a mirror partition.
    fn check(&self) {
        assert!(self.log_start <= self.flushed && self.flushed <= self.log_end, "log start ≤ flushed ≤ log end");
        let in_order = |pair: &[Batch]| match pair {
            [a, b] => a.header.next_offset() <= b.header.base_offset && a.header.leader_epoch <= b.header.leader_epoch,
            _ => true,
        };
        assert!(self.batches.windows(2).all(in_order), "batches in order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{batch, conformance, topic};

    #[tokio::test]
    async fn conforms() {
        conformance(FakeStore::new).await;
    }

    #[tokio::test]
    async fn a_crash_forgets_what_was_not_flushed() {
        let store = FakeStore::new();
        let mut writer = store.open(&topic("t"), 0).await.expect("opens");
        writer.append(&[batch(0, 2, 1), batch(2, 2, 1)]).await.expect("appends");
        writer.flush().await.expect("flushes");
        writer.append(&[batch(4, 2, 2), batch(6, 2, 3)]).await.expect("appends");
        let id = writer.id().clone();
        store.crash_keeping(|_, position| Offset(position.flushed.0 + 3));
        let position = store.position(&id).expect("is there");
        assert_eq!(
            (position.log_end, position.last_epoch),
            (Offset(6), LeaderEpoch(2)),
            "a whole batch above the flush"
        );
        assert!(matches!(writer.append(&[batch(6, 1, 3)]).await, Err(StoreError::Fenced(_))));

        let mut writer = store.open(&topic("t"), 0).await.expect("opens");
        writer.append(&[batch(6, 2, 3)]).await.expect("appends");
        store.crash();
        assert_eq!(store.position(&id).map(|at| at.log_end), Some(Offset(6)));
    }

    #[tokio::test]
    async fn faults_refuse_without_loss() {
        let store = FakeStore::new();
        let mut writer = store.open(&topic("t"), 0).await.expect("opens");
        store.fail_appends(Some(io::ErrorKind::StorageFull));
        let refused = writer.append(&[batch(0, 1, 1)]).await.expect_err("the disk is full");
        assert!(refused.is_retriable(), "{refused}");
        assert_eq!(writer.position().log_end, Offset(0));
        store.fail_appends(None);
        writer.append(&[batch(0, 1, 1)]).await.expect("appends");
    }

    #[tokio::test]
    async fn a_failed_flush_takes_the_end_back_and_its_writer_has_to_look() {
        let store = FakeStore::new();
        let mut writer = store.open(&topic("t"), 0).await.expect("opens");
        let mut other = store.open(&topic("u"), 0).await.expect("opens");
        writer.append(&[batch(0, 5, 1)]).await.expect("appends");
        other.append(&[batch(0, 5, 1)]).await.expect("appends");
        store.fail_flushes(Some(io::ErrorKind::Other));
        writer.flush().await.expect_err("fsync fails");
        store.fail_flushes(None);
        assert_eq!(store.losses(), 1);
        for _ in 0..2 {
            let blind = writer.append(&[batch(5, 1, 1)]).await.expect_err("would leave a hole");
            assert!(blind.is_retriable(), "{blind}");
            let blind = writer.advance_log_start(Offset(5)).await.expect_err("the log ends at 0 again");
            assert!(blind.is_retriable(), "{blind}");
        }
        other.append(&[batch(5, 1, 1)]).await.expect("nothing of it was lost");
        assert_eq!(writer.position().log_end, Offset(0));
        writer.append(&[batch(0, 6, 1)]).await.expect("appends");
    }
}
