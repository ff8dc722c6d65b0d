#![forbid(unsafe_code)]
//! What must survive a restart besides data: the cluster's identity, links, topics and their mirrors, ACLs, users, groups
//! and committed offsets. One redb file; every write is durable when the call returns.
//!
//! Everything but groups and offsets is also held in memory, so reading it costs a lock and no I/O. Writes block on
//! fsync: async callers hand them to a blocking thread, and many offsets go into one [`State::apply`].

mod acls;
mod consumer_groups;
mod disk;
mod epochs;
#[cfg(test)]
mod fuzz;
mod groups;
mod records;
mod users;

pub use acls::{
    ACLS_MAX, AclFilter, AclOperation, AclPatternType, AclPermission, AclRecord, AclResourceType, AclsChanged,
    EVERYONE, PatternFilter, WILDCARD,
};
pub use consumer_groups::{ConsumerGroupRecord, ConsumerMemberRecord, MemberState, Partitions, TopicShape};
pub use hawser_link::mirror::{MirrorStatus, MirrorStop};
pub use records::{
    CommittedOffset, GroupChange, GroupMemberRecord, GroupRecord, LinkRecord, MirrorRecord, SecretConfigs, TopicRecord,
};

pub use users::{ScramKey, StoredCredential};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use disk::{Disk, Failure, LINKS, META, TOPICS};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use uuid::Uuid;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("state {path}: {reason}")]
pub struct Error {
    /// The file.
    pub path: String,
    /// What went wrong.
    pub reason: String,
}

/// In `META`: the first producer id that nobody has.
const PRODUCER_IDS: &str = "producer.id.next";

/// The open state file, with everything but groups and offsets also held in memory. Cheap to clone.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Disk,
    cluster_id: String,
    member_id: Uuid,
    member_epoch: i64,
    secret: [u8; 32],
    /// Held over a whole change, disk included, so that memory follows the disk in the same order.
    changing: Mutex<()>,
    /// Held for moments only: no reader waits for a disk.
    cache: RwLock<Cache>,
}

#[derive(Default)]
struct Cache {
    links: BTreeMap<String, Arc<LinkRecord>>,
    topics: BTreeMap<String, Arc<TopicRecord>>,
    topic_names: HashMap<Uuid, String>,
    acls: acls::Acls,
    users: users::Users,
    version: u64,
}

impl State {
    /// Opens or creates the file; makes the cluster id (22 characters, as Kafka's) and the daemon's member id at first
    /// start, and raises the epoch by one at every start.
    ///
    /// # Errors
    /// When the file is in use by another process, unreadable, or of a newer format.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let disk = Disk::open(file)?;
        let (identity, cache) = disk.write(|t| Ok((begin_epoch(t)?, load(t)?)))?;
        let Identity { cluster_id, member_id, member_epoch, secret } = identity;
        let inner = Inner {
            disk,
            cluster_id,
            member_id,
            member_epoch,
            secret,
            changing: Mutex::new(()),
            cache: RwLock::new(cache),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The id of the cluster that the embedded store is.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// Keeps `seen` as the id of the cluster that this daemon stands beside, if none is kept yet; gives the one that is
    /// kept. Another id than `seen` means that the daemon was moved to another cluster. Blocks on fsync the first time.
    ///
    /// # Errors
    /// When the write failed; nothing is kept then.
    pub fn pin_local_cluster(&self, seen: &str) -> Result<String, Error> {
        let _changing = self.changing();
        self.inner.disk.write(|t| once(&mut t.open_table(META)?, "local.cluster.id", || seen.to_owned()))
    }

    /// The id kept by [`pin_local_cluster`](Self::pin_local_cluster), if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn local_cluster(&self) -> Result<Option<String>, Error> {
        self.inner.disk.read(|t| Ok(t.open_table(META)?.get("local.cluster.id")?.map(|v| v.value().to_owned())))
    }

    /// This daemon's member id.
    pub fn member_id(&self) -> Uuid {
        self.inner.member_id
    }

    /// Number of starts.
    pub fn member_epoch(&self) -> i64 {
        self.inner.member_epoch
    }

    /// Random bytes that nobody else knows; the same after every start.
    pub fn secret(&self) -> &[u8; 32] {
        &self.inner.secret
    }

    /// Another number after every change of topics or ACLs: who keeps what follows from them looks here.
    pub fn catalogue_version(&self) -> u64 {
        self.cache().version
    }

    /// All links by name.
    pub fn links(&self) -> Vec<Arc<LinkRecord>> {
        self.cache().links.values().cloned().collect()
    }

    /// One link.
    pub fn link(&self, name: &str) -> Option<Arc<LinkRecord>> {
        self.cache().links.get(name).cloned()
    }

