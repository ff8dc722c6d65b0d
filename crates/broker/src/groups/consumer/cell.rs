//! A group's machine behind its lock, with the count of what is durable of it.

use super::{Beaten, Catalogue, ConsumerGroup, Heartbeat};
use crate::ApiError;
use crate::groups::wall_ms;
use hawser_state::GroupRecord;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(in crate::groups) struct Cell {
    id: String,
    inner: Mutex<Inner>,
}

struct Inner {
    group: ConsumerGroup,
    /// Changes so far, and how many of them are durable.
    changes: u64,
    durable: u64,
    /// Out of the map: whoever still holds it looks again.
    is_retired: bool,
    /// The earliest time at which the clock will look at it.
    scheduled: Option<Instant>,
}

/// What the coordinator is to do after an event.
#[derive(Debug, Default)]
pub(in crate::groups) struct Chores {
    /// Have the group stored; nobody is answered before.
    pub(in crate::groups) store: bool,
    /// Look at it again then.
    pub(in crate::groups) schedule: Option<Instant>,
}

impl Cell {
    pub(in crate::groups) fn new(id: &str, group: ConsumerGroup) -> Self {
        let inner = Inner { group, changes: 0, durable: 0, is_retired: false, scheduled: None };
        Self { id: id.to_owned(), inner: Mutex::new(inner) }
    }

    pub(in crate::groups) fn id(&self) -> &str {
        &self.id
    }

    /// Feeds a heartbeat; `None` when the cell is out of use.
    pub(in crate::groups) fn heartbeat(
        &self,
        beat: Heartbeat,
        catalogue: &Catalogue<'_>,
    ) -> Option<(Result<Beaten, ApiError>, Chores)> {
        let mut inner = self.lock();
        if inner.is_retired {
            return None;
        }
        let now = tokio::time::Instant::now().into_std();
        let answer = inner.group.heartbeat(beat, catalogue, now, wall_ms());
        Some((answer, inner.chores()))
    }

    pub(in crate::groups) fn tick(&self) -> Chores {
        let mut inner = self.lock();
        inner.scheduled = None;
        if inner.is_retired {
            return Chores::default();
        }
        inner.group.tick(tokio::time::Instant::now().into_std(), wall_ms());
        inner.chores()
    }

    /// What is to be stored now, and the number of the last change in it.
    pub(in crate::groups) fn snapshot(&self) -> Option<(GroupRecord, u64)> {
        let inner = self.lock();
        (!inner.is_retired).then(|| (inner.group.record(), inner.changes))
    }

    /// The snapshot up to change `change` is durable. Whether the cell is out of use now, as nobody is in it.
    pub(in crate::groups) fn stored(&self, change: u64) -> bool {
        let mut inner = self.lock();
        inner.durable = inner.durable.max(change);
        inner.is_retired |= inner.group.is_empty() && inner.durable == inner.changes;
        inner.is_retired
    }

    /// Takes it out of use if nobody is in it; whether it is out of use now.
    pub(in crate::groups) fn retire_if_empty(&self) -> bool {
        let mut inner = self.lock();
        inner.is_retired |= inner.group.is_empty();
        inner.is_retired
    }

    /// Looks at the group; `None` when the cell is out of use.
    pub(in crate::groups) fn look<T>(&self, look: impl FnOnce(&ConsumerGroup) -> T) -> Option<T> {
        let inner = self.lock();
        (!inner.is_retired).then(|| look(&inner.group))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn chores(&mut self) -> Chores {
        self.changes += u64::from(self.group.take_changed());
        let deadline = self.group.deadline().filter(|deadline| self.scheduled.is_none_or(|s| *deadline < s));
        self.scheduled = deadline.or(self.scheduled);
        // Also for an answer that changed nothing: it may tell of a change that is still under way.
        Chores { store: self.changes > self.durable, schedule: deadline }
    }
}
