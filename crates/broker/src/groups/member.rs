//! The members of a group, and what can be said of them together.

use super::machine::{Actions, Answer, Join, Synced, Ticket};
use bytes::Bytes;
use hawser_state::GroupMemberRecord;
use hawser_wire::ResponseError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    client_id: String,
    client_host: String,
    pub(crate) session_timeout: Duration,
    rebalance_timeout: Duration,
    /// Name and subscription, in order of preference.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// It has not been in a generation yet.
    pub(crate) is_new: bool,
    /// Without a sign of life by then it is out.
    pub(crate) session_deadline: Instant,
    /// A JoinGroup that waits.
    pub(crate) joining: Option<Ticket>,
    /// A SyncGroup that waits.
    pub(crate) syncing: Option<Ticket>,
    /// It has asked for its assignment in this generation.
    pub(crate) has_synced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Members {
    by_id: BTreeMap<String, Member>,
    /// Instance id → member id.
    statics: BTreeMap<String, String>,
}

impl Member {
    pub(crate) fn new(id: String, join: Join, session_deadline: Instant) -> Self {
        Self {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            is_new: true,
            session_deadline,
            joining: None,
            syncing: None,
            has_synced: false,
        }
    }

    pub(crate) fn update(&mut self, join: Join) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.protocols = join.protocols;
    }

    pub(crate) fn begin_generation(&mut self, now: Instant) {
        self.is_new = false;
        self.has_synced = false;
        self.session_deadline = now + self.session_timeout;
    }

    /// Whether it is our turn. A new member may have hung up for good, so its wait ends one day
    /// (`ClassicGroupMember.hasSatisfiedHeartbeat`).
    pub(crate) fn is_waiting(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// What it said under the assignor that was agreed on.
    pub(crate) fn subscription(&self, protocol: Option<&str>) -> Bytes {
        let agreed = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        agreed.map(|(_, subscription)| subscription.clone()).unwrap_or_default()
    }

    fn protocol_names(&self) -> BTreeSet<&str> {
        self.protocols.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn record(&self) -> GroupMemberRecord {
        let millis = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        GroupMemberRecord {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: millis(self.session_timeout),
            rebalance_timeout_ms: millis(self.rebalance_timeout),
            protocols: self.protocols.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect(),
            assignment: self.assignment.to_vec(),
        }
    }

    pub(crate) fn restore(record: GroupMemberRecord, now: Instant) -> Self {
        let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let session_timeout = millis(record.session_timeout_ms);
        Self {
            id: record.member_id,
            instance_id: record.instance_id,
            client_id: record.client_id,
            client_host: record.client_host,
            session_timeout,
            rebalance_timeout: millis(record.rebalance_timeout_ms),
            protocols: record.protocols.into_iter().map(|(name, bytes)| (name, bytes.into())).collect(),
            assignment: record.assignment.into(),
            is_new: false,
            session_deadline: now + session_timeout,
            joining: None,
            syncing: None,
            has_synced: true,
        }
    }
}

/// What a member's protocols take: names and subscriptions.
pub(crate) fn protocol_bytes(protocols: &[(String, Bytes)]) -> usize {
    protocols.iter().map(|(name, subscription)| name.len() + subscription.len()).sum()
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    /// The id of the member that goes by this instance id.
    pub(crate) fn with_instance(&self, instance_id: &str) -> Option<&str> {
        self.statics.get(instance_id).map(String::as_str)
    }

    pub(crate) fn insert(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(instance_id.clone(), member.id.clone());
        }
        self.by_id.insert(member.id.clone(), member);
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        if let Some(instance_id) = &member.instance_id {
            self.statics.remove(instance_id);
        }
        Some(member)
    }

    pub(crate) fn take_if(&mut self, is_out: impl Fn(&Member) -> bool) -> Vec<Member> {
        let out: Vec<String> = self.iter().filter(|member| is_out(member)).map(|member| member.id.clone()).collect();
        out.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Whether this is a member, under the instance id that it claims (`ClassicGroup.validateMember`).
    pub(crate) fn check(&self, id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        match instance_id.map(|instance_id| self.with_instance(instance_id)) {
            Some(None) => Err(ResponseError::UnknownMemberId),
            Some(Some(holder)) if holder != id => Err(ResponseError::FencedInstanceId),
            Some(Some(_)) | None if self.contains(id) => Ok(()),
            Some(Some(_)) | None => Err(ResponseError::UnknownMemberId),
        }
    }

    /// The names of the protocols that all members support. One pass over every member's.
    pub(crate) fn common_protocols(&self) -> BTreeSet<&str> {
        let mut members = self.iter().map(Member::protocol_names);
        let mut common = members.next().unwrap_or_default();
        for names in members {
            common.retain(|name| names.contains(name));
        }
        common
    }

    /// Each member votes for its favourite among what all support; the first of the winners by name.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let common = self.common_protocols();
        for member in self.iter() {
            let favourite = member.protocols.iter().find(|(name, _)| common.contains(name.as_str()));
            if let Some((name, _)) = favourite {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// The longest that any member asked for.
    pub(crate) fn rebalance_timeout(&self) -> Duration {
        self.iter().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.iter().map(|member| protocol_bytes(&member.protocols) + member.assignment.len()).sum()
    }

    pub(crate) fn answer_syncs(
        &mut self,
        actions: &mut Actions,
        answer: impl Fn(&Member) -> Result<Synced, ResponseError>,
    ) {
        for member in self.by_id.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                actions.answers.push((ticket, Answer::Synced(answer(member))));
            }
        }
    }
}
