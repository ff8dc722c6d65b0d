use super::response::{PartitionAnswer, TopicAnswer, encode, total_bytes};
use super::sessions::{Sessions, TopicKey};
use bytes::{Bytes, BytesMut};
use hawser_log::AbortedTransaction;
use hawser_wire::api::{encode_response, split_response};
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use hawser_wire::messages::fetch_response::{self, EpochEndOffset, FetchableTopicResponse, PartitionData};
use hawser_wire::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use hawser_wire::{Offset, Request, ResponseError, StrBytes, Uuid};
use std::sync::Arc;

fn answer(index: i32) -> PartitionAnswer {
    PartitionAnswer {
        index,
        error: 0,
        high_watermark: 100 + i64::from(index),
        last_stable: 90,
        log_start: 3,
        diverging: None,
        aborted: None,
        records: Bytes::new(),
    }
}

fn topic(name: &str, partitions: Vec<PartitionAnswer>) -> TopicAnswer {
    let id = Uuid::from_u128(u128::from_be_bytes(*b"0123456789abcdef"));
    TopicAnswer { key: TopicKey { name: Arc::from(name), id }, partitions }
}

/// The same answer through `kafka-protocol`.
fn reference(version: i16, error: i16, session_id: i32, topics: &[TopicAnswer]) -> Bytes {
    let partition = |answer: &PartitionAnswer| {
        let aborted = answer.aborted.as_ref().map(|aborted| {
            let shown = |transaction: &AbortedTransaction| {
                fetch_response::AbortedTransaction::default()
                    .with_producer_id(ProducerId(transaction.producer_id))
                    .with_first_offset(transaction.first_offset.0)
            };
            aborted.iter().map(shown).collect()
        });
        let mut data = PartitionData::default()
            .with_partition_index(answer.index)
            .with_error_code(answer.error)
            .with_high_watermark(answer.high_watermark)
            .with_last_stable_offset(answer.last_stable)
            .with_log_start_offset(answer.log_start)
            .with_aborted_transactions(aborted)
            .with_preferred_read_replica(BrokerId(-1))
            .with_records(Some(answer.records.clone()));
        if let Some((epoch, end_offset)) = answer.diverging {
            data.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
        }
        data
    };
    let topics = topics.iter().map(|topic| {
        let shown = FetchableTopicResponse::default().with_partitions(topic.partitions.iter().map(partition).collect());
        if version >= 13 {
            shown.with_topic_id(topic.key.id)
        } else {
            shown.with_topic(TopicName(StrBytes::from_string(topic.key.name.to_string())))
        }
    });
    let response =
        FetchResponse::default().with_error_code(error).with_session_id(session_id).with_responses(topics.collect());
    encode_response::<FetchRequest>(version, 77, &response).unwrap()
}

#[test]
fn our_bytes_are_the_codecs_bytes() {
    let aborted = |first| AbortedTransaction { producer_id: 9, first_offset: Offset(first), last_offset: Offset(50) };
    let large = Bytes::from(vec![7; 70_000]);
    let small = Bytes::from_static(b"small records");
    let topics = [
        topic(
            "orders",
            vec![
                PartitionAnswer { records: large.clone(), ..answer(0) },
                PartitionAnswer { error: 1, high_watermark: -1, last_stable: -1, log_start: -1, ..answer(1) },
                PartitionAnswer { records: small, aborted: Some(vec![aborted(1), aborted(2)]), ..answer(2) },
                PartitionAnswer { aborted: Some(Vec::new()), ..answer(3) },
            ],
        ),
        topic(
            &"n".repeat(200),
            vec![
                PartitionAnswer { records: Bytes::from(vec![1; 513]), ..answer(0) },
                PartitionAnswer { records: Bytes::from(vec![1; 512]), ..answer(1) },
            ],
        ),
        topic("many", (0..300).map(answer).collect()),
        topic("none", Vec::new()),
    ];
    for version in FetchRequest::VERSIONS_TESTED {
        for (error, session_id, count) in [(0, 5, topics.len()), (70, 0, 0)] {
            // The older form has no place for an error of the whole.
            let (error, session_id) = if version < 7 { (0, 0) } else { (error, session_id) };
            let ours = encode(version, 77, error, session_id, &topics[..count]).unwrap();
            let joined = ours.iter().fold(BytesMut::new(), |mut all, slice| {
                all.extend_from_slice(slice);
                all
            });
            assert_eq!(total_bytes(&ours), joined.len());
            assert_eq!(joined.freeze(), reference(version, error, session_id, &topics[..count]), "version {version}");
            if count > 0 {
                assert!(ours.iter().any(|slice| slice.as_ptr() == large.as_ptr()), "records were copied");
            }
        }
    }
}

