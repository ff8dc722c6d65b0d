//! A data directory: which partitions are in it, who may use it, how it is closed.

use crate::directory::Directory;
use crate::disk::Disk;
use crate::flush::close_all;
use crate::load::{Checkpointed, load};
use crate::partition::{PartitionLog, lock};
use crate::topic_config::{SEGMENT_BYTES_MAX, TopicConfig};
use crate::{Error, LogConfig, checkpoint, cleaner};
use hawser_wire::{Offset, TopicPartition, Uuid};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

const LOCK: &str = ".lock";
const DELETED_SUFFIX: &str = "-delete";
/// Longest file name that common file systems take.
const FILE_NAME_BYTES_MAX: usize = 255;

/// What the logs of the topic of this name go by.
pub type ConfigOf = Box<dyn Fn(&str) -> Arc<TopicConfig> + Send + Sync>;

/// All partitions of one data directory; locks the directory.
///
/// Dropping it without [`close`](Self::close) is like a crash: the next open recovers.
pub struct Logs {
    pub(crate) directory: Arc<Directory>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    cleaner: Mutex<Option<JoinHandle<()>>>,
    /// Held while partitions are made, deleted or closed: that takes the disk, for which no look-up waits.
    changing: Mutex<()>,
    config_of: OnceLock<ConfigOf>,
    /// Held for its lock.
    _lock: File,
}

impl Logs {
    /// Opens `dir`, recovering every partition found in it (clean ones are not scanned). A partition that cannot be loaded
    /// is reported and left out; [`open_partition`](Self::open_partition) tries it again.
    ///
    /// # Errors
    /// When the directory is locked by another process, or cannot be read.
    pub fn open(dir: &Path, config: LogConfig) -> Result<Self, Error> {
        Self::open_on(Disk::default(), dir, config)
    }

