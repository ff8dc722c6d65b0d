//! Producer snapshots, `%020d.snapshot`: what is known of producers at an offset, in Kafka's format (`ProducerSnapshot`,
//! version 1).
//!
//! One is written when a segment is rolled, for where the new one begins, and when the log is closed, for its end. Of a mirror
//! it names the producers with a transaction open and the largest producer id; of an ordinary partition all producers. A
//! snapshot that is missing or damaged is made anew from the batches.

use crate::producers::{Producers, Written};
use crate::transactions::Transactions;
use hawser_wire::Offset;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const HEADER_BYTES: usize = 6;
const ENTRY_BYTES: usize = 46;
const VERSION: i16 = 1;

/// What is known of producers at one offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) transactions: Transactions,
    pub(crate) producers: Producers,
    /// The largest producer id of any batch before, −1 for none.
    pub(crate) largest_producer_id: i64,
}

/// A `ProducerEntry`.
struct Entry {
    epoch: i16,
    last_timestamp: i64,
    last: Option<Written>,
    transaction: Option<Offset>,
}

const NOTHING: Entry = Entry { epoch: -1, last_timestamp: -1, last: None, transaction: None };

impl Snapshot {
    /// Reads a snapshot, Kafka's or ours; `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, entries) = bytes.split_at_checked(HEADER_BYTES)?;
        let (version, crc) = header.split_at_checked(2)?;
        let known = version == VERSION.to_be_bytes() && crc == crc32c::crc32c(entries).to_be_bytes();
        let (_count, entries) = entries.split_at_checked(4).filter(|_| known)?;
        let mut snapshot = Self { largest_producer_id: -1, ..Self::default() };
        for entry in entries.chunks(ENTRY_BYTES) {
            let id = i64::from_be_bytes(field(entry, 0)?);
            let epoch = i16::from_be_bytes(field(entry, 8)?);
            let last_timestamp = i64::from_be_bytes(field(entry, 26)?);
            let last = Written {
                last_sequence: i32::from_be_bytes(field(entry, 10)?),
                last_offset: Offset(i64::from_be_bytes(field(entry, 14)?)),
                offset_delta: i32::from_be_bytes(field(entry, 22)?),
                timestamp: last_timestamp,
            };
            let transaction = Offset(i64::from_be_bytes(field(entry, 38)?));
            snapshot.largest_producer_id = snapshot.largest_producer_id.max(id);
            if transaction.0 >= 0 {
                snapshot.transactions.load(id, epoch, transaction);
            }
            if epoch >= 0 {
                snapshot.producers.load(id, epoch, last_timestamp, Some(last).filter(|last| last.last_offset.0 >= 0));
            }
        }
        Some(snapshot)
    }

    /// The snapshot at `path`; `None` if there is none, or none that can be read.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let snapshot = Self::decode(&bytes);
        if snapshot.is_none() {
            tracing::warn!(path = %path.display(), "a damaged producer snapshot is ignored");
        }
        Ok(snapshot)
    }
}

/// A snapshot of these; without `producers` for a mirror.
pub(crate) fn encode(transactions: &Transactions, producers: Option<&Producers>, largest_producer_id: i64) -> Vec<u8> {
    let mut entries: BTreeMap<i64, Entry> = BTreeMap::new();
    for (id, producer) in producers.into_iter().flat_map(Producers::iter) {
        let (epoch, last_timestamp, last) = (producer.epoch, producer.last_timestamp, producer.last());
        entries.insert(id, Entry { epoch, last_timestamp, last, transaction: None });
    }
    for (id, first, epoch) in transactions.open() {
        let entry = entries.entry(id).or_insert(NOTHING);
        entry.epoch = entry.epoch.max(epoch);
        entry.transaction = Some(first);
    }
    if largest_producer_id >= 0 {
        entries.entry(largest_producer_id).or_insert(NOTHING);
    }
    let mut body = Vec::with_capacity(4 + entries.len() * ENTRY_BYTES);
    body.extend((entries.len() as i32).to_be_bytes());
    for (id, Entry { epoch, last_timestamp, last, transaction }) in entries {
        body.extend(id.to_be_bytes());
        body.extend(epoch.to_be_bytes());
        body.extend(last.map_or(-1, |last| last.last_sequence).to_be_bytes());
        body.extend(last.map_or(-1, |last| last.last_offset.0).to_be_bytes());
        body.extend(last.map_or(0, |last| last.offset_delta).to_be_bytes());
        body.extend(last_timestamp.to_be_bytes());
        body.extend((-1i32).to_be_bytes()); // coordinator epoch
        body.extend(transaction.map_or(-1, |first| first.0).to_be_bytes());
    }
    let mut snapshot = VERSION.to_be_bytes().to_vec();
    snapshot.extend(crc32c::crc32c(&body).to_be_bytes());
    snapshot.extend(body);
    snapshot
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut snapshot = Snapshot { largest_producer_id: 90, ..Snapshot::default() };
        let encode = |of: &Snapshot| encode(&of.transactions, Some(&of.producers), of.largest_producer_id);
        assert_eq!(Snapshot::decode(&encode(&snapshot)), Some(snapshot.clone()));
        let last = Written { last_sequence: 9, last_offset: Offset(40), offset_delta: 3, timestamp: 77 };
        snapshot.producers.load(12, 3, 77, Some(last));
        snapshot.producers.load(13, 0, 78, None);
        let bytes = encode(&snapshot);
        assert_eq!(Snapshot::decode(&bytes), Some(snapshot));
        for cut in 0..bytes.len() {
            assert_eq!(Snapshot::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}
