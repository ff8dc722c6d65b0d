//! The APIs of membership: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and those of tools: ListGroups, DescribeGroups,
//! DeleteGroups.

use super::machine::{Answer, Event, Identity, Join, Joined, Sync};
use crate::cluster::OPERATIONS_OMITTED;
use crate::dispatch::Caller;
use crate::requests::distinct;
use crate::{Broker, Operation, Resource};
use bytes::Bytes;
use hawser_wire::messages::delete_groups_response::DeletableGroupResult;
use hawser_wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use hawser_wire::messages::join_group_response::JoinGroupResponseMember;
use hawser_wire::messages::leave_group_request::MemberIdentity;
use hawser_wire::messages::leave_group_response::MemberResponse;
use hawser_wire::messages::list_groups_response::ListedGroup;
use hawser_wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use hawser_wire::{ResponseError, StrBytes, Uuid};
use std::time::Duration;

impl Broker {
    pub(crate) async fn join_group(
        &self,
        caller: &Caller,
        version: i16,
        client_id: &str,
        request: JoinGroupRequest,
    ) -> JoinGroupResponse {
        let member_id = request.member_id.clone();
        let outcome = match self.check_join(caller, &request) {
            Ok(()) => {
                let group = request.group_id.clone();
                let join = join_of(caller, version, client_id, request);
                self.groups.ask(&group, |ticket| Event::Join(ticket, Box::new(join))).await
            }
            Err(error) => Err(error),
        };
        let refused = |error| Joined::refused(member_id.to_string(), error);
        let joined = match outcome {
            Ok(Answer::Joined(joined)) => joined,
            Ok(Answer::Synced(_) | Answer::Done(_)) => refused(ResponseError::UnknownServerError),
            Err(error) => refused(error),
        };
        answer_join(version, joined)
    }

    fn check_join(&self, caller: &Caller, request: &JoinGroupRequest) -> Result<(), ResponseError> {
        self.check_group(caller, Operation::Read, &request.group_id)?;
        let timeout = millis(request.session_timeout_ms);
        let allowed = self.config.group_min_session_timeout..=self.config.group_max_session_timeout;
        if allowed.contains(&timeout) { Ok(()) } else { Err(ResponseError::InvalidSessionTimeout) }
    }

    /// Whether the id is one, and the caller may do `operation` to the group.
    pub(crate) fn check_group(&self, caller: &Caller, operation: Operation, group: &str) -> Result<(), ResponseError> {
        if group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if self.may(caller, operation, Resource::Group(group)) {
            return Ok(());
        }
        Err(ResponseError::GroupAuthorizationFailed)
    }

