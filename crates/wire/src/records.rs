//! The records inside a v2 batch (KIP-98, `DefaultRecord`), decompressed as they are asked for.
//!
//! Mirroring never comes here: batches travel as they are. Searches by timestamp, `verify`, the consumer-side answers
//! about single records and the tests do. Reading may stop at any record; nothing behind it is decompressed then.

use crate::batch::{Batch, Compression, HEADER_BYTES};
use crate::decompress::Decompress;
use crate::types::Offset;
use bytes::{Buf, Bytes, BytesMut};
use std::io::Read;

/// Decompressed bytes are taken in steps of this many: a few dozen ordinary records, small enough to stop early.
const STEP_BYTES: usize = 16 * 1024;
/// Longest form of the length in front of a record.
const LENGTH_BYTES_MAX: usize = 5;

/// One record. Key, value and headers are slices of the batch, or of what was decompressed of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970: the producer's, or the broker's in a LogAppendTime batch. −1 when none was given.
    pub timestamp: i64,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; none in a tombstone.
    pub value: Option<Bytes>,
    /// The headers in their order, repeated keys included.
    pub headers: Headers,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its key: UTF-8 if the producer kept to the rules; nobody checks.
    pub key: Bytes,
    /// Its value, if any.
    pub value: Option<Bytes>,
}

/// The headers of a record, parsed as they are asked for; they were checked together with the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    left: usize,
    rest: Bytes,
}

/// Why the records of a batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A codec number that no Kafka writes.
    #[error("batch at offset {base_offset} has unknown compression {codec}")]
    UnknownCodec {
        /// Base offset of the batch.
        base_offset: i64,
        /// Bits 0-2 of its attributes.
        codec: i16,
    },
    /// The compressed bytes are not what the codec writes.
    #[error("batch at offset {base_offset} cannot be decompressed ({codec:?}): {reason}")]
    Decompress {
        /// Base offset of the batch.
        base_offset: i64,
        /// Its codec.
        codec: Compression,
        /// What the decoder says.
        reason: String,
    },
    /// More decompressed bytes than the caller allows.
    #[error("batch at offset {base_offset} decompresses to more than {output_bytes_max} bytes")]
    TooLarge {
        /// Base offset of the batch.
        base_offset: i64,
        /// The caller's limit.
        output_bytes_max: usize,
    },
    /// A record that contradicts itself or the batch's header.
    #[error("record {index} of the batch at offset {base_offset} is malformed: {what}")]
    Malformed {
        /// Base offset of the batch.
        base_offset: i64,
        /// How many records of the batch came before it.
        index: i32,
        /// The field and what is wrong with it.
        what: &'static str,
    },
}

/// The records of one batch, in order; ends after the first error.
///
/// Memory: the largest record, a step of [`STEP_BYTES`] and the codec's window (gzip 32 KiB, snappy one block, lz4 two
/// blocks of at most 4 MiB, zstd the frame's window of at most 128 MiB, of which only what was decompressed is
/// touched); never more than the caller's limit of decompressed bytes beyond that.
#[derive(Debug)]
pub struct Records {
    base_offset: Offset,
    last_offset: Offset,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
    count: i32,
    index: i32,
    next_offset: Offset,
    source: Source,
    failed: bool,
}

#[derive(Debug)]
enum Source {
    Plain(Bytes),
    Compressed(Box<Compressed>),
    Unknown(i16),
}

#[derive(Debug)]
struct Compressed {
    codec: Compression,
    from: Decompress,
    ready: BytesMut,
    output_bytes_left: usize,
    output_bytes_max: usize,
}

/// Errors before the batch and the record are named.
enum Fault {
    Malformed(&'static str),
    UnknownCodec(i16),
    Decompress(Compression, String),
    TooLarge(usize),
}

impl Batch {
    /// Reads the records of the batch; of a compressed one, at most `output_bytes_max` bytes are decompressed.
    /// The CRC is not looked at.
    pub fn records(&self, output_bytes_max: usize) -> Records {
        let body = self.bytes.slice(HEADER_BYTES.min(self.bytes.len())..);
        let source = match self.header.compression() {
            None => Source::Unknown(self.header.attributes & 0x07),
            Some(Compression::None) => Source::Plain(body),
            Some(codec) => Source::Compressed(Box::new(Compressed {
                codec,
                from: Decompress::new(codec, body, output_bytes_max),
                ready: BytesMut::new(),
                output_bytes_left: output_bytes_max,
                output_bytes_max,
            })),
        };
        Records {
            base_offset: self.header.base_offset,
            last_offset: self.header.last_offset(),
            base_timestamp: self.header.base_timestamp,
            append_timestamp: self.header.is_log_append_time().then_some(self.header.max_timestamp),
            count: self.header.record_count,
            index: 0,
            next_offset: self.header.base_offset,
            source,
            failed: false,
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = if self.index < self.count { self.record().map(Some) } else { self.end().map(|()| None) };
        record
            .map_err(|fault| {
                self.failed = true;
                self.name(fault)
            })
            .transpose()
    }
}

impl Records {
    fn record(&mut self) -> Result<Record, Fault> {
        let body = self.source.record()?;
        let mut at = Cursor { bytes: &body, at: 0 };
        let _attributes = at.byte()?;
        let timestamp_delta = at.varlong()?;
        let offset_delta = at.varint()?;
        let key = at.field()?;
        let value = at.field()?;
        let header_count = usize::try_from(at.varint()?).map_err(|_| Fault::Malformed("negative header count"))?;
        let headers = Headers { left: header_count, rest: body.slice(at.at..) };
        for _ in 0..header_count {
            at.field()?.ok_or(Fault::Malformed("header without a key"))?;
            at.field()?;
        }
        if at.at != body.len() {
            return Err(Fault::Malformed("bytes behind the last header"));
        }
        let offset = Offset(self.base_offset.0.saturating_add(offset_delta.into()));
        if offset < self.next_offset || offset > self.last_offset {
            return Err(Fault::Malformed("offset out of order or beyond the batch"));
        }
        self.next_offset = Offset(offset.0.saturating_add(1));
        self.index += 1;
        // Java adds with wrap-around; a batch without timestamps has −1 for a base.
        let timestamp = self.append_timestamp.unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta));
        let slice = |range: Option<(usize, usize)>| range.map(|(from, to)| body.slice(from..to));
        Ok(Record { offset, timestamp, key: slice(key), value: slice(value), headers })
    }

