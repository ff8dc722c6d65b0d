//! Keeps leader epochs in the state, many with one write, beside the requests that see them rise.

use hawser_state::State;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::error;
use uuid::Uuid;

/// Wait before a write that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Epochs that are not kept yet: at most one a partition.
pub(super) struct Floors {
    waiting: Mutex<HashMap<(Uuid, i32), Floor>>,
    news: Arc<Notify>,
}

/// An epoch, and who wants to know that it is kept.
struct Floor {
    epoch: i32,
    told: Vec<Arc<AtomicBool>>,
}

impl Floors {
    /// Starts the task that writes; it ends with the last handle.
    pub(super) fn start(state: State) -> Arc<Self> {
        let news = Arc::new(Notify::new());
        let floors = Arc::new(Self { waiting: Mutex::default(), news: Arc::clone(&news) });
        tokio::spawn(write(Arc::downgrade(&floors), news, state));
        floors
    }

    /// Has `epoch` kept for a partition; then `told` becomes true.
    pub(super) fn keep(&self, partition: (Uuid, i32), epoch: i32, told: Option<Arc<AtomicBool>>) {
        let mut waiting = self.lock();
        let floor = waiting.entry(partition).or_insert(Floor { epoch, told: Vec::new() });
        floor.epoch = floor.epoch.max(epoch);
        // A flag that nobody else holds belongs to a truncation that another one has overtaken.
        floor.told.retain(|told| Arc::strong_count(told) > 1);
        floor.told.extend(told);
        drop(waiting);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Uuid, i32), Floor>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Floors {
    fn drop(&mut self) {
        self.news.notify_one();
    }
}

async fn write(floors: Weak<Floors>, news: Arc<Notify>, state: State) {
    loop {
        news.notified().await;
        let Some(floors) = floors.upgrade() else { return };
        let taken = std::mem::take(&mut *floors.lock());
        let rows: Vec<_> = taken.iter().map(|((id, partition), floor)| (*id, *partition, floor.epoch)).collect();
        let state = state.clone();
        let written = tokio::task::spawn_blocking(move || state.raise_leader_epochs(&rows)).await;
        let error = match written {
            Ok(Ok(())) => {
                taken.values().flat_map(|floor| &floor.told).for_each(|told| told.store(true, Ordering::Release));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        error!(partitions = taken.len(), error, "leader epochs cannot be kept: their partitions wait");
        for (partition, Floor { epoch, told }) in taken {
            told.into_iter().for_each(|told| floors.keep(partition, epoch, Some(told)));
            floors.keep(partition, epoch, None);
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}
