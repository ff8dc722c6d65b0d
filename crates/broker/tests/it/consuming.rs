//! Groups of the KIP-848 protocol over sockets.

use crate::common::{Bench, at, call, quick};
use crate::rights::grant;
use hawser_state::{AclOperation, AclResourceType};
use hawser_transport::KafkaClient;
use hawser_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use hawser_wire::messages::join_group_request::JoinGroupRequestProtocol;
use hawser_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use hawser_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use hawser_wire::messages::*;
use hawser_wire::{ResponseError, StrBytes};

const GROUP: &str = "app";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group() -> GroupId {
    GroupId(text(GROUP))
}

fn error(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
    staying(member, 0).with_rebalance_timeout_ms(60_000).with_topic_partitions(Some(Vec::new()))
}

fn staying(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}

/// Topics by name, with what is assigned of each.
fn assigned(bench: &Bench, response: &ConsumerGroupHeartbeatResponse) -> Vec<(String, Vec<i32>)> {
    let topics = response.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
    let named = topics.map(|topic| (bench.state.topic_by_id(topic.topic_id).unwrap().name.clone(), &topic.partitions));
    let mut all: Vec<_> = named.map(|(name, partitions)| (name, partitions.clone())).collect();
    all.sort();
    all
}

async fn commit(client: &KafkaClient, version: i16, member: &str, epoch: i32) -> Option<ResponseError> {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
    let asked = OffsetCommitRequestTopic::default().with_name(topic("orders")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(epoch)
        .with_topics(vec![asked]);
    error(at(client, version, &request).await.topics[0].partitions[0].error_code)
}

async fn fetch(client: &KafkaClient, member: Option<&str>, epoch: i32) -> (Option<ResponseError>, i64) {
    let asked = OffsetFetchRequestTopics::default().with_name(topic("orders")).with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_member_id(member.map(text))
        .with_member_epoch(epoch)
        .with_topics(Some(vec![asked]));
    let response = at(client, 9, &OffsetFetchRequest::default().with_groups(vec![asked])).await;
    let found = &response.groups[0];
    (error(found.error_code), found.topics.first().map_or(-9, |topic| topic.partitions[0].committed_offset))
}

async fn listed(client: &KafkaClient, types: &[&str]) -> Vec<(String, String)> {
    let types = types.iter().map(|name| text(name)).collect();
    let groups = call(client, &ListGroupsRequest::default().with_types_filter(types)).await.groups;
    groups.into_iter().map(|group| (group.group_type.to_string(), group.group_state.to_string())).collect()
}

#[tokio::test]
async fn a_member_of_the_consumer_protocol() {
    let bench = Bench::new().await;
    bench.mirror("orders", 3);
    let client = bench.client().await;
    let names = Some(vec![topic("orders"), topic("missing")]);
    let joined = call(&client, &joining("a").with_subscribed_topic_names(names)).await;
    assert_eq!((joined.error_code, joined.member_epoch, joined.heartbeat_interval_ms), (0, 1, 5000));
    assert_eq!(joined.member_id, Some(text("a")));
    assert_eq!(assigned(&bench, &joined), [("orders".to_owned(), vec![0, 1, 2])]);
    assert!(call(&client, &staying("a", 1)).await.assignment.is_none(), "nothing new");

    assert_eq!(commit(&client, 9, "a", 1).await, None);
    assert_eq!(commit(&client, 9, "a", 0).await, Some(ResponseError::StaleMemberEpoch));
    assert_eq!(commit(&client, 9, "b", 1).await, Some(ResponseError::UnknownMemberId));
    assert_eq!(commit(&client, 8, "a", 1).await, Some(ResponseError::UnsupportedVersion));
    assert_eq!(fetch(&client, Some("a"), 1).await, (None, 5));
    assert_eq!(fetch(&client, None, -1).await, (None, 5));
    assert_eq!(fetch(&client, Some("a"), 2).await.0, Some(ResponseError::StaleMemberEpoch));

    assert_eq!(listed(&client, &["Consumer"]).await, [("consumer".to_owned(), "Stable".to_owned())]);
    assert!(listed(&client, &["classic"]).await.is_empty());
    let described = call(&client, &ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()])).await;
    let described = &described.groups[0];
    assert_eq!((described.error_code, described.group_state.as_str(), described.group_epoch), (0, "Stable", 1));
    assert_eq!((described.assignor_name.as_str(), described.members.len()), ("uniform", 1));
    let member = &described.members[0];
    assert_eq!((member.client_id.as_str(), member.member_type), ("tester", 1));
    assert_eq!(member.assignment.topic_partitions[0].topic_name, topic("orders"));
    let classic = call(&client, &DescribeGroupsRequest::default().with_groups(vec![group()])).await;
    assert_eq!(error(classic.groups[0].error_code), Some(ResponseError::GroupIdNotFound));
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    let deleted = call(&client, &delete).await.results[0].error_code;
    assert_eq!(error(deleted), Some(ResponseError::NonEmptyGroup));
    assert!(bench.broker.group_has_members(GROUP));

    // A restart: the member goes on in its epoch.
    let bench = bench.restart(quick()).await;
    let client = bench.client().await;
    let owned = joined.assignment.unwrap().topic_partitions;
    let owned =
        owned.into_iter().map(|t| TopicPartitions::default().with_topic_id(t.topic_id).with_partitions(t.partitions));
    let told = call(&client, &staying("a", 1).with_topic_partitions(Some(owned.collect()))).await;
    assert_eq!((told.error_code, told.member_epoch), (0, 1));
    assert_eq!(error(call(&client, &staying("a", 7)).await.error_code), Some(ResponseError::FencedMemberEpoch));

    let left = call(&client, &staying("a", -1)).await;
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    assert_eq!(listed(&client, &[]).await, [("consumer".to_owned(), "Empty".to_owned())]);
    assert_eq!(fetch(&client, None, -1).await, (None, 5), "offsets outlive the members");
    // Its epochs go on where they were, over a restart too.
    let bench = bench.restart(quick()).await;
    let client = bench.client().await;
    let again = joining("b").with_subscribed_topic_names(Some(vec![topic("orders")]));
    assert_eq!(call(&client, &again).await.member_epoch, 3);
    call(&client, &staying("b", -1)).await;
    assert_eq!(call(&client, &delete).await.results[0].error_code, 0);
    assert!(listed(&client, &[]).await.is_empty());
    assert_eq!(error(call(&client, &staying("b", 3)).await.error_code), Some(ResponseError::GroupIdNotFound));
}

