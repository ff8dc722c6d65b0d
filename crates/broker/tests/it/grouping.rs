//! Groups over the wire: a consumer's life, offsets that survive, and what tools are told.

use crate::common::{Bench, at, call, quick};
use bytes::{BufMut, Bytes, BytesMut};
use hawser_transport::KafkaClient;
use hawser_wire::messages::join_group_request::JoinGroupRequestProtocol;
use hawser_wire::messages::leave_group_request::MemberIdentity;
use hawser_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use hawser_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use hawser_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use hawser_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use hawser_wire::messages::*;
use hawser_wire::{ResponseError, StrBytes};
use std::time::Duration;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A `ConsumerProtocolSubscription` to topic `t`.
fn subscription() -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(1);
    bytes.put_i16(1);
    bytes.put_slice(b"t");
    bytes.put_i32(-1);
    bytes.freeze()
}

fn join(id: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription());
    JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins alone and takes everything: member id and generation.
async fn alone(client: &KafkaClient, id: &str) -> (StrBytes, i32) {
    let knock = call(client, &join(id, "")).await;
    assert_eq!(knock.error_code, ResponseError::MemberIdRequired.code());
    let joined = call(client, &join(id, &knock.member_id)).await;
    assert_eq!((joined.error_code, &joined.leader), (0, &joined.member_id));
    let mine = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"mine"));
    let sync = sync(id, &joined.member_id, joined.generation_id).with_assignments(vec![mine]);
    let synced = call(client, &sync).await;
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (0, &b"mine"[..]));
    (joined.member_id, joined.generation_id)
}

fn sync(id: &str, member: &str, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_generation_id(generation)
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
}

async fn heartbeat(client: &KafkaClient, id: &str, member: &str, generation: i32) -> Option<ResponseError> {
    let request = HeartbeatRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_generation_id(generation);
    ResponseError::try_from_code(call(client, &request).await.error_code)
}

fn commit(id: &str, member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(3)
        .with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(topic("t")).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

fn committed(response: &OffsetCommitResponse) -> Option<ResponseError> {
    ResponseError::try_from_code(response.topics[0].partitions[0].error_code)
}

/// The offset of `t`-0, −1 for none.
async fn offset_of(client: &KafkaClient, id: &str) -> i64 {
    let topics = OffsetFetchRequestTopics::default().with_name(topic("t")).with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(Some(vec![topics]));
    let response = call(client, &OffsetFetchRequest::default().with_groups(vec![asked])).await;
    response.groups[0].topics[0].partitions[0].committed_offset
}

#[tokio::test]
async fn a_consumers_life() {
    let bench = Bench::new().await;
    bench.mirror("t", 1);
    let (a, b) = (bench.client().await, bench.client().await);
    let (member, generation) = alone(&a, "g").await;
    assert!(member.starts_with("tester-"));
    assert_eq!(heartbeat(&a, "g", &member, generation).await, None);
    assert!(bench.broker.group_has_members("g"));
    assert_eq!(committed(&call(&a, &commit("g", &member, generation, 5)).await), None);
    // A second member: the first is called back, both get the next generation.
    let second = call(&b, &join("g", "")).await.member_id;
    let joining = tokio::spawn({
        let (b, second) = (b.clone(), second.clone());
        async move { call(&b, &join("g", &second)).await }
    });
    while heartbeat(&a, "g", &member, generation).await != Some(ResponseError::RebalanceInProgress) {
        tokio::task::yield_now().await;
    }
    let (leader, follower) = (call(&a, &join("g", &member)).await, joining.await.unwrap());
    assert_eq!((leader.generation_id, follower.generation_id), (generation + 1, generation + 1));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    let generation = leader.generation_id;
    let assignments = [(&member, "for a"), (&second, "for b")].map(|(id, bytes)| {
        let assignment = SyncGroupRequestAssignment::default().with_member_id(id.clone());
        assignment.with_assignment(Bytes::from_static(bytes.as_bytes()))
    });
    let (first, other) = tokio::join!(
        async { call(&a, &sync("g", &member, generation).with_assignments(assignments.to_vec())).await },
        async { call(&b, &sync("g", &second, generation)).await },
    );
    assert_eq!((first.assignment.as_ref(), other.assignment.as_ref()), (&b"for a"[..], &b"for b"[..]));
    // Tools.
    let described = call(&a, &DescribeGroupsRequest::default().with_groups(vec![group("g")])).await;
    let described = &described.groups[0];
    assert_eq!((described.group_state.as_str(), described.protocol_data.as_str()), ("Stable", "range"));
    assert_eq!(described.members.len(), 2);
    assert_eq!(described.members[0].client_host.as_str(), "/127.0.0.1");
    let listed = call(&a, &ListGroupsRequest::default()).await.groups;
    assert_eq!((listed.len(), listed[0].group_state.as_str(), listed[0].group_type.as_str()), (1, "Stable", "classic"));
    let empty = ListGroupsRequest::default().with_states_filter(vec![text("empty")]);
    assert!(call(&a, &empty).await.groups.is_empty());
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g"), group("nobody")]);
    let codes: Vec<_> = call(&a, &delete).await.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ResponseError::NonEmptyGroup.code(), ResponseError::GroupIdNotFound.code()]);
    // What members consume cannot be deleted under them.
    let deletion = async |client: &KafkaClient| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let named = OffsetDeleteRequestTopic::default().with_name(topic("t")).with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![named]);
        call(client, &request).await.topics[0].partitions[0].error_code
    };
    assert_eq!(deletion(&a).await, ResponseError::GroupSubscribedToTopic.code());
    // Both leave; offsets stay until they are deleted.
    let members = [member, second].map(|id| MemberIdentity::default().with_member_id(id)).to_vec();
    let left = call(&a, &LeaveGroupRequest::default().with_group_id(group("g")).with_members(members)).await;
    assert!(left.error_code == 0 && left.members.iter().all(|member| member.error_code == 0));
    assert_eq!(offset_of(&a, "g").await, 5);
    assert_eq!(deletion(&a).await, 0);
    assert_eq!(offset_of(&a, "g").await, -1);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
    assert_eq!(call(&a, &delete).await.results[0].error_code, 0);
    assert!(call(&a, &ListGroupsRequest::default()).await.groups.is_empty());
    for (version, expected) in [(5, 0), (6, ResponseError::GroupIdNotFound.code())] {
        let described = at(&a, version, &DescribeGroupsRequest::default().with_groups(vec![group("g")])).await;
        assert_eq!((described.groups[0].group_state.as_str(), described.groups[0].error_code), ("Dead", expected));
    }
}

