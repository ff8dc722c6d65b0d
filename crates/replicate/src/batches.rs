//! What a fetch brought, cut into batches and held against the rules of a mirror: order, epochs, format. The CRC is
//! checked later, just before the write ([`crate::write`]), so that the next fetch need not wait for it.
//!
//! Rules (`UnifiedLog.appendAsFollower`, KAFKA-18723): a batch starts at or after the end before it; its epoch is not
//! below that of the batch before it and not above the leader's; a partial batch at the end is dropped. Only a copy that
//! holds nothing may begin with a batch that starts below the fetch offset and ends above it: its log start then lies
//! inside that batch, as at the source.

use bytes::Bytes;
use hawser_wire::{Batch, BatchError, LeaderEpoch, Offset};

/// Where the copy stands as its next batch arrives.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The offset that was fetched: the copy's end.
    pub next: Offset,
    /// Epoch of the copy's last batch.
    pub last_epoch: LeaderEpoch,
    /// Epoch of the leader that served the fetch.
    pub leader_epoch: LeaderEpoch,
    /// Whether the copy holds no batch at all.
    pub holds_nothing: bool,
}

/// The batches that may be appended, and what stopped the reading.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Whole batches in order, each a slice of the response.
    pub batches: Vec<Batch>,
    /// The end of the copy once they are appended.
    pub next: Offset,
    /// Epoch of the last batch once they are appended.
    pub last_epoch: LeaderEpoch,
    /// Bytes of the partial batch at the end, which will be fetched again.
    pub cut_bytes: usize,
    /// Why the bytes after the batches were not taken, if they were not merely cut off.
    pub fault: Option<Fault>,
}

/// A batch that a mirror may not append.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes are not a v2 batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch overlaps what the copy holds.
    #[error("batch {base}..={last} overlaps the copy, which ends at {next}")]
    Overlaps {
        /// Base offset of the batch.
        base: Offset,
        /// Its last offset.
        last: Offset,
        /// Where the copy ends.
        next: Offset,
    },
    /// The epoch is below that of the batch before.
    #[error("batch at {base} has leader epoch {epoch}, below {last} before it")]
    EpochFell {
        /// Base offset of the batch.
        base: Offset,
        /// Its epoch.
        epoch: LeaderEpoch,
        /// The epoch before it.
        last: LeaderEpoch,
    },
    /// The epoch is above that of the leader that served it.
    #[error("batch at {base} has leader epoch {epoch}, above its leader's {leader}")]
    EpochAhead {
        /// Base offset of the batch.
        base: Offset,
        /// Its epoch.
        epoch: LeaderEpoch,
        /// The leader's.
        leader: LeaderEpoch,
    },
}

/// Takes batches off `records` as long as they keep the rules. Copies no payload; allocates in proportion to the
/// number of whole batches found.
pub fn take(mut records: Bytes, expected: Expected) -> Taken {
    let Expected { next, last_epoch, leader_epoch, holds_nothing } = expected;
    let mut taken = Taken { batches: Vec::new(), next, last_epoch, cut_bytes: 0, fault: None };
    while !records.is_empty() {
        let batch = match Batch::split_off(&mut records) {
            Ok(batch) => batch,
            Err(BatchError::Truncated { .. }) => {
                taken.cut_bytes = records.len();
                break;
            }
            Err(error) => {
                taken.fault = Some(error.into());
                break;
            }
        };
        let header = batch.header;
        let (base, epoch) = (header.base_offset, header.leader_epoch);
        if header.last_offset() < taken.next {
            continue; // wholly below the fetch offset: the copy has it, or its log starts above it
        }
        let begins_inside = holds_nothing && taken.batches.is_empty();
        taken.fault = if base < taken.next && !begins_inside {
            Some(Fault::Overlaps { base, last: header.last_offset(), next: taken.next })
        } else if epoch < taken.last_epoch {
            Some(Fault::EpochFell { base, epoch, last: taken.last_epoch })
        } else if epoch > leader_epoch && leader_epoch != LeaderEpoch::NONE {
            Some(Fault::EpochAhead { base, epoch, leader: leader_epoch })
        } else {
            None
        };
        if taken.fault.is_some() {
            break;
        }
        taken.next = header.next_offset();
        taken.last_epoch = epoch;
        taken.batches.push(batch);
    }
    taken
}
