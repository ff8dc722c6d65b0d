//! The source where there is no JVM: an ordinary topic of the on-prem daemon's own store, filled and read through its
//! listener by Kafka's protocol.

use super::orders;
use crate::client::DaemonClient;
use crate::remote;
use anyhow::{Context, ensure};
use bytes::Bytes;
use hawser_transport::KafkaClient;
use hawser_wire::messages::create_topics_request::CreatableTopic;
use hawser_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use hawser_wire::messages::{CreateTopicsRequest, ProduceRequest, TopicName};
use hawser_wire::{
    BatchHeader, BatchWriter, Batches, Compression, Headers, LeaderEpoch, Offset, Record, ResponseError, StrBytes,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{MissedTickBehavior, interval};

/// The last versions that name topics, not topic ids.
const CREATE_TOPICS_MAX: i16 = 7;
const PRODUCE_MAX: i16 = 12;
const ACKS_ALL: i16 = -1;
const CREATE_TIMEOUT_MS: i32 = 30_000;
/// Orders in one batch while the backlog is made.
const BATCH_ORDERS: usize = 500;
/// Batches of the stream, each to the next partition.
const BATCHES_PER_SECOND: u32 = 10;
const FETCH_BYTES: i32 = 64 * 1024;

/// Writes orders to one topic, partition after partition.
pub(super) struct Producer {
    client: KafkaClient,
    topic: &'static str,
    orders: Vec<Bytes>,
    partitions: u32,
    sent: usize,
    batches: u32,
}

impl Producer {
    /// Creates the topic.
    ///
    /// # Errors
    /// What the daemon says.
    pub(super) async fn create(daemon: &DaemonClient, topic: &'static str, partitions: u32) -> anyhow::Result<Self> {
        let client = daemon.kafka().clone();
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions.try_into()?)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(CREATE_TIMEOUT_MS);
        let (_, response) = client.call(&request, CREATE_TOPICS_MAX, Duration::ZERO).await?;
        let answer = response.topics.first().context("CreateTopics answers nothing")?;
        check(answer.error_code).with_context(|| format!("create topic {topic}"))?;
        let orders = orders::lines().lines().map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
        Ok(Self { client, topic, orders, partitions, sent: 0, batches: 0 })
    }

    /// Writes `count` orders as fast as they are acknowledged.
    ///
    /// # Errors
    /// The first that is not acknowledged.
    pub(super) async fn backlog(&mut self, count: u32) -> anyhow::Result<()> {
        let end = self.sent + usize::try_from(count)?;
        while self.sent < end {
            self.batch(BATCH_ORDERS.min(end - self.sent)).await?;
        }
        Ok(())
    }

    /// Writes `rate` orders a second for ever. Cancel-safe: a batch is written whole or not at all.
    ///
    /// # Errors
    /// The first that is not acknowledged.
    pub(super) async fn stream(mut self, rate: u32) -> anyhow::Result<()> {
        let orders = usize::try_from(rate / BATCHES_PER_SECOND)?;
        let mut ticks = interval(Duration::from_secs(1) / BATCHES_PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.batch(orders).await?;
        }
    }

    async fn batch(&mut self, orders: usize) -> anyhow::Result<()> {
        let values = self.orders.iter().cycle().skip(self.sent % self.orders.len().max(1)).take(orders);
        let records = encode(&values.collect::<Vec<_>>())?;
        let partition = i32::try_from(self.batches % self.partitions)?;
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(topic_name(self.topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(ACKS_ALL).with_topic_data(vec![topic]);
        let (_, response) = self.client.call(&request, PRODUCE_MAX, Duration::ZERO).await?;
        let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
        check(answer.context("Produce answers nothing")?.error_code).context("produce orders")?;
        self.sent += orders;
        self.batches += 1;
        Ok(())
    }
}

/// The first `count` values of partition 0 of `topic`.
///
/// # Errors
/// What the daemon says, or fewer records.
pub(super) async fn first_values(daemon: &DaemonClient, topic: &str, count: usize) -> anyhow::Result<Vec<String>> {
    let client = daemon.kafka();
    let id = remote::topic(client, topic).await?.with_context(|| format!("there is no topic {topic}"))?.id;
    let fetched = remote::fetch(client, topic, id, 0, Offset(0), FETCH_BYTES).await?;
    let mut values = Vec::new();
    for batch in Batches::verified(fetched.records, Offset(0), LeaderEpoch(0)) {
        for record in batch?.records(FETCH_BYTES as usize) {
            values.push(String::from_utf8_lossy(&record?.value.unwrap_or_default()).into_owned());
            if values.len() == count {
                return Ok(values);
            }
        }
    }
    ensure!(values.len() == count, "{topic} holds {} records of {count}", values.len());
    Ok(values)
}

/// A batch as a producer without idempotence sends it.
fn encode(values: &[&Bytes]) -> anyhow::Result<Bytes> {
    let timestamp = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let header = BatchHeader {
        base_offset: Offset(0),
        size_bytes: 0,
        leader_epoch: LeaderEpoch(-1),
        crc: 0,
        attributes: 0,
        last_offset_delta: i32::try_from(values.len())? - 1,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };
    let mut batch = BatchWriter::new(&header, Compression::None, None, None)?;
    for (offset, value) in (0..).map(Offset).zip(values) {
        batch.push(&Record {
            offset,
            timestamp,
            key: None,
            value: Some(Bytes::clone(value)),
            headers: Headers::default(),
        })?;
    }
    Ok(batch.finish()?.bytes)
}

fn check(code: i16) -> anyhow::Result<()> {
    ResponseError::try_from_code(code).map_or(Ok(()), |error| Err(anyhow::anyhow!("the daemon answers {error}")))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
