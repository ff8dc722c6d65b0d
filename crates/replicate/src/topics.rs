//! What metadata says of the mirrored topics: identity, number of partitions, leaders. One machine a link.
//!
//! ```text
//!            answered: there                    another topic id, or fewer partitions,
//!   Unseen ─────────────────► Present ◄──────►  seen for CONFIRM ──► Failed
//!     │                          ▲ │ UNKNOWN_TOPIC…
//!     │ UNKNOWN_TOPIC…           │ ▼
//!     └────────────────────────► Absent ── for retry_timeout ──► Failed (SOURCE_TOPIC_MAY_BE_DELETED)
//! ```
//!
//! A broker's metadata may lag behind. So a missing topic is retried, leaders of a lower epoch are left to the
//! partition machines to ignore, and what would be a dead end must be seen for a while before it is one.

use crate::partition::Leader;
use crate::reason::{Failure, Reason};
use hawser_wire::messages::MetadataResponse;
use hawser_wire::{LeaderEpoch, NodeId, ResponseError, TopicPartition, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long another topic id or a lower number of partitions must be seen before the mirror fails: a broker that is cut
/// off from its controller answers with old metadata for about as long as a session lasts at the longest.
const CONFIRM: Duration = Duration::from_secs(3);

/// The machine.
#[derive(Debug)]
pub struct Topics {
    retry_timeout: Duration,
    topics: BTreeMap<Arc<str>, Topic>,
    stale: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Topic {
    id: Option<Uuid>,
    partitions: i32,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Unseen,
    Present,
    /// It answers with an error that says nothing about its being there: not authorised, for one.
    Refused,
    Absent {
        since: Instant,
    },
    Doubtful {
        since: Instant,
        failure: Failure,
    },
    Failed,
}

/// What changed with a topic or a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The source's id of the topic; it is to be kept with the mirror.
    Pinned {
        /// Name at the source.
        topic: Arc<str>,
        /// Its id, nil if the source has no topic ids.
        id: Uuid,
    },
    /// The topic has more partitions than known so far (0 at first).
    Grew {
        /// Name at the source.
        topic: Arc<str>,
        /// Partitions known before.
        from: i32,
        /// Partitions now.
        to: i32,
    },
    /// A partition's leader as this answer names it.
    Leader {
        /// The partition at the source.
        partition: TopicPartition,
        /// Its leader.
        leader: Leader,
    },
    /// The topic does not answer to its name; it is retried.
    Unavailable {
        /// Name at the source.
        topic: Arc<str>,
        /// What was seen.
        detail: String,
    },
    /// The topic is there again.
    Available {
        /// Name at the source.
        topic: Arc<str>,
    },
    /// A dead end.
    Failed {
        /// Name at the source.
        topic: Arc<str>,
        /// Why.
        failure: Failure,
    },
}

impl Topics {
    /// No topics; `retry_timeout` is `cluster.link.retry.timeout.ms`.
    pub fn new(retry_timeout: Duration) -> Self {
        Self { retry_timeout, topics: BTreeMap::new(), stale: BTreeSet::new() }
    }

    /// Follows `topic`, whose id is `id` and which had `partitions` partitions, as far as the mirror knows.
    pub fn add(&mut self, topic: Arc<str>, id: Option<Uuid>, partitions: i32) {
        self.stale.insert(topic.clone());
        self.topics.insert(topic, Topic { id, partitions, state: State::Unseen });
    }

    /// Forgets `topic`.
    pub fn remove(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.stale.remove(topic);
    }

    /// The next question should include `topic`.
    pub fn mark_stale(&mut self, topic: &str) {
        if let Some((name, topic)) = self.topics.get_key_value(topic)
            && topic.state != State::Failed
        {
            self.stale.insert(name.clone());
        }
    }

    /// The next question should include every topic (`metadata.max.age.ms`).
    pub fn mark_all_stale(&mut self) {
        let alive = self.topics.iter().filter(|(_, topic)| topic.state != State::Failed);
        self.stale.extend(alive.map(|(name, _)| name.clone()));
    }

    /// Whether there is something to ask for.
    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// The topics to ask for. They stay stale until they are answered well.
    pub fn to_ask(&self) -> Vec<Arc<str>> {
        self.stale.iter().cloned().collect()
    }

    /// Takes the answer about `asked` in. Topics that are missing, doubtful or without a leader stay stale.
    pub fn on(&mut self, asked: &[Arc<str>], answer: &MetadataResponse, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut seen = BTreeSet::new();
        for answered in &answer.topics {
            let Some(name) = answered.name.as_ref() else { continue };
            let Some((name, topic)) = self.topics.get_key_value(name.0.as_str()) else { continue };
            let (name, _) = (name.clone(), topic);
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(topic) = self.topics.get_mut(&name) else { continue };
            if topic.state == State::Failed {
                self.stale.remove(&name);
                continue;
            }
            let settled = match ResponseError::try_from_code(answered.error_code) {
                None if answered.error_code == 0 => {
                    let mut leaders: Vec<(i32, Leader)> = Vec::new();
                    for partition in &answered.partitions {
                        if partition.leader_id.0 >= 0 && partition.partition_index >= 0 {
                            let leader = Leader {
                                node: NodeId(partition.leader_id.0),
                                epoch: LeaderEpoch(partition.leader_epoch),
                            };
                            leaders.push((partition.partition_index, leader));
                        }
                    }
                    let count = i32::try_from(answered.partitions.len()).unwrap_or(i32::MAX);
                    let id = answered.topic_id;
                    topic.there(&name, id, count, &leaders, self.retry_timeout, now, &mut changes)
                }
                Some(ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId) => {
                    topic.absent(&name, self.retry_timeout, now, &mut changes);
                    false
                }
                error => {
                    let detail = error.map_or_else(|| format!("error code {}", answered.error_code), |e| e.to_string());
                    if matches!(topic.state, State::Unseen | State::Present) {
                        topic.state = State::Refused;
                    }
                    changes.push(Change::Unavailable { topic: name.clone(), detail });
                    false
                }
            };
            if settled || topic.state == State::Failed {
                self.stale.remove(&name);
            }
        }
        for name in asked.iter().filter(|name| !seen.contains(*name)) {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.absent(name, self.retry_timeout, now, &mut changes);
                if topic.state == State::Failed {
                    self.stale.remove(name);
                }
            }
        }
        changes
    }
}

