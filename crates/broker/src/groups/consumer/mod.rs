//! One group of the KIP-848 consumer protocol as a pure machine: no clock, no socket, no disk (`ConsumerGroup` and the
//! modern half of `GroupMetadataManager` in Kafka 4).
//!
//! Three epochs drive it. The *group epoch* rises with every change of members, subscriptions or topics. The *assignment
//! epoch* is the group epoch that the members' targets were computed for. A *member epoch* is the assignment epoch that
//! the member has reached; `reconcile` brings it there. Nothing waits: members learn everything from their heartbeats.
//!
//! What a heartbeat has changed must be on the disk before it is answered, so that epochs never fall.

mod assignors;
mod cell;
mod coordinator;
mod reconcile;
mod requests;

pub(super) use cell::{Cell, Chores};

use crate::ApiError;
use assignors::{Assignor, Subscriber};
use hawser_state::{ConsumerGroupRecord, ConsumerMemberRecord, GroupRecord, MemberState, Partitions, TopicShape};
use hawser_wire::ResponseError;
use reconcile::{each, is_subset, reconcile};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The member epochs that say goodbye: for good, and for a static member that will be back.
pub(super) const LEAVE: i32 = -1;
pub(super) const LEAVE_FOR_NOW: i32 = -2;
/// Most partitions that a group's targets may have: each is stored with every change of the group.
const PARTITIONS_MAX: usize = 200_000;

/// What a group is bounded and paced by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// `group.consumer.max.size`.
    pub(super) size_max: usize,
    /// `group.consumer.session.timeout.ms`.
    pub(super) session_timeout: Duration,
}

/// A ConsumerGroupHeartbeat; `None` is "as before".
#[derive(Clone, Debug, Default)]
pub(super) struct Heartbeat {
    pub(super) member_id: String,
    pub(super) epoch: i32,
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) rebalance_timeout: Option<Duration>,
    pub(super) names: Option<BTreeSet<String>>,
    /// Empty takes it back.
    pub(super) regex: Option<String>,
    /// The topics that the member's regex names now, if they were looked for.
    pub(super) resolved: Option<BTreeSet<String>>,
    pub(super) assignor: Option<String>,
    pub(super) owned: Option<Partitions>,
    pub(super) client_id: String,
    pub(super) client_host: String,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beaten {
    pub(super) member_id: String,
    pub(super) epoch: i32,
    /// What the member is to have from now on, if that is news.
    pub(super) assignment: Option<Partitions>,
}

/// The topics that exist, to whoever asks.
pub(super) struct Catalogue<'a> {
    /// Another number after every change of topics or rights.
    pub(super) version: u64,
    pub(super) topic: &'a (dyn Fn(&str) -> Option<TopicShape> + Sync),
}

pub(super) struct ConsumerGroup {
    rules: Rules,
    epoch: i32,
    assignment_epoch: i32,
    assignor: Assignor,
    members: BTreeMap<String, Member>,
    /// The subscribed topics that existed when the targets were computed.
    topics: BTreeMap<String, TopicShape>,
    state_since_ms: i64,
    /// Something is to be stored.
    is_changed: bool,
}

struct Member {
    /// All of it that outlives a restart.
    record: ConsumerMemberRecord,
    /// The [`Catalogue::version`] that its last heartbeat met.
    seen: Option<u64>,
    /// Without a heartbeat by then it is out.
    session_deadline: Instant,
    /// What it has to give up must be given up by then.
    rebalance_deadline: Option<Instant>,
}

impl ConsumerGroup {
    /// A group that nobody has joined yet; its epochs go on from those of a group of that name.
    pub(super) fn new(rules: Rules, epoch: i32) -> Self {
        Self {
            rules,
            epoch,
            assignment_epoch: epoch,
            assignor: Assignor::default(),
            members: BTreeMap::new(),
            topics: BTreeMap::new(),
            state_since_ms: 0,
            is_changed: false,
        }
    }

    /// Takes up a stored group: its members have a session time-out to show themselves.
    pub(super) fn restore(rules: Rules, record: GroupRecord, now: Instant) -> Self {
        let mut group = Self::new(rules, record.generation);
        group.state_since_ms = record.state_since_ms;
        let Some(consumer) = record.consumer else { return group };
        group.assignment_epoch = consumer.assignment_epoch;
        group.assignor = Assignor::named(&consumer.assignor).unwrap_or_default();
        group.topics = consumer.topics;
        for record in consumer.members {
            let rebalance_deadline = (record.state == MemberState::UnrevokedPartitions)
                .then(|| now + Duration::from_millis(record.rebalance_timeout_ms));
            let id = record.member_id.clone();
            let session_deadline = now + rules.session_timeout;
            group.members.insert(id, Member { record, seen: None, session_deadline, rebalance_deadline });
        }
        group
    }

