//! Groups and committed offsets: read from the file when asked for, as there may be millions, and written many at
//! a time.

use crate::disk::{Failure, GROUPS, OFFSETS};
use crate::{CommittedOffset, Error, GroupChange, GroupRecord, State};
use redb::{ReadableTable, WriteTransaction};

impl State {
    /// Every group with its stored generation, by id. A group that only commits offsets has no generation and is not
    /// listed here; see [`groups_with_offsets`](Self::groups_with_offsets).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn groups(&self) -> Result<Vec<(String, GroupRecord)>, Error> {
        self.inner.disk.read(|t| {
            let table = t.open_table(GROUPS)?;
            let rows = table.iter()?.map(|row| {
                let (group, json) = row?;
                Ok((group.value().to_owned(), crate::parse(GROUPS, group.value(), json.value())?))
            });
            rows.collect()
        })
    }

    /// One group with its stored generation.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn group(&self, group: &str) -> Result<Option<GroupRecord>, Error> {
        self.inner.disk.read(|t| {
            let table = t.open_table(GROUPS)?;
            table.get(group)?.map(|json| crate::parse(GROUPS, group, json.value())).transpose()
        })
    }

    /// Ids of all groups that have committed offsets. Costs one look-up a group.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn groups_with_offsets(&self) -> Result<Vec<String>, Error> {
        self.inner.disk.read(|t| {
            let table = t.open_table(OFFSETS)?;
            let mut groups: Vec<String> = Vec::new();
            loop {
                // The smallest key of the next group: the last one's name with a zero behind it.
                let after = groups.last().map(|g| format!("{g}\0")).unwrap_or_default();
                let Some(row) = table.range((after.as_str(), "", i32::MIN)..)?.next() else {
                    return Ok(groups);
                };
                groups.push(row?.0.value().0.to_owned());
            }
        })
    }

    /// The offset of `group` in one partition.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn offset(&self, group: &str, topic: &str, partition: i32) -> Result<Option<CommittedOffset>, Error> {
        self.inner.disk.read(|t| {
            let table = t.open_table(OFFSETS)?;
            Ok(table.get((group, topic, partition))?.map(|row| committed(row.value())))
        })
    }

    /// All offsets of `group`, by topic and partition.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn offsets(&self, group: &str) -> Result<Vec<(String, i32, CommittedOffset)>, Error> {
        self.inner.disk.read(|t| {
            let table = t.open_table(OFFSETS)?;
            let mut offsets = Vec::new();
            for row in table.range((group, "", i32::MIN)..)? {
                let (key, value) = row?;
                let (owner, topic, partition) = key.value();
                if owner != group {
                    break;
                }
                offsets.push((topic.to_owned(), partition, committed(value.value())));
            }
            Ok(offsets)
        })
    }

    /// Makes all of `changes`, in order, in one transaction: one fsync, all or nothing. Blocks on it.
    ///
    /// # Errors
    /// When the write failed; nothing changed then.
    pub fn apply(&self, changes: &[GroupChange]) -> Result<(), Error> {
        self.inner.disk.write(|t| {
            for change in changes {
                apply_one(t, change)?;
            }
            Ok(())
        })
    }
}

fn apply_one(t: &WriteTransaction, change: &GroupChange) -> Result<(), Failure> {
    match change {
        GroupChange::PutGroup { group, record } => crate::put(t, GROUPS, group, record),
        GroupChange::DeleteGroup { group } => {
            crate::delete(t, GROUPS, group)?;
            retain(t, group, |_| false)
        }
        GroupChange::PutOffset { group, topic, partition, committed } => {
            let CommittedOffset { offset, leader_epoch, metadata, commit_timestamp_ms } = committed;
            let value = (*offset, *leader_epoch, *commit_timestamp_ms, metadata.as_str());
            t.open_table(OFFSETS)?.insert((group.as_str(), topic.as_str(), *partition), value)?;
            Ok(())
        }
        GroupChange::DeleteOffset { group, topic, partition } => {
            t.open_table(OFFSETS)?.remove((group.as_str(), topic.as_str(), *partition))?;
            Ok(())
        }
        GroupChange::ExpireOffsets { group, until_ms } => expire(t, group, *until_ms),
    }
}

fn expire(t: &WriteTransaction, group: &str, until_ms: i64) -> Result<(), Failure> {
    let record: Option<GroupRecord> = {
        let groups = t.open_table(GROUPS)?;
        let json = groups.get(group)?;
        json.map(|json| crate::parse(GROUPS, group, json.value())).transpose()?
    };
    if record.is_some_and(|record| record.has_members() || record.state_since_ms > until_ms) {
        return Ok(());
    }
    let mut left = 0;
    retain(t, group, |commit_timestamp_ms| {
        let stays = commit_timestamp_ms > until_ms;
        left += usize::from(stays);
        stays
    })?;
    if left == 0 { crate::delete(t, GROUPS, group) } else { Ok(()) }
}

/// Keeps those offsets of `group` whose commit timestamp `stays`.
fn retain(t: &WriteTransaction, group: &str, mut stays: impl FnMut(i64) -> bool) -> Result<(), Failure> {
    let mut table = t.open_table(OFFSETS)?;
    let end = format!("{group}\0");
    let of_group = (group, "", i32::MIN)..(end.as_str(), "", i32::MIN);
    table.retain_in(of_group, |_, (_, _, commit_timestamp_ms, _)| stays(commit_timestamp_ms))?;
    Ok(())
}

/// Removes the offsets of every group in `topic`; looks at every offset there is, which a deletion of a topic is worth.
pub(crate) fn forget_topic(t: &WriteTransaction, topic: &str) -> Result<(), Failure> {
    t.open_table(OFFSETS)?.retain(|(_, owner, _), _| owner != topic)?;
    Ok(())
}

fn committed((offset, leader_epoch, commit_timestamp_ms, metadata): (i64, i32, i64, &str)) -> CommittedOffset {
    CommittedOffset { offset, leader_epoch, metadata: metadata.to_owned(), commit_timestamp_ms }
}
