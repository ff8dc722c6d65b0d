//! What every store must do, as one function over the trait: run it on each store and on the fake.
//!
//! A store that keeps these rules can be cut off at any await, reopened and continued by the replicator from nothing
//! but [`MirrorPartition::position`].

use crate::{MirrorPartition, Position, Store, StoreError, TopicSpec};
use bytes::Bytes;
use hawser_wire::{Batch, LeaderEpoch, Offset, TopicPartition, Uuid};

/// What the suite must see of a store besides its write side.
pub trait Inspect: Store {
    /// The bytes of all batches of `id` that its consumers could read, oldest first.
    fn bytes(&self, id: &TopicPartition) -> Bytes;

    /// The offset below which consumers of `id` read.
    fn high_watermark(&self, id: &TopicPartition) -> Offset;
}

/// Runs the whole suite; `make` gives an empty store at every call.
///
/// # Panics
/// At the first rule that the store breaks.
pub async fn conformance<S: Inspect>(make: impl Fn() -> S) {
    begins_empty(&make()).await;
    appends_verbatim(&make()).await;
    keeps_gaps(&make()).await;
    knows_its_epochs(&make()).await;
    refuses_disorder(&make()).await;
    truncates_on_and_inside_batches(&make()).await;
    truncates_epochs(&make()).await;
    restarts_elsewhere(&make()).await;
    moves_the_log_start(&make()).await;
    begins_inside_a_batch(&make()).await;
    reopens(&make()).await;
    fences_the_earlier_writer(&make()).await;
    refuses_another_topic_id(&make()).await;
    follows_the_high_watermark(&make()).await;
    keeps_partitions_apart(&make()).await;
}

/// A topic by this name with an id made of it.
pub fn topic(name: &str) -> TopicSpec {
    let id = name.bytes().fold(1u128, |id, byte| id.wrapping_mul(257).wrapping_add(u128::from(byte)));
    TopicSpec { name: name.into(), id: Uuid::from_u128(id) }
}

/// A whole, uncompressed v2 batch of `count` records without keys, at `base`, written in `epoch`. Its CRC is good.
///
/// # Panics
/// If `count` is not in 1..=1000.
pub fn batch(base: i64, count: i32, epoch: i32) -> Batch {
    assert!((1..=1000).contains(&count), "count {count}");
    let mut bytes = vec![0; hawser_wire::batch::HEADER_BYTES];
    for delta in 0..count {
        // attributes, timestamp delta, offset delta, key length −1, value length 1, value, no headers; all zigzag
        let mut record = vec![0, 0];
        varint(&mut record, delta);
        record.extend([0x01, 0x02, b'a' + (delta % 26) as u8, 0]);
        varint(&mut bytes, record.len() as i32);
        bytes.extend(record);
    }
    let timestamp = 1_700_000_000_000 + base;
    bytes[0..8].copy_from_slice(&base.to_be_bytes());
    let length = bytes.len() as i32 - hawser_wire::batch::LOG_OVERHEAD_BYTES as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[27..35].copy_from_slice(&timestamp.to_be_bytes());
    bytes[35..43].copy_from_slice(&timestamp.to_be_bytes());
    bytes[43..57].fill(0xff); // no producer
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::split_off(&mut Bytes::from(bytes)).expect("a well-formed batch")
}

fn varint(out: &mut Vec<u8>, value: i32) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

async fn open<S: Store>(store: &S) -> S::Partition {
    store.open(&topic("t"), 0).await.expect("open t-0")
}

fn joined(batches: &[Batch]) -> Bytes {
    batches.iter().flat_map(|batch| batch.bytes.iter().copied()).collect()
}

/// (log start, log end, last epoch) without `flushed`, which is checked against both.
fn at(position: Position) -> (i64, i64, i32) {
    assert!(position.log_start <= position.flushed && position.flushed <= position.log_end, "{position:?}");
    (position.log_start.0, position.log_end.0, position.last_epoch.0)
}

