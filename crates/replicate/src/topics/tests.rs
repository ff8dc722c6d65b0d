//! Every change of a topic's identity, size and leaders.

use super::*;
use hawser_wire::StrBytes;
use hawser_wire::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use hawser_wire::messages::{BrokerId, TopicName};

const RETRY: Duration = Duration::from_secs(300);
const ID: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

struct Table {
    topics: Topics,
    start: Instant,
}

fn answer(id: Uuid, leaders: &[i32]) -> MetadataResponseTopic {
    let partitions = leaders.iter().zip(0..).map(|(&leader, index)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(4)
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
        .with_topic_id(id)
        .with_partitions(partitions.collect())
}

fn refused(code: i16) -> MetadataResponseTopic {
    answer(Uuid::nil(), &[]).with_error_code(code)
}

impl Table {
    fn new(id: Option<Uuid>, partitions: i32) -> Self {
        let mut topics = Topics::new(RETRY);
        topics.add("t".into(), id, partitions);
        Self { topics, start: Instant::now() }
    }

    fn at(&mut self, seconds: u64, topic: MetadataResponseTopic) -> Vec<Change> {
        let asked = ["t".into()];
        let answer = MetadataResponse::default().with_topics(vec![topic]);
        self.topics.on(&asked, &answer, self.start + Duration::from_secs(seconds))
    }
}

fn leader(partition: i32, node: i32) -> Change {
    let leader = Leader { node: NodeId(node), epoch: LeaderEpoch(4) };
    Change::Leader { partition: TopicPartition::new("t", partition), leader }
}

fn failures(changes: &[Change]) -> Vec<Reason> {
    changes
        .iter()
        .filter_map(|change| match change {
            Change::Failed { failure, .. } => Some(failure.reason),
            _ => None,
        })
        .collect()
}

#[test]
fn a_new_topic_is_pinned_and_led() {
    let mut table = Table::new(None, 0);
    let changes = table.at(0, answer(ID, &[1, 2]));
    let expected = [
        Change::Pinned { topic: "t".into(), id: ID },
        Change::Grew { topic: "t".into(), from: 0, to: 2 },
        leader(0, 1),
        leader(1, 2),
    ];
    assert_eq!(changes, expected);
    assert!(!table.topics.has_stale());
}

#[test]
fn growth_is_reported_once() {
    let mut table = Table::new(Some(ID), 1);
    assert!(table.at(0, answer(ID, &[1, 1, 1])).contains(&Change::Grew { topic: "t".into(), from: 1, to: 3 }));
    assert_eq!(table.at(1, answer(ID, &[1, 1, 1])), [leader(0, 1), leader(1, 1), leader(2, 1)]);
}

#[test]
fn a_partition_without_a_leader_is_asked_for_again() {
    let mut table = Table::new(Some(ID), 2);
    assert_eq!(table.at(0, answer(ID, &[1, -1])), [leader(0, 1)]);
    assert_eq!(table.topics.to_ask(), ["t".into()]);
}

#[test]
fn a_missing_topic_is_retried_and_then_deleted() {
    let mut table = Table::new(Some(ID), 1);
    assert!(matches!(table.at(0, refused(3)).as_slice(), [Change::Unavailable { .. }]));
    assert_eq!(table.at(299, refused(3)), []);
    assert!(table.topics.has_stale());
    assert_eq!(failures(&table.at(300, refused(100))), [Reason::SourceTopicMayBeDeleted]);
    assert!(!table.topics.has_stale());
    assert_eq!(table.at(301, answer(ID, &[1])), [], "a dead end stays one");
}

#[test]
fn a_topic_that_may_not_be_read_is_available_once_it_may() {
    let mut table = Table::new(Some(ID), 1);
    assert_eq!(table.at(0, answer(ID, &[1])), [leader(0, 1)]);
    table.topics.mark_stale("t");
    assert!(matches!(table.at(1, refused(29)).as_slice(), [Change::Unavailable { .. }]));
    assert!(table.topics.has_stale());
    assert_eq!(table.at(1000, answer(ID, &[1])), [Change::Available { topic: "t".into() }, leader(0, 1)]);
    assert!(!table.topics.has_stale());
}

#[test]
fn a_topic_left_out_of_the_answer_is_missing() {
    let mut table = Table::new(Some(ID), 1);
    let nothing = MetadataResponse::default();
    let changes = table.topics.on(&["t".into()], &nothing, table.start);
    assert!(matches!(changes.as_slice(), [Change::Unavailable { .. }]));
}

#[test]
fn a_topic_that_comes_back_starts_a_new_grace() {
    let mut table = Table::new(Some(ID), 1);
    table.at(0, refused(3));
    assert_eq!(table.at(200, answer(ID, &[1])), [Change::Available { topic: "t".into() }, leader(0, 1)]);
    table.at(250, refused(3));
    assert_eq!(failures(&table.at(500, refused(3))), []);
    assert_eq!(failures(&table.at(550, refused(3))), [Reason::SourceTopicMayBeDeleted]);
}

#[test]
fn another_id_fails_once_confirmed_and_never_leads() {
    let mut table = Table::new(Some(ID), 1);
    assert!(matches!(table.at(0, answer(OTHER, &[1])).as_slice(), [Change::Unavailable { .. }]));
    assert_eq!(table.at(1, answer(OTHER, &[1])), []);
    assert_eq!(failures(&table.at(3, answer(OTHER, &[1]))), [Reason::SourceTopicIdChanged]);
}

#[test]
fn a_stale_broker_does_not_fail_a_topic() {
    let mut table = Table::new(Some(ID), 1);
    table.at(0, answer(OTHER, &[1]));
    table.at(2, answer(ID, &[1]));
    assert_eq!(failures(&table.at(4, answer(OTHER, &[1]))), []);
}

#[test]
fn fewer_partitions_fail_sooner_without_an_id() {
    for (id, confirm) in [(Uuid::nil(), 3), (ID, 300)] {
        let mut table = Table::new(Some(id), 3);
        table.at(0, answer(id, &[1, 1]));
        assert_eq!(failures(&table.at(confirm - 1, answer(id, &[1, 1]))), []);
        assert_eq!(failures(&table.at(confirm, answer(id, &[1, 1]))), [Reason::SourcePartitionsDecreased]);
    }
}

#[test]
fn refusals_are_reported_and_retried() {
    let mut table = Table::new(Some(ID), 1);
    for second in [0, 1000] {
        let changes = table.at(second, refused(29));
        assert!(matches!(changes.as_slice(), [Change::Unavailable { .. }]), "{changes:?}");
        assert!(table.topics.has_stale());
    }
}

#[test]
fn only_followed_topics_count() {
    let mut table = Table::new(Some(ID), 1);
    table.topics.remove("t");
    assert_eq!(table.at(0, answer(ID, &[1])), []);
    assert!(!table.topics.has_stale());
    table.topics.mark_stale("t");
    assert!(!table.topics.has_stale());
}
