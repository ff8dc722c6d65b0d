use super::*;
use hawser_log::LogConfig;
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{ClientOptions, ClientSecurity, Direct};
use hawser_wire::Batch;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A source with topic `t` of two partitions of 100 offsets each, and a log directory for its mirror.
struct Bed {
    source: FakeSource,
    logs: Arc<Logs>,
    topic: JobTopic,
    _dir: TempDir,
}

impl Bed {
    async fn new() -> Self {
        let source = FakeSource::local().await;
        let source_id = source.create("t", 2);
        (0..2).for_each(|partition| source.append("t", partition, batches(0)));
        let dir = tempfile::tempdir().unwrap();
        let logs = Arc::new(Logs::open(dir.path(), LogConfig::default()).unwrap());
        let names = ("m-t".to_owned(), "t".to_owned());
        let (follows, is_whole) = (true, true);
        let topic = JobTopic { mirror: names.0, source: names.1, source_id, partitions: 2, follows, is_whole };
        Self { source, logs, topic, _dir: dir }
    }

    /// Makes a partition of the mirror that holds the source's batches from `from` on.
    fn mirror(&self, partition: i32, from: i64) -> Arc<PartitionLog> {
        let log = self.logs.open_partition(&TopicPartition::new("m-t", partition), Uuid::from_u128(1)).unwrap();
        log.restart_at(Offset(from)).unwrap();
        let mut bytes = batches(from);
        while let Ok(batch) = Batch::split_off(&mut bytes) {
            log.append(&[batch]).unwrap();
        }
        log
    }

    /// Differences, the first of them, and what could not be compared.
    async fn verify(&self, topic: JobTopic) -> (u64, Option<String>, Vec<String>) {
        let bootstrap = vec![self.source.addresses()[0].to_string().parse().unwrap()];
        let source = Direct::new(ClientSecurity::plaintext(), bootstrap, ClientOptions::default(), LIMIT);
        let job = Job { source: Arc::new(source), logs: self.logs.clone(), topics: vec![topic], follow: false };
        let view = Arc::new(Mutex::new(VerifyView::default()));
        tokio::time::timeout(LIMIT, run(Arc::new(job), view.clone())).await.unwrap();
        let view = lock(&view).clone();
        assert!(view.finished && view.errors.is_empty(), "{view:?}");
        (view.differences, view.first_difference, view.not_comparable)
    }
}

/// Ten batches of ten records each from 0 on, without those below `from`.
fn batches(from: i64) -> bytes::Bytes {
    (0..10)
        .map(|n| n * 10)
        .filter(|base| *base >= from)
        .flat_map(|base| BatchBuilder::at(base).records(10, 20).build())
        .collect()
}

#[tokio::test]
async fn a_mirror_that_lacks_a_partition_differs() {
    let bed = Bed::new().await;
    bed.mirror(0, 0);
    bed.mirror(1, 0);
    assert_eq!(bed.verify(bed.topic.clone()).await, (0, None, vec![]));
    bed.source.grow("t", 3);
    let said = "m-t: the source has 3 partitions, the mirror has 2".to_owned();
    assert_eq!(bed.verify(bed.topic.clone()).await, (1, Some(said), vec![]));
    // One that has been promoted has partitions of its own.
    assert_eq!(bed.verify(JobTopic { follows: false, ..bed.topic.clone() }).await, (0, None, vec![]));
}

#[tokio::test]
async fn a_mirror_that_lacks_its_beginning_differs() {
    let bed = Bed::new().await;
    bed.mirror(0, 0);
    bed.mirror(1, 30);
    let said = "m-t-1: the source's log starts at offset 0, the mirror's at 30".to_owned();
    assert_eq!(bed.verify(bed.topic.clone()).await, (1, Some(said), vec![]));
    // One that began at the end, or with the source's log start of today, does not.
    assert_eq!(bed.verify(JobTopic { is_whole: false, ..bed.topic.clone() }).await, (0, None, vec![]));
    bed.source.trim("t", 1, 30);
    assert_eq!(bed.verify(bed.topic.clone()).await, (0, None, vec![]));
}

#[tokio::test]
async fn the_bounds_of_an_empty_partition_are_compared_too() {
    let bed = Bed::new().await;
    bed.mirror(0, 0);
    bed.mirror(1, 100);
    let said = "m-t-1: the source's log starts at offset 0, the mirror's at 100".to_owned();
    assert_eq!(bed.verify(bed.topic.clone()).await, (1, Some(said), vec![]));
}