async fn begins_empty<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    assert_eq!(writer.id(), &TopicPartition::new("t", 0));
    let nothing =
        Position { log_start: Offset(0), log_end: Offset(0), flushed: Offset(0), last_epoch: LeaderEpoch::NONE };
    assert_eq!(writer.position(), nothing);
    assert_eq!(writer.end_of_epoch(LeaderEpoch(5)), None);
    assert_eq!(writer.append(&[]).await.expect("append nothing"), nothing);
    assert_eq!(writer.flush().await.expect("flush nothing"), nothing);
    assert_eq!(writer.truncate_to(Offset(7)).await.expect("truncate above the end"), nothing);
    assert_eq!(store.bytes(writer.id()), Bytes::new());
}

async fn appends_verbatim<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    let batches: Vec<_> = (0..20).map(|i| batch(i * 3, 3, 4)).collect();
    let (first, rest) = batches.split_at(5);
    assert_eq!(at(writer.append(first).await.expect("append")), (0, 15, 4));
    // The usual case: all batches are slices of one buffer, as a fetch response holds them.
    let mut one_buffer = joined(rest);
    let slices: Vec<_> = rest.iter().map(|_| Batch::split_off(&mut one_buffer).expect("a slice")).collect();
    assert_eq!(at(writer.append(&slices).await.expect("append")), (0, 60, 4));
    let flushed = writer.flush().await.expect("flush");
    assert_eq!((flushed.flushed, flushed), (Offset(60), writer.position()));
    writer.observe_high_watermark(Offset(60));
    assert_eq!(store.bytes(writer.id()), joined(&batches));
}

async fn keeps_gaps<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    let batches = [batch(5, 1, 0), batch(1_000, 2, 0), batch(5_000_000_000, 1, 0)];
    assert_eq!(at(writer.append(&batches).await.expect("append over gaps")), (0, 5_000_000_001, 0));
    writer.observe_high_watermark(Offset(i64::MAX));
    assert_eq!(store.bytes(writer.id()), joined(&batches));
}

async fn knows_its_epochs<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    writer.append(&[batch(10, 5, 2), batch(15, 5, 4)]).await.expect("append");
    writer.append(&[batch(30, 1, 4), batch(31, 9, 9)]).await.expect("append");
    for (asked, expected) in
        [(1, None), (2, Some((2, 15))), (3, Some((2, 15))), (8, Some((4, 31))), (9, Some((9, 40))), (99, Some((9, 40)))]
    {
        let expected = expected.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
        assert_eq!(writer.end_of_epoch(LeaderEpoch(asked)), expected, "epoch {asked}");
    }
}

async fn refuses_disorder<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    writer.append(&[batch(0, 10, 3)]).await.expect("append");
    let before = writer.position();
    for (why, bad) in [
        ("the same again", vec![batch(0, 10, 3)]),
        ("overlaps the end", vec![batch(9, 2, 3)]),
        ("epoch falls", vec![batch(10, 2, 2)]),
        ("no epoch after one", vec![batch(10, 2, -1)]),
        ("second overlaps the first", vec![batch(10, 2, 3), batch(11, 1, 3)]),
        ("epoch falls inside", vec![batch(10, 2, 5), batch(12, 1, 4)]),
    ] {
        let refused = writer.append(&bad).await.expect_err(why);
        assert!(matches!(refused, StoreError::OutOfOrder { .. }), "{why}: {refused}");
        assert!(!refused.is_retriable(), "{why}");
        assert_eq!(writer.position(), before, "{why}: nothing was appended");
    }
    assert_eq!(at(writer.append(&[batch(10, 1, 3)]).await.expect("goes on")), (0, 11, 3));
}

async fn truncates_on_and_inside_batches<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    let batches = [batch(0, 10, 1), batch(10, 10, 1), batch(25, 5, 1), batch(30, 10, 1)];
    writer.append(&batches).await.expect("append");
    writer.flush().await.expect("flush");
    writer.observe_high_watermark(Offset(40));
    assert_eq!(at(writer.truncate_to(Offset(40)).await.expect("at the end")), (0, 40, 1));
    assert_eq!(at(writer.truncate_to(Offset(30)).await.expect("on a batch")), (0, 30, 1));
    assert_eq!(at(writer.truncate_to(Offset(29)).await.expect("inside a batch")), (0, 20, 1));
    assert_eq!(writer.position().flushed, Offset(20));
    assert_eq!(store.high_watermark(writer.id()), Offset(20));
    assert_eq!(at(writer.append(&batches[2..3]).await.expect("append again")), (0, 30, 1));
    writer.observe_high_watermark(Offset(30));
    assert_eq!(store.bytes(writer.id()), joined(&batches[..3]));
    assert_eq!(at(writer.truncate_to(Offset(0)).await.expect("everything")), (0, 0, -1));
    assert_eq!(at(writer.append(&batches).await.expect("append again")), (0, 40, 1));
}

