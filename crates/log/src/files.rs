//! The files of one segment, opened when they are needed and closed when too many are open.
//!
//! Ten thousand partitions have thirty thousand files and more; the process has fewer descriptors. A file that is in use
//! stays open as long as its user holds it, whatever the bound says. Which one is closed is decided by second chance:
//! oldest first, unless it was used since it was looked at last.
//!
//! A file may be closed while it holds data that is not yet synced: the kernel keeps both the pages and, since Linux 4.16,
//! a write-back error that nobody has seen yet, for whoever opens and syncs the file next.

use crate::disk::{Disk, DiskFile};
use hawser_wire::Offset;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Which file of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The batches.
    Log,
    /// Offset → position.
    OffsetIndex,
    /// Timestamp → offset.
    TimeIndex,
    /// Aborted transactions; there only if there are any.
    TxnIndex,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Log, Kind::OffsetIndex, Kind::TimeIndex, Kind::TxnIndex];

impl Kind {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::OffsetIndex => "index",
            Self::TimeIndex => "timeindex",
            Self::TxnIndex => "txnindex",
        }
    }
}

/// All files of one segment.
pub(crate) struct SegmentFiles {
    dir: Arc<Path>,
    base: Offset,
    slots: [Slot; 4],
}

#[derive(Default)]
struct Slot {
    file: Mutex<Option<Arc<DiskFile>>>,
    used: AtomicBool,
}

/// Every open file of a data directory.
pub(crate) struct OpenFiles {
    disk: Disk,
    files_max: usize,
    open: Mutex<VecDeque<(Weak<SegmentFiles>, Kind)>>,
}

impl SegmentFiles {
    pub(crate) fn new(dir: Arc<Path>, base: Offset) -> Arc<Self> {
        Arc::new(Self { dir, base, slots: Default::default() })
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    pub(crate) fn path(&self, kind: Kind) -> PathBuf {
        segment_path(&self.dir, self.base, kind.suffix())
    }

    /// Another file of the same folder that is named by an offset.
    pub(crate) fn sibling(&self, offset: Offset, suffix: &str) -> PathBuf {
        segment_path(&self.dir, offset, suffix)
    }

    /// Where the producer snapshot of the segment's start is, if it has one.
    pub(crate) fn snapshot_path(&self) -> PathBuf {
        segment_path(&self.dir, self.base, "snapshot")
    }

    /// Removes the files: renamed first, so that a crash leaves no half of a file that counts (as Kafka does). The log goes
    /// first: an index without its log is an orphan that the next start removes.
    pub(crate) fn remove(&self, disk: &Disk) -> io::Result<()> {
        self.close();
        for kind in KINDS {
            let path = self.path(kind);
            let deleted = path.with_extension(format!("{}.deleted", kind.suffix()));
            match disk.rename(&path, &deleted) {
                Ok(()) => disk.remove(&deleted)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        disk.remove(&self.snapshot_path())
    }

    fn slot(&self, kind: Kind) -> &Slot {
        let [log, offsets, times, txns] = &self.slots;
        match kind {
            Kind::Log => log,
            Kind::OffsetIndex => offsets,
            Kind::TimeIndex => times,
            Kind::TxnIndex => txns,
        }
    }

    /// Closes what is open; those who hold a file go on with it.
    pub(crate) fn close(&self) {
        for slot in &self.slots {
            slot.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

impl OpenFiles {
    pub(crate) fn new(disk: Disk, files_max: usize) -> Self {
        Self { disk, files_max: files_max.max(4), open: Mutex::default() }
    }

    pub(crate) fn open(&self, files: &Arc<SegmentFiles>, kind: Kind) -> io::Result<Arc<DiskFile>> {
        self.open_with(files, kind, |disk, path| disk.open(path))
    }

    /// Opens the file empty, making it if need be.
    pub(crate) fn create(&self, files: &Arc<SegmentFiles>, kind: Kind) -> io::Result<Arc<DiskFile>> {
        files.slot(kind).file.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.open_with(files, kind, |disk, path| disk.create(path))
    }

    fn open_with(
        &self,
        files: &Arc<SegmentFiles>,
        kind: Kind,
        open: impl FnOnce(&Disk, PathBuf) -> io::Result<DiskFile>,
    ) -> io::Result<Arc<DiskFile>> {
        let slot = files.slot(kind);
        let mut cell = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        if let Some(file) = &*cell {
            return Ok(file.clone());
        }
        let file = Arc::new(open(&self.disk, files.path(kind))?);
        *cell = Some(file.clone());
        drop(cell); // `evict` locks other cells, and at worst this one
        self.evict(files, kind);
        Ok(file)
    }

    /// Notes that a file was opened and closes others if there are too many.
    fn evict(&self, opened: &Arc<SegmentFiles>, kind: Kind) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back((Arc::downgrade(opened), kind));
        let mut looks_left = 2 * open.len();
        while open.len() > self.files_max && looks_left > 0 {
            looks_left -= 1;
            let Some((files, kind)) = open.pop_front() else { return };
            let Some(held) = files.upgrade() else { continue };
            let slot = held.slot(kind);
            if slot.used.swap(false, Ordering::Relaxed) {
                open.push_back((files, kind));
            } else {
                slot.file.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// `%020d.suffix` in `dir`.
pub(crate) fn segment_path(dir: &Path, base: Offset, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}.{suffix}", base.0))
}

/// The base offset in a file name of the form `%020d.suffix`.
pub(crate) fn base_of(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?.strip_suffix('.')?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Offset)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_stay_open_and_all_stay_usable() {
        let root = tempfile::tempdir().expect("temporary folder");
        let open = OpenFiles::new(Disk::default(), 8);
        let segments: Vec<_> = (0..50).map(|base| SegmentFiles::new(root.path().into(), Offset(base))).collect();
        let held = open.create(&segments[0], Kind::Log).expect("creates");
        for (number, files) in segments.iter().enumerate().skip(1) {
            open.create(files, Kind::Log).expect("creates").write_all_at(&[number as u8], 0).expect("writes");
            assert!(open.count() <= 8, "{} open", open.count());
        }
        held.write_all_at(&[0], 0).expect("a file in use stays open");
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("proc").count();
        assert!(descriptors < 50, "{descriptors} descriptors");
        for (number, files) in segments.iter().enumerate() {
            let mut byte = [0xff];
            open.open(files, Kind::Log).expect("opens again").read_at(&mut byte, 0).expect("reads");
            assert_eq!(usize::from(byte[0]), number);
        }
    }

    #[test]
    fn names_are_kafkas() {
        assert_eq!(base_of("00000000000000000042.log", "log"), Some(Offset(42)));
        for stranger in
            ["42.log", "00000000000000000042.log.deleted", "00000000000000000042.index", "-0000000000000000042.log"]
        {
            assert_eq!(base_of(stranger, "log"), None, "{stranger}");
        }
        assert_eq!(segment_path(Path::new("t-0"), Offset(42), "index"), Path::new("t-0/00000000000000000042.index"));
    }
}
