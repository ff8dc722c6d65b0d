//! The partitions that are served, and the leader epoch of each.
//!
//! *Leader epoch* as clients see it: the epoch of the last batch, and one more each time the log's end went back
//! (a diverged tail was cut off). So it is never below the epoch of any batch served, and a client that read what
//! vanished is fenced, refreshes its metadata and asks OffsetForLeaderEpoch where to go on, as after any unclean election.
//! It does not fall over a restart either: every epoch is kept in the state. One that a truncation raised is kept before
//! anybody hears of it; until then, some milliseconds, the partition has no leader, as in an election.

mod floors;

use dashmap::DashMap;
use floors::Floors;
use hawser_log::{Logs, PartitionLog, Status, Watermarks};
use hawser_state::{State, TopicRecord};
use hawser_wire::{LeaderEpoch, Offset, ResponseError, TopicPartition, Uuid};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(crate) struct Partitions {
    logs: Arc<Logs>,
    state: State,
    floors: Arc<Floors>,
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
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(logs: Arc<Logs>, state: State) -> Self {
        let floors = Floors::start(state.clone());
        Self { logs, state, floors, hosted: DashMap::new() }
    }

    pub(crate) fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// Partition `index` of `topic`, checked against the leader epoch that the client knows (−1: it does not say).
    ///
    /// # Errors
    /// `UnknownTopicOrPartition` beyond the topic's partitions, `NotLeaderOrFollower` while the mirror has not opened it or
    /// its new epoch is not kept yet, `KafkaStorageError` while its log is offline, `FencedLeaderEpoch` and
    /// `UnknownLeaderEpoch` as `Partition.checkCurrentLeaderEpoch`.
    pub(crate) fn find(&self, topic: &TopicRecord, index: i32, known_epoch: i32) -> Result<Partition, ResponseError> {
        if !(0..topic.partitions).contains(&index) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        let (partition, is_kept) = self.look(topic, index)?;
        match known_epoch {
            known if (0..partition.leader_epoch.0).contains(&known) => Err(ResponseError::FencedLeaderEpoch),
            _ if !is_kept => Err(ResponseError::NotLeaderOrFollower),
            known if known < 0 || known == partition.leader_epoch.0 => Ok(partition),
            _ => Err(ResponseError::UnknownLeaderEpoch),
        }
    }

    /// And whether its leader epoch is kept, so that it may be told.
    fn look(&self, topic: &TopicRecord, index: i32) -> Result<(Partition, bool), ResponseError> {
        let key = (topic.id, index);
        if let Some(hosted) = self.hosted.get(&key)
            && let Some(log) = hosted.log.upgrade()
        {
            return hosted.at_this_moment(key, log, &self.floors);
        }
        let log = self.logs.partition(&TopicPartition::new(topic.name.as_str(), index));
        let log = log.ok_or(ResponseError::NotLeaderOrFollower)?;
        let kept = self.state.leader_epoch(topic.id, index).map_err(|error| {
            tracing::error!(topic = topic.name, index, %error, "the leader epoch cannot be read");
            ResponseError::KafkaStorageError
        })?;
        let partition = {
            let new = || Hosted { log: Weak::new(), lineage: Mutex::new(Lineage::from_kept(kept)) };
            let mut hosted = self.hosted.entry(key).or_insert_with(new);
            hosted.log = Arc::downgrade(&log);
            hosted.at_this_moment(key, log, &self.floors)
        };
        // Deleted partitions are forgotten each time the map has doubled.
        if self.hosted.len().is_power_of_two() {
            self.hosted.retain(|_, hosted| hosted.log.strong_count() > 0);
        }
        partition
    }
}

impl Hosted {
    fn at_this_moment(
        &self,
        key: (Uuid, i32),
        log: Arc<PartitionLog>,
        floors: &Floors,
    ) -> Result<(Partition, bool), ResponseError> {
        if matches!(log.status(), Status::Offline(_)) {
            return Err(ResponseError::KafkaStorageError);
        }
        let mut lineage = self.lineage.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: an older glance must not look like a truncation.
        let marks = log.watermarks();
        match lineage.observe(&marks) {
            Seen::Same => {}
            Seen::Rose => floors.keep(key, lineage.epoch, None),
            Seen::WentBack => {
                let kept = Arc::clone(&lineage.is_kept);
                floors.keep(key, lineage.epoch, Some(kept));
            }
        }
        let is_kept = lineage.is_kept.load(Ordering::Acquire);
        // A log that is led keeps its own; what was shown of the mirror that it was is not taken back.
        let leader_epoch = LeaderEpoch(lineage.epoch).max(log.leads().unwrap_or(LeaderEpoch::NONE));
        Ok((Partition { log, marks, leader_epoch }, is_kept))
    }
}

struct Lineage {
    log_end: Offset,
    epoch: i32,
    /// Whether the last epoch that a truncation raised is in the state; a new flag each time.
    is_kept: Arc<AtomicBool>,
}

/// What became of the leader epoch.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Same,
    /// With a batch: the log tells as much unless it loses that batch.
    Rose,
    /// The log's end went back, and the epoch rose by that.
    WentBack,
}

impl Lineage {
    fn from_kept(kept: Option<i32>) -> Self {
        Self { log_end: Offset(0), epoch: kept.unwrap_or_default(), is_kept: Arc::new(AtomicBool::new(true)) }
    }

    fn observe(&mut self, marks: &Watermarks) -> Seen {
        let (before, went_back) = (self.epoch, marks.log_end < self.log_end);
        self.log_end = marks.log_end;
        self.epoch = self.epoch.saturating_add(i32::from(went_back)).max(marks.last_epoch.0);
        if went_back {
            self.is_kept = Arc::new(AtomicBool::new(false));
            return Seen::WentBack;
        }
        if self.epoch > before { Seen::Rose } else { Seen::Same }
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

    fn marks(log_end: i64, last_epoch: i32) -> Watermarks {
        let (zero, log_end, last_epoch) = (Offset(0), Offset(log_end), LeaderEpoch(last_epoch));
        Watermarks { log_start: zero, last_stable: zero, high_watermark: zero, log_end, flushed: zero, last_epoch }
    }

    #[test]
    fn leader_epoch_rises_with_batches_and_with_truncation_and_never_falls() {
        use Seen::{Rose, Same, WentBack};
        let mut lineage = Lineage::from_kept(None);
        let mut at = |log_end, last_epoch| {
            let seen = lineage.observe(&marks(log_end, last_epoch));
            (lineage.epoch, seen)
        };
        assert_eq!(at(0, -1), (0, Same));
        assert_eq!(at(10, 3), (3, Rose));
        assert_eq!(at(10, 3), (3, Same));
        assert_eq!(at(20, 5), (5, Rose));
        assert_eq!(at(12, 3), (6, WentBack));
        assert_eq!(at(12, 3), (6, Same));
        assert_eq!(at(14, 6), (6, Same));
        assert_eq!(at(15, 8), (8, Rose));
        assert_eq!(at(0, -1), (9, WentBack));
        let mut later = Lineage::from_kept(Some(9));
        assert_eq!((later.observe(&marks(3, 4)), later.epoch), (Same, 9));
    }
}
