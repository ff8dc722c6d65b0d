//! Views of v2 record batches (KIP-98, `DefaultRecordBatch`): the header by value, the bytes as a
//! slice of the frame they came in. Nothing is re-encoded; a batch is checked and handed on.

use crate::records::RecordError;
use crate::types::{LeaderEpoch, Offset};
use bytes::Bytes;

/// Bytes before the first record: `DefaultRecordBatch.RECORD_BATCH_OVERHEAD`.
pub const HEADER_BYTES: usize = 61;
/// Bytes of base offset and length, which the length field does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;
const CRC_START: usize = 21;

/// The fixed fields of a v2 batch, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record, whether it still exists or not.
    pub base_offset: Offset,
    /// Whole size of the batch in bytes, the 12 bytes of overhead included.
    pub size_bytes: usize,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression (bits 0-2), timestamp type (3), transactional (4), control (5), delete horizon (6).
    pub attributes: i16,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, or the delete horizon, in ms since 1970.
    pub base_timestamp: i64,
    /// Largest timestamp in the batch, in ms since 1970.
    pub max_timestamp: i64,
    /// Producer id, −1 for none.
    pub producer_id: i64,
    /// Producer epoch, −1 for none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, −1 for none.
    pub base_sequence: i32,
    /// Records that are still in the batch; 0 after compaction emptied it.
    pub record_count: i32,
}

/// One whole v2 batch.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The decoded header.
    pub header: BatchHeader,
    /// All bytes of the batch, header included.
    pub bytes: Bytes,
}

/// The codec of a batch's records (attributes, bits 0-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Records stand as they are.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy in xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// What a control batch says (`ControlRecordType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// The transaction of this producer id and epoch was aborted.
    Abort,
    /// The transaction of this producer id and epoch was committed.
    Commit,
    /// Some other control record; carried along, without a meaning here.
    Other(i16),
}

/// Why bytes are not a batch that a mirror may hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header or than the length field promises; normal at the end of a fetch.
    #[error("batch at offset {base_offset} is cut off: {have} of {need} bytes")]
    Truncated {
        /// Base offset, or −1 if not even that was there.
        base_offset: i64,
        /// Bytes at hand.
        have: usize,
        /// Bytes that the batch says it has.
        need: usize,
    },
    /// A batch of message format v0 or v1 (before Kafka 0.11).
    #[error("batch at offset {base_offset} has message format v{magic}; only v2 is supported")]
    OldFormat {
        /// Base offset of the batch.
        base_offset: i64,
        /// Its magic byte.
        magic: i8,
    },
    /// A magic byte that no Kafka writes.
    #[error("batch at offset {base_offset} has unknown magic {magic}")]
    UnknownMagic {
        /// Base offset of the batch.
        base_offset: i64,
        /// Its magic byte.
        magic: i8,
    },
    /// The checksum does not fit the bytes.
    #[error("batch at offset {base_offset} is corrupt: crc {computed:#010x}, header says {stated:#010x}")]
    Crc {
        /// Base offset of the batch.
        base_offset: i64,
        /// CRC in the header.
        stated: u32,
        /// CRC of the bytes.
        computed: u32,
    },
    /// A field that contradicts another.
    #[error("batch at offset {base_offset} is malformed: {what}")]
    Malformed {
        /// Base offset of the batch.
        base_offset: i64,
        /// The field and what is wrong with it.
        what: &'static str,
    },
    /// The batch begins before the end of the one in front of it, or before where it may begin.
    #[error("batch at offset {base_offset} begins before offset {expected}")]
    OutOfOrder {
        /// Base offset of the batch.
        base_offset: i64,
        /// The least that it may be.
        expected: i64,
    },
    /// The batch was appended by an older leader than the one in front of it.
    #[error("batch at offset {base_offset} has leader epoch {epoch} after {previous}")]
    EpochFell {
        /// Base offset of the batch.
        base_offset: i64,
        /// Its epoch.
        epoch: i32,
        /// Epoch of the batch in front.
        previous: i32,
    },
}

