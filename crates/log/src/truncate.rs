//! What takes data away: truncation at the end, the log start, starting anew.
//!
//! Order of acts, so that a crash between any two leaves a log that was there before or the one that was asked for:
//! segments above a cut go from the last to the first, segments below a log start from the first to the last, and a
//! checkpoint that would be wrong afterwards is corrected before anything is appended.

use crate::disk::Durably;
use crate::files::{Kind, OpenFiles, SegmentFiles, base_of};
use crate::partition::{PartitionLog, lock};
use crate::producers::Producers;
use crate::segment::{Segment, Walk};
use crate::snapshot::Snapshot;
use crate::transactions::{Aborted, Transactions};
use crate::{Error, Watermarks, checkpoint};
use hawser_wire::Offset;
use std::io;

impl PartitionLog {
    /// Drops everything at and above `offset`. A batch that begins below and ends above it is dropped whole; the log then
    /// ends where that batch began. (Kafka's log end is then `offset` itself, until its next restart.) An `offset` below
    /// the log start begins the log anew there (`UnifiedLog.truncateTo`).
    ///
    /// # Errors
    /// File errors, `Offline`, `Led`. If files could not be cut, the partition is offline until [`resume`](Self::resume).
    pub fn truncate_to(&self, offset: Offset) -> Result<Watermarks, Error> {
        let _writing = lock(&self.writing);
        {
            let state = self.lock();
            state.refuse_if_stopped()?;
            state.refuse_if_led(&self.id)?;
            if offset >= state.log_end {
                return Ok(state.watermarks());
            }
            if offset < state.log_start {
                drop(state);
                return self.restart(offset);
            }
        }
        let outcome = self.cut_state(offset).and_then(|()| self.settle(true));
        outcome.map_err(|source| self.io("truncate", source))?;
        Ok(self.watermarks())
    }

    /// Makes the state say that the log ends at `offset`, which is in [log start, log end); reads files only. The caller
    /// holds `writing` and calls [`settle`](Self::settle) next.
    pub(crate) fn cut_state(&self, offset: Offset) -> io::Result<()> {
        let (mut kept, log_start) = {
            let state = self.lock();
            let kept = state.segments.get(..=state.segment_at(offset)).unwrap_or_default().to_vec();
            (kept, state.log_start)
        };
        let open = &self.directory.open_files;
        let mut end = offset;
        if let Some(active) = kept.last_mut()
            && let Some(found) = active.find(open, offset)?
        {
            end = found.end_before.min(offset);
            *active = self.shortened(active, found.position, end)?;
        }
        if end <= log_start {
            self.begin_state(log_start);
            return Ok(());
        }
        let transactions = match kept.last() {
            Some(active) => {
                let snapshot = Snapshot::read(&active.files.snapshot_path())?.unwrap_or_default();
                let mut transactions = snapshot.transactions;
                follow(&mut transactions, active, open, |_| ())?;
                transactions
            }
            None => Transactions::default(),
        };
        let mut state = self.lock();
        state.segments = kept;
        state.log_end = end;
        state.flushed = state.flushed.min(end);
        state.observed_high_watermark = state.observed_high_watermark.min(end);
        state.epoch_floor = state.epoch_floor.max(state.epochs.latest());
        let is_cut = state.epochs.truncate_from_end(end);
        state.epochs_file.note(is_cut);
        state.transactions = transactions;
        let visible = state.high_watermark();
        state.transactions.on_high_watermark(visible);
        state.removals += 1;
        state.touched = true;
        state.check();
        let led = state.leading.is_some();
        drop(state);
        self.changed();
        if led {
            let producers = self.load_producers()?;
            self.lead(producers);
        }
        Ok(())
    }

    /// Brings the files to what the state says: strange segments go, the active one has its files and ends where it
    /// should, durably if need be. May be repeated. If it fails the partition is offline.
    pub(crate) fn settle(&self, durably: bool) -> io::Result<()> {
        let outcome = self.settle_files(durably);
        if let Err(error) = &outcome {
            self.go_offline(format!("cut off what was dropped: {error}"));
        }
        outcome
    }

