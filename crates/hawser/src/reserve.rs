//! Room for a start on a full disk. A start writes a little, and cannot do without: the state counts it, and recovery makes
//! indexes anew. So a file beside the state holds that room while the daemon runs: it is let go of when there is no other, for
//! as long as the daemon starts, and filled again as far as there is room by then.
//!
//! A file system that gives no room in advance (one that is compressed, or writes nothing in place) has no reserve.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

/// In `log.dirs`, beside the state.
const FILE: &str = "hawser.reserve";
/// Some ten times what a start with a thousand partitions writes.
const BYTES: u64 = 4 << 20;
/// Less is no help.
const BYTES_MIN: u64 = 64 << 10;

/// The reserve of a daemon that starts.
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Of the daemon whose folder is `dir`; let go of if less than that is left there.
    pub(crate) fn open(dir: &Path) -> Self {
        let reserve = Self { path: dir.join(FILE) };
        let left = statvfs(dir).map_or(u64::MAX, |space| space.f_bavail.saturating_mul(space.f_frsize));
        if left < BYTES
            && let Ok(held) = std::fs::metadata(&reserve.path)
        {
            tracing::warn!(dir = %dir.display(), left, held = held.len(), "the disk is full: starting with what is kept in reserve for it");
            let _ = std::fs::remove_file(&reserve.path); // what comes next fails with its reason
        }
        reserve
    }

    /// Takes as much as there is room for, up to what is wanted. That there is none is no error: the next start may find some.
    pub(crate) fn fill(&self) {
        if let Err(error) = self.try_fill() {
            tracing::warn!(path = %self.path.display(), %error, "nothing can be kept in reserve for a start on a full disk");
        }
    }

    fn try_fill(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
        let mut bytes = BYTES;
        loop {
            match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::NOSPC) if bytes > BYTES_MIN => bytes /= 2,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
