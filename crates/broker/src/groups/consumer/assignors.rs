//! The server-side assignors of KIP-848, `uniform` and `range`: pure functions from subscriptions and topics to who is to
//! have what. Whatever they are given, every partition that somebody subscribes to goes to exactly one subscriber.

use hawser_state::{Partitions, TopicShape};
use std::collections::{BTreeMap, BTreeSet};

/// A server-side assignor (`group.consumer.assignors`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Assignor {
    /// Even numbers for all, and as few moves as that takes. The default.
    #[default]
    Uniform,
    /// Neighbouring partitions, topic by topic: equal indexes of topics of one size meet at one member.
    Range,
}

impl Assignor {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// What each of `members` is to have, in their order. `topics` holds the topics that exist.
    pub(crate) fn assign(self, members: &[Subscriber<'_>], topics: &BTreeMap<String, TopicShape>) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform(members, topics),
            Self::Range => range(members, topics),
        }
    }
}

/// A member, as an assignor sees it.
pub(crate) struct Subscriber<'a> {
    pub(crate) id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) topics: BTreeSet<&'a str>,
    /// What it was to have before.
    pub(crate) target: &'a Partitions,
}

/// For each topic the subscribers by instance id or id, each with a run of partitions, the first ones with one more.
fn range(members: &[Subscriber<'_>], topics: &BTreeMap<String, TopicShape>) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| members.get(*at).map(|member| member.instance_id.unwrap_or(member.id)));
    let mut targets = vec![Partitions::new(); members.len()];
    for (name, shape) in topics {
        let subscribed = |at: &&usize| members.get(**at).is_some_and(|member| member.topics.contains(name.as_str()));
        let subscribers: Vec<usize> = order.iter().filter(subscribed).copied().collect();
        let count = i32::try_from(subscribers.len()).unwrap_or(i32::MAX);
        let mut next = 0;
        for (place, at) in (0..count).zip(subscribers) {
            let share = shape.partitions / count + i32::from(place < shape.partitions % count);
            if share > 0 {
                add_all(&mut targets, at, shape, next..next + share);
            }
            next += share;
        }
    }
    targets
}

/// Everybody keeps what it had; what is free goes to the least loaded subscriber; then partitions move from more loaded
/// members to less loaded ones for as long as that evens them out.
fn uniform(members: &[Subscriber<'_>], topics: &BTreeMap<String, TopicShape>) -> Vec<Partitions> {
    let mut plan = Plan { targets: vec![Partitions::new(); members.len()], loads: vec![0; members.len()] };
    for (name, shape) in topics {
        let is_subscriber = |at: &usize| members.get(*at).is_some_and(|m| m.topics.contains(name.as_str()));
        let subscribers: Vec<usize> = (0..members.len()).filter(is_subscriber).collect();
        let mut free: BTreeSet<i32> =
            if subscribers.is_empty() { BTreeSet::new() } else { (0..shape.partitions).collect() };
        for at in &subscribers {
            let had = members.get(*at).and_then(|member| member.target.get(&shape.id));
            for partition in had.into_iter().flatten().filter(|partition| free.remove(partition)).collect::<Vec<_>>() {
                plan.give(*at, shape, *partition);
            }
        }
        for partition in free {
            if let Some(at) = plan.least_loaded(&subscribers) {
                plan.give(at, shape, partition);
            }
        }
    }
    plan.even_out(members, topics);
    plan.targets
}

struct Plan {
    targets: Vec<Partitions>,
    loads: Vec<usize>,
}

impl Plan {
    fn give(&mut self, at: usize, shape: &TopicShape, partition: i32) {
        add_all(&mut self.targets, at, shape, [partition]);
        if let Some(load) = self.loads.get_mut(at) {
            *load += 1;
        }
    }

    fn load(&self, at: usize) -> usize {
        self.loads.get(at).copied().unwrap_or_default()
    }

    fn least_loaded(&self, among: &[usize]) -> Option<usize> {
        among.iter().copied().min_by_key(|at| self.load(*at))
    }

    /// Each move makes two loads more alike, so that it ends.
    fn even_out(&mut self, members: &[Subscriber<'_>], topics: &BTreeMap<String, TopicShape>) {
        let subscribers: Vec<(&TopicShape, Vec<usize>)> = topics
            .iter()
            .map(|(name, shape)| {
                let is_subscriber = |at: &usize| members.get(*at).is_some_and(|m| m.topics.contains(name.as_str()));
                (shape, (0..members.len()).filter(is_subscriber).collect())
            })
            .collect();
        loop {
            let is_even = self.loads.iter().max().copied().unwrap_or(0) <= self.loads.iter().min().map_or(0, |n| n + 1);
            if is_even {
                return;
            }
            let mut has_moved = false;
            for (shape, subscribers) in &subscribers {
                for from in subscribers {
                    has_moved |= self.unload(*from, shape, subscribers);
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    /// Gives away partitions of one topic while `from` has at least two more than the least loaded subscriber.
    fn unload(&mut self, from: usize, shape: &TopicShape, subscribers: &[usize]) -> bool {
        let mut has_moved = false;
        while let Some(to) = self.least_loaded(subscribers)
            && self.load(from) >= self.load(to) + 2
        {
            let Some(held) = self.targets.get_mut(from).and_then(|target| target.get_mut(&shape.id)) else { break };
            let Some(partition) = held.pop_last() else { break };
            if held.is_empty()
                && let Some(target) = self.targets.get_mut(from)
            {
                target.remove(&shape.id);
            }
            if let Some(load) = self.loads.get_mut(from) {
                *load -= 1;
            }
            self.give(to, shape, partition);
            has_moved = true;
        }
        has_moved
    }
}

fn add_all(targets: &mut [Partitions], at: usize, shape: &TopicShape, partitions: impl IntoIterator<Item = i32>) {
    if let Some(target) = targets.get_mut(at) {
        target.entry(shape.id).or_default().extend(partitions);
    }
}