#[test]
fn a_diverging_epoch_decodes() {
    let diverged = || vec![topic("t", vec![PartitionAnswer { diverging: Some((4, 42)), ..answer(0) }])];
    for version in 12..=18 {
        let slices = encode(version, 1, 0, 0, &diverged()).unwrap();
        let frame = Bytes::from(slices.concat()).slice(4..);
        let (_, body) = split_response(FetchRequest::KEY, version, frame).unwrap();
        let response = hawser_wire::api::decode_response::<FetchRequest>(version, body).unwrap();
        let epoch = &response.responses[0].partitions[0].diverging_epoch;
        assert_eq!((epoch.epoch, epoch.end_offset), (4, 42));
    }
    // Older versions have no tags: it is left out.
    assert_eq!(encode(11, 1, 0, 0, &diverged()).unwrap(), encode(11, 1, 0, 0, &[topic("t", vec![answer(0)])]).unwrap());
}

trait Tested {
    const VERSIONS_TESTED: std::ops::RangeInclusive<i16>;
}

impl Tested for FetchRequest {
    const VERSIONS_TESTED: std::ops::RangeInclusive<i16> = 4..=18;
}

fn request(session_id: i32, session_epoch: i32, partitions: &[(&'static str, i32, i64)]) -> FetchRequest {
    let topics = partitions.iter().map(|(name, partition, offset)| {
        let partition = FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1000);
        FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(name))).with_partitions(vec![partition])
    });
    FetchRequest::default().with_session_id(session_id).with_session_epoch(session_epoch).with_topics(topics.collect())
}

fn shown(wants: &[super::Want]) -> Vec<(String, i32, i64)> {
    wants.iter().map(|want| (want.topic.name.to_string(), want.partition, want.offset.0)).collect()
}

#[test]
fn an_incremental_session_repeats_only_what_changed() {
    let sessions = Sessions::new(10, 100);
    let full = sessions.begin("User:a", 12, request(0, 0, &[("t", 0, 0), ("t", 1, 0), ("u", 0, 0)])).unwrap();
    let id = full.session_id;
    assert!(id > 0);
    let marks = [answer(0), answer(1), answer(0)];
    assert_eq!(full.due(&marks), [true, true, true]);
    // Nothing new: nothing is due.
    let next = sessions.begin("User:a", 12, request(id, 1, &[])).unwrap();
    assert_eq!(shown(&next.wants), [("t".into(), 0, 0), ("t".into(), 1, 0), ("u".into(), 0, 0)]);
    assert_eq!(next.due(&marks), [false, false, false]);
    // Records, an error, a moved watermark.
    let next = sessions.begin("User:a", 12, request(id, 2, &[("t", 1, 7)])).unwrap();
    assert_eq!(shown(&next.wants)[1], ("t".into(), 1, 7));
    let records = PartitionAnswer { records: Bytes::from_static(b"x"), ..answer(0) };
    let moved = PartitionAnswer { high_watermark: 500, ..answer(1) };
    assert_eq!(next.due(&[records, moved.clone(), answer(0)]), [true, true, false]);
    // The one with records went to the end; the moved watermark has been told.
    let next = sessions.begin("User:a", 12, request(id, 3, &[])).unwrap();
    assert_eq!(shown(&next.wants), [("t".into(), 1, 7), ("u".into(), 0, 0), ("t".into(), 0, 0)]);
    let failed = PartitionAnswer { error: 56, ..answer(0) };
    assert_eq!(next.due(&[moved.clone(), failed, answer(0)]), [false, true, false]);
    // What failed is told again, and told once it is good.
    let next = sessions.begin("User:a", 12, request(id, 4, &[])).unwrap();
    assert_eq!(next.due(&[moved.clone(), answer(0), answer(0)]), [false, true, false]);
    // Forgotten partitions go.
    let forget =
        ForgottenTopic::default().with_topic(TopicName(StrBytes::from_static_str("t"))).with_partitions(vec![0, 1]);
    let forgetting = request(id, 5, &[]).with_forgotten_topics_data(vec![forget]);
    let next = sessions.begin("User:a", 12, forgetting).unwrap();
    assert_eq!(shown(&next.wants), [("u".into(), 0, 0)]);
    assert_eq!(next.due(&[answer(0)]), [false]);
}

