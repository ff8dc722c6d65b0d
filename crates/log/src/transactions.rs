//! Which transactions are open in a log, and which ended above the high watermark: what bounds the last stable offset.
//!
//! Semantics of the transactional half of Kafka's `ProducerStateManager` (KIP-98) as a follower runs it. Open
//! transactions survive in producer snapshots of Kafka's format, `%020d.snapshot`, that name only producers with a
//! transaction open: one is written when a segment is rolled or the log closed while any is. A segment without one began
//! with none open.

use crate::AbortedTransaction;
use crate::header::{Header, Marker};
use hawser_wire::Offset;
use std::collections::BTreeMap;

/// Bytes of one entry of a `.txnindex` (`AbortedTxn`, version 0).
pub(crate) const ABORTED_BYTES: usize = 34;
const SNAPSHOT_HEADER_BYTES: usize = 6;
const SNAPSHOT_ENTRY_BYTES: usize = 46;

/// The transactions that matter at one log end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// Producer id → first offset. Few: one for each producer in the middle of a transaction.
    open: BTreeMap<i64, OpenTransaction>,
    /// First → last offset of transactions whose marker the high watermark has not passed.
    ended: BTreeMap<Offset, Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenTransaction {
    first: Offset,
    producer_epoch: i16,
}

/// A transaction that was aborted, with the last stable offset right after (what the index holds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) transaction: AbortedTransaction,
    pub(crate) last_stable: Offset,
}

impl Transactions {
    /// Whether a batch can change anything here.
    pub(crate) fn concern(header: &Header) -> bool {
        header.producer_id >= 0 && (header.is_transactional() || header.is_control())
    }

    /// Takes in the next batch; `marker` is what it says if it is a control batch. Gives the transaction it aborted.
    pub(crate) fn on_batch(&mut self, header: &Header, marker: Option<Marker>) -> Option<Aborted> {
        if !Self::concern(header) {
            return None;
        }
        if !header.is_control() {
            let begun = OpenTransaction { first: header.base, producer_epoch: header.producer_epoch };
            self.open.entry(header.producer_id).or_insert(begun);
            return None;
        }
        let marker = marker?;
        let OpenTransaction { first, .. } = self.open.remove(&header.producer_id)?;
        self.ended.insert(first, header.base);
        let last_stable = self.first_open().unwrap_or(Offset(header.base.0 + 1));
        let transaction =
            AbortedTransaction { producer_id: header.producer_id, first_offset: first, last_offset: header.base };
        (marker == Marker::Abort).then_some(Aborted { transaction, last_stable })
    }

    /// Forgets ended transactions whose marker lies below `high_watermark`.
    pub(crate) fn on_high_watermark(&mut self, high_watermark: Offset) {
        if !self.ended.is_empty() {
            self.ended.retain(|_, last| *last >= high_watermark);
        }
    }

    /// Below it everything is decided and its marker is below the high watermark; `None` if that holds everywhere.
    pub(crate) fn first_unstable(&self) -> Option<Offset> {
        let ended = self.ended.first_key_value().map(|(first, _)| *first);
        self.first_open().into_iter().chain(ended).min()
    }

    /// Whether any transaction is open.
    pub(crate) fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn first_open(&self) -> Option<Offset> {
        self.open.values().map(|open| open.first).min()
    }

    /// The open transactions as a producer snapshot.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::with_capacity(4 + self.open.len() * SNAPSHOT_ENTRY_BYTES);
        entries.extend((self.open.len() as i32).to_be_bytes());
        for (producer_id, open) in &self.open {
            entries.extend(producer_id.to_be_bytes());
            entries.extend(open.producer_epoch.to_be_bytes());
            entries.extend((-1i32).to_be_bytes()); // last sequence
            entries.extend((-1i64).to_be_bytes()); // last offset: no batch is remembered
            entries.extend(0i32.to_be_bytes()); // offset delta
            entries.extend((-1i64).to_be_bytes()); // timestamp
            entries.extend((-1i32).to_be_bytes()); // coordinator epoch
            entries.extend(open.first.0.to_be_bytes());
        }
        let mut snapshot = 1i16.to_be_bytes().to_vec();
        snapshot.extend(crc32c::crc32c(&entries).to_be_bytes());
        snapshot.extend(entries);
        snapshot
    }

    /// Reads a producer snapshot, Kafka's or ours; `None` if it is damaged.
    pub(crate) fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let (header, entries) = bytes.split_at_checked(SNAPSHOT_HEADER_BYTES)?;
        let (version, crc) = header.split_at_checked(2)?;
        let known = version == 1i16.to_be_bytes() && crc == crc32c::crc32c(entries).to_be_bytes();
        let (_count, entries) = entries.split_at_checked(4).filter(|_| known)?;
        let mut transactions = Self::default();
        for entry in entries.chunks(SNAPSHOT_ENTRY_BYTES) {
            let producer_id = i64::from_be_bytes(entry.get(..8)?.try_into().ok()?);
            let producer_epoch = i16::from_be_bytes(entry.get(8..10)?.try_into().ok()?);
            let first = Offset(i64::from_be_bytes(entry.get(38..46)?.try_into().ok()?));
            if first.0 >= 0 {
                transactions.open.insert(producer_id, OpenTransaction { first, producer_epoch });
            }
        }
        Some(transactions)
    }
}

impl Aborted {
    /// The entry of a `.txnindex`.
    pub(crate) fn encode(&self) -> [u8; ABORTED_BYTES] {
        let mut entry = [0; ABORTED_BYTES];
        let fields = [
            self.transaction.producer_id,
            self.transaction.first_offset.0,
            self.transaction.last_offset.0,
            self.last_stable.0,
        ];
        for (slot, value) in entry.get_mut(2..).unwrap_or_default().chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
        entry
    }

    /// Reads an entry; `None` if it is cut off or of an unknown version.
    pub(crate) fn decode(entry: &[u8]) -> Option<Self> {
        let long = |at: usize| Some(i64::from_be_bytes(entry.get(at..at + 8)?.try_into().ok()?));
        (entry.get(..2)? == [0, 0]).then_some(Self {
            transaction: AbortedTransaction {
                producer_id: long(2)?,
                first_offset: Offset(long(10)?),
                last_offset: Offset(long(18)?),
            },
            last_stable: Offset(long(26)?),
        })
    }
}
