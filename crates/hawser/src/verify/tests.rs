use super::*;
use crate::operations::BehindView;
use hawser_log::{LogConfig, PartitionLog};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{ClientOptions, ClientSecurity, Direct};
use hawser_wire::{Batch, Uuid};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
/// Nothing is waited for, or only what is sure to come.
const NONE: Duration = Duration::ZERO;

/// A source with topic `t` of two partitions of 100 offsets each, and a log directory for its mirror.
struct Bed {
    source: FakeSource,
    logs: Arc<Logs>,
    topic: TopicRecord,
    mirror: MirrorRecord,
    _dir: TempDir,
}

impl Bed {
    async fn new() -> Self {
        let source = FakeSource::local().await;
        let source_id = source.create("t", 2);
        (0..2).for_each(|partition| source.append("t", partition, batches(0..10)));
        let dir = tempfile::tempdir().unwrap();
        let logs = Arc::new(Logs::open(dir.path(), LogConfig::default()).unwrap());
        let mirror = MirrorRecord::new("l", "t", source_id, 0);
        let (name, id) = ("m-t".to_owned(), Uuid::from_u128(1));
        let topic = TopicRecord { name, id, partitions: 2, configs: BTreeMap::new(), mirror: Some(mirror.clone()) };
        Self { source, logs, topic, mirror, _dir: dir }
    }

    /// Makes a partition of the mirror that holds the source's batches `of`.
    fn mirror(&self, partition: i32, of: std::ops::Range<i64>) -> Arc<PartitionLog> {
        let log = self.logs.open_partition(&TopicPartition::new("m-t", partition), Uuid::from_u128(1)).unwrap();
        log.restart_at(Offset(of.start * 10)).unwrap();
        append(&log, of);
        log
    }

    fn job(&self, standing: Standing, patience: Duration) -> Job {
        let bootstrap = vec![self.source.addresses()[0].to_string().parse().unwrap()];
        let source = Direct::new(ClientSecurity::plaintext(), bootstrap, ClientOptions::default(), LIMIT);
        let topic = JobTopic { topic: Arc::new(self.topic.clone()), mirror: self.mirror.clone(), standing };
        let (source, logs) = (Arc::new(source), self.logs.clone());
        Job { source, logs, topics: vec![Arc::new(topic)], follow: false, patience }
    }

    async fn verify(&self, standing: Standing) -> VerifyView {
        let view = Arc::new(Mutex::new(VerifyView::default()));
        finish(tokio::spawn(run(Arc::new(self.job(standing, NONE)), view.clone())), &view).await
    }

    /// Begins a comparison, and waits until all that the mirror holds was compared.
    async fn compared(&self, offsets: u64) -> (JoinHandle<()>, Arc<Mutex<VerifyView>>) {
        let view = Arc::new(Mutex::new(VerifyView::default()));
        let running = tokio::spawn(run(Arc::new(self.job(Standing::Follows, Duration::from_secs(5))), view.clone()));
        while lock(&view).offsets_compared < offsets {
            sleep(Duration::from_millis(5)).await;
        }
        (running, view)
    }
}

async fn finish(running: JoinHandle<()>, view: &Mutex<VerifyView>) -> VerifyView {
    tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
    let view = lock(view).clone();
    assert!(view.finished && view.errors.is_empty() && view.offsets_left == 0, "{view:?}");
    view
}

fn append(log: &PartitionLog, of: std::ops::Range<i64>) {
    let mut bytes = batches(of);
    while let Ok(batch) = Batch::split_off(&mut bytes) {
        log.append(&[batch]).unwrap();
    }
}

/// Batches of ten records each, by number.
fn batches(of: std::ops::Range<i64>) -> bytes::Bytes {
    of.flat_map(|n| BatchBuilder::at(n * 10).records(10, 20).build()).collect()
}

/// In sync, or the one difference.
fn whole(view: &VerifyView) -> Result<(), String> {
    assert_eq!(view.partitions_behind, 0, "{view:?}");
    assert!(view.not_comparable.is_empty(), "{view:?}");
    assert!(view.differences > 0 || view.partitions_done == 2, "{view:?}");
    assert!(view.differences <= 1, "{view:?}");
    view.first_difference.clone().map_or(Ok(()), Err)
}

#[tokio::test]
async fn a_mirror_that_lacks_a_partition_differs() {
    let mut bed = Bed::new().await;
    bed.mirror(0, 0..10);
    bed.mirror(1, 0..10);
    assert_eq!(whole(&bed.verify(Standing::Follows).await), Ok(()));
    bed.source.grow("t", 3);
    let said = "m-t: the source has 3 partitions, the mirror has 2".to_owned();
    assert_eq!(whole(&bed.verify(Standing::Follows).await), Err(said));
    // One that has been promoted has partitions of its own.
    bed.mirror.stopped_at = vec![100, 100];
    assert_eq!(whole(&bed.verify(Standing::Stopped).await), Ok(()));
}

