//! What a link's syncs ask of the fake source: consumer groups, what they have committed, and ACLs.

use super::State;
use hawser_wire::StrBytes;
use hawser_wire::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use hawser_wire::messages::list_groups_response::ListedGroup;
use hawser_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use hawser_wire::messages::{
    DescribeAclsResponse, GroupId, ListGroupsResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `ResourceType.TOPIC`.
const TOPIC: i8 = 2;
/// `PatternType.LITERAL`.
const LITERAL: i8 = 3;
/// `AclOperation.READ`.
const READ: i8 = 3;
/// `AclPermissionType.ALLOW`.
const ALLOW: i8 = 3;

/// Committed offsets of one group, by topic and partition.
pub(super) type Offsets = BTreeMap<Arc<str>, BTreeMap<i32, i64>>;

/// The groups that `node`, counted from 0, coordinates: the first has all of them.
pub(super) fn list_groups(state: &State, node: usize) -> ListGroupsResponse {
    let groups = state.groups.keys().filter(|_| node == 0);
    let groups = groups.map(|group| {
        let protocol_type = state.protocol_types.get(group).copied().unwrap_or("consumer");
        ListedGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_protocol_type(StrBytes::from_static_str(protocol_type))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

/// All that the groups in `request` have committed, whichever topics it names. Version 8 and 9.
pub(super) fn fetch_offsets(state: &State, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let partition = |(index, offset): (&i32, &i64)| {
        OffsetFetchResponsePartitions::default().with_partition_index(*index).with_committed_offset(*offset)
    };
    let topic = |(name, partitions): (&Arc<str>, &BTreeMap<i32, i64>)| {
        OffsetFetchResponseTopics::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.iter().map(partition).collect())
    };
    let groups = request.groups.iter().map(|asked| {
        let offsets = state.groups.get(asked.group_id.as_str()).into_iter().flatten();
        OffsetFetchResponseGroup::default()
            .with_group_id(asked.group_id.clone())
            .with_topics(offsets.map(topic).collect())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

/// All ACLs, whatever the filter says.
pub(super) fn describe_acls(state: &State) -> DescribeAclsResponse {
    let resources = state.readers.iter().map(|(topic, readers)| {
        let acls = readers.iter().map(|principal| {
            AclDescription::default()
                .with_principal(text(principal))
                .with_host(StrBytes::from_static_str("*"))
                .with_operation(READ)
                .with_permission_type(ALLOW)
        });
        DescribeAclsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_pattern_type(LITERAL)
            .with_acls(acls.collect())
    });
    DescribeAclsResponse::default().with_resources(resources.collect())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