#[tokio::test]
async fn a_group_has_one_protocol_at_a_time() {
    let bench = Bench::new().await;
    bench.mirror("orders", 1);
    let client = bench.client().await;
    let modern = joining("a").with_subscribed_topic_names(Some(vec![topic("orders")]));
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let classic = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    assert_eq!(call(&client, &modern).await.error_code, 0);
    let refused = at(&client, 3, &classic).await.error_code;
    assert_eq!(error(refused), Some(ResponseError::InconsistentGroupProtocol));
    call(&client, &staying("a", -1)).await;
    let joined = at(&client, 3, &classic).await;
    assert_eq!(joined.error_code, 0);
    assert!(joined.generation_id > 1, "the generation goes on from the epoch: {}", joined.generation_id);
    assert_eq!(error(call(&client, &modern).await.error_code), Some(ResponseError::GroupIdNotFound));
    let leave = LeaveGroupRequest::default().with_group_id(group()).with_member_id(joined.member_id);
    assert_eq!(at(&client, 2, &leave).await.error_code, 0);
    assert_eq!(call(&client, &modern).await.error_code, 0);
}

#[tokio::test]
async fn a_regex_names_what_the_member_may_see() {
    let bench = Bench::with(quick(), "super.users=User:root").await;
    bench.mirror("orders", 1);
    bench.mirror("orders-secret", 1);
    bench.mirror("other", 1);
    let (root, ann) = (bench.client_as("root").await, bench.client_as("ann").await);
    let rights = [
        grant("ann", AclOperation::Read, AclResourceType::Group, GROUP),
        grant("ann", AclOperation::Describe, AclResourceType::Topic, "orders"),
        grant("ann", AclOperation::Describe, AclResourceType::Topic, "orders-2"),
        grant("ann", AclOperation::Describe, AclResourceType::Topic, "my-orders"),
    ];
    call(&root, &CreateAclsRequest::default().with_creations(rights.to_vec())).await;
    let by_regex = |regex: &str| joining("a").with_subscribed_topic_regex(Some(text(regex)));
    for bad in ["ord(ers", "orders)|(x", "(?P<", &"a".repeat(5000)] {
        let refused = call(&ann, &by_regex(bad)).await.error_code;
        assert_eq!(error(refused), Some(ResponseError::InvalidRegularExpression), "{bad}");
    }
    let joined = call(&ann, &by_regex("ord.*")).await;
    assert_eq!(assigned(&bench, &joined), [("orders".to_owned(), vec![0])]);
    // New topics are found with the next heartbeat, if they are for the member's eyes.
    for name in ["orders-2", "orders-3", "my-orders"] {
        bench.mirror(name, 1);
    }
    let told = call(&ann, &staying("a", joined.member_epoch)).await;
    assert_eq!(assigned(&bench, &told), [("orders".to_owned(), vec![0]), ("orders-2".to_owned(), vec![0])]);
    let names = joining("b").with_subscribed_topic_names(Some(vec![topic("orders-secret")]));
    assert_eq!(error(call(&ann, &names).await.error_code), Some(ResponseError::TopicAuthorizationFailed));
    let described = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
    assert_eq!(call(&ann, &described).await.groups[0].members[0].subscribed_topic_regex, Some(text("ord.*")));
}

#[tokio::test]
async fn heartbeats_that_make_no_sense_are_refused_by_name() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let names = Some(vec![topic("orders")]);
    let join = || joining("a").with_subscribed_topic_names(names.clone());
    let table = [
        (join().with_group_id(GroupId(text(""))), ResponseError::InvalidRequest),
        (join().with_instance_id(Some(text(""))), ResponseError::InvalidRequest),
        (join().with_rack_id(Some(text(""))), ResponseError::InvalidRequest),
        (join().with_rebalance_timeout_ms(-1), ResponseError::InvalidRequest),
        (join().with_topic_partitions(None), ResponseError::InvalidRequest),
        (joining("a"), ResponseError::InvalidRequest),
        (join().with_server_assignor(Some(text("sticky"))), ResponseError::UnsupportedAssignor),
        (staying("", 1), ResponseError::InvalidRequest),
        (staying("a", -2), ResponseError::InvalidRequest),
        (staying("a", -3), ResponseError::InvalidRequest),
        (staying("a", 1), ResponseError::GroupIdNotFound),
    ];
    for (request, expected) in table {
        let refused = call(&client, &request).await;
        assert_eq!(error(refused.error_code), Some(expected), "{request:?}");
        assert!(refused.error_message.is_some());
    }
    assert!(listed(&client, &[]).await.is_empty(), "a refused heartbeat leaves no group behind");
}
