//! Who may join, and as whom: new members, promised ids (KIP-394), static members that come back (KIP-345), members
//! that join again.

use super::{Actions, Answer, GROUP_BYTES_MAX, Group, Join, NEW_MEMBER_JOIN_TIMEOUT, PROTOCOLS_MAX, Phase, Ticket};
use crate::groups::member::{Member, protocol_bytes};
use hawser_wire::ResponseError;
use std::time::Instant;

impl Group {
    pub(super) fn join(&mut self, ticket: Ticket, join: Join, now: Instant, actions: &mut Actions) {
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
        if join.protocols.len() > PROTOCOLS_MAX {
            return Err(ResponseError::InvalidRequest);
        }
        let is_known = self.members.contains(&join.member_id) || self.promised.contains_key(&join.member_id);
        let is_replacement = join.instance_id.as_deref().is_some_and(|id| self.members.with_instance(id).is_some());
        let size = self.members.len() + self.promised.len();
        let bytes = self.members.bytes().saturating_add(protocol_bytes(&join.protocols));
        if (!is_known && !is_replacement && size >= self.rules.size_max) || bytes > GROUP_BYTES_MAX {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let is_same_type = self.protocol_type.as_deref() == Some(join.protocol_type.as_str());
        let common = self.members.common_protocols();
        let is_common = join.protocols.iter().any(|(name, _)| common.contains(name.as_str()));
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
}
