//! The shell, against a source cluster on loopback sockets and a store in memory.

use bytes::Bytes;
use hawser_replicate::{
    MirrorEvent, MirrorSpec, Reason, ReplicateConfig, Replicator, Start, TopicState, TopicStatus, TroubleKind,
};
use hawser_store::{FakeStore, TopicSpec};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{
    ClientOptions, ClientSecurity, Connector, Direct, HostPort, KafkaClient, LeaseError, Listener, ServerSecurity,
    Target,
};
use hawser_wire::{Offset, TopicPartition, Uuid};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const FETCH: i16 = 1;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

/// Panics in the hands of the coordinator while it is armed.
struct Tripwire {
    direct: Direct,
    armed: Arc<AtomicBool>,
}

impl Connector for Tripwire {
    fn lease(&self, to: Target) -> Pin<Box<dyn Future<Output = Result<KafkaClient, LeaseError>> + Send + '_>> {
        assert!(to != Target::Any || !self.armed.swap(false, Ordering::Relaxed), "a wire was tripped");
        self.direct.lease(to)
    }
}

/// A source, a store and the replicator between them.
struct Bed {
    source: FakeSource,
    store: FakeStore,
    replicator: Replicator,
    events: mpsc::Receiver<MirrorEvent>,
}

impl Bed {
    async fn new(nodes: usize) -> Self {
        Self::with(nodes, |_| {}).await
    }

    async fn with(nodes: usize, adjust: impl FnOnce(&mut ReplicateConfig)) -> Self {
        Self::over(nodes, adjust, |direct| Arc::new(direct)).await
    }

    async fn over(
        nodes: usize,
        adjust: impl FnOnce(&mut ReplicateConfig),
        wrap: impl FnOnce(Direct) -> Arc<dyn Connector>,
    ) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            let any = "127.0.0.1:0".parse().expect("an address");
            listeners.push(Listener::bind(any, ServerSecurity::plaintext()).await.expect("binds"));
        }
        let source = FakeSource::start(listeners);
        let mut config = ReplicateConfig::with_defaults("test");
        config.bounds.wait_ms_max = 100;
        config.fetch_timeout = Duration::from_secs(2);
        config.patience.fetch_backoff = Duration::from_millis(100);
        config.patience.retry_backoff = Duration::from_millis(10);
        config.patience.retry_backoff_max = Duration::from_millis(100);
        config.reconnect_backoff = Duration::from_millis(10);
        config.reconnect_backoff_max = Duration::from_millis(100);
        config.metadata_age_max = Duration::from_millis(200);
        adjust(&mut config);
        let bootstrap = source.addresses().iter().map(|at| HostPort::new(at.ip().to_string(), at.port())).collect();
        let options = ClientOptions { request_timeout: Duration::from_secs(2), ..ClientOptions::default() };
        let direct = Direct::new(ClientSecurity::plaintext(), bootstrap, options, Duration::from_secs(2));
        let store = FakeStore::new();
        let (replicator, events) = Replicator::spawn(config, Arc::new(store.clone()), wrap(direct));
        Self { source, store, replicator, events }
    }

    async fn mirror(&self, topic: &str, start: Start) {
        self.mirror_again(topic, 0, start, &[]).await;
    }

    /// As after a restart, with what was kept.
    async fn mirror_again(&self, topic: &str, partitions: i32, start: Start, started: &[i32]) {
        let started = started.iter().copied().collect();
        let topic = TopicSpec { name: topic.into(), id: Uuid::from_u128(5) };
        let spec = MirrorSpec { partitions, start, started, ..MirrorSpec::new(topic) };
        self.replicator.add_mirror(spec).await.expect("runs");
    }

    fn topic(&self, topic: &str) -> TopicStatus {
        let status = self.replicator.status();
        status.topics.into_iter().find(|status| &*status.topic == topic).expect("the mirror is known")
    }

    fn held(&self, topic: &str, partition: i32) -> Bytes {
        use hawser_store::conformance::Inspect;
        self.store.bytes(&TopicPartition::new(topic, partition))
    }

    fn end(&self, topic: &str, partition: i32) -> i64 {
        self.store.position(&TopicPartition::new(topic, partition)).map_or(-1, |at| at.log_end.0)
    }

    /// Waits until the copies are whole, and compares their bytes.
    async fn equal(&self, topic: &str, partitions: i32) {
        for partition in 0..partitions {
            let (_, end) = self.source.bounds(topic, partition);
            until(&format!("{topic}-{partition} to reach {end}"), || self.end(topic, partition) == end).await;
            assert!(self.held(topic, partition) == self.source.bytes(topic, partition), "{topic}-{partition} differs");
        }
    }

    /// The next event that `pick` takes.
    async fn event<T>(&mut self, what: &str, mut pick: impl FnMut(MirrorEvent) -> Option<T>) -> T {
        let wanted = async {
            loop {
                let event = self.events.recv().await.expect("the replicator runs");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("no event: {what}"))
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wanted = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("waited too long for {what}"));
}

