//! How a mirror becomes an ordinary partition.
//!
//! Before the first native batch: open transactions of the mirrored log are aborted, by markers like those of a transaction
//! coordinator; a new segment begins, whose snapshot knows none of the mirrored producers, so that no native batch can pass
//! for one of theirs; and the leader epoch rises above every mirrored one. A crash in between leaves a mirror of which some of
//! this is done; doing all of it again does the rest.

use crate::Error;
use crate::disk::Durably;
use crate::flush::{TOGETHER_MIN, flush_together};
use crate::logs::Logs;
use crate::partition::{PartitionLog, lock};
use crate::producers::Producers;
use hawser_wire::{Batch, BatchHeader, LeaderEpoch, Offset, TopicPartition};
use std::io;
use std::sync::Arc;

/// A mirror that has become an ordinary partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedMirror {
    /// The epoch under which it is led.
    pub leader_epoch: LeaderEpoch,
    /// The largest producer id of any mirrored batch, −1 for none. No native producer may have it or a smaller one.
    pub largest_producer_id: i64,
    /// Where the first native batch will be.
    pub log_end: Offset,
    /// How many open transactions were aborted.
    pub aborted: usize,
}

impl Logs {
    /// Makes ordinary partitions of mirrors, durably, with one flush for all. One that is led already stays as it is. The
    /// markers that abort transactions say `now_ms`, in ms since 1970. The outcomes are in the order of `mirrors`. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// File errors, `Offline`. Of a partition that failed perhaps a part is done: the call has to be repeated for it before
    /// anything else is done with it.
    pub fn end_mirroring(&self, mirrors: &[TopicPartition], now_ms: i64) -> Vec<Result<EndedMirror, Error>> {
        let together = mirrors.len() >= TOGETHER_MIN && self.directory.file_system.is_some();
        let durably = if together { Durably::Later } else { Durably::Now };
        let mut ended = Vec::new();
        let mut outcomes = Vec::new();
        for id in mirrors {
            let log = self.partition(id).ok_or_else(|| Error::Offline(format!("{id} is not there")));
            let outcome = log.and_then(|log| {
                // The flusher is kept out of it: it would begin with the first of many, an fsync or more for each.
                let outcome = log.end_mirroring(now_ms, durably).inspect_err(|_| log.mark_dirty(false))?;
                ended.push((outcomes.len(), log));
                Ok(outcome)
            });
            outcomes.push(outcome);
        }
        let left = flush_together(ended.iter().map(|(_, log)| log.clone()).collect());
        for (index, log) in ended.iter().filter(|(_, log)| left.iter().any(|left| Arc::ptr_eq(left, log))) {
            let synced = log.sync_snapshot().map_err(|source| log.io("sync the snapshot of", source));
            if let (Err(error), Some(outcome)) = (synced.and_then(|()| log.flush()), outcomes.get_mut(*index)) {
                log.mark_dirty(false);
                *outcome = Err(error);
            }
        }
        outcomes
    }
}

impl PartitionLog {
    fn end_mirroring(&self, now_ms: i64, durably: Durably) -> Result<EndedMirror, Error> {
        let _writing = lock(&self.writing);
        let open: Vec<_> = {
            let state = self.lock();
            state.refuse_if_stopped()?;
            let largest_producer_id = state.largest_producer_id;
            if let Some(leading) = &state.leading {
                let (leader_epoch, log_end) = (leading.epoch, state.log_end);
                return Ok(EndedMirror { leader_epoch, largest_producer_id, log_end, aborted: 0 });
            }
            state.transactions.open().collect()
        };
        // The epoch of the markers; the leadership begins where they end, with the same.
        let epoch = self.lead_unflushed(Producers::default());
        let begun = self
            .abort(&open, epoch, now_ms)
            .and_then(|()| self.begin_native_segment(durably).map_err(|source| self.io("begin a segment of", source)));
        let mut state = self.lock();
        if let Err(error) = begun {
            state.leading = None;
            return Err(error);
        }
        let (largest_producer_id, log_end) = (state.largest_producer_id, state.log_end);
        Ok(EndedMirror { leader_epoch: epoch, largest_producer_id, log_end, aborted: open.len() })
    }

    /// Ends the `open` transactions: producer id, first offset, producer epoch.
    fn abort(&self, open: &[(i64, Offset, i16)], epoch: LeaderEpoch, now_ms: i64) -> Result<(), Error> {
        let log_end = self.watermarks().log_end;
        let markers = (log_end.0..).zip(open).map(|(at, (producer_id, _, producer_epoch))| {
            abort_marker(Offset(at), epoch, *producer_id, *producer_epoch, now_ms)
        });
        let markers =
            markers.collect::<io::Result<Vec<_>>>().map_err(|source| self.io("abort transactions of", source))?;
        self.append_in_turn(&markers, false)?;
        Ok(())
    }

    /// Rolls, unless the active segment is empty, and writes a snapshot without producers. The next flush has them durable.
    fn begin_native_segment(&self, durably: Durably) -> io::Result<()> {
        let (active, snapshot, log_end) = {
            let mut state = self.lock();
            state.names_dirty = true;
            (state.segments.last().cloned(), state.encode_snapshot(), state.log_end)
        };
        self.write_snapshot(&snapshot, log_end, durably)?;
        let Some(mut active) = active.filter(|active| active.size > 0) else { return Ok(()) };
        self.finish(&mut active)?;
        let made = self.create_segment(log_end)?;
        let mut state = self.lock();
        if let Some(last) = state.segments.last_mut() {
            *last = active;
        }
        state.segments.push(made);
        state.touched = true;
        state.check();
        Ok(())
    }

    /// Syncs the snapshot of the active segment's start.
    fn sync_snapshot(&self) -> io::Result<()> {
        let active = self.lock().segments.last().map(|active| active.files.snapshot_path());
        match active.map(|path| self.directory.disk.open(path)?.sync()) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The batch with which a transaction coordinator aborts (`MemoryRecords.withEndTransactionMarker`): one control record, key
/// version 0 and type ABORT, value version 0 and the coordinator's epoch.
fn abort_marker(
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer_id: i64,
    producer_epoch: i16,
    now_ms: i64,
) -> io::Result<Batch> {
    // Length, attributes, timestamp and offset delta, key (4 bytes), value (6 bytes), no headers; lengths as zigzag varints.
    let record = [32, 0, 0, 0, 8, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0];
    let header = BatchHeader {
        base_offset,
        size_bytes: 0,
        leader_epoch,
        crc: 0,
        attributes: 0x30, // transactional, control
        last_offset_delta: 0,
        base_timestamp: now_ms,
        max_timestamp: now_ms,
        producer_id,
        producer_epoch,
        base_sequence: -1,
        record_count: 1,
    };
    Batch::seal(header, &record)
}
