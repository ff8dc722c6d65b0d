//! Commands are heard between any two writes, also while a mirror catches up: then the next answer is always there before
//! a write ends, and nothing would make the fetcher look up.

use bytes::Bytes;
use hawser_replicate::{MirrorSpec, ReplicateConfig, Replicator, Start};
use hawser_store::{FakeStore, TopicSpec};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{ClientOptions, ClientSecurity, Direct, HostPort, Listener, ServerSecurity};
use hawser_wire::{Offset, TopicPartition, Uuid};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
/// A write takes longer than an answer, and all of them longer than anybody should wait.
const WRITE: Duration = Duration::from_millis(40);
const BATCHES: u64 = 500;

fn mirror(topic: &str, id: u128) -> MirrorSpec {
    let topic = TopicSpec { name: topic.into(), id: Uuid::from_u128(id) };
    MirrorSpec {
        source_topic: topic.name.clone(),
        topic,
        source_topic_id: None,
        partitions: 0,
        start: Start::Earliest,
        started: [].into(),
        paused: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_catches_up_is_removed_at_once_and_lets_others_begin() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ServerSecurity::plaintext()).await.unwrap();
    let source = FakeSource::start(vec![listener]);
    let batch: Bytes = BatchBuilder::at(0).records(20, 1_000).build();
    for topic in ["long", "late"] {
        source.create(topic, 1);
    }
    source.append_repeated("long", 0, batch.clone(), BATCHES);
    source.append_repeated("late", 0, batch, 1);
    let mut config = ReplicateConfig::with_defaults("test");
    (config.bounds.response_bytes_max, config.bounds.partition_bytes_max) = (22_000, 22_000); // a batch an answer
    let at = source.addresses()[0];
    let bootstrap = vec![HostPort::new(at.ip().to_string(), at.port())];
    let direct = Direct::new(ClientSecurity::plaintext(), bootstrap, ClientOptions::default(), PATIENCE);
    let (appends, mut seen) = watch::channel(0);
    let store = FakeStore::new();
    store.before_appends(move || {
        let appends = appends.clone();
        async move {
            tokio::time::sleep(WRITE).await;
            appends.send_modify(|n| *n += 1);
        }
    });
    let (replicator, mut events) = Replicator::spawn(config, Arc::new(store.clone()), Arc::new(direct));
    tokio::spawn(async move { while events.recv().await.is_some() {} });

    replicator.add_mirror(mirror("long", 5)).await.unwrap();
    timeout(PATIENCE, seen.wait_for(|n| *n >= 5)).await.expect("it catches up").unwrap();
    // Its questions are put and answered, and its first batch comes, while the other is far from its end.
    replicator.add_mirror(mirror("late", 6)).await.unwrap();
    let late = TopicPartition::new("late", 0);
    while store.position(&late).is_none_or(|at| at.log_end == Offset(0)) {
        timeout(PATIENCE, seen.changed()).await.expect("it catches up").unwrap();
    }
    timeout(PATIENCE, replicator.remove(&["long"])).await.expect("heard").unwrap();
    let written = *seen.borrow();
    assert!(written < BATCHES, "the whole log was written before anything else was heard: {written}");
    replicator.stop().await;
    assert!(*seen.borrow() <= written + 1, "written after the removal");
}
