use super::*;
use hawser_log::LogConfig;
use hawser_state::{MirrorRecord, MirrorStatus};
use hawser_testkit::batches::BatchBuilder;
use hawser_wire::{Batch, Offset};
use std::collections::BTreeMap;

struct NoLinks;

impl Mirrors for NoLinks {
    fn end(&self, _: &TopicRecord) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn go_on(&self, _: &TopicRecord) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn copied_configs(&self, _: &TopicRecord) -> BTreeSet<&'static str> {
        ["cleanup.policy"].into()
    }
}

fn open(dir: &std::path::Path) -> (State, Arc<Logs>, Arc<Topics>) {
    let state = State::open(&dir.join("state")).unwrap();
    let logs = Arc::new(Logs::open(&dir.join("logs"), LogConfig::default()).unwrap());
    let config = BrokerConfig { num_partitions: 3, ..BrokerConfig::default() };
    let topics = Topics::open(state.clone(), Arc::clone(&logs), Arc::new(NoLinks), &config);
    (state, logs, topics)
}

fn new(name: &str, layout: Layout) -> NewTopic {
    NewTopic { name: name.to_owned(), layout, configs: BTreeMap::new(), mirror: None }
}

#[tokio::test]
async fn every_rule_of_creation_has_its_code() {
    use ResponseError::{
        InvalidConfig, InvalidPartitions, InvalidReplicaAssignment, InvalidReplicationFactor, InvalidRequest,
        InvalidTopicException, PolicyViolation, TopicAlreadyExists,
    };
    let dir = tempfile::tempdir().unwrap();
    let (state, logs, topics) = open(dir.path());
    topics.create(new("a.b", Layout::count(2)), false).await.unwrap();
    let count = |partitions, replication_factor| Layout::Count { partitions, replication_factor };
    let assigned = |assigned: &[(i32, &[i32])]| {
        Layout::Assigned(assigned.iter().map(|(partition, nodes)| (*partition, nodes.to_vec())).collect())
    };
    let table = [
        ("a.b", count(1, 1), Err((TopicAlreadyExists, "Topic 'a.b' already exists."))),
        ("a_b", count(1, 1), Err((InvalidTopicException, "collides with existing topic: a.b"))),
        ("no/slash", count(1, 1), Err((InvalidTopicException, "Topic name is invalid"))),
        ("__cluster_metadata", count(1, 1), Err((InvalidRequest, "prohibited"))),
        ("t", count(0, 1), Err((InvalidPartitions, "invalid non-positive"))),
        ("t", count(-2, 1), Err((InvalidPartitions, "invalid non-positive"))),
        ("t", count(1, 0), Err((InvalidReplicationFactor, "larger than 0"))),
        ("t", count(1, -2), Err((InvalidReplicationFactor, "larger than 0"))),
        ("t", count(1, 2), Err((InvalidReplicationFactor, "only 1 broker"))),
        ("t", count(10_001, 1), Err((PolicyViolation, "Excessively large"))),
        ("t", assigned(&[(0, &[1]), (0, &[1])]), Err((InvalidReplicaAssignment, "multiple manual"))),
        ("t", assigned(&[(0, &[])]), Err((InvalidReplicaAssignment, "empty replica list"))),
        ("t", assigned(&[(0, &[2])]), Err((InvalidReplicaAssignment, "broker 2"))),
        ("t", assigned(&[(0, &[1, 1])]), Err((InvalidReplicaAssignment, "more than once"))),
        ("t", assigned(&[(0, &[1]), (2, &[1])]), Err((InvalidReplicaAssignment, "consecutive"))),
        ("t", assigned(&[(1, &[1])]), Err((InvalidReplicaAssignment, "consecutive"))),
        ("t", assigned(&[(1, &[1]), (0, &[1])]), Ok(2)),
        ("t", count(-1, -1), Ok(3)),
        ("t", count(10_000, 1), Ok(10_000)),
    ];
    for (name, layout, expected) in table {
        let shown = format!("{name} {layout:?}");
        match (topics.create(new(name, layout), true).await, expected) {
            (Ok(record), Ok(partitions)) => assert_eq!(record.partitions, partitions, "{shown}"),
            (Err(error), Err((code, words))) => {
                assert_eq!(error.code, code, "{shown}: {error}");
                assert!(error.message.contains(words), "{shown}: {error}");
            }
            (found, expected) => panic!("{shown}: {found:?}, not {expected:?}"),
        }
    }
    let configs = BTreeMap::from([("retention.mss".to_owned(), "1".to_owned())]);
    let refused = topics.create(NewTopic { configs, ..new("t", Layout::count(1)) }, false).await.unwrap_err();
    assert_eq!(refused, ApiError::new(InvalidConfig, "Unknown topic config name: retention.mss"));
    assert!(state.topic("t").is_none(), "only validated or refused");
    assert_eq!(logs.partitions().len(), 2);
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let (state, logs, topics) = open(dir.path());
    let first = topics.create(new("t", Layout::count(2)), false).await.unwrap();
    topics.delete(first.id).await.unwrap();
    assert!(state.topic("t").is_none() && logs.partitions().is_empty());
    assert_eq!(topics.delete(first.id).await.unwrap_err().code, ResponseError::UnknownTopicId);
    let second = topics.create(new("t", Layout::count(1)), false).await.unwrap();
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn what_a_crash_left_undone_is_done_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let of_deleted = TopicPartition::new("t", 0);
    {
        let (state, logs, _topics) = open(dir.path());
        // The logs of one topic were not deleted, those of another not made.
        logs.open_partition(&of_deleted, Uuid::from_u128(1)).unwrap();
        let record = NewTopic { configs: [].into(), ..new("half", Layout::count(2)) };
        let defaults = TopicDefaults { node_id: NodeId(1), partitions: 1 };
        state.put_topic(record.check(&defaults, logs.config(), &[]).unwrap()).unwrap();
        logs.close().unwrap();
    }
    let (_state, logs, topics) = open(dir.path());
    assert!(logs.partition(&TopicPartition::new("half", 1)).is_some());
    let record = topics.create(new("t", Layout::count(1)), false).await.unwrap();
    assert_eq!(logs.topic_id(&of_deleted), Some(record.id));
}

