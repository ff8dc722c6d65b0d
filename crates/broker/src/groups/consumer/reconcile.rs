//! How a member gets from what it has to what it is to have (`CurrentAssignmentBuilder`): it first gives up, then takes
//! what the others have given up. So no partition ever has two owners.
//!
//! ```text
//!             something to give up                 nothing left to give up
//!    Stable ─────────────────────► Unrevoked ──────────────────────────────┐
//!      │  ▲                                                                ▼
//!      │  └──────────── all of it is free ──────────────── Unreleased ◄────┤ some of it is held by others
//!      └──────────────────── nothing to give up ────────────────────────────
//! ```

use hawser_state::{ConsumerMemberRecord, MemberState, Partitions};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Moves `member` on towards its target of `target_epoch`. `owned` is what its heartbeat says that it still has, if it
/// says so; `is_held` tells whether another member has a partition, or has not given it up yet.
pub(super) fn reconcile(
    member: &mut ConsumerMemberRecord,
    target_epoch: i32,
    owned: Option<&Partitions>,
    is_held: impl Fn(Uuid, i32) -> bool,
) {
    let still_owns = |partitions: &Partitions| owned.is_none_or(|owned| overlaps(owned, partitions));
    let epoch = match member.state {
        MemberState::Stable if member.epoch == target_epoch => return,
        MemberState::Stable | MemberState::UnreleasedPartitions => member.epoch,
        MemberState::UnrevokedPartitions if still_owns(&member.pending_revocation) => return,
        MemberState::UnrevokedPartitions => member.epoch.saturating_add(1),
    };
    let (mut assigned, mut revoked) = (Partitions::new(), Partitions::new());
    for (topic, partition) in each(&member.assigned) {
        let is_kept = contains(&member.target, topic, partition);
        let list = if is_kept { &mut assigned } else { &mut revoked };
        list.entry(topic).or_default().insert(partition);
    }
    if !revoked.is_empty() && still_owns(&revoked) {
        member.state = MemberState::UnrevokedPartitions;
        (member.assigned, member.pending_revocation) = (assigned, revoked);
        return member.advance(epoch);
    }
    let mut has_unreleased = false;
    for (topic, partition) in each(&member.target) {
        if contains(&assigned, topic, partition) {
            continue;
        }
        if is_held(topic, partition) {
            has_unreleased = true;
        } else {
            assigned.entry(topic).or_default().insert(partition);
        }
    }
    member.state = if has_unreleased { MemberState::UnreleasedPartitions } else { MemberState::Stable };
    (member.assigned, member.pending_revocation) = (assigned, Partitions::new());
    member.advance(target_epoch);
}

/// Every partition of a set.
pub(super) fn each(partitions: &Partitions) -> impl Iterator<Item = (Uuid, i32)> {
    partitions.iter().flat_map(|(topic, indexes)| indexes.iter().map(move |index| (*topic, *index)))
}

pub(super) fn contains(partitions: &Partitions, topic: Uuid, partition: i32) -> bool {
    partitions.get(&topic).is_some_and(|indexes: &BTreeSet<i32>| indexes.contains(&partition))
}

pub(super) fn is_subset(of: &Partitions, partitions: &Partitions) -> bool {
    each(partitions).all(|(topic, partition)| contains(of, topic, partition))
}

fn overlaps(one: &Partitions, other: &Partitions) -> bool {
    each(one).any(|(topic, partition)| contains(other, topic, partition))
}
