//! What a source may say that no honest one says.

use super::*;
use crate::partition::{Patience, Phase};
use hawser_wire::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse};
use std::time::Duration;

const BOUNDS: FetchBounds =
    FetchBounds { wait_ms_max: 500, bytes_min: 1, response_bytes_max: 1 << 20, partition_bytes_max: 1 << 20 };

/// A broker with one partition, which is to be fetched; its copy's position.
fn fetching(now: Instant) -> (Broker, TopicPartition, Uuid, Position) {
    let (id, topic_id) = (TopicPartition::new("t", 0), Uuid::from_u128(7));
    let pause = Duration::from_secs(1);
    let patience =
        Patience { retry_backoff: pause, retry_backoff_max: pause, fetch_backoff: pause, retry_timeout: pause };
    let mut broker = Broker::new(NodeId(1), BOUNDS, 0);
    broker.connected(FETCH_BY_ID);
    broker.assign(id.clone(), topic_id, Partition::new(Start::Earliest, patience), None, now);
    let end = Offset(10);
    let position = Position { log_start: Offset(0), log_end: end, flushed: end, last_epoch: LeaderEpoch(1) };
    assert!(broker.on(&id, Event::Opened(position), now).is_none());
    let leader = Leader { node: NodeId(1), epoch: LeaderEpoch(1) };
    assert!(broker.on(&id, Event::Leader(leader), now).is_none());
    (broker, id, topic_id, position)
}

/// An incremental answer names only partitions with news.
#[test]
fn a_trouble_is_over_once_the_source_has_nothing_to_say() {
    let now = Instant::now();
    let (mut broker, id, topic_id, position) = fetching(now);
    let answer = |partitions| {
        let topic = FetchableTopicResponse::default().with_topic_id(topic_id).with_partitions(partitions);
        FetchResponse::default().with_session_id(9).with_responses(vec![topic])
    };
    let idle = PartitionData::default().with_high_watermark(10).with_log_start_offset(0);
    broker.fetch_request().expect("a partition to fetch");
    assert_eq!(broker.fetched(answer(vec![idle]), &|_, _| None, now).len(), 1);
    broker.on(&id, Event::StoreFailed(position, io_error().into()), now);
    broker.fetch_request();
    broker.fetched(answer(Vec::new()), &|_, _| None, now);
    let is_troubled = |broker: &Broker| broker.partition(&id).is_some_and(|machine| machine.trouble().is_some());
    assert!(is_troubled(&broker), "it waits");
    broker.tick(broker.deadline().expect("it waits"));
    broker.fetch_request().expect("it is fetched again");
    broker.fetched(answer(Vec::new()), &|_, _| None, now);
    assert!(!is_troubled(&broker));
    assert_eq!(broker.take_reports().last(), Some(&(id.clone(), Report::Recovered)));
}

/// A session tells a log start that moved once; a partition that is back before the next request has not left it.
#[test]
fn news_that_were_not_written_are_told_anew() {
    let now = Instant::now();
    let (mut broker, id, topic_id, position) = fetching(now);
    let trimmed = PartitionData::default().with_high_watermark(10).with_log_start_offset(5);
    let topic = FetchableTopicResponse::default().with_topic_id(topic_id).with_partitions(vec![trimmed]);
    let answer = FetchResponse::default().with_session_id(9).with_responses(vec![topic]);
    broker.fetch_request().expect("a partition to fetch");
    for round in 0..3 {
        let writes = broker.fetched(answer.clone(), &|_, _| None, now);
        let [(_, write)] = &writes[..] else { panic!("{round}: {writes:?}") };
        assert_eq!((write.log_start, write.high_watermark), (Some(Offset(5)), Some(Offset(10))), "{round}");
        broker.on(&id, Event::StoreFailed(position, io_error().into()), now);
        broker.tick(broker.deadline().expect("it waits"));
        let request = broker.fetch_request().expect("it is fetched again");
        assert_eq!((request.session_id, request.session_epoch, request.topics.len()), (9, 0, 1), "{round}");
    }
}

/// What an answer says beside a diverging epoch is told once, too, and the cut comes before it.
#[test]
fn news_beside_a_diverging_epoch_are_told_anew() {
    let now = Instant::now();
    let (mut broker, id, topic_id, position) = fetching(now);
    let diverging = EpochEndOffset::default().with_epoch(1).with_end_offset(7);
    let data = PartitionData::default().with_high_watermark(7).with_log_start_offset(5).with_diverging_epoch(diverging);
    let topic = FetchableTopicResponse::default().with_topic_id(topic_id).with_partitions(vec![data]);
    let answer = FetchResponse::default().with_session_id(9).with_responses(vec![topic]);
    broker.fetch_request().expect("a partition to fetch");
    let ours = |_: &TopicPartition, epoch| Some((epoch, position.log_end));
    assert_eq!(broker.fetched(answer, &ours, now).len(), 1, "the cut");
    let cut = Position { log_end: Offset(7), flushed: Offset(7), ..position };
    broker.on(&id, Event::Stored(cut), now);
    let request = broker.fetch_request().expect("it goes on");
    assert_eq!((request.session_id, request.session_epoch, request.topics.len()), (9, 0, 1));
}

