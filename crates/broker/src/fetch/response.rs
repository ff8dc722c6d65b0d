//! The Fetch response, versions 4 to 18, written by hand because `kafka-protocol` would copy the records: heads go into
//! one buffer, record slices between its pieces. That these are the bytes that `kafka-protocol` would write is a test.

use super::sessions::{TopicKey, Want};
use crate::partitions::Partition;
use bytes::{BufMut, Bytes, BytesMut};
use hawser_log::AbortedTransaction;
use hawser_wire::{DecodeError, ResponseError};

/// Record sets up to this size are copied into the head: cheaper than a slice of their own.
pub(super) const COPY_BYTES_MAX: usize = 512;
const FLEXIBLE: i16 = 12;
const TOPIC_IDS: i16 = 13;

pub(super) struct TopicAnswer {
    pub(super) key: TopicKey,
    pub(super) partitions: Vec<PartitionAnswer>,
}

#[derive(Clone, Debug)]
pub(super) struct PartitionAnswer {
    pub(super) index: i32,
    pub(super) error: i16,
    pub(super) high_watermark: i64,
    pub(super) last_stable: i64,
    pub(super) log_start: i64,
    /// Epoch and end offset (KIP-595).
    pub(super) diverging: Option<(i32, i64)>,
    /// Null unless read_committed.
    pub(super) aborted: Option<Vec<AbortedTransaction>>,
    pub(super) records: Bytes,
}

impl PartitionAnswer {
    pub(super) fn of(want: &Want, partition: &Partition) -> Self {
        Self {
            index: want.partition,
            error: 0,
            high_watermark: partition.marks.high_watermark.0,
            last_stable: partition.marks.last_stable.0,
            log_start: partition.marks.log_start.0,
            diverging: None,
            aborted: None,
            records: Bytes::new(),
        }
    }

    pub(super) fn refused(want: &Want, error: ResponseError) -> Self {
        Self {
            index: want.partition,
            error: error.code(),
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            diverging: None,
            aborted: None,
            records: Bytes::new(),
        }
    }
}

/// The whole frame, length prefix included.
///
/// # Errors
/// When it would exceed 2 GiB.
pub(super) fn encode(
    version: i16,
    correlation_id: i32,
    error: i16,
    session_id: i32,
    topics: &[TopicAnswer],
) -> Result<Vec<Bytes>, DecodeError> {
    let mut out = Slices::default();
    out.buffer.put_i32(correlation_id);
    out.no_tags(version);
    // Throttle time.
    out.buffer.put_i32(0);
    if version >= 7 {
        out.buffer.put_i16(error);
        out.buffer.put_i32(session_id);
    }
    out.count(version, Some(topics.len()));
    for topic in topics {
        if version >= TOPIC_IDS {
            out.buffer.put_slice(topic.key.id.as_bytes());
        } else {
            out.name(version, &topic.key.name);
        }
        out.count(version, Some(topic.partitions.len()));
        for partition in &topic.partitions {
            out.partition(version, partition);
        }
        out.no_tags(version);
    }
    out.no_tags(version);
    out.finish()
}

/// Bytes in all slices.
pub(crate) fn total_bytes(slices: &[Bytes]) -> usize {
    slices.iter().map(Bytes::len).sum()
}

#[derive(Default)]
struct Slices {
    done: Vec<Bytes>,
    buffer: BytesMut,
}

impl Slices {
    fn partition(&mut self, version: i16, answer: &PartitionAnswer) {
        self.buffer.put_i32(answer.index);
        self.buffer.put_i16(answer.error);
        self.buffer.put_i64(answer.high_watermark);
        self.buffer.put_i64(answer.last_stable);
        if version >= 5 {
            self.buffer.put_i64(answer.log_start);
        }
        self.count(version, answer.aborted.as_ref().map(Vec::len));
        for transaction in answer.aborted.iter().flatten() {
            self.buffer.put_i64(transaction.producer_id);
            self.buffer.put_i64(transaction.first_offset.0);
            self.no_tags(version);
        }
        if version >= 11 {
            // Preferred read replica: this one.
            self.buffer.put_i32(-1);
        }
        self.count(version, Some(answer.records.len()));
        if answer.records.len() <= COPY_BYTES_MAX {
            self.buffer.put_slice(&answer.records);
        } else {
            self.done.push(self.buffer.split().freeze());
            self.done.push(answer.records.clone());
        }
        self.partition_tags(version, answer);
    }

    /// Tag 0 is the diverging epoch: tag, size, fields, its own empty tags.
    fn partition_tags(&mut self, version: i16, answer: &PartitionAnswer) {
        match answer.diverging {
            Some((epoch, end_offset)) if version >= FLEXIBLE => {
                self.buffer.put_slice(&[1, 0, 13]);
                self.buffer.put_i32(epoch);
                self.buffer.put_i64(end_offset);
                self.buffer.put_u8(0);
            }
            _ => self.no_tags(version),
        }
    }

    /// A length or count, which may be null; compact from the first flexible version on.
    fn count(&mut self, version: i16, count: Option<usize>) {
        if version >= FLEXIBLE {
            let mut rest = count.map_or(0, |count| count.saturating_add(1));
            while rest >= 0x80 {
                self.buffer.put_u8((rest & 0x7f) as u8 | 0x80);
                rest >>= 7;
            }
            self.buffer.put_u8(rest as u8);
        } else {
            self.buffer.put_i32(count.map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX)));
        }
    }

    fn name(&mut self, version: i16, name: &str) {
        if version >= FLEXIBLE {
            self.count(version, Some(name.len()));
        } else {
            self.buffer.put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
        }
        self.buffer.put_slice(name.as_bytes());
    }

    fn no_tags(&mut self, version: i16) {
        if version >= FLEXIBLE {
            self.buffer.put_u8(0);
        }
    }

    fn finish(mut self) -> Result<Vec<Bytes>, DecodeError> {
        self.done.push(self.buffer.freeze());
        let length = i32::try_from(total_bytes(&self.done)).map_err(|_| DecodeError::Malformed {
            what: "fetch response".into(),
            at: 0,
            reason: "exceeds 2 GiB".into(),
        })?;
        self.done.insert(0, Bytes::copy_from_slice(&length.to_be_bytes()));
        Ok(self.done)
    }
}
