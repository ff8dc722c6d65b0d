//! The site's own say over which topics may leave (`hawser.egress.topics.filters`).
//!
//! Requests name topics by name or by id (Fetch from version 13). An id is let out when this half has seen it beside the
//! name of a topic that may leave: in its own Metadata, or in an answer that went through here. An id that was never
//! seen is refused as unknown, which makes a client ask for Metadata, and so shows it here.

use hawser_link::TopicFilters;
use hawser_wire::Uuid;
use hawser_wire::messages::fetch_request::FetchTopic;
use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Ids kept; a cluster has fewer topics. At the bound the set begins anew.
const IDS_MAX: usize = 200_000;

/// Which topics may leave.
#[derive(Debug)]
pub(crate) struct Policy {
    filters: TopicFilters,
    ids: RwLock<HashSet<Uuid>>,
}

impl Policy {
    pub(crate) fn new(filters: TopicFilters) -> Self {
        Self { filters, ids: RwLock::default() }
    }

    /// Whether the topic of that name may leave.
    pub(crate) fn lets_out(&self, topic: &str) -> bool {
        self.filters.includes(topic)
    }

    /// Whether a fetch may name this topic, by name or by id.
    pub(crate) fn lets_out_fetch(&self, topic: &FetchTopic) -> bool {
        if topic.topic_id.is_nil() {
            self.lets_out(&topic.topic)
        } else {
            self.ids.read().unwrap_or_else(PoisonError::into_inner).contains(&topic.topic_id)
        }
    }

    /// A name and its id, as a broker told them. Returns whether the topic may leave.
    pub(crate) fn learn(&self, topic: &str, id: Uuid) -> bool {
        let may_leave = self.lets_out(topic);
        if may_leave && !id.is_nil() && !self.ids.read().unwrap_or_else(PoisonError::into_inner).contains(&id) {
            let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
            if ids.len() >= IDS_MAX {
                ids.clear();
            }
            ids.insert(id);
        }
        may_leave
    }
}