    pub(crate) async fn sync_group(
        &self,
        caller: &Caller,
        version: i16,
        request: SyncGroupRequest,
    ) -> SyncGroupResponse {
        let refused = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
        if let Err(error) = self.check_group(caller, Operation::Read, &request.group_id) {
            return refused(error);
        }
        if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
            return refused(ResponseError::InconsistentGroupProtocol);
        }
        let assignments = request.assignments.iter();
        let sync = Sync {
            identity: identity(&request.member_id, request.group_instance_id.as_ref(), request.generation_id),
            protocol_type: request.protocol_type.as_ref().map(ToString::to_string),
            protocol: request.protocol_name.as_ref().map(ToString::to_string),
            assignments: assignments.map(|a| (a.member_id.to_string(), own(&a.assignment))).collect(),
        };
        match self.groups.ask(&request.group_id, |ticket| Event::Sync(ticket, sync)).await {
            Ok(Answer::Synced(Ok(synced))) => SyncGroupResponse::default()
                .with_protocol_type(synced.protocol_type.map(StrBytes::from_string))
                .with_protocol_name(synced.protocol.map(StrBytes::from_string))
                .with_assignment(synced.assignment),
            Ok(Answer::Synced(Err(error))) | Err(error) => refused(error),
            Ok(Answer::Joined(_) | Answer::Done(_)) => refused(ResponseError::UnknownServerError),
        }
    }

    pub(crate) fn heartbeat(&self, caller: &Caller, request: HeartbeatRequest) -> HeartbeatResponse {
        let identity = identity(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
        let verdict = self.check_group(caller, Operation::Read, &request.group_id).and_then(|()| {
            let verdict = self.groups.ask_now(&request.group_id, |ticket| Event::Heartbeat(ticket, identity));
            verdict.unwrap_or(Err(ResponseError::UnknownMemberId))
        });
        HeartbeatResponse::default().with_error_code(code(verdict))
    }

    pub(crate) fn leave_group(&self, caller: &Caller, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
        let group = &request.group_id;
        if let Err(error) = self.check_group(caller, Operation::Read, group) {
            return LeaveGroupResponse::default().with_error_code(error.code());
        }
        let leave = |member: &MemberIdentity| {
            let identity = identity(&member.member_id, member.group_instance_id.as_ref(), -1);
            let verdict = self.groups.ask_now(group, |ticket| Event::Leave(ticket, identity));
            code(verdict.unwrap_or(Err(ResponseError::UnknownMemberId)))
        };
        if version < 3 {
            let member = MemberIdentity::default().with_member_id(request.member_id);
            return LeaveGroupResponse::default().with_error_code(leave(&member));
        }
        let members = request.members.into_iter().map(|member| {
            let error = leave(&member);
            MemberResponse::default()
                .with_member_id(member.member_id)
                .with_group_instance_id(member.group_instance_id)
                .with_error_code(error)
        });
        LeaveGroupResponse::default().with_members(members.collect())
    }

    pub(crate) async fn list_groups(&self, caller: &Caller, request: ListGroupsRequest) -> ListGroupsResponse {
        let all = match self.groups.list().await {
            Ok(all) => all,
            Err(error) => return ListGroupsResponse::default().with_error_code(error.code()),
        };
        let sees_all = self.may(caller, Operation::Describe, Resource::Cluster);
        let is_named = |filter: &[StrBytes], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let listed = all.into_iter().filter(|(id, group)| {
            is_named(&request.states_filter, group.state)
                && is_named(&request.types_filter, group.group_type)
                && (sees_all || self.may(caller, Operation::Describe, Resource::Group(id)))
        });
        let listed = listed.map(|(id, group)| {
            ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(id)))
                .with_protocol_type(StrBytes::from_string(group.protocol_type))
                .with_group_state(StrBytes::from_static_str(group.state))
                .with_group_type(StrBytes::from_static_str(group.group_type))
        });
        ListGroupsResponse::default().with_groups(listed.collect())
    }

    pub(crate) async fn describe_groups(
        &self,
        caller: &Caller,
        version: i16,
        request: DescribeGroupsRequest,
    ) -> DescribeGroupsResponse {
        let mut groups = Vec::new();
        for id in distinct(request.groups, Clone::clone) {
            let mut described = match self.check_group(caller, Operation::Describe, &id) {
                Ok(()) => self.describe_group(version, &id).await,
                Err(error) => DescribedGroup::default().with_error_code(error.code()),
            };
            described.authorized_operations = OPERATIONS_OMITTED;
            if request.include_authorized_operations && described.error_code == 0 {
                described.authorized_operations = self.authorizer.allowed_bits(&caller.principal, Resource::Group(&id));
            }
            groups.push(described.with_group_id(id));
        }
        DescribeGroupsResponse::default().with_groups(groups)
    }

    async fn describe_group(&self, version: i16, id: &str) -> DescribedGroup {
        let described = match self.groups.describe(id).await {
            Ok(Some(described)) => described,
            // KIP-1043: from version 6 on an unknown group is an error.
            Ok(None) if version >= 6 => {
                return DescribedGroup::default()
                    .with_error_code(ResponseError::GroupIdNotFound.code())
                    .with_error_message(Some(StrBytes::from_string(format!("Group {id} not found."))))
                    .with_group_state(StrBytes::from_static_str("Dead"));
            }
            Ok(None) => return DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead")),
            Err(error) => return DescribedGroup::default().with_error_code(error.code()),
        };
        // While a rebalance is under way there is no agreed assignor and no assignment (`ClassicGroup.describe`).
        let is_stable = described.state == "Stable";
        let members = described.members.into_iter().map(|(member, subscription)| {
            let (metadata, assignment) =
                if is_stable { (subscription, Bytes::from(member.assignment)) } else { (Bytes::new(), Bytes::new()) };
            DescribedGroupMember::default()
                .with_member_id(StrBytes::from_string(member.member_id))
                .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
                .with_client_id(StrBytes::from_string(member.client_id))
                .with_client_host(StrBytes::from_string(member.client_host))
                .with_member_metadata(metadata)
                .with_member_assignment(assignment)
        });
        let protocol = if is_stable { described.protocol } else { String::new() };
        DescribedGroup::default()
            .with_group_state(StrBytes::from_static_str(described.state))
            .with_protocol_type(StrBytes::from_string(described.protocol_type))
            .with_protocol_data(StrBytes::from_string(protocol))
            .with_members(members.collect())
    }

    pub(crate) async fn delete_groups(&self, caller: &Caller, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut results = Vec::new();
        for id in request.groups_names {
            let verdict = match self.check_group(caller, Operation::Delete, &id) {
                Ok(()) => self.groups.delete(&id).await,
                Err(error) => Err(error),
            };
            results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code(verdict)));
        }
        DeleteGroupsResponse::default().with_results(results)
    }
}

