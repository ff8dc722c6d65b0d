//! The site's own say over which topics may leave (`hawser.egress.topics.filters`): the daemon's, which whoever makes links
//! cannot widen, and the link's. A topic leaves when both let it.
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
    /// All of them must include a topic.
    filters: Vec<TopicFilters>,
    /// Whether the topic of this id may leave.
    ids: RwLock<HashMap<Uuid, bool>>,
}

impl Policy {
    /// What passes all of `filters`; `None` when there are none, and every topic may leave.
    pub(crate) fn of_all(filters: impl IntoIterator<Item = TopicFilters>) -> Option<Self> {
        let filters: Vec<_> = filters.into_iter().collect();
        (!filters.is_empty()).then(|| Self { filters, ids: RwLock::default() })
    }

    /// Whether the topic of that name may leave.
    pub(crate) fn lets_out(&self, topic: &str) -> bool {
        self.filters.iter().all(|filters| filters.includes(topic))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_narrows_what_the_site_lets_out_and_never_widens_it() {
        let include = |name: &str, how: &str| {
            let json =
                format!(r#"{{"topicFilters":[{{"name":"{name}","patternType":"{how}","filterType":"INCLUDE"}}]}}"#);
            TopicFilters::parse(&json).expect("filters")
        };
        let site = || include("public-", "PREFIXED");
        let wide = Policy::of_all([site(), include("*", "LITERAL")]).expect("a policy");
        assert!(wide.lets_out("public-prices") && !wide.lets_out("salaries"));
        let narrow = Policy::of_all([site(), include("public-prices", "LITERAL")]).expect("a policy");
        assert!(narrow.lets_out("public-prices") && !narrow.lets_out("public-holidays"));
        let apart = Policy::of_all([site(), include("salaries", "LITERAL")]).expect("a policy");
        assert!(!apart.lets_out("public-prices") && !apart.lets_out("salaries"));
        assert!(Policy::of_all([]).is_none());
    }
}
