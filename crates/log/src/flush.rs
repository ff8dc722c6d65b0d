//! What is fsynced, when, and what happens when that fails.
//!
//! A flush syncs the `.log` of the active segment and every file of the segments rolled since the last one, the names in
//! the folder if files were made, and the epoch checkpoint if epochs changed; then `flushed` moves. The active segment's
//! indexes are not synced: after a crash they are rebuilt from the log, as is everything from the segment on that holds
//! the recovery point. Many dirty partitions are flushed with one syncfs.
//!
//! When an fsync fails, Linux may drop the pages that it could not write and report the error only once. So nothing above
//! the last good fsync is trusted: the log ends there from that moment on, the partition is [`Status::Offline`], and
//! [`PartitionLog::resume`] cuts the files before anything is appended again. The mirror then fetches the rest once more.

use crate::directory::Directory;
use crate::disk::Durably;
use crate::files::Kind;
use crate::partition::{PartitionLog, Status, lock};
use crate::segment::Segment;
use crate::{Error, Watermarks, checkpoint};
use hawser_wire::Offset;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// From so many logs on, one syncfs is cheaper than an fsync or more for each.
pub(crate) const TOGETHER_MIN: usize = 64;

/// How the status of a log begins whose flush panicked; the next good one takes it back.
pub(crate) const FLUSH_PANICKED: &str = "flush panicked: ";

/// What a flush syncs, and up to where the log is durable then.
struct Unflushed {
    segments: Vec<Segment>,
    end: Offset,
    removals: u64,
    names_dirty: bool,
}

impl PartitionLog {
    /// fsync of everything dirty, then the recovery point moves. Appends and reads go on meanwhile.
    ///
    /// # Errors
    /// File errors. After a failed fsync the partition is offline and ends at the flushed offset until
    /// [`resume`](Self::resume).
    pub fn flush(&self) -> Result<Watermarks, Error> {
        let _flushing = lock(&self.flushing);
        loop {
            let Some(unflushed) = self.unflushed(Durably::Now)? else { return Ok(self.watermarks()) };
            match self.sync(&unflushed) {
                Ok(()) => {
                    if let Some(watermarks) = self.note_flushed(&unflushed) {
                        return Ok(watermarks);
                    }
                }
                Err(source) => {
                    let _writing = lock(&self.writing); // an append under way ends first, and does not end above the cut
                    let mut state = self.lock();
                    state.names_dirty |= unflushed.names_dirty;
                    if source.kind() == io::ErrorKind::NotFound && state.removals != unflushed.removals {
                        continue; // a file went away under us: look again
                    }
                    drop(state);
                    self.go_offline(format!("flush: {source}"));
                    self.distrust();
                    return Err(self.io("flush", source));
                }
            }
        }
    }

    /// What a flush must sync, `None` if nothing. Also brings the epoch checkpoint up to date; that it cannot be written is
    /// no reason to distrust what was appended.
    fn unflushed(&self, durably: Durably) -> Result<Option<Unflushed>, Error> {
        self.queued.store(false, Ordering::Release);
        loop {
            self.write_epochs(durably).map_err(|source| self.io("write epochs of", source))?;
            let _writing = lock(&self.writing); // a truncation changes the state before the files
            let mut state = self.lock();
            if state.status != Status::Closing {
                state.refuse_if_stopped()?;
            }
            if !state.epochs_file.is_current(durably) {
                continue;
            }
            if state.flushed == state.log_end && !state.names_dirty {
                return Ok(None);
            }
            let segments = state.segments.get(state.segment_at(state.flushed)..).unwrap_or_default().to_vec();
            let names_dirty = std::mem::take(&mut state.names_dirty);
            return Ok(Some(Unflushed { segments, end: state.log_end, removals: state.removals, names_dirty }));
        }
    }

    /// Moves the recovery point after a sync; `None` if files went away meanwhile, and perhaps came back with other data.
    fn note_flushed(&self, unflushed: &Unflushed) -> Option<Watermarks> {
        let mut state = self.lock();
        if state.removals != unflushed.removals {
            state.names_dirty |= unflushed.names_dirty;
            return None;
        }
        state.flushed = state.flushed.max(unflushed.end);
        if matches!(&state.status, Status::Failing(why) if why.starts_with(FLUSH_PANICKED)) {
            state.status = Status::Online;
        }
        state.check();
        let watermarks = state.watermarks();
        drop(state);
        self.directory.checkpoints_are_stale();
        self.changed();
        Some(watermarks)
    }

    fn sync(&self, unflushed: &Unflushed) -> io::Result<()> {
        if let Some((active, rolled)) = unflushed.segments.split_last() {
            for segment in rolled {
                self.sync_segment(segment)?;
            }
            self.directory.open_files.open(&active.files, Kind::Log)?.sync()?;
        }
        if unflushed.names_dirty {
            checkpoint::sync_topic_id(&self.directory.disk, &self.dir)?;
            self.directory.disk.sync_dir(&self.dir)?;
            self.directory.sync_name(self.made)?;
        }
        Ok(())
    }