fn join_of(caller: &Caller, version: i16, client_id: &str, request: JoinGroupRequest) -> Join {
    let instance_id = request.group_instance_id.as_ref().map(ToString::to_string);
    // As Kafka builds it: what an operator recognises, then what is unique.
    let fresh_id = format!("{}-{}", instance_id.as_deref().unwrap_or(client_id), Uuid::new_v4());
    let session_timeout = millis(request.session_timeout_ms);
    // Version 0 knows one time-out only.
    let rebalance_timeout = if version >= 1 { millis(request.rebalance_timeout_ms) } else { session_timeout };
    let protocols = request.protocols.iter();
    Join {
        member_id: request.member_id.to_string(),
        instance_id,
        fresh_id,
        client_id: client_id.to_owned(),
        // As `InetAddress.toString`, which tools cut the slash off.
        client_host: format!("/{}", caller.peer.ip()),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.map(|p| (p.name.to_string(), own(&p.metadata))).collect(),
        requires_known_member: version >= 4,
        can_skip_assignment: version >= 9,
    }
}

fn answer_join(version: i16, joined: Joined) -> JoinGroupResponse {
    let member = |(id, instance_id, metadata): (String, Option<String>, Bytes)| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(id))
            .with_group_instance_id(instance_id.map(StrBytes::from_string))
            .with_metadata(metadata)
    };
    // Null is known from version 7 on only.
    let protocol = joined.protocol.or_else(|| (version < 7).then(String::new));
    JoinGroupResponse::default()
        .with_error_code(joined.error.map_or(0, |error| error.code()))
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(protocol.map(StrBytes::from_string))
        .with_leader(StrBytes::from_string(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(StrBytes::from_string(joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect())
}

pub(super) fn identity(member_id: &StrBytes, instance_id: Option<&StrBytes>, generation: i32) -> Identity {
    Identity { member_id: member_id.to_string(), instance_id: instance_id.map(ToString::to_string), generation }
}

pub(super) fn code(verdict: Result<(), ResponseError>) -> i16 {
    verdict.err().map_or(0, |error| error.code())
}

/// A copy of its own: a slice would keep the whole frame in memory for as long as the group lives.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
