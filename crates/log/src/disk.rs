//! The file operations of the log, over `std::fs`, with a place where a test makes them fail.
//!
//! Nothing else in this crate writes, syncs, truncates, renames or removes. A [`Faults`] plan is asked before each such
//! act and told after it; without one (always, outside tests) an act costs one branch more than the system call.

use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most slices of one `pwritev`; far below Linux's `IOV_MAX` of 1024, enough that the call's cost does not count.
const SLICES_MAX: usize = 256;
/// Bytes after which a `pwritev` is long enough. Linux takes folios as large as one write for the page cache; the largest are
/// the ones that a virtual machine has given back to its host, and touching them anew costs more than the copy.
const WRITE_BYTES: usize = 128 * 1024;

/// An act on the disk that a plan may make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Write so many bytes.
    Write(usize),
    /// fdatasync of a file or fsync of a directory.
    Sync,
    /// syncfs of the file system that holds a directory.
    SyncFileSystem,
    /// Change a file's length.
    Truncate,
    /// Make, rename or remove a file.
    Name,
}

/// When a replaced file must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durably {
    /// When the call returns.
    Now,
    /// At the next [`FileSystem::sync`]. After a crash before it, the file may be damaged.
    Later,
}

/// What a plan lets happen.
#[derive(Debug)]
pub enum Verdict {
    /// The act is done.
    Proceed,
    /// Only so many bytes are written, then the error is returned.
    Short(usize, io::Error),
    /// Nothing is done and the error is returned.
    Fail(io::Error),
}

/// A plan of faults.
pub trait Faults: Send + Sync {
    /// Asked before every act on `path`.
    fn before(&self, act: Act, path: &Path) -> Verdict;
    /// Told after every act on `path` that succeeded.
    fn after(&self, act: Act, path: &Path) {
        let _ = (act, path);
    }
}

/// The disk, or a disk with faults.
#[derive(Clone)]
pub struct Disk {
    faults: Option<Arc<dyn Faults>>,
    /// See [`FileSystem`].
    syncfs_tells: bool,
}

/// The file system that holds a directory, to make everything on it durable with one syncfs for thousands of files.
///
/// syncfs tells of every failed writeback since its descriptor was opened, but only from Linux 5.8 on (`f_sb_err`), and an
/// error that another descriptor was told of is none for one that is opened later. So there is one, held as long as the
/// data directory is open, and none on older kernels.
pub(crate) struct FileSystem {
    root: File,
    path: PathBuf,
    faults: Option<Arc<dyn Faults>>,
}

/// An open file of a [`Disk`].
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
    faults: Option<Arc<dyn Faults>>,
}

impl Disk {
    /// A disk on which `faults` decides what succeeds.
    pub fn with_faults(faults: Arc<dyn Faults>) -> Self {
        Self { faults: Some(faults), ..Self::default() }
    }

    /// The disk as on a kernel whose syncfs does not tell of failed writeback: every file is synced by itself.
    pub fn without_syncfs(self) -> Self {
        Self { syncfs_tells: false, ..self }
    }

    pub(crate) fn open(&self, path: PathBuf) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(DiskFile { file, path, faults: self.faults.clone() })
    }

    /// Opens `path`, making it if need be, and gives it `contents`. Not by truncating it first: ext4 then flushes it when it
    /// is closed, which makes the recovery of thousands of partitions slow.
    pub(crate) fn fill(&self, path: PathBuf, contents: &[u8]) -> io::Result<()> {
        let make = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = DiskFile { file: act(&self.faults, Act::Name, &path, make)?, faults: self.faults.clone(), path };
        if !contents.is_empty() {
            file.write_all_at(contents, 0)?;
        }
        if file.len()? != contents.len() as u64 {
            file.truncate(contents.len() as u64)?;
        }
        Ok(())
    }

    /// Opens `path`, making it if need be; whatever it held is gone.
    pub(crate) fn create(&self, path: PathBuf) -> io::Result<DiskFile> {
        let make = || OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = act(&self.faults, Act::Name, &path, make)?;
        Ok(DiskFile { file, path, faults: self.faults.clone() })
    }

    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        act(&self.faults, Act::Name, path, || std::fs::create_dir_all(path))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        act(&self.faults, Act::Name, to, || std::fs::rename(from, to))
    }

    /// Removes `path`; that it is not there is no error.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        act(&self.faults, Act::Name, path, || match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        })
    }

    pub(crate) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        act(&self.faults, Act::Name, path, || std::fs::remove_dir_all(path))
    }

    /// Makes the names in `dir` durable.
    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        act(&self.faults, Act::Sync, dir, || File::open(dir)?.sync_all())
    }

    /// The file system that holds `dir`; `None` if its syncfs cannot be relied on.
    pub(crate) fn file_system(&self, dir: &Path) -> io::Result<Option<FileSystem>> {
        if !self.syncfs_tells {
            return Ok(None);
        }
        Ok(Some(FileSystem { root: File::open(dir)?, path: dir.to_owned(), faults: self.faults.clone() }))
    }

    /// Replaces `path` as a whole and durably: after a crash it holds the old contents or the new.
    pub(crate) fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.replace_with(path, contents, Durably::Now)
    }

    /// Replaces `path` as a whole.
    pub(crate) fn replace_with(&self, path: &Path, contents: &[u8], durably: Durably) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.create(temporary.clone())?;
        file.write_all_at(contents, 0)?;
        match (durably, path.parent()) {
            (Durably::Now, Some(dir)) => {
                file.sync()?;
                self.rename(&temporary, path)?;
                self.sync_dir(dir)
            }
            _ => self.rename(&temporary, path),
        }
    }
}

