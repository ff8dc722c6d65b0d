//! Writes groups and offsets: one task, one transaction for all that came in while the last one was written, so that an
//! fsync is shared by every commit that waits for it.

use super::cell::Cell;
use super::{Coordinator, consumer};
use hawser_state::{GroupChange, State};
use hawser_wire::ResponseError;
use std::sync::{Arc, Weak};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

/// Writes that wait; a commit is a few hundred bytes, and each connection has at most one under way.
const QUEUE_DEPTH: usize = 1024;
/// Changes in one transaction, at most; above this the next one begins, so that nobody waits without end.
const BATCH_CHANGES_MAX: usize = 20_000;

/// A way to the writing task, which ends when the last of these is dropped.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Write>,
}

/// Says what is to be changed, or why nothing is.
type Decide = Box<dyn FnOnce(&Coordinator) -> Result<Vec<GroupChange>, ResponseError> + Send>;
type Done = oneshot::Sender<Result<(), ResponseError>>;

enum Write {
    /// These changes, all or nothing; tells whether they are durable.
    Changes(Vec<GroupChange>, Done),
    /// What is decided when its turn comes.
    Decided(Decide, Done),
    /// The group as it stands when its turn comes: so an older state never overwrites a newer one.
    Group(Arc<Cell>),
    /// The same of the consumer protocol; tells whether that is durable.
    ConsumerGroup(Arc<consumer::Cell>, Option<Done>),
}

impl Writer {
    pub(super) fn start(state: State, owner: Weak<Coordinator>) -> Self {
        let (queue, writes) = mpsc::channel(QUEUE_DEPTH);
        tokio::spawn(run(state, owner, writes));
        Self { queue }
    }

    /// Makes `changes` durable. Cancel-safe: once this was polled, they are written all the same.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` when they could not be written.
    pub(super) async fn write(&self, changes: Vec<GroupChange>) -> Result<(), ResponseError> {
        self.ask(|done| Write::Changes(changes, done)).await
    }

    /// Makes durable what `decide` says when its turn comes: all that was asked for before is written before, and what is
    /// asked for from then on is written after it. So a deletion sees who is in the group, and takes no commit that it has
    /// not seen. Cancel-safe, as [`write`](Self::write) is.
    ///
    /// # Errors
    /// What `decide` says; `CoordinatorNotAvailable` when it could not be written.
    pub(super) async fn write_decided(
        &self,
        decide: impl FnOnce(&Coordinator) -> Result<Vec<GroupChange>, ResponseError> + Send + 'static,
    ) -> Result<(), ResponseError> {
        self.ask(|done| Write::Decided(Box::new(decide), done)).await
    }

    /// Makes the group as it stands now durable. Cancel-safe, as [`write`](Self::write) is.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` when it could not be written.
    pub(super) async fn write_consumer_group(&self, cell: Arc<consumer::Cell>) -> Result<(), ResponseError> {
        self.ask(|done| Write::ConsumerGroup(cell, Some(done))).await
    }

    async fn ask(&self, write: impl FnOnce(Done) -> Write) -> Result<(), ResponseError> {
        let (done, outcome) = oneshot::channel();
        let gone = ResponseError::CoordinatorNotAvailable;
        self.queue.send(write(done)).await.map_err(|_| gone)?;
        outcome.await.unwrap_or(Err(gone))
    }

    /// Has the group stored, for nobody who waits for it.
    pub(super) fn store_consumer_group(&self, cell: Arc<consumer::Cell>) {
        self.enqueue(Write::ConsumerGroup(cell, None));
    }

    /// Has the group stored; the group hears of it by `Event::Stored`.
    pub(super) fn store(&self, cell: Arc<Cell>) {
        self.enqueue(Write::Group(cell));
    }

    fn enqueue(&self, write: Write) {
        match self.queue.try_send(write) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(write)) => {
                // Bounded by the number of groups.
                let queue = self.queue.clone();
                tokio::spawn(async move { drop(queue.send(write).await) });
            }
        }
    }
}

async fn run(state: State, owner: Weak<Coordinator>, mut writes: mpsc::Receiver<Write>) {
    while let Some(first) = writes.recv().await {
        let mut batch = Batch::default();
        batch.add(first, &owner);
        while batch.changes.len() < BATCH_CHANGES_MAX
            && let Ok(write) = writes.try_recv()
        {
            batch.add(write, &owner);
        }
        let Batch { changes, waiting, groups, consumers } = batch;
        let size = changes.len();
        let state = state.clone();
        let outcome = tokio::task::spawn_blocking(move || state.apply(&changes)).await;
        let outcome = match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                error!(%error, changes = size, "groups and offsets not written");
                Err(ResponseError::CoordinatorNotAvailable)
            }
            Err(_) => Err(ResponseError::CoordinatorNotAvailable),
        };
        metrics::histogram!("hawser_offset_commit_batch_changes").record(size as f64);
        // Before anybody is answered: whoever reads the answer finds the group as it is then.
        let owner = owner.upgrade();
        if let Some(owner) = owner.as_ref().filter(|_| outcome.is_ok()) {
            consumers.iter().for_each(|(cell, change)| owner.consumer_stored(cell, *change));
        }
        for done in waiting {
            // Whoever asked may have hung up.
            let _ = done.send(outcome);
        }
        let Some(owner) = owner else { return };
        for (cell, generation) in groups {
            owner.stored(&cell, generation, outcome.is_ok());
        }
    }
}

#[derive(Default)]
struct Batch {
    changes: Vec<GroupChange>,
    waiting: Vec<Done>,
    groups: Vec<(Arc<Cell>, i32)>,
    consumers: Vec<(Arc<consumer::Cell>, u64)>,
}

impl Batch {
    fn add(&mut self, write: Write, owner: &Weak<Coordinator>) {
        match write {
            Write::Changes(changes, done) => {
                self.changes.extend(changes);
                self.waiting.push(done);
            }
            Write::Decided(decide, done) => {
                let Some(owner) = owner.upgrade() else { return };
                match decide(&owner) {
                    Ok(changes) => {
                        self.changes.extend(changes);
                        self.waiting.push(done);
                    }
                    // Whoever asked may have hung up.
                    Err(refusal) => drop(done.send(Err(refusal))),
                }
            }
            Write::Group(cell) => {
                let record = cell.record();
                let generation = record.as_ref().map_or(-1, |record| record.generation);
                self.changes.extend(record.map(|record| GroupChange::PutGroup { group: cell.id().to_owned(), record }));
                self.groups.push((cell, generation));
            }
            Write::ConsumerGroup(cell, done) => {
                self.waiting.extend(done);
                if let Some((record, change)) = cell.snapshot() {
                    self.changes.push(GroupChange::PutGroup { group: cell.id().to_owned(), record });
                    self.consumers.push((cell, change));
                }
            }
        }
    }
}
