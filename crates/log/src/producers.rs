//! What idempotent producers wrote to an ordinary partition last, so that a batch sent twice is appended once (KIP-98).
//!
//! Semantics of the idempotent half of Kafka's `ProducerStateManager`, `ProducerStateEntry` and `ProducerAppendInfo` as a
//! leader runs it: of each producer the epoch and the last five batches. A producer that is not known, because it is new, has
//! been silent for `producer.id.expiration.ms` or its records are gone, may begin with any sequence number. Only the one
//! writer of a log calls this; nothing here reads a clock.

use crate::header::Header;
use hawser_wire::Offset;
use std::collections::BTreeMap;

/// `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`: what a producer may have in flight.
const BATCHES_MAX: usize = 5;
/// Most producers of one partition that are remembered, some 20 MB. Kafka has no bound but their expiry. The ones that
/// wrote longest ago are forgotten first; they may go on, but what they send twice is then appended twice.
const PRODUCERS_MAX: usize = 100_000;
/// How many are forgotten at once, so that finding them is rare.
const FORGOTTEN_AT_ONCE: usize = PRODUCERS_MAX / 10;

pub(crate) const NOT_SEEN: i64 = -1;

/// The producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: BTreeMap<i64, Producer>,
}

/// The state of one producer id (`ProducerStateEntry`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    /// Timestamp of its last batch, ms since 1970.
    pub(crate) last_timestamp: i64,
    /// When it wrote last by our clock, ms since 1970; `NOT_SEEN` if that was before the log was loaded. (Kafka goes by
    /// timestamps, and so forgets who sends old records while he sends them.)
    last_seen_ms: i64,
    /// Oldest first; all `None` after a transaction marker.
    batches: [Option<Written>; BATCHES_MAX],
}

/// A batch that was appended (`BatchMetadata`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is in the log already.
    Duplicate(Written),
    /// Its epoch is older than the producer's: this one.
    StaleEpoch(i16),
    /// Its sequence does not follow this one.
    OutOfOrder(i32),
}

impl Producers {
    /// Whether a batch of a producer continues what it wrote (`ProducerAppendInfo.maybeValidateDataBatch`). Producers that were
    /// last seen at `expired_at` or before are unknown.
    pub(crate) fn judge(&self, batch: &Header, expired_at: i64) -> Verdict {
        let known = self.known.get(&batch.producer_id);
        let Some(known) = known.filter(|known| known.last_seen_ms == NOT_SEEN || known.last_seen_ms > expired_at)
        else {
            return Verdict::Append;
        };
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        if batch.producer_epoch == known.epoch
            && let Some(same) =
                known.written().find(|held| held.first_sequence() == first && held.last_sequence == last)
        {
            return Verdict::Duplicate(same);
        }
        let last_known = known.last().map_or(-1, |last| last.last_sequence);
        let follows = match known.epoch {
            -1 => true,
            epoch if batch.producer_epoch < epoch => return Verdict::StaleEpoch(epoch),
            epoch if batch.producer_epoch > epoch => first == 0,
            _ => i64::from(first) == i64::from(last_known) + 1 || (first == 0 && last_known == i32::MAX),
        };
        if follows { Verdict::Append } else { Verdict::OutOfOrder(last_known) }
    }

