//! What a leader takes from a producer, and the batch it makes of it (Kafka's `UnifiedLog.analyzeAndValidateRecords`,
//! `LogValidator`, `ProduceRequest.validateRecords`).
//!
//! Pure: bytes and rules in, a batch without its offsets out. The records stay the bytes they are, unless the topic has a
//! codec of its own; they are read through once all the same, so that no consumer ever meets a batch that cannot be read.

use crate::topic_config::TopicConfig;
use bytes::{Bytes, BytesMut};
use hawser_wire::{Batch, BatchError, BatchHeader, BatchWriter, Compression, LeaderEpoch, Offset, Record};

/// A batch may decompress to so many times `max.message.bytes`, or a MiB if that is less. Kafka has no bound; this one keeps
/// a small request from taking a second of work and the memory of its largest record.
const EXPANSION_MAX: usize = 128;
const EXPANDED_FROM_BYTES_MIN: usize = 1024 * 1024;
/// Most bad records of a batch that are told of.
const BAD_RECORDS_MAX: usize = 32;
const LOG_APPEND_TIME: i16 = 0x08;

/// Why a leader did not append what a producer sent. Each says which Kafka error the producer gets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaderAppendError {
    /// The partition is a mirror, or nobody leads it yet: `NOT_LEADER_OR_FOLLOWER`.
    #[error("the partition is not led here")]
    NotLeader,
    /// The records are cut off or their checksum does not fit: `CORRUPT_MESSAGE`.
    #[error("{0}")]
    Corrupt(BatchError),
    /// Not one well-formed v2 data batch: `INVALID_RECORD`.
    #[error("{0}")]
    InvalidBatch(String),
    /// Records that this topic does not take; the batch is refused as a whole: `INVALID_RECORD`.
    #[error("one or more records have been rejected: {}", reasons(.0))]
    InvalidRecords(Vec<BadRecord>),
    /// Records with timestamps out of range: `INVALID_TIMESTAMP`.
    #[error("one or more records have been rejected due to invalid timestamp: {}", reasons(.0))]
    InvalidTimestamps(Vec<BadRecord>),
    /// A codec that no Kafka has: `UNSUPPORTED_COMPRESSION_TYPE`.
    #[error("the batch has unknown compression {0}")]
    UnknownCompression(i16),
    /// Above `max.message.bytes`: `MESSAGE_TOO_LARGE`.
    #[error("the record batch has {bytes} bytes, above max.message.bytes ({max})")]
    BatchTooLarge {
        /// Its size.
        bytes: usize,
        /// The topic's bound.
        max: usize,
    },
    /// Above `segment.bytes`: `RECORD_LIST_TOO_LARGE`.
    #[error("the record batch has {bytes} bytes, above segment.bytes ({max})")]
    LargerThanSegment {
        /// Its size.
        bytes: usize,
        /// The topic's bound.
        max: u64,
    },
    /// The batch is transactional, and there is no transaction coordinator here: `INVALID_TXN_STATE`.
    #[error("transactional producers are not supported yet: produce without transactional.id")]
    Transactional,
    /// The batch does not continue what its producer wrote: `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("out of order sequence number of producer {producer_id}: {sequence} after {last_sequence}")]
    OutOfOrderSequence {
        /// Who sent it.
        producer_id: i64,
        /// First sequence number of the batch.
        sequence: i32,
        /// Last one that was appended, −1 for none.
        last_sequence: i32,
    },
    /// A newer producer of the same id has written: `INVALID_PRODUCER_EPOCH`.
    #[error("epoch {epoch} of producer {producer_id} is older than {known}")]
    InvalidProducerEpoch {
        /// Who sent it.
        producer_id: i64,
        /// The batch's epoch.
        epoch: i16,
        /// The one that wrote last.
        known: i16,
    },
    /// The log failed: `KAFKA_STORAGE_ERROR`. Nothing was appended.
    #[error(transparent)]
    Log(#[from] crate::Error),
}