#[tokio::test]
async fn a_mirror_that_lacks_its_beginning_differs() {
    let bed = Bed::new().await;
    bed.mirror(0, 0..10);
    bed.mirror(1, 3..10);
    let said = "m-t-1: the source's log starts at offset 0, the mirror's at 30".to_owned();
    assert_eq!(whole(&bed.verify(Standing::Follows).await), Err(said));
    // One with the source's log start of today does not, nor one that began at the end.
    bed.source.trim("t", 1, 30);
    assert_eq!(whole(&bed.verify(Standing::Follows).await), Ok(()));
    let mut bed = Bed::new().await;
    bed.mirror(0, 0..10);
    bed.mirror(1, 3..10);
    bed.mirror.start_offset_spec = "latest".to_owned();
    assert_eq!(whole(&bed.verify(Standing::Follows).await), Ok(()));
}

#[tokio::test]
async fn the_bounds_of_an_empty_partition_are_compared_too() {
    let bed = Bed::new().await;
    bed.mirror(0, 0..10);
    bed.mirror(1, 10..10);
    let said = "m-t-1: the source's log starts at offset 0, the mirror's at 100".to_owned();
    assert_eq!(whole(&bed.verify(Standing::Follows).await), Err(said));
}

#[tokio::test]
async fn a_mirror_that_lacks_its_end_is_behind() {
    let bed = Bed::new().await;
    bed.mirror(0, 0..10);
    bed.mirror(1, 0..7);
    for (standing, reason) in
        [(Standing::Follows, "nothing arrived for 0 s"), (Standing::Rests("PAUSED"), "the mirror is PAUSED")]
    {
        let view = bed.verify(standing).await;
        assert_eq!((view.differences, view.batches, view.partitions_done), (0, 17, 1), "{view:?}");
        assert_eq!((view.partitions_behind, view.records_behind), (1, 30), "{view:?}");
        let behind = BehindView {
            mirror_topic_name: "m-t".to_owned(),
            partition: 1,
            log_end_offset: 70,
            source_end_offset: 100,
            records_behind: 30,
            reason: reason.to_owned(),
        };
        assert_eq!(view.behind, [behind]);
    }
}

#[tokio::test]
async fn a_mirror_that_catches_up_is_waited_for() {
    let bed = Bed::new().await;
    bed.mirror(0, 0..10);
    let late = bed.mirror(1, 0..7);
    let (running, view) = bed.compared(170).await;
    // What the source gets from now on need not come.
    bed.source.append("t", 1, batches(10..11));
    append(&late, 7..10);
    let view = finish(running, &view).await;
    assert_eq!(whole(&view), Ok(()));
    assert_eq!(view.batches, 20);
}

#[tokio::test]
async fn what_arrives_late_is_compared_too() {
    let bed = Bed::new().await;
    bed.mirror(0, 0..10);
    let late = bed.mirror(1, 0..7);
    let (running, view) = bed.compared(170).await;
    let mut other = BatchBuilder::at(70).records(30, 21).build();
    late.append(&[Batch::split_off(&mut other).unwrap()]).unwrap();
    let view = finish(running, &view).await;
    assert!(view.first_difference.is_some_and(|said| said.starts_with("m-t-1 at offset 70: the batches differ")));
}

#[tokio::test]
async fn what_the_source_lost_itself_is_not_missing() {
    let bed = Bed::new().await;
    bed.mirror(0, 0..10);
    bed.mirror(1, 0..7);
    let (running, view) = bed.compared(170).await;
    bed.source.lead_uncleanly("t", 1, 1, 70);
    assert_eq!(whole(&finish(running, &view).await), Ok(()));
}

/// An ordinary topic is compared with what was its source as far as it was a mirror.
#[tokio::test]
async fn what_a_stopped_mirror_was_given_since_is_its_own() {
    let mut bed = Bed::new().await;
    bed.mirror(0, 0..10);
    let own = bed.mirror(1, 0..7);
    let mut written_here = BatchBuilder::at(70).records(9, 33).build();
    own.append(&[Batch::split_off(&mut written_here).unwrap()]).unwrap();
    bed.mirror.stopped_at = vec![100, 70];
    let view = bed.verify(Standing::Stopped).await;
    assert_eq!(whole(&view), Ok(()));
    assert_eq!(view.batches, 17);
    bed.mirror.stopped_at = vec![110, 70];
    let said = "m-t-0: the log ends at 100; when the mirror was stopped it ended at 110".to_owned();
    assert_eq!(whole(&bed.verify(Standing::Stopped).await), Err(said));
}
