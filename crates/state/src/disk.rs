//! The redb file: its tables, its format number and how it is opened. A failed write closes the file, and the next
//! access opens it anew: so the daemon goes on by itself once a full disk has space again.

use crate::Error;
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) const META: TableDefinition<&str, &str> = TableDefinition::new("meta");
pub(crate) const LINKS: TableDefinition<&str, &str> = TableDefinition::new("links");
pub(crate) const TOPICS: TableDefinition<&str, &str> = TableDefinition::new("topics");
pub(crate) const GROUPS: TableDefinition<&str, &str> = TableDefinition::new("groups");
/// Each ACL as JSON.
pub(crate) const ACLS: TableDefinition<&str, ()> = TableDefinition::new("acls");
/// User and mechanism → credential in Kafka's stored form.
pub(crate) const USERS: TableDefinition<(&str, &str), &str> = TableDefinition::new("users");
/// Topic id and partition; leader epoch.
pub(crate) const EPOCHS: TableDefinition<(u128, i32), i32> = TableDefinition::new("leader.epochs");
pub(crate) const OFFSETS: TableDefinition<OffsetKey, OffsetValue> = TableDefinition::new("offsets");

/// Group, topic, partition.
type OffsetKey = (&'static str, &'static str, i32);
/// Offset, leader epoch, commit timestamp in ms, metadata.
type OffsetValue = (i64, i32, i64, &'static str);

/// Raised by every change that an older Hawser would misread.
const FORMAT: u32 = 1;
const FORMAT_KEY: &str = "format";
/// Enough for the inner pages of millions of offsets; redb's own default is 1 GiB.
const CACHE_BYTES: usize = 8 << 20;

pub(crate) struct Disk {
    path: PathBuf,
    /// Held over a whole write, fsync included; no reader takes it.
    writing: Mutex<()>,
    /// `None` after a failure. Whoever uses it shares the lock; alone is who opens or closes it.
    database: RwLock<Option<Database>>,
}

impl Disk {
    /// Opens or creates the file, readable by its owner only, as it holds secrets.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let disk = Self { path: path.to_owned(), writing: Mutex::new(()), database: RwLock::new(None) };
        disk.write(check_format)?;
        Ok(disk)
    }

    /// One transaction, durable when this returns `Ok`; undone otherwise.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, Failure>) -> Result<T, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.with(|database| {
            let transaction = database.begin_write()?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// Looks at what is durable; waits for no write.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, Failure>) -> Result<T, Error> {
        // The snapshot needs no lock: a slow reader keeps nobody from closing the file.
        let transaction = self.with(|database| Ok(database.begin_read()?))?;
        look(&transaction).map_err(|failure| self.error(&failure))
    }

    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Error> {
        let mut slot = self.shared();
        if slot.is_none() {
            drop(slot);
            self.open_if_closed().map_err(|failure| self.error(&failure))?;
            slot = self.shared();
        }
        let outcome = match &*slot {
            Some(database) => act(database),
            None => Err(Failure::Io(std::io::Error::other("closed by another failure"))),
        };
        drop(slot);
        outcome.map_err(|failure| {
            // redb refuses everything after one I/O error until the file is opened anew.
            *self.alone() = None;
            self.error(&failure)
        })
    }

    fn open_if_closed(&self) -> Result<(), Failure> {
        let mut slot = self.alone();
        if slot.is_none() {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
            let database = Builder::new().set_cache_size(CACHE_BYTES).create_file(file)?;
            // A file whose directory entry is lost is lost.
            if let Some(parent) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
            *slot = Some(database);
        }
        Ok(())
    }

    fn shared(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error about something that was not even tried.
    pub(crate) fn refused(&self, reason: &str) -> Error {
        Error { path: self.path.display().to_string(), reason: reason.to_owned() }
    }

    fn error(&self, failure: &Failure) -> Error {
        Error { path: self.path.display().to_string(), reason: failure.to_string() }
    }
}

/// Checks the format number, writing it at first start.
fn check_format(transaction: &WriteTransaction) -> Result<(), Failure> {
    let mut meta = transaction.open_table(META)?;
    let found = meta.get(FORMAT_KEY)?.map(|v| v.value().to_owned());
    match found.as_deref().map(str::parse::<u32>) {
        None => {
            meta.insert(FORMAT_KEY, FORMAT.to_string().as_str())?;
        }
        Some(Ok(FORMAT)) => {}
        Some(Ok(newer)) if newer > FORMAT => return Err(Failure::Newer(newer)),
        Some(_) => return Err(Failure::Corrupt(format!("format number {found:?}"))),
    }
    drop(meta);
    // Made here once, so that readers never meet a missing table.
    transaction.open_table(LINKS)?;
    transaction.open_table(TOPICS)?;
    transaction.open_table(GROUPS)?;
    transaction.open_table(OFFSETS)?;
    transaction.open_table(ACLS)?;
    transaction.open_table(USERS)?;
    transaction.open_table(EPOCHS)?;
    Ok(())
}

/// Why a transaction failed; becomes an [`Error`] with the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("written by a newer Hawser: format {0}, this one reads up to {FORMAT}")]
    Newer(u32),
    #[error("corrupt: {0}")]
    Corrupt(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Redb(Box<redb::Error>),
}

impl From<redb::DatabaseError> for Failure {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::Io(std::io::Error::other("in use by another process")),
            other => Self::Redb(Box::new(other.into())),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        })*
    };
}
from_redb!(TransactionError, TableError, StorageError, CommitError);
