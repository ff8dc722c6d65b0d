//! An incremental fetch session with one source broker (KIP-227; `FetchSessionHandler` is the reference): the broker
//! remembers what we fetch, we send only what changed, and an idle poll costs a few dozen bytes for any number of partitions.
//!
//! The broker tells each piece of news once (a log start that moved, a high watermark), so whatever could not be taken in
//! must be told anew: see [`Session::missed`].
//!
//! The cost of [`Session::plan`] is proportional to what changed, not to what is in the session. At most one request is
//! outstanding; whatever it asked for stands in the session until its answer is there, so that an answer can be compared
//! with what is wanted by then.

use crate::partition::FetchAt;
use hawser_wire::{ResponseError, TopicPartition, Uuid};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

/// What the broker is told about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// The topic's id at the source, nil if the source has none.
    pub topic_id: Uuid,
    /// Where to fetch.
    pub at: FetchAt,
    /// Most bytes of this partition in one answer.
    pub bytes_max: i32,
}

/// The part of a Fetch request that the session decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// 0 asks for a new session.
    pub session_id: i32,
    /// 0 starts a session (closing `session_id` if there is one); then all partitions are sent.
    pub session_epoch: i32,
    /// Partitions that are new to the broker or changed.
    pub send: Vec<(TopicPartition, Fetching)>,
    /// Partitions that the broker should forget.
    pub forget: Vec<(TopicPartition, Uuid)>,
}

/// One session. Forget it with its connection.
#[derive(Debug, Default)]
pub struct Session {
    id: i32,
    epoch: i32,
    wanted: HashMap<TopicPartition, Fetching>,
    known: HashMap<TopicPartition, Fetching>,
    dirty: Vec<TopicPartition>,
    missed: HashSet<TopicPartition>,
}

impl Session {
    /// Wants `partition` fetched like this from the next request on.
    pub fn want(&mut self, partition: &TopicPartition, fetching: Fetching) {
        match self.wanted.entry(partition.clone()) {
            Entry::Occupied(mut entry) if *entry.get() != fetching => {
                entry.insert(fetching);
                self.dirty.push(partition.clone());
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(entry) => {
                entry.insert(fetching);
                self.dirty.push(partition.clone());
            }
        }
    }

    /// Does not want `partition` fetched from the next request on.
    pub fn drop(&mut self, partition: &TopicPartition) {
        if self.wanted.remove(partition).is_some() {
            self.dirty.push(partition.clone());
        }
    }

    /// What was answered of `partition` was not taken in. If the next request would go on with it as if it had been, a new
    /// session begins instead, which tells all; one that is forgotten by then is told of anew when it comes back.
    pub fn missed(&mut self, partition: &TopicPartition) {
        if self.known.contains_key(partition) {
            self.missed.insert(partition.clone());
        }
    }

    /// Number of partitions wanted.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// What the broker was last told about `partition`: what an answer now in flight is about.
    pub fn asked(&self, partition: &TopicPartition) -> Option<Fetching> {
        self.known.get(partition).copied()
    }

    /// Everything wanted, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Fetching)> {
        self.wanted.iter()
    }

    /// Whether the next request would fetch what the last one did not ask for.
    pub fn has_new(&self) -> bool {
        let at = |fetching: Option<&Fetching>| fetching.map(|f| f.at);
        self.dirty.iter().any(|p| self.wanted.contains_key(p) && at(self.wanted.get(p)) != at(self.known.get(p)))
    }

    /// What the broker was last told about each partition, in no order.
    pub fn all_asked(&self) -> impl Iterator<Item = (&TopicPartition, &Fetching)> {
        self.known.iter()
    }

    /// The next request.
    pub fn plan(&mut self) -> Plan {
        if self.missed.drain().any(|partition| self.wanted.contains_key(&partition)) {
            self.epoch = 0;
        }
        let mut plan = Plan { session_id: self.id, session_epoch: self.epoch, ..Plan::default() };
        if self.epoch == 0 {
            self.dirty.clear();
            self.known.clone_from(&self.wanted);
            plan.send.extend(self.wanted.iter().map(|(partition, fetching)| (partition.clone(), *fetching)));
            // One order at every start: the broker serves partitions in this order and turns it round by itself.
            plan.send.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            return plan;
        }
        for partition in self.dirty.drain(..) {
            let (wanted, known) = (self.wanted.get(&partition).copied(), self.known.get(&partition).copied());
            if wanted == known {
                continue; // changed and changed back, or in the list twice
            }
            if let Some(known) = known
                && wanted.is_none_or(|wanted| wanted.topic_id != known.topic_id)
            {
                plan.forget.push((partition.clone(), known.topic_id));
            }
            match wanted {
                Some(wanted) => {
                    self.known.insert(partition.clone(), wanted);
                    plan.send.push((partition, wanted));
                }
                None => {
                    self.known.remove(&partition);
                }
            }
        }
        plan
    }

    /// The broker answered with `session_id` and the top-level `error_code`. Whether its partitions may be read.
    pub fn answered(&mut self, error_code: i16, session_id: i32) -> bool {
        if error_code != 0 {
            if ResponseError::try_from_code(error_code) == Some(ResponseError::FetchSessionIdNotFound) {
                self.id = 0;
            }
            self.epoch = 0;
            return false;
        }
        match (self.epoch, session_id) {
            (0, 0) => self.id = 0, // no room for a session: the next request is a full one again
            (0, id) => (self.id, self.epoch) = (id, 1),
            // The session is over, but what is said along with that is good (as `FetchSessionHandler` has it). A source
            // half that answers itself does it so: the broker still has the session, and the next request closes it.
            (_, 0) => self.epoch = 0,
            (_, id) if id != self.id => {
                self.epoch = 0;
                return false;
            }
            (i32::MAX, _) => self.epoch = 1,
            _ => self.epoch += 1,
        }
        true
    }

    /// The next request closes the session and starts another.
    pub fn reset(&mut self) {
        self.epoch = 0;
    }

    /// The connection is gone: the next request starts a session and names no other. A source half lets none continue on
    /// another channel than its own, not even to close it; the broker drops it when others need the room.
    pub fn forget(&mut self) {
        (self.id, self.epoch) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
