//! The engine and the embedded store over a disk that fails: full, unwritable, or unable to sync. The partitions that are met
//! say why they wait, the others go on, nothing that was flushed is lost, and once the disk is well all of it is there,
//! though the source has nothing new to say.

use bytes::Bytes;
use hawser_log::disk::{Act, Disk, Faults, Verdict};
use hawser_log::{LogConfig, Logs, PartitionLog, Status};
use hawser_replicate::{MirrorSpec, PartitionStatus, ReplicateConfig, Replicator, TroubleKind};
use hawser_store::conformance::Inspect;
use hawser_store::{EmbeddedStore, TopicSpec};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{ClientOptions, ClientSecurity, Direct, HostPort};
use hawser_wire::{Offset, TopicPartition, Uuid};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const OFTEN: Option<Duration> = Some(Duration::from_millis(5));
/// Records a batch, and what the source gets each time.
const RECORDS: i64 = 10;
const BATCHES: i64 = 20;

/// What a disk refuses, and with which error.
#[derive(Clone, Copy)]
struct Illness {
    refuses: fn(Act, &Path) -> bool,
    /// `ENOSPC` or `EIO`.
    number: i32,
}

/// The first partition of "t", while it is full.
const FULL: Illness =
    Illness { refuses: |act, path| is_first(path) && matches!(act, Act::Write(_) | Act::Name), number: 28 };
/// Its files cannot be written.
const UNWRITABLE: Illness = Illness { refuses: |act, path| is_first(path) && matches!(act, Act::Write(_)), number: 5 };
/// Nor synced.
const UNSYNCED: Illness =
    Illness { refuses: |act, path| is_first(path) && act == Act::Sync && is_log(path), number: 5 };
/// Nothing at all can be synced.
const ALL_UNSYNCED: Illness = Illness { refuses: |act, _| matches!(act, Act::Sync | Act::SyncFileSystem), number: 5 };

fn is_first(path: &Path) -> bool {
    path.ends_with("t-0") || path.parent().is_some_and(|folder| folder.ends_with("t-0"))
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "log")
}

/// A disk that is ill at times.
#[derive(Default)]
struct Patient(Mutex<Option<Illness>>);

impl Patient {
    fn falls_ill(&self, illness: Illness) {
        *self.0.lock().expect("not poisoned") = Some(illness);
    }

    fn recovers(&self) {
        *self.0.lock().expect("not poisoned") = None;
    }
}

impl Faults for Patient {
    fn before(&self, act: Act, path: &Path) -> Verdict {
        let illness = *self.0.lock().expect("not poisoned");
        match illness.filter(|illness| (illness.refuses)(act, path)) {
            Some(Illness { number, .. }) => match act {
                Act::Write(bytes) => Verdict::Short(bytes / 3, io::Error::from_raw_os_error(number)),
                _ => Verdict::Fail(io::Error::from_raw_os_error(number)),
            },
            None => Verdict::Proceed,
        }
    }
}

/// A source, a data directory on a disk of moods, and the engine between them.
struct Bed {
    source: FakeSource,
    disk: Arc<Patient>,
    root: tempfile::TempDir,
    store: EmbeddedStore,
    replicator: Replicator,
}

impl Bed {
    /// Which mirrors "t", of so many partitions, whole and flushed.
    async fn with(partitions: i32, segment_bytes: u64, flush_interval: Option<Duration>) -> Self {
        let bed = Self::new(segment_bytes, flush_interval).await;
        bed.source.create("t", partitions);
        (0..partitions).for_each(|partition| bed.produce("t", partition));
        bed.mirror("t").await;
        bed.equal("t", 0..partitions).await;
        for partition in 0..partitions {
            bed.log("t", partition).flush().expect("flushes");
        }
        bed
    }