#[tokio::test]
async fn offsets_are_read_in_every_version() {
    let bench = Bench::new().await;
    bench.mirror("t", 2);
    bench.mirror("u", 1);
    let client = bench.client().await;
    for version in 2..=9 {
        let offset = i64::from(version) * 10;
        assert_eq!(committed(&at(&client, version, &commit("g", "", -1, offset)).await), None);
        assert_eq!(offset_of(&client, "g").await, offset);
    }
    for version in 1..=7 {
        let asked = OffsetFetchRequestTopic::default().with_name(topic("t")).with_partition_indexes(vec![0, 1]);
        let request = OffsetFetchRequest::default().with_group_id(group("g")).with_topics(Some(vec![asked]));
        let response = at(&client, version, &request).await;
        let offsets: Vec<_> = response.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
        assert_eq!(offsets, [90, -1], "version {version}");
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.metadata.as_ref().unwrap().as_str(), "note");
        if version >= 5 {
            assert_eq!(found.committed_leader_epoch, 3);
        }
        if version >= 2 {
            let all = at(&client, version, &request.with_topics(None)).await;
            assert_eq!((all.error_code, all.topics.len(), all.topics[0].partitions.len()), (0, 1, 1));
        }
    }
    for version in 8..=9 {
        let asked = |id| OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked("g"), asked("unknown")]);
        let groups = at(&client, version, &request).await.groups;
        assert_eq!((groups[0].topics[0].partitions[0].committed_offset, groups[1].topics.len()), (90, 0));
    }
    // What cannot be committed.
    let mut long = commit("g", "", -1, 1);
    long.topics[0].partitions[0].committed_metadata = Some(text(&"m".repeat(4097)));
    assert_eq!(committed(&call(&client, &long).await), Some(ResponseError::OffsetMetadataTooLarge));
    let mut beyond = commit("g", "", -1, 1);
    beyond.topics[0].partitions[0].partition_index = 2;
    assert_eq!(committed(&call(&client, &beyond).await), Some(ResponseError::UnknownTopicOrPartition));
    let mut missing = commit("g", "", -1, 1);
    missing.topics[0].name = topic("missing");
    assert_eq!(committed(&call(&client, &missing).await), Some(ResponseError::UnknownTopicOrPartition));
    let stranger = commit("g", "who", 4, 1);
    assert_eq!(committed(&call(&client, &stranger).await), Some(ResponseError::UnknownMemberId));
    assert_eq!(committed(&call(&client, &commit("", "", -1, 1)).await), Some(ResponseError::InvalidGroupId));
    assert_eq!(offset_of(&client, "g").await, 90);
}

