//! What goes wrong, and who is refused: each by name, each healed as far as it can be.

mod common;

use common::relay::Relay;
use common::*;
use hawser_inbound::{InboundOptions, LinkFacts};
use hawser_link::reversal::{
    ControlFrame, Incarnation, LinkOpen, MemberId, Node, OpenAnswer, Purpose, RefusalCode, Ticket,
};
use hawser_link::{Half, LinkName, Properties};
use hawser_outbound::OutboundState;
use hawser_transport::{ClientError, ClientSecurity, HostPort, LeaseError, RESPONSE_BYTES_MAX, Target};
use hawser_wire::api::{encode_request, encode_response};
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::create_acls_request::AclCreation;
use hawser_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, CreateAclsRequest, MetadataRequest};
use hawser_wire::{ApiKey, NodeId, RequestFrame, ResponseError, Uuid};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn reason_of(source: &hawser_outbound::Outbound, says: &str) {
    eventually(says, || source.status().reason.is_some_and(|reason| reason.contains(says))).await;
    assert_ne!(source.status().state, OutboundState::Open);
}

#[tokio::test]
async fn refusals_by_name() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let source = || Source::new(destination.address, broker.address);

    let other = Source { link: "other".to_owned(), ..source() }.spawn();
    reason_of(&other, "NoSuchLink").await;
    let stranger = Source { user: "nobody", ..source() }.spawn();
    reason_of(&stranger, "NotAuthorised").await;
    // A stranger does not even learn that a link exists.
    let nosy = Source { user: "nobody", link: "other".to_owned(), ..source() }.spawn();
    reason_of(&nosy, "NotAuthorised").await;
    let misled = Source { destination_cluster_id: Some("ELSEWHERE".to_owned()), ..source() }.spawn();
    reason_of(&misled, "WrongDestinationCluster").await;
    let intruder = Source { user: "intruder", ..source() }.spawn();
    reason_of(&intruder, "uthentication failed").await;
    {
        let mut links = destination.directory.links.lock().unwrap();
        links.insert("dials".to_owned(), LinkFacts { half: Half::DestinationOutbound, ..facts() });
        let bound = LinkFacts { source_cluster_id: Some("ANOTHER".to_owned()), ..facts() };
        links.insert("bound".to_owned(), bound);
    }
    let wrong_mode = Source { link: "dials".to_owned(), ..source() }.spawn();
    reason_of(&wrong_mode, "ModeMismatch").await;
    let foreign = Source { link: "bound".to_owned(), ..source() }.spawn();
    reason_of(&foreign, "WrongSourceCluster").await;

    // The link that was missing is made: the half that waits for it opens by itself.
    destination.directory.links.lock().unwrap().insert("other".to_owned(), facts());
    eventually("open", || other.status().state == OutboundState::Open).await;
}

#[tokio::test]
async fn an_older_life_of_a_member_is_fenced() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let old = Source { epoch: 3, ..Source::new(destination.address, broker.address) }.spawn();
    destination.members(1).await;
    let new = Source { epoch: 4, ..Source::new(destination.address, broker.address) }.spawn();
    eventually("open", || new.status().state == OutboundState::Open).await;
    reason_of(&old, "Superseded").await;
    let older = Source { epoch: 2, ..Source::new(destination.address, broker.address) }.spawn();
    reason_of(&older, "StaleMember").await;
    let status = destination.inbound.status(&link()).expect("status");
    assert_eq!(status.members.len(), 1);
    assert_eq!(status.members[0].incarnation.epoch, 4);
}

#[tokio::test]
async fn members_share_the_work_and_cover_for_each_other() {
    let cluster = FakeCluster::new("ONPREM", 10);
    let (one, two) = (cluster.broker(1, None).await, cluster.broker(2, None).await);
    let destination = Destination::start(quick()).await;
    let first = Source::new(destination.address, one.address).spawn();
    let second = Source { member: 2, ..Source::new(destination.address, two.address) }.spawn();
    destination.members(2).await;
    // Each broker is reached over the member beside it.
    let to_one = destination.lease(node(1)).await.expect("lease");
    let to_two = destination.lease(node(2)).await.expect("lease");
    eventually("a channel each", || first.status().channels_open == 1 && second.status().channels_open == 1).await;
    drop(first);
    let gone = tokio::time::timeout(Duration::from_secs(5), to_one.closed()).await;
    gone.expect("a client of the dead member ends");
    let again = destination.lease(node(1)).await.expect("the other member covers");
    assert_eq!(fetch_node(&again).await, 1);
    assert_eq!(fetch_node(&to_two).await, 2);
    assert_eq!(second.status().channels_open, 2);
}

