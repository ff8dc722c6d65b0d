//! v2 record batches made by hand, written from the format's description (KIP-98) and not with Hawser's own code,
//! so that the two can be held against each other.
//!
//! ```
//! use hawser_testkit::batches::{BatchBuilder, Codec, Record};
//! let batch = BatchBuilder::at(42).epoch(3).codec(Codec::Zstd).record(Record::value("hello")).build();
//! assert_eq!(batch[..8], 42_i64.to_be_bytes());
//! ```

use bytes::Bytes;
use std::io::Write;

/// How the records of a batch are compressed (attributes, bits 0 to 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    fn compress(self, records: &[u8]) -> Vec<u8> {
        match self {
            Self::None => records.to_vec(),
            Self::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                out.write_all(records).and_then(|()| out.finish()).expect("gzip into memory")
            }
            Self::Snappy => xerial(records),
            Self::Lz4 => {
                let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
                out.write_all(records).expect("lz4 into memory");
                out.finish().expect("lz4 into memory")
            }
            Self::Zstd => zstd::encode_all(records, 3).expect("zstd into memory"),
        }
    }
}

/// One record of a batch.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Offset minus base offset; `None` continues after the record before.
    pub offset_delta: Option<i32>,
    /// The key, `None` for null.
    pub key: Option<Bytes>,
    /// The value, `None` for null (a tombstone).
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl Record {
    /// A record without key.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with key and value.
    pub fn keyed(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    /// A record that deletes `key`.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(Bytes::copy_from_slice)));
        self
    }

    /// Sets the offset inside the batch, to leave a gap as compaction does.
    pub fn at_delta(mut self, delta: i32) -> Self {
        self.offset_delta = Some(delta);
        self
    }
}

/// Builds one batch; every field can be set, also to nonsense.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: i64,
    leader_epoch: i32,
    codec: Codec,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: Option<i64>,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    last_offset_delta: Option<i32>,
    records: Vec<Record>,
}

impl BatchBuilder {
    /// An empty, uncompressed batch of epoch 0 and no producer, based at `offset`.
    pub fn at(offset: i64) -> Self {
        Self {
            base_offset: offset,
            leader_epoch: 0,
            codec: Codec::None,
            attributes: 0,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            last_offset_delta: None,
            records: Vec::new(),
        }
    }

    /// A commit or abort marker of `producer_id`, as a transaction coordinator writes it.
    pub fn marker(offset: i64, producer_id: i64, producer_epoch: i16, commit: bool) -> Self {
        let key = [0_i16.to_be_bytes(), i16::from(commit).to_be_bytes()].concat();
        let value = [&0_i16.to_be_bytes()[..], &0_i32.to_be_bytes()].concat();
        let mut marker = Self::at(offset).transactional(producer_id, producer_epoch, -1);
        marker.attributes |= 0x20;
        marker.record(Record::keyed(key, value))
    }

    /// Sets the leader epoch.
    pub fn epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Sets the codec.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the base timestamp in ms since 1970.
    pub fn timestamp(mut self, base_timestamp: i64) -> Self {
        self.base_timestamp = base_timestamp;
        self
    }

    /// Marks it as stamped by the broker at `max_timestamp`.
    pub fn log_append_time(mut self, max_timestamp: i64) -> Self {
        self.attributes |= 0x08;
        self.max_timestamp = Some(max_timestamp);
        self
    }

    /// Sets an idempotent producer.
    pub fn idempotent(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (producer_id, producer_epoch, base_sequence);
        self
    }

    /// Sets a transactional producer.
    pub fn transactional(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.attributes |= 0x10;
        self.idempotent(producer_id, producer_epoch, base_sequence)
    }

    /// Adds a record.
    pub fn record(mut self, record: Record) -> Self {
        self.records.push(record);
        self
    }

    /// Adds `count` records of `value_bytes` each, told apart by their first bytes.
    pub fn records(mut self, count: usize, value_bytes: usize) -> Self {
        for _ in 0..count {
            let mut value = vec![b'.'; value_bytes];
            let number = format!("{:08}", self.base_offset + self.records.len() as i64);
            let shown = number.len().min(value_bytes);
            value[..shown].copy_from_slice(&number.as_bytes()[..shown]);
            self.records.push(Record::value(value));
        }
        self
    }

