//! Which transactions are open in a log, and which ended above the high watermark: what bounds the last stable offset.
//!
//! Semantics of the transactional half of Kafka's `ProducerStateManager` (KIP-98) as a follower runs it. Open
//! transactions survive in producer snapshots; see `snapshot.rs`. A segment without one began with none open.

use crate::AbortedTransaction;
use crate::header::{Header, Marker};
use hawser_wire::Offset;
use std::collections::BTreeMap;

/// Bytes of one entry of a `.txnindex` (`AbortedTxn`, version 0).
pub(crate) const ABORTED_BYTES: usize = 34;

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

    fn first_open(&self) -> Option<Offset> {
        self.open.values().map(|open| open.first).min()
    }

    /// Producer id, first offset and producer epoch of every open transaction.
    pub(crate) fn open(&self) -> impl Iterator<Item = (i64, Offset, i16)> {
        self.open.iter().map(|(id, open)| (*id, open.first, open.producer_epoch))
    }

    /// Takes in an open transaction as a producer snapshot holds it.
    pub(crate) fn load(&mut self, producer_id: i64, producer_epoch: i16, first: Offset) {
        self.open.insert(producer_id, OpenTransaction { first, producer_epoch });
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