fn io_error() -> hawser_store::StoreError {
    hawser_store::StoreError::Io { what: "write".into(), source: std::io::ErrorKind::Other.into() }
}

/// A fetch would continue a session on another channel than its own, which the source half refuses and counts.
#[test]
fn a_lost_connection_takes_its_fetch_session_with_it() {
    let reconnect = |broker: &mut Broker| broker.connected(FETCH_BY_ID);
    for (name, lose) in [("reconnected", reconnect as fn(&mut Broker)), ("taken over", Broker::fetch_failed)] {
        let now = Instant::now();
        let (mut broker, ..) = fetching(now);
        broker.fetch_request().expect("a partition to fetch");
        broker.fetched(FetchResponse::default().with_session_id(9), &|_, _| None, now);
        let request = broker.fetch_request().expect("the session goes on");
        assert_eq!((request.session_id, request.session_epoch), (9, 1));
        lose(&mut broker);
        let request = broker.fetch_request().expect("a new session");
        assert_eq!((request.session_id, request.session_epoch, request.topics.len()), (0, 0, 1), "{name}");
    }
}

#[test]
fn a_partition_named_twice_in_one_answer_is_heard_once() {
    let now = Instant::now();
    let (mut broker, id, topic_id, position) = fetching(now);
    broker.fetch_request().expect("a partition to fetch");

    let entry = |high_watermark| PartitionData::default().with_high_watermark(high_watermark).with_log_start_offset(0);
    let topic = FetchableTopicResponse::default().with_topic_id(topic_id).with_partitions(vec![
        entry(10),
        entry(11),
        entry(12).with_error_code(1),
    ]);
    let answer = FetchResponse::default().with_session_id(9).with_responses(vec![topic]);
    let writes = broker.fetched(answer, &|_, _| None, now);
    let [(written, write)] = &writes[..] else { panic!("one write, not {writes:?}") };
    assert_eq!((written, write.high_watermark), (&id, Some(Offset(10))));

    assert!(broker.on(&id, Event::Stored(position), now).is_none());
    let machine = broker.partition(&id).expect("assigned");
    assert_eq!((machine.phase(), machine.source().high_watermark), (Phase::Fetching, Some(Offset(10))));
}

#[test]
fn what_was_lost_of_an_idle_copy_is_fetched_again() {
    let now = Instant::now();
    let (mut broker, id, topic_id, position) = fetching(now);
    let shorter = Position { log_end: Offset(4), flushed: Offset(4), ..position };
    let at = |position: Position| move |_: &TopicPartition| Some(position);
    assert_eq!(broker.look_for_losses(0, &at(shorter), now), [], "nothing was lost: nobody looks");
    assert_eq!(broker.look_for_losses(1, &at(position), now), [], "of another's copy");
    assert_eq!(broker.look_for_losses(2, &at(shorter), now), std::slice::from_ref(&id));
    let machine = broker.partition(&id).expect("assigned");
    assert_eq!((machine.phase(), machine.position().log_end), (Phase::Waiting, Offset(4)));
    assert!(machine.trouble().is_some_and(|trouble| trouble.detail.contains("is lost")), "{:?}", machine.trouble());
    broker.tick(broker.deadline().expect("it waits"));
    let fetches = |broker: &Broker| match broker.partition(&id).map(Partition::want) {
        Some(Want::Fetch(at)) => Some(at.offset),
        _ => None,
    };
    assert_eq!(fetches(&broker), Some(Offset(4)));

    // And if it was lost while the partition was on its way to another fetcher, which has seen these losses before.
    let (mut broker, _, _, position) = fetching(now);
    let machine = broker.release(&id).expect("held");
    let mut another = Broker::new(NodeId(1), BOUNDS, 1);
    another.connected(FETCH_BY_ID);
    another.assign(id.clone(), topic_id, machine, Some(Position { log_end: Offset(4), ..position }), now);
    assert_eq!(another.look_for_losses(1, &at(shorter), now), []);
    another.tick(another.deadline().expect("it waits"));
    assert_eq!(fetches(&another), Some(Offset(4)));
}
