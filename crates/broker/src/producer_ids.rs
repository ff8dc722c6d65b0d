//! Ids for idempotent producers. Each is given out once in the life of a cluster: the state keeps where the next block
//! begins, so that an id costs a lock, and a thousand of them one fsync; what a stop leaves of a block is lost.

use hawser_state::{Error, State};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ids taken from the state at a time (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
const BLOCK: i64 = 1000;

/// The ids that are still to be given out; one a daemon.
pub struct ProducerIds {
    state: State,
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self { state, block: Mutex::new(0..0) })
    }

    /// An id that nobody had. Cancel-safe: at worst an id or a block is lost.
    ///
    /// # Errors
    /// When the next block could not be written down, or ids are used up.
    pub(crate) async fn next(self: &Arc<Self>) -> Result<i64, Error> {
        if let Some(id) = self.lock().next() {
            return Ok(id);
        }
        let ids = Arc::clone(self);
        let taken = tokio::task::spawn_blocking(move || ids.next_with_block()).await;
        taken.unwrap_or_else(|ended| Err(Error { path: "producer ids".to_owned(), reason: ended.to_string() }))
    }

    /// From now on gives out ids above `mirrored` only: a producer of this cluster must never be taken for one whose
    /// batches were mirrored. Durable when this returns. Blocks on fsync.
    ///
    /// # Errors
    /// When it could not be written down.
    pub fn raise_above(&self, mirrored: i64) -> Result<(), Error> {
        let mut block = self.lock();
        if block.start > mirrored && !block.is_empty() {
            return Ok(());
        }
        let start = mirrored.saturating_add(1);
        if block.end <= start {
            *block = 0..0;
            // Held over the write: nobody may take a block below meanwhile.
            return self.state.take_producer_ids(0, start).map(drop);
        }
        *block = start..block.end;
        Ok(())
    }

    fn next_with_block(&self) -> Result<i64, Error> {
        let mut block = self.lock();
        if block.is_empty() {
            // One waits for the disk, the others for him.
            let first = self.state.take_producer_ids(BLOCK, 0)?;
            *block = first..first.saturating_add(BLOCK);
        }
        let Some(id) = block.next() else {
            return Err(Error { path: "producer ids".to_owned(), reason: "all are used up".to_owned() });
        };
        Ok(id)
    }

    fn lock(&self) -> MutexGuard<'_, Range<i64>> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ids_rise_over_blocks_restarts_and_mirrored_ids() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let open = || ProducerIds::new(State::open(&file).unwrap());
        let ids = open();
        for expected in 0..=BLOCK {
            assert_eq!(ids.next().await.unwrap(), expected);
        }
        drop(ids);

        let ids = open();
        assert_eq!(ids.next().await.unwrap(), 2 * BLOCK, "the rest of the block is lost");
        // Below, inside and above the block at hand.
        ids.raise_above(5).unwrap();
        assert_eq!(ids.next().await.unwrap(), 2 * BLOCK + 1);
        ids.raise_above(2 * BLOCK + 10).unwrap();
        assert_eq!(ids.next().await.unwrap(), 2 * BLOCK + 11);
        ids.raise_above(1_000_000).unwrap();
        drop(ids);
        assert_eq!(open().next().await.unwrap(), 1_000_001, "also after a restart");

        let ids = open();
        ids.raise_above(i64::MAX).unwrap();
        let used_up = ids.next().await.unwrap_err();
        assert!(used_up.reason.contains("used up"), "{used_up}");
    }
}