/// A mirror of `partitions` that was stopped with as many as `stopped_at` lists; and a log of partition 1, in which producer
/// 90 had begun a transaction.
fn stopped(state: &State, logs: &Logs, partitions: i32, stopped_at: &[i64]) {
    let mut mirror = MirrorRecord::new("l", "t", Uuid::from_u128(3), 0);
    (mirror.status, mirror.stopped_at) = (MirrorStatus::Stopped, stopped_at.to_vec());
    let id = Uuid::from_u128(2);
    let topic = TopicRecord { name: "t".to_owned(), id, partitions, configs: BTreeMap::new(), mirror: Some(mirror) };
    state.put_topic(topic).unwrap();
    let log = logs.open_partition(&TopicPartition::new("t", 1), id).unwrap();
    let mut mirrored = BatchBuilder::at(0).epoch(7).transactional(90, 0, 0).records(3, 10).build();
    log.append(&[Batch::split_off(&mut mirrored).unwrap()]).unwrap();
}

#[tokio::test]
async fn a_partition_that_a_stopped_mirror_does_not_list_is_promoted_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (state, logs, _topics) = open(dir.path());
        stopped(&state, &logs, 2, &[0]);
        logs.close().unwrap();
    }
    for start in 0..2 {
        let (state, logs, topics) = open(dir.path());
        let log = logs.partition(&TopicPartition::new("t", 1)).unwrap();
        let at = log.watermarks();
        assert_eq!((at.log_end, at.last_stable), (Offset(4), Offset(4)), "the transaction was aborted, once");
        assert!(log.leads().is_some_and(|epoch| epoch.0 == 8 + start), "{:?}", log.leads());
        assert_eq!(state.topic("t").unwrap().mirror.as_ref().unwrap().stopped_at, [0, 3]);
        assert!(topics.producer_ids().next().await.unwrap() > 90);
        logs.close().unwrap();
    }
}

#[tokio::test]
async fn a_partition_added_to_a_stopped_mirror_holds_nothing_that_was_mirrored() {
    let dir = tempfile::tempdir().unwrap();
    let (state, logs, topics) = open(dir.path());
    stopped(&state, &logs, 1, &[0]); // its source had grown, and it was stopped before that was written down
    topics.add_partitions("t", 2, None, false).await.unwrap();
    let log = logs.partition(&TopicPartition::new("t", 1)).unwrap();
    assert_eq!((log.watermarks().log_end, log.largest_producer_id()), (Offset(0), -1));
    assert!(log.leads().is_some());
    assert_eq!(state.topic("t").unwrap().mirror.as_ref().unwrap().stopped_at, [0, 0]);
}