    /// What is to be stored. The epoch doubles as the generation, so that it never falls when the group changes its type.
    pub(super) fn record(&self) -> GroupRecord {
        GroupRecord {
            protocol_type: "consumer".into(),
            generation: self.epoch,
            state_since_ms: self.state_since_ms,
            consumer: Some(ConsumerGroupRecord {
                assignment_epoch: self.assignment_epoch,
                assignor: self.assignor.as_str().into(),
                topics: self.topics.clone(),
                members: self.members().cloned().collect(),
            }),
            ..GroupRecord::default()
        }
    }

    /// Whether something changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Takes a heartbeat.
    pub(super) fn heartbeat(
        &mut self,
        mut beat: Heartbeat,
        catalogue: &Catalogue<'_>,
        now: Instant,
        wall_ms: i64,
    ) -> Result<Beaten, ApiError> {
        let before = self.state_name();
        let beaten = if beat.epoch < 0 { self.leave(&beat) } else { self.stay(&mut beat, catalogue, now) };
        if self.state_name() != before {
            self.state_since_ms = wall_ms;
        }
        beaten
    }

    fn stay(&mut self, beat: &mut Heartbeat, catalogue: &Catalogue<'_>, now: Instant) -> Result<Beaten, ApiError> {
        self.admit(beat)?;
        let is_new = !self.members.contains_key(&beat.member_id);
        let session_deadline = now + self.rules.session_timeout;
        let member = self.members.entry(beat.member_id.clone()).or_insert_with(|| Member {
            record: ConsumerMemberRecord { member_id: beat.member_id.clone(), ..ConsumerMemberRecord::default() },
            seen: None,
            session_deadline,
            rebalance_deadline: None,
        });
        member.session_deadline = session_deadline;
        let is_stale = member.seen.replace(catalogue.version) != Some(catalogue.version);
        let before = member.record.clone();
        update(&mut member.record, beat);
        let has_other_topics = member.record.names != before.names || member.record.resolved != before.resolved;
        self.is_changed |= is_new || member.record != before;
        if is_new || has_other_topics || is_stale {
            let found = self.existing_topics(catalogue);
            if is_new || has_other_topics || found != self.topics {
                self.topics = found;
                self.bump();
            }
        }
        self.assign()?;
        let record = self.reconcile(&beat.member_id, beat.owned.as_ref(), now);
        let is_full = beat.epoch == 0
            || (beat.rebalance_timeout.is_some()
                && (beat.names.is_some() || beat.regex.is_some())
                && beat.owned.is_some());
        let assignment = (is_full || record.assigned != before.assigned).then(|| record.assigned.clone());
        Ok(Beaten { member_id: record.member_id, epoch: record.epoch, assignment })
    }

    /// Whether this is a member, or may become one; a static member takes its predecessor's place here.
    fn admit(&mut self, beat: &Heartbeat) -> Result<(), ApiError> {
        let is_joining = beat.epoch == 0;
        let is_known = self.members.contains_key(&beat.member_id);
        let holder = beat.instance_id.as_deref().and_then(|instance| self.with_instance(instance));
        if is_joining && !is_known && holder.is_none() && self.members.len() >= self.rules.size_max {
            let message =
                format!("The consumer group has reached its maximum capacity of {} members.", self.rules.size_max);
            return Err(ApiError::new(ResponseError::GroupMaxSizeReached, message));
        }
        match (&beat.instance_id, holder.map(str::to_owned)) {
            (Some(instance), None) if !is_joining => Err(unknown_instance(instance)),
            (None, _) if !is_known && !is_joining => Err(unknown_member(&beat.member_id)),
            (Some(instance), Some(holder)) if is_joining && holder != beat.member_id => {
                self.replace(&holder, &beat.member_id, instance)
            }
            (Some(instance), Some(holder)) if holder != beat.member_id => {
                Err(fenced_instance(&beat.member_id, instance))
            }
            (None | Some(_), _) if is_joining => {
                self.begin_anew(&beat.member_id);
                Ok(())
            }
            (None | Some(_), _) => self.check_epoch(beat),
        }
    }

    /// Who joins has nothing any more, whatever was known of it; its own partitions are free for it again.
    fn begin_anew(&mut self, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let record = &mut member.record;
        (record.epoch, record.previous_epoch, record.state) = (0, 0, MemberState::Stable);
        (record.assigned, record.pending_revocation) = (Partitions::new(), Partitions::new());
        member.rebalance_deadline = None;
        self.is_changed = true;
    }

