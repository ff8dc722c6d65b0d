//! Staying in a group and leaving it: heartbeats, commits, departures, and what the clock does.

use super::{Actions, FirstRound, Group, Identity, Phase};
use hawser_wire::ResponseError;
use std::time::Instant;

impl Group {
    pub(super) fn check(&self, identity: &Identity) -> Result<(), ResponseError> {
        self.members.check(&identity.member_id, identity.instance_id.as_deref())?;
        if identity.generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    pub(super) fn heartbeat(&mut self, identity: &Identity, now: Instant) -> Result<(), ResponseError> {
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
    pub(super) fn commit(&mut self, identity: &Identity, now: Instant) -> Result<(), ResponseError> {
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

    pub(super) fn leave(
        &mut self,
        identity: &Identity,
        now: Instant,
        actions: &mut Actions,
    ) -> Result<(), ResponseError> {
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

    pub(super) fn tick(&mut self, now: Instant, actions: &mut Actions) {
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