#[tokio::test]
async fn a_destination_that_restarts_is_found_again() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let address = destination.address;
    let source = Source::new(address, broker.address).spawn();
    let client = destination.lease(node(1)).await.expect("lease");
    assert_eq!(fetch_node(&client).await, 1);
    destination.inbound.stop().await;
    drop((client, destination));
    let begun = Instant::now();
    let destination = Destination::start_at(address, quick(), Some("ONPREM")).await;
    let client = destination.lease(node(1)).await.expect("lease after restart");
    assert_eq!(fetch_node(&client).await, 1);
    assert!(begun.elapsed() < Duration::from_secs(3), "took {:?}", begun.elapsed());
    assert_eq!(source.status().state, OutboundState::Open);
}

#[tokio::test]
async fn half_open_connections_are_found_by_missing_beats() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let relay = Relay::to(destination.address).await;
    let source = Source::new(relay.address, broker.address).spawn();
    let client = destination.lease(node(1)).await.expect("lease");
    let before = destination.inbound.status(&link()).expect("status").members[0].incarnation;
    let begun = Instant::now();
    relay.forget_connections();
    // Both sides notice; the leased client ends although its socket never does.
    tokio::time::timeout(Duration::from_secs(3), client.closed()).await.expect("the channel is given up");
    eventually("a new connection", || {
        let status = destination.inbound.status(&link()).expect("status");
        status.members.iter().any(|m| m.incarnation > before)
    })
    .await;
    let client = destination.lease(node(1)).await.expect("lease");
    assert_eq!(fetch_node(&client).await, 1);
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    assert_eq!(source.status().state, OutboundState::Open);
}

#[tokio::test]
async fn the_local_login_never_crosses() {
    let broker = FakeCluster::new("ONPREM", 100).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let relay = Relay::to(destination.address).await;
    let _source = Source::new(relay.address, broker.address).spawn();
    let client = destination.lease(node(1)).await.expect("lease");
    assert_eq!(fetch_node(&client).await, 1);
    let captured = relay.captured();
    let holds = |what: &str| captured.windows(what.len()).any(|window| window == what.as_bytes());
    // The capture is of plain text and holds what it must hold …
    assert!(holds(LINK_PASSWORD) && holds("from-on-prem-link"));
    // … and nothing of the login to the source's broker: neither password, nor user, nor any SCRAM message.
    for secret in [LOCAL_PASSWORD, "SCRAM", "n,,n=", "n=mirror", ",r=", "c=biws"] {
        assert!(!holds(secret), "{secret} crossed");
    }
}

#[tokio::test]
async fn a_deleted_link_says_goodbye() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let source = Source::new(destination.address, broker.address).spawn();
    let client = destination.lease(node(1)).await.expect("lease");
    let mut watch = source.watch();
    destination.directory.links.lock().unwrap().clear();
    destination.inbound.end(&link(), RefusalCode::LinkDeleted);
    let told = watch.wait_for(|s| s.reason.as_ref().is_some_and(|r| r.contains("LinkDeleted")));
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("told in time").expect("told");
    client.closed().await;
    reason_of(&source, "NoSuchLink").await;
    assert_eq!(source.status().channels_open, 0);
}

#[tokio::test]
async fn the_local_session_is_renewed_between_two_frames() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, Some(Duration::from_millis(600))).await;
    let destination = Destination::start(quick()).await;
    let source = Source::new(destination.address, broker.address).spawn();
    let client = destination.lease(node(1)).await.expect("lease");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        assert_eq!(fetch_node(&client).await, 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!client.is_closed());
    assert_eq!(source.status().refused_requests, 0);
}