#[test]
fn sessions_are_checked_and_bounded() {
    let sessions = Sessions::new(2, 3);
    let begin = |id, epoch, partitions: &[(&'static str, i32, i64)]| {
        sessions.begin("User:a", 12, request(id, epoch, partitions)).map(|begun| begun.session_id)
    };
    assert_eq!(begin(99, 1, &[]), Err(ResponseError::FetchSessionIdNotFound));
    let first = begin(0, 0, &[("t", 0, 0)]).unwrap();
    assert_eq!(begin(first, 2, &[]), Err(ResponseError::InvalidFetchSessionEpoch));
    assert_eq!(begin(first, 1, &[]), Ok(first));
    let by_id = sessions.begin("User:a", 13, request(first, 2, &[]));
    assert_eq!(by_id.err(), Some(ResponseError::FetchSessionTopicIdError));
    let stranger = sessions.begin("User:b", 12, request(first, 2, &[]));
    assert_eq!(stranger.err(), Some(ResponseError::FetchSessionIdNotFound));
    // Partitions: 1 of 3 used, 3 more do not fit.
    assert_eq!(begin(0, 0, &[("t", 0, 0), ("t", 1, 0), ("t", 2, 0)]), Ok(0));
    let second = begin(0, 0, &[("t", 0, 0), ("t", 1, 0)]).unwrap();
    assert!(second > 0);
    // Slots: both are fresh, so nobody is thrown out.
    assert_eq!(begin(0, 0, &[("t", 0, 0)]), Ok(0));
    // Grown beyond the bound: answered, then gone.
    assert_eq!(begin(second, 1, &[("u", 0, 0), ("u", 1, 0)]), Ok(second));
    assert_eq!(begin(second, 2, &[]), Err(ResponseError::FetchSessionIdNotFound));
    // A stranger cannot close it; its owner can, by starting anew or by the final epoch.
    assert_eq!(sessions.begin("User:b", 12, request(first, -1, &[])).map(|b| b.session_id), Ok(0));
    assert_eq!(begin(first, 2, &[]), Ok(first));
    assert_eq!(begin(first, -1, &[("t", 0, 0)]), Ok(0));
    assert_eq!(begin(first, 3, &[]), Err(ResponseError::FetchSessionIdNotFound));
    // Old versions know no sessions.
    assert_eq!(sessions.begin("User:a", 4, request(0, -1, &[("t", 0, 0)])).map(|b| b.session_id), Ok(0));
}

#[test]
fn a_request_names_a_bounded_number_of_partitions_and_each_once() {
    let sessions = Sessions::new(10, 1_000_000);
    // The last word counts, in the place of the first.
    let twice = request(0, -1, &[("t", 0, 1), ("u", 0, 2), ("t", 0, 3)]);
    assert_eq!(shown(&sessions.begin("User:a", 12, twice).unwrap().wants), [("t".into(), 0, 3), ("u".into(), 0, 2)]);
    let many = |epoch, from: i32, count| {
        let partitions = (from..from + count).map(|index| FetchPartition::default().with_partition(index)).collect();
        let name = TopicName(StrBytes::from_static_str("t"));
        let topic = FetchTopic::default().with_topic(name).with_partitions(partitions);
        FetchRequest::default().with_session_epoch(epoch).with_topics(vec![topic])
    };
    let refusal = Some(ResponseError::InvalidRequest);
    for (version, epoch) in [(4, -1), (12, 0), (12, -1)] {
        assert_eq!(sessions.begin("User:a", version, many(epoch, 0, 20_001)).err(), refusal);
        assert_eq!(sessions.begin("User:a", version, many(epoch, 0, 20_000)).unwrap().wants.len(), 20_000);
    }
    let empty = FetchRequest::default().with_topics(vec![FetchTopic::default(); 20_001]);
    assert_eq!(sessions.begin("User:a", 12, empty).err(), refusal);
    let forgetful = FetchRequest::default()
        .with_forgotten_topics_data(vec![ForgottenTopic::default().with_partitions(vec![0; 20_001])]);
    assert_eq!(sessions.begin("User:a", 12, forgetful).err(), refusal);
    // Nor does a session grow beyond it, little by little.
    let id = sessions.begin("User:a", 12, many(0, 0, 15_000)).unwrap().session_id;
    let grown = sessions.begin("User:a", 12, many(1, 15_000, 5_000).with_session_id(id)).unwrap();
    assert_eq!(grown.wants.len(), 20_000);
    assert_eq!(sessions.begin("User:a", 12, many(2, 20_000, 1).with_session_id(id)).err(), refusal);
    let gone = sessions.begin("User:a", 12, request(id, 3, &[])).err();
    assert_eq!(gone, Some(ResponseError::FetchSessionIdNotFound));
}
