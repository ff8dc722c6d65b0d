//! All consumer-protocol groups of the cluster: where their cells come from, and where changes of them go.

use super::{Beaten, Catalogue, Cell, Chores, ConsumerGroup, Heartbeat, Rules};
use crate::ApiError;
use crate::groups::Coordinator;
use crate::groups::machine::Identity;
use hawser_state::{ConsumerMemberRecord, GroupRecord};
use hawser_wire::ResponseError;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;
use tracing::{info, warn};

impl Coordinator {
    /// Takes up a stored group with members.
    pub(in crate::groups) fn restore_consumer_group(&self, id: &str, record: GroupRecord, now: Instant) {
        let members = record.consumer.as_ref().map_or(0, |consumer| consumer.members.len());
        info!(group = id, epoch = record.generation, members, "consumer group taken up");
        let cell = Arc::new(Cell::new(id, ConsumerGroup::restore(self.consumer_rules(), record, now)));
        self.consumers().insert(id.to_owned(), Arc::clone(&cell));
        self.do_consumer_chores(&cell, &cell.tick());
    }

    /// Feeds a heartbeat; answers once all that the answer tells of is durable.
    pub(super) async fn consumer_heartbeat(
        &self,
        group: &str,
        beat: Heartbeat,
        catalogue: &Catalogue<'_>,
    ) -> Result<Beaten, ApiError> {
        loop {
            let cell = self.consumer_cell(group, beat.epoch == 0)?;
            // Retired between the look-up and the question: look again.
            let Some((answer, chores)) = cell.heartbeat(beat.clone(), catalogue) else { continue };
            if let Some(at) = chores.schedule {
                self.timers.add(at, group);
            }
            if !chores.store {
                self.consumer_stored(&cell, 0);
                return answer;
            }
            if self.writer.write_consumer_group(cell).await.is_err() {
                return Err(ApiError::new(ResponseError::CoordinatorNotAvailable, "the group could not be kept"));
            }
            return answer;
        }
    }

    /// The cell of `group`, taken from the disk or made new. A classic group without members becomes one of this protocol.
    fn consumer_cell(&self, group: &str, may_create: bool) -> Result<Arc<Cell>, ApiError> {
        let not_found = |what: &str| ApiError::new(ResponseError::GroupIdNotFound, format!("Group {group} {what}."));
        let mut consumers = self.consumers();
        if let Some(cell) = consumers.get(group) {
            return Ok(Arc::clone(cell));
        }
        let mut classic = self.cells();
        if classic.get(group).is_some_and(|cell| !may_create || !cell.retire_if_empty()) {
            return Err(not_found("is not a consumer group"));
        }
        let record = self.state.group(group).map_err(|error| {
            warn!(%error, group, "group not read");
            ApiError::new(ResponseError::CoordinatorNotAvailable, "the group could not be read")
        })?;
        let is_consumer = record.as_ref().is_some_and(|record| record.consumer.is_some());
        if !may_create && !is_consumer {
            return Err(not_found("not found"));
        }
        classic.remove(group);
        if consumers.len() + classic.len() >= self.config.groups_max {
            warn!(group, groups_max = self.config.groups_max, "no further group with members");
            return Err(ApiError::new(ResponseError::GroupMaxSizeReached, "there are too many groups with members"));
        }
        let epoch = record.map_or(0, |record| record.generation);
        let cell = Arc::new(Cell::new(group, ConsumerGroup::new(self.consumer_rules(), epoch)));
        consumers.insert(group.to_owned(), Arc::clone(&cell));
        Ok(cell)
    }

    /// Makes room for a classic group of that name.
    ///
    /// # Errors
    /// When the group of that name has members.
    pub(in crate::groups) fn yield_to_classic(
        consumers: &mut HashMap<String, Arc<Cell>>,
        group: &str,
    ) -> Result<(), ResponseError> {
        if consumers.get(group).is_some_and(|cell| !cell.retire_if_empty()) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        consumers.remove(group);
        Ok(())
    }

    pub(in crate::groups) fn tick_consumer_group(&self, group: &str) {
        let cell = self.consumers().get(group).cloned();
        if let Some(cell) = cell {
            self.do_consumer_chores(&cell, &cell.tick());
        }
    }

    fn do_consumer_chores(&self, cell: &Arc<Cell>, chores: &Chores) {
        if let Some(at) = chores.schedule {
            self.timers.add(at, cell.id());
        }
        if chores.store {
            self.writer.store_consumer_group(Arc::clone(cell));
        }
    }

    /// Called once change `change` of the group is durable.
    pub(in crate::groups) fn consumer_stored(&self, cell: &Arc<Cell>, change: u64) {
        if cell.stored(change) {
            self.forget_consumer_group(cell);
        }
    }

    pub(in crate::groups) fn forget_consumer_group(&self, cell: &Arc<Cell>) {
        let mut consumers = self.consumers();
        if consumers.get(cell.id()).is_some_and(|held| Arc::ptr_eq(held, cell)) {
            consumers.remove(cell.id());
        }
    }

    /// The group with its state, if it is one of this protocol.
    pub(super) fn consumer_record(&self, group: &str) -> Result<Option<(GroupRecord, &'static str)>, ResponseError> {
        let live = self.consumer(group).and_then(|cell| cell.look(|group| (group.record(), group.state_name())));
        if live.is_some() {
            return Ok(live);
        }
        let stored = self.state.group(group).map_err(|error| {
            warn!(%error, group, "group not read");
            ResponseError::CoordinatorNotAvailable
        })?;
        Ok(stored.filter(|record| record.consumer.is_some()).map(|record| (record, "Empty")))
    }

    /// Whether `identity` may commit offsets; `None` if nobody is in a group of this protocol.
    pub(in crate::groups) fn may_commit_to_consumer_group(
        &self,
        group: &str,
        identity: &Identity,
        is_modern: bool,
    ) -> Option<Result<(), ResponseError>> {
        let cell = self.consumer(group)?;
        cell.look(|group| group.may_commit(&identity.member_id, identity.generation, is_modern))
    }

    /// Whether a member of this epoch may be told the group's offsets; whoever does not say who it is, may.
    pub(in crate::groups) fn may_fetch(
        &self,
        group: &str,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ResponseError> {
        let member_id = match member_id {
            None if epoch < 0 => return Ok(()),
            member_id => member_id.unwrap_or_default(),
        };
        let verdict = self.consumer(group).and_then(|cell| cell.look(|group| group.may_fetch(member_id, epoch)));
        verdict.unwrap_or(Ok(()))
    }

    /// The topics that its members consume; `None` if nobody is in a group of this protocol.
    pub(in crate::groups) fn topics_of_consumer_group(&self, group: &str) -> Option<HashSet<String>> {
        let topics = |group: &ConsumerGroup| group.members().flat_map(ConsumerMemberRecord::topics).cloned().collect();
        self.consumer(group)?.look(topics)
    }

    pub(super) fn stale_regex(&self, group: &str, member_id: &str, version: u64) -> Option<String> {
        self.consumer(group)?.look(|group| group.stale_regex(member_id, version))?
    }

    pub(in crate::groups) fn consumer(&self, group: &str) -> Option<Arc<Cell>> {
        self.consumers().get(group).cloned()
    }

    fn consumer_rules(&self) -> Rules {
        Rules { size_max: self.config.group_max_size, session_timeout: self.config.consumer_group_session_timeout }
    }

    /// Locked before [`Coordinator::cells`] where both are.
    pub(in crate::groups) fn consumers(&self) -> MutexGuard<'_, HashMap<String, Arc<Cell>>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
