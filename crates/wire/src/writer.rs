//! A v2 batch made anew from records that were read: what compaction and a topic's own `compression.type` need. Nothing that
//! is mirrored comes here.
//!
//! As Kafka's `MemoryRecordsBuilder` does for `MemoryRecords.filterTo`: offsets, producer, epoch and kind of the batch stay
//! what they were, whichever records are left; so does its last offset, and with it the last sequence number.

use crate::batch::{Batch, BatchHeader, Compression, HEADER_BYTES, LOG_OVERHEAD_BYTES};
use crate::records::Record;
use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder;
use std::io::{Error, Result, Write};

/// What `snappy-java` (xerial) puts in front: magic, version 1, oldest compatible version 1.
const XERIAL_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Bytes of a block before it is compressed, as `SnappyOutputStream` cuts them.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
const COMPRESSION: i16 = 0x07;
const DELETE_HORIZON: i16 = 0x40;

/// Builds one batch. Memory: what is compressed of it, and one record.
pub struct BatchWriter {
    header: BatchHeader,
    delete_horizon: Option<i64>,
    max_timestamp: i64,
    records: Encoder,
    record: Vec<u8>,
}

enum Encoder {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Snappy { out: Vec<u8>, block: Vec<u8> },
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl BatchWriter {
    /// A batch in the place of `of`, without records yet. `level` is the codec's own, its default without one; lz4 has one
    /// level only. With `delete_horizon` (ms since 1970) its tombstones or its marker may go from then on (KIP-534).
    ///
    /// # Errors
    /// When the codec cannot be set up.
    pub fn new(of: &BatchHeader, codec: Compression, level: Option<i32>, delete_horizon: Option<i64>) -> Result<Self> {
        let mut header = *of;
        header.attributes &= !(COMPRESSION | DELETE_HORIZON);
        header.attributes |= codec as i16 | if delete_horizon.is_some() { DELETE_HORIZON } else { 0 };
        header.record_count = 0;
        header.base_timestamp = delete_horizon.unwrap_or(-1);
        let records = Encoder::new(codec, level)?;
        Ok(Self { header, delete_horizon, max_timestamp: -1, records, record: Vec::new() })
    }

    /// Adds a record at its own offset, which lies in the batch and above that of the record before.
    ///
    /// # Errors
    /// When the codec fails, or the record does not fit the batch.
    pub fn push(&mut self, record: &Record) -> Result<()> {
        if self.header.record_count == 0 && self.delete_horizon.is_none() {
            self.header.base_timestamp = record.timestamp;
        }
        let offset_delta = record.offset.0 - self.header.base_offset.0;
        if !(0..=i64::from(self.header.last_offset_delta)).contains(&offset_delta) {
            return Err(Error::other(format!("offset {} lies outside the batch", record.offset)));
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.header.record_count += 1;
        let body = &mut self.record;
        body.clear();
        body.push(0); // attributes
        varint(body, record.timestamp.wrapping_sub(self.header.base_timestamp));
        varint(body, offset_delta);
        field(body, record.key.as_deref());
        field(body, record.value.as_deref());
        varint(body, record.headers.len() as i64);
        for header in record.headers.clone() {
            field(body, Some(&header.key));
            field(body, header.value.as_deref());
        }
        let mut length = Vec::new();
        varint(&mut length, body.len() as i64);
        self.records.write_all(&length)?;
        self.records.write_all(&self.record)
    }

    /// The batch. Without records it is what compaction leaves to keep a sequence number (`writeEmptyHeader`).
    ///
    /// # Errors
    /// When the codec fails, or the batch exceeds 2 GiB.
    pub fn finish(self) -> Result<Batch> {
        let Self { mut header, records, max_timestamp, .. } = self;
        let body = if header.record_count == 0 { Vec::new() } else { records.finish()? };
        if header.record_count == 0 {
            header.attributes &= !(COMPRESSION | DELETE_HORIZON);
            header.base_timestamp = -1;
        } else if !header.is_log_append_time() {
            header.max_timestamp = max_timestamp;
        }
        Batch::seal(header, &body)
    }
}

impl Batch {
    /// A batch of `header` around `records`, which are encoded and compressed as it says. Its size and its CRC are set here.
    ///
    /// # Errors
    /// When it exceeds 2 GiB.
    pub fn seal(mut header: BatchHeader, records: &[u8]) -> Result<Self> {
        header.size_bytes = HEADER_BYTES + records.len();
        let length = i32::try_from(header.size_bytes - LOG_OVERHEAD_BYTES).map_err(Error::other)?;
        let mut checked = BytesMut::with_capacity(header.size_bytes);
        checked.put_i16(header.attributes);
        checked.put_i32(header.last_offset_delta);
        checked.put_i64(header.base_timestamp);
        checked.put_i64(header.max_timestamp);
        checked.put_i64(header.producer_id);
        checked.put_i16(header.producer_epoch);
        checked.put_i32(header.base_sequence);
        checked.put_i32(header.record_count);
        checked.put_slice(records);
        header.crc = crc32c::crc32c(&checked);
        let mut bytes = BytesMut::with_capacity(header.size_bytes);
        bytes.put_i64(header.base_offset.0);
        bytes.put_i32(length);
        bytes.put_i32(header.leader_epoch.0);
        bytes.put_u8(2);
        bytes.put_u32(header.crc);
        bytes.put_slice(&checked);
        Ok(Self { header, bytes: Bytes::from(bytes) })
    }
}

impl Encoder {
    fn new(codec: Compression, level: Option<i32>) -> Result<Self> {
        Ok(match codec {
            Compression::None => Self::Plain(Vec::new()),
            Compression::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok()).map(|level| level.min(9));
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                Self::Gzip(GzEncoder::new(Vec::new(), level))
            }
            Compression::Snappy => Self::Snappy { out: XERIAL_HEADER.to_vec(), block: Vec::new() },
            Compression::Lz4 => Self::Lz4(Box::new(FrameEncoder::new(Vec::new()))),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(Vec::new(), level.unwrap_or(3))?),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Plain(out) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::Gzip(out) => out.write_all(bytes),
            Self::Snappy { out, block } => {
                block.extend_from_slice(bytes);
                while block.len() >= SNAPPY_BLOCK_BYTES {
                    let rest = block.split_off(SNAPPY_BLOCK_BYTES);
                    snappy_block(out, block)?;
                    *block = rest;
                }
                Ok(())
            }
            Self::Lz4(out) => out.write_all(bytes),
            Self::Zstd(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(out) => out.finish(),
            Self::Snappy { mut out, block } => {
                if !block.is_empty() {
                    snappy_block(&mut out, &block)?;
                }
                Ok(out)
            }
            Self::Lz4(out) => out.finish().map_err(Error::other),
            Self::Zstd(out) => out.finish(),
        }
    }
}

fn snappy_block(out: &mut Vec<u8>, block: &[u8]) -> Result<()> {
    let block = snap::raw::Encoder::new().compress_vec(block)?;
    out.extend(u32::try_from(block.len()).map_err(Error::other)?.to_be_bytes());
    out.extend(block);
    Ok(())
}

fn varint(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        to.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

fn field(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint(to, -1),
        Some(bytes) => {
            varint(to, bytes.len() as i64);
            to.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{TestBatch, TestRecord};

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn sample() -> Batch {
        let mut batch = TestBatch { base_offset: 40, leader_epoch: 3, base_timestamp: 1000, ..TestBatch::default() };
        for number in 0..200_i32 {
            let value = vec![number as u8; number as usize * 7];
            let mut record = TestRecord::new(number, Some(b"key"), Some(&value));
            record.timestamp_delta = i64::from(number % 50) - 10;
            record.headers = vec![(b"h".to_vec(), None), (b"h".to_vec(), Some(b"2".to_vec()))];
            batch.records.push(record);
        }
        batch.max_timestamp = 1039;
        Batch::split_off(&mut batch.encode()).unwrap()
    }

    fn records(batch: &Batch) -> Vec<Record> {
        batch.check_crc().unwrap();
        batch.records(1 << 30).map(|record| record.unwrap()).collect()
    }

    #[test]
    fn records_come_back_from_every_codec() {
        let of = sample();
        let all = records(&of);
        for codec in CODECS {
            let mut writer = BatchWriter::new(&of.header, codec, None, None).unwrap();
            all.iter().for_each(|record| writer.push(record).unwrap());
            let made = writer.finish().unwrap();
            assert_eq!(made.header.compression(), Some(codec));
            assert_eq!(BatchHeader::parse(&made.bytes), Ok(made.header), "{codec:?}");
            assert_eq!((made.header.max_timestamp, made.header.base_timestamp), (1039, 990), "{codec:?}");
            assert_eq!(records(&made), all, "{codec:?}");
        }
    }

    #[test]
    fn what_is_left_keeps_its_place() {
        let of = sample();
        for codec in CODECS {
            let mut writer = BatchWriter::new(&of.header, codec, None, Some(77_000)).unwrap();
            let left: Vec<_> = records(&of).into_iter().filter(|record| record.offset.0 % 3 == 0).collect();
            left.iter().for_each(|record| writer.push(record).unwrap());
            let made = writer.finish().unwrap();
            assert_eq!(made.header.delete_horizon(), Some(77_000));
            assert_eq!(made.header.last_offset(), of.header.last_offset());
            assert_eq!(records(&made), left, "{codec:?}");
        }
        let empty = BatchWriter::new(&of.header, Compression::Gzip, None, Some(5)).unwrap().finish().unwrap();
        assert_eq!((empty.header.size_bytes, empty.header.record_count), (HEADER_BYTES, 0));
        assert_eq!((empty.header.attributes, empty.header.max_timestamp), (0, of.header.max_timestamp));
        assert_eq!(records(&empty), []);
    }

    #[test]
    fn a_record_from_elsewhere_is_refused() {
        let of = sample();
        let mut record = records(&of).remove(0);
        let mut writer = BatchWriter::new(&of.header, Compression::None, None, None).unwrap();
        for stranger in [39, 240] {
            record.offset.0 = stranger;
            writer.push(&record).unwrap_err();
        }
    }
}
