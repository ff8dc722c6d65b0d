//! The partitions that are served, and the leader epoch of each.
//!
//! *Leader epoch* as clients see it: the epoch of the last batch, and one more each time the log's end went back
//! (a diverged tail was cut off). So it is never below the epoch of any batch served, and a client that read what
//! vanished is fenced, refreshes its metadata and asks OffsetForLeaderEpoch where to go on, as after any unclean election.

use dashmap::DashMap;
use hawser_log::{Logs, PartitionLog, Watermarks};
use hawser_state::TopicRecord;
use hawser_wire::{LeaderEpoch, Offset, ResponseError, TopicPartition, Uuid};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(crate) struct Partitions {
    logs: Arc<Logs>,
    /// By topic id, so that a recreated topic begins with a clean slate.
    hosted: DashMap<(Uuid, i32), Hosted>,
}

struct Hosted {
    /// Weak: a deleted partition's files are let go of.
    log: Weak<PartitionLog>,
    lineage: Mutex<Lineage>,
}

/// A partition at one moment.
pub(crate) struct Partition {
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) marks: Watermarks,
    pub(crate) leader_epoch: LeaderEpoch,
}

impl Partitions {
    pub(crate) fn new(logs: Arc<Logs>) -> Self {
        Self { logs, hosted: DashMap::new() }
    }

    pub(crate) fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// Partition `index` of `topic`, checked against the leader epoch that the client knows (−1: it does not say).
    ///
    /// # Errors
    /// `UnknownTopicOrPartition` beyond the topic's partitions, `NotLeaderOrFollower` while the mirror has not opened it,
    /// `FencedLeaderEpoch` and `UnknownLeaderEpoch` as `Partition.checkCurrentLeaderEpoch`.
    pub(crate) fn find(&self, topic: &TopicRecord, index: i32, known_epoch: i32) -> Result<Partition, ResponseError> {
        if !(0..topic.partitions).contains(&index) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        let partition = self.look(topic, index).ok_or(ResponseError::NotLeaderOrFollower)?;
        match known_epoch {
            known if known < 0 || known == partition.leader_epoch.0 => Ok(partition),
            known if known < partition.leader_epoch.0 => Err(ResponseError::FencedLeaderEpoch),
            _ => Err(ResponseError::UnknownLeaderEpoch),
        }
    }

    fn look(&self, topic: &TopicRecord, index: i32) -> Option<Partition> {
        let key = (topic.id, index);
        if let Some(hosted) = self.hosted.get(&key)
            && let Some(log) = hosted.log.upgrade()
        {
            return Some(hosted.at_this_moment(log));
        }
        let log = self.logs.partition(&TopicPartition::new(topic.name.as_str(), index))?;
        let partition = {
            let mut hosted =
                self.hosted.entry(key).or_insert_with(|| Hosted { log: Weak::new(), lineage: Mutex::default() });
            hosted.log = Arc::downgrade(&log);
            hosted.at_this_moment(log)
        };
        // Deleted partitions are forgotten each time the map has doubled.
        if self.hosted.len().is_power_of_two() {
            self.hosted.retain(|_, hosted| hosted.log.strong_count() > 0);
        }
        Some(partition)
    }
}

impl Hosted {
    fn at_this_moment(&self, log: Arc<PartitionLog>) -> Partition {
        let mut lineage = self.lineage.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: an older glance must not look like a truncation.
        let marks = log.watermarks();
        // A log that is led keeps its own; what was shown of the mirror that it was is not taken back.
        let leader_epoch = lineage.observe(&marks).max(log.leads().unwrap_or(LeaderEpoch::NONE));
        Partition { log, marks, leader_epoch }
    }
}

#[derive(Default)]
struct Lineage {
    log_end: Offset,
    epoch: i32,
}

impl Lineage {
    fn observe(&mut self, marks: &Watermarks) -> LeaderEpoch {
        if marks.log_end < self.log_end {
            self.epoch = self.epoch.saturating_add(1);
        }
        self.log_end = marks.log_end;
        self.epoch = self.epoch.max(marks.last_epoch.0);
        LeaderEpoch(self.epoch)
    }
}

impl Partition {
    /// Where `epoch` ends here, as `UnifiedLog.endOffsetForEpoch`: the largest epoch held that is not above it, and its
    /// end; `None` for an epoch that this leader has not had yet.
    pub(crate) fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if epoch.0 < 0 || epoch > self.leader_epoch {
            return None;
        }
        if epoch == self.leader_epoch {
            return Some((epoch, self.marks.log_end));
        }
        // An epoch before everything held ended where the log begins.
        Some(self.log.end_of_epoch(epoch).unwrap_or((epoch, self.marks.log_start)))
    }

    /// What a consumer of this isolation level reads below (0: read_uncommitted, 1: read_committed).
    pub(crate) fn readable_end(&self, isolation_level: i8) -> Offset {
        if isolation_level == 1 { self.marks.last_stable } else { self.marks.high_watermark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_epoch_rises_with_batches_and_with_truncation_and_never_falls() {
        let mut lineage = Lineage::default();
        let mut at = |log_end, last_epoch| {
            let (zero, log_end) = (Offset(0), Offset(log_end));
            let last_epoch = LeaderEpoch(last_epoch);
            let marks = Watermarks {
                log_start: zero,
                last_stable: zero,
                high_watermark: zero,
                log_end,
                flushed: zero,
                last_epoch,
            };
            lineage.observe(&marks).0
        };
        assert_eq!(at(0, -1), 0);
        assert_eq!(at(10, 3), 3);
        assert_eq!(at(10, 3), 3);
        assert_eq!(at(20, 5), 5);
        assert_eq!(at(12, 3), 6);
        assert_eq!(at(12, 3), 6);
        assert_eq!(at(14, 6), 6);
        assert_eq!(at(15, 8), 8);
        assert_eq!(at(0, -1), 9);
    }
}
