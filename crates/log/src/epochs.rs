//! Which leader wrote what: the start offset of every leader epoch in a log (KIP-101).
//!
//! Semantics of Kafka's `LeaderEpochFileCache`. Kept in memory, since a log has few epochs; written to
//! `leader-epoch-checkpoint` by its owner. Both the epochs and the start offsets rise strictly.

use crate::disk::Durably;
use hawser_wire::{LeaderEpoch, Offset};

/// The first offset that a leader epoch wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset in this log.
    pub start: Offset,
}

/// The epochs of one log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// Takes entries as a checkpoint holds them; `None` unless epochs and offsets rise strictly.
    pub fn from_entries(entries: Vec<EpochStart>) -> Option<Self> {
        let rises = |pair: &[EpochStart]| matches!(pair, [a, b] if a.epoch < b.epoch && a.start < b.start);
        let valid = entries.first().is_none_or(|first| first.epoch.0 >= 0 && first.start.0 >= 0);
        (valid && entries.windows(2).all(rises)).then_some(Self { entries })
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The largest epoch, `NONE` if none is known.
    pub fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::NONE, |last| last.epoch)
    }

    /// Notes that `epoch` wrote the batch at `start`; true if that is news. Epochs must not fall; a batch without
    /// an epoch is not noted.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch <= self.latest() || epoch == LeaderEpoch::NONE {
            return false;
        }
        // An epoch whose batches were all trimmed starts where the log does: the new one takes its place.
        while self.entries.pop_if(|last| last.start >= start).is_some() {}
        self.entries.push(EpochStart { epoch, start });
        true
    }

    /// The largest known epoch ≤ `epoch` and the offset at which it ends, `log_end` for the latest.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let floor = self.entries.get(after.checked_sub(1)?)?;
        Some((floor.epoch, self.entries.get(after).map_or(log_end, |next| next.start)))
    }

    /// The epoch that wrote `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        self.entries.get(after.checked_sub(1)?).map(|entry| entry.epoch)
    }

    /// Forgets epochs that start at or above `log_end`; true if there were any.
    pub fn truncate_from_end(&mut self, log_end: Offset) -> bool {
        let kept = self.entries.partition_point(|entry| entry.start < log_end);
        let cut = kept < self.entries.len();
        self.entries.truncate(kept);
        cut
    }

    /// Forgets epochs that end at or below `log_start` and lets the one that holds it start there; true if that
    /// changed anything. The latest epoch is kept even when the log is then empty, as in Kafka.
    pub fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let after = self.entries.partition_point(|entry| entry.start <= log_start);
        let Some(holder) = after.checked_sub(1) else { return false };
        let moved = self.entries.get(holder).is_some_and(|entry| entry.start < log_start);
        self.entries.drain(..holder);
        if let Some(first) = self.entries.first_mut() {
            first.start = log_start;
        }
        moved || holder > 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// How far the epoch checkpoint follows the epochs in memory.
#[derive(Clone, Copy, Default)]
pub(crate) struct EpochsFile {
    /// Of the epochs in memory; as many of them are in the file, and as many survive a power cut.
    changes: u64,
    written: u64,
    durable: u64,
}

impl EpochsFile {
    pub(crate) fn note(&mut self, is_changed: bool) {
        self.changes += u64::from(is_changed);
    }

    pub(crate) fn is_current(self, durably: Durably) -> bool {
        match durably {
            Durably::Now => self.durable == self.changes,
            Durably::Later => self.written == self.changes,
        }
    }

    /// What stood in memory at `then` was written.
    pub(crate) fn note_written(&mut self, then: Self, durably: Durably) {
        self.written = self.written.max(then.changes);
        if durably == Durably::Now {
            self.durable = self.durable.max(then.changes);
        }
    }

    /// What was in the file at `then` is durable.
    pub(crate) fn note_durable(&mut self, then: Self) {
        self.durable = self.durable.max(then.written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let entries = entries.iter().map(|&(e, o)| EpochStart { epoch: LeaderEpoch(e), start: Offset(o) }).collect();
        LeaderEpochs::from_entries(entries).expect("entries rise")
    }

    fn pair(epoch: i32, offset: i64) -> Option<(LeaderEpoch, Offset)> {
        Some((LeaderEpoch(epoch), Offset(offset)))
    }

    #[test]
    fn ends_of_epochs() {
        let held = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let end = Offset(40);
        for (asked, floor) in [
            (1, None),
            (2, pair(2, 20)),
            (3, pair(2, 20)),
            (4, pair(4, 30)),
            (6, pair(4, 30)),
            (7, pair(7, 40)),
            (8, pair(7, 40)),
        ] {
            assert_eq!(held.end_of(LeaderEpoch(asked), end), floor, "floor of {asked}");
        }
        assert_eq!(LeaderEpochs::default().end_of(LeaderEpoch(3), end), None);
    }

    #[test]
    fn truncation_at_both_ends() {
        let mut held = epochs(&[(2, 10), (4, 20), (7, 30)]);
        assert!(!held.truncate_from_end(Offset(31)));
        assert!(held.truncate_from_end(Offset(30)));
        assert_eq!(held, epochs(&[(2, 10), (4, 20)]));
        assert!(held.truncate_from_start(Offset(15)));
        assert_eq!(held, epochs(&[(2, 15), (4, 20)]));
        assert!(!held.truncate_from_start(Offset(15)));
        assert!(held.truncate_from_start(Offset(25)));
        assert_eq!(held, epochs(&[(4, 25)]));
        assert!(!held.truncate_from_start(Offset(3)));
    }

    #[test]
    fn a_trimmed_epoch_gives_way_to_the_next() {
        let mut held = epochs(&[(2, 10)]);
        assert!(held.truncate_from_start(Offset(50)));
        assert!(!held.assign(LeaderEpoch(2), Offset(50)));
        assert!(held.assign(LeaderEpoch(5), Offset(50)));
        assert_eq!(held, epochs(&[(5, 50)]));
        assert_eq!(held.epoch_at(Offset(49)), None);
        assert_eq!(held.epoch_at(Offset(51)), Some(LeaderEpoch(5)));
    }

    #[test]
    fn entries_that_do_not_rise_are_refused() {
        let entry = |e, o| EpochStart { epoch: LeaderEpoch(e), start: Offset(o) };
        for bad in [[entry(1, 5), entry(1, 6)], [entry(1, 5), entry(2, 5)], [entry(2, 5), entry(1, 6)]] {
            assert_eq!(LeaderEpochs::from_entries(bad.to_vec()), None);
        }
        assert_eq!(LeaderEpochs::from_entries(vec![entry(-1, 0)]), None);
    }
}