impl FileSystem {
    /// Makes everything on it durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        act(&self.faults, Act::SyncFileSystem, &self.path, || Ok(rustix::fs::syncfs(&self.root)?))
    }
}

impl Default for Disk {
    fn default() -> Self {
        let kernel = rustix::system::uname();
        Self { faults: None, syncfs_tells: kernel.release().to_str().is_ok_and(syncfs_tells) }
    }
}

/// Whether a kernel of this release is Linux 5.8 or later; not if that cannot be told.
fn syncfs_tells(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 8))
}

impl DiskFile {
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if let Some(faults) = &self.faults {
            self.write_with_faults(faults.as_ref(), bytes, position)
        } else {
            self.file.write_all_at(bytes, position)
        }
    }

    fn write_with_faults(&self, faults: &dyn Faults, bytes: &[u8], position: u64) -> io::Result<()> {
        let write = Act::Write(bytes.len());
        match faults.before(write, &self.path) {
            Verdict::Proceed => self.file.write_all_at(bytes, position)?,
            Verdict::Short(count, error) => {
                self.file.write_all_at(bytes.get(..count).unwrap_or(bytes), position)?;
                return Err(error);
            }
            Verdict::Fail(error) => return Err(error),
        }
        faults.after(write, &self.path);
        Ok(())
    }

    /// Writes `pieces` one after the other from `position` on, some [`WRITE_BYTES`] with each `pwritev`.
    pub(crate) fn write_pieces_at<'a>(
        &self,
        pieces: impl Iterator<Item = &'a Bytes>,
        mut position: u64,
    ) -> io::Result<()> {
        let mut pieces = pieces.peekable();
        let mut slices: [_; SLICES_MAX] = std::array::from_fn(|_| IoSlice::new(&[]));
        while pieces.peek().is_some() {
            let (mut count, mut bytes) = (0, 0);
            for (slot, piece) in slices.iter_mut().zip(&mut pieces) {
                *slot = IoSlice::new(piece);
                (count, bytes) = (count + 1, bytes + piece.len());
                if bytes >= WRITE_BYTES {
                    break;
                }
            }
            position += self.write_slices_at(slices.get_mut(..count).unwrap_or_default(), position)?;
        }
        Ok(())
    }

    fn write_slices_at(&self, mut slices: &mut [IoSlice<'_>], start: u64) -> io::Result<u64> {
        let mut position = start;
        if self.faults.is_some() {
            for slice in slices.iter() {
                self.write_all_at(slice, position)?;
                position += slice.len() as u64;
            }
            return Ok(position - start);
        }
        while !slices.is_empty() {
            match rustix::io::pwritev(&self.file, slices, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(position - start)
    }
}

impl DiskFile {
    /// Reads until `buffer` is full or the file ends; how many bytes that were.
    pub(crate) fn read_at(&self, mut buffer: &mut [u8], mut position: u64) -> io::Result<usize> {
        let wanted = buffer.len();
        while !buffer.is_empty() {
            match self.file.read_at(buffer, position) {
                Ok(0) => break,
                Ok(count) => {
                    position += count as u64;
                    buffer = buffer.get_mut(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - buffer.len())
    }

    /// Reads `count` bytes, fewer at the end of the file, without clearing memory first.
    pub(crate) fn read(&self, count: usize, mut position: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), position) {
                Ok(0) => break,
                Ok(read) => position += read as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(count); // the allocator may have given more room than was asked for
        Ok(bytes)
    }

    pub(crate) fn truncate(&self, length: u64) -> io::Result<()> {
        act(&self.faults, Act::Truncate, &self.path, || self.file.set_len(length))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        act(&self.faults, Act::Sync, &self.path, || self.file.sync_data())
    }
}

fn act<T>(
    faults: &Option<Arc<dyn Faults>>,
    act: Act,
    path: &Path,
    run: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(faults) = faults else { return run() };
    if let Verdict::Short(_, error) | Verdict::Fail(error) = faults.before(act, path) {
        return Err(error);
    }
    let outcome = run()?;
    faults.after(act, path);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncfs_is_relied_on_from_linux_5_8_on() {
        for release in ["5.8.0", "5.8", "5.15.0-91-generic", "6.1.0-rc1", "10.0.1"] {
            assert!(syncfs_tells(release), "{release}");
        }
        for release in ["5.7.19", "4.18.0-513.el8.x86_64", "3.10.0", "5", "", "next", "-5.8"] {
            assert!(!syncfs_tells(release), "{release}");
        }
    }

    #[test]
    fn a_file_system_is_synced_through_the_descriptor_held_since_it_was_opened() {
        let root = tempfile::tempdir().expect("temporary folder");
        let dir = root.path().join("logs");
        std::fs::create_dir(&dir).expect("makes a folder");
        let disk = Disk { syncfs_tells: true, ..Disk::default() };
        let file_system = disk.file_system(&dir).expect("opens").expect("can be relied on");
        std::fs::remove_dir(&dir).expect("removes"); // so that it cannot be opened again
        file_system.sync().expect("syncs");
        assert!(disk.without_syncfs().file_system(root.path()).expect("looks").is_none());
    }
}