fn batches(from: i64, count: i64, epoch: i32) -> Bytes {
    let all = (from..from + count).map(|n| {
        let base = n * 10;
        BatchBuilder::at(base).epoch(epoch).timestamp(1_000 + base).records(10, 100).build()
    });
    all.flat_map(|batch| batch.to_vec()).collect::<Vec<_>>().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_what_is_there_and_what_comes() {
    let mut bed = Bed::new(2).await;
    let id = bed.source.create("t", 5);
    for partition in 0..4 {
        bed.source.append("t", partition, batches(0, 50, 0));
    }
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 5).await;
    let pinned = bed.event("pinned", |event| match event {
        MirrorEvent::Pinned { source_topic_id, .. } => Some(source_topic_id),
        _ => None,
    });
    assert_eq!(pinned.await, id);
    bed.event("started", |event| matches!(event, MirrorEvent::Started { .. }).then_some(())).await;
    for round in 0..5 {
        bed.source.append("t", 4, batches(round, 1, 0));
        bed.equal("t", 5).await;
    }
    assert_eq!(bed.topic("t").state, TopicState::Active);
    until("no lag", || bed.topic("t").partitions.iter().all(|p| p.lag_records == Some(0) && p.lag_ms == Some(0))).await;
    assert!(bed.topic("t").partitions.iter().all(|p| p.last_fetch_ms.is_some() && p.trouble.is_none()));
    assert_eq!(bed.topic("t").partitions.iter().map(|p| p.bytes).max(), Some(bed.held("t", 0).len() as u64));
    bed.replicator.stop().await;
    assert!(bed.replicator.pause("t").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_mirror_does_not_wait_for_the_long_poll_of_an_idle_one() {
    let bed = Bed::with(1, |config| (config.fetchers, config.bounds.wait_ms_max) = (1, 200_000)).await;
    for topic in ["idle", "a", "b"] {
        bed.source.create(topic, 3);
        for partition in 0..3 {
            bed.source.append(topic, partition, batches(0, 5, 0));
        }
    }
    let at = bed.source.addresses()[0];
    let at = HostPort::new(at.ip().to_string(), at.port());
    let stream = ClientSecurity::plaintext().dial(&at, PATIENCE).await.expect("connects");
    let client = KafkaClient::start(stream, ClientOptions::default()).await.expect("starts");
    bed.replicator.lend(client).await.expect("runs");
    bed.mirror("idle", Start::Earliest).await;
    bed.equal("idle", 3).await;
    // The connection lent for metadata, one that learnt the addresses, and one to the broker, which is greeted once more.
    assert_eq!(bed.source.requests(API_VERSIONS), 4);
    for topic in ["a", "b"] {
        bed.mirror(topic, Start::Earliest).await;
        bed.equal(topic, 3).await;
    }
    // Those that were waited for before are still waited for.
    for topic in ["idle", "a", "b"] {
        bed.source.append(topic, 1, batches(5, 1, 0));
        bed.equal(topic, 3).await;
    }
    assert!(bed.topic("idle").partitions.iter().all(|p| p.trouble.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_lost_of_an_idle_mirror_is_fetched_again() {
    let bed = Bed::new(1).await;
    bed.source.create("t", 2);
    for partition in 0..2 {
        bed.source.append("t", partition, batches(0, 10, 0));
    }
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 2).await;
    bed.store.lose_unflushed(|_| true);
    bed.equal("t", 2).await;
    let topic = bed.topic("t");
    assert!(topic.partitions.iter().all(|p| p.log_end == Offset(100) && p.lag_records == Some(0)), "{topic:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begins_where_it_is_told() {
    let bed = Bed::new(1).await;
    for (topic, start, expected) in [
        ("latest", Start::Latest, 100),
        ("earliest", Start::Earliest, 25),
        ("time", Start::Timestamp(1_070), 70),
        ("late", Start::Timestamp(99_999), 100),
    ] {
        bed.source.create(topic, 1);
        bed.source.append(topic, 0, batches(0, 10, 0));
        bed.source.trim(topic, 0, 25);
        bed.mirror(topic, start).await;
        until("the start", || bed.end(topic, 0) >= expected).await;
        bed.source.append(topic, 0, batches(10, 1, 0));
        until("the end", || bed.end(topic, 0) == 110).await;
        let position = bed.store.position(&TopicPartition::new(topic, 0)).expect("held");
        assert_eq!(position.log_start, Offset(expected), "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_generation_of_fetch_works_with_and_without_sessions() {
    for (version, sessions) in [(11, 1000), (12, 1000), (13, 1000), (17, 1000), (17, 0)] {
        let bed = Bed::new(2).await;
        bed.source.set_fetch_version_max(version);
        bed.source.set_sessions_max(sessions);
        bed.source.create("t", 3);
        for partition in 0..3 {
            bed.source.append("t", partition, batches(0, 5, 0));
        }
        bed.mirror("t", Start::Earliest).await;
        bed.equal("t", 3).await;
        bed.source.lead("t", 0, 2);
        bed.source.append("t", 0, batches(5, 5, 1));
        bed.equal("t", 3).await;
        bed.source.lead_uncleanly("t", 0, 1, 70);
        bed.source.append("t", 0, batches(7, 1, 2));
        until("the cut tail", || bed.end("t", 0) == 80).await;
        bed.equal("t", 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_tail_is_cut_and_told() {
    let mut bed = Bed::new(3).await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 20, 0));
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 1).await;
    bed.source.lead_uncleanly("t", 0, 3, 120);
    bed.source.append("t", 0, batches(12, 20, 1));
    let cut = bed.event("truncated", |event| match event {
        MirrorEvent::Truncated { from, to, .. } => Some((from, to)),
        _ => None,
    });
    assert_eq!(cut.await, (Offset(200), Offset(120)));
    bed.equal("t", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trimmed_source_leaves_a_gap_that_is_told() {
    let mut bed = Bed::new(1).await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 10, 0));
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 1).await;
    bed.replicator.pause("t").await.expect("runs");
    bed.source.append("t", 0, batches(10, 10, 0));
    bed.source.trim("t", 0, 155);
    assert_eq!(bed.topic("t").state, TopicState::Paused);
    bed.replicator.resume("t").await.expect("runs");
    let gap = bed.event("gap", |event| match event {
        MirrorEvent::Gap { from, to, .. } => Some((from, to)),
        _ => None,
    });
    assert_eq!(gap.await, (Offset(100), Offset(155)));
    until("the end", || bed.end("t", 0) == 200).await;
    assert_eq!(bed.held("t", 0), bed.source.bytes("t", 0), "from the batch that holds the log start");
    assert_eq!(bed.store.position(&TopicPartition::new("t", 0)).map(|at| at.log_start), Some(Offset(155)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_start_is_followed_while_idle() {
    let bed = Bed::new(1).await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 10, 0));
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 1).await;
    bed.source.trim("t", 0, 43);
    let id = TopicPartition::new("t", 0);
    until("the log start", || bed.store.position(&id).is_some_and(|at| at.log_start == Offset(43))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_partition_stops_nobody_else() {
    let bed = Bed::new(2).await;
    bed.source.create("t", 6);
    bed.source.fail("t", 0, Some(29));
    bed.source.corrupt("t", 2, true);
    for partition in 0..6 {
        bed.source.append("t", partition, batches(0, 10, 0));
    }
    bed.mirror("t", Start::Earliest).await;
    for partition in [1, 3, 4, 5] {
        until("the good ones", || bed.end("t", partition) == 100).await;
    }
    let trouble = |index: usize| bed.topic("t").partitions[index].trouble.as_ref().map(|trouble| trouble.kind);
    until("reasons", || trouble(0) == Some(TroubleKind::Unauthorized) && trouble(2) == Some(TroubleKind::Corrupt))
        .await;
    assert_eq!(bed.end("t", 2), 90, "batches before the corrupt one are kept");
    bed.source.fail("t", 0, None);
    bed.source.corrupt("t", 2, false);
    bed.equal("t", 6).await;
    until("no reasons", || (0..6).all(|index| trouble(index).is_none())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out() {
    let bed = Bed::new(1).await;
    bed.source.create("t", 2);
    bed.mirror("t", Start::Earliest).await;
    until("both open", || bed.topic("t").state == TopicState::Active).await;
    bed.store.fail_appends(Some(std::io::ErrorKind::StorageFull));
    bed.source.append("t", 0, batches(0, 10, 0));
    let trouble = || bed.topic("t").partitions[0].trouble.as_ref().map(|trouble| trouble.kind);
    until("the reason", || trouble() == Some(TroubleKind::Store)).await;
    bed.store.fail_appends(None);
    bed.equal("t", 2).await;
    until("no reason", || trouble().is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_and_sessions_are_made_again() {
    let bed = Bed::new(2).await;
    bed.source.create("t", 4);
    bed.mirror("t", Start::Earliest).await;
    for round in 0..6 {
        for partition in 0..4 {
            bed.source.append("t", partition, batches(round * 3, 3, 0));
        }
        match round % 3 {
            0 => bed.source.drop_connections(1),
            1 => bed.source.forget_sessions(2),
            _ => bed.source.drop_connections(2),
        }
        bed.equal("t", 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_for_its_answer_as_long_as_it_is_told() {
    let bed = Bed::with(1, |config| config.fetch_timeout = Duration::from_millis(200)).await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 5, 0));
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 1).await;
    bed.source.stall(1, true);
    // The client itself would wait for two seconds, and the broker may keep a fetch for 100 ms.
    until("the fetch is given up", || {
        let status = bed.topic("t");
        let trouble = status.partition(0).and_then(|partition| partition.trouble.as_ref());
        trouble.is_some_and(|trouble| trouble.to_string().contains("no answer to Fetch within 300ms"))
    })
    .await;
    bed.source.stall(1, false);
    bed.source.append("t", 0, batches(5, 5, 0));
    bed.equal("t", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_blocks_only_its_own_partitions() {
    let bed = Bed::new(2).await;
    bed.source.create("t", 2);
    bed.mirror("t", Start::Earliest).await;
    until("both open", || bed.topic("t").state == TopicState::Active).await;
    bed.source.stall(2, true);
    bed.source.append("t", 0, batches(0, 10, 0));
    bed.source.append("t", 1, batches(0, 10, 0));
    until("node 1's partition", || bed.end("t", 0) == 100).await;
    bed.source.lead("t", 1, 1);
    bed.source.append("t", 1, batches(10, 1, 1));
    bed.equal("t", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_partitions_are_mirrored_from_their_beginning() {
    let mut bed = Bed::new(1).await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 1, 0));
    bed.mirror("t", Start::Latest).await;
    bed.event("started", |event| matches!(event, MirrorEvent::Started { .. }).then_some(())).await;
    bed.source.grow("t", 3);
    bed.source.append("t", 2, batches(0, 7, 0));
    let grown = bed.event("grown", |event| match event {
        MirrorEvent::PartitionsGrew { from, to, .. } => Some((from, to)),
        _ => None,
    });
    assert_eq!(grown.await, (1, 3));
    until("the new one", || bed.end("t", 2) == 70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_partition_that_began_skips_nothing_after_a_restart() {
    const NOBODY: i32 = -1;
    let mut bed = Bed::new(1).await;
    bed.source.create("t", 2);
    bed.source.lead("t", 1, NOBODY);
    bed.mirror("t", Start::Latest).await;
    let began = bed.event("begun", |event| match event {
        MirrorEvent::PartitionStarted { partition, .. } => Some(partition),
        MirrorEvent::Started { .. } => panic!("partition 1 has no leader"),
        _ => None,
    });
    assert_eq!(began.await, 0);
    bed.replicator.remove(&["t"]).await.expect("runs");
    bed.source.append("t", 0, batches(0, 3, 0));
    bed.mirror_again("t", 2, Start::Latest, &[0]).await;
    bed.equal("t", 1).await;
    bed.source.append("t", 1, batches(0, 3, 0));
    bed.source.lead("t", 1, 1);
    bed.event("started", |event| matches!(event, MirrorEvent::Started { .. }).then_some(())).await;
    assert_eq!(bed.end("t", 1), 30, "the other one still begins at the latest offset");
    assert!(bed.held("t", 1).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_coordinator_is_shown_and_mended() {
    let armed = Arc::new(AtomicBool::new(false));
    let bed = Bed::over(1, |_| {}, |direct| Arc::new(Tripwire { direct, armed: armed.clone() })).await;
    bed.source.create("t", 1);
    bed.mirror("t", Start::Latest).await;
    until("active", || bed.topic("t").state == TopicState::Active).await;
    armed.store(true, Ordering::Relaxed);
    bed.source.drop_connections(1);
    until("the panic is shown", || {
        let unreachable = bed.replicator.unreachable();
        unreachable.is_some_and(|why| why.to_string() == "replication panicked: a wire was tripped")
    })
    .await;
    bed.source.append("t", 0, batches(0, 3, 0)); // the copy began before
    bed.source.create("u", 1);
    bed.source.append("u", 0, batches(0, 3, 0));
    bed.mirror("u", Start::Earliest).await;
    bed.equal("t", 1).await;
    bed.equal("u", 1).await;
    until("it is over", || bed.replicator.unreachable().is_none()).await;
    bed.replicator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_topic_fails_and_keeps_its_data() {
    let mut bed = Bed::new(1).await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 10, 0));
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 1).await;
    let held = bed.held("t", 0);
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 3, 0));
    let failed = bed.event("failed", |event| match event {
        MirrorEvent::Failed { failure, partition: None, .. } => Some(failure.reason),
        _ => None,
    });
    assert_eq!(failed.await, Reason::SourceTopicIdChanged);
    assert_eq!(bed.held("t", 0), held);
    assert!(matches!(bed.topic("t").state, TopicState::Failed(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_fails_after_its_grace() {
    let mut bed = Bed::with(1, |config| config.patience.retry_timeout = Duration::from_millis(500)).await;
    bed.source.create("t", 1);
    bed.source.create("u", 1);
    bed.mirror("t", Start::Earliest).await;
    bed.mirror("u", Start::Earliest).await;
    until("both", || bed.topic("t").state == TopicState::Active && bed.topic("u").state == TopicState::Active).await;
    bed.source.delete("t");
    bed.event("unavailable", |event| matches!(event, MirrorEvent::Unavailable { .. }).then_some(())).await;
    let failed = bed.event("failed", |event| match event {
        MirrorEvent::Failed { failure, topic, .. } => Some((failure.reason, topic.to_string())),
        _ => None,
    });
    assert_eq!(failed.await, (Reason::SourceTopicMayBeDeleted, "t".to_owned()));
    bed.source.append("u", 0, batches(0, 5, 0));
    bed.equal("u", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_mirror_is_left_alone() {
    let bed = Bed::new(1).await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 5, 0));
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 1).await;
    bed.replicator.remove(&["t"]).await.expect("runs");
    assert!(bed.replicator.status().topics.is_empty());
    bed.source.append("t", 0, batches(5, 5, 0));
    bed.source.create("u", 1);
    bed.source.append("u", 0, batches(0, 5, 0));
    bed.mirror("u", Start::Earliest).await;
    bed.equal("u", 1).await;
    assert_eq!(bed.end("t", 0), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_throttle_holds_the_rate() {
    let bed = Bed::with(1, |config| {
        config.bytes_per_second = Some(400_000);
        config.bounds.response_bytes_max = 20_000;
        config.bounds.partition_bytes_max = 20_000;
    });
    let bed = bed.await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 600, 0)); // 0.7 MB and more
    let begun = std::time::Instant::now();
    bed.mirror("t", Start::Earliest).await;
    bed.equal("t", 1).await;
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = bed.held("t", 0).len() as f64 / 1e6;
    assert!(seconds >= (megabytes - 0.4) / 0.4 * 0.9, "{megabytes} MB in {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_partitions_cost_one_poll_together() {
    let bed = Bed::with(1, |config| config.fetchers = 1).await;
    bed.source.create("t", 2_000);
    bed.mirror("t", Start::Earliest).await;
    until("all open", || bed.topic("t").state == TopicState::Active).await;
    let before = bed.source.requests(FETCH);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let polls = bed.source.requests(FETCH) - before;
    assert!((5..=15).contains(&polls), "{polls} polls of 100 ms in a second");
    bed.source.append("t", 1_999, batches(0, 1, 0));
    until("the one that is not idle", || bed.end("t", 1_999) == 10).await;
}

/// A way to the source that can be closed.
struct Gate {
    direct: Direct,
    closed: Arc<AtomicBool>,
}

impl Connector for Gate {
    fn lease(&self, to: Target) -> Pin<Box<dyn Future<Output = Result<KafkaClient, LeaseError>> + Send + '_>> {
        if self.closed.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(LeaseError::Unavailable("the gate is closed".into()))));
        }
        self.direct.lease(to)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_gone_is_noticed_without_mirrors() {
    let closed = Arc::new(AtomicBool::new(false));
    let often = |config: &mut ReplicateConfig| {
        config.availability_check = Some(Duration::from_millis(20));
        config.availability_failures_max = 3;
    };
    let bed = Bed::over(1, often, |direct| Arc::new(Gate { direct, closed: closed.clone() })).await;
    until("a probe", || bed.source.requests(METADATA) > 0).await;
    assert!(bed.replicator.unreachable().is_none());
    closed.store(true, Ordering::Relaxed);
    bed.source.drop_connections(1);
    until("it is noticed", || bed.replicator.unreachable().is_some_and(|why| why.to_string().contains("gate"))).await;
    closed.store(false, Ordering::Relaxed);
    until("it is back", || bed.replicator.unreachable().is_none()).await;
    bed.replicator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_says_once_which_cluster_it_is_and_no_other_is_mirrored() {
    let often = |config: &mut ReplicateConfig| config.availability_check = Some(Duration::from_millis(20));
    let mut bed = Bed::with(1, often).await;
    let told = |event| match event {
        MirrorEvent::SourceKnown { cluster_id } => Some(cluster_id),
        _ => None,
    };
    assert_eq!(bed.event("the cluster's id", told).await, "fake-source");
    bed.replicator.stop().await;

    let bed = Bed::with(1, |config| {
        often(config);
        config.source_cluster_id = Some("another".to_owned());
        config.availability_failures_max = 1;
    })
    .await;
    bed.source.create("t", 1);
    bed.source.append("t", 0, batches(0, 1, 0));
    bed.mirror("t", Start::Earliest).await;
    until("it is refused", || bed.replicator.unreachable().is_some()).await;
    let why = bed.replicator.unreachable().expect("refused").to_string();
    assert!(why.contains("fake-source") && why.contains("another"), "{why}");
    assert_eq!((bed.end("t", 0), bed.source.requests(FETCH)), (-1, 0), "nothing is fetched");
    bed.replicator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_settings_take_effect_and_cost_no_record() {
    let bed = Bed::new(1).await;
    bed.source.create("t", 2);
    bed.source.create("u", 1);
    bed.source.append("t", 0, batches(0, 10, 0));
    bed.mirror("t", Start::Latest).await;
    bed.mirror("u", Start::Earliest).await;
    until("active", || bed.topic("t").state == TopicState::Active).await;
    bed.replicator.pause("u").await.expect("runs");
    bed.source.append("t", 0, batches(10, 3, 0));
    let at = bed.source.addresses()[0];
    let bootstrap = vec![HostPort::new(at.ip().to_string(), at.port())];
    let options = ClientOptions { client_id: "anew".into(), ..ClientOptions::default() };
    let direct = Direct::new(ClientSecurity::plaintext(), bootstrap, options, Duration::from_secs(2));
    let mut config = ReplicateConfig::with_defaults("test");
    config.fetchers = 3;
    bed.replicator.configure(config, Arc::new(direct)).await.expect("runs");
    bed.source.append("t", 1, batches(0, 3, 0));
    until("it goes on", || bed.end("t", 1) == 30 && bed.end("t", 0) == 130).await;
    assert_eq!(bed.topic("u").state, TopicState::Paused);
    bed.replicator.stop().await;
}