    /// Writes (inserts or replaces) a link. Blocks on fsync.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn put_link(&self, link: LinkRecord) -> Result<(), Error> {
        let _changing = self.changing();
        self.inner.disk.write(|t| put(t, LINKS, &link.name, &link))?;
        self.cache_mut().links.insert(link.name.clone(), Arc::new(link));
        Ok(())
    }

    /// Changes a link, whether or not others change it meanwhile; `false` if there is none. `change` says whether there
    /// is anything to write. Blocks on fsync.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn update_link(&self, name: &str, change: impl FnOnce(&mut LinkRecord) -> bool) -> Result<bool, Error> {
        let _changing = self.changing();
        let Some(link) = self.link(name) else { return Ok(false) };
        let mut link = LinkRecord::clone(&link);
        if !change(&mut link) {
            return Ok(true);
        }
        self.inner.disk.write(|t| put(t, LINKS, name, &link))?;
        self.cache_mut().links.insert(name.to_owned(), Arc::new(link));
        Ok(true)
    }

    /// Removes a link, and with it changes `topics`, as [`update_topics`](Self::update_topics) does: both or neither. Whether
    /// there was such a link; otherwise nothing is done. Blocks on fsync, once.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn delete_link(
        &self,
        name: &str,
        topics: &[String],
        change: impl FnMut(&mut TopicRecord) -> bool,
    ) -> Result<bool, Error> {
        let _changing = self.changing();
        if !self.cache().links.contains_key(name) {
            return Ok(false);
        }
        let changed = self.changed(topics, change);
        self.inner.disk.write(|t| {
            put_topics(t, &changed)?;
            delete(t, LINKS, name)
        })?;
        let mut cache = self.cache_mut();
        changed.into_iter().for_each(|topic| cache.insert_topic(topic));
        Ok(cache.links.remove(name).is_some())
    }

    /// One topic.
    pub fn topic(&self, name: &str) -> Option<Arc<TopicRecord>> {
        self.cache().topics.get(name).cloned()
    }

    /// One topic, by its id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<TopicRecord>> {
        let cache = self.cache();
        cache.topics.get(cache.topic_names.get(&id)?).cloned()
    }

    /// All topics by name.
    pub fn topics(&self) -> Vec<Arc<TopicRecord>> {
        self.cache().topics.values().cloned().collect()
    }

    /// Writes (inserts or replaces) a topic. Blocks on fsync.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn put_topic(&self, topic: TopicRecord) -> Result<(), Error> {
        let _changing = self.changing();
        self.inner.disk.write(|t| put(t, TOPICS, &topic.name, &topic))?;
        self.cache_mut().insert_topic(Arc::new(topic));
        Ok(())
    }

    /// Changes a topic, whether or not others change it meanwhile; what it is now, `None` if there is none. `change` says
    /// whether there is anything to write. Blocks on fsync.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn update_topic(
        &self,
        name: &str,
        change: impl FnOnce(&mut TopicRecord) -> bool,
    ) -> Result<Option<Arc<TopicRecord>>, Error> {
        let _changing = self.changing();
        let Some(topic) = self.topic(name) else { return Ok(None) };
        let mut changed = TopicRecord::clone(&topic);
        if !change(&mut changed) {
            return Ok(Some(topic));
        }
        self.inner.disk.write(|t| put(t, TOPICS, name, &changed))?;
        self.cache_mut().insert_topic(Arc::new(changed));
        Ok(self.topic(name))
    }

    /// Changes topics in one write, whether or not others change them meanwhile; those that changed, as they are now.
    /// `change` says whether there is anything to write. Names that no topic has are passed over. Blocks on fsync, once.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn update_topics(
        &self,
        names: &[String],
        change: impl FnMut(&mut TopicRecord) -> bool,
    ) -> Result<Vec<Arc<TopicRecord>>, Error> {
        let _changing = self.changing();
        let changed = self.changed(names, change);
        if changed.is_empty() {
            return Ok(changed);
        }
        self.inner.disk.write(|t| put_topics(t, &changed))?;
        let mut cache = self.cache_mut();
        changed.iter().for_each(|topic| cache.insert_topic(topic.clone()));
        Ok(changed)
    }

    /// Removes a topic and every offset committed in it; whether there was one. Blocks on fsync.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn delete_topic(&self, name: &str) -> Result<bool, Error> {
        let _changing = self.changing();
        let Some(topic) = self.topic(name) else { return Ok(false) };
        self.inner.disk.write(|t| {
            groups::forget_topic(t, name)?;
            epochs::forget_topic(t, topic.id)?;
            delete(t, TOPICS, name)
        })?;
        Ok(self.cache_mut().remove_topic(name))
    }

    /// Takes `count` producer ids, not below `floor`, that were never taken before; the first of them. With no `count` ids
    /// begin at `floor` from now on, unless they are beyond it. Blocks on fsync.
    ///
    /// # Errors
    /// When the write failed or ids are used up; nothing changed then.
    pub fn take_producer_ids(&self, count: i64, floor: i64) -> Result<i64, Error> {
        self.inner.disk.write(|t| {
            let mut meta = t.open_table(META)?;
            let next = meta.get(PRODUCER_IDS)?.map_or(Ok(0), |next| next.value().parse::<i64>());
            let first = next.map_err(|_| Failure::Corrupt(PRODUCER_IDS.to_owned()))?.max(floor);
            let next = first
                .checked_add(count)
                .ok_or_else(|| Failure::Io(std::io::Error::other("producer ids are used up")))?;
            meta.insert(PRODUCER_IDS, next.to_string().as_str())?;
            Ok(first)
        })
    }

    /// What becomes of topics, without those that stay as they are. The caller holds `changing`.
    fn changed(&self, names: &[String], mut change: impl FnMut(&mut TopicRecord) -> bool) -> Vec<Arc<TopicRecord>> {
        let topics = names.iter().filter_map(|name| self.topic(name));
        let changed = topics.filter_map(|topic| {
            let mut topic = TopicRecord::clone(&topic);
            change(&mut topic).then(|| Arc::new(topic))
        });
        changed.collect()
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> RwLockReadGuard<'_, Cache> {
        self.inner.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache_mut(&self) -> RwLockWriteGuard<'_, Cache> {
        self.inner.cache.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn insert_topic(&mut self, topic: Arc<TopicRecord>) {
        self.remove_topic(&topic.name);
        self.version += 1;
        self.topic_names.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), topic);
    }

    fn remove_topic(&mut self, name: &str) -> bool {
        self.version += 1;
        let removed = self.topics.remove(name);
        removed.is_some_and(|topic| self.topic_names.remove(&topic.id).is_some())
    }
}

