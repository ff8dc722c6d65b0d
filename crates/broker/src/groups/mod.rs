//! Consumer groups (the classic protocol; that of KIP-848 in `consumer`) and committed offsets.
//!
//! `machine` decides, `cell` holds one machine with the requests that wait for it, `writer` makes things durable,
//! `requests` and `offsets` translate the APIs. Groups with members live in memory; an empty group is on the disk
//! only, its generation kept, and comes back when somebody joins.

mod cell;
mod consumer;
mod machine;
mod member;
mod offsets;
mod requests;
mod writer;

pub(crate) use cell::wall_ms;

use crate::BrokerConfig;
use cell::{Cell, Chores};
use hawser_state::{GroupChange, GroupRecord, State};
use hawser_wire::ResponseError;
use machine::{Answer, Event, Group, Identity, Rules, Ticket};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};
use writer::Writer;

/// `offsets.retention.check.interval.ms`.
const RETENTION_CHECK: std::time::Duration = std::time::Duration::from_secs(600);

/// All groups of the cluster: there is one broker, so it coordinates every one.
pub(crate) struct Coordinator {
    state: State,
    config: BrokerConfig,
    cells: Mutex<HashMap<String, Arc<Cell>>>,
    consumers: Mutex<HashMap<String, Arc<consumer::Cell>>>,
    /// When the clock has to look at which group.
    timers: Arc<Timers>,
    writer: Writer,
}

#[derive(Default)]
struct Timers {
    due: Mutex<BTreeSet<(Instant, String)>>,
    earlier: Notify,
}

/// What tools are told of a group.
pub(crate) struct Described {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<(hawser_state::GroupMemberRecord, bytes::Bytes)>,
}

/// A group in a list.
pub(crate) struct Listed {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
    pub(crate) group_type: &'static str,
}

impl Coordinator {
    pub(crate) fn start(state: State, config: BrokerConfig) -> Result<Arc<Self>, hawser_state::Error> {
        let stored = state.groups()?;
        let coordinator = Arc::new_cyclic(|me| Self {
            writer: Writer::start(state.clone(), Weak::clone(me)),
            state,
            config,
            cells: Mutex::default(),
            consumers: Mutex::default(),
            timers: Arc::default(),
        });
        let now = tokio::time::Instant::now().into_std();
        let with_members = stored.into_iter().filter(|(_, record)| record.has_members());
        for (id, record) in with_members.take(coordinator.config.groups_max) {
            if record.consumer.is_some() {
                coordinator.restore_consumer_group(&id, record, now);
                continue;
            }
            info!(group = id, generation = record.generation, members = record.members.len(), "group taken up");
            let cell = Arc::new(Cell::new(&id, Group::restore(coordinator.rules(), record, now)));
            coordinator.cells().insert(id, Arc::clone(&cell));
            coordinator.do_chores(&cell, cell.tick());
        }
        tokio::spawn(watch_clock(Arc::downgrade(&coordinator), Arc::clone(&coordinator.timers)));
        tokio::spawn(expire_offsets(Arc::downgrade(&coordinator)));
        Ok(coordinator)
    }

    pub(crate) fn has_members(&self, group: &str) -> bool {
        let consumer = self.consumer(group).and_then(|cell| cell.look(|group| !group.is_empty()));
        let cell = self.cells().get(group).cloned();
        consumer == Some(true) || cell.and_then(|cell| cell.look(|group| !group.is_empty())).unwrap_or(false)
    }

    /// Feeds an event to a group that may not exist yet, and waits for its answer.
    async fn ask(&self, group: &str, event: impl FnOnce(Ticket) -> Event) -> Result<Answer, ResponseError> {
        let mut event = Some(event);
        loop {
            let cell = self.cell(group)?;
            let fed = cell.ask(|ticket| event.take().map_or(Event::Tick, |event| event(ticket)));
            // Retired between the look-up and the question: the event is still ours.
            let Some((answer, chores)) = fed else { continue };
            self.do_chores(&cell, chores);
            return answer.await.map_err(|_| ResponseError::CoordinatorNotAvailable);
        }
    }