/// A record that is not taken: `ProduceResponse`'s `BatchIndexAndErrorMessage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// What is wrong with it.
    pub reason: String,
}

/// A batch that may be appended; it lacks its offsets and the leader epoch.
#[derive(Debug)]
pub(crate) struct Valid {
    header: BatchHeader,
    bytes: BytesMut,
}

impl Valid {
    pub(crate) fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch as it is appended at `base`. The CRC covers neither of the two.
    pub(crate) fn at(mut self, base: Offset, epoch: LeaderEpoch) -> Batch {
        self.header.base_offset = base;
        self.header.leader_epoch = epoch;
        put(&mut self.bytes, 0, base.0.to_be_bytes());
        put(&mut self.bytes, 12, epoch.0.to_be_bytes());
        Batch { header: self.header, bytes: self.bytes.freeze() }
    }
}

/// Checks `records`, one batch as a Produce request carries it for one partition.
pub(crate) fn validate(mut records: Bytes, config: &TopicConfig, now_ms: i64) -> Result<Valid, LeaderAppendError> {
    let invalid = |reason: &str| LeaderAppendError::InvalidBatch(reason.to_owned());
    if records.is_empty() {
        return Err(invalid("the records hold no batch at all"));
    }
    let batch = Batch::split_off(&mut records).map_err(|error| match error {
        BatchError::Truncated { .. } => LeaderAppendError::Corrupt(error),
        other => LeaderAppendError::InvalidBatch(other.to_string()),
    })?;
    if !records.is_empty() {
        return Err(invalid("the records of a partition must be exactly one batch"));
    }
    let header = batch.header;
    if header.base_offset != Offset(0) {
        return Err(LeaderAppendError::InvalidBatch(format!("base offset must be 0, not {}", header.base_offset)));
    }
    let (bytes, max) = (header.size_bytes, config.max_message_bytes);
    if bytes > max {
        return Err(LeaderAppendError::BatchTooLarge { bytes, max });
    }
    batch.check_crc().map_err(LeaderAppendError::Corrupt)?;
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        let (count, delta) = (header.record_count, header.last_offset_delta);
        return Err(LeaderAppendError::InvalidBatch(format!("{count} records, but last offset delta {delta}")));
    }
    if header.is_control() {
        return Err(invalid("clients may not write control records"));
    }
    if header.has_producer() && header.base_sequence < 0 {
        return Err(LeaderAppendError::InvalidBatch(format!("invalid sequence number {}", header.base_sequence)));
    }
    if header.is_transactional() {
        return Err(LeaderAppendError::Transactional);
    }
    if header.compression().is_none() {
        return Err(LeaderAppendError::UnknownCompression(header.attributes & 0x07));
    }
    if header.is_log_append_time() {
        return Err(LeaderAppendError::InvalidTimestamps(vec![BadRecord {
            index: 0,
            reason: "only the broker may set the timestamp type to LogAppendTime".into(),
        }]));
    }
    let max_timestamp = check_records(&batch, config, now_ms)?;
    let batch = match config.compression {
        Some(codec) if header.compression() != Some(codec) => recompressed(&batch, codec, config)?,
        _ => batch,
    };
    let valid = stamped(batch, config, max_timestamp, now_ms);
    let bytes = valid.header.size_bytes;
    if bytes as u64 > config.segment_bytes {
        return Err(LeaderAppendError::LargerThanSegment { bytes, max: config.segment_bytes });
    }
    Ok(valid)
}

