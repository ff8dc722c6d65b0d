//! A rebalance from its beginning to the stored assignment: everybody joins, the leader assigns, everybody learns.

use super::{Actions, Answer, FirstRound, GROUP_BYTES_MAX, Group, Joined, Phase, Sync, Synced, Ticket};
use crate::groups::member::Member;
use bytes::Bytes;
use hawser_wire::ResponseError;
use std::time::Instant;

impl Group {
    /// Begins a round if none is under way, and ends it if everybody is there.
    pub(super) fn rebalance(&mut self, now: Instant, actions: &mut Actions) {
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

    pub(super) fn complete_if_all_joined(&mut self, now: Instant, actions: &mut Actions) {
        let Phase::Preparing { first: None, .. } = self.phase else { return };
        if self.promised.is_empty() && self.members.iter().all(|member| member.joining.is_some()) {
            self.complete(now, actions);
        }
    }

    /// Ends the round: who has not joined is out, unless it is static; the rest is the next generation.
    pub(super) fn complete(&mut self, now: Instant, actions: &mut Actions) {
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

    pub(super) fn joined(&self, id: &str, with_members: bool) -> Joined {
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

    pub(super) fn sync(&mut self, ticket: Ticket, sync: Sync, now: Instant, actions: &mut Actions) {
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

    pub(super) fn stored(&mut self, generation: i32, is_ok: bool, now: Instant, actions: &mut Actions) {
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
}
