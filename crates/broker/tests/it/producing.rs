//! Producing to ordinary topics: every version, every codec, idempotence, refusals, acks=0.

use crate::common::{Bench, at, call, quick};
use bytes::{Bytes, BytesMut};
use hawser_testkit::batches::{BatchBuilder, Codec, Record};
use hawser_transport::KafkaClient;
use hawser_wire::api::encode_request;
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use hawser_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use hawser_wire::messages::produce_response::PartitionProduceResponse;
use hawser_wire::messages::*;
use hawser_wire::{Batch, ResponseError, StrBytes, TopicPartition, Uuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn request(acks: i16, topic: TopicProduceData, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = topic.with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

async fn produce(client: &KafkaClient, topic: &str, records: Bytes) -> PartitionProduceResponse {
    let request = request(-1, TopicProduceData::default().with_name(name(topic)), 0, records);
    at(client, 9, &request).await.responses[0].partition_responses[0].clone()
}

/// The values of all records that a consumer reads from the beginning.
async fn consumed(client: &KafkaClient, topic: &str) -> Vec<Bytes> {
    let partition = FetchPartition::default().with_fetch_offset(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let fetch = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]).with_session_epoch(-1);
    let mut records = at(client, 12, &fetch).await.responses[0].partitions[0].records.clone().unwrap_or_default();
    let mut values = Vec::new();
    while let Ok(batch) = Batch::split_off(&mut records) {
        for record in batch.records(1 << 20) {
            values.push(record.unwrap().value.unwrap_or_default());
        }
    }
    values
}

#[tokio::test]
async fn every_version_and_codec_reaches_consumers() {
    let bench = Bench::new().await;
    let id = bench.topic("t", 1, &[]).await.id;
    let client = bench.client().await;
    let mut expected = Vec::new();
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    for (version, codec) in (3..=13).zip(codecs.into_iter().cycle()) {
        // zstd came with version 7 (KIP-110).
        let codec = if version < 7 { Codec::None } else { codec };
        let value = Bytes::from(format!("version {version}"));
        let batch = BatchBuilder::at(0).codec(codec).record(Record::value(value.clone())).build();
        let topic = TopicProduceData::default();
        let topic = if version >= 13 { topic.with_topic_id(id) } else { topic.with_name(name("t")) };
        let response = at(&client, version, &request(if version % 2 == 0 { 1 } else { -1 }, topic, 0, batch)).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, expected.len() as i64), "version {version}");
        assert_eq!(answer.log_append_time_ms, -1);
        expected.push(value);
    }
    assert_eq!(consumed(&client, "t").await, expected);
}