    /// As [`ask`](Self::ask), for events that are answered at once; `None` if nobody is in the group.
    fn ask_now(&self, group: &str, event: impl FnOnce(Ticket) -> Event) -> Option<Result<(), ResponseError>> {
        let cell = self.cells().get(group).cloned()?;
        let (mut answer, chores) = cell.ask(event)?;
        self.do_chores(&cell, chores);
        match answer.try_recv() {
            Ok(Answer::Done(verdict)) => Some(verdict),
            Ok(Answer::Joined(_) | Answer::Synced(_)) | Err(_) => Some(Err(ResponseError::UnknownServerError)),
        }
    }

    /// Whether `identity` may commit offsets of `group` now; `is_modern` from OffsetCommit version 9 on.
    fn may_commit(&self, group: &str, identity: Identity, is_modern: bool) -> Result<(), ResponseError> {
        if let Some(verdict) = self.may_commit_to_consumer_group(group, &identity, is_modern) {
            return verdict;
        }
        let is_outsider = identity.generation < 0 && identity.member_id.is_empty() && identity.instance_id.is_none();
        match self.ask_now(group, |ticket| Event::Commit(ticket, identity)) {
            Some(verdict) => verdict,
            None if is_outsider => Ok(()),
            None => Err(ResponseError::UnknownMemberId),
        }
    }

    /// Makes `changes` durable.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` when they could not be written.
    async fn write(&self, changes: Vec<GroupChange>) -> Result<(), ResponseError> {
        if changes.is_empty() { Ok(()) } else { self.writer.write(changes).await }
    }

