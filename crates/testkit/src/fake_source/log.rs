//! One partition of the fake source: runs of prepared batches, leader epochs, and the answers that follow from them.

use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// Base offset, length and epoch: what differs between repetitions of a batch, and is not covered by its CRC.
const HEAD_BYTES: usize = 16;

pub(super) struct Log {
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) error_code: i16,
    pub(super) corrupt: bool,
    epochs: Vec<(i32, i64)>,
    runs: Vec<Run>,
}

/// Batches that follow each other, repeated.
#[derive(Clone)]
struct Run {
    bytes: Bytes,
    batches: Arc<[Batch]>,
    base: i64,
    /// Offsets that one repetition takes.
    stride: i64,
    times: i64,
}

/// A batch within its run.
#[derive(Clone, Copy)]
struct Batch {
    /// First offset and the one after the last, from the run's base.
    first: i64,
    next: i64,
    at: usize,
    size: usize,
    max_timestamp: i64,
}

impl Log {
    pub(super) fn new(leader: i32) -> Self {
        Self {
            leader,
            epoch: 0,
            start: 0,
            end: 0,
            error_code: 0,
            corrupt: false,
            epochs: vec![(0, 0)],
            runs: Vec::new(),
        }
    }

    pub(super) fn append(&mut self, bytes: Bytes, times: u64) {
        let base = i64_at(&bytes, 0);
        assert!(base >= self.end, "batch at {base} starts below the log end {}", self.end);
        let mut batches = Vec::new();
        let (mut at, mut next) = (0, base);
        while at < bytes.len() {
            let first = i64_at(&bytes, at);
            let size = usize::try_from(i32_at(&bytes, at + 8)).expect("a length") + 12;
            assert!(first >= next && at + size <= bytes.len(), "whole batches in order");
            let epoch = i32_at(&bytes, at + 12);
            assert!(epoch <= self.epoch, "a batch of epoch {epoch} under a leader of {}", self.epoch);
            next = first + i64::from(i32_at(&bytes, at + 23)) + 1;
            let max_timestamp = i64_at(&bytes, at + 35);
            batches.push(Batch { first: first - base, next: next - base, at, size, max_timestamp });
            at += size;
        }
        let (stride, times) = (next - base, i64::try_from(times).expect("fits"));
        self.end = base + stride * times;
        self.runs.push(Run { bytes, batches: batches.into(), base, stride, times });
    }

    pub(super) fn lead(&mut self, node: i32) {
        self.leader = node;
        self.epoch += 1;
        // As stock Kafka's `makeLeader`: the epoch begins at the log end, and empty epochs leave no trace.
        self.epochs.retain(|&(_, start)| start < self.end);
        self.epochs.push((self.epoch, self.end));
    }

    pub(super) fn truncate(&mut self, offset: i64) {
        let mut kept = Vec::new();
        for run in &self.runs {
            for time in 0..run.times {
                for batch in &*run.batches {
                    let next = run.base + time * run.stride + batch.next;
                    if next <= offset {
                        kept.push((run.clone(), time, *batch));
                    }
                }
            }
        }
        self.end = kept.last().map_or(self.start, |(run, time, batch)| run.base + time * run.stride + batch.next);
        self.runs = kept.into_iter().map(|(run, time, batch)| run.single(time, batch)).collect();
        self.epochs.retain(|&(_, start)| start < self.end);
        self.start = self.start.min(self.end);
    }

    pub(super) fn trim(&mut self, offset: i64) {
        assert!(offset <= self.end, "trim within the log");
        self.start = self.start.max(offset);
    }

    /// `LeaderEpochFileCache.endOffsetFor`, (−1, −1) if the epoch is above all.
    pub(super) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        match self.epochs.iter().position(|&(known, _)| known > epoch) {
            None if self.epochs.last().is_some_and(|&(known, _)| known == epoch) => (epoch, self.end),
            None => (-1, -1),
            Some(0) => (epoch, self.epochs[0].1),
            Some(higher) => (self.epochs[higher - 1].0, self.epochs[higher].1),
        }
    }

    /// Batches from the one that holds `from` on, cut at `bytes_max` as stock Kafka cuts them.
    pub(super) fn read(&self, from: i64, bytes_max: usize, at_least_one: bool) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let (mut left, mut is_first) = (bytes_max, at_least_one);
        for run in self.runs.iter().filter(|run| run.base + run.stride * run.times > from) {
            for time in (from - run.base).max(0) / run.stride..run.times {
                let base = run.base + time * run.stride;
                let skip = run.batches.partition_point(|batch| base + batch.next <= from);
                for batch in &run.batches[skip..] {
                    if batch.size > left && !is_first {
                        if left > HEAD_BYTES && !pieces.is_empty() {
                            run.push(&mut pieces, base, batch, left); // cut off at the limit
                        }
                        return pieces;
                    }
                    run.push(&mut pieces, base, batch, batch.size);
                    (left, is_first) = (left.saturating_sub(batch.size), false);
                }
            }
        }
        pieces
    }

    /// First offset of a batch whose largest timestamp is not older, which is exact for batches of one time.
    pub(super) fn offset_for_timestamp(&self, timestamp: i64) -> Option<(i64, i64)> {
        let found = self.runs.iter().find_map(|run| {
            let batch = run.batches.iter().find(|batch| batch.max_timestamp >= timestamp)?;
            Some((run.base + batch.first, batch.max_timestamp))
        })?;
        Some((found.0.max(self.start), found.1))
    }
}

impl Run {
    fn push(&self, pieces: &mut Vec<Bytes>, base: i64, batch: &Batch, size: usize) {
        let end = batch.at + size;
        if base == self.base {
            pieces.push(self.bytes.slice(batch.at..end)); // not shifted: the bytes as they are
            return;
        }
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_i64(base + batch.first);
        head.extend_from_slice(&self.bytes[batch.at + 8..batch.at + HEAD_BYTES]);
        pieces.push(head.freeze());
        pieces.push(self.bytes.slice(batch.at + HEAD_BYTES..end));
    }

    /// One batch of one repetition, as a run of its own.
    fn single(&self, time: i64, batch: Batch) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[batch.at..batch.at + batch.size]);
        let base = self.base + time * self.stride + batch.first;
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let stride = batch.next - batch.first;
        let batches = Arc::from([Batch { first: 0, next: stride, at: 0, ..batch }]);
        Self { bytes: bytes.freeze(), batches, base, stride, times: 1 }
    }
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