#[tokio::test]
async fn forbidden_requests_and_topics_are_refused_and_counted() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let filters = r#"hawser.egress.topics.filters={"topicFilters":[{"name":"orders","patternType":"LITERAL","filterType":"INCLUDE"}]}"#;
    let more = format!("{filters}\n");
    let source = Source { more, ..Source::new(destination.address, broker.address) }.spawn();
    let client = destination.lease(node(1)).await.expect("lease");
    let all = MetadataRequest::default().with_topics(None);
    let (_, metadata) = client.call(&all, 12, Duration::ZERO).await.expect("metadata");
    let names: Vec<_> = metadata.topics.iter().filter_map(|t| t.name.as_ref().map(|n| n.to_string())).collect();
    assert_eq!(names, ["orders"]);
    assert_eq!(fetch_node(&client).await, 1);
    assert_eq!(source.status().refused_requests, 0);
    let (_, secret) = client.call(&fetch_request(0xB), 16, Duration::ZERO).await.expect("answered");
    assert_eq!(secret.responses[0].partitions[0].error_code, ResponseError::TopicAuthorizationFailed.code());
    assert_eq!(source.status().refused_requests, 1);
    // InitProducerId, version 0: answered with CLUSTER_AUTHORIZATION_FAILED, and the channel lives on.
    let body = [0xff, 0xff, 0, 0, 0, 60].as_slice().to_vec();
    let answer =
        client.call_raw(ApiKey::InitProducerId as i16, 0, body.into(), Duration::ZERO).await.expect("answered");
    assert_eq!(answer.get(4..6), Some(31_i16.to_be_bytes().as_slice()));
    assert_eq!(source.status().refused_requests, 2);
    // So are two ACLs to be created, and none is.
    let body = CreateAclsRequest::default().with_creations(vec![AclCreation::default(); 2]);
    let frame = encode_request(1, 0, "", &body).expect("encodes");
    let body = RequestFrame::parse(frame.slice(4..)).expect("head").body;
    let answer = client.call_raw(ApiKey::CreateAcls as i16, 1, body, Duration::ZERO).await.expect("answered");
    assert_eq!(answer.get(4..10), Some([0, 0, 0, 2, 0, 31].as_slice()));
    assert_eq!(source.status().refused_requests, 3);
    // DeleteGroups has no such answer: the channel is closed.
    let closed = client.call_raw(ApiKey::DeleteGroups as i16, 0, vec![0, 0, 0, 0].into(), Duration::ZERO).await;
    assert!(closed.is_err());
    eventually("counted", || source.status().refused_requests == 4).await;
    let seen = broker.seen.lock().unwrap();
    let never = [ApiKey::InitProducerId, ApiKey::CreateAcls, ApiKey::DeleteGroups];
    assert!(never.iter().all(|key| !seen.contains(&(*key as i16))));
}

#[tokio::test]
async fn large_answers_pass() {
    let broker = FakeCluster::new("ONPREM", 10 << 20).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let _source = Source::new(destination.address, broker.address).spawn();
    let client = destination.lease(node(1)).await.expect("lease");
    for _ in 0..3 {
        assert_eq!(fetch(&client).await.len(), 10 << 20);
    }
}

/// A source half written by hand, to misbehave with.
async fn open_by_hand(
    destination: &Destination,
    purpose: Purpose,
    epoch: i64,
) -> (hawser_transport::Stream, OpenAnswer) {
    open_by_hand_as(9, destination, purpose, epoch).await
}

async fn open_by_hand_as(
    member: u128,
    destination: &Destination,
    purpose: Purpose,
    epoch: i64,
) -> (hawser_transport::Stream, OpenAnswer) {
    let text = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
         sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=link \
         password=\"{LINK_PASSWORD}\";\n"
    );
    let security = ClientSecurity::from_properties(&Properties::parse("x", &text)).expect("security");
    let at = HostPort { host: "127.0.0.1".to_owned(), port: destination.address.port() };
    let mut stream = security.dial(&at, Duration::from_secs(5)).await.expect("dial");
    let open = LinkOpen {
        link: LinkName::new("from-on-prem-link").unwrap(),
        source_cluster_id: "ONPREM".to_owned(),
        destination_cluster_id: None,
        member: MemberId(Uuid::from_u128(member)),
        incarnation: Incarnation { epoch, attempt: 1 },
        purpose,
    };
    stream.write_all(&open.encode(5, "by-hand")).await.expect("write");
    let length = stream.read_u32().await.expect("answer");
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.expect("answer");
    (stream, OpenAnswer::decode(&answer[4..]).expect("answer"))
}

fn refused(answer: &OpenAnswer) -> Option<RefusalCode> {
    match answer {
        OpenAnswer::Refused(refusal) => Some(refusal.code),
        OpenAnswer::Accepted(_) => None,
    }
}

/// The next ticket for broker 1 that comes over a control connection.
async fn ticket_for_one(control: &mut hawser_transport::Stream) -> Ticket {
    loop {
        let length = control.read_u32().await.expect("frame");
        let mut frame = vec![0; length as usize];
        control.read_exact(&mut frame).await.expect("frame");
        if let ControlFrame::LinkDial { tickets, node, .. } = ControlFrame::decode(&frame).expect("frame") {
            assert_eq!(node, Some(NodeId(1)));
            return tickets[0];
        }
    }
}