    /// A static member that said it would be back is back, under a new id.
    fn replace(&mut self, old: &str, new: &str, instance: &str) -> Result<(), ApiError> {
        if self.members.get(old).is_some_and(|member| member.record.epoch != LEAVE_FOR_NOW) {
            let message =
                format!("Static member {new} with instance id {instance} cannot join: {old} owns the instance id.");
            return Err(ApiError::new(ResponseError::UnreleasedInstanceId, message));
        }
        let Some(mut member) = self.members.remove(old) else { return Ok(()) };
        member.record.member_id = new.to_owned();
        self.members.insert(new.to_owned(), member);
        self.begin_anew(new);
        Ok(())
    }

    /// `throwIfConsumerGroupMemberEpochIsInvalid`. The previous epoch passes if the answer with the new one was lost.
    fn check_epoch(&self, beat: &Heartbeat) -> Result<(), ApiError> {
        let Some(Member { record, .. }) = self.members.get(&beat.member_id) else {
            return Err(unknown_member(&beat.member_id));
        };
        let is_repeated = beat.epoch == record.previous_epoch
            && beat.owned.as_ref().is_some_and(|owned| is_subset(&record.assigned, owned));
        if beat.epoch == record.epoch || (beat.epoch < record.epoch && is_repeated) {
            return Ok(());
        }
        let than = if beat.epoch > record.epoch { "greater" } else { "smaller" };
        let message = format!(
            "The consumer group member has a {than} member epoch ({}) than the one known by the group coordinator ({}). \
             The member must abandon all its partitions and rejoin.",
            beat.epoch, record.epoch
        );
        Err(ApiError::new(ResponseError::FencedMemberEpoch, message))
    }

    fn leave(&mut self, beat: &Heartbeat) -> Result<Beaten, ApiError> {
        let id = &beat.member_id;
        if let Some(instance) = &beat.instance_id {
            match self.with_instance(instance) {
                None => return Err(unknown_instance(instance)),
                Some(holder) if holder != id => return Err(fenced_instance(id, instance)),
                Some(_) => {}
            }
        }
        let Some(member) = self.members.get_mut(id) else { return Err(unknown_member(id)) };
        if beat.epoch == LEAVE_FOR_NOW && beat.instance_id.is_some() {
            member.record.epoch = LEAVE_FOR_NOW;
            member.record.pending_revocation = Partitions::new();
            member.rebalance_deadline = None;
            self.is_changed = true;
        } else {
            self.remove(&id.clone());
        }
        Ok(Beaten { member_id: id.clone(), epoch: beat.epoch, assignment: None })
    }

    /// Removes members whose time is up: silent ones, and those that did not give up what they had to.
    pub(super) fn tick(&mut self, now: Instant, wall_ms: i64) {
        let is_late = |member: &Member| {
            member.session_deadline <= now || member.rebalance_deadline.is_some_and(|deadline| deadline <= now)
        };
        let late: Vec<String> =
            self.members.iter().filter(|(_, member)| is_late(member)).map(|(id, _)| id.clone()).collect();
        let before = self.state_name();
        late.iter().for_each(|id| self.remove(id));
        if self.state_name() != before {
            self.state_since_ms = wall_ms;
        }
    }

