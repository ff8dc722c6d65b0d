//! What the coordinator keeps of one mirror topic.

use crate::config::{MirrorSpec, ReplicateConfig};
use crate::fetcher::{Held, Side, now};
use crate::partition::{Event, Partition, Start};
use crate::reason::Failure;
use crate::status::{Board, TopicState};
use hawser_store::TopicSpec;
use hawser_wire::{TopicPartition, Uuid};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A mirror as it stands.
pub(super) struct Mirror {
    pub(super) spec: Arc<TopicSpec>,
    pub(super) source_topic_id: Uuid,
    pub(super) start: Start,
    pub(super) partitions: i32,
    pub(super) paused: bool,
    /// For whom `start` is history: known from an earlier life, or newer than the mirror.
    pub(super) started: BTreeSet<i32>,
    pub(super) not_started: BTreeSet<i32>,
    pub(super) failure: Option<Failure>,
    pub(super) unavailable: Option<String>,
}

impl Mirror {
    /// Where an empty copy of `partition` begins. One that has started is one that began at 0.
    fn start_of(&self, partition: i32) -> Start {
        let is_new = self.not_started.contains(&partition) && !self.started.contains(&partition);
        if is_new { self.start } else { Start::Earliest }
    }

    /// A machine for partition `id`, without a copy or a leader yet.
    pub(super) fn hold<P>(&self, id: TopicPartition, config: &ReplicateConfig, board: &Board) -> Box<Held<P>> {
        let mut machine = Partition::new(self.start_of(id.partition), config.patience);
        if self.paused {
            machine.on(Event::Pause, now());
        }
        let side = Side {
            topic_id: self.source_topic_id,
            spec: self.spec.clone(),
            place: board.place(&self.spec.name, id.partition),
            copy: None,
        };
        Box::new(Held { id, machine, side })
    }

    /// What would make a mirror that stands as this one does.
    pub(super) fn into_spec(self, source_topic: Arc<str>) -> MirrorSpec {
        let mut started = self.started;
        started.extend((0..self.partitions).filter(|partition| !self.not_started.contains(partition)));
        MirrorSpec {
            topic: Arc::unwrap_or_clone(self.spec),
            source_topic,
            source_topic_id: Some(self.source_topic_id).filter(|id| !id.is_nil()),
            partitions: self.partitions,
            start: self.start,
            started,
            paused: self.paused,
        }
    }

    pub(super) fn state(&self) -> TopicState {
        match (&self.failure, &self.unavailable, self.paused) {
            (Some(failure), _, _) => TopicState::Failed(failure.clone()),
            (None, _, true) => TopicState::Paused,
            (None, Some(detail), false) => TopicState::SourceUnavailable(detail.clone()),
            (None, None, false) if self.partitions == 0 || !self.not_started.is_empty() => TopicState::Starting,
            (None, None, false) => TopicState::Active,
        }
    }
}