    fn end(&mut self) -> Result<(), Fault> {
        if self.source.is_exhausted()? { Ok(()) } else { Err(Fault::Malformed("more records than the header says")) }
    }

    #[cold]
    fn name(&self, fault: Fault) -> RecordError {
        let Self { base_offset: Offset(base_offset), index, .. } = *self;
        match fault {
            Fault::Malformed(what) => RecordError::Malformed { base_offset, index, what },
            Fault::UnknownCodec(codec) => RecordError::UnknownCodec { base_offset, codec },
            Fault::Decompress(codec, reason) => RecordError::Decompress { base_offset, codec, reason },
            Fault::TooLarge(output_bytes_max) => RecordError::TooLarge { base_offset, output_bytes_max },
        }
    }
}

impl Source {
    /// The bytes of the next record, without the length in front of it.
    fn record(&mut self) -> Result<Bytes, Fault> {
        match self {
            Self::Plain(rest) => {
                let (length, from) = record_length(rest)?;
                let to = from.checked_add(length).filter(|to| *to <= rest.len());
                let to = to.ok_or(Fault::Malformed("record exceeds the batch"))?;
                Ok(rest.split_to(to).slice(from..))
            }
            Self::Compressed(compressed) => {
                compressed.fill(LENGTH_BYTES_MAX)?;
                let (length, from) = record_length(&compressed.ready)?;
                compressed.ready.advance(from);
                compressed.fill(length)?;
                if compressed.ready.len() < length {
                    return Err(Fault::Malformed("record exceeds the batch"));
                }
                Ok(compressed.ready.split_to(length).freeze())
            }
            Self::Unknown(codec) => Err(Fault::UnknownCodec(*codec)),
        }
    }

    fn is_exhausted(&mut self) -> Result<bool, Fault> {
        match self {
            Self::Plain(rest) => Ok(rest.is_empty()),
            Self::Compressed(compressed) => {
                compressed.fill(1)?;
                Ok(compressed.ready.is_empty())
            }
            Self::Unknown(_) => Ok(true),
        }
    }
}

impl Compressed {
    /// Decompresses until `bytes` are ready or the stream ends. Grows only by what really came out.
    fn fill(&mut self, bytes: usize) -> Result<(), Fault> {
        while self.ready.len() < bytes {
            let have = self.ready.len();
            // One byte more than is allowed: whoever can give it breaks the limit.
            let step = STEP_BYTES.min(self.output_bytes_left.saturating_add(1));
            self.ready.resize(have + step, 0);
            let read = self.from.read(self.ready.get_mut(have..).unwrap_or_default());
            let read = read.map_err(|error| Fault::Decompress(self.codec, error.to_string()));
            self.ready.truncate(have + *read.as_ref().unwrap_or(&0));
            let read = read?;
            if read == 0 {
                return Ok(());
            }
            let left = self.output_bytes_left.checked_sub(read);
            self.output_bytes_left = left.ok_or(Fault::TooLarge(self.output_bytes_max))?;
        }
        Ok(())
    }
}

impl Iterator for Headers {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        self.left = self.left.checked_sub(1)?;
        let mut at = Cursor { bytes: &self.rest, at: 0 };
        let (Ok(Some(key)), Ok(value)) = (at.field(), at.field()) else { return None };
        let end = at.at;
        let slice = |(from, to)| self.rest.slice(from..to);
        let header = Header { key: slice(key), value: value.map(slice) };
        self.rest.advance(end);
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers {}

fn record_length(bytes: &[u8]) -> Result<(usize, usize), Fault> {
    let mut at = Cursor { bytes, at: 0 };
    let length = at.varint()?;
    let length = usize::try_from(length).map_err(|_| Fault::Malformed("negative length"))?;
    Ok((length, at.at))
}

/// A position in the bytes of a record.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Malformed("cut off"))?;
        self.at += 1;
        Ok(byte)
    }

    /// A length (−1 for null) and as many bytes, as a range.
    fn field(&mut self) -> Result<Option<(usize, usize)>, Fault> {
        let length = match self.varint()? {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| Fault::Malformed("negative length"))?,
        };
        let from = self.at;
        let to = from.checked_add(length).filter(|to| *to <= self.bytes.len());
        self.at = to.ok_or(Fault::Malformed("length exceeds the record"))?;
        Ok(Some((from, self.at)))
    }

    fn varint(&mut self) -> Result<i32, Fault> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Fault::Malformed("varint exceeds 32 bits"))
    }

    fn varlong(&mut self) -> Result<i64, Fault> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Fault::Malformed("varint exceeds 64 bits"))
    }
}

#[cfg(test)]
mod tests;