#[tokio::test]
async fn a_batch_sent_twice_is_there_once_also_after_a_restart() {
    let bench = Bench::new().await;
    bench.topic("t", 1, &[]).await;
    let client = bench.client().await;
    let batch = |sequence, value: &'static str| {
        BatchBuilder::at(0).idempotent(7, 0, sequence).timestamp(now_ms()).record(Record::value(value)).build()
    };
    assert_eq!(produce(&client, "t", batch(0, "a")).await.base_offset, 0);
    assert_eq!(produce(&client, "t", batch(1, "b")).await.base_offset, 1);
    let again = produce(&client, "t", batch(0, "a")).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = produce(&client, "t", batch(5, "f")).await;
    assert_eq!(gap.error_code, ResponseError::OutOfOrderSequenceNumber.code());
    drop(client);
    let bench = bench.restart(quick()).await;
    let client = bench.client().await;
    let again = produce(&client, "t", batch(1, "b")).await;
    assert_eq!((again.error_code, again.base_offset), (0, 1));
    assert_eq!(produce(&client, "t", batch(2, "c")).await.base_offset, 2);
    assert_eq!(consumed(&client, "t").await, ["a", "b", "c"]);

    let asked =
        describe_producers_request::TopicRequest::default().with_name(name("t")).with_partition_indexes(vec![0, 1]);
    let answer = call(&client, &DescribeProducersRequest::default().with_topics(vec![asked])).await;
    let [first, second] = &answer.topics[0].partitions[..] else { panic!("two partitions") };
    let producer = &first.active_producers[0];
    assert_eq!((producer.producer_id.0, producer.producer_epoch, producer.last_sequence), (7, 0, 2));
    assert_eq!(second.error_code, ResponseError::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn what_may_not_be_appended_is_refused_with_kafkas_code() {
    use ResponseError::{
        CorruptMessage, InvalidRecord, InvalidTimestamp, InvalidTxnState, MessageTooLarge, UnknownTopicOrPartition,
    };
    let bench = Bench::new().await;
    bench.topic("t", 1, &[("max.message.bytes", "200"), ("message.timestamp.before.max.ms", "1000")]).await;
    bench.topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let client = bench.client().await;
    let good = || BatchBuilder::at(0).timestamp(now_ms()).record(Record::value("x"));
    let mut corrupt = BytesMut::from(&good().build()[..]);
    *corrupt.last_mut().unwrap() ^= 1;
    let table = [
        ("t", good().build(), Ok(())),
        ("t", corrupt.freeze(), Err(CorruptMessage)),
        ("t", Bytes::new(), Err(InvalidRecord)),
        ("t", [good().build(), good().build()].concat().into(), Err(InvalidRecord)),
        ("t", good().record(Record::value(vec![0; 300])).build(), Err(MessageTooLarge)),
        ("t", BatchBuilder::at(0).timestamp(1).record(Record::value("old")).build(), Err(InvalidTimestamp)),
        ("t", good().transactional(1, 0, 0).build(), Err(InvalidTxnState)),
        ("compacted", good().build(), Err(InvalidRecord)),
        ("missing", good().build(), Err(UnknownTopicOrPartition)),
    ];
    for (index, (topic, records, expected)) in table.into_iter().enumerate() {
        let answer = produce(&client, topic, records).await;
        let code = expected.err().map_or(0, |error: ResponseError| error.code());
        assert_eq!(answer.error_code, code, "{index}: {:?}", answer.error_message);
        if answer.error_code == InvalidTimestamp.code() {
            assert_eq!(answer.record_errors[0].batch_index, 0);
        }
    }
    let topic = TopicProduceData::default().with_name(name("t"));
    for (acks, partition, code) in
        [(2, 0, ResponseError::InvalidRequiredAcks), (1, 1, ResponseError::UnknownTopicOrPartition)]
    {
        let answer = at(&client, 9, &request(acks, topic.clone(), partition, good().build())).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code.code());
    }
    let topic = TopicProduceData::default().with_topic_id(Uuid::from_u128(4));
    let answer = at(&client, 13, &request(1, topic, 0, good().build())).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ResponseError::UnknownTopicId.code());
    assert_eq!(consumed(&client, "t").await, ["x"], "nothing else was appended");
}

#[tokio::test]
async fn without_acknowledgement_there_is_no_answer_and_a_refusal_hangs_up() {
    let bench = Bench::new().await;
    bench.topic("t", 1, &[]).await;
    let mut socket = TcpStream::connect(bench.address).await.unwrap();
    let frame = |correlation_id, topic: &str| {
        let records = BatchBuilder::at(0).record(Record::value("x")).build();
        let produce = request(0, TopicProduceData::default().with_name(name(topic)), 0, records);
        encode_request(9, correlation_id, "raw", &produce).unwrap()
    };
    socket.write_all(&frame(1, "t")).await.unwrap();
    socket.write_all(&frame(2, "t")).await.unwrap();
    let asked = encode_request(4, 3, "raw", &MetadataRequest::default()).unwrap();
    socket.write_all(&asked).await.unwrap();
    let (_length, correlation_id) = (socket.read_i32().await.unwrap(), socket.read_i32().await.unwrap());
    assert_eq!(correlation_id, 3, "the first answer is to what wants one");
    let log = bench.logs.partition(&TopicPartition::new("t", 0)).unwrap();
    assert_eq!(log.watermarks().high_watermark.0, 2);

    let mut socket = TcpStream::connect(bench.address).await.unwrap();
    socket.write_all(&frame(1, "missing")).await.unwrap();
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn log_append_time_is_told() {
    let bench = Bench::new().await;
    bench.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let client = bench.client().await;
    let before = now_ms();
    let answer = produce(&client, "t", BatchBuilder::at(0).timestamp(5).record(Record::value("x")).build()).await;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    assert!(answer.log_append_time_ms >= before);
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
