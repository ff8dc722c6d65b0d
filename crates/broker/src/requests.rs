//! The memory that requests may take while they are decoded, handled and answered, over all connections.
//!
//! The decoder's guard bounds one frame: so many bytes per byte on the wire. That bound times every connection is more
//! than a machine has; so the frames that matter are charged, by their length, to one budget, and wait for it.
//!
//! An answer can be larger than its request: one name asks for a topic's partitions, or for a group's members. It holds each
//! only once ([`distinct`]), so it is no larger than what the broker holds; and it is charged too until it is written
//! ([`RequestMemory::charge_answer`]), so that large requests wait for large answers, whatever asked for those.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests and answers below this are not charged, in bytes: nearly all, so that large ones never hold up the others.
/// `max.connections` such requests, decoded, are 20,000 × 4 KiB × 16 = 1.3 GB at the worst; their answers come on top.
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

    /// Makes the charge of a request one of its answer of `bytes`, to be held until that is written. What it holds beyond is
    /// given back. What it lacks is taken as far as there is some: the answer is there already, and one that waited while it
    /// holds a part might wait for another that does the same.
    pub(crate) fn charge_answer(
        &self,
        charge: Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Option<OwnedSemaphorePermit> {
        let held = charge.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if charge.is_none() && bytes < FREE_BELOW {
            return None;
        }
        let needed = bytes.div_ceil(UNIT);
        let lacks = needed.saturating_sub(held).min(self.units.available_permits());
        let more = u32::try_from(lacks).ok().filter(|lacks| *lacks > 0);
        let more = more.and_then(|lacks| Arc::clone(&self.units).try_acquire_many_owned(lacks).ok());
        match (charge, more) {
            (Some(mut charge), more) => {
                drop(charge.split(held.saturating_sub(needed)));
                more.into_iter().for_each(|more| charge.merge(more));
                Some(charge).filter(|charge| charge.num_permits() > 0)
            }
            (None, more) => more,
        }
    }
}

/// The things that a request names, each once, in the order in which they are named first.
pub(crate) fn distinct<T, K: Eq + Hash>(mut named: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    named.retain(|thing| seen.insert(key(thing)));
    named
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
        whole = memory.charge_answer(Some(whole), 512 * 1024 + 1).unwrap();
        assert_eq!(whole.num_permits(), 513);
        let rest = fits(500 * 1024).await.unwrap().unwrap();
        assert!(fits(12 * 1024).await.is_err());
        // A larger one takes what is there, waits for nothing, and large requests wait for it.
        let rest = memory.charge_answer(Some(rest), 1 << 30).unwrap();
        assert_eq!(rest.num_permits(), 511);
        assert!(memory.charge_answer(None, 1 << 30).is_none(), "nothing is left");
        drop((whole, rest));
        assert!(memory.charge_answer(None, FREE_BELOW - 1).is_none());
        let answer = memory.charge_answer(None, 1 << 19).unwrap();
        assert_eq!(answer.num_permits(), 512);
        assert!(fits(513 * 1024).await.is_err());
        drop(answer);
        assert_eq!(fits(1 << 20).await.unwrap().unwrap().num_permits(), 1024);
    }
}