#[tokio::test]
async fn a_member_that_dies_after_its_ticket_holds_no_lease_up() {
    let mut options = quick();
    options.beats_missed_max = 20;
    let destination = Destination::start(options).await;
    // As in production: far longer than a dead member takes to be found.
    let patient = LinkFacts { request_timeout: Duration::from_secs(60), ..facts() };
    destination.directory.links.lock().unwrap().insert(link().to_string(), patient);
    let nodes = vec![Node { id: NodeId(1), near: true }];
    let (mut control, answer) = open_by_hand(&destination, Purpose::Control { nodes }, 1).await;
    assert_eq!(refused(&answer), None);
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let connector = destination.inbound.connector(&link());
    let held = tokio::spawn(async move { connector.lease(Target::Node(NodeId(1))).await });
    let ticket = ticket_for_one(&mut control).await;
    let (_silent, answer) = open_by_hand(&destination, Purpose::Channel { node: Some(NodeId(1)), ticket }, 1).await;
    assert_eq!(refused(&answer), None);
    // From here on the member is silent, its sockets open; the other one is there.
    let _other = Source { member: 2, ..Source::new(destination.address, broker.address) }.spawn();
    let begun = Instant::now();
    let failed = tokio::time::timeout(Duration::from_secs(20), held).await.expect("told in time").expect("no panic");
    let Err(LeaseError::Unavailable(reason)) = failed else { panic!("leased from a dead member") };
    assert!(reason.contains("the source half is gone"), "{reason}");
    let client = destination.lease(node(1)).await.expect("the other member covers");
    assert_eq!(fetch_node(&client).await, 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reversed_channel_takes_answers_as_large_as_a_dialled_one() {
    let mut options = quick();
    options.beats_missed_max = 200;
    let destination = Destination::start(options).await;
    let nodes = vec![Node { id: NodeId(1), near: true }];
    let (mut control, _) = open_by_hand(&destination, Purpose::Control { nodes }, 1).await;
    let connector = destination.inbound.connector(&link());
    let held = tokio::spawn(async move { connector.lease(Target::Node(NodeId(1))).await });
    let ticket = ticket_for_one(&mut control).await;
    let (mut channel, _) = open_by_hand(&destination, Purpose::Channel { node: Some(NodeId(1)), ticket }, 1).await;
    let asked = request_by_hand(&mut channel).await;
    let apis = ApiVersion::default().with_api_key(ApiKey::Metadata as i16).with_max_version(12);
    let apis = ApiVersionsResponse::default().with_api_keys(vec![apis]);
    let answer = encode_response::<ApiVersionsRequest>(asked.api_version, asked.correlation_id, &apis);
    channel.write_all(&answer.expect("encodes")).await.expect("write");
    let client = held.await.expect("no panic").expect("lease");
    let called = tokio::spawn(async move { client.call(&MetadataRequest::default(), 12, Duration::ZERO).await });
    request_by_hand(&mut channel).await;
    channel.write_u32(u32::try_from(RESPONSE_BYTES_MAX + 1).unwrap()).await.expect("write");
    let refused = called.await.expect("no panic").map(|_| ());
    let limited = matches!(refused, Err(ClientError::TooLarge { limit: RESPONSE_BYTES_MAX, .. }));
    assert!(limited, "{refused:?}");
}

async fn request_by_hand(channel: &mut hawser_transport::Stream) -> RequestFrame {
    let length = channel.read_u32().await.expect("request");
    let mut frame = vec![0; length as usize];
    channel.read_exact(&mut frame).await.expect("request");
    RequestFrame::parse(frame.into()).expect("request")
}

#[tokio::test]
async fn tickets_work_once_and_only_for_their_channel() {
    let mut options = quick();
    // Nobody beats by hand.
    options.beats_missed_max = 200;
    let destination = Destination::start(options).await;
    let nodes = vec![Node { id: NodeId(1), near: true }];
    let (mut control, answer) = open_by_hand(&destination, Purpose::Control { nodes }, 1).await;
    assert_eq!(refused(&answer), None);
    let connector = destination.inbound.connector(&link());
    let lease = tokio::spawn(async move { connector.lease(Target::Node(NodeId(1))).await.map(|_| ()) });
    let mut next_ticket = async || ticket_for_one(&mut control).await;
    let channel = |node, ticket| Purpose::Channel { node: Some(NodeId(node)), ticket };

    let (_, answer) = open_by_hand(&destination, channel(1, Ticket([3; 16])), 1).await;
    assert_eq!(refused(&answer), Some(RefusalCode::UnknownTicket));
    // For another broker than it was issued for: refused, and of no use afterwards.
    let first = next_ticket().await;
    let (_, answer) = open_by_hand(&destination, channel(2, first), 1).await;
    assert_eq!(refused(&answer), Some(RefusalCode::TicketMismatch));
    let (_, answer) = open_by_hand(&destination, channel(1, first), 1).await;
    assert_eq!(refused(&answer), Some(RefusalCode::ExpiredTicket));
    let second = next_ticket().await;
    assert_ne!(first, second);
    let (_stream, answer) = open_by_hand(&destination, channel(1, second), 1).await;
    assert_eq!(refused(&answer), None);
    let (_, answer) = open_by_hand(&destination, channel(1, second), 1).await;
    assert_eq!(refused(&answer), Some(RefusalCode::ReplayedTicket));
    lease.abort();
}

#[tokio::test]
async fn a_second_member_that_is_asked_takes_nothing_from_the_first() {
    let mut options = quick();
    options.beats_missed_max = 200;
    let destination = Destination::start(options).await;
    let patient = LinkFacts { lease_timeout: Duration::from_secs(60), ..facts() };
    destination.directory.links.lock().unwrap().insert(link().to_string(), patient);
    let control = |near| Purpose::Control { nodes: vec![Node { id: NodeId(1), near }] };
    let (mut near, answer) = open_by_hand_as(9, &destination, control(true), 1).await;
    assert_eq!(refused(&answer), None);
    let (mut far, answer) = open_by_hand_as(8, &destination, control(false), 1).await;
    assert_eq!(refused(&answer), None);
    let connector = destination.inbound.connector(&link());
    let lease = tokio::spawn(async move { connector.lease(Target::Node(NodeId(1))).await });
    let first = ticket_for_one(&mut near).await;
    // Comes only once the first has been waited for.
    let second = ticket_for_one(&mut far).await;
    let channel = |ticket| Purpose::Channel { node: Some(NodeId(1)), ticket };
    let (_stream, answer) = open_by_hand_as(9, &destination, channel(first), 1).await;
    assert_eq!(refused(&answer), None, "late, and the first that comes");
    let (_, answer) = open_by_hand_as(8, &destination, channel(second), 1).await;
    assert_eq!(refused(&answer), Some(RefusalCode::ExpiredTicket));
    lease.abort();
}

#[tokio::test]
async fn a_channel_opens_where_setting_it_up_takes_longer_than_the_next_member_is_left_alone() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    // A channel needs LinkDial, the login's round trips and LinkOpen, each way through the delay.
    let options = InboundOptions { beats_missed_max: 60, ask_next_after: Duration::from_secs(1), ..Default::default() };
    let destination = Destination::start(options).await;
    let patient =
        LinkFacts { lease_timeout: Duration::from_secs(60), request_timeout: Duration::from_secs(60), ..facts() };
    destination.directory.links.lock().unwrap().insert(link().to_string(), patient);
    let path = hawser_testkit::faults::Relay::start(destination.address).expect("relay");
    path.delay(Duration::from_millis(350));
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, path.port()));
    let _source = Source::new(to, broker.address).spawn();
    destination.members(1).await;
    let dialled = path.accepted();
    let client = destination.lease(node(1)).await.expect("lease");
    assert_eq!(fetch_node(&client).await, 1);
    assert_eq!(path.accepted() - dialled, 1, "one dial for one channel");
}

#[tokio::test]
async fn a_half_that_is_stopped_and_made_again_in_one_process_is_not_stale() {
    let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
    let destination = Destination::start(quick()).await;
    let description = Source::new(destination.address, broker.address);
    for _ in 0..3 {
        let source = description.spawn();
        destination.members(1).await;
        assert_eq!(fetch_node(&destination.lease(node(1)).await.expect("lease")).await, 1);
        source.stop(RefusalCode::SourceHalfDeleted).await;
        destination.members(0).await;
        let parted = destination.inbound.status(&link()).expect("status").parted.expect("a reason");
        assert_eq!(parted.code, RefusalCode::SourceHalfDeleted);
    }
}
