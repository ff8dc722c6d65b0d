//! What is stored, as plain data. Stored as JSON, so a field may be added with a default; any other change raises
//! the format number in `disk`.

use crate::{AclRecord, ConsumerGroupRecord};
use hawser_link::mirror::{MirrorFact, MirrorStatus, MirrorStop};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use uuid::Uuid;

/// A link as this daemon holds it: one half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Name, unique in the daemon.
    pub name: String,
    /// Given by the destination; the source half learns it. `None` until then.
    pub id: Option<Uuid>,
    /// The other cluster's id; `None` until it is given or learnt.
    pub remote_cluster_id: Option<String>,
    /// The half's configuration as set, secrets included; its `Debug` shows keys only.
    pub configs: SecretConfigs,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// ACLs that this link brought from its source: it takes away no others.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub acls: BTreeSet<AclRecord>,
}

/// Config values whose `Debug` shows keys only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretConfigs(pub BTreeMap<String, String>);

impl fmt::Debug for SecretConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl TopicRecord {
    /// Whether it is a mirror that its link, and nobody else, writes to. A mirror that was stopped (promoted or failed
    /// over) is an ordinary topic.
    pub fn is_read_only(&self) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| mirror.status != MirrorStatus::Stopped)
    }
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
    /// The clusters that its records came through, where they were written first; the last is the source's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_clusters: Vec<String>,
    /// Where the mirror began: `earliest`, `latest` or an ISO-8601 instant.
    pub start_offset_spec: String,
    /// Partitions that have begun, while others have not: for them `start_offset_spec` is history.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub started: BTreeSet<i32>,
    /// All that it was made with have begun: those that come later begin at their beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_begun: bool,
    /// What was decided about it.
    pub status: MirrorStatus,
    /// How it is being stopped, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<MirrorStop>,
    /// Where each partition's log ends as it is stopped; 0 for those that came later. Written down before the logs change: a
    /// promotion that has got so far does not ask its source any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped_at: Vec<i64>,
    /// Why it FAILED, as §2.2 names it.
    pub error: Option<String>,
    /// Since when, ms since 1970.
    pub status_since_ms: i64,
}

impl MirrorRecord {
    /// Of `source_topic` over `link`, from its beginning; ACTIVE since `now_ms`.
    pub fn new(link: &str, source_topic: &str, source_topic_id: Uuid, now_ms: i64) -> Self {
        Self {
            link: link.to_owned(),
            source_topic: source_topic.to_owned(),
            source_topic_id,
            source_clusters: Vec::new(),
            start_offset_spec: "earliest".to_owned(),
            started: BTreeSet::new(),
            has_begun: false,
            status: MirrorStatus::Active,
            stop: None,
            stopped_at: Vec::new(),
            error: None,
            status_since_ms: now_ms,
        }
    }

    /// Sets the status, decided `now_ms`.
    pub fn set_status(&mut self, status: MirrorStatus, now_ms: i64) {
        if self.status != status {
            (self.status, self.status_since_ms) = (status, now_ms);
        }
    }

    /// Whether it becomes an ordinary topic whatever its source does from now on.
    pub fn is_let_go(&self) -> bool {
        self.stop == Some(MirrorStop::Failover) || !self.stopped_at.is_empty()
    }

    /// Takes a dead end in; whether that changes anything.
    pub fn fail(&mut self, reason: &str, now_ms: i64) -> bool {
        if self.is_let_go() {
            return false;
        }
        let failed = self.status.on_fact(MirrorFact::Fails);
        let is_news = failed != self.status;
        if is_news {
            self.set_status(failed, now_ms);
            (self.error, self.stop) = (Some(reason.to_owned()), None);
        }
        is_news
    }
}

/// A consumer group's place in one partition (`OffsetAndMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset of the next record to consume.
    pub offset: i64,
    /// Epoch of the last record consumed, −1 if the client did not say.
    pub leader_epoch: i32,
    /// The client's own words; at most `offset.metadata.max.bytes`, which the broker checks.
    pub metadata: String,
    /// When it was committed, ms since 1970.
    pub commit_timestamp_ms: i64,
}

/// A group's generation, so that a restart of the daemon does not cost the group a rebalance (`GroupMetadataValue`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// `consumer`, or what else the members said; empty for a group that only commits offsets.
    pub protocol_type: String,
    /// Number of the generation, or the group epoch of a consumer-protocol group; never falls.
    pub generation: i32,
    /// The assignor that was agreed on.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: Option<String>,
    /// When the state last changed, ms since 1970.
    pub state_since_ms: i64,
    /// The members of the generation; empty for an empty group.
    pub members: Vec<GroupMemberRecord>,
    /// Set for a group of the KIP-848 protocol, whose members stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerGroupRecord>,
}

impl GroupRecord {
    /// Whether somebody is in it, by either protocol.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty() || self.consumer.as_ref().is_some_and(|consumer| !consumer.members.is_empty())
    }
}

/// One member of a stored generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberRecord {
    /// Member id.
    pub member_id: String,
    /// `group.instance.id` (KIP-345).
    pub instance_id: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Session time-out in ms.
    pub session_timeout_ms: i32,
    /// Rebalance time-out in ms.
    pub rebalance_timeout_ms: i32,
    /// Assignors with the member's subscription, in its order of preference.
    pub protocols: Vec<(String, Vec<u8>)>,
    /// What the leader assigned to it.
    pub assignment: Vec<u8>,
}

/// One change to a group or its offsets; [`State::apply`](crate::State::apply) takes many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// Inserts or replaces a group.
    PutGroup {
        /// Group id.
        group: String,
        /// What to keep.
        record: GroupRecord,
    },
    /// Removes a group and every offset of it.
    DeleteGroup {
        /// Group id.
        group: String,
    },
    /// Inserts or replaces an offset.
    PutOffset {
        /// Group id.
        group: String,
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset.
        committed: CommittedOffset,
    },
    /// Removes an offset, if there is one.
    DeleteOffset {
        /// Group id.
        group: String,
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// Removes the offsets of a group without stored members that were committed at `until_ms` or before, if it has been
    /// without them since then; and the group, if no offset is left.
    ExpireOffsets {
        /// Group id.
        group: String,
        /// Ms since 1970.
        until_ms: i64,
    },
}

impl GroupChange {
    /// Which group it changes.
    pub fn group(&self) -> &str {
        match self {
            Self::PutGroup { group, .. }
            | Self::DeleteGroup { group }
            | Self::PutOffset { group, .. }
            | Self::DeleteOffset { group, .. }
            | Self::ExpireOffsets { group, .. } => group,
        }
    }
}