    async fn new(segment_bytes: u64, flush_interval: Option<Duration>) -> Self {
        let source = FakeSource::local().await;
        let (disk, root) = (Arc::new(Patient::default()), tempfile::tempdir().expect("temporary folder"));
        let config = LogConfig { segment_bytes, flush_interval, ..LogConfig::default() };
        let logs = Logs::open_on(Disk::with_faults(disk.clone()), root.path(), config).expect("opens");
        let store = EmbeddedStore::new(Arc::new(logs));
        let mut config = ReplicateConfig::with_defaults("test");
        config.bounds.wait_ms_max = 50;
        config.patience.fetch_backoff = Duration::from_millis(20);
        config.metadata_age_max = Duration::from_millis(200);
        let bootstrap = source.addresses().iter().map(|at| HostPort::new(at.ip().to_string(), at.port())).collect();
        let direct = Direct::new(ClientSecurity::plaintext(), bootstrap, ClientOptions::default(), PATIENCE);
        let (replicator, mut events) = Replicator::spawn(config, Arc::new(store.clone()), Arc::new(direct));
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Self { source, disk, root, store, replicator }
    }

    fn produce(&self, topic: &str, partition: i32) {
        let (_, end) = self.source.bounds(topic, partition);
        let batches = (0..BATCHES).map(|n| {
            let base = end + n * RECORDS;
            BatchBuilder::at(base).timestamp(1_000 + base).records(RECORDS as usize, 100).build()
        });
        self.source.append(topic, partition, batches.flat_map(|batch| batch.to_vec()).collect::<Vec<_>>().into());
    }

    async fn mirror(&self, topic: &str) {
        let id = Uuid::from_u128(u128::from(topic.as_bytes()[0]));
        let spec = MirrorSpec::new(TopicSpec { name: topic.into(), id });
        self.replicator.add_mirror(spec).await.expect("runs");
    }

    fn log(&self, topic: &str, partition: i32) -> Arc<PartitionLog> {
        self.store.logs().partition(&TopicPartition::new(topic, partition)).expect("is there")
    }

    /// What consumers read.
    fn held(&self, topic: &str, partition: i32) -> Bytes {
        self.store.bytes(&TopicPartition::new(topic, partition))
    }

    fn shown(&self, topic: &str, partition: i32) -> Option<PartitionStatus> {
        let status = self.replicator.status();
        status.topics.iter().find(|status| &*status.topic == topic)?.partition(partition).cloned()
    }

    fn trouble(&self, topic: &str, partition: i32) -> Option<TroubleKind> {
        Some(self.shown(topic, partition)?.trouble?.kind)
    }

    async fn equal(&self, topic: &str, partitions: impl Iterator<Item = i32>) {
        for partition in partitions {
            let is_equal = || self.held(topic, partition) == self.source.bytes(topic, partition);
            until(&format!("{topic}-{partition} to be whole"), is_equal).await;
        }
    }

    /// The first partition of "t" waits, and says why; what of it was `promised` can be read.
    async fn waits(&self, promised: Offset) {
        until("the reason", || self.trouble("t", 0) == Some(TroubleKind::Store)).await;
        let (log, held, source) = (self.log("t", 0), self.held("t", 0), self.source.bytes("t", 0));
        assert!(log.watermarks().high_watermark >= promised, "{:?}, {promised} was promised", log.watermarks());
        assert!(held.len() < source.len() && source.starts_with(&held), "{} of {}", held.len(), source.len());
    }

