//! What a fetcher has to tell its coordinator and cannot yet, because that waits for the daemon. Bounded by the number of
//! partitions, however long it waits: of each partition and kind of news only the last word is kept, or the sum.

use crate::fetcher::{Held, Notice};
use crate::partition::Report;
use hawser_wire::TopicPartition;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// The news of one fetcher.
pub(crate) struct Outbox<P> {
    /// Each partition once: who was handed back is no longer the fetcher's.
    returned: VecDeque<Box<Held<P>>>,
    /// At most one of each kind a partition; in the order in which they came.
    reports: HashMap<TopicPartition, Vec<Report>>,
    /// The keys of `reports`: first come, first told.
    order: VecDeque<TopicPartition>,
    /// Topics whose metadata are to be asked for, each once.
    stale: BTreeSet<Arc<str>>,
}

impl<P> Default for Outbox<P> {
    fn default() -> Self {
        Self { returned: VecDeque::new(), reports: HashMap::new(), order: VecDeque::new(), stale: BTreeSet::new() }
    }
}

impl<P> Outbox<P> {
    pub(crate) fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.order.is_empty() && self.stale.is_empty()
    }

    pub(crate) fn give_back(&mut self, held: Box<Held<P>>) {
        self.returned.push_back(held);
    }

    pub(crate) fn ask_for(&mut self, topics: impl IntoIterator<Item = Arc<str>>) {
        self.stale.extend(topics);
    }

    pub(crate) fn report(&mut self, id: TopicPartition, report: Report) {
        let news = self.reports.entry(id.clone()).or_default();
        if news.is_empty() {
            self.order.push_back(id);
        }
        let earlier = news.iter().position(|earlier| kind(earlier) == kind(&report));
        let report = match earlier.map(|at| news.remove(at)) {
            Some(earlier) => joined(earlier, report),
            None => report,
        };
        news.push(report);
    }

    /// The next thing to tell.
    pub(crate) fn pop(&mut self) -> Option<Notice<P>> {
        if let Some(held) = self.returned.pop_front() {
            return Some(Notice::Returned(held));
        }
        if let Some(id) = self.order.front().cloned() {
            let news = self.reports.get_mut(&id);
            let report = news.and_then(|news| (!news.is_empty()).then(|| (news.remove(0), news.is_empty())));
            if report.as_ref().is_none_or(|(_, is_last)| *is_last) {
                self.reports.remove(&id);
                self.order.pop_front();
            }
            if let Some((report, _)) = report {
                return Some(Notice::Report(id, report));
            }
        }
        self.stale.pop_first().map(Notice::Stale)
    }
}

/// Of each of these one is kept. A trouble and its end are one: the later says how it stands.
fn kind(report: &Report) -> u8 {
    match report {
        Report::Started { .. } => 0,
        Report::Gap { .. } => 1,
        Report::Truncated { .. } => 2,
        Report::Trouble(_) | Report::Recovered => 3,
        Report::Failed(_) => 4,
    }
}

/// Two reports of one kind as one: losses add up, of everything else the later counts.
fn joined(earlier: Report, later: Report) -> Report {
    match (earlier, later) {
        (Report::Gap { from: a, to: b }, Report::Gap { from: c, to: d }) => {
            Report::Gap { from: a.min(c), to: b.max(d) }
        }
        (Report::Truncated { from: a, to: b }, Report::Truncated { from: c, to: d }) => {
            Report::Truncated { from: a.max(c), to: b.min(d) }
        }
        (Report::Failed(first), Report::Failed(_)) => Report::Failed(first),
        (_, later) => later,
    }
}

#[cfg(test)]
mod tests;
