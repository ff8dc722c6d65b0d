//! What must be true of the copies, always and in the end.

use super::source::{Source, TOPIC};
use hawser_replicate::Reason;
use hawser_replicate::partition::Report;
use hawser_replicate::write::{Cut, Write};
use hawser_store::{FakeStore, Position};
use hawser_wire::{Batch, Offset, TopicPartition};
use std::time::Duration;

/// The rules, and what was told.
pub struct Checker {
    pub topic_failed: Option<Reason>,
    /// Gaps told and not made yet, by partition.
    gaps: Vec<Vec<(Offset, Offset)>>,
    /// When an unclean leader last brought back batches that were gone.
    brought_back: Vec<Option<Duration>>,
}

/// How long an answer given before may still order a cut: deposed leaders go on for 1.5 s, a request for 1 s.
const HEARSAY: Duration = Duration::from_secs(4);

impl Checker {
    pub fn new(partitions: usize) -> Self {
        Self { topic_failed: None, gaps: vec![Vec::new(); partitions], brought_back: vec![None; partitions] }
    }

    pub fn grew(&mut self) {
        self.gaps.push(Vec::new());
        self.brought_back.push(None);
    }

    pub fn brought_back(&mut self, part: usize, now: Duration) {
        self.brought_back[part] = Some(now);
    }

    /// What a crash or a failed flush left of the copies are still prefixes.
    pub fn shortened(&self, store: &FakeStore, source: &Source) -> Result<(), String> {
        for id in store.partitions() {
            self.is_prefix(&id, store, source)?;
        }
        Ok(())
    }

    pub fn reported(&mut self, id: &TopicPartition, report: &Report) -> Result<(), String> {
        match report {
            Report::Failed(failure) if self.topic_failed.is_none() => Err(format!("{id} failed: {failure}")),
            Report::Gap { from, to } => {
                self.gaps[id.partition as usize].push((*from, *to));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A write was performed, wholly or not.
    #[allow(clippy::too_many_arguments)]
    pub fn wrote(
        &mut self,
        id: &TopicPartition,
        write: &Write,
        before: &[Batch],
        was: Position,
        is: Position,
        started: bool,
        store: &FakeStore,
        source: &Source,
        now: Duration,
    ) -> Result<(), String> {
        let part = &source.parts[id.partition as usize];
        self.is_prefix(id, store, source)?;
        if is.log_start > was.log_start.max(Offset(part.start_max)) && !matches!(write.cut, Some(Cut::RestartAt(_))) {
            return Err(format!("{id}: log start {} is above any of the source's ({})", is.log_start, part.start_max));
        }
        let Some(cut) = write.cut else { return Ok(()) };
        let (Cut::TruncateTo(to) | Cut::RestartAt(to)) = cut;
        // What is dropped without being trimmed at the source must not be part of the source's log (any more).
        let hearsay = self.brought_back[id.partition as usize].is_some_and(|at| now < at + HEARSAY);
        let dropped = before.iter().filter(|batch| batch.header.base_offset >= to && to <= was.log_end);
        for batch in dropped {
            if !hearsay && part.log.iter().any(|held| held.bytes == batch.bytes) {
                return Err(format!("{id}: {cut:?} drops batch {}, which the source has", batch.header.base_offset));
            }
        }
        // A copy that was shortened meanwhile is not made longer by a truncation.
        if is.log_end > was.log_end && (started || !before.is_empty()) && to.0 > part.start_max {
            return Err(format!("{id}: {cut:?} skips from {} what the source never trimmed", was.log_end));
        }
        Ok(())
    }

    /// The copy is a run of batches of the source's log, or of what that log was before it was cut, byte for byte.
    fn is_prefix(&self, id: &TopicPartition, store: &FakeStore, source: &Source) -> Result<(), String> {
        let part = &source.parts[id.partition as usize];
        let held = store.batches(id);
        let logs = std::iter::once(&part.log).chain(part.branches.iter().chain(&part.past).rev());
        if held.is_empty() || logs.into_iter().any(|log| is_run(&held, log)) {
            return Ok(());
        }
        let show = |log: &[Batch]| {
            let batches = log
                .iter()
                .map(|b| format!("{}+{}e{}", b.header.base_offset, b.header.record_count, b.header.leader_epoch));
            batches.collect::<Vec<_>>().join(" ")
        };
        let branches = part.branches.iter().map(|log| format!("\n  was    {}", show(log))).collect::<String>();
        Err(format!("{id}: not a prefix\n  copy   {}\n  source {}{branches}", show(&held), show(&part.log)))
    }

    /// Whether every copy holds everything that its source holds.
    pub fn is_whole(&self, store: &FakeStore, source: &Source) -> bool {
        for (index, part) in source.parts.iter().enumerate() {
            let id = TopicPartition::new(TOPIC, index as i32);
            let Some(position) = store.position(&id) else { return false };
            if position.log_end.0 != part.end() || position.log_start.0 < part.start {
                return false;
            }
            let held = store.batches(&id);
            let from = part.log.partition_point(|batch| batch.header.next_offset() <= position.log_start);
            let held_from = held.partition_point(|batch| batch.header.next_offset() <= position.log_start);
            if !same(&held[held_from..], &part.log[from..]) {
                return false; // the same end by chance: the tail is yet to be cut
            }
        }
        true
    }

    pub fn batches_held(&self, store: &FakeStore) -> usize {
        store.partitions().iter().map(|id| store.batches(id).len()).sum()
    }
}

fn is_run(held: &[Batch], log: &[Batch]) -> bool {
    let Some(first) = held.first() else { return true };
    let at = log.partition_point(|batch| batch.header.base_offset < first.header.base_offset);
    log.get(at..at + held.len()).is_some_and(|run| same(held, run))
}

fn same(a: &[Batch], b: &[Batch]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.bytes == b.bytes)
}