/// The batch in the topic's own `compression.type` (`LogValidator.buildRecordsAndAssignOffsets`).
fn recompressed(batch: &Batch, codec: Compression, config: &TopicConfig) -> Result<Batch, LeaderAppendError> {
    let failed = |error: std::io::Error| LeaderAppendError::InvalidBatch(format!("recompress the batch: {error}"));
    let mut writer = BatchWriter::new(&batch.header, codec, config.compression_level, None).map_err(failed)?;
    for record in batch.records(output_bytes_max(config)) {
        writer.push(&record.map_err(|error| LeaderAppendError::InvalidBatch(error.to_string()))?).map_err(failed)?;
    }
    let made = writer.finish().map_err(failed)?;
    match (made.header.size_bytes, config.max_message_bytes) {
        (bytes, max) if bytes > max => Err(LeaderAppendError::BatchTooLarge { bytes, max }),
        _ => Ok(made),
    }
}

fn output_bytes_max(config: &TopicConfig) -> usize {
    EXPANSION_MAX.saturating_mul(config.max_message_bytes.max(EXPANDED_FROM_BYTES_MIN))
}

/// Reads every record; the largest timestamp.
fn check_records(batch: &Batch, config: &TopicConfig, now_ms: i64) -> Result<i64, LeaderAppendError> {
    let mut max_timestamp = -1;
    let (mut keyless, mut untimely) = (Vec::new(), Vec::new());
    for (index, record) in (0..).zip(batch.records(output_bytes_max(config))) {
        let record = record.map_err(|error| LeaderAppendError::InvalidBatch(error.to_string()))?;
        max_timestamp = max_timestamp.max(record.timestamp);
        if config.compact && record.key.is_none() && keyless.len() < BAD_RECORDS_MAX {
            keyless.push(BadRecord { index, reason: "a compacted topic takes no message without a key".into() });
        }
        if !is_timely(&record, config, now_ms) && untimely.len() < BAD_RECORDS_MAX {
            let (from, to) = (
                now_ms.saturating_sub(config.timestamp_before_max_ms),
                now_ms.saturating_add(config.timestamp_after_max_ms),
            );
            let reason = format!("timestamp {} is out of range: it should be within [{from}, {to}]", record.timestamp);
            untimely.push(BadRecord { index, reason });
        }
    }
    if !untimely.is_empty() {
        return Err(LeaderAppendError::InvalidTimestamps(untimely));
    }
    if !keyless.is_empty() {
        return Err(LeaderAppendError::InvalidRecords(keyless));
    }
    Ok(max_timestamp)
}

/// `LogValidator.recordHasInvalidTimestamp`.
fn is_timely(record: &Record, config: &TopicConfig, now_ms: i64) -> bool {
    if config.log_append_time || record.timestamp == -1 {
        return true;
    }
    let age = now_ms.saturating_sub(record.timestamp);
    age <= config.timestamp_before_max_ms && age.saturating_neg() <= config.timestamp_after_max_ms
}

/// The batch with the timestamp type and largest timestamp that it has in the log (`DefaultRecordBatch.setMaxTimestamp`).
fn stamped(batch: Batch, config: &TopicConfig, max_timestamp: i64, now_ms: i64) -> Valid {
    let Batch { mut header, bytes } = batch;
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    let (attributes, max_timestamp) = match config.log_append_time {
        true => (header.attributes | LOG_APPEND_TIME, now_ms),
        false => (header.attributes, max_timestamp),
    };
    if (attributes, max_timestamp) != (header.attributes, header.max_timestamp) {
        (header.attributes, header.max_timestamp) = (attributes, max_timestamp);
        put(&mut bytes, 21, attributes.to_be_bytes());
        put(&mut bytes, 35, max_timestamp.to_be_bytes());
        header.crc = crc32c::crc32c(bytes.get(21..).unwrap_or_default());
        put(&mut bytes, 17, header.crc.to_be_bytes());
    }
    Valid { header, bytes }
}

fn put<const N: usize>(bytes: &mut BytesMut, at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..at + N) {
        field.copy_from_slice(&value);
    }
}

fn reasons(bad: &[BadRecord]) -> String {
    let shown: Vec<_> = bad.iter().take(3).map(|bad| format!("record {}: {}", bad.index, bad.reason)).collect();
    shown.join("; ")
}