impl BatchHeader {
    /// Reads the header at the front of `bytes` without looking at the records or the CRC.
    ///
    /// # Errors
    /// `Truncated` when the header or the promised length is not all there, `OldFormat` and
    /// `UnknownMagic` by the magic byte, `Malformed` for lengths or offsets that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let have = bytes.len();
        let base_offset = bytes.first_chunk::<8>().map_or(-1, |b| i64::from_be_bytes(*b));
        let cut = |need| BatchError::Truncated { base_offset, have, need };
        let length = i32::from_be_bytes(field(bytes, 8).ok_or_else(|| cut(LOG_OVERHEAD_BYTES))?);
        let magic = field::<1>(bytes, 16).ok_or_else(|| cut(HEADER_BYTES))?[0].cast_signed();
        match magic {
            2 => {}
            0 | 1 => return Err(BatchError::OldFormat { base_offset, magic }),
            _ => return Err(BatchError::UnknownMagic { base_offset, magic }),
        }
        let malformed = |what| BatchError::Malformed { base_offset, what };
        let length = usize::try_from(length).map_err(|_| malformed("negative length"))?;
        let size_bytes = length + LOG_OVERHEAD_BYTES;
        if size_bytes < HEADER_BYTES {
            return Err(malformed("length below the header's size"));
        }
        if have < size_bytes {
            return Err(cut(size_bytes));
        }
        let header = (|| {
            Some(Self {
                base_offset: Offset(base_offset),
                size_bytes,
                leader_epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, 12)?)),
                crc: u32::from_be_bytes(field(bytes, 17)?),
                attributes: i16::from_be_bytes(field(bytes, 21)?),
                last_offset_delta: i32::from_be_bytes(field(bytes, 23)?),
                base_timestamp: i64::from_be_bytes(field(bytes, 27)?),
                max_timestamp: i64::from_be_bytes(field(bytes, 35)?),
                producer_id: i64::from_be_bytes(field(bytes, 43)?),
                producer_epoch: i16::from_be_bytes(field(bytes, 51)?),
                base_sequence: i32::from_be_bytes(field(bytes, 53)?),
                record_count: i32::from_be_bytes(field(bytes, 57)?),
            })
        })()
        .ok_or_else(|| cut(HEADER_BYTES))?;
        if base_offset < 0 {
            return Err(malformed("negative base offset"));
        }
        if header.last_offset_delta < 0 || base_offset > i64::MAX - 1 - i64::from(header.last_offset_delta) {
            return Err(malformed("last offset delta out of range"));
        }
        if header.record_count < 0 {
            return Err(malformed("negative record count"));
        }
        Ok(header)
    }

    /// Offset of the last record that was written into the batch.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + i64::from(self.last_offset_delta))
    }

    /// The offset that follows the batch: the log end after appending it.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0 + 1)
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether the batch holds control records instead of data.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// Whether the broker stamped the records (`LogAppendTime`).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    /// When the tombstones and markers in a compacted batch may go (KIP-534), in ms since 1970; it stands in the place
    /// of the base timestamp.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & 0x40 != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent or transactional producer wrote the batch: producer id, epoch and sequence are set.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record; runs over from `i32::MAX` to 0 (`DefaultRecordBatch.incrementSequence`).
    /// −1 without a sequence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The codec, or `None` for a number that no Kafka writes.
    pub fn compression(&self) -> Option<Compression> {
        match self.attributes & 0x07 {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }
}

impl Batch {
    /// Takes one batch off the front of `bytes`, without checking its CRC.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`]; `bytes` is then left as it was.
    pub fn split_off(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        Ok(Self { header, bytes: bytes.split_to(header.size_bytes) })
    }

    /// Compares the CRC-32C in the header with the bytes.
    ///
    /// # Errors
    /// `Crc` when they differ.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(self.bytes.get(CRC_START..).unwrap_or_default());
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::Crc { base_offset: self.header.base_offset.0, stated: self.header.crc, computed })
    }

    /// What the first record of a control batch says (`ControlRecordType.parse`); `None` for a data batch, and for a
    /// control batch that compaction emptied. Control batches are never compressed.
    ///
    /// # Errors
    /// When the batch is compressed, or its first record or that record's key is malformed.
    pub fn control_type(&self) -> Result<Option<ControlType>, RecordError> {
        if !self.header.is_control() {
            return Ok(None);
        }
        let malformed = |what| RecordError::Malformed { base_offset: self.header.base_offset.0, index: 0, what };
        if self.header.compression() != Some(Compression::None) {
            return Err(malformed("control batch is compressed"));
        }
        let Some(record) = self.records(0).next().transpose()? else { return Ok(None) };
        let key = record.key.as_deref().and_then(<[u8]>::first_chunk);
        let [v0, v1, t0, t1] = *key.ok_or_else(|| malformed("control record without a type"))?;
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(malformed("control record of a negative version"));
        }
        Ok(Some(match i16::from_be_bytes([t0, t1]) {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            other => ControlType::Other(other),
        }))
    }
}

/// The batches in a run of bytes, each a slice of it: a fetch response's records, a part of a segment.
///
/// A last batch that is cut off ends the iteration without an error: sources cut their answers at a byte limit. It is
/// left in [`rest`](Self::rest). Any other error is the last item.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    rules: Option<Rules>,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    next_offset: Offset,
    epoch: LeaderEpoch,
}

impl Batches {
    /// Batches as they stand; only their headers are looked at.
    pub fn unverified(bytes: Bytes) -> Self {
        Self { rest: bytes, rules: None, failed: false }
    }

    /// Batches that may be appended behind `log_end`, whose last batch has `epoch`: each one's CRC fits, it begins at
    /// or after the end of the one before (gaps are compaction's), and epochs never fall. One pass over the bytes.
    pub fn verified(bytes: Bytes, log_end: Offset, epoch: LeaderEpoch) -> Self {
        Self { rest: bytes, rules: Some(Rules { next_offset: log_end, epoch }), failed: false }
    }

    /// What was not yielded (yet): after the last batch, the one that is cut off, if any.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let batch = Batch::split_off(&mut self.rest);
        if let Err(BatchError::Truncated { .. }) = batch {
            return None;
        }
        let batch = batch.and_then(|batch| match &mut self.rules {
            Some(rules) => rules.check(&batch).map(|()| batch),
            None => Ok(batch),
        });
        self.failed = batch.is_err();
        Some(batch)
    }
}

impl Rules {
    fn check(&mut self, batch: &Batch) -> Result<(), BatchError> {
        let header = &batch.header;
        let Offset(base_offset) = header.base_offset;
        batch.check_crc()?;
        if header.base_offset < self.next_offset {
            return Err(BatchError::OutOfOrder { base_offset, expected: self.next_offset.0 });
        }
        if header.leader_epoch < self.epoch {
            let (LeaderEpoch(epoch), LeaderEpoch(previous)) = (header.leader_epoch, self.epoch);
            return Err(BatchError::EpochFell { base_offset, epoch, previous });
        }
        *self = Self { next_offset: header.next_offset(), epoch: header.leader_epoch };
        Ok(())
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