    /// When to [`tick`](Self::tick) at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of = |member: &Member| {
            member.rebalance_deadline.map_or(member.session_deadline, |d| d.min(member.session_deadline))
        };
        self.members.values().map(of).min()
    }

    fn remove(&mut self, id: &str) {
        if self.members.remove(id).is_some() {
            self.bump();
        }
    }

    fn bump(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.is_changed = true;
    }

    fn existing_topics(&self, catalogue: &Catalogue<'_>) -> BTreeMap<String, TopicShape> {
        let names: BTreeSet<&String> = self.members().flat_map(ConsumerMemberRecord::topics).collect();
        names.into_iter().filter_map(|name| Some((name.clone(), (catalogue.topic)(name)?))).collect()
    }

    /// Computes the targets anew if the group has changed since.
    fn assign(&mut self) -> Result<(), ApiError> {
        if self.assignment_epoch == self.epoch {
            return Ok(());
        }
        let partitions: i64 = self.topics.values().map(|shape| i64::from(shape.partitions)).sum();
        if usize::try_from(partitions).is_ok_and(|partitions| partitions > PARTITIONS_MAX) {
            let message = format!("The group subscribes to more than {PARTITIONS_MAX} partitions.");
            return Err(ApiError::new(ResponseError::GroupMaxSizeReached, message));
        }
        self.assignor = self.preferred_assignor();
        let exists = |name: &&String| self.topics.contains_key(*name);
        let subscribers = self.members().map(|member| Subscriber {
            id: &member.member_id,
            instance_id: member.instance_id.as_deref(),
            topics: member.topics().filter(exists).map(String::as_str).collect(),
            target: &member.target,
        });
        let subscribers: Vec<Subscriber<'_>> = subscribers.collect();
        let targets = self.assignor.assign(&subscribers, &self.topics);
        for (member, target) in self.members.values_mut().zip(targets) {
            member.record.target = target;
        }
        self.assignment_epoch = self.epoch;
        self.is_changed = true;
        Ok(())
    }

    /// What most members ask for; the default if none asks.
    fn preferred_assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members().filter_map(|member| Assignor::named(member.assignor.as_deref()?)) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.values().max().copied();
        votes
            .into_iter()
            .find(|(_, count)| Some(*count) == most)
            .map_or_else(Assignor::default, |(assignor, _)| assignor)
    }

    fn reconcile(&mut self, id: &str, owned: Option<&Partitions>, now: Instant) -> ConsumerMemberRecord {
        let Some(record) = self.members.get(id).map(|member| &member.record) else {
            return ConsumerMemberRecord::default();
        };
        if record.state == MemberState::Stable && record.epoch == self.assignment_epoch {
            return record.clone();
        }
        let others = self.members().filter(|other| other.member_id != id);
        let held: HashSet<(Uuid, i32)> =
            others.flat_map(|other| each(&other.assigned).chain(each(&other.pending_revocation))).collect();
        let mut moved = record.clone();
        reconcile(&mut moved, self.assignment_epoch, owned, |topic, partition| held.contains(&(topic, partition)));
        let Some(member) = self.members.get_mut(id) else { return moved };
        if moved != member.record {
            let timeout = Duration::from_millis(moved.rebalance_timeout_ms);
            let is_revoking = moved.state == MemberState::UnrevokedPartitions;
            member.rebalance_deadline = is_revoking.then(|| now + timeout);
            member.record = moved.clone();
            self.is_changed = true;
        }
        moved
    }

    /// `ConsumerGroup.validateOffsetCommit`, `is_modern` from OffsetCommit version 9 on.
    pub(super) fn may_commit(&self, member_id: &str, epoch: i32, is_modern: bool) -> Result<(), ResponseError> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ResponseError::UnknownMemberId)?;
        if !is_modern {
            return Err(ResponseError::UnsupportedVersion);
        }
        if member.record.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    /// `ConsumerGroup.validateOffsetFetch`.
    pub(super) fn may_fetch(&self, member_id: &str, epoch: i32) -> Result<(), ResponseError> {
        let member = self.members.get(member_id).ok_or(ResponseError::UnknownMemberId)?;
        if member.record.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    /// The state's name in Kafka's tools.
    pub(super) fn state_name(&self) -> &'static str {
        let is_reconciled =
            |m: &ConsumerMemberRecord| m.state == MemberState::Stable && m.epoch == self.assignment_epoch;
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members().all(is_reconciled) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The regex of a member, if what it names has to be looked for again at `version`.
    pub(super) fn stale_regex(&self, member_id: &str, version: u64) -> Option<String> {
        let member = self.members.get(member_id)?;
        member.record.regex.clone().filter(|_| member.seen != Some(version))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &ConsumerMemberRecord> {
        self.members.values().map(|member| &member.record)
    }

    fn with_instance(&self, instance: &str) -> Option<&str> {
        let holder = self.members().find(|member| member.instance_id.as_deref() == Some(instance));
        holder.map(|member| member.member_id.as_str())
    }
}

/// Takes over what the heartbeat says anew.
fn update(record: &mut ConsumerMemberRecord, beat: &mut Heartbeat) {
    record.client_id.clone_from(&beat.client_id);
    record.client_host.clone_from(&beat.client_host);
    if let Some(instance_id) = beat.instance_id.take() {
        record.instance_id = Some(instance_id);
    }
    if let Some(rack_id) = beat.rack_id.take() {
        record.rack_id = Some(rack_id);
    }
    if let Some(timeout) = beat.rebalance_timeout {
        record.rebalance_timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    }
    if let Some(assignor) = beat.assignor.take() {
        record.assignor = Some(assignor);
    }
    if let Some(names) = &beat.names {
        record.names.clone_from(names);
    }
    if let Some(regex) = &beat.regex {
        record.regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
    }
    if record.regex.is_none() {
        record.resolved = BTreeSet::new();
    } else if let Some(resolved) = beat.resolved.take() {
        record.resolved = resolved;
    }
}

fn unknown_member(id: &str) -> ApiError {
    ApiError::new(ResponseError::UnknownMemberId, format!("Member {id} is not a member of the group."))
}

fn unknown_instance(instance: &str) -> ApiError {
    ApiError::new(ResponseError::UnknownMemberId, format!("Instance id {instance} is unknown."))
}

fn fenced_instance(id: &str, instance: &str) -> ApiError {
    let message = format!("Static member {id} with instance id {instance} was fenced by another member.");
    ApiError::new(ResponseError::FencedInstanceId, message)
}

#[cfg(test)]
mod tests;