    /// Everything is as if nothing had been, now and when it is read anew after a kill.
    async fn ends_well(self, topic: &str, partitions: i32) {
        self.equal(topic, 0..partitions).await;
        for partition in 0..partitions {
            let log = self.log(topic, partition);
            until("no trouble", || self.trouble(topic, partition).is_none()).await;
            until("it is online", || log.status() == Status::Online).await;
            log.flush().expect("flushes");
        }
        self.replicator.stop().await;
        let Self { source, root, store, .. } = self;
        drop(store);
        let opened = |_| Logs::open(root.path(), LogConfig::default()).ok();
        let logs = (0..).find_map(opened).expect("the lock is let go of");
        let store = EmbeddedStore::new(Arc::new(logs));
        for partition in 0..partitions {
            let id = TopicPartition::new(topic, partition);
            assert!(store.bytes(&id) == source.bytes(topic, partition), "{id} read anew");
        }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_cannot_be_written_waits_alone_and_goes_on() {
    for (illness, segment_bytes) in [(FULL, 1 << 20), (FULL, 3_000), (UNWRITABLE, 1 << 20), (UNWRITABLE, 3_000)] {
        let bed = Bed::with(2, segment_bytes, OFTEN).await;
        let promised = bed.log("t", 0).watermarks().log_end;
        bed.disk.falls_ill(illness);
        bed.produce("t", 0);
        bed.produce("t", 1);
        bed.waits(promised).await;
        let status = bed.log("t", 0).status();
        let Status::Failing(reason) = &status else { panic!("{status:?}") };
        assert!(reason.contains(&format!("os error {}", illness.number)), "{reason}");
        let detail = bed.shown("t", 0).and_then(|shown| shown.trouble).expect("is shown").detail;
        assert!(detail.contains(&format!("os error {}", illness.number)), "{detail}");
        bed.equal("t", 1..2).await;
        assert_eq!((bed.trouble("t", 1), bed.log("t", 1).status()), (None, Status::Online));
        bed.disk.recovers();
        bed.ends_well("t", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_flusher_lost_is_fetched_again() {
    for segment_bytes in [1 << 20, 3_000] {
        let bed = Bed::with(2, segment_bytes, OFTEN).await;
        let promised = bed.log("t", 0).watermarks().log_end;
        bed.disk.falls_ill(UNSYNCED);
        bed.produce("t", 0);
        bed.produce("t", 1);
        bed.waits(promised).await;
        let log = bed.log("t", 0);
        assert!(matches!(log.status(), Status::Offline(reason) if reason.contains("os error 5")), "{:?}", log.status());
        assert_eq!((log.watermarks().log_end, log.losses() > 0), (promised, true), "what was not flushed is given up");
        bed.equal("t", 1..2).await;
        assert_eq!((bed.trouble("t", 1), bed.log("t", 1).status()), (None, Status::Online));
        bed.disk.recovers();
        bed.ends_well("t", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_flush_on_demand_lost_is_fetched_again() {
    let bed = Bed::with(2, 1 << 20, None).await;
    let log = bed.log("t", 0);
    let promised = log.watermarks().log_end;
    bed.produce("t", 0);
    bed.equal("t", 0..1).await;
    bed.disk.falls_ill(UNSYNCED);
    log.flush().expect_err("the disk cannot sync");
    bed.waits(promised).await;
    assert!(matches!(log.status(), Status::Offline(_)), "{:?}", log.status());
    bed.disk.recovers();
    bed.ends_well("t", 2).await;
}

/// The source's new leader has less than the copy. The engine cuts it and flushes, and then there is nothing to fetch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_that_cannot_be_synced_is_made_good_though_nothing_comes() {
    let bed = Bed::with(2, 1 << 20, OFTEN).await;
    let log = bed.log("t", 0);
    bed.disk.falls_ill(UNSYNCED);
    bed.source.lead_uncleanly("t", 0, 1, 75);
    until("the reason", || matches!(log.status(), Status::Offline(why) if why.contains("os error 5"))).await;
    assert_eq!(bed.held("t", 0), bed.source.bytes("t", 0), "what both have can be read");
    bed.disk.recovers();
    until("it is online", || log.status() == Status::Online).await;
    bed.ends_well("t", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_syncs_nothing_meets_all_partitions_and_all_come_back() {
    const PARTITIONS: i32 = 70; // enough to be synced together
    let bed = Bed::with(PARTITIONS, 1 << 20, OFTEN).await;
    let promised: Vec<_> = (0..PARTITIONS).map(|partition| bed.log("t", partition).watermarks().log_end).collect();
    bed.disk.falls_ill(ALL_UNSYNCED);
    (0..PARTITIONS).for_each(|partition| bed.produce("t", partition));
    for (partition, promised) in (0..).zip(promised) {
        until("the reason", || bed.trouble("t", partition) == Some(TroubleKind::Store)).await;
        assert_eq!(bed.log("t", partition).watermarks().log_end, promised);
    }
    bed.disk.recovers();
    bed.ends_well("t", PARTITIONS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_made_while_the_disk_is_full_begins_when_there_is_space() {
    let bed = Bed::new(3_000, OFTEN).await;
    bed.source.create("t", 2);
    bed.produce("t", 0);
    bed.produce("t", 1);
    bed.disk.falls_ill(FULL);
    bed.mirror("t").await;
    until("the reason", || bed.trouble("t", 0) == Some(TroubleKind::Store)).await;
    bed.equal("t", 1..2).await;
    bed.disk.recovers();
    bed.ends_well("t", 2).await;
}