    /// Opens `dir` on a disk that may be made to fail.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(disk: Disk, dir: &Path, mut config: LogConfig) -> Result<Self, Error> {
        let failed = |what: &str, source| Error::Io { what: format!("{what} {}", dir.display()), source };
        disk.create_dir(dir).map_err(|source| failed("make", source))?;
        let lock_file = File::create(dir.join(LOCK)).map_err(|source| failed("lock", source))?;
        rustix::fs::flock(&lock_file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Error::Locked(dir.display().to_string()))?;
        config.segment_bytes = config.segment_bytes.min(SEGMENT_BYTES_MAX);
        let flush_interval = config.flush_interval;
        let directory = Directory::new(dir.to_owned(), config, disk).map_err(|source| failed("open", source))?;
        let directory = Arc::new(directory);
        load_all(&directory).map_err(|source| failed("load", source))?;
        let queue = directory.queue.clone();
        let weak = Arc::downgrade(&directory);
        let flusher = std::thread::Builder::new()
            .name("hawser-log-flush".into())
            .spawn(move || queue.run(&weak, flush_interval))
            .map_err(|source| failed("start the flusher of", source))?;
        let cleaner = match directory.config.cleaner_interval {
            Some(every) => {
                let (weak, stop) = (Arc::downgrade(&directory), directory.stop_cleaning.clone());
                Some(cleaner::start(weak, stop, every).map_err(|source| failed("start the cleaner of", source))?)
            }
            None => None,
        };
        let (flusher, cleaner) = (Mutex::new(Some(flusher)), Mutex::new(cleaner));
        Ok(Self {
            directory,
            flusher,
            cleaner,
            changing: Mutex::default(),
            config_of: OnceLock::new(),
            _lock: lock_file,
        })
    }

    /// The bounds of the directory, and the defaults of its topics.
    pub fn config(&self) -> &LogConfig {
        &self.directory.config
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.directory.root
    }

    /// Bytes of the file system that holds the folder, and how many of them may still be written. Blocks.
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        let space = rustix::fs::statvfs(&self.directory.root)?;
        Ok((space.f_blocks.saturating_mul(space.f_frsize), space.f_bavail.saturating_mul(space.f_frsize)))
    }

    /// The log of `id`, if it exists.
    pub fn partition(&self, id: &TopicPartition) -> Option<Arc<PartitionLog>> {
        self.directory.partitions().get(id).cloned()
    }

    /// The log of `id`, made empty at offset 0 with `topic_id` in `partition.metadata` if it does not exist. The new
    /// folder is durable from its first flush on.
    ///
    /// # Errors
    /// File errors; another topic id in an existing folder; `Closing`.
    pub fn open_partition(&self, id: &TopicPartition, topic_id: Uuid) -> Result<Arc<PartitionLog>, Error> {
        let _changing = lock(&self.changing);
        if self.directory.queue.is_closed() {
            return Err(Error::Closing); // nobody would flush it
        }
        let dir = self.directory.root.join(id.to_string());
        let failed = |source| Error::Io { what: format!("open {id}"), source };
        match checkpoint::read_topic_id(&dir) {
            Some(held) if held != topic_id => {
                return Err(Error::TopicId { partition: id.clone(), held, asked: topic_id });
            }
            Some(_) => {}
            None => {
                self.directory.disk.create_dir(&dir).map_err(failed)?;
                self.directory.names_made.fetch_add(1, Ordering::AcqRel);
                checkpoint::write_topic_id(&self.directory.disk, &dir, topic_id).map_err(failed)?;
            }
        }
        if let Some(log) = self.partition(id) {
            return Ok(log);
        }
        let at = lock(&self.directory.unloaded).get(id).copied().unwrap_or_default();
        let log = load(&self.directory, id, dir.into(), at, false).map_err(failed)?;
        self.directory.partitions_mut().insert(id.clone(), log.clone());
        lock(&self.directory.unloaded).remove(id);
        self.reconfigure(id);
        Ok(log)
    }

    /// From now on every log goes by what `config_of` says of its topic, asked when it is opened and at each
    /// [`reconfigure`](Self::reconfigure); before that, by the defaults of [`config`](Self::config). To be called once.
    pub fn follow(&self, config_of: ConfigOf) {
        if self.config_of.set(config_of).is_ok() {
            self.partitions().iter().for_each(|id| self.reconfigure(id));
        }
    }

    /// Has the log of `id` go by what its topic's config is now. There need be no such log: whoever opens it later asks
    /// later, and the latest answer holds.
    pub fn reconfigure(&self, id: &TopicPartition) {
        if let (Some(log), Some(config_of)) = (self.partition(id), self.config_of.get()) {
            log.configure(|| config_of(&id.topic));
        }
    }

    /// How often a failed fsync took a log end back, over all partitions. Changes once the log end has.
    pub fn losses(&self) -> u64 {
        self.directory.losses.load(Ordering::Acquire)
    }

    /// The topic id of `id`, if its folder exists and has one.
    pub fn topic_id(&self, id: &TopicPartition) -> Option<Uuid> {
        checkpoint::read_topic_id(&self.directory.root.join(id.to_string()))
    }

    /// Deletes the log of `id` (renamed first, then removed, as Kafka does). Whoever holds it finds it closed.
    ///
    /// # Errors
    /// File errors.
    pub fn delete_partition(&self, id: &TopicPartition) -> Result<(), Error> {
        let _changing = lock(&self.changing);
        let (root, disk) = (&self.directory.root, &self.directory.disk);
        let log = self.directory.partitions_mut().remove(id);
        let dir = match &log {
            Some(log) => log.dir.to_path_buf(),
            None if lock(&self.directory.unloaded).remove(id).is_some() => root.join(id.to_string()),
            None => return Ok(()),
        };
        log.iter().for_each(|log| log.stop());
        lock(&self.directory.cleaning).forget(id);
        let doomed = root.join(deleted_name(id));
        let outcome = (|| {
            disk.rename(&dir, &doomed)?;
            disk.sync_dir(root)?;
            disk.remove_dir_all(&doomed)
        })();
        self.directory.checkpoints_are_stale();
        outcome.map_err(|source| Error::Io { what: format!("delete {id}"), source })
    }

    /// Every partition present.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.directory.partitions().keys().cloned().collect()
    }

    /// Writes high watermarks, recovery points and log starts now; otherwise that happens every few seconds.
    ///
    /// # Errors
    /// File errors.
    pub fn write_checkpoints(&self) -> Result<(), Error> {
        let root = &self.directory.root;
        let what = || format!("write checkpoints of {}", root.display());
        self.directory.write_checkpoints().map_err(|source| Error::Io { what: what(), source })
    }

    /// Flushes everything, writes checkpoints and the clean-shutdown mark. Every partition is closed afterwards.
    ///
    /// # Errors
    /// File errors; the mark is then not written.
    pub fn close(&self) -> Result<(), Error> {
        self.stop_cleaner();
        self.stop_flusher();
        let _changing = lock(&self.changing);
        let first_error = close_all(&self.directory);
        let root = &self.directory.root;
        let failed = |what: &str, source| Error::Io { what: format!("{what} {}", root.display()), source };
        self.write_checkpoints()?;
        if let Some(error) = first_error {
            return Err(error);
        }
        if !lock(&self.directory.unloaded).is_empty() {
            return Ok(()); // the mark would lie about them
        }
        // The form of Kafka's `CleanShutdownFileHandler`, without a broker epoch.
        let mark = br#"{"version":0,"brokerEpoch":-1}"#;
        let outcome = self.directory.disk.replace(&root.join(checkpoint::CLEAN_SHUTDOWN), mark);
        outcome.map_err(|source| failed("mark the clean shutdown of", source))
    }

    fn stop_cleaner(&self) {
        self.directory.stop_cleaning.ask();
        if let Some(cleaner) = lock(&self.cleaner).take()
            && cleaner.join().is_err()
        {
            tracing::error!("the cleaner panicked");
        }
    }

    fn stop_flusher(&self) {
        self.directory.queue.close();
        if let Some(flusher) = lock(&self.flusher).take()
            && flusher.join().is_err()
        {
            tracing::error!("the flusher panicked");
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.stop_cleaner();
        self.stop_flusher();
        // Partitions hold the directory and it holds them.
        let partitions = std::mem::take(&mut *self.directory.partitions_mut());
        partitions.values().for_each(|log| log.stop());
    }
}

