//! A site policy below a running replication: what may not leave is shown with its reason, and costs its neighbours nothing.

mod common;

use bytes::Bytes;
use common::*;
use hawser_link::reversal::RefusalCode;
use hawser_replicate::{MirrorSpec, ReplicateConfig, Replicator, TopicState, TopicStatus, TroubleKind};
use hawser_store::conformance::Inspect;
use hawser_store::{FakeStore, TopicSpec};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_wire::{TopicPartition, Uuid};
use std::sync::Arc;
use std::time::Duration;

const ONLY_ORDERS: &str = r#"hawser.egress.topics.filters={"topicFilters":[{"name":"orders","patternType":"LITERAL","filterType":"INCLUDE"}]}
"#;
/// Refused requests while the allowed topic flows a hundred times: the waits between them double, so there are few in any
/// time, and fewer than one a round.
const REFUSED_MAX: u64 = 90;

/// A source cluster with two topics, and the replication of both over a reversed link.
struct Bed {
    fake: FakeSource,
    destination: Destination,
    store: FakeStore,
    replicator: Replicator,
}

impl Bed {
    async fn new() -> Self {
        let fake = FakeSource::start(vec![local_listener(None).await]);
        for topic in ["orders", "hr"] {
            fake.create(topic, 3);
        }
        let destination = Destination::start(quick()).await;
        let mut config = ReplicateConfig::with_defaults("test");
        config.patience.fetch_backoff = Duration::from_millis(100);
        let store = FakeStore::new();
        let connector = destination.inbound.connector(&link());
        let (replicator, mut events) = Replicator::spawn(config, Arc::new(store.clone()), connector);
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Self { fake, destination, store, replicator }
    }

    fn source(&self, epoch: i64, filters: &str) -> hawser_outbound::Outbound {
        let source = Source::new(self.destination.address, self.fake.addresses()[0]);
        Source { epoch, more: filters.to_owned(), ..source }.spawn()
    }

    async fn mirror(&self, topic: &str) {
        let topic = TopicSpec { name: topic.into(), id: Uuid::new_v4() };
        self.replicator.add_mirror(MirrorSpec::new(topic)).await.expect("runs");
    }

    /// Appends a batch to every partition of the topic.
    fn append(&self, topic: &str) {
        for partition in 0..3 {
            let (_, end) = self.fake.bounds(topic, partition);
            self.fake.append(topic, partition, BatchBuilder::at(end).records(10, 100).build());
        }
    }

    fn held(&self, topic: &str) -> Vec<Bytes> {
        (0..3).map(|partition| self.store.bytes(&TopicPartition::new(topic, partition))).collect()
    }

    async fn equal(&self, topic: &str) {
        let wanted: Vec<_> = (0..3).map(|partition| self.fake.bytes(topic, partition)).collect();
        eventually(topic, || self.held(topic) == wanted).await;
    }

    fn topic(&self, topic: &str) -> TopicStatus {
        let status = self.replicator.status();
        status.topics.into_iter().find(|status| &*status.topic == topic).expect("the mirror is known")
    }

    /// The topic and each of its partitions, as far as they are known, say that the source does not let us read it.
    async fn shown_as_denied(&self, topic: &str, partitions_known: usize) {
        eventually("the reason", || {
            let status = self.topic(topic);
            let denied = |kind| kind == TroubleKind::Unauthorized;
            let partitions = status.partitions.iter();
            let partitions: Vec<_> = partitions.map(|p| p.trouble.as_ref().is_some_and(|t| denied(t.kind))).collect();
            matches!(&status.state, TopicState::SourceUnavailable(detail) if detail.contains("uthoriz"))
                && partitions == vec![true; partitions_known]
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_never_let_out_shows_why() {
    let bed = Bed::new().await;
    let source = bed.source(1, ONLY_ORDERS);
    bed.append("orders");
    bed.append("hr");
    bed.mirror("orders").await;
    bed.mirror("hr").await;
    bed.equal("orders").await;
    bed.shown_as_denied("hr", 0).await;
    assert!(bed.held("hr").iter().all(Bytes::is_empty));
    // Metadata that names it counts as refused; whoever is told so asks for no more of it.
    let refused = source.status().refused_requests;
    assert!((1..=REFUSED_MAX).contains(&refused), "{refused} refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_withdrawn_stops_alone_and_goes_on_when_it_is_let_out_again() {
    let bed = Bed::new().await;
    let source = bed.source(1, "");
    for topic in ["orders", "hr"] {
        bed.append(topic);
        bed.mirror(topic).await;
        bed.equal(topic).await;
    }
    source.stop(RefusalCode::Stopping).await;
    let held = bed.held("hr");

    let source = bed.source(2, ONLY_ORDERS);
    bed.append("hr");
    bed.append("orders");
    bed.equal("orders").await;
    bed.shown_as_denied("hr", 3).await;
    for _ in 0..100 {
        bed.append("orders");
        bed.equal("orders").await;
    }
    let refused = source.status().refused_requests;
    assert!((1..=REFUSED_MAX).contains(&refused), "{refused} refused");
    assert_eq!(bed.held("hr"), held);
    assert!(matches!(bed.topic("orders").state, TopicState::Active));
    assert!(bed.topic("orders").partitions.iter().all(|p| p.trouble.is_none()));
    source.stop(RefusalCode::Stopping).await;

    let _source = bed.source(3, "");
    bed.equal("hr").await;
    eventually("available", || matches!(bed.topic("hr").state, TopicState::Active)).await;
    bed.append("orders");
    bed.equal("orders").await;
}