#[tokio::test]
async fn groups_and_offsets_survive_a_restart_without_a_rebalance() {
    let bench = Bench::new().await;
    bench.mirror("t", 1);
    let client = bench.client().await;
    let (member, generation) = alone(&client, "g").await;
    assert_eq!(committed(&call(&client, &commit("g", &member, generation, 42)).await), None);
    assert_eq!(committed(&call(&client, &commit("simple", "", -1, 7)).await), None);
    drop(client);
    let bench = bench.restart(quick()).await;
    let client = bench.client().await;
    assert_eq!(heartbeat(&client, "g", &member, generation).await, None);
    let synced = call(&client, &sync("g", &member, generation)).await;
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (0, &b"mine"[..]));
    assert_eq!((offset_of(&client, "g").await, offset_of(&client, "simple").await), (42, 7));
    assert_eq!(committed(&call(&client, &commit("g", &member, generation, 43)).await), None);
    // The generation goes on where it was, also over an empty group.
    let leave = MemberIdentity::default().with_member_id(member);
    call(&client, &LeaveGroupRequest::default().with_group_id(group("g")).with_members(vec![leave])).await;
    while bench.broker.group_has_members("g") || bench.state.group("g").unwrap().unwrap().generation == generation {
        tokio::task::yield_now().await;
    }
    drop(client);
    let bench = bench.restart(quick()).await;
    let client = bench.client().await;
    let listed = call(&client, &ListGroupsRequest::default()).await.groups;
    let listed: Vec<_> = listed.iter().map(|g| (g.group_id.as_str(), g.group_state.as_str())).collect();
    assert_eq!(listed, [("g", "Empty"), ("simple", "Empty")]);
    let (_, next) = alone(&client, "g").await;
    assert!(next > generation + 1, "{next}");
    assert_eq!(offset_of(&client, "g").await, 43);
}

#[tokio::test]
async fn a_member_that_vanishes_is_expired_by_the_clock() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let short = join("g", "").with_session_timeout_ms(200);
    let knock = call(&client, &short).await.member_id;
    let joined = call(&client, &short.clone().with_member_id(knock)).await;
    assert_eq!(joined.error_code, 0);
    drop(client);
    let vanished = async {
        while bench.broker.group_has_members("g") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), vanished).await.unwrap();
    let client = bench.client().await;
    assert_eq!(heartbeat(&client, "g", &joined.member_id, 1).await, Some(ResponseError::UnknownMemberId));
}

#[tokio::test]
async fn many_commits_share_few_transactions() {
    let bench = Bench::new().await;
    bench.mirror("t", 1);
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..50 {
        let client = bench.client().await;
        clients.spawn(async move {
            let id = format!("g{n}");
            for offset in 0..20 {
                assert_eq!(committed(&call(&client, &commit(&id, "", -1, offset)).await), None);
            }
            assert_eq!(offset_of(&client, &id).await, 19);
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert_eq!(bench.state.groups_with_offsets().unwrap().len(), 50);
}

#[tokio::test]
async fn joins_in_every_version() {
    let bench = Bench::new().await;
    let client = bench.client().await;
    let oldest = hawser_broker::advertised_apis().iter().find(|range| range.key == 11).unwrap().min;
    for version in oldest..=9 {
        let id = format!("g{version}");
        let mut member = StrBytes::default();
        if version >= 4 {
            let knock = at(&client, version, &join(&id, "")).await;
            assert_eq!(knock.error_code, ResponseError::MemberIdRequired.code());
            member = knock.member_id;
        }
        let joined = at(&client, version, &join(&id, &member)).await;
        assert_eq!((joined.error_code, joined.members.len(), joined.generation_id), (0, 1, 1), "version {version}");
        if version >= 7 {
            assert_eq!(joined.protocol_type.as_ref().unwrap().as_str(), "consumer");
        }
    }
    let short = join("short", "").with_session_timeout_ms(1);
    assert_eq!(call(&client, &short).await.error_code, ResponseError::InvalidSessionTimeout.code());
    assert_eq!(call(&client, &join("", "")).await.error_code, ResponseError::InvalidGroupId.code());
}
