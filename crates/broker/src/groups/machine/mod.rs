//! One classic consumer group as a pure machine: no clock, no socket, no disk (`ClassicGroup` and the classic half of
//! `GroupMetadataManager` in Kafka 4).
//!
//! ```text
//!             first join                  all joined, or time-out
//!    Empty ───────────────► Preparing ─────────────────────────────► Completing
//!      ▲                     ▲  ▲  │ nobody joined                      │  │ leader's assignment is stored
//!      │                     │  │  └──────────► Empty                   │  ▼
//!      │                     │  └── join, leave, expiry ────────────────┘ Stable
//!      │                     └───── join of the leader or with a new subscription, leave, expiry ──┘
//!      └ (via Preparing) last member gone
//! ```
//!
//! Joins and syncs wait: an event carries a [`Ticket`], and the answer to it comes with whatever event makes it due.
//! Every ticket is answered exactly once, except those of a group that is dropped.

mod joining;
mod rounds;
mod staying;

use super::member::{Member, Members};
use bytes::Bytes;
use hawser_state::{GroupMemberRecord, GroupRecord};
use hawser_wire::ResponseError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A new member that hangs up while it waits to join is noticed after this (`NEW_MEMBER_JOIN_TIMEOUT_MS`).
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Most bytes of protocols (names and subscriptions) and assignments that a group holds.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// Most protocols that a member may name; Kafka has no bound, and clients name a handful. All of a group's are gone through
/// under its lock.
const PROTOCOLS_MAX: usize = 64;

/// Names a request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What a group is bounded and paced by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// `group.initial.rebalance.delay.ms`.
    pub(crate) initial_delay: Duration,
    /// `group.max.size`.
    pub(crate) size_max: usize,
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Empty for a member that has none yet.
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    /// The id that the member gets if it needs one; made by the shell, as it is random.
    pub(crate) fresh_id: String,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    /// Name and subscription, in order of preference.
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// From version 4 on a dynamic member first learns its id and joins with it (KIP-394).
    pub(crate) requires_known_member: bool,
    /// From version 9 on a static leader can be told not to assign anew (KIP-814).
    pub(crate) can_skip_assignment: bool,
}

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) identity: Identity,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// Member id and assignment; from the leader only.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// Who a member says it is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
}

/// What happens to a group.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// JoinGroup; answered by [`Answer::Joined`].
    Join(Ticket, Box<Join>),
    /// SyncGroup; answered by [`Answer::Synced`].
    Sync(Ticket, Sync),
    /// Heartbeat; answered at once.
    Heartbeat(Ticket, Identity),
    /// One member of a LeaveGroup; answered at once.
    Leave(Ticket, Identity),
    /// May these offsets be committed? Answered at once; a yes counts as a heartbeat.
    Commit(Ticket, Identity),
    /// What was asked to be stored is stored, or could not be.
    Stored { generation: i32, is_ok: bool },
    /// Time has passed.
    Tick,
}

/// The answer to a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Joined(Joined),
    Synced(Result<Synced, ResponseError>),
    Done(Result<(), ResponseError>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) error: Option<ResponseError>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// Member id, instance id, subscription; for the leader only.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

/// What the shell is to do.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    pub(crate) answers: Vec<(Ticket, Answer)>,
    /// Store [`Group::record`], then say [`Event::Stored`].
    pub(crate) store: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Empty,
    /// Waits for members to join.
    Preparing {
        deadline: Instant,
        first: Option<FirstRound>,
    },
    /// Waits for the leader's assignment, then for it to be stored.
    Completing {
        is_storing: bool,
    },
    Stable,
}

/// The first rebalance of an empty group is held back while members arrive (`InitialDelayedJoin`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstRound {
    time_left: Duration,
    has_newcomer: bool,
}

pub(crate) struct Group {
    rules: Rules,
    phase: Phase,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: Members,
    /// Ids that were given out and not yet used, with the time at which they lapse.
    promised: BTreeMap<String, Instant>,
    /// Members that have not asked for their assignment by then are removed.
    sync_deadline: Option<Instant>,
    state_since_ms: i64,
}