    /// Sets the last offset beyond the last record: what compaction leaves behind when it removes the tail.
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = Some(delta);
        self
    }

    /// The offset that follows the batch.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_delta()) + 1
    }

    /// The bytes, CRC included.
    pub fn build(&self) -> Bytes {
        let mut records = Vec::new();
        let mut next_delta = 0;
        for record in &self.records {
            let delta = record.offset_delta.unwrap_or(next_delta);
            next_delta = delta + 1;
            encode_record(&mut records, record, delta);
        }
        let latest = self.records.iter().map(|r| r.timestamp_delta).max().unwrap_or(0);
        let mut checked = Vec::new();
        checked.extend((self.attributes | self.codec as i16).to_be_bytes());
        checked.extend(self.last_delta().to_be_bytes());
        checked.extend(self.base_timestamp.to_be_bytes());
        checked.extend(self.max_timestamp.unwrap_or(self.base_timestamp + latest).to_be_bytes());
        checked.extend(self.producer_id.to_be_bytes());
        checked.extend(self.producer_epoch.to_be_bytes());
        checked.extend(self.base_sequence.to_be_bytes());
        checked.extend((self.records.len() as i32).to_be_bytes());
        checked.extend(self.codec.compress(&records));

        let mut batch = Vec::new();
        batch.extend(self.base_offset.to_be_bytes());
        batch.extend((checked.len() as i32 + 9).to_be_bytes());
        batch.extend(self.leader_epoch.to_be_bytes());
        batch.push(2);
        batch.extend(crc32c::crc32c(&checked).to_be_bytes());
        batch.extend(checked);
        batch.into()
    }

    fn last_delta(&self) -> i32 {
        let by_records = self.records.iter().fold(-1, |last, r| r.offset_delta.unwrap_or(last + 1));
        self.last_offset_delta.unwrap_or(by_records.max(0))
    }
}

fn encode_record(out: &mut Vec<u8>, record: &Record, offset_delta: i32) {
    let mut body = vec![0];
    varint(&mut body, record.timestamp_delta);
    varint(&mut body, offset_delta.into());
    field(&mut body, record.key.as_deref());
    field(&mut body, record.value.as_deref());
    varint(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        field(&mut body, Some(name.as_bytes()));
        field(&mut body, value.as_deref());
    }
    varint(out, body.len() as i64);
    out.extend(body);
}

fn field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint(out, bytes.map_or(-1, |b| b.len() as i64));
    out.extend(bytes.unwrap_or_default());
}

/// Zigzag, then seven bits a byte, lowest first.
fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// snappy-java's stream: a magic, version and compatible version 1, then blocks with their lengths in front.
fn xerial(records: &[u8]) -> Vec<u8> {
    const BLOCK_BYTES: usize = 32 * 1024;
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in records.chunks(BLOCK_BYTES) {
        let packed = snap::raw::Encoder::new().compress_vec(block).expect("snappy into memory");
        out.extend((packed.len() as i32).to_be_bytes());
        out.extend(packed);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_kip_98() {
        // One record "a" at offset 0, checked field by field against the layout of KIP-98.
        let batch = BatchBuilder::at(0).record(Record::value("a")).build();
        assert_eq!(batch.len(), 61 + 8);
        assert_eq!(batch[8..12], 57_i32.to_be_bytes());
        assert_eq!(batch[61..], [14, 0, 0, 0, 1, 2, b'a', 0]);
        assert_eq!(batch[17..21], crc32c::crc32c(&batch[21..]).to_be_bytes());
    }

    #[test]
    fn offsets_follow_records_gaps_and_removed_tails() {
        let gaps = BatchBuilder::at(10).record(Record::value("x").at_delta(2)).record(Record::value("y"));
        assert_eq!(gaps.next_offset(), 14);
        assert_eq!(gaps.clone().last_offset_delta(9).next_offset(), 20);
        assert_eq!(BatchBuilder::at(5).last_offset_delta(4).next_offset(), 10);
        assert_eq!(BatchBuilder::marker(7, 1, 0, true).next_offset(), 8);
    }

    #[test]
    fn every_codec_round_trips() {
        let plain = BatchBuilder::at(0).records(100, 700).build();
        for codec in Codec::ALL {
            let batch = BatchBuilder::at(0).codec(codec).records(100, 700).build();
            let packed = &batch[61..];
            let records = match codec {
                Codec::None => packed.to_vec(),
                Codec::Gzip => {
                    let mut out = Vec::new();
                    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut out).unwrap();
                    out
                }
                Codec::Snappy => {
                    let (mut rest, mut out) = (&packed[16..], Vec::new());
                    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
                        let (block, tail) = tail.split_at(i32::from_be_bytes(*length) as usize);
                        out.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
                        rest = tail;
                    }
                    out
                }
                Codec::Lz4 => {
                    let mut out = Vec::new();
                    std::io::copy(&mut lz4_flex::frame::FrameDecoder::new(packed), &mut out).unwrap();
                    out
                }
                Codec::Zstd => zstd::decode_all(packed).unwrap(),
            };
            assert_eq!(records, plain[61..], "{codec:?}");
            assert_eq!(batch[22], codec as u8);
        }
    }
}
