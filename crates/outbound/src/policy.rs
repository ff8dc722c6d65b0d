//! The site's own say over which topics may leave (`hawser.egress.topics.filters`).
//!
//! Requests name topics by name or by id (Fetch from version 13). What an id stands for is known once this half has seen
//! it beside a name: in its own Metadata, or in an answer that went through here. An id that was never seen is refused
//! as unknown, which makes a client ask for Metadata, and so shows it here.

use hawser_link::TopicFilters;
use hawser_wire::Uuid;
use hawser_wire::messages::fetch_request::FetchTopic;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Ids kept; a cluster has fewer topics. At the bound the map begins anew.
const IDS_MAX: usize = 200_000;

/// Which topics may leave.
#[derive(Debug)]
pub(crate) struct Policy {
    filters: TopicFilters,
    /// Whether the topic of this id may leave.
    ids: RwLock<HashMap<Uuid, bool>>,
}

impl Policy {
    pub(crate) fn new(filters: TopicFilters) -> Self {
        Self { filters, ids: RwLock::default() }
    }

    /// Whether the topic of that name may leave.
    pub(crate) fn lets_out(&self, topic: &str) -> bool {
        self.filters.includes(topic)
    }

    /// Whether a fetch may name this topic, by name or by id; `None` for an id that was never seen.
    pub(crate) fn lets_out_fetch(&self, topic: &FetchTopic) -> Option<bool> {
        if topic.topic_id.is_nil() { Some(self.lets_out(&topic.topic)) } else { self.known(topic.topic_id) }
    }

    fn known(&self, id: Uuid) -> Option<bool> {
        self.ids.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// A name and its id, as a broker told them. Returns whether the topic may leave.
    pub(crate) fn learn(&self, topic: &str, id: Uuid) -> bool {
        let may_leave = self.lets_out(topic);
        if !id.is_nil() && self.known(id) != Some(may_leave) {
            let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
            if ids.len() >= IDS_MAX {
                ids.clear();
            }
            ids.insert(id, may_leave);
        }
        may_leave
    }
}
