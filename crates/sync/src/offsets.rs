//! Which committed offsets to write: those of matching groups in mirrored partitions, where the destination's differ.
//!
//! The source's value wins. It is held at the mirror's high watermark: an offset beyond it would make consumers here start
//! over (`auto.offset.reset`). Groups with members here are left alone.
//!
//! Likewise it is raised to the mirror's log start, and is settled there. A mirror may begin later than its source
//! (`mirror.start.offset.spec`); the offset as it is would send a consumer to the end here (`auto.offset.reset=latest`), past
//! records that it was to read. Where it is the source whose log start has passed the offset, a consumer would be reset there,
//! too; but here, in front of what is left, none of that is lost, whatever its reset policy.
//!
//! An offset may lie beyond the source's own end, too: its log was cut or made anew, or somebody reset the group there. No
//! record will ever be mirrored for it, so at the end of a mirror that is as long as its source it is settled.

use crate::destination::{CommittedOffset, GroupOffsets, Mirror, SourceEnds};
use crate::status::{TaskError, TaskErrorCode};
use hawser_wire::Offset;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Unknown leader epoch in a commit (`RecordBatch.NO_PARTITION_LEADER_EPOCH`).
const NO_EPOCH: i32 = -1;

/// What one group has committed at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceGroup {
    pub(crate) group: String,
    /// By topic at the source and partition; without those that have none.
    pub(crate) offsets: Vec<(Arc<str>, i32, CommittedOffset)>,
}

/// What a pass is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// By group here.
    pub(crate) commit: BTreeMap<String, GroupOffsets>,
    pub(crate) errors: Vec<TaskError>,
    /// By mirror topic: why its offsets are not all there yet.
    pub(crate) unsettled: BTreeMap<Arc<str>, String>,
    /// Which groups stand at the end here because their offset is beyond the source's, too.
    pub(crate) past_source_end: Vec<String>,
    /// Which groups stand at the log start here because their offset is below it.
    pub(crate) below_start: Vec<String>,
}

/// The name of `group` at the destination.
pub(crate) fn name_here(prefix: &str, group: &str) -> String {
    format!("{prefix}{group}")
}

/// Compares `groups` with `here`. `source_ends` is what a promotion has asked; without it no offset that is held counts as
/// settled.
pub(crate) fn plan(
    groups: Vec<SourceGroup>,
    prefix: &str,
    mirrors: &[Mirror],
    here: &BTreeMap<String, GroupOffsets>,
    source_ends: &SourceEnds,
    readable: impl Fn(&str, i32) -> Option<Range<Offset>>,
    has_members: impl Fn(&str) -> bool,
) -> Plan {
    let by_source: HashMap<&str, &Mirror> = mirrors.iter().map(|mirror| (&*mirror.source, mirror)).collect();
    let mut plan = Plan::default();
    for SourceGroup { group: at_source, offsets } in groups {
        let group = name_here(prefix, &at_source);
        let ours = here.get(&group);
        let mut changed = GroupOffsets::new();
        for (topic, partition, mut committed) in offsets {
            let Some(mirror) = by_source.get(&*topic).filter(|mirror| partition < mirror.partitions) else { continue };
            let Some(Range { start, end }) = readable(&mirror.name, partition) else {
                let why = format!(
                    "partition {partition} was not fetched since the start, group '{at_source}' has an offset in it"
                );
                plan.unsettled.insert(mirror.name.clone(), why);
                continue;
            };
            if committed.offset > end {
                let why = format!(
                    "group '{at_source}' is at offset {} of partition {partition}, the mirror reaches {end}",
                    committed.offset
                );
                let source_ends = source_ends.get(&mirror.name);
                let source_end = usize::try_from(partition).ok().and_then(|index| source_ends?.get(index));
                if source_end == Some(&end) {
                    plan.past_source_end.push(format!("{why}, as does the source"));
                } else {
                    plan.unsettled.insert(mirror.name.clone(), why);
                }
                committed.offset = end;
                committed.leader_epoch = NO_EPOCH;
            } else if committed.offset < start {
                plan.below_start.push(format!(
                    "group '{at_source}' is at offset {} of partition {partition}, mirror '{}' begins at {start}: it stands \
                     there",
                    committed.offset, mirror.name
                ));
                committed.offset = start;
                committed.leader_epoch = NO_EPOCH;
            }
            let key = (mirror.name.clone(), partition);
            if ours.and_then(|ours| ours.get(&key)) != Some(&committed) {
                changed.insert(key, committed);
            }
        }
        if changed.is_empty() {
            continue;
        }
        if has_members(&group) {
            plan.leave_alone(&group, changed.keys().map(|(topic, _)| topic.clone()));
        } else {
            plan.commit.insert(group, changed);
        }
    }
    plan
}