    /// Makes those of `changes` durable whose group has no members when their turn comes; gives the groups that have.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` when they could not be written.
    pub(crate) async fn write_for_outsider(
        &self,
        mut changes: Vec<GroupChange>,
    ) -> Result<BTreeSet<String>, ResponseError> {
        let (tell, told) = oneshot::channel();
        let of_groups_without_members = move |groups: &Self| {
            let all: BTreeSet<_> = changes.iter().map(|change| change.group().to_owned()).collect();
            let busy: BTreeSet<_> = all.into_iter().filter(|group| groups.has_members(group)).collect();
            changes.retain(|change| !busy.contains(change.group()));
            // Whoever asked may have hung up.
            let _ = tell.send(busy);
            Ok(changes)
        };
        self.writer.write_decided(of_groups_without_members).await?;
        told.await.map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    /// Deletes a group without members, offsets and all.
    async fn delete(&self, group: &str) -> Result<(), ResponseError> {
        let is_in_memory = self.cells().contains_key(group) || self.consumer(group).is_some();
        let (state, id) = (self.state.clone(), group.to_owned());
        let is_stored = move || Ok(state.group(&id)?.is_some() || !state.offsets(&id)?.is_empty());
        if !is_in_memory && !on_blocking_thread(is_stored).await? {
            return Err(ResponseError::GroupIdNotFound);
        }
        let group = group.to_owned();
        let delete = move |groups: &Self| {
            groups.retire(&group)?;
            Ok(vec![GroupChange::DeleteGroup { group }])
        };
        self.writer.write_decided(delete).await
    }

    /// Takes a group out of memory.
    ///
    /// # Errors
    /// `NonEmptyGroup`.
    fn retire(&self, group: &str) -> Result<(), ResponseError> {
        if let Some(consumer) = self.consumer(group) {
            if !consumer.retire_if_empty() {
                return Err(ResponseError::NonEmptyGroup);
            }
            self.forget_consumer_group(&consumer);
        }
        let cell = self.cells().get(group).cloned();
        if let Some(cell) = cell {
            if !cell.retire_if_empty() {
                return Err(ResponseError::NonEmptyGroup);
            }
            self.forget(&cell);
        }
        Ok(())
    }

    /// The group as DescribeGroups shows it; `None` if there is no trace of it, or it is of the consumer protocol.
    async fn describe(&self, group: &str) -> Result<Option<Described>, ResponseError> {
        let cell = self.cells().get(group).cloned();
        let live = cell.and_then(|cell| {
            cell.look(|group| Described {
                state: group.state_name(),
                protocol_type: group.protocol_type().to_owned(),
                protocol: group.protocol().unwrap_or_default().to_owned(),
                members: group.members().collect(),
            })
        });
        if live.is_some() {
            return Ok(live);
        }
        if self.consumer(group).is_some() {
            return Ok(None);
        }
        let (state, id) = (self.state.clone(), group.to_owned());
        let (record, has_offsets) =
            on_blocking_thread(move || Ok((state.group(&id)?, !state.offsets(&id)?.is_empty()))).await?;
        let protocol_type = match record {
            Some(GroupRecord { consumer: Some(_), .. }) => return Ok(None),
            Some(GroupRecord { protocol_type, .. }) => protocol_type,
            None if has_offsets => String::new(),
            None => return Ok(None),
        };
        Ok(Some(Described { state: "Empty", protocol_type, protocol: String::new(), members: Vec::new() }))
    }

    /// Every group, by id.
    async fn list(&self) -> Result<BTreeMap<String, Listed>, ResponseError> {
        let cells: Vec<Arc<Cell>> = self.cells().values().cloned().collect();
        let consumers: Vec<Arc<consumer::Cell>> = self.consumers().values().cloned().collect();
        let state = self.state.clone();
        let (stored, with_offsets) =
            on_blocking_thread(move || Ok((state.groups()?, state.groups_with_offsets()?))).await?;
        let classic = |state, protocol_type| Listed { state, protocol_type, group_type: "classic" };
        let consumer = |state| Listed { state, protocol_type: "consumer".to_owned(), group_type: "consumer" };
        let mut all: BTreeMap<String, Listed> =
            with_offsets.into_iter().map(|id| (id, classic("Empty", String::new()))).collect();
        all.extend(stored.into_iter().map(|(id, record)| {
            let is_consumer = record.consumer.is_some();
            (id, if is_consumer { consumer("Empty") } else { classic("Empty", record.protocol_type) })
        }));
        all.extend(cells.iter().filter_map(|cell| {
            let listed = cell.look(|group| classic(group.state_name(), group.protocol_type().to_owned()))?;
            Some((cell.id().to_owned(), listed))
        }));
        all.extend(
            consumers
                .iter()
                .filter_map(|cell| Some((cell.id().to_owned(), cell.look(|group| consumer(group.state_name()))?))),
        );
        Ok(all)
    }

    /// Has the offsets of those of `expiring` that have no members expire, if they were committed at `until_ms` or before.
    /// What goes wrong is tried again at the next check.
    async fn expire(&self, expiring: Vec<String>, until_ms: i64) {
        let expire = move |groups: &Self| {
            let free = expiring.into_iter().filter(|group| !groups.has_members(group));
            Ok(free.map(|group| GroupChange::ExpireOffsets { group, until_ms }).collect())
        };
        let _ = self.writer.write_decided(expire).await;
    }

    /// Called by the writer.
    fn stored(&self, cell: &Arc<Cell>, generation: i32, is_ok: bool) {
        self.do_chores(cell, cell.stored(generation, is_ok));
    }

    /// The cell of `group`, taken from the disk or made new if need be.
    fn cell(&self, group: &str) -> Result<Arc<Cell>, ResponseError> {
        if let Some(cell) = self.cells().get(group) {
            return Ok(Arc::clone(cell));
        }
        let mut consumers = self.consumers();
        Self::yield_to_classic(&mut consumers, group)?;
        let record = self.state.group(group).map_err(|error| {
            warn!(%error, group, "group not read");
            ResponseError::CoordinatorNotAvailable
        })?;
        // Only the generation counts: a stored group with members was taken up at start, and they are gone since.
        let record = record.map(|record| GroupRecord { members: Vec::new(), consumer: None, ..record });
        let now = tokio::time::Instant::now().into_std();
        let made = record.map_or_else(|| Group::new(self.rules()), |record| Group::restore(self.rules(), record, now));
        let mut cells = self.cells();
        if cells.len() + consumers.len() >= self.config.groups_max && !cells.contains_key(group) {
            warn!(group, groups_max = self.config.groups_max, "no further group with members");
            return Err(ResponseError::GroupMaxSizeReached);
        }
        let cell = cells.entry(group.to_owned()).or_insert_with(|| Arc::new(Cell::new(group, made)));
        let cell = Arc::clone(cell);
        metrics::gauge!("hawser_groups").set(cells.len() as f64);
        Ok(cell)
    }

    fn do_chores(&self, cell: &Arc<Cell>, chores: Chores) {
        if chores.store {
            self.writer.store(Arc::clone(cell));
        }
        if let Some(at) = chores.schedule {
            self.timers.add(at, cell.id());
        }
        if chores.retire {
            self.forget(cell);
        }
    }

    fn forget(&self, cell: &Arc<Cell>) {
        let mut cells = self.cells();
        if cells.get(cell.id()).is_some_and(|held| Arc::ptr_eq(held, cell)) {
            cells.remove(cell.id());
        }
        metrics::gauge!("hawser_groups").set(cells.len() as f64);
    }

    fn rules(&self) -> Rules {
        Rules { initial_delay: self.config.group_initial_rebalance_delay, size_max: self.config.group_max_size }
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<String, Arc<Cell>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Coordinator {
    /// Wakes the clock, which then finds that nobody needs it.
    fn drop(&mut self) {
        self.timers.earlier.notify_one();
    }
}

impl Timers {
    fn add(&self, at: Instant, group: &str) {
        let mut due = self.lock();
        let is_first = due.first().is_none_or(|(first, _)| at < *first);
        due.insert((at, group.to_owned()));
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Groups whose time has come, and when the next one is due.
    fn take_due(&self, now: Instant) -> (Vec<String>, Option<Instant>) {
        let mut due = self.lock();
        let mut groups = Vec::new();
        while due.first().is_some_and(|(at, _)| *at <= now) {
            groups.extend(due.pop_first().map(|(_, group)| group));
        }
        (groups, due.first().map(|(at, _)| *at))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Instant, String)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one clock of all groups; asleep while nothing is due. Ends with the coordinator, at the next tick.
async fn watch_clock(coordinator: Weak<Coordinator>, timers: Arc<Timers>) {
    loop {
        let (due, next) = timers.take_due(tokio::time::Instant::now().into_std());
        {
            let Some(coordinator) = coordinator.upgrade() else { return };
            for group in due {
                coordinator.tick_consumer_group(&group);
                let cell = coordinator.cells().get(&group).cloned();
                if let Some(cell) = cell {
                    coordinator.do_chores(&cell, cell.tick());
                }
            }
        }
        match next {
            Some(next) => tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = timers.earlier.notified() => {}
            },
            None => timers.earlier.notified().await,
        }
    }
}

/// Offsets of a group without members go once both they and its emptiness are older than `offsets.retention.minutes`.
async fn expire_offsets(coordinator: Weak<Coordinator>) {
    let mut interval = tokio::time::interval(RETENTION_CHECK);
    loop {
        interval.tick().await;
        let Some(coordinator) = coordinator.upgrade() else { return };
        let retention_ms = i64::try_from(coordinator.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = wall_ms().saturating_sub(retention_ms);
        let (state, holder) = (coordinator.state.clone(), Arc::clone(&coordinator));
        let expiring = on_blocking_thread(move || expiring(&state, &holder, oldest_ms)).await;
        if let Ok(groups) = expiring
            && !groups.is_empty()
        {
            info!(groups = groups.len(), "committed offsets expire");
            coordinator.expire(groups, oldest_ms).await;
        }
    }
}

/// Groups of which offsets may expire.
fn expiring(state: &State, groups: &Coordinator, oldest_ms: i64) -> Result<Vec<String>, hawser_state::Error> {
    let mut expiring = Vec::new();
    for group in state.groups_with_offsets()? {
        let empty_since_ms = state.group(&group)?.map_or(0, |record| record.state_since_ms);
        if groups.has_members(&group) || empty_since_ms > oldest_ms {
            continue;
        }
        if state.offsets(&group)?.iter().any(|(_, _, committed)| committed.commit_timestamp_ms <= oldest_ms) {
            expiring.push(group);
        }
    }
    Ok(expiring)
}

async fn on_blocking_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, hawser_state::Error> + Send + 'static,
) -> Result<T, ResponseError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            warn!(%error, "groups not read");
            Err(ResponseError::CoordinatorNotAvailable)
        }
        Err(_) => Err(ResponseError::UnknownServerError),
    }
}

#[cfg(test)]
mod tests;
