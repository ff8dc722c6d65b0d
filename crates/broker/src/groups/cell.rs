//! A group's machine with the requests that wait for it: the machine names tickets, the cell knows who holds them.

use super::machine::{Actions, Answer, Event, Group, Ticket};
use hawser_state::GroupRecord;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

pub(super) struct Cell {
    id: String,
    inner: Mutex<Inner>,
}

struct Inner {
    group: Group,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    /// Stores that were asked for and not yet reported.
    storing: usize,
    /// Out of the map: whoever still holds it looks again.
    is_retired: bool,
    /// The earliest time at which the clock will look at it.
    scheduled: Option<Instant>,
}

/// What the coordinator is to do after an event.
#[derive(Default)]
pub(super) struct Chores {
    /// Have the group stored.
    pub(super) store: bool,
    /// Look at it again then.
    pub(super) schedule: Option<Instant>,
    /// It is empty, stored and out of use now: take it out of the map.
    pub(super) retire: bool,
}

impl Cell {
    pub(super) fn new(id: &str, group: Group) -> Self {
        let inner =
            Inner { group, waiting: HashMap::new(), next_ticket: 0, storing: 0, is_retired: false, scheduled: None };
        Self { id: id.to_owned(), inner: Mutex::new(inner) }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Feeds an event that is answered; `None` when the cell is out of use.
    pub(super) fn ask(&self, event: impl FnOnce(Ticket) -> Event) -> Option<(oneshot::Receiver<Answer>, Chores)> {
        let mut inner = self.lock();
        if inner.is_retired {
            return None;
        }
        let ticket = Ticket(inner.next_ticket);
        inner.next_ticket += 1;
        let (answer, receiver) = oneshot::channel();
        inner.waiting.insert(ticket, answer);
        let chores = inner.feed(event(ticket));
        Some((receiver, chores))
    }

    pub(super) fn tick(&self) -> Chores {
        let mut inner = self.lock();
        inner.scheduled = None;
        if inner.is_retired { Chores::default() } else { inner.feed(Event::Tick) }
    }

    pub(super) fn stored(&self, generation: i32, is_ok: bool) -> Chores {
        let mut inner = self.lock();
        inner.storing = inner.storing.saturating_sub(1);
        if inner.is_retired { Chores::default() } else { inner.feed(Event::Stored { generation, is_ok }) }
    }

    /// What is to be stored now, if anything.
    pub(super) fn record(&self) -> Option<GroupRecord> {
        let inner = self.lock();
        if inner.is_retired { None } else { inner.group.record() }
    }

    /// Takes it out of use if nobody is in it; whether it is out of use now.
    pub(super) fn retire_if_empty(&self) -> bool {
        let mut inner = self.lock();
        inner.is_retired |= inner.group.is_empty();
        inner.is_retired
    }

    /// Looks at the group; `None` when the cell is out of use.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Group) -> T) -> Option<T> {
        let inner = self.lock();
        (!inner.is_retired).then(|| look(&inner.group))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn feed(&mut self, event: Event) -> Chores {
        let now = tokio::time::Instant::now().into_std();
        let Actions { answers, store } = self.group.on(event, now, wall_ms());
        for (ticket, answer) in answers {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // The peer may have hung up; the machine goes by its sessions.
                let _ = waiting.send(answer);
            }
        }
        self.storing += usize::from(store);
        if self.storing == 0 && self.group.is_deserted() {
            self.is_retired = true;
            return Chores { retire: true, ..Chores::default() };
        }
        let deadline = self.group.deadline().filter(|deadline| self.scheduled.is_none_or(|s| *deadline < s));
        self.scheduled = deadline.or(self.scheduled);
        Chores { store, schedule: deadline, retire: false }
    }
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