impl Plan {
    /// Notes that `group` has members here, so that its offsets in `topics` stay as they are.
    pub(crate) fn leave_alone(&mut self, group: &str, topics: impl Iterator<Item = Arc<str>>) {
        let why = format!(
            "consumer group '{group}' has members at the destination: its offsets are left alone. Stop it there, or exclude \
             it in consumer.offset.group.filters."
        );
        self.unsettled.extend(topics.map(|topic| (topic, why.clone())));
        self.errors.push(TaskError::new(TaskErrorCode::ConsumerGroupInUse, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(offset: i64) -> CommittedOffset {
        CommittedOffset { offset: Offset(offset), leader_epoch: 3, metadata: "m".to_owned() }
    }

    fn mirrors() -> Vec<Mirror> {
        vec![
            Mirror { name: "p.orders".into(), source: "orders".into(), partitions: 2 },
            Mirror { name: "empty".into(), source: "empty".into(), partitions: 1 },
        ]
    }

    fn source(group: &str, offsets: &[(&str, i32, i64)]) -> SourceGroup {
        let offsets = offsets.iter().map(|(topic, partition, offset)| ((*topic).into(), *partition, at(*offset)));
        SourceGroup { group: group.to_owned(), offsets: offsets.collect() }
    }

    const START: i64 = 5;

    fn held(topic: &str, _: i32) -> Option<Range<Offset>> {
        (topic == "p.orders").then_some(Offset(START)..Offset(100))
    }

    #[test]
    fn by_table() {
        let none = BTreeMap::new();
        let orders = |partition| ("p.orders".into(), partition);
        // Written as it is, under the mirror's name.
        let done =
            plan(vec![source("g", &[("orders", 1, 40)])], "", &mirrors(), &none, &SourceEnds::new(), held, |_| false);
        assert_eq!(done.commit["g"], [(orders(1), at(40))].into());
        assert!(done.unsettled.is_empty());
        // What is the same already is not written.
        let here = [("g".to_owned(), GroupOffsets::from([(orders(1), at(40))]))].into();
        let same =
            plan(vec![source("g", &[("orders", 1, 40)])], "", &mirrors(), &here, &SourceEnds::new(), held, |_| true);
        assert_eq!(same, Plan::default());
        // The source's value wins, also backwards.
        let back =
            plan(vec![source("g", &[("orders", 1, 7)])], "", &mirrors(), &here, &SourceEnds::new(), held, |_| false);
        assert_eq!(back.commit["g"], [(orders(1), at(7))].into());
        // Held at the end of the mirror, and not settled.
        let held_up =
            plan(vec![source("g", &[("orders", 0, 101)])], "", &mirrors(), &none, &SourceEnds::new(), held, |_| false);
        let at_end = CommittedOffset { offset: Offset(100), leader_epoch: NO_EPOCH, metadata: "m".to_owned() };
        assert_eq!(held_up.commit["g"], [(orders(0), at_end)].into());
        assert!(held_up.unsettled["p.orders"].contains("101"), "{held_up:?}");
        // The mirror is as long as the source: nothing will come that the offset could wait for.
        let ends = |end| SourceEnds::from([("p.orders".into(), vec![Offset(end), Offset(7)])]);
        let past = plan(vec![source("g", &[("orders", 0, 101)])], "", &mirrors(), &none, &ends(100), held, |_| false);
        assert_eq!((&past.commit, past.unsettled.len()), (&held_up.commit, 0));
        assert!(past.past_source_end[0].contains("101"), "{past:?}");
        // It has grown since, or this is another partition's end: not settled.
        for (partition, ends) in [(0, ends(102)), (0, ends(99)), (1, ends(100))] {
            let groups = vec![source("g", &[("orders", partition, 101)])];
            let held_up = plan(groups, "", &mirrors(), &none, &ends, held, |_| false);
            assert!(held_up.unsettled.contains_key("p.orders") && held_up.past_source_end.is_empty(), "{held_up:?}");
        }
        // Members here hold it up all the same.
        let busy = plan(vec![source("g", &[("orders", 0, 101)])], "", &mirrors(), &none, &ends(100), held, |_| true);
        assert!(busy.commit.is_empty() && busy.unsettled.contains_key("p.orders"));
        // Raised to the start of the mirror, and settled: nothing below it will ever be here.
        let early = |offset| {
            let groups = vec![source("g", &[("orders", 0, offset)])];
            plan(groups, "", &mirrors(), &none, &SourceEnds::new(), held, |_| false)
        };
        let raised = early(3);
        let at_start = CommittedOffset { offset: Offset(START), leader_epoch: NO_EPOCH, metadata: "m".to_owned() };
        assert_eq!(raised.commit["g"], [(orders(0), at_start)].into());
        assert!(raised.unsettled.is_empty() && raised.below_start.len() == 1, "{raised:?}");
        assert!(raised.below_start[0].contains("offset 3 of") && raised.below_start[0].contains("begins at 5"));
        assert!(early(START).below_start.is_empty() && early(START).commit["g"][&orders(0)] == at(START));
        // In a mirror that holds nothing yet.
        let groups = || vec![source("g", &[("orders", 0, 3)])];
        let none_held = |_: &str, _| Some(Offset(20)..Offset(20));
        let raised = plan(groups(), "", &mirrors(), &none, &SourceEnds::new(), none_held, |_| false);
        assert_eq!(raised.commit["g"][&orders(0)].offset, Offset(20));
        assert!(raised.unsettled.is_empty());
        // Other topics, further partitions.
        let other = plan(
            vec![source("g", &[("x", 0, 1), ("orders", 2, 1)])],
            "",
            &mirrors(),
            &none,
            &SourceEnds::new(),
            held,
            |_| false,
        );
        assert_eq!(other, Plan::default());
        // Not known how far it reaches: nothing is cut to a guess.
        let early =
            plan(vec![source("g", &[("empty", 0, 1)])], "", &mirrors(), &none, &SourceEnds::new(), held, |_| false);
        assert!(early.commit.is_empty() && early.unsettled.contains_key("empty"));
        // Members here.
        let busy =
            plan(vec![source("g", &[("orders", 0, 1)])], "", &mirrors(), &none, &SourceEnds::new(), held, |group| {
                group == "g"
            });
        assert!(busy.commit.is_empty());
        assert_eq!(busy.errors[0].code, TaskErrorCode::ConsumerGroupInUse);
        assert!(busy.unsettled.contains_key("p.orders"));
        // A prefix makes it another group.
        let prefixed =
            plan(vec![source("g", &[("orders", 0, 1)])], "a.", &mirrors(), &none, &SourceEnds::new(), held, |group| {
                group == "g"
            });
        assert_eq!(prefixed.commit.keys().collect::<Vec<_>>(), ["a.g"]);
    }

    proptest! {
        /// Carrying a plan out leaves nothing to do, and no offset is ever outside what the mirror holds.
        #[test]
        fn a_plan_carried_out_is_empty_the_next_time(
            offsets in proptest::collection::vec((0..3i32, 0..200i64), 0..6),
            before in proptest::collection::btree_map(0..2i32, 0..200i64, 0..2),
        ) {
            let offsets: BTreeMap<i32, i64> = offsets.into_iter().collect();
            let offsets: Vec<_> = offsets.into_iter().map(|(partition, offset)| ("orders", partition, offset)).collect();
            let key = |partition| -> (Arc<str>, i32) { ("p.orders".into(), partition) };
            let before: GroupOffsets = before.into_iter().map(|(p, offset)| (key(p), at(offset))).collect();
            let mut here: BTreeMap<_, _> = [("g".to_owned(), before)].into();
            let first = plan(vec![source("g", &offsets)], "", &mirrors(), &here, &SourceEnds::new(), held, |_| false);
            for (group, changed) in first.commit {
                let within = Offset(START)..=Offset(100);
                prop_assert!(changed.values().all(|committed| within.contains(&committed.offset)));
                here.entry(group).or_default().extend(changed);
            }
            let again = plan(vec![source("g", &offsets)], "", &mirrors(), &here, &SourceEnds::new(), held, |_| false);
            prop_assert!(again.commit.is_empty());
        }
    }
}
