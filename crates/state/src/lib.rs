#![forbid(unsafe_code)]
//! What must survive a restart besides data: the cluster's identity, links, topics and their mirrors, committed
//! offsets. One redb file; every write is durable when the call returns.
//!
//! SKELETON written by the lead; the broker helper owns it from here. Signatures are the seam.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
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

/// A link as this daemon holds it: one half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Name, unique in the daemon.
    pub name: String,
    /// Given by the destination; the source half learns it. `None` until then.
    pub id: Option<Uuid>,
    /// The other cluster's id; `None` until it is given or learnt.
    pub remote_cluster_id: Option<String>,
    /// The half's configuration as set, secrets included: its `Debug` must never be logged.
    pub configs: SecretConfigs,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

/// Config values whose `Debug` shows keys only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretConfigs(pub BTreeMap<String, String>);

impl std::fmt::Debug for SecretConfigs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A topic of the embedded store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Name here.
    pub name: String,
    /// Topic id here.
    pub id: Uuid,
    /// Number of partitions.
    pub partitions: i32,
    /// Configs set on it.
    pub configs: BTreeMap<String, String>,
    /// Set while (and after) it is a mirror.
    pub mirror: Option<MirrorRecord>,
}

/// What a mirror topic mirrors and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorRecord {
    /// Name of the link.
    pub link: String,
    /// Name at the source.
    pub source_topic: String,
    /// Topic id at the source, pinned when the mirror was created.
    pub source_topic_id: Uuid,
    /// Where the mirror began: `earliest`, `latest` or an ISO-8601 instant.
    pub start_offset_spec: String,
    /// The status, as §2.1 of the reference names it.
    pub status: MirrorStatus,
    /// Why it FAILED, as §2.2 names it.
    pub error: Option<String>,
    /// Since when, ms since 1970.
    pub status_since_ms: i64,
}

/// Status values of a mirror topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum MirrorStatus {
    PendingMirror,
    Active,
    Paused,
    PendingStopped,
    Stopped,
    Failed,
}

/// The open state file, with everything but committed offsets also held in memory. Cheap to clone.
#[derive(Clone)]
pub struct State {
    _private: Arc<()>,
}

impl State {
    /// Opens or creates the file; makes the cluster id (22 characters, as Kafka's) and the daemon's member id at first start,
    /// and raises the epoch by one at every start.
    ///
    /// # Errors
    /// When the file is locked, unreadable, or of a newer format.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let _ = file;
        todo!("broker helper")
    }
    /// The id of the cluster that the embedded store is.
    pub fn cluster_id(&self) -> &str {
        todo!("broker helper")
    }
    /// This daemon's member id.
    pub fn member_id(&self) -> Uuid {
        todo!("broker helper")
    }
    /// Number of starts.
    pub fn member_epoch(&self) -> i64 {
        todo!("broker helper")
    }
    /// All links by name.
    pub fn links(&self) -> Vec<LinkRecord> {
        todo!("broker helper")
    }
    /// Writes (inserts or replaces) a link.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn put_link(&self, link: LinkRecord) -> Result<(), Error> {
        let _ = link;
        todo!("broker helper")
    }
    /// Removes a link; whether there was one.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn delete_link(&self, name: &str) -> Result<bool, Error> {
        let _ = name;
        todo!("broker helper")
    }
    /// One topic.
    pub fn topic(&self, name: &str) -> Option<Arc<TopicRecord>> {
        let _ = name;
        todo!("broker helper")
    }
    /// One topic, by its id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<TopicRecord>> {
        let _ = id;
        todo!("broker helper")
    }
    /// All topics by name.
    pub fn topics(&self) -> Vec<Arc<TopicRecord>> {
        todo!("broker helper")
    }
    /// Writes (inserts or replaces) a topic.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn put_topic(&self, topic: TopicRecord) -> Result<(), Error> {
        let _ = topic;
        todo!("broker helper")
    }
    /// Removes a topic; whether there was one.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn delete_topic(&self, name: &str) -> Result<bool, Error> {
        let _ = name;
        todo!("broker helper")
    }
}
