//! The memory that records may take until they are written, over all connections.
//!
//! Half of it is for reads as large as they are asked for, which never wait: one that finds no room there reads
//! [`LEAST_BYTES`] from the other half. So slow readers of much, who fill the first half, starve neither those who ask for
//! little nor each other; and it takes more than a hundred of them at a time to fill the second. Only a batch that is larger
//! than that, and has to be read whole, waits for the first half.

use super::response::COPY_BYTES_MAX;
use bytes::Bytes;
use hawser_log::held_bytes_max;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// What is read where memory is short, in bytes: Kafka's default of `max.partition.fetch.bytes`.
const LEAST_BYTES: usize = 1 << 20;
/// What is counted: a semaphore counts at most 2^29 on 32 bits.
const UNIT: usize = 1024;

/// Bytes of records at hand; one a broker.
pub(super) struct FetchMemory {
    large: Arc<Semaphore>,
    small: Arc<Semaphore>,
    /// Of each half.
    units_max: u32,
}

/// Leave to read.
pub(super) struct Charge {
    /// Most bytes of records.
    pub(super) bytes_max: usize,
    pub(super) permit: OwnedSemaphorePermit,
}

/// What was read holds so many bytes, which is more than was charged, and there is no room for it.
pub(super) struct TooLarge(pub(super) usize);

/// What records hold until they are written.
fn held_bytes(records: &Bytes) -> usize {
    if records.len() <= COPY_BYTES_MAX { records.len() } else { held_bytes_max(records.len()) }
}

/// Records with what they are charged.
struct Charged {
    records: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl FetchMemory {
    pub(super) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT / 2).clamp(1, Semaphore::MAX_PERMITS);
        let half = || Arc::new(Semaphore::new(units));
        Self { large: half(), small: half(), units_max: u32::try_from(units).unwrap_or(u32::MAX) }
    }

    /// Leave to read `bytes`, or less; `None` if there is no room even for that until `patience`. Cancel-safe.
    pub(super) async fn charge(&self, bytes: usize, patience: Instant) -> Option<Charge> {
        let bytes = bytes.min(self.units_max as usize * UNIT);
        if bytes > LEAST_BYTES
            && let Ok(permit) = Arc::clone(&self.large).try_acquire_many_owned(self.units(held_bytes_max(bytes)))
        {
            return Some(Charge { bytes_max: bytes, permit });
        }
        let bytes_max = bytes.min(LEAST_BYTES);
        let waiting = Arc::clone(&self.small).acquire_many_owned(self.units(held_bytes_max(bytes_max)));
        let permit = timeout_at(patience, waiting).await.ok()?.ok()?;
        Some(Charge { bytes_max, permit })
    }

    /// Leave to read what holds `bytes`, in the order of asking. Cancel-safe.
    pub(super) async fn charge_whole(&self, bytes: usize, patience: Instant) -> Option<Charge> {
        let waiting = Arc::clone(&self.large).acquire_many_owned(self.units(bytes));
        let permit = timeout_at(patience, waiting).await.ok()?.ok()?;
        Some(Charge { bytes_max: bytes, permit })
    }

    /// Makes the charge one of what was read: each of `records` gives its part back when it is let go of. What is left, for
    /// those that are copied into the head of the answer, is to be held until all is written; the rest is given back.
    ///
    /// # Errors
    /// When a batch is larger than what there was leave for, and there is no room for it: all is given back then.
    pub(super) fn settle<'a>(
        &self,
        Charge { bytes_max, mut permit }: Charge,
        records: impl Iterator<Item = &'a mut Bytes>,
    ) -> Result<OwnedSemaphorePermit, TooLarge> {
        let records: Vec<&mut Bytes> = records.collect();
        let bytes = records.iter().map(|records| records.len()).fold(0, usize::saturating_add);
        let held = records.iter().map(|records| held_bytes(records)).fold(0, usize::saturating_add);
        let (used, charged) = (self.units(held) as usize, permit.num_permits());
        if used > charged {
            // What many partitions hold beside their records comes from the same half, and so does a batch of usual size.
            let lacks = self.units((used - charged).saturating_mul(UNIT));
            let more = Arc::clone(permit.semaphore()).try_acquire_many_owned(lacks);
            permit = match more {
                Ok(more) if bytes <= bytes_max.max(LEAST_BYTES) => {
                    permit.merge(more);
                    permit
                }
                more => {
                    drop((permit, more));
                    let whole = Arc::clone(&self.large).try_acquire_many_owned(self.units(held));
                    whole.map_err(|_| TooLarge(held))?
                }
            };
        } else {
            drop(permit.split(charged - used));
        }
        for records in records.into_iter().filter(|records| records.len() > COPY_BYTES_MAX) {
            if let Some(permit) = permit.split(held_bytes(records) / UNIT) {
                *records = Bytes::from_owner(Charged { records: std::mem::take(records), _permit: permit });
            }
        }
        Ok(permit)
    }

    /// What `bytes` cost, at most a half: a batch larger than that has it to itself.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units_max)
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.records
    }
}
