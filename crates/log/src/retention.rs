//! Which segments of an ordinary partition are past retention (Kafka's `UnifiedLog.deleteOldSegments`), and files that are
//! removed a while after nothing refers to them any more.

use crate::Error;
use crate::disk::Disk;
use crate::files::{KINDS, SegmentFiles};
use crate::partition::PartitionLog;
use hawser_wire::Offset;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest delay of a removal; `file.delete.delay.ms` may say more than a clock can tell.
const DELAY_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Files renamed to `.deleted`, each with the time from which on it may go (`file.delete.delay.ms`). What is left of them by a
/// crash is removed when the log is loaded.
#[derive(Default)]
pub(crate) struct Doomed {
    files: Vec<(Instant, PathBuf)>,
}

impl Doomed {
    pub(crate) fn add(&mut self, delay_ms: i64, files: Vec<PathBuf>) {
        let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0)).min(DELAY_MAX);
        let due = Instant::now() + delay;
        self.files.extend(files.into_iter().map(|file| (due, file)));
    }

    /// Removes what is due. Files that cannot be removed are left to the next start.
    pub(crate) fn remove_due(&mut self, disk: &Disk) {
        let now = Instant::now();
        self.files.retain(|(due, file)| {
            if *due <= now
                && let Err(error) = disk.remove(file)
            {
                tracing::warn!(path = %file.display(), %error, "remove a deleted file");
            }
            *due > now
        });
    }
}

impl SegmentFiles {
    /// Renames the files to `.deleted`, the log first; as [`remove`](Self::remove), but that they stay for now. The snapshot
    /// goes at once.
    pub(crate) fn doom(&self, disk: &Disk) -> io::Result<Vec<PathBuf>> {
        self.close();
        let mut doomed = Vec::new();
        for kind in KINDS {
            let path = self.path(kind);
            let deleted = path.with_extension(format!("{}.deleted", kind.suffix()));
            match disk.rename(&path, &deleted) {
                Ok(()) => doomed.push(deleted),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        disk.remove(&self.snapshot_path())?;
        Ok(doomed)
    }
}

impl PartitionLog {
    /// Raises the log start above segments that are older than `retention.ms` or beyond `retention.bytes`, oldest first. Only
    /// of an ordinary partition with `cleanup.policy` `delete`.
    ///
    /// # Errors
    /// File errors, `Offline`.
    pub(crate) fn delete_old_segments(&self, now_ms: i64) -> Result<(), Error> {
        match self.retained_from(now_ms) {
            Some(start) => self.raise_log_start(start).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Where the log may begin; `None` if all of it is kept.
    fn retained_from(&self, now_ms: i64) -> Option<Offset> {
        let state = self.lock();
        let config = &state.config;
        if state.leading.is_none() || !config.delete {
            return None;
        }
        let ends = state.segments.iter().skip(1).map(|next| next.base()).chain([state.log_end]);
        let whole: u64 = state.segments.iter().map(|segment| segment.size).sum();
        let mut excess = u64::try_from(config.retention_bytes).map_or(0, |most| whole.saturating_sub(most));
        let mut start = None;
        for (segment, end) in state.segments.iter().zip(ends) {
            // Nothing with a timestamp in it: as Kafka, which goes by the file's age then, but later.
            let aged = config.retention_ms >= 0
                && segment.max_timestamp >= 0
                && now_ms.saturating_sub(segment.max_timestamp) > config.retention_ms;
            let beyond = excess > 0 && segment.size <= excess;
            if segment.size == 0 || !(aged || beyond) {
                break;
            }
            excess = excess.saturating_sub(segment.size);
            start = Some(end);
        }
        start
    }
}
