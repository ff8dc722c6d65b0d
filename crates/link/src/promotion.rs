//! What a promotion waits for: the mirror holds all that its source has, at one moment after the promotion was asked for.
//!
//! Offsets alone do not say so: after an unclean election the source may end at the same offset with other records. So
//! once no partition lacks anything, the source is asked where it ends the epoch that each copy ends with
//! (OffsetForLeaderEpoch), and only a copy that lies wholly within that lineage counts. Producers are expected to have
//! stopped: what they write after that moment stays behind.

use crate::mirror::LinkSeen;
use hawser_wire::{LeaderEpoch, Offset};

/// Partitions that a reason names.
const NAMED_MAX: usize = 3;

/// One thing that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What must become true.
    pub condition: Condition,
    /// What is missing, for people.
    pub reason: String,
}

/// What must be true before a mirror is promoted. Configs and committed offsets follow their source by tasks of their own:
/// whoever runs these adds what they still have to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The link is not paused.
    LinkActive,
    /// The source answers for every partition.
    SourceReachable,
    /// The mirror holds every record.
    MirrorLag,
    /// The mirror's configs are the source's.
    TopicConfigs,
    /// Consumer groups stand where they stand at the source.
    ConsumerOffsets,
    /// The logs here can be written.
    Log,
}

/// Where a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// One past its last offset.
    pub log_end: Offset,
    /// Epoch of its last batch, `NONE` if it holds none.
    pub last_epoch: LeaderEpoch,
}

/// What the source says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: why.
    Silent(String),
    /// Its high watermark, asked for after the promotion began.
    End(Offset),
    /// Besides, the largest epoch at or below the copy's last one, and where it ends; `None` if it knows none.
    Lineage(Offset, Option<(LeaderEpoch, Offset)>),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be stopped.
    InSync,
    /// No offset is missing: ask for [`Told::Lineage`] of every copy that holds batches.
    AskLineage,
    /// Ask again later.
    Waits(Vec<Wait>),
}

/// Judges a mirror by its `copies` (read after the answers came) and what was told of the source's partitions, both by index.
pub fn judge(link: LinkSeen, copies: &[Copy], told: &[Told]) -> Verdict {
    let wait = |condition, reason| Verdict::Waits(vec![Wait { condition, reason }]);
    match link {
        LinkSeen::Paused => return wait(Condition::LinkActive, "the link is paused".to_owned()),
        LinkSeen::Failed => {
            return wait(Condition::SourceReachable, "the link has failed; its description says why".to_owned());
        }
        LinkSeen::Up | LinkSeen::Unavailable => {}
    }
    if copies.len() != told.len() {
        let reason = format!("the source has {} partitions, the mirror {}", told.len(), copies.len());
        return wait(Condition::MirrorLag, reason);
    }
    let (mut silent, mut lagging, mut diverged) = (Vec::new(), Vec::new(), Vec::new());
    let (mut records_missing, mut must_ask) = (0_i64, false);
    for (partition, (copy, told)) in copies.iter().zip(told).enumerate() {
        let (end, lineage) = match told {
            Told::Silent(why) => {
                silent.push(format!("{partition}: {why}"));
                continue;
            }
            Told::End(end) => (end, None),
            Told::Lineage(end, lineage) => (end, Some(lineage)),
        };
        if copy.log_end < *end {
            records_missing = records_missing.saturating_add(end.0 - copy.log_end.0);
            lagging.push(partition.to_string());
        } else if copy.last_epoch != LeaderEpoch::NONE {
            match lineage {
                None => must_ask = true,
                Some(Some((epoch, ends))) if *epoch == copy.last_epoch && *ends >= copy.log_end => {}
                Some(_) => diverged.push(partition.to_string()),
            }
        }
    }
    let mut waits = Vec::new();
    let mut add = |condition, partitions: &[String], what: &str| {
        if !partitions.is_empty() {
            waits.push(Wait { condition, reason: format!("{what}: partition {}", named(partitions)) });
        }
    };
    add(Condition::SourceReachable, &silent, "the source does not answer");
    add(Condition::MirrorLag, &lagging, &format!("{records_missing} records are not mirrored yet"));
    add(Condition::MirrorLag, &diverged, "the source has replaced the tail that the mirror holds");
    match (waits.is_empty(), must_ask) {
        (false, _) => Verdict::Waits(waits),
        (true, true) => Verdict::AskLineage,
        (true, false) => Verdict::InSync,
    }
}

impl Condition {
    /// A stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LinkActive => "LINK_ACTIVE",
            Self::SourceReachable => "SOURCE_REACHABLE",
            Self::MirrorLag => "MIRROR_LAG",
            Self::TopicConfigs => "TOPIC_CONFIGS",
            Self::ConsumerOffsets => "CONSUMER_OFFSETS",
            Self::Log => "LOG",
        }
    }
}

fn named(partitions: &[String]) -> String {
    let shown = partitions.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match partitions.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