/// Loads every partition of a directory.
fn load_all(directory: &Arc<Directory>) -> io::Result<()> {
    let root = &directory.root;
    let mark = root.join(checkpoint::CLEAN_SHUTDOWN);
    let clean = mark.exists();
    if clean {
        directory.disk.remove(&mark)?;
        directory.disk.sync_dir(root)?;
    }
    let offsets = |name: &str| checkpoint::read_offsets(&root.join(name)).unwrap_or_default();
    let recovery_points = offsets(checkpoint::RECOVERY_POINT);
    let high_watermarks = offsets(checkpoint::HIGH_WATERMARK);
    let log_starts = offsets(checkpoint::LOG_START);
    let mut loaded = Vec::new();
    for (id, dir) in folders(directory)? {
        let of = |offsets: &HashMap<_, Offset>| offsets.get(&id).copied().unwrap_or(Offset(0));
        let at = Checkpointed {
            recovery_point: of(&recovery_points),
            high_watermark: of(&high_watermarks),
            log_start: of(&log_starts),
        };
        match load(directory, &id, dir.into(), at, clean) {
            Ok(log) => loaded.push((id, log)),
            Err(error) => {
                tracing::error!(%id, %error, "load partition");
                lock(&directory.unloaded).insert(id, at);
            }
        }
    }
    directory.partitions_mut().extend(loaded);
    Ok(())
}

/// The partition folders, without what a deletion left behind.
fn folders(directory: &Directory) -> io::Result<Vec<(TopicPartition, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&directory.root)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|_| entry.path().is_dir()) else { continue };
        if name.ends_with(DELETED_SUFFIX) {
            directory.disk.remove_dir_all(&entry.path())?;
        } else if let Some((topic, partition)) = name.rsplit_once('-')
            && let Ok(partition) = partition.parse()
            && partition >= 0
        {
            found.push((TopicPartition::new(topic, partition), entry.path()));
        }
    }
    Ok(found)
}

/// `topic-partition.uniqueId-delete`, the topic cut where the name would be too long (`LocalLog.logDeleteDirName`).
fn deleted_name(id: &TopicPartition) -> String {
    let suffix = format!("-{}.{}{DELETED_SUFFIX}", id.partition, Uuid::new_v4().simple());
    let room = FILE_NAME_BYTES_MAX - suffix.len().min(FILE_NAME_BYTES_MAX);
    let topic = id.topic.get(..id.topic.len().min(room)).unwrap_or_default();
    format!("{topic}{suffix}")
}