async fn truncates_epochs<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    writer.append(&[batch(0, 10, 1), batch(10, 10, 2), batch(20, 10, 6)]).await.expect("append");
    assert_eq!(at(writer.truncate_to(Offset(20)).await.expect("truncate")), (0, 20, 2));
    assert_eq!(writer.end_of_epoch(LeaderEpoch(6)), Some((LeaderEpoch(2), Offset(20))));
    // The lineage that replaces the lost one may have smaller epochs than what was cut off.
    assert_eq!(at(writer.append(&[batch(20, 1, 4)]).await.expect("append")), (0, 21, 4));
    assert_eq!(writer.end_of_epoch(LeaderEpoch(3)), Some((LeaderEpoch(2), Offset(20))));
}

async fn restarts_elsewhere<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    assert_eq!(at(writer.restart_at(Offset(100)).await.expect("restart")), (100, 100, -1));
    writer.append(&[batch(100, 10, 5)]).await.expect("append");
    assert_eq!(at(writer.restart_at(Offset(1_000)).await.expect("restart above")), (1_000, 1_000, -1));
    assert_eq!(writer.end_of_epoch(LeaderEpoch(9)), None);
    assert_eq!(store.high_watermark(writer.id()), Offset(1_000));
    assert_eq!(at(writer.restart_at(Offset(3)).await.expect("restart below")), (3, 3, -1));
    let only = [batch(7, 1, 2)];
    assert_eq!(at(writer.append(&only).await.expect("append")), (3, 8, 2));
    writer.observe_high_watermark(Offset(8));
    assert_eq!(store.bytes(writer.id()), joined(&only));
    drop(writer);
    assert_eq!(at(open(store).await.position()), (3, 8, 2));
}

async fn moves_the_log_start<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    let batches = [batch(0, 10, 1), batch(10, 10, 2), batch(20, 10, 3)];
    writer.append(&batches).await.expect("append");
    assert_eq!(at(writer.advance_log_start(Offset(15)).await.expect("inside a batch")), (15, 30, 3));
    assert_eq!(at(writer.advance_log_start(Offset(4)).await.expect("never back")), (15, 30, 3));
    assert_eq!(writer.end_of_epoch(LeaderEpoch(1)), None, "epoch 1 was trimmed");
    assert_eq!(writer.end_of_epoch(LeaderEpoch(2)), Some((LeaderEpoch(2), Offset(20))));
    writer.advance_log_start(Offset(31)).await.expect_err("above the log end");
    assert_eq!(at(writer.position()), (15, 30, 3));
    writer.observe_high_watermark(Offset(30));
    assert_eq!(store.bytes(writer.id()), joined(&batches[1..]), "the batch that holds the log start stays whole");
    let (start, end, _) = at(writer.advance_log_start(Offset(30)).await.expect("everything"));
    assert_eq!((start, end), (30, 30));
    assert_eq!(store.bytes(writer.id()), Bytes::new());
    assert_eq!(at(writer.append(&[batch(30, 1, 3)]).await.expect("append")), (30, 31, 3));
    assert_eq!(at(writer.truncate_to(Offset(12)).await.expect("below the log start")), (12, 12, -1));
}

async fn begins_inside_a_batch<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    writer.restart_at(Offset(105)).await.expect("restart at the source's log start");
    let batches = [batch(100, 10, 1), batch(110, 5, 1)];
    let outside = batch(90, 15, 1);
    writer.append(&[outside]).await.expect_err("a batch that ends below the log start");
    assert_eq!(at(writer.append(&batches).await.expect("the batch that holds the log start")), (105, 115, 1));
    writer.observe_high_watermark(Offset(115));
    assert_eq!(store.bytes(writer.id()), joined(&batches));
    assert_eq!(at(writer.truncate_to(Offset(107)).await.expect("inside that batch")), (105, 105, -1));
    assert_eq!(at(writer.append(&batches).await.expect("once more")), (105, 115, 1));
    writer.append(&[batch(114, 3, 1)]).await.expect_err("only an empty log takes a batch from before its start");
    drop(writer);
    assert_eq!(at(open(store).await.position()), (105, 115, 1));
}