impl Topic {
    /// Whether everything that there is to know was said.
    #[allow(clippy::too_many_arguments)] // one call, one answer
    fn there(
        &mut self,
        name: &Arc<str>,
        id: Uuid,
        count: i32,
        leaders: &[(i32, Leader)],
        retry_timeout: Duration,
        now: Instant,
        changes: &mut Vec<Change>,
    ) -> bool {
        let same_id = self.id == Some(id) && !id.is_nil();
        let doubt = match self.id {
            Some(pinned) if !pinned.is_nil() && pinned != id => Some((
                Failure {
                    reason: Reason::SourceTopicIdChanged,
                    detail: format!("topic {name} has id {id} at the source; the mirror is of {pinned}"),
                },
                CONFIRM,
            )),
            _ if count < self.partitions => Some((
                Failure {
                    reason: Reason::SourcePartitionsDecreased,
                    detail: format!("topic {name} has {count} partitions at the source; it had {}", self.partitions),
                },
                // The same topic cannot shrink: more likely a broker whose metadata is old.
                if same_id { retry_timeout } else { CONFIRM },
            )),
            _ => None,
        };
        if let Some((failure, confirm)) = doubt {
            let since = match &self.state {
                State::Doubtful { since, failure: known } if known.reason == failure.reason => *since,
                _ => {
                    changes.push(Change::Unavailable { topic: name.clone(), detail: failure.detail.clone() });
                    now
                }
            };
            if now.saturating_duration_since(since) >= confirm {
                self.state = State::Failed;
                changes.push(Change::Failed { topic: name.clone(), failure });
            } else {
                self.state = State::Doubtful { since, failure };
            }
            return false;
        }
        match std::mem::replace(&mut self.state, State::Present) {
            State::Refused | State::Absent { .. } | State::Doubtful { .. } => {
                changes.push(Change::Available { topic: name.clone() })
            }
            State::Unseen | State::Present | State::Failed => {}
        }
        if self.id.is_none() {
            self.id = Some(id);
            changes.push(Change::Pinned { topic: name.clone(), id });
        }
        if count > self.partitions {
            changes.push(Change::Grew { topic: name.clone(), from: self.partitions, to: count });
            self.partitions = count;
        }
        let leaders_known = leaders.len();
        changes.extend(
            leaders
                .iter()
                .map(|&(index, leader)| Change::Leader { partition: TopicPartition::new(name.clone(), index), leader }),
        );
        i32::try_from(leaders_known).is_ok_and(|known| known >= count)
    }

    fn absent(&mut self, name: &Arc<str>, retry_timeout: Duration, now: Instant, changes: &mut Vec<Change>) {
        let since = match &self.state {
            State::Absent { since } => *since,
            _ => {
                let detail = format!("topic {name} is not known at the source");
                changes.push(Change::Unavailable { topic: name.clone(), detail });
                now
            }
        };
        self.state = State::Absent { since };
        if now.saturating_duration_since(since) >= retry_timeout {
            self.state = State::Failed;
            let detail = format!("topic {name} was not known at the source for {} ms", retry_timeout.as_millis());
            let failure = Failure { reason: Reason::SourceTopicMayBeDeleted, detail };
            changes.push(Change::Failed { topic: name.clone(), failure });
        }
    }
}

#[cfg(test)]
mod tests;
