//! The memory that requests may take while they are decoded, handled and answered, over all connections.
//!
//! The decoder's guard bounds one frame: so many bytes per byte on the wire. That bound times every connection is more
//! than a machine has; so the frames that matter are charged, by their length, to one budget, and wait for it.
//!
//! An answer can be larger than its request: one name asks for a topic's partitions, or for a group's members. It holds each
//! only once ([`distinct`]), so it is no larger than what the broker holds; and it is charged too until it is written. How
//! large it is shows once it is built. One for which there is no room is let go, waited for without holding anything (so
//! nobody waits for somebody who waits), and built again; so at any time there are, beyond the budget, the
//! [`TELLING_MAX`] and [`READING_MAX`] answers at most that are being built. Only what asks and changes nothing ([`is_question`]) can be asked
//! again. The answers to all else do not wait and are charged as far as there is room: they name what their requests named,
//! or the members of one group to its leader.

use hawser_wire::messages::ApiKey;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Requests and answers below this are not charged, in bytes: nearly all, so that large ones never hold up the others.
/// `max.connections` such requests, decoded, are 20,000 × 4 KiB × 16 = 1.3 GB at the worst; their answers come on top.
const FREE_BELOW: usize = 4 * 1024;
/// Answers that are told from memory and are being built at a time: more than there are cores to build them on.
const TELLING_MAX: usize = 8;
/// Answers that are read from the state's file or the log directory and are being built at a time. Each may read once for
/// every group that it names; those that are told do not wait for that.
const READING_MAX: usize = 8;
/// What is counted: a semaphore counts at most 2^29 on 32 bits.
const UNIT: usize = 1024;

/// Bytes of request frames at hand; one a broker.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    units: Arc<Semaphore>,
    units_max: u32,
    telling: Semaphore,
    reading: Semaphore,
}

/// There is no room for an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl RequestMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        let units_max = u32::try_from(bytes.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            units: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            telling: Semaphore::new(TELLING_MAX),
            reading: Semaphore::new(READING_MAX),
        }
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

    /// Waits until one more answer to this question may be built. Who builds waits for nobody's memory. Cancel-safe.
    pub(crate) async fn build(&self, api_key: i16) -> Option<SemaphorePermit<'_>> {
        let building = if is_read(api_key) { &self.reading } else { &self.telling };
        // Never closed, hence never an error.
        building.acquire().await.ok()
    }

    /// Makes the charge of a request one of its answer of `bytes`, to be held until that is written. What it holds beyond is
    /// given back. An answer larger than the budget has it to itself.
    ///
    /// # Errors
    /// When there is no room for what it lacks: all of the charge is given back then.
    pub(crate) fn charge_answer(
        &self,
        charge: Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, NoRoom> {
        if charge.is_none() && bytes < FREE_BELOW {
            return Ok(None);
        }
        let held = charge.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = bytes.div_ceil(UNIT).min(self.units_max as usize);
        let lacks = u32::try_from(needed.saturating_sub(held)).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.units).try_acquire_many_owned(lacks).map_err(|_| NoRoom)?;
        let mut charge = match charge {
            Some(mut charge) => {
                charge.merge(more);
                charge
            }
            None => more,
        };
        drop(charge.split(held.saturating_sub(needed)));
        Ok(Some(charge).filter(|charge| charge.num_permits() > 0))
    }

    /// As [`charge_answer`](Self::charge_answer), as far as there is room.
    pub(crate) fn charge_answer_partly(
        &self,
        charge: Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Option<OwnedSemaphorePermit> {
        let held = charge.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let room = (held + self.units.available_permits()).saturating_mul(UNIT);
        self.charge_answer(charge, bytes.min(room)).unwrap_or_default()
    }
}

/// Whether a request only asks, so that it may be carried out twice, and its answer may be larger than what it names.
/// (Metadata may make a topic, the first time.)
pub(crate) fn is_question(api_key: i16) -> bool {
    use ApiKey::*;
    matches!(
        ApiKey::try_from(api_key),
        Ok(Metadata
            | DescribeCluster
            | DescribeTopicPartitions
            | DescribeConfigs
            | DescribeLogDirs
            | ListPartitionReassignments
            | DescribeQuorum
            | DescribeProducers
            | DescribeTransactions
            | ListTransactions
            | FindCoordinator
            | ConsumerGroupDescribe
            | OffsetFetch
            | ListGroups
            | DescribeGroups
            | DescribeAcls
            | DescribeUserScramCredentials
            | DescribeClientQuotas)
    )
}

/// Whether the answer to a question is read from a disk.
fn is_read(api_key: i16) -> bool {
    use ApiKey::*;
    matches!(ApiKey::try_from(api_key), Ok(OffsetFetch | ListGroups | DescribeGroups | DescribeLogDirs))
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
        whole = memory.charge_answer(Some(whole), 512 * 1024 + 1).unwrap().unwrap();
        assert_eq!(whole.num_permits(), 513);
        let rest = fits(500 * 1024).await.unwrap().unwrap();
        assert!(fits(12 * 1024).await.is_err());
        // A larger one for which there is no room gives back what it has, and has then to wait for all of it.
        assert_eq!(memory.charge_answer(Some(rest), 512 * 1024).unwrap_err(), NoRoom);
        assert_eq!(memory.charge_answer(None, 1 << 30).unwrap_err(), NoRoom);
        assert_eq!(memory.units.available_permits(), 511);
        // One that cannot wait takes what is there, and large requests wait for it.
        let rest = memory.charge_answer_partly(fits(500 * 1024).await.unwrap(), 1 << 30).unwrap();
        assert_eq!(rest.num_permits(), 511);
        assert!(memory.charge_answer_partly(None, 1 << 30).is_none(), "nothing is left");
        drop((whole, rest));
        assert!(memory.charge_answer(None, FREE_BELOW - 1).unwrap().is_none());
        let answer = memory.charge_answer(None, 1 << 19).unwrap().unwrap();
        assert_eq!(answer.num_permits(), 512);
        assert!(fits(513 * 1024).await.is_err());
        // Larger than all: has all to itself.
        let answer = memory.charge_answer(Some(answer), usize::MAX).unwrap().unwrap();
        assert_eq!(answer.num_permits(), 1024);
        drop(answer);
        assert_eq!(fits(1 << 20).await.unwrap().unwrap().num_permits(), 1024);
    }
}