    fn settle_files(&self, durably: bool) -> io::Result<()> {
        let segments = self.lock().segments.clone();
        let mut strange: Vec<Offset> = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let base = name.to_str().and_then(|name| base_of(name, Kind::Log.suffix()));
            strange.extend(base.filter(|base| !segments.iter().any(|segment| segment.base() == *base)));
        }
        strange.sort_unstable_by(|a, b| b.cmp(a));
        for base in strange {
            SegmentFiles::new(self.dir.clone(), base).remove(&self.directory.disk)?;
        }
        let Some(active) = segments.last() else { return Ok(()) };
        for kind in [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex] {
            if !active.files.path(kind).exists() {
                self.directory.open_files.create(&active.files, kind)?;
            }
        }
        self.trim(active)?;
        if durably {
            self.directory.open_files.open(&active.files, Kind::Log)?.sync()?;
            self.directory.disk.sync_dir(&self.dir)?;
        }
        self.write_epochs(Durably::Now)?;
        self.directory.lower_checkpoints(self)
    }

    /// `segment` as it is when it ends at position `size`, before `end`. Only reads.
    fn shortened(&self, segment: &Segment, size: u64, end: Offset) -> io::Result<Segment> {
        let open = &self.directory.open_files;
        let mut short = segment.clone();
        short.size = size;
        (short.offset_entries, short.indexed_position) = segment.offset_entries_below(open, size)?;
        (short.time_entries, short.indexed_timestamp, short.max_timestamp_offset) =
            segment.time_entries_below(open, end)?;
        short.max_timestamp = short.indexed_timestamp;
        let aborted = segment.aborted(open)?;
        short.txn_entries = aborted.iter().filter(|aborted| aborted.transaction.last_offset < end).count() as u32;
        extend_max_timestamp(&mut short, open)?;
        Ok(short)
    }

    /// Raises the log start, also inside a batch, and removes the segments that lie wholly below it; the files of an ordinary
    /// partition stay for `file.delete.delay.ms`. Lower than the log start: nothing happens.
    ///
    /// # Errors
    /// File errors, `OutOfRange` above the log end, `Led`: the log start of an ordinary partition is its leader's.
    pub fn advance_log_start(&self, offset: Offset) -> Result<Watermarks, Error> {
        self.lock().refuse_if_led(&self.id)?;
        self.raise_log_start(offset)
    }

    /// Raises the log start of any partition.
    pub(crate) fn raise_log_start(&self, offset: Offset) -> Result<Watermarks, Error> {
        let _writing = lock(&self.writing);
        let (everything, snapshot) = {
            let state = self.lock();
            if offset <= state.log_start {
                return Ok(state.watermarks());
            }
            state.refuse_if_stopped()?;
            if offset > state.log_end {
                let (log_start, log_end) = (state.log_start, state.log_end);
                return Err(Error::OutOfRange { offset, log_start, log_end });
            }
            let everything = offset == state.log_end && state.segments.last().is_some_and(|active| active.size > 0);
            (everything, state.encode_snapshot())
        };
        // With everything trimmed the active segment can go too, once there is another.
        let fresh = match everything {
            true => {
                let written = self.write_snapshot(&snapshot, offset, Durably::Now);
                let made = written.and_then(|()| self.create_segment(offset));
                Some(made.map_err(|source| self.io("make a segment of", source))?)
            }
            false => None,
        };
        let (watermarks, gone, delete_delay_ms) = {
            let mut state = self.lock();
            let delete_delay_ms = state.leading.as_ref().map(|_| state.config.file_delete_delay_ms);
            state.names_dirty |= fresh.is_some();
            state.segments.extend(fresh);
            state.log_start = offset;
            state.flushed = state.flushed.max(offset);
            state.observed_high_watermark = state.observed_high_watermark.max(offset);
            let is_cut = state.epochs.truncate_from_start(offset);
            state.epochs_file.note(is_cut);
            let holder = state.segment_at(offset);
            let gone: Vec<_> = state.segments.drain(..holder).collect();
            state.removals += u64::from(!gone.is_empty());
            state.check();
            (state.watermarks(), gone, delete_delay_ms)
        };
        for segment in &gone {
            // What stays behind is removed when the log is opened next.
            let outcome = match delete_delay_ms {
                Some(delay_ms) => segment.files.doom(&self.directory.disk).map(|files| {
                    lock(&self.directory.cleaning).doomed.add(delay_ms, files);
                }),
                None => segment.files.remove(&self.directory.disk),
            };
            if let Err(error) = outcome {
                tracing::warn!(id = %self.id, base = %segment.base(), %error, "remove a segment below the log start");
                break;
            }
        }
        self.directory.checkpoints_are_stale();
        self.mark_dirty(false);
        self.changed();
        Ok(watermarks)
    }

    /// Drops everything and begins anew, empty, at `offset` (`UnifiedLog.truncateFullyAndStartAt`).
    ///
    /// # Errors
    /// File errors, `Offline`, `Led`.
    pub fn restart_at(&self, offset: Offset) -> Result<Watermarks, Error> {
        let _writing = lock(&self.writing);
        {
            let state = self.lock();
            state.refuse_if_stopped()?;
            state.refuse_if_led(&self.id)?;
        }
        self.restart(offset)
    }

    fn restart(&self, offset: Offset) -> Result<Watermarks, Error> {
        let had_data = self.lock().segments.iter().any(|segment| segment.size > 0);
        // What a clean shutdown left there told of another log.
        let removed = self.directory.disk.remove(&self.snapshot_path(offset));
        removed.map_err(|source| self.io("restart", source))?;
        self.begin_state(offset);
        // A new mirror that begins above 0 has nothing to lose, and there may be thousands: it is durable when it is flushed.
        self.settle(had_data).map_err(|source| self.io("restart", source))?;
        Ok(self.watermarks())
    }

    /// Makes the state say that the log is empty and begins at `offset`. The caller holds `writing` and calls
    /// [`settle`](Self::settle) next.
    pub(crate) fn begin_state(&self, offset: Offset) {
        let mut state = self.lock();
        for segment in &state.segments {
            segment.files.close();
        }
        state.segments = vec![Segment::empty(SegmentFiles::new(self.dir.clone(), offset))];
        state.log_start = offset;
        state.log_end = offset;
        state.flushed = offset;
        state.observed_high_watermark = offset;
        let is_cut = !state.epochs.entries().is_empty();
        state.epochs_file.note(is_cut);
        state.epoch_floor = state.epoch_floor.max(state.epochs.latest());
        state.epochs.clear();
        state.transactions = Transactions::default();
        state.removals += 1;
        state.touched = true;
        state.names_dirty = true;
        state.check();
        let led = state.leading.is_some();
        drop(state);
        self.changed();
        if led {
            self.lead(Producers::default());
        }
    }

    /// Makes the epoch checkpoint equal to what is known, if it is not.
    pub(crate) fn write_epochs(&self, durably: Durably) -> io::Result<()> {
        let _writing = lock(&self.writing_epochs);
        let (epochs, then) = {
            let state = self.lock();
            if state.epochs_file.is_current(durably) {
                return Ok(());
            }
            (state.epochs.clone(), state.epochs_file)
        };
        checkpoint::write_epochs(&self.directory.disk, &self.dir, &epochs, durably)?;
        self.lock().epochs_file.note_written(then, durably);
        Ok(())
    }
}

/// Takes in the timestamps of batches after the last time index entry (`LogSegment.readLargestTimestamp`).
pub(crate) fn extend_max_timestamp(segment: &mut Segment, open: &OpenFiles) -> io::Result<()> {
    let from = match segment.time_entries {
        0 => 0,
        _ => segment.lookup(open, segment.max_timestamp_offset)?,
    };
    let mut walk = Walk::new(segment, open, from)?;
    while let Some((_, header)) = walk.next()? {
        if header.max_timestamp > segment.max_timestamp {
            segment.max_timestamp = header.max_timestamp;
            segment.max_timestamp_offset = header.last;
        }
    }
    Ok(())
}

/// Takes in what the batches of `segment` say.
pub(crate) fn follow(
    transactions: &mut Transactions,
    segment: &Segment,
    open: &OpenFiles,
    mut on_aborted: impl FnMut(Aborted),
) -> io::Result<()> {
    let mut walk = Walk::new(segment, open, 0)?;
    while let Some((position, header)) = walk.next()? {
        if Transactions::concern(&header) {
            let says = if header.is_control() { walk.marker(position)? } else { None };
            transactions.on_batch(&header, says).into_iter().for_each(&mut on_aborted);
        }
    }
    Ok(())
}
