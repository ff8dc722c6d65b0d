//! The one folder that quickstart writes to: fetched jars, which stay, and `run`, which is made anew each time.
//! Files are for their owner only: they hold the logins of the demonstration.

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MARK: &str = "made-by-hawser-quickstart";

/// The folder, locked while we run.
pub(super) struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes `dir`: new, empty, or left by an earlier quickstart.
    ///
    /// # Errors
    /// A folder with something else in it, or in use by another quickstart.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let marked = dir.join(MARK).exists();
        if !marked && dir.exists() && dir.read_dir().with_context(|| dir.display().to_string())?.next().is_some() {
            bail!("{} is not empty and was not made by quickstart; choose another with --dir", dir.display());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("create {}", dir.display()))?;
        let root = dir.canonicalize().with_context(|| dir.display().to_string())?;
        let lock = File::create(root.join(MARK)).with_context(|| format!("write to {}", root.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another quickstart is running in {}", root.display());
        }
        let folder = Self { root, _lock: lock };
        let run = folder.run();
        if run.exists() {
            std::fs::remove_dir_all(&run).with_context(|| format!("remove {}", run.display()))?;
        }
        folder.make("run")?;
        Ok(folder)
    }

    /// The folder itself, absolute.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// This run's part of it.
    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Makes a folder under the root.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    pub(super) fn make(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.root.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    }

    /// Writes a file of this run, readable by its owner only.
    ///
    /// # Errors
    /// As `open(2)` and `write(2)`.
    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.run().join(name);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}