    /// Takes in a batch that was appended at `seen_ms`.
    pub(crate) fn on_batch(&mut self, batch: &Header, seen_ms: i64) {
        if batch.producer_id < 0 {
            return;
        }
        let (epoch, batches) = (batch.producer_epoch, [None; BATCHES_MAX]);
        let unknown = Producer { epoch, last_timestamp: -1, last_seen_ms: seen_ms, batches };
        let producer = self.known.entry(batch.producer_id).or_insert(unknown);
        if producer.epoch != batch.producer_epoch || batch.is_control() {
            *producer = unknown;
        }
        (producer.last_timestamp, producer.last_seen_ms) = (batch.max_timestamp, seen_ms);
        if !batch.is_control() {
            producer.push(Written {
                last_sequence: batch.last_sequence(),
                last_offset: batch.last,
                offset_delta: i32::try_from(batch.last.0 - batch.base.0).unwrap_or(i32::MAX),
                timestamp: batch.max_timestamp,
            });
        }
        if self.known.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets producers that were last seen at `expired_at` or before. One that was not seen yet counts as seen now.
    pub(crate) fn expire(&mut self, now_ms: i64, expired_at: i64) {
        self.known.retain(|_, producer| {
            if producer.last_seen_ms == NOT_SEEN {
                producer.last_seen_ms = now_ms;
            }
            producer.last_seen_ms > expired_at
        });
    }

    /// The last offset that a producer wrote, `None` after a marker, and its epoch
    /// (`UnifiedLog.lastRecordsOfActiveProducers`).
    pub(crate) fn last_of(&self, id: i64) -> Option<(Option<Offset>, i16)> {
        let producer = self.known.get(&id)?;
        Some((producer.last().map(|last| last.last_offset), producer.epoch))
    }

    fn forget_oldest(&mut self) {
        let mut seen: Vec<_> = self.known.values().map(|producer| producer.last_seen_ms).collect();
        let (_, &mut limit, _) = seen.select_nth_unstable(FORGOTTEN_AT_ONCE);
        let mut left = FORGOTTEN_AT_ONCE; // many may have been seen at the same time
        self.known.retain(|_, producer| {
            let forgotten = left > 0 && producer.last_seen_ms <= limit;
            left -= usize::from(forgotten);
            !forgotten
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }

    /// Takes in a producer as a snapshot holds it.
    pub(crate) fn load(&mut self, id: i64, epoch: i16, last_timestamp: i64, last: Option<Written>) {
        let batches = [last, None, None, None, None];
        self.known.insert(id, Producer { epoch, last_timestamp, last_seen_ms: NOT_SEEN, batches });
    }
}

impl Producer {
    fn written(&self) -> impl Iterator<Item = Written> {
        self.batches.iter().flatten().copied()
    }

    pub(crate) fn last(&self) -> Option<Written> {
        self.written().last()
    }

    fn push(&mut self, batch: Written) {
        match self.batches.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(batch),
            None => {
                self.batches.rotate_left(1);
                if let Some(slot) = self.batches.last_mut() {
                    *slot = Some(batch);
                }
            }
        }
    }
}

impl Written {
    /// `DefaultRecordBatch.decrementSequence`.
    pub(crate) fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }

    pub(crate) fn first_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(self.offset_delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_wire::LeaderEpoch;

    fn batch(base: i64, count: i64, producer_epoch: i16, base_sequence: i32) -> Header {
        Header {
            base: Offset(base),
            last: Offset(base + count - 1),
            size: 100,
            epoch: LeaderEpoch(0),
            max_timestamp: 1000,
            producer_id: 7,
            producer_epoch,
            base_sequence,
            attributes: 0,
        }
    }

    #[test]
    fn verdicts_are_kafkas() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(&batch(0, 1, 3, 40), 0), Verdict::Append, "unknown: any sequence");
        for number in 0..7 {
            let next = batch(i64::from(number) * 2, 2, 3, number * 2);
            assert_eq!(producers.judge(&next, 0), Verdict::Append, "batch {number}");
            producers.on_batch(&next, 1000);
        }
        for (producer_epoch, count, sequence, expected) in [
            (3, 2, 14, "append"),
            (3, 1, 14, "append"),
            (3, 2, 12, "duplicate at 12"),
            (3, 2, 4, "duplicate at 4"),
            (3, 2, 2, "out of order"), // no longer remembered
            (3, 1, 12, "out of order"),
            (3, 2, 15, "out of order"),
            (2, 2, 14, "stale"),
            (2, 2, 12, "stale"),
            (4, 2, 0, "append"),
            (4, 2, 14, "out of order"),
        ] {
            let verdict = match producers.judge(&batch(100, count, producer_epoch, sequence), 0) {
                Verdict::Append => "append".to_owned(),
                Verdict::Duplicate(written) => format!("duplicate at {}", written.first_offset()),
                Verdict::StaleEpoch(3) => "stale".into(),
                Verdict::OutOfOrder(13) => "out of order".into(),
                other => format!("{other:?}"),
            };
            assert_eq!(verdict, expected, "epoch {producer_epoch}, {count} from {sequence}");
        }
        assert_eq!(producers.judge(&batch(100, 2, 3, 99), 1000), Verdict::Append, "expired");
        producers.on_batch(&batch(14, 1, 4, 0), 1000);
        assert_eq!(producers.judge(&batch(100, 2, 3, 14), 0), Verdict::StaleEpoch(4));
        assert_eq!(producers.judge(&batch(100, 2, 4, 1), 0), Verdict::Append);
    }

    #[test]
    fn who_was_not_seen_since_the_start_has_the_whole_time() {
        let mut producers = Producers::default();
        producers.on_batch(&batch(0, 1, 0, 0), NOT_SEEN);
        assert!(matches!(producers.judge(&batch(1, 1, 0, 0), 500), Verdict::Duplicate(_)));
        producers.expire(600, 500);
        assert!(matches!(producers.judge(&batch(1, 1, 0, 0), 599), Verdict::Duplicate(_)));
        producers.expire(700, 600);
        assert_eq!(producers.iter().count(), 0);
    }

    #[test]
    fn sequences_run_over() {
        let mut producers = Producers::default();
        producers.on_batch(&batch(0, 10, 0, i32::MAX - 4), 1000);
        let same = producers.judge(&batch(50, 10, 0, i32::MAX - 4), 0);
        assert!(matches!(same, Verdict::Duplicate(written) if written.first_offset() == Offset(0)), "{same:?}");
        assert_eq!(producers.judge(&batch(10, 1, 0, 5), 0), Verdict::Append);
        producers.on_batch(&batch(10, 1, 0, i32::MAX), 1000);
        assert_eq!(producers.judge(&batch(11, 1, 0, 0), 0), Verdict::Append);
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            producers.on_batch(&Header { producer_id: id, ..batch(id, 1, 0, 0) }, id / 3);
        }
        assert_eq!(producers.known.len(), PRODUCERS_MAX + 1 - FORGOTTEN_AT_ONCE);
        assert_eq!(producers.known.keys().next(), Some(&(FORGOTTEN_AT_ONCE as i64)));
    }
}
