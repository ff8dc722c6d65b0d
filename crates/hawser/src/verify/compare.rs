//! The comparison itself: two runs of batches that should be the same bytes. Pure.

use bytes::Bytes;
use hawser_wire::{Batch, BatchError, Offset};
use std::fmt;

/// What two runs of bytes from one offset on have in common.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Batches that are equal in every byte.
    pub(super) batches: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Where the comparison goes on; not moved if neither run held a whole batch.
    pub(super) next: Offset,
    /// What was not equal.
    pub(super) findings: Vec<Finding>,
}

/// Something that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The mirror holds a batch where the source has none. `until`: where the source goes on.
    OnlyMirror { batch: Summary, until: Offset },
    /// The source holds a batch where the mirror has none.
    OnlySource { batch: Summary, until: Offset },
    /// Both hold a batch that begins here, and they differ.
    Unequal { source: Summary, mirror: Summary, first_byte: usize },
    /// Bytes at an offset that are no whole batch, or do not fit its checksum. `mirror`: on which side.
    Corrupt { mirror: bool, at: Offset, error: BatchError },
}

/// What a report says of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) base: Offset,
    pub(super) last: Offset,
    pub(super) size_bytes: usize,
    pub(super) epoch: i32,
    pub(super) crc: u32,
    pub(super) records: i32,
}

/// Compares batch by batch from `from` on, until one run has no further whole batch. `until` bounds both: batches that
/// begin there or later are left alone.
pub(super) fn compare(from: Offset, until: Offset, mut source: Bytes, mut mirror: Bytes) -> Compared {
    let mut out = Compared { next: from, ..Compared::default() };
    let (mut s, mut m) = (take(&mut source, from), take(&mut mirror, from));
    loop {
        let (theirs, ours) = match (s, m) {
            (Some(Ok(theirs)), Some(Ok(ours))) => (theirs, ours),
            (Some(Err(error)), _) => {
                out.findings.push(Finding::Corrupt { mirror: false, at: out.next, error });
                return out;
            }
            (_, Some(Err(error))) => {
                out.findings.push(Finding::Corrupt { mirror: true, at: out.next, error });
                return out;
            }
            (None, _) | (_, None) => return out,
        };
        let (their_base, our_base) = (theirs.header.base_offset, ours.header.base_offset);
        if their_base.min(our_base) >= until {
            return out;
        }
        if our_base < their_base {
            out.next = ours.header.next_offset();
            out.findings.push(Finding::OnlyMirror { batch: Summary::of(&ours), until: their_base });
            (s, m) = (Some(Ok(theirs)), take(&mut mirror, out.next));
        } else if their_base < our_base {
            out.next = theirs.header.next_offset();
            out.findings.push(Finding::OnlySource { batch: Summary::of(&theirs), until: our_base });
            (s, m) = (take(&mut source, out.next), Some(Ok(ours)));
        } else {
            match unequal_at(&theirs.bytes, &ours.bytes) {
                None => {
                    out.batches += 1;
                    out.bytes += ours.bytes.len() as u64;
                    if let Err(error) = ours.check_crc() {
                        out.findings.push(Finding::Corrupt { mirror: true, at: our_base, error });
                    }
                }
                Some(first_byte) => out.findings.push(Finding::Unequal {
                    source: Summary::of(&theirs),
                    mirror: Summary::of(&ours),
                    first_byte,
                }),
            }
            // The source's word: a broken length or delta at the mirror must not hide what follows.
            out.next = theirs.header.next_offset();
            (s, m) = (take(&mut source, out.next), take(&mut mirror, out.next));
        }
    }
}

impl Finding {
    /// Whether compaction at the source since the mirroring explains it: the source holds less of what the mirror holds.
    pub(super) fn is_explained_by_compaction(&self) -> bool {
        match self {
            Self::OnlyMirror { .. } => true,
            Self::Unequal { source, mirror, .. } => source.records < mirror.records && source.last <= mirror.last,
            Self::OnlySource { .. } | Self::Corrupt { .. } => false,
        }
    }

    /// The offset that it is about.
    pub(super) fn offset(&self) -> Offset {
        match self {
            Self::OnlyMirror { batch, .. } | Self::OnlySource { batch, .. } => batch.base,
            Self::Unequal { mirror, .. } => mirror.base,
            Self::Corrupt { at, .. } => *at,
        }
    }
}

impl Summary {
    fn of(batch: &Batch) -> Self {
        let header = &batch.header;
        Self {
            base: header.base_offset,
            last: header.last_offset(),
            size_bytes: header.size_bytes,
            epoch: header.leader_epoch.0,
            crc: header.crc,
            records: header.record_count,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "offsets {}..={}, {} bytes, epoch {}, crc {:#010x}, {} records",
            self.base, self.last, self.size_bytes, self.epoch, self.crc, self.records
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyMirror { batch, until } => {
                write!(f, "the mirror holds a batch ({batch}) that the source has not (it goes on at {until})")
            }
            Self::OnlySource { batch, until } => {
                write!(f, "the source holds a batch ({batch}) that the mirror has not (it goes on at {until})")
            }
            Self::Unequal { source, mirror, first_byte } => {
                write!(f, "the batches differ from byte {first_byte} on: source ({source}), mirror ({mirror})")
            }
            Self::Corrupt { mirror: true, error, .. } => write!(f, "at the mirror: {error}"),
            Self::Corrupt { mirror: false, error, .. } => write!(f, "at the source: {error}"),
        }
    }
}

/// The next whole batch that does not end below `from`; a cut-off one is as good as none.
fn take(run: &mut Bytes, from: Offset) -> Option<Result<Batch, BatchError>> {
    loop {
        match Batch::split_off(run) {
            Ok(batch) if batch.header.last_offset() < from => {}
            Ok(batch) => return Some(Ok(batch)),
            Err(BatchError::Truncated { .. }) => return None,
            Err(error) => return Some(Err(error)),
        }
    }
}

fn unequal_at(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let common = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    Some(common)
}

#[cfg(test)]
mod tests;
