//! One partition of a comparison: how far it was compared, and how far it has to be. Asks nobody.

use super::{JobTopic, Standing, distance, keep};
use crate::lock::lock;
use crate::operations::{BehindView, VerifyView};
use hawser_link::config::StartOffset;
use hawser_log::{PartitionLog, Watermarks};
use hawser_wire::{Offset, TopicPartition, Uuid};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) struct Place {
    topic: Arc<JobTopic>,
    tp: TopicPartition,
    at_source: TopicPartition,
    log: Arc<PartitionLog>,
    /// Compared below this.
    pub(super) at: Offset,
    /// Compared up to this, for now.
    pub(super) until: Offset,
    /// Compared up to this at last; `None` until the source has told its end.
    pub(super) goal: Option<Offset>,
    /// Whether log start and number of partitions were held against the source's.
    pub(super) are_bounds_compared: bool,
    pub(super) compacted: Option<bool>,
    pub(super) findings: u64,
    /// What of the report's `offsets_left` is this partition's.
    counted: u64,
    is_over: bool,
}

impl Place {
    /// Compared from the log start on; `source_ends`: where the source's partitions ended when the comparison began, as far as
    /// it told.
    pub(super) fn new(
        topic: Arc<JobTopic>,
        tp: TopicPartition,
        log: Arc<PartitionLog>,
        source_ends: &HashMap<TopicPartition, Offset>,
    ) -> Self {
        let Watermarks { log_start, log_end, .. } = log.watermarks();
        let at_source = TopicPartition::new(topic.mirror.source_topic.as_str(), tp.partition);
        let stopped_at = usize::try_from(tp.partition).ok().and_then(|index| topic.mirror.stopped_at.get(index));
        let (until, goal) = match topic.standing {
            Standing::Stopped => {
                let goal = stopped_at.map_or(log_end, |offset| Offset(*offset));
                (log_end.min(goal), Some(goal))
            }
            Standing::Follows | Standing::Rests(_) => (log_end, source_ends.get(&at_source).copied()),
        };
        Self {
            are_bounds_compared: topic.standing == Standing::Stopped,
            topic,
            tp,
            at_source,
            log,
            at: log_start.min(until),
            until,
            goal,
            compacted: None,
            findings: 0,
            counted: 0,
            is_over: false,
        }
    }

    pub(super) fn topic(&self) -> &Arc<JobTopic> {
        &self.topic
    }

    /// The partition here.
    pub(super) fn tp(&self) -> &TopicPartition {
        &self.tp
    }

    /// The partition there.
    pub(super) fn at_source(&self) -> &TopicPartition {
        &self.at_source
    }

    /// The source's topic.
    pub(super) fn source(&self) -> &str {
        &self.topic.mirror.source_topic
    }

    /// The source topic's id as pinned when the mirror was made.
    pub(super) fn source_id(&self) -> Uuid {
        self.topic.mirror.source_topic_id
    }

    /// Whether the mirror began where its source did, so that it must hold all that the source holds below its end.
    pub(super) fn is_whole(&self) -> bool {
        StartOffset::parse(&self.topic.mirror.start_offset_spec) == Some(StartOffset::Earliest)
    }

    pub(super) fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }

    /// Takes in what has arrived since, if more is needed.
    pub(super) fn look(&mut self, follow: bool, view: &Mutex<VerifyView>) {
        if self.topic.standing != Standing::Stopped && (follow || self.lacks()) {
            self.until = self.until.max(self.log.watermarks().log_end);
        }
        self.count(view);
    }

    /// Whether there is something to compare.
    pub(super) fn has_news(&self) -> bool {
        !self.is_over && (self.at < self.until || !self.are_bounds_compared || self.goal.is_none())
    }

    /// Whether what it lacks is expected to come.
    pub(super) fn waits(&self) -> bool {
        self.lacks() && self.topic.standing == Standing::Follows
    }

    /// The source ends at `end` now. What it holds no more need not be held here.
    pub(super) fn lower(&mut self, end: Offset) {
        self.goal = self.goal.map(|goal| goal.min(end));
    }

    /// Given up: an error, or too much that differs.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn give_up(&mut self) {
        self.is_over = true;
    }

    /// Enters in the report how much is left.
    pub(super) fn count(&mut self, view: &Mutex<VerifyView>) {
        let left = if self.is_over { 0 } else { distance(self.at, self.until.max(self.goal.unwrap_or(self.until))) };
        let mut view = lock(view);
        view.offsets_left = (view.offsets_left + left).saturating_sub(self.counted);
        self.counted = left;
    }

    /// Enters in the report what became of it; `patience`: how long it was waited for, if it was.
    pub(super) fn close(mut self, view: &Mutex<VerifyView>, patience: Duration) {
        let was_given_up = std::mem::replace(&mut self.is_over, true);
        self.count(view);
        let mut view = lock(view);
        let goal = match self.goal {
            Some(goal) if !was_given_up => goal,
            _ => return,
        };
        let missing = distance(self.at, goal);
        let reason = match self.topic.standing {
            _ if missing == 0 => {
                view.partitions_done += 1;
                return;
            }
            Standing::Stopped => {
                let text =
                    format!("{}: the log ends at {}; when the mirror was stopped it ended at {goal}", self.tp, self.at);
                tracing::warn!(difference = text, "verify found a difference");
                view.differences += 1;
                view.first_difference.get_or_insert(text);
                return;
            }
            Standing::Rests(status) => format!("the mirror is {status}"),
            Standing::Follows => format!("nothing arrived for {} s", patience.as_secs_f64()),
        };
        tracing::warn!(partition = %self.tp, records = missing, reason, "verify found a mirror behind");
        view.partitions_behind += 1;
        view.records_behind += missing;
        let behind = BehindView {
            mirror_topic_name: self.topic.topic.name.clone(),
            partition: self.tp.partition,
            log_end_offset: self.at.0,
            source_end_offset: goal.0,
            records_behind: missing,
            reason,
        };
        keep(&mut view.behind, behind);
    }

    fn lacks(&self) -> bool {
        self.goal.is_some_and(|goal| self.at < goal)
    }
}
