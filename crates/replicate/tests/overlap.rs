//! Receiving overlaps with writing: the next Fetch leaves before the answer to the last one is written, though a write
//! blocks its thread.

use bytes::Bytes;
use hawser_replicate::{MirrorSpec, ReplicateConfig, Replicator};
use hawser_store::{FakePartition, FakeStore, MirrorPartition, Position, Store, StoreError, TopicSpec};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{ClientOptions, ClientSecurity, Direct, HostPort};
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition, Uuid};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
const FETCH: i16 = 1;

/// A store whose appends hold their thread until the source has been asked for more than it had been answered.
struct Holding {
    store: FakeStore,
    source: Arc<FakeSource>,
    /// Told at every append whether that came about.
    overlapped: mpsc::UnboundedSender<bool>,
}

struct HoldingPartition {
    inner: FakePartition,
    source: Arc<FakeSource>,
    overlapped: mpsc::UnboundedSender<bool>,
    appends: u64,
}

impl Store for Holding {
    type Partition = HoldingPartition;

    async fn open(&self, topic: &TopicSpec, partition: i32) -> Result<HoldingPartition, StoreError> {
        let (source, overlapped) = (self.source.clone(), self.overlapped.clone());
        Ok(HoldingPartition { inner: self.store.open(topic, partition).await?, source, overlapped, appends: 0 })
    }
}

impl MirrorPartition for HoldingPartition {
    fn id(&self) -> &TopicPartition {
        self.inner.id()
    }
    fn position(&self) -> Position {
        self.inner.position()
    }
    fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.inner.end_of_epoch(epoch)
    }
    async fn append(&mut self, batches: &[Batch]) -> Result<Position, StoreError> {
        self.appends += 1;
        let began = Instant::now();
        let is_asked = || self.source.requests(FETCH) > self.appends;
        while !is_asked() && began.elapsed() < PATIENCE / 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.overlapped.send(is_asked());
        self.inner.append(batches).await
    }
    fn observe_high_watermark(&mut self, high_watermark: Offset) {
        self.inner.observe_high_watermark(high_watermark);
    }
    async fn truncate_to(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.inner.truncate_to(offset).await
    }
    async fn advance_log_start(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.inner.advance_log_start(offset).await
    }
    async fn restart_at(&mut self, offset: Offset) -> Result<Position, StoreError> {
        self.inner.restart_at(offset).await
    }
    async fn flush(&mut self) -> Result<Position, StoreError> {
        self.inner.flush().await
    }
}

#[test]
fn the_next_fetch_leaves_before_the_write() {
    // The source has threads of its own, as a blocked one of the replicator's may be the one that watches the sockets.
    let theirs = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let ours = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let source = Arc::new(theirs.block_on(FakeSource::local()));
    source.create("t", 1);
    let batch: Bytes = BatchBuilder::at(0).records(500, 1_000).build();
    source.append_repeated("t", 0, batch, 3);
    ours.block_on(mirrored(source));
}

async fn mirrored(source: Arc<FakeSource>) {
    let mut config = ReplicateConfig::with_defaults("test");
    config.bounds.response_bytes_max = 600_000; // a batch an answer
    let at = source.addresses()[0];
    let bootstrap = vec![HostPort::new(at.ip().to_string(), at.port())];
    let direct = Direct::new(ClientSecurity::plaintext(), bootstrap, ClientOptions::default(), PATIENCE);
    let (overlapped, mut told) = mpsc::unbounded_channel();
    let store = Holding { store: FakeStore::new(), source: source.clone(), overlapped };
    let (replicator, _events) = Replicator::spawn(config, Arc::new(store), Arc::new(direct));
    let topic = TopicSpec { name: "t".into(), id: Uuid::from_u128(5), configs: Default::default() };
    replicator.add_mirror(MirrorSpec::new(topic)).await.expect("runs");
    for append in 1..=3 {
        let overlapped = timeout(PATIENCE, told.recv()).await.expect("an append").expect("a store");
        assert!(overlapped, "append {append} had to end before the next Fetch left");
    }
    replicator.stop().await;
}
