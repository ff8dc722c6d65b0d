//! Both halves of a link over loopback, with a fake cluster behind the source half.

mod common;

use common::*;
use hawser_link::reversal::RefusalCode;
use hawser_outbound::{Cause, OutboundState};
use hawser_transport::{LeaseError, Target};
use hawser_wire::ApiKey;
use hawser_wire::messages::{DescribeClusterRequest, MetadataRequest};
use std::time::Duration;

#[tokio::test]
async fn a_leased_client_reaches_the_broker_behind_the_source_half() {
    let cluster = FakeCluster::new("ONPREM", 1000);
    let broker = cluster.broker(5, None).await;
    let other = cluster.broker(6, None).await;
    let destination = Destination::start(quick()).await;
    let source = Source::new(destination.address, broker.address).spawn();

    // The lease waits for the half to come.
    let client = destination.lease(node(5)).await.expect("lease");
    assert_eq!(fetch_node(&client).await, 5);
    assert_eq!(fetch_node(&destination.lease(node(6)).await.expect("lease")).await, 6);
    let any = destination.lease(Target::Any).await.expect("lease");
    let (_, described) = any.call(&DescribeClusterRequest::default(), 1, Duration::ZERO).await.expect("describe");
    assert_eq!(described.cluster_id.as_str(), "ONPREM");
    // What is not let through is not offered.
    assert!(client.versions(ApiKey::Produce as i16).is_none());
    assert_eq!(client.versions(ApiKey::Metadata as i16), Some((4, 13)));

    let status = source.status();
    assert_eq!(status.state, OutboundState::Open);
    assert_eq!(status.source_cluster_id.as_deref(), Some("ONPREM"));
    assert_eq!(status.destination_cluster_id.as_deref(), Some("CLOUD"));
    assert_eq!(status.link_id, Some(facts().link_id));
    assert!(status.bytes > 2000);
    assert_eq!(*destination.directory.pinned.lock().unwrap(), [(link().to_string(), "ONPREM".to_owned())]);
    let status = destination.inbound.status(&link()).expect("status");
    let [member] = status.members.as_slice() else { panic!("{status:?}") };
    let near: Vec<(i32, bool)> = member.nodes.iter().map(|n| (n.id.0, n.near)).collect();
    assert_eq!(near, [(5, true), (6, false)]);

    // A dropped client closes its channel on both sides.
    eventually("two channels", || source.status().channels_open == 2).await;
    drop((client, any));
    eventually("no channel", || source.status().channels_open == 0).await;
    source.stop(RefusalCode::Stopping).await;
    destination.members(0).await;
    drop(other);
}

#[tokio::test]
async fn a_lease_says_why_it_fails() {
    let cluster = FakeCluster::new("ONPREM", 10);
    let broker = cluster.broker(1, None).await;
    let mut options = quick();
    // A busy machine may take its time over a dial; only the lease below waits to the end.
    options.ask_next_after = Duration::from_secs(5);
    let destination = Destination::start(options).await;
    let facts = hawser_inbound::LinkFacts { lease_timeout: Duration::from_secs(2), ..facts() };
    destination.directory.links.lock().unwrap().insert(link().to_string(), facts);
    let error = destination.lease(node(1)).await.expect_err("nobody is there");
    assert!(matches!(&error, LeaseError::Unavailable(reason) if reason.contains("no source half")), "{error}");
    let _source = Source::new(destination.address, broker.address).spawn();
    destination.members(1).await;
    let error = destination.lease(node(77)).await.expect_err("no such broker");
    assert!(matches!(&error, LeaseError::Node { reason, .. } if reason.contains("no broker 77")), "{error}");
    let unknown = hawser_link::LinkName::new("other").unwrap();
    let error = destination.inbound.connector(&unknown).lease(Target::Any).await.expect_err("no such link");
    assert!(matches!(&error, LeaseError::Unavailable(reason) if reason.contains("no link")), "{error}");
    let metadata = destination.lease(Target::Any).await.expect("lease");
    let (_, answer) =
        metadata.call(&MetadataRequest::default().with_topics(None), 12, Duration::ZERO).await.expect("metadata");
    assert_eq!(answer.topics.len(), TOPICS.len());
}

#[tokio::test]
async fn a_half_with_new_settings_takes_over_without_a_gap() {
    let cluster = FakeCluster::new("ONPREM", 1000);
    let broker = cluster.broker(5, None).await;
    let destination = Destination::start(quick()).await;
    let settings = Source::new(destination.address, broker.address);
    let old = settings.spawn();
    let client = destination.lease(node(5)).await.expect("lease");
    assert_eq!(fetch_node(&client).await, 5);

    // The same member in the same life: what stands is not cut.
    let new = settings.spawn();
    eventually("the new half is open", || new.status().state == OutboundState::Open).await;
    let is_superseded = || old.status().cause == Some(Cause::Refused(RefusalCode::Superseded));
    eventually("the old half knows", is_superseded).await;
    assert_eq!(fetch_node(&client).await, 5);
    let other = destination.lease(node(5)).await.expect("lease");
    assert_eq!((old.status().channels_open, new.status().channels_open), (1, 1));

    old.retire().await;
    eventually("the old channel has closed", || client.is_closed()).await;
    assert_eq!(fetch_node(&other).await, 5);
    assert_eq!(fetch_node(&destination.lease(node(5)).await.expect("lease")).await, 5);
    destination.members(1).await;
    new.stop(RefusalCode::SourceHalfDeleted).await;
    destination.members(0).await;
    let parted = destination.inbound.status(&link()).and_then(|status| status.parted);
    assert_eq!(parted.map(|refusal| refusal.code), Some(RefusalCode::SourceHalfDeleted));
}