/// Who this is.
struct Identity {
    cluster_id: String,
    member_id: Uuid,
    member_epoch: i64,
    secret: [u8; 32],
}

/// Reads who this is, making it up at first start, and counts this start.
fn begin_epoch(transaction: &WriteTransaction) -> Result<Identity, Failure> {
    let mut meta = transaction.open_table(META)?;
    let cluster_id = once(&mut meta, "cluster.id", new_cluster_id)?;
    let member_id = once(&mut meta, "member.id", || Uuid::new_v4().to_string())?;
    let epoch = once(&mut meta, "member.epoch", || "0".into())?;
    let member_id = member_id.parse().map_err(|_| Failure::Corrupt(format!("member id {member_id}")))?;
    let epoch = epoch.parse::<i64>().map_err(|_| Failure::Corrupt(format!("member epoch {epoch}")))?.saturating_add(1);
    meta.insert("member.epoch", epoch.to_string().as_str())?;
    let secret = once(&mut meta, "secret", || [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.to_string()).join(" "))?;
    let halves: Option<(Uuid, Uuid)> =
        secret.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (first, second) = halves.ok_or_else(|| Failure::Corrupt("secret".into()))?;
    let mut secret = [0; 32];
    secret.iter_mut().zip(first.as_bytes().iter().chain(second.as_bytes())).for_each(|(to, from)| *to = *from);
    Ok(Identity { cluster_id, member_id, member_epoch: epoch, secret })
}

/// The value of `key`, made up if there is none.
fn once(
    meta: &mut redb::Table<'_, &'static str, &'static str>,
    key: &str,
    first: impl FnOnce() -> String,
) -> Result<String, Failure> {
    if let Some(known) = meta.get(key)? {
        return Ok(known.value().to_owned());
    }
    let made = first();
    meta.insert(key, made.as_str())?;
    Ok(made)
}

/// `Uuid.randomUuid().toString()`: 22 characters, never with a leading dash, which tools would take for an option.
fn new_cluster_id() -> String {
    loop {
        let id = BASE64_URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn load(transaction: &WriteTransaction) -> Result<Cache, Failure> {
    let mut cache = Cache::default();
    for row in transaction.open_table(LINKS)?.iter()? {
        let (name, json) = row?;
        cache.links.insert(name.value().to_owned(), Arc::new(parse(LINKS, name.value(), json.value())?));
    }
    for row in transaction.open_table(TOPICS)?.iter()? {
        let (name, json) = row?;
        cache.insert_topic(Arc::new(parse(TOPICS, name.value(), json.value())?));
    }
    cache.acls = acls::Acls::load(transaction)?;
    cache.users = users::load(transaction)?;
    Ok(cache)
}

type JsonTable = TableDefinition<'static, &'static str, &'static str>;

fn parse<T: serde::de::DeserializeOwned>(table: JsonTable, key: &str, json: &str) -> Result<T, Failure> {
    use redb::TableHandle;
    // serde_json's own message may quote a value, which may be a secret: only the position is passed on.
    serde_json::from_str(json)
        .map_err(|e| Failure::Corrupt(format!("{} {key}: unreadable at column {}", table.name(), e.column())))
}

fn put<T: serde::Serialize>(t: &WriteTransaction, table: JsonTable, key: &str, value: &T) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(|e| Failure::Corrupt(e.to_string()))?;
    t.open_table(table)?.insert(key, json.as_str())?;
    Ok(())
}

fn put_topics(t: &WriteTransaction, topics: &[Arc<TopicRecord>]) -> Result<(), Failure> {
    topics.iter().try_for_each(|topic| put(t, TOPICS, &topic.name, &**topic))
}

fn delete(t: &WriteTransaction, table: JsonTable, key: &str) -> Result<(), Failure> {
    t.open_table(table)?.remove(key)?;
    Ok(())
}

#[cfg(test)]
mod tests;