    /// Appends nothing until [`resume`](Self::resume) has brought the files to what the state says. From now on the flusher
    /// tries: perhaps nobody else comes by, as there is nothing to append.
    pub(crate) fn go_offline(&self, reason: String) {
        let mut state = self.lock();
        if state.status != Status::Closed {
            state.status = Status::Offline(reason);
        }
        drop(state);
        self.mark_dirty(false);
    }

    /// Makes the log end at the flushed offset, for readers at once. The files follow in [`resume`](Self::resume). The
    /// caller holds `writing`.
    fn distrust(&self) {
        let (flushed, log_end, segments) = {
            let state = self.lock();
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
        self.note_loss();
    }

    /// Tells writers that the log end went back. The caller has taken it back, and holds `writing`.
    fn note_loss(&self) {
        self.lock().losses += 1;
        self.directory.losses.fetch_add(1, Ordering::Release);
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
                Status::Closing => return Err(Error::Closing),
                Status::Closed => return Err(Error::Offline("closed".into())),
            }
        };
        if flushed < log_end {
            self.cut_state(flushed).map_err(|source| self.io("resume", source))?;
            self.note_loss();
        }
        self.settle(true).map_err(|source| self.io("resume", source))?;
        let mut state = self.lock();
        state.status = Status::Online;
        tracing::info!(id = %self.id, log_end = %state.log_end, "partition is online again");
        Ok(state.watermarks())
    }

    /// Lets the append under way end, and refuses those that come after it. An offline partition refuses them anyway.
    fn refuse_appends(&self) {
        let _writing = lock(&self.writing);
        let mut state = self.lock();
        if state.refuse_if_stopped().is_ok() {
            state.status = Status::Closing;
        }
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

    /// Brings the files to their final state. True if there is something to sync.
    fn finish_active(&self, durably: Durably) -> io::Result<bool> {
        let _writing = lock(&self.writing);
        let (active, snapshot, log_end, touched) = {
            let state = self.lock();
            (state.segments.last().cloned(), state.encode_snapshot(), state.log_end, state.touched)
        };
        if let Some(mut active) = active.filter(|_| touched) {
            self.finish(&mut active)?;
            if let Some(last) = self.lock().segments.last_mut() {
                *last = active;
            }
        }
        if touched {
            self.write_snapshot(&snapshot, log_end, durably)?;
        }
        Ok(touched)
    }
}

/// Flushes many logs with one syncfs, if they are many; gives back those that must be flushed one by one.
pub(crate) fn flush_together(logs: Vec<Arc<PartitionLog>>) -> Vec<Arc<PartitionLog>> {
    let Some(directory) = logs.get(TOGETHER_MIN - 1).map(|log| log.directory.clone()) else { return logs };
    let Some(file_system) = &directory.file_system else { return logs };
    let (mut left, mut pending) = (Vec::new(), Vec::new());
    for log in &logs {
        match log.unflushed(Durably::Later) {
            Ok(unflushed) => pending.push((log, unflushed, log.lock().epochs_file)),
            Err(_) => left.push(log.clone()),
        }
    }
    let synced = file_system.sync();
    if let Err(error) = &synced {
        tracing::warn!(root = %directory.root.display(), %error, "syncfs failed: flushing one by one");
    }
    for (log, unflushed, epochs_file) in pending {
        if synced.is_err() {
            log.lock().names_dirty |= unflushed.is_some_and(|unflushed| unflushed.names_dirty);
            left.push(log.clone());
            continue;
        }
        log.lock().epochs_file.note_durable(epochs_file);
        if unflushed.is_some_and(|unflushed| log.note_flushed(&unflushed).is_none()) {
            left.push(log.clone());
        }
    }
    left
}

/// Flushes all logs, brings their files to their final state and closes them; the first error. Appends are refused from the
/// beginning: none may come to lie behind the clean-shutdown mark.
pub(crate) fn close_all(directory: &Directory) -> Option<Error> {
    let logs = directory.all();
    logs.iter().for_each(|log| log.refuse_appends());
    let mut errors: Vec<Error> = flush_together(logs.clone()).iter().filter_map(|log| log.flush().err()).collect();
    let mut touched = Vec::new();
    let together = directory.file_system.as_ref().filter(|_| logs.len() >= TOGETHER_MIN);
    let durably = if together.is_some() { Durably::Later } else { Durably::Now };
    for log in &logs {
        match log.finish_active(durably) {
            Ok(true) => touched.push(log),
            Ok(false) => {}
            Err(source) => errors.push(log.io("close", source)),
        }
    }
    if let Some(file_system) = together.filter(|_| !touched.is_empty()) {
        let what = || format!("sync {}", directory.root.display());
        let synced = file_system.sync();
        errors.extend(synced.err().map(|source| Error::Io { what: what(), source }));
    } else {
        let sync = |log: &&Arc<PartitionLog>| {
            let active = log.lock().segments.last().cloned();
            active.and_then(|active| log.sync_segment(&active).err()).map(|source| log.io("close", source))
        };
        errors.extend(touched.iter().filter_map(sync));
    }
    logs.iter().for_each(|log| log.stop());
    errors.iter().for_each(|error| tracing::error!(%error, "close"));
    errors.into_iter().next()
}