impl Group {
    /// A group that nobody has joined yet.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            promised: BTreeMap::new(),
            sync_deadline: None,
            state_since_ms: 0,
        }
    }

    /// Takes up a stored generation: its members have a session time-out to show themselves.
    pub(crate) fn restore(rules: Rules, record: GroupRecord, now: Instant) -> Self {
        let mut group = Self::new(rules);
        group.generation = record.generation;
        group.protocol_type = Some(record.protocol_type).filter(|name| !name.is_empty());
        group.state_since_ms = record.state_since_ms;
        if !record.members.is_empty() {
            group.protocol = record.protocol;
            group.leader = record.leader;
            group.phase = Phase::Stable;
            record.members.into_iter().for_each(|member| group.members.insert(Member::restore(member, now)));
        }
        group
    }

    /// What is to be stored; `None` while a rebalance is under way.
    pub(crate) fn record(&self) -> Option<GroupRecord> {
        match self.phase {
            Phase::Preparing { .. } | Phase::Completing { is_storing: false } => None,
            Phase::Empty | Phase::Completing { is_storing: true } | Phase::Stable => Some(GroupRecord {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                state_since_ms: self.state_since_ms,
                members: self.members.iter().map(Member::record).collect(),
                consumer: None,
            }),
        }
    }

    /// Feeds one event. `wall_ms` (ms since 1970) only dates the change.
    pub(crate) fn on(&mut self, event: Event, now: Instant, wall_ms: i64) -> Actions {
        let before = self.state_name();
        let mut actions = Actions::default();
        match event {
            Event::Join(ticket, join) => self.join(ticket, *join, now, &mut actions),
            Event::Sync(ticket, sync) => self.sync(ticket, sync, now, &mut actions),
            Event::Heartbeat(ticket, identity) => {
                let verdict = self.heartbeat(&identity, now);
                actions.done(ticket, verdict);
            }
            Event::Leave(ticket, identity) => {
                let verdict = self.leave(&identity, now, &mut actions);
                actions.done(ticket, verdict);
            }
            Event::Commit(ticket, identity) => {
                let verdict = self.commit(&identity, now);
                actions.done(ticket, verdict);
            }
            Event::Stored { generation, is_ok } => self.stored(generation, is_ok, now, &mut actions),
            Event::Tick => self.tick(now, &mut actions),
        }
        if self.state_name() != before {
            self.state_since_ms = wall_ms;
        }
        actions
    }

    /// When to say [`Event::Tick`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Preparing { deadline, .. } => Some(deadline),
            Phase::Empty | Phase::Completing { .. } | Phase::Stable => None,
        };
        let sessions = self.members.iter().map(|member| member.session_deadline);
        sessions.chain(self.promised.values().copied()).chain(phase).chain(self.sync_deadline).min()
    }

    /// The state's name in Kafka's tools.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing { .. } => "PreparingRebalance",
            Phase::Completing { .. } => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// Whether nobody is in it, nor about to be.
    pub(crate) fn is_deserted(&self) -> bool {
        self.phase == Phase::Empty && self.promised.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.phase == Phase::Empty
    }

    pub(crate) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The members as stored, with the subscription of each that counts now.
    pub(crate) fn members(&self) -> impl Iterator<Item = (GroupMemberRecord, Bytes)> {
        self.members.iter().map(|member| (member.record(), member.subscription(self.protocol.as_deref())))
    }
}

impl Joined {
    /// What is answered to a join that is refused.
    pub(crate) fn refused(member_id: String, error: ResponseError) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

impl Actions {
    fn done(&mut self, ticket: Ticket, verdict: Result<(), ResponseError>) {
        self.answers.push((ticket, Answer::Done(verdict)));
    }

    fn refuse_join(&mut self, ticket: Ticket, member_id: String, error: ResponseError) {
        self.answers.push((ticket, Answer::Joined(Joined::refused(member_id, error))));
    }

    /// Answers what a member that is gone was waiting for.
    fn dismiss(&mut self, member: &Member, error: ResponseError) {
        if let Some(ticket) = member.joining {
            self.refuse_join(ticket, member.id.clone(), error);
        }
        if let Some(ticket) = member.syncing {
            self.answers.push((ticket, Answer::Synced(Err(error))));
        }
    }
}
