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

use super::member::{Member, Members};
use bytes::Bytes;
use hawser_state::{GroupMemberRecord, GroupRecord};
use hawser_wire::ResponseError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A new member that hangs up while it waits to join is noticed after this (`NEW_MEMBER_JOIN_TIMEOUT_MS`).
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Most bytes of subscriptions and assignments that a group holds.
const GROUP_BYTES_MAX: usize = 32 << 20;

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

    // ---- joining ----

    fn join(&mut self, ticket: Ticket, join: Join, now: Instant, actions: &mut Actions) {
        if let Err(error) = self.admit(&join) {
            return actions.refuse_join(ticket, join.member_id, error);
        }
        if join.member_id.is_empty() {
            return self.join_anew(ticket, join, now, actions);
        }
        if self.promised.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            return self.add(ticket, id, join, now, actions);
        }
        match self.members.check(&join.member_id, join.instance_id.as_deref()) {
            Ok(()) => self.rejoin(ticket, join, now, actions),
            Err(error) => actions.refuse_join(ticket, join.member_id, error),
        }
    }

    /// Whether it may join at all.
    fn admit(&self, join: &Join) -> Result<(), ResponseError> {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let is_known = self.members.contains(&join.member_id) || self.promised.contains_key(&join.member_id);
        let is_replacement = join.instance_id.as_deref().is_some_and(|id| self.members.with_instance(id).is_some());
        let size = self.members.len() + self.promised.len();
        let bytes = self.members.bytes().saturating_add(join.protocols.iter().map(|(_, bytes)| bytes.len()).sum());
        if (!is_known && !is_replacement && size >= self.rules.size_max) || bytes > GROUP_BYTES_MAX {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let is_same_type = self.protocol_type.as_deref() == Some(join.protocol_type.as_str());
        let is_common = join.protocols.iter().any(|(name, _)| self.members.all_support(name));
        if is_same_type && is_common { Ok(()) } else { Err(ResponseError::InconsistentGroupProtocol) }
    }

    fn join_anew(&mut self, ticket: Ticket, join: Join, now: Instant, actions: &mut Actions) {
        let fresh_id = join.fresh_id.clone();
        let replaced = join.instance_id.as_deref().and_then(|id| self.members.with_instance(id)).map(str::to_owned);
        match replaced {
            Some(old_id) => self.replace(ticket, &old_id, join, now, actions),
            None if join.instance_id.is_none() && join.requires_known_member => {
                self.promised.insert(fresh_id.clone(), now + join.session_timeout);
                actions.refuse_join(ticket, fresh_id, ResponseError::MemberIdRequired);
            }
            None => self.add(ticket, fresh_id, join, now, actions),
        }
    }

    fn add(&mut self, ticket: Ticket, id: String, join: Join, now: Instant, actions: &mut Actions) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        let mut member = Member::new(id, join, now + NEW_MEMBER_JOIN_TIMEOUT);
        member.joining = Some(ticket);
        self.leader.get_or_insert_with(|| member.id.clone());
        self.members.insert(member);
        if let Phase::Preparing { first: Some(first), .. } = &mut self.phase {
            first.has_newcomer = true;
        }
        self.rebalance(now, actions);
    }

    /// A static member that comes back with a new id takes over its predecessor's place (KIP-345).
    fn replace(&mut self, ticket: Ticket, old_id: &str, join: Join, now: Instant, actions: &mut Actions) {
        let former_leader = self.leader.clone().unwrap_or_default();
        let (id, can_skip) = (join.fresh_id.clone(), join.can_skip_assignment);
        let Some(old) = self.members.remove(old_id) else { return };
        actions.dismiss(&old, ResponseError::FencedInstanceId);
        let session_timeout = join.session_timeout;
        let mut member = Member::new(id.clone(), join, now + session_timeout);
        member.is_new = false;
        member.assignment = old.assignment;
        member.has_synced = old.has_synced;
        self.members.insert(member);
        if former_leader == old_id {
            self.leader = Some(id.clone());
        }
        let keeps_protocol = self.members.select_protocol() == self.protocol;
        match self.phase {
            Phase::Stable if keeps_protocol => {
                // Nothing changes for the others: no rebalance.
                let is_leader = self.leader.as_deref() == Some(id.as_str());
                let mut joined = self.joined(&id, is_leader && can_skip);
                joined.skip_assignment = is_leader && can_skip;
                if !can_skip {
                    // An older client must not think that it leads, or it would assign anew.
                    joined.leader = former_leader;
                }
                actions.answers.push((ticket, Answer::Joined(joined)));
                actions.store = true;
            }
            Phase::Empty | Phase::Preparing { .. } | Phase::Completing { .. } | Phase::Stable => {
                self.await_join(&id, ticket, actions);
                self.rebalance(now, actions);
            }
        }
    }

    fn rejoin(&mut self, ticket: Ticket, join: Join, now: Instant, actions: &mut Actions) {
        let id = join.member_id.clone();
        let is_leader = self.leader.as_deref() == Some(id.as_str());
        let is_unchanged = self.members.get(&id).is_some_and(|member| member.protocols == join.protocols);
        match self.phase {
            // Its join answer was lost: say it again.
            Phase::Completing { .. } if is_unchanged => {
                actions.answers.push((ticket, Answer::Joined(self.joined(&id, is_leader))));
            }
            Phase::Stable if is_unchanged && !is_leader => {
                actions.answers.push((ticket, Answer::Joined(self.joined(&id, false))));
            }
            Phase::Preparing { .. } | Phase::Completing { .. } | Phase::Stable => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.update(join);
                }
                self.await_join(&id, ticket, actions);
                self.rebalance(now, actions);
            }
            Phase::Empty => actions.refuse_join(ticket, id, ResponseError::UnknownMemberId),
        }
    }

    fn await_join(&mut self, id: &str, ticket: Ticket, actions: &mut Actions) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(stale) = member.joining.replace(ticket) {
            actions.refuse_join(stale, id.to_owned(), ResponseError::RebalanceInProgress);
        }
    }

    // ---- the rounds ----

    /// Begins a round if none is under way, and ends it if everybody is there.
    fn rebalance(&mut self, now: Instant, actions: &mut Actions) {
        let was_empty = match self.phase {
            Phase::Preparing { .. } => return self.complete_if_all_joined(now, actions),
            Phase::Completing { .. } => {
                self.members.answer_syncs(actions, |_| Err(ResponseError::RebalanceInProgress));
                self.members.iter_mut().for_each(|member| member.assignment = Bytes::new());
                false
            }
            Phase::Stable => {
                self.members.answer_syncs(actions, |_| Err(ResponseError::RebalanceInProgress));
                false
            }
            Phase::Empty => true,
        };
        self.sync_deadline = None;
        let (delay, timeout) = (self.rules.initial_delay, self.members.rebalance_timeout());
        self.phase = if was_empty && !delay.is_zero() {
            let first = FirstRound { time_left: timeout.saturating_sub(delay), has_newcomer: false };
            Phase::Preparing { deadline: now + delay, first: Some(first) }
        } else {
            Phase::Preparing { deadline: now + timeout, first: None }
        };
        self.complete_if_all_joined(now, actions);
    }

    fn complete_if_all_joined(&mut self, now: Instant, actions: &mut Actions) {
        let Phase::Preparing { first: None, .. } = self.phase else { return };
        if self.promised.is_empty() && self.members.iter().all(|member| member.joining.is_some()) {
            self.complete(now, actions);
        }
    }

    /// Ends the round: who has not joined is out, unless it is static; the rest is the next generation.
    fn complete(&mut self, now: Instant, actions: &mut Actions) {
        for gone in self.members.take_if(|member| member.joining.is_none() && member.instance_id.is_none()) {
            actions.dismiss(&gone, ResponseError::UnknownMemberId);
        }
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.generation = self.generation.saturating_add(1);
            (self.protocol, self.leader) = (None, None);
            actions.store = true;
            return;
        }
        let has_joined = |id: &str| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_deref().is_some_and(has_joined) {
            let Some(leader) = self.members.iter().find(|member| member.joining.is_some()) else {
                // Only static members, none of them back: wait for another round.
                self.phase = Phase::Preparing { deadline: now + self.members.rebalance_timeout(), first: None };
                return;
            };
            self.leader = Some(leader.id.clone());
        }
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.members.select_protocol();
        self.phase = Phase::Completing { is_storing: false };
        self.sync_deadline = Some(now + self.members.rebalance_timeout());
        let ids: Vec<String> = self.members.iter().map(|member| member.id.clone()).collect();
        for id in ids {
            let joined = self.joined(&id, self.leader.as_deref() == Some(id.as_str()));
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.begin_generation(now);
            if let Some(ticket) = member.joining.take() {
                actions.answers.push((ticket, Answer::Joined(joined)));
            }
        }
    }

    fn joined(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.as_deref();
        let describe = |member: &Member| (member.id.clone(), member.instance_id.clone(), member.subscription(protocol));
        let members = if with_members { self.members.iter().map(describe).collect() } else { Vec::new() };
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members,
        }
    }

    // ---- synchronising ----

    fn sync(&mut self, ticket: Ticket, sync: Sync, now: Instant, actions: &mut Actions) {
        if let Err(error) = self.check_sync(&sync) {
            return actions.answers.push((ticket, Answer::Synced(Err(error))));
        }
        let id = sync.identity.member_id;
        let assigned: usize = sync.assignments.iter().map(|(_, bytes)| bytes.len()).sum();
        let is_leader = self.leader.as_deref() == Some(id.as_str());
        let Some(member) = self.members.get_mut(&id) else { return };
        member.has_synced = true;
        member.session_deadline = now + member.session_timeout;
        if self.phase == Phase::Stable {
            let synced = self.synced(&id);
            actions.answers.push((ticket, Answer::Synced(synced)));
            return self.end_syncing();
        }
        if let Some(stale) = member.syncing.replace(ticket) {
            actions.answers.push((stale, Answer::Synced(Err(ResponseError::RebalanceInProgress))));
        }
        if is_leader && self.phase == (Phase::Completing { is_storing: false }) {
            if self.members.bytes().saturating_add(assigned) > GROUP_BYTES_MAX {
                return self.members.answer_syncs(actions, |_| Err(ResponseError::GroupMaxSizeReached));
            }
            self.members.iter_mut().for_each(|member| member.assignment = Bytes::new());
            for (id, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&id) {
                    member.assignment = assignment;
                }
            }
            self.phase = Phase::Completing { is_storing: true };
            actions.store = true;
        }
        self.end_syncing();
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        self.check(&sync.identity)?;
        let differs = |theirs: &Option<String>, ours: &Option<String>| theirs.is_some() && theirs != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable => Ok(()),
        }
    }

    fn synced(&self, id: &str) -> Result<Synced, ResponseError> {
        Ok(Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        })
    }

    fn end_syncing(&mut self) {
        if self.members.iter().all(|member| member.has_synced) {
            self.sync_deadline = None;
        }
    }

    fn stored(&mut self, generation: i32, is_ok: bool, now: Instant, actions: &mut Actions) {
        if self.phase != (Phase::Completing { is_storing: true }) || generation != self.generation {
            return;
        }
        if !is_ok {
            self.members.answer_syncs(actions, |_| Err(ResponseError::CoordinatorNotAvailable));
            return self.rebalance(now, actions);
        }
        self.phase = Phase::Stable;
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        self.members.iter_mut().for_each(|member| {
            if member.syncing.is_some() {
                member.session_deadline = now + member.session_timeout;
            }
        });
        self.members.answer_syncs(actions, |member| {
            let assignment = member.assignment.clone();
            Ok(Synced { protocol_type: protocol_type.clone(), protocol: protocol.clone(), assignment })
        });
    }

    // ---- staying and leaving ----

    fn check(&self, identity: &Identity) -> Result<(), ResponseError> {
        self.members.check(&identity.member_id, identity.instance_id.as_deref())?;
        if identity.generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    fn heartbeat(&mut self, identity: &Identity, now: Instant) -> Result<(), ResponseError> {
        self.check(identity)?;
        if let Some(member) = self.members.get_mut(&identity.member_id) {
            member.session_deadline = now + member.session_timeout;
        }
        match self.phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable => Ok(()),
        }
    }

    /// `ClassicGroup.validateOffsetCommit`.
    fn commit(&mut self, identity: &Identity, now: Instant) -> Result<(), ResponseError> {
        if identity.generation < 0 && identity.member_id.is_empty() && identity.instance_id.is_none() {
            // Somebody outside the group: a tool, or a consumer that assigns partitions to itself.
            return if self.is_empty() { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.check(identity)?;
        if let Phase::Completing { .. } = self.phase {
            return Err(ResponseError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(&identity.member_id) {
            member.session_deadline = now + member.session_timeout;
        }
        Ok(())
    }

    fn leave(&mut self, identity: &Identity, now: Instant, actions: &mut Actions) -> Result<(), ResponseError> {
        let instance_id = identity.instance_id.as_deref();
        let id = match instance_id.map(|instance| self.members.with_instance(instance)) {
            None if self.promised.remove(&identity.member_id).is_some() => {
                self.complete_if_all_joined(now, actions);
                return Ok(());
            }
            None => identity.member_id.clone(),
            Some(None) => return Err(ResponseError::UnknownMemberId),
            // An administrator removes a static member by its instance id alone.
            Some(Some(id)) if identity.member_id.is_empty() || identity.member_id == id => id.to_owned(),
            Some(Some(_)) => return Err(ResponseError::FencedInstanceId),
        };
        if !self.members.contains(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.remove(&id, now, actions);
        Ok(())
    }

    fn remove(&mut self, id: &str, now: Instant, actions: &mut Actions) {
        let Some(member) = self.members.remove(id) else { return };
        actions.dismiss(&member, ResponseError::UnknownMemberId);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.iter().next().map(|member| member.id.clone());
        }
        self.rebalance(now, actions);
    }

    fn tick(&mut self, now: Instant, actions: &mut Actions) {
        let promised = self.promised.len();
        self.promised.retain(|_, lapses| *lapses > now);
        if self.promised.len() < promised {
            self.complete_if_all_joined(now, actions);
        }
        for member in self.members.iter_mut().filter(|member| member.session_deadline <= now && member.is_waiting()) {
            // Who waits for our answer cannot be expected to send anything.
            member.session_deadline = now + member.session_timeout;
        }
        let expired = self.members.iter().filter(|member| member.session_deadline <= now);
        for id in expired.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(&id, now, actions);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.sync_deadline = None;
            for late in self.members.take_if(|member| !member.has_synced) {
                actions.dismiss(&late, ResponseError::UnknownMemberId);
            }
            self.rebalance(now, actions);
        }
        self.tick_round(now, actions);
    }

    fn tick_round(&mut self, now: Instant, actions: &mut Actions) {
        match self.phase {
            Phase::Preparing { deadline, .. } if deadline > now => {}
            Phase::Preparing { first: Some(first), .. } if first.has_newcomer && !first.time_left.is_zero() => {
                let delay = self.rules.initial_delay.min(first.time_left);
                let first = FirstRound { time_left: first.time_left - delay, has_newcomer: false };
                self.phase = Phase::Preparing { deadline: now + delay, first: Some(first) };
            }
            Phase::Preparing { .. } => self.complete(now, actions),
            Phase::Empty | Phase::Completing { .. } | Phase::Stable => {}
        }
    }
}

impl Actions {
    fn done(&mut self, ticket: Ticket, verdict: Result<(), ResponseError>) {
        self.answers.push((ticket, Answer::Done(verdict)));
    }

    fn refuse_join(&mut self, ticket: Ticket, member_id: String, error: ResponseError) {
        let refused = Joined {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        };
        self.answers.push((ticket, Answer::Joined(refused)));
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
