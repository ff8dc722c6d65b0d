//! Receiving overlaps with writing: the next Fetch leaves before the answer to the last one is written, though a write
//! blocks its thread.

use bytes::Bytes;
use hawser_replicate::{MirrorSpec, ReplicateConfig, Replicator};
use hawser_store::{FakeStore, TopicSpec};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{ClientOptions, ClientSecurity, Direct, HostPort};
use hawser_wire::Uuid;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
const FETCH: i16 = 1;

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
    // Appends hold their thread until the source has been asked for more than it had been answered, and tell whether that
    // came about.
    let (store, appends) = (FakeStore::new(), AtomicU64::new(0));
    store.before_appends(move || {
        let append = appends.fetch_add(1, Ordering::Relaxed) + 1;
        let (source, overlapped) = (source.clone(), overlapped.clone());
        async move {
            let began = Instant::now();
            let is_asked = || source.requests(FETCH) > append;
            while !is_asked() && began.elapsed() < PATIENCE / 3 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = overlapped.send(is_asked());
        }
    });
    let (replicator, _events) = Replicator::spawn(config, Arc::new(store), Arc::new(direct));
    let topic = TopicSpec { name: "t".into(), id: Uuid::from_u128(5) };
    replicator.add_mirror(MirrorSpec::new(topic)).await.expect("runs");
    for append in 1..=3 {
        let overlapped = timeout(PATIENCE, told.recv()).await.expect("an append").expect("a store");
        assert!(overlapped, "append {append} had to end before the next Fetch left");
    }
    replicator.stop().await;
}
