//! One step of writing to a store, as a partition machine orders it, and the one place that performs it.

use hawser_store::{MirrorPartition, Position, StoreError};
use hawser_wire::{Batch, BatchError, Offset};

/// What to do with a copy, in the order of the fields. Holds slices of the fetch response.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// Shorten or empty the copy first. Made durable before anything else happens.
    pub cut: Option<Cut>,
    /// Append these; their CRCs are not checked yet.
    pub append: Vec<Batch>,
    /// Then raise the log start.
    pub log_start: Option<Offset>,
    /// Then tell consumers how far they may read.
    pub high_watermark: Option<Offset>,
}

/// Ways to lose data on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The source's lineage ends here: drop everything at and above.
    TruncateTo(Offset),
    /// Nothing below is to be had any more, or the copy begins here: drop everything.
    RestartAt(Offset),
}

/// Why a write stopped; what came before it holds.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A batch does not fit its CRC.
    #[error(transparent)]
    Corrupt(#[from] BatchError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Write {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.cut.is_none() && self.append.is_empty() && self.log_start.is_none() && self.high_watermark.is_none()
    }

    /// Bytes to be appended.
    pub fn bytes(&self) -> usize {
        self.append.iter().map(|batch| batch.bytes.len()).sum()
    }

    /// Performs the write. Not cancel-safe: it runs to its end, which is bounded by the store's own I/O.
    /// Batches before a corrupt one are appended, so that a fault in the middle costs no progress.
    ///
    /// # Errors
    /// See [`WriteError`]. The copy then stands where [`MirrorPartition::position`] says.
    pub async fn perform<P: MirrorPartition>(&self, copy: &mut P) -> Result<Position, WriteError> {
        match self.cut {
            Some(Cut::TruncateTo(offset)) => {
                copy.truncate_to(offset).await?;
                copy.flush().await?;
            }
            Some(Cut::RestartAt(offset)) => {
                copy.restart_at(offset).await?;
                copy.flush().await?;
            }
            None => {}
        }
        let good = self.append.iter().position(|batch| batch.check_crc().is_err()).unwrap_or(self.append.len());
        let (good, bad) = self.append.split_at(good);
        if !good.is_empty() {
            copy.append(good).await?;
        }
        if let Some(corrupt) = bad.first() {
            corrupt.check_crc()?;
        }
        if let Some(offset) = self.log_start {
            copy.advance_log_start(offset).await?;
        }
        if let Some(offset) = self.high_watermark {
            copy.observe_high_watermark(offset);
        }
        Ok(copy.position())
    }
}
