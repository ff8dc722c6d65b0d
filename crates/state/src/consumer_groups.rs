//! Groups of the KIP-848 protocol, as they outlive a restart.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Partitions by topic id.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// What a group knows of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicShape {
    /// Its id.
    pub id: Uuid,
    /// Number of partitions.
    pub partitions: i32,
}

/// A group whose members are assigned partitions by the coordinator. Its epoch is the record's generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroupRecord {
    /// The group epoch that the targets were computed for.
    pub assignment_epoch: i32,
    /// The assignor that computed them.
    pub assignor: String,
    /// The subscribed topics that there were then.
    pub topics: BTreeMap<String, TopicShape>,
    /// The members.
    pub members: Vec<ConsumerMemberRecord>,
}

/// Where a member stands between what it has and what it is to have (`MemberState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MemberState {
    /// It has all of it.
    #[default]
    Stable,
    /// It has to give partitions up first.
    UnrevokedPartitions,
    /// It waits for partitions that others have to give up.
    UnreleasedPartitions,
}

/// A member of such a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerMemberRecord {
    /// Member id.
    pub member_id: String,
    /// `group.instance.id` (KIP-345).
    pub instance_id: Option<String>,
    /// `client.rack`.
    pub rack_id: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// How long it may take to give partitions up, in ms.
    pub rebalance_timeout_ms: u64,
    /// The server-side assignor that it prefers.
    pub assignor: Option<String>,
    /// Topics that it subscribes to by name.
    pub names: BTreeSet<String>,
    /// The regex of the topics that it subscribes to.
    pub regex: Option<String>,
    /// Those that the regex names.
    pub resolved: BTreeSet<String>,
    /// The assignment epoch that it has reached; −2 for a static member that will be back.
    pub epoch: i32,
    /// The one before.
    pub previous_epoch: i32,
    /// Where it stands.
    pub state: MemberState,
    /// What it may consume.
    pub assigned: Partitions,
    /// What it has not given up yet.
    pub pending_revocation: Partitions,
    /// What it is to have.
    pub target: Partitions,
}

impl ConsumerMemberRecord {
    /// The topics that it subscribes to, by name or by regex.
    pub fn topics(&self) -> impl Iterator<Item = &String> {
        self.names.union(&self.resolved)
    }

    /// Goes to `epoch`, remembering where it was if that is another.
    pub fn advance(&mut self, epoch: i32) {
        if epoch != self.epoch {
            self.previous_epoch = std::mem::replace(&mut self.epoch, epoch);
        }
    }
}
