//! The fields of a batch header that the log walks by, from the first 61 bytes alone: the rest of the batch may not be in
//! memory, or not be there at all.

use hawser_wire::batch::{HEADER_BYTES, LOG_OVERHEAD_BYTES};
use hawser_wire::{BatchHeader, LeaderEpoch, Offset};

/// Bytes that the longest control record takes after the header; enough to tell a commit from an abort.
pub(crate) const CONTROL_BYTES: usize = HEADER_BYTES + 64;

/// What the log needs to know of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) size: u64,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) attributes: i16,
}

/// How a control batch ends its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Abort,
    Commit,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` if there is none, or none that a v2 batch can have.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let length = i32::from_be_bytes(field(bytes, 8)?);
        let size = u64::try_from(length).ok()? + LOG_OVERHEAD_BYTES as u64;
        let base = i64::from_be_bytes(field(bytes, 0)?);
        let delta = i32::from_be_bytes(field(bytes, 23)?);
        let magic = field::<1>(bytes, 16)?[0];
        let last = base.checked_add(i64::from(delta))?;
        if bytes.len() < HEADER_BYTES || size < HEADER_BYTES as u64 || magic != 2 || base < 0 || delta < 0 {
            return None;
        }
        (last < i64::MAX).then_some(Self {
            base: Offset(base),
            last: Offset(last),
            size,
            epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, 12)?)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)?),
            producer_id: i64::from_be_bytes(field(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)?),
            base_sequence: i32::from_be_bytes(field(bytes, 53)?),
            attributes: i16::from_be_bytes(field(bytes, 21)?),
        })
    }

    pub(crate) fn next(&self) -> Offset {
        Offset(self.last.0 + 1)
    }

    /// As `BatchHeader::last_sequence`.
    pub(crate) fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            none if none < 0 => -1,
            base => base.wrapping_add((self.last.0 - self.base.0) as i32) & i32::MAX,
        }
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

impl From<&BatchHeader> for Header {
    fn from(header: &BatchHeader) -> Self {
        Self {
            base: header.base_offset,
            last: header.last_offset(),
            size: header.size_bytes as u64,
            epoch: header.leader_epoch,
            max_timestamp: header.max_timestamp,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            attributes: header.attributes,
        }
    }
}

/// What the first record of a control batch says (`ControlRecordType`); `None` for other control records and for a batch
/// that compaction emptied. `bytes` begin with the header; control batches are never compressed.
pub(crate) fn marker(bytes: &[u8]) -> Option<Marker> {
    let count = i32::from_be_bytes(field(bytes, 57)?);
    let mut rest = bytes.get(HEADER_BYTES..).filter(|_| count > 0)?;
    skip_varint(&mut rest)?; // length
    rest = rest.get(1..)?; // attributes
    skip_varint(&mut rest)?; // timestamp delta
    skip_varint(&mut rest)?; // offset delta
    skip_varint(&mut rest)?; // key length
    match i16::from_be_bytes(field(rest, 2)?) {
        0 => Some(Marker::Abort),
        1 => Some(Marker::Commit),
        _ => None,
    }
}

fn skip_varint(rest: &mut &[u8]) -> Option<()> {
    let end = rest.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    *rest = rest.get(end + 1..)?;
    Some(())
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
