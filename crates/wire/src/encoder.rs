//! A small encoder of record batches, for this crate's tests only. `testkit` has the full builder.

use crate::batch::{Compression, HEADER_BYTES};
use bytes::{BufMut, Bytes, BytesMut};
use std::io::Write;

pub(crate) type Field<'a> = Option<&'a [u8]>;

/// A batch to be: `Batch::default()` is data, uncompressed, without a producer.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestBatch {
    pub(crate) base_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// Offset delta, timestamp delta and the rest of each record.
    pub(crate) records: Vec<TestRecord>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TestRecord {
    pub(crate) offset_delta: i32,
    pub(crate) timestamp_delta: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl TestBatch {
    pub(crate) fn compressed(mut self, codec: Compression) -> Self {
        self.attributes |= codec as i16;
        self
    }

    pub(crate) fn plain_records(&self) -> Vec<u8> {
        self.records.iter().flat_map(TestRecord::encode).collect()
    }

    pub(crate) fn encode(&self) -> Bytes {
        let plain = self.plain_records();
        let body = match self.attributes & 7 {
            1 => gzip(&plain),
            2 => xerial(&plain, 300),
            3 => lz4(&plain),
            4 => zstd::encode_all(plain.as_slice(), 3).unwrap(),
            _ => plain,
        };
        self.around(&body)
    }

    /// The batch with a body of any kind, CRC fitting.
    pub(crate) fn around(&self, body: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i64(self.base_offset);
        bytes.put_i32(i32::try_from(HEADER_BYTES - 12 + body.len()).unwrap());
        bytes.put_i32(self.leader_epoch);
        bytes.put_i8(2);
        bytes.put_u32(0);
        bytes.put_i16(self.attributes);
        bytes.put_i32(self.records.last().map_or(0, |record| record.offset_delta));
        bytes.put_i64(self.base_timestamp);
        bytes.put_i64(self.max_timestamp);
        bytes.put_i64(-1);
        bytes.put_i16(-1);
        bytes.put_i32(-1);
        bytes.put_i32(i32::try_from(self.records.len()).unwrap());
        bytes.put_slice(body);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }
}

impl TestRecord {
    pub(crate) fn new(offset_delta: i32, key: Field<'_>, value: Field<'_>) -> Self {
        Self { offset_delta, key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), ..Self::default() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = vec![0];
        varint(&mut body, self.timestamp_delta);
        varint(&mut body, self.offset_delta.into());
        field(&mut body, self.key.as_deref());
        field(&mut body, self.value.as_deref());
        varint(&mut body, i64::try_from(self.headers.len()).unwrap());
        for (key, value) in &self.headers {
            field(&mut body, Some(key));
            field(&mut body, value.as_deref());
        }
        let mut record = Vec::new();
        varint(&mut record, i64::try_from(body.len()).unwrap());
        record.extend(body);
        record
    }
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(plain).unwrap();
    to.finish().unwrap()
}

pub(crate) fn xerial(plain: &[u8], block_bytes: usize) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in plain.chunks(block_bytes) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        out.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend(block);
    }
    out
}

pub(crate) fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut to = lz4_flex::frame::FrameEncoder::new(Vec::new());
    to.write_all(plain).unwrap();
    to.finish().unwrap()
}

pub(crate) fn varint(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        to.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

fn field(to: &mut Vec<u8>, bytes: Field<'_>) {
    match bytes {
        None => varint(to, -1),
        Some(bytes) => {
            varint(to, i64::try_from(bytes.len()).unwrap());
            to.extend(bytes);
        }
    }
}
