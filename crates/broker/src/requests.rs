//! The memory that requests may take while they are decoded, handled and answered, over all connections.
//!
//! The decoder's guard bounds one frame: so many bytes per byte on the wire. That bound times every connection is more
//! than a machine has; so the frames that matter are charged, by their length, to one budget, and wait for it.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Frames below this are not charged, in bytes: nearly all requests, so that large ones never hold up the others.
/// `max.connections` of them, decoded, are 20,000 × 4 KiB × 16 = 1.3 GB at the very worst.
const FREE_BELOW: usize = 4 * 1024;
/// What is counted: a semaphore counts at most 2^29 on 32 bits.
const UNIT: usize = 1024;

/// Bytes of request frames at hand; one a broker.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    units: Arc<Semaphore>,
    units_max: u32,
}

impl RequestMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        let units_max = u32::try_from(bytes.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    /// Waits, in the order of asking, until a frame of `bytes` fits; one that never would gets the budget to itself.
    /// `None` for a small one. Cancel-safe: whoever gives up loses his place.
    pub(crate) async fn charge(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes < FREE_BELOW {
            return None;
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units_max);
        let units_now = Arc::clone(&self.units);
        if let Ok(charge) = Arc::clone(&units_now).try_acquire_many_owned(units) {
            return Some(charge);
        }
        metrics::counter!("hawser_request_memory_waits_total").increment(1);
        // Never closed, hence never an error.
        units_now.acquire_many_owned(units).await.ok()
    }
}

/// Gives back what `charge` holds beyond an answer of `bytes`, which it is held for until that is written.
pub(crate) fn keep_for_answer(charge: &mut OwnedSemaphorePermit, bytes: usize) {
    let over = charge.num_permits().saturating_sub(bytes.div_ceil(UNIT));
    drop(charge.split(over));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_frames_wait_for_each_other_and_small_ones_for_nobody() {
        let memory = RequestMemory::new(1 << 20);
        let fits = async |bytes| {
            tokio::select! {
                biased;
                charge = memory.charge(bytes) => Ok(charge),
                () = std::future::ready(()) => Err("waits"),
            }
        };
        // Larger than all: has all to itself.
        let mut whole = fits(usize::MAX).await.unwrap().unwrap();
        assert_eq!(whole.num_permits(), 1024);
        assert!(fits(FREE_BELOW).await.is_err());
        assert!(fits(FREE_BELOW - 1).await.unwrap().is_none());
        // Its answer is smaller.
        keep_for_answer(&mut whole, 512 * 1024 + 1);
        assert_eq!(whole.num_permits(), 513);
        let rest = fits(511 * 1024).await.unwrap().unwrap();
        assert!(fits(FREE_BELOW).await.is_err());
        // An answer larger than its request is not charged more: its request was.
        let mut rest = rest;
        keep_for_answer(&mut rest, 1 << 30);
        assert_eq!(rest.num_permits(), 511);
        drop((whole, rest));
        assert_eq!(fits(1 << 20).await.unwrap().unwrap().num_permits(), 1024);
    }
}