async fn reopens<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    writer.append(&[batch(0, 10, 1), batch(10, 10, 2)]).await.expect("append");
    writer.observe_high_watermark(Offset(15));
    let position = writer.flush().await.expect("flush");
    drop(writer);
    let mut writer = open(store).await;
    assert_eq!(writer.position(), position);
    assert_eq!(store.high_watermark(writer.id()), Offset(15));
    assert_eq!(writer.end_of_epoch(LeaderEpoch(1)), Some((LeaderEpoch(1), Offset(10))));
    assert_eq!(at(writer.append(&[batch(20, 1, 2)]).await.expect("append")), (0, 21, 2));
}

async fn fences_the_earlier_writer<S: Inspect>(store: &S) {
    let mut earlier = open(store).await;
    earlier.append(&[batch(0, 10, 1)]).await.expect("append");
    let mut later = open(store).await;
    let fenced = |outcome: Result<Position, StoreError>| matches!(outcome, Err(StoreError::Fenced(_)));
    assert!(fenced(earlier.append(&[batch(10, 1, 1)]).await), "append");
    assert!(fenced(earlier.truncate_to(Offset(5)).await), "truncate");
    assert!(fenced(earlier.advance_log_start(Offset(5)).await), "advance");
    assert!(fenced(earlier.restart_at(Offset(5)).await), "restart");
    earlier.observe_high_watermark(Offset(10));
    assert_eq!(store.high_watermark(later.id()), Offset(0), "a fenced writer moves nothing");
    assert_eq!(at(later.append(&[batch(10, 1, 1)]).await.expect("append")), (0, 11, 1));
}

async fn refuses_another_topic_id<S: Inspect>(store: &S) {
    open(store).await.append(&[batch(0, 1, 1)]).await.expect("append");
    let other = TopicSpec { id: Uuid::from_u128(77), ..topic("t") };
    let refused = store.open(&other, 0).await.err().expect("the topic was made anew");
    assert!(!refused.is_retriable(), "{refused}");
    assert_eq!(at(open(store).await.position()), (0, 1, 1));
}

async fn follows_the_high_watermark<S: Inspect>(store: &S) {
    let mut writer = open(store).await;
    let id = writer.id().clone();
    writer.append(&[batch(0, 10, 1)]).await.expect("append");
    assert_eq!(store.high_watermark(&id), Offset(0));
    writer.observe_high_watermark(Offset(4));
    assert_eq!(store.high_watermark(&id), Offset(4));
    writer.observe_high_watermark(Offset(2));
    assert_eq!(store.high_watermark(&id), Offset(4), "never back");
    writer.observe_high_watermark(Offset(15));
    assert_eq!(store.high_watermark(&id), Offset(10), "at most the log end");
    writer.append(&[batch(10, 10, 1)]).await.expect("append");
    assert_eq!(store.high_watermark(&id), Offset(15), "what was reported before the data came");
    writer.truncate_to(Offset(10)).await.expect("truncate");
    writer.append(&[batch(10, 10, 2)]).await.expect("append");
    assert_eq!(store.high_watermark(&id), Offset(10), "the lost lineage's word does not count");
    writer.advance_log_start(Offset(18)).await.expect("advance");
    assert_eq!(store.high_watermark(&id), Offset(18), "at least the log start");
}

async fn keeps_partitions_apart<S: Inspect>(store: &S) {
    let mut zero = store.open(&topic("t"), 0).await.expect("open t-0");
    let mut one = store.open(&topic("t"), 1).await.expect("open t-1");
    let mut other = store.open(&topic("t-1"), 0).await.expect("open t-1-0");
    zero.append(&[batch(0, 1, 1)]).await.expect("append");
    one.append(&[batch(0, 2, 1)]).await.expect("append");
    other.append(&[batch(0, 3, 1)]).await.expect("append");
    let ends = [zero.position(), one.position(), other.position()].map(|position| position.log_end.0);
    assert_eq!(ends, [1, 2, 3]);
}
