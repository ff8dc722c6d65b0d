//! From the repair of a path to flowing again in less than five seconds, with every default in force.

mod common;

use common::*;
use hawser_inbound::InboundOptions;
use hawser_outbound::{Outbound, OutboundState};
use hawser_testkit::faults::Relay;
use hawser_transport::{KafkaClient, Target};
use hawser_wire::NodeId;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What is promised.
const REPAIRED_TO_FLOWING_MAX: Duration = Duration::from_secs(5);

/// A link through a relay, flowing.
struct Bed {
    _broker: FakeBroker,
    destination: Destination,
    relay: Relay,
    source: Outbound,
    client: KafkaClient,
}

impl Bed {
    async fn flowing() -> Self {
        let broker = FakeCluster::new("ONPREM", 10).broker(1, None).await;
        let destination = Destination::start(InboundOptions::default()).await;
        let relay = Relay::start(destination.address).expect("relay");
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, relay.port()));
        // The catalogue's defaults, in place of what the other tests take.
        let more = "reconnect.backoff.ms=50\nreconnect.backoff.max.ms=1000\n".to_owned();
        let source = Source { more, ..Source::new(to, broker.address) }.spawn();
        let client = destination.lease(Target::Node(NodeId(1))).await.expect("lease");
        assert_eq!(fetch_node(&client).await, 1);
        Self { _broker: broker, destination, relay, source, client }
    }

    /// Has a fetch answered over a new channel, as replication would: it leases again until it gets one.
    async fn flows_again_since(&self, repaired: Instant) {
        self.client.closed().await;
        let client = loop {
            match self.destination.lease(Target::Node(NodeId(1))).await {
                Ok(client) => break client,
                Err(error) => {
                    assert!(repaired.elapsed() < REPAIRED_TO_FLOWING_MAX, "{error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        assert_eq!(fetch_node(&client).await, 1);
        let took = repaired.elapsed();
        assert!(took < REPAIRED_TO_FLOWING_MAX, "took {took:?}");
        println!("flowing {took:?} after the repair");
        eventually("open", || self.source.status().state == OutboundState::Open).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_are_replaced_in_time() {
    let bed = Bed::flowing().await;
    // The path itself works: whatever is dialled from now on passes. Neither end is told that the old is dead.
    bed.relay.freeze_all();
    bed.flows_again_since(Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_was_silent_for_long_is_used_in_time() {
    let bed = Bed::flowing().await;
    bed.relay.freeze_all();
    bed.relay.silence(true);
    // Both halves notice, and the source half dials into the silence.
    bed.client.closed().await;
    eventually("noticed", || bed.source.status().state != OutboundState::Open).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    bed.relay.silence(false);
    bed.flows_again_since(Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_refused_for_long_is_used_in_time() {
    let bed = Bed::flowing().await;
    bed.relay.refuse(true);
    bed.relay.reset_all();
    // Long enough for the wait between dials to have grown to its longest.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_ne!(bed.source.status().state, OutboundState::Open);
    bed.relay.refuse(false);
    bed.flows_again_since(Instant::now()).await;
}
