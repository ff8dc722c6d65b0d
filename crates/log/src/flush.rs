//! What is fsynced, when, and what happens when that fails.
//!
//! A flush syncs the `.log` of the active segment and every file of the segments rolled since the last one, the names in
//! the folder if files were made, and the epoch checkpoint if epochs changed; then `flushed` moves. The active segment's
//! indexes are not synced: after a crash they are rebuilt from the log, as is everything from the segment on that holds
//! the recovery point.
//!
//! When an fsync fails, Linux may drop the pages that it could not write and report the error only once. So nothing above
//! the last good fsync is trusted: the log ends there from that moment on, the partition is [`Status::Offline`], and
//! [`PartitionLog::resume`] cuts the files before anything is appended again. The mirror then fetches the rest once more.

use crate::files::Kind;
use crate::partition::{PartitionLog, Status, lock};
use crate::segment::Segment;
use crate::{Error, Watermarks, checkpoint};
use std::io;
use std::sync::atomic::Ordering;

impl PartitionLog {
    /// fsync of everything dirty, then the recovery point moves. Appends and reads go on meanwhile.
    ///
    /// # Errors
    /// File errors. After a failed fsync the partition is offline and ends at the flushed offset until
    /// [`resume`](Self::resume).
    pub fn flush(&self) -> Result<Watermarks, Error> {
        let _flushing = lock(&self.flushing);
        self.queued.store(false, Ordering::Release);
        loop {
            // A checkpoint that cannot be written is no reason to distrust what was appended.
            self.write_epochs().map_err(|source| self.io("write epochs of", source))?;
            let (segments, end, removals, names_dirty) = {
                let _writing = lock(&self.writing); // a truncation changes the state before the files
                let mut state = self.lock();
                state.refuse_if_stopped()?;
                if state.epochs_dirty {
                    continue;
                }
                if state.flushed == state.log_end && !state.names_dirty {
                    return Ok(state.watermarks());
                }
                let unsynced = state.segments.get(state.segment_at(state.flushed)..).unwrap_or_default();
                let names_dirty = state.names_dirty;
                let snapshot = (unsynced.to_vec(), state.log_end, state.removals, names_dirty);
                state.names_dirty = false;
                snapshot
            };
            let outcome = self.sync(&segments, names_dirty);
            let mut state = self.lock();
            match outcome {
                Ok(()) if state.removals == removals => {
                    state.flushed = state.flushed.max(end);
                    state.check();
                    let watermarks = state.watermarks();
                    drop(state);
                    self.directory.checkpoints_are_stale();
                    self.changed();
                    return Ok(watermarks);
                }
                // Files went away under us, and perhaps came back with other data: look again.
                Ok(()) => state.names_dirty |= names_dirty,
                Err(error) if error.kind() == io::ErrorKind::NotFound && state.removals != removals => {
                    state.names_dirty |= names_dirty;
                }
                Err(source) => {
                    state.names_dirty |= names_dirty;
                    state.status = Status::Offline(format!("flush: {source}"));
                    drop(state);
                    self.distrust();
                    return Err(self.io("flush", source));
                }
            }
        }
    }

    fn sync(&self, segments: &[Segment], names_dirty: bool) -> io::Result<()> {
        if let Some((active, rolled)) = segments.split_last() {
            for segment in rolled {
                self.sync_segment(segment)?;
            }
            self.directory.open_files.open(&active.files, Kind::Log)?.sync()?;
        }
        if names_dirty {
            let disk = &self.directory.disk;
            checkpoint::sync_topic_id(disk, &self.dir)?;
            disk.sync_dir(&self.dir)?;
            disk.sync_dir(&self.directory.root)?;
        }
        Ok(())
    }

    /// Makes the log end at the flushed offset, for readers at once. The files follow in [`resume`](Self::resume).
    fn distrust(&self) {
        let _writing = lock(&self.writing);
        let (flushed, log_end, segments) = {
            let mut state = self.lock();
            state.losses += 1;
            (state.flushed, state.log_end, state.segments.clone())
        };
        for segment in &segments {
            segment.files.close();
        }
        tracing::error!(id = %self.id, %flushed, %log_end, "fsync failed: what was not flushed is given up");
        if flushed < log_end
            && let Err(error) = self.cut_state(flushed)
        {
            tracing::error!(id = %self.id, %error, "find the flushed offset");
        }
    }

    /// Brings an offline partition back: what is above the flushed offset is cut off, durably. The log end may be lower
    /// than it was. A partition that is not offline is left as it is.
    ///
    /// # Errors
    /// File errors: it is then still offline. `Offline` if it was closed.
    pub fn resume(&self) -> Result<Watermarks, Error> {
        let _flushing = lock(&self.flushing);
        let _writing = lock(&self.writing);
        let (flushed, log_end) = {
            let state = self.lock();
            match &state.status {
                Status::Offline(_) => (state.flushed, state.log_end),
                Status::Online | Status::Failing(_) => return Ok(state.watermarks()),
                Status::Closed => return Err(Error::Offline("closed".into())),
            }
        };
        let cut = if flushed < log_end { self.cut_state(flushed) } else { Ok(()) };
        cut.and_then(|()| self.settle(true)).map_err(|source| self.io("resume", source))?;
        let mut state = self.lock();
        state.status = Status::Online;
        tracing::info!(id = %self.id, log_end = %state.log_end, "partition is online again");
        Ok(state.watermarks())
    }

    /// Flushes, brings the files to their final state and takes nothing more.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let flushed = self.flush();
        let _flushing = lock(&self.flushing);
        let _writing = lock(&self.writing);
        let outcome = flushed.and_then(|_| self.finish_active().map_err(|source| self.io("close", source)));
        self.stop();
        outcome
    }

    /// Takes nothing more, whatever the files hold.
    pub(crate) fn stop(&self) {
        let segments = {
            let mut state = self.lock();
            state.status = Status::Closed;
            state.segments.clone()
        };
        for segment in &segments {
            segment.files.close();
        }
        self.changed();
    }

    fn finish_active(&self) -> io::Result<()> {
        let (active, transactions, log_end, touched) = {
            let state = self.lock();
            (state.segments.last().cloned(), state.transactions.clone(), state.log_end, state.touched)
        };
        if let Some(mut active) = active.filter(|_| touched) {
            self.finish(&mut active)?;
            self.sync_segment(&active)?;
            if let Some(last) = self.lock().segments.last_mut() {
                *last = active;
            }
        }
        // Without a snapshot at the log end, a log that was closed cleanly has no transaction open.
        if transactions.any_open() {
            self.write_snapshot(&transactions, log_end)?;
        }
        Ok(())
    }
}
