//! Fetch as consumers see it: bounds, long polls, sessions, isolation, epochs.

use crate::common::{Bench, at, call, fill, quick};
use bytes::Bytes;
use hawser_broker::BrokerConfig;
use hawser_log::PartitionLog;
use hawser_testkit::batches::BatchBuilder;
use hawser_transport::KafkaClient;
use hawser_wire::api::encode_request;
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use hawser_wire::messages::fetch_response::PartitionData;
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::{
    FetchRequest, FetchResponse, ListGroupsRequest, MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
    TopicName,
};
use hawser_wire::{Batch, Offset, ResponseError, StrBytes};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn partition(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(index)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
        .with_current_leader_epoch(-1)
}

fn fetch(partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str("t"))).with_partitions(partitions);
    FetchRequest::default()
        .with_topics(vec![topic])
        .with_max_bytes(50 << 20)
        .with_min_bytes(1)
        .with_max_wait_ms(0)
        .with_session_epoch(-1)
}

fn first(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

fn error(response: &FetchResponse) -> Option<ResponseError> {
    ResponseError::try_from_code(first(response).error_code)
}

fn records(response: &FetchResponse) -> Bytes {
    first(response).records.clone().unwrap_or_default()
}

fn base_offsets(mut records: Bytes) -> Vec<i64> {
    let mut offsets = Vec::new();
    while let Ok(batch) = Batch::split_off(&mut records) {
        offsets.push(batch.header.base_offset.0);
    }
    assert!(records.is_empty());
    offsets
}

async fn bench(batches: &[BatchBuilder]) -> (Bench, Arc<PartitionLog>, KafkaClient) {
    let bench = Bench::new().await;
    let log = bench.mirror("t", 1).remove(0);
    if !batches.is_empty() {
        fill(&log, batches);
    }
    let client = bench.client().await;
    (bench, log, client)
}

#[tokio::test]
async fn batches_come_verbatim_in_every_version() {
    let batches = [BatchBuilder::at(0).epoch(2).records(3, 1000), BatchBuilder::at(3).epoch(2).records(1, 10)];
    let (bench, _, client) = bench(&batches).await;
    let written: Vec<u8> = batches.iter().flat_map(|batch| batch.build().to_vec()).collect();
    let id = bench.state.topic("t").unwrap().id;
    for version in 4..=18 {
        let mut request = fetch(vec![partition(0, 0)]);
        if version >= 13 {
            request.topics[0] = request.topics[0].clone().with_topic(TopicName::default()).with_topic_id(id);
        }
        let response = at(&client, version, &request).await;
        assert_eq!(error(&response), None);
        assert_eq!(records(&response), written, "version {version}");
        assert_eq!((first(&response).high_watermark, first(&response).last_stable_offset), (4, 4));
    }
}

#[tokio::test]
async fn at_least_one_batch_and_then_the_bounds() {
    let batches: Vec<_> = (0..10).map(|at| BatchBuilder::at(at).records(1, 1000)).collect();
    let (_bench, _, client) = bench(&batches).await;
    let ask = async |max_bytes: i32, partition_bytes: i32, offset: i64| {
        let request = fetch(vec![partition(0, offset).with_partition_max_bytes(partition_bytes)]);
        base_offsets(records(&at(&client, 12, &request.with_max_bytes(max_bytes)).await))
    };
    assert_eq!(ask(1 << 20, 1 << 20, 0).await.len(), 10);
    assert_eq!(ask(1 << 20, 3300, 4).await, [4, 5, 6]);
    assert_eq!(ask(2200, 1 << 20, 4).await, [4, 5]);
    assert_eq!(ask(1, 1, 4).await, [4]);
    assert_eq!(ask(1 << 20, 0, 9).await, [9]);
    // From the middle of a batch, the whole batch.
    let (_bench, _, client) =
        self::bench(&[BatchBuilder::at(0).records(5, 10), BatchBuilder::at(5).records(1, 10)]).await;
    let middle = at(&client, 12, &fetch(vec![partition(0, 3)])).await;
    assert_eq!(base_offsets(records(&middle)), [0, 5]);
}

#[tokio::test]
async fn one_large_batch_does_not_keep_the_other_partitions_waiting() {
    let bench =
        Bench::with(BrokerConfig { fetch_max_bytes: 2000, ..quick() }, "allow.everyone.if.no.acl.found=true").await;
    for log in bench.mirror("t", 3) {
        fill(&log, &[BatchBuilder::at(0).records(1, 5000)]);
    }
    let client = bench.client().await;
    let full = fetch((0..3).map(|index| partition(index, 0)).collect()).with_session_epoch(0);
    let response = at(&client, 12, &full).await;
    let session = response.session_id;
    let sizes = |response: &FetchResponse| {
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|p| (p.partition_index, p.records.as_ref().map_or(0, Bytes::len) > 0)).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&response), [(0, true), (1, false), (2, false)]);
    // Those that were left out come first, in turn, although nobody names them again.
    for (epoch, index) in [(1, 1), (2, 2), (3, 0)] {
        let request = FetchRequest::default()
            .with_session_id(session)
            .with_session_epoch(epoch)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20);
        assert_eq!(sizes(&at(&client, 12, &request).await), [(index, true)]);
    }
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_record_or_at_its_time() {
    let (_bench, log, client) = bench(&[]).await;
    let begun = Instant::now();
    let empty = at(&client, 12, &fetch(vec![partition(0, 0)]).with_max_wait_ms(300)).await;
    assert!(records(&empty).is_empty() && begun.elapsed() >= Duration::from_millis(300));
    let poll = tokio::spawn(async move {
        let begun = Instant::now();
        let response = at(&client, 12, &fetch(vec![partition(0, 0)]).with_max_wait_ms(30_000)).await;
        (response, begun.elapsed())
    });
    // Whether the poll is waiting by now or not, it sees the record.
    fill(&log, &[BatchBuilder::at(0).records(1, 10)]);
    let (response, took) = poll.await.unwrap();
    assert_eq!(base_offsets(records(&response)), [0]);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_long_poll_waits_for_as_many_bytes_as_it_asked_for() {
    let (_bench, log, client) = bench(&[]).await;
    let poll = tokio::spawn(async move {
        at(&client, 12, &fetch(vec![partition(0, 0)]).with_max_wait_ms(20_000).with_min_bytes(3000)).await
    });
    for offset in 0..4 {
        fill(&log, &[BatchBuilder::at(offset).records(1, 1000)]);
        tokio::task::yield_now().await;
    }
    let records = records(&poll.await.unwrap());
    assert!(records.len() >= 3000, "{}", records.len());
}

#[tokio::test]
async fn a_waiting_request_does_not_hold_up_its_neighbours_nor_outlive_its_peer() {
    let (bench, _, client) = bench(&[]).await;
    let poll = tokio::spawn(async move {
        client.call(&fetch(vec![partition(0, 0)]).with_max_wait_ms(60_000), 12, Duration::from_secs(60)).await
    });
    let other = bench.client().await;
    assert_eq!(error(&at(&other, 12, &fetch(vec![partition(0, 0)])).await), None);
    // On one connection, answers come in the order of the questions.
    let begun = Instant::now();
    let (slow, quick) = (fetch(vec![partition(0, 0)]).with_max_wait_ms(200), ListGroupsRequest::default());
    let (_, quick) = tokio::join!(at(&other, 12, &slow), async { (call(&other, &quick).await, begun.elapsed()) });
    assert!(quick.1 >= Duration::from_millis(200), "{:?}", quick.1);
    // A stop does not wait for the long poll.
    let begun = Instant::now();
    bench.stop.cancel();
    let _ = poll.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn offsets_outside_the_log_are_told() {
    let batches: Vec<_> = (0..6).map(|at| BatchBuilder::at(at).records(1, 10)).collect();
    let (_bench, log, client) = bench(&batches).await;
    log.advance_log_start(Offset(2)).unwrap();
    for (offset, expected) in [(1, true), (2, false), (6, false), (7, true), (-1, true), (i64::MAX, true)] {
        let response = at(&client, 12, &fetch(vec![partition(0, offset)]).with_max_wait_ms(50)).await;
        assert_eq!(error(&response), expected.then_some(ResponseError::OffsetOutOfRange), "offset {offset}");
    }
    let unknown = at(&client, 12, &fetch(vec![partition(7, 0), partition(0, 2)])).await;
    assert_eq!(error(&unknown), Some(ResponseError::UnknownTopicOrPartition));
    assert_eq!(base_offsets(unknown.responses[0].partitions[1].records.clone().unwrap()), [2, 3, 4, 5]);
}

#[tokio::test]
async fn nothing_above_the_high_watermark_is_read() {
    let (_bench, log, client) = bench(&[BatchBuilder::at(0).records(1, 10)]).await;
    let mut bytes = BatchBuilder::at(1).records(1, 10).build();
    log.append(&[Batch::split_off(&mut bytes).unwrap()]).unwrap();
    let response = at(&client, 12, &fetch(vec![partition(0, 0)])).await;
    assert_eq!((base_offsets(records(&response)), first(&response).high_watermark), (vec![0], 1));
    let above = at(&client, 12, &fetch(vec![partition(0, 1)])).await;
    assert_eq!((error(&above), records(&above).len()), (None, 0));
}

#[tokio::test]
async fn what_was_mirrored_before_a_kill_is_read_without_the_source() {
    let (bench, log, client) = bench(&[BatchBuilder::at(0).records(1, 10)]).await;
    bench.logs.write_checkpoints().unwrap();
    fill(&log, &[BatchBuilder::at(1).records(2, 10), BatchBuilder::at(3).records(1, 10)]);
    drop((log, client));
    // Nobody mirrors here: this is a source that is gone, or a mirror that has failed.
    let bench = bench.start_after_a_kill(quick()).await;
    let response = at(&bench.client().await, 12, &fetch(vec![partition(0, 0)])).await;
    assert_eq!((base_offsets(records(&response)), first(&response).high_watermark), (vec![0, 1, 3], 4));
}

#[tokio::test]
async fn committed_readers_stop_at_the_last_stable_offset_and_learn_what_was_aborted() {
    let batches = [
        BatchBuilder::at(0).transactional(1, 0, 0).records(2, 10),
        BatchBuilder::at(2).transactional(2, 0, 0).records(1, 10),
        BatchBuilder::marker(3, 1, 0, false),
        BatchBuilder::at(4).records(1, 10),
        BatchBuilder::marker(5, 2, 0, true),
        BatchBuilder::at(6).transactional(3, 0, 0).records(1, 10),
        BatchBuilder::at(7).records(1, 10),
    ];
    let (_bench, _, client) = bench(&batches).await;
    for version in [4, 11, 12] {
        let uncommitted = at(&client, version, &fetch(vec![partition(0, 0)])).await;
        assert_eq!(base_offsets(records(&uncommitted)).len(), 7);
        assert_eq!(first(&uncommitted).aborted_transactions, None);
        let committed = at(&client, version, &fetch(vec![partition(0, 0)]).with_isolation_level(1)).await;
        assert_eq!(base_offsets(records(&committed)), [0, 2, 3, 4, 5]);
        assert_eq!((first(&committed).last_stable_offset, first(&committed).high_watermark), (6, 8));
        let aborted = first(&committed).aborted_transactions.clone().unwrap();
        assert_eq!(aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect::<Vec<_>>(), [(1, 0)]);
        let later = at(&client, version, &fetch(vec![partition(0, 4)]).with_isolation_level(1)).await;
        assert_eq!(first(&later).aborted_transactions, Some(Vec::new()));
        let at_end = at(&client, version, &fetch(vec![partition(0, 6)]).with_isolation_level(1)).await;
        assert_eq!((error(&at_end), records(&at_end).len()), (None, 0));
    }
}

#[tokio::test]
async fn leader_epochs_fence_and_divergence_is_told() {
    let batches = [(0, 1), (1, 1), (2, 4), (3, 6)].map(|(at, epoch)| BatchBuilder::at(at).epoch(epoch).records(1, 10));
    let (_bench, log, client) = bench(&batches).await;
    let ask = async |current: i32, last_fetched: i32, offset: i64| {
        let partition = partition(0, offset).with_current_leader_epoch(current).with_last_fetched_epoch(last_fetched);
        let response = at(&client, 12, &fetch(vec![partition])).await;
        let diverging = first(&response).diverging_epoch.clone();
        (error(&response), (diverging.epoch, diverging.end_offset), !records(&response).is_empty())
    };
    assert_eq!(ask(6, 6, 3).await, (None, (-1, -1), true));
    assert_eq!(ask(5, -1, 3).await.0, Some(ResponseError::FencedLeaderEpoch));
    assert_eq!(ask(7, -1, 3).await.0, Some(ResponseError::UnknownLeaderEpoch));
    // Epoch 1 ended at 2 here; the client has it up to 3. Epoch 5 was never seen here.
    assert_eq!(ask(-1, 1, 3).await, (None, (1, 2), false));
    assert_eq!(ask(-1, 5, 3).await, (None, (4, 3), false));
    assert_eq!(ask(-1, 9, 3).await.0, Some(ResponseError::OffsetOutOfRange));
    log.truncate_to(Offset(3)).unwrap();
    assert_eq!(ask(6, -1, 3).await.0, Some(ResponseError::FencedLeaderEpoch));
    while ask(7, 6, 3).await.0 == Some(ResponseError::NotLeaderOrFollower) {} // until it is kept
    assert_eq!(ask(7, 6, 3).await, (None, (4, 3), false));
}

#[tokio::test]
async fn the_memory_of_responses_is_bounded() {
    let config = BrokerConfig { fetch_max_bytes: 64 << 10, fetch_memory_bytes: 64 << 10, ..quick() };
    let bench = Bench::with(config, "allow.everyone.if.no.acl.found=true").await;
    let log = bench.mirror("t", 1).remove(0);
    let batches: Vec<_> = (0..100).map(|at| BatchBuilder::at(at).records(1, 10_000)).collect();
    fill(&log, &batches);
    // Everybody gets everything, in turn: permits come back when the responses are written.
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = bench.client().await;
        readers.spawn(async move {
            let mut next = 0;
            while next < 100 {
                let response = at(&client, 12, &fetch(vec![partition(0, next)]).with_max_wait_ms(5000)).await;
                let records = records(&response);
                assert!(records.len() <= 64 << 10);
                next = base_offsets(records).last().map_or(next, |last| last + 1);
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}

#[tokio::test]
async fn large_requests_share_one_budget_and_small_ones_need_none() {
    let config = BrokerConfig { request_memory_bytes: 4 << 10, ..quick() };
    let bench = Bench::with(config, "allow.everyone.if.no.acl.found=true").await;
    bench.mirror("t", 200);
    // A poll whose request fills the budget, of partitions that stay empty.
    let all = || (0..200).map(|index| partition(index, 0)).collect::<Vec<_>>();
    let (poller, other, small) = (bench.client().await, bench.client().await, bench.client().await);
    let poll = tokio::spawn(async move { at(&poller, 12, &fetch(all()).with_max_wait_ms(3000)).await });
    // Until the poll has the budget, this comes back at once; then it waits for the end of the poll.
    loop {
        let was_over = poll.is_finished();
        let request = fetch(all()).with_max_wait_ms(0);
        let mut large = pin!(at(&other, 12, &request));
        tokio::select! {
            _ = &mut large => assert!(!was_over, "a large request did not wait for the budget"),
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                // Small requests never need it.
                at(&small, 12, &fetch(vec![partition(0, 0)]).with_max_wait_ms(0)).await;
                large.await;
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_large_answer_to_a_small_question_waits_for_the_budget() {
    let config = BrokerConfig { request_memory_bytes: 4 << 10, ..quick() };
    let bench = Bench::with(config, "allow.everyone.if.no.acl.found=true").await;
    bench.mirror("t", 200);
    let all = (0..200).map(|index| partition(index, 0)).collect::<Vec<_>>();
    let (poller, other, small) = (bench.client().await, bench.client().await, bench.client().await);
    let poll = tokio::spawn(async move { at(&poller, 12, &fetch(all).with_max_wait_ms(3000)).await });
    let named = |name| {
        MetadataRequest::default().with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name)))),
        ]))
    };
    // Until the poll has the budget, this comes back at once; then it waits for the end of the poll.
    loop {
        let was_over = poll.is_finished();
        let request = named("t");
        let mut large = pin!(at(&other, 12, &request));
        tokio::select! {
            _ = &mut large => assert!(!was_over, "a large answer did not wait for the budget"),
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                at(&small, 12, &named("none")).await;
                assert_eq!(large.await.topics[0].partitions.len(), 200);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_batch_larger_than_what_was_asked_for_is_charged() {
    let config = BrokerConfig { fetch_memory_bytes: 20 << 20, ..quick() };
    let bench = Bench::with(config, "allow.everyone.if.no.acl.found=true").await;
    let log = bench.mirror("t", 1).remove(0);
    fill(&log, &[BatchBuilder::at(0).records(1, 16 << 20)]);
    let ask = || fetch(vec![partition(0, 0).with_partition_max_bytes(1)]).with_max_bytes(1);
    // It is asked for a byte and holds 16 MiB for as long as nobody takes them from it: more than the sockets hold.
    let request = encode_request::<FetchRequest>(12, 1, "stalled", &ask()).unwrap();
    let mut stalled = TcpStream::connect(bench.address).await.unwrap();
    stalled.write_all(&request).await.unwrap();
    let mut length = [0; 4];
    stalled.read_exact(&mut length).await.unwrap();
    let client = bench.client().await;
    assert!(records(&at(&client, 12, &ask().with_max_wait_ms(0)).await).is_empty());
    // Once it has taken them, there is room again.
    let mut rest = vec![0; u32::from_be_bytes(length) as usize];
    stalled.read_exact(&mut rest).await.unwrap();
    assert!(records(&at(&client, 12, &ask().with_max_wait_ms(5000)).await).len() > 16 << 20);
}

/// Asks for `bytes_max` of each partition over a connection of its own; returns that with the answer's length, once it
/// begins to be written.
async fn begin_to_read(bench: &Bench, partitions: std::ops::Range<i32>, bytes_max: i32) -> (TcpStream, usize) {
    let wants = partitions.map(|index| partition(index, 0).with_partition_max_bytes(bytes_max)).collect();
    let request = encode_request::<FetchRequest>(12, 1, "slow", &fetch(wants)).unwrap();
    let mut socket = TcpStream::connect(bench.address).await.unwrap();
    socket.write_all(&request).await.unwrap();
    let mut length = [0; 4];
    socket.read_exact(&mut length).await.unwrap();
    (socket, u32::from_be_bytes(length) as usize)
}

#[tokio::test]
async fn readers_that_take_nothing_starve_nobody() {
    let config = BrokerConfig { fetch_memory_bytes: 20 << 20, ..quick() };
    let bench = Bench::with(config, "allow.everyone.if.no.acl.found=true").await;
    let logs = bench.mirror("t", 2);
    fill(&logs[0], &[BatchBuilder::at(0).records(1, 16 << 20)]);
    let batches: Vec<_> = (0..40).map(|at| BatchBuilder::at(at).records(1, 100 << 10)).collect();
    fill(&logs[1], &batches);
    let _stuck = begin_to_read(&bench, 0..1, 1 << 20).await;
    let client = bench.client().await;
    let ask = |bytes_max| fetch(vec![partition(1, 0).with_partition_max_bytes(bytes_max)]);
    for bytes_max in [1, 1 << 20, 8 << 20] {
        let read = records(&at(&client, 12, &ask(bytes_max)).await);
        assert!(!read.is_empty() && read.len() <= 1 << 20, "{} of {bytes_max}", read.len());
    }
}

#[tokio::test]
async fn records_that_are_written_give_their_memory_back() {
    let config = BrokerConfig { fetch_max_bytes: 64 << 20, fetch_memory_bytes: 80 << 20, ..quick() };
    let bench = Bench::with(config, "allow.everyone.if.no.acl.found=true").await;
    let logs = bench.mirror("t", 2);
    for log in &logs {
        fill(log, &[BatchBuilder::at(0).records(1, 16 << 20)]);
    }
    let (mut slow, length) = begin_to_read(&bench, 0..2, 17 << 20).await;
    assert!(length > 32 << 20, "{length}");
    let client = bench.client().await;
    let ask = |wait| fetch(vec![partition(0, 0)]).with_max_wait_ms(wait);
    assert!(records(&at(&client, 12, &ask(0)).await).is_empty(), "there was room for a third");
    // The second half of the answer is still to be written: it is more than the sockets hold.
    slow.read_exact(&mut vec![0; length / 2 + (64 << 10)]).await.unwrap();
    assert!(records(&at(&client, 12, &ask(15_000)).await).len() > 16 << 20);
}

/// Time stands still but for what it is moved by, for as long as the guard lives.
fn stop_the_clock() -> std::sync::mpsc::Sender<()> {
    let (guard, held) = std::sync::mpsc::channel();
    // While a blocking thread works, an idle runtime does not move the clock to its next timer.
    tokio::task::spawn_blocking(move || held.recv());
    tokio::time::pause();
    guard
}

#[tokio::test]
async fn a_slow_reader_gets_a_large_batch_whole() {
    let (bench, ..) = bench(&[BatchBuilder::at(0).records(1, 32 << 20)]).await;
    let (mut slow, length) = begin_to_read(&bench, 0..1, 1).await;
    let _guard = stop_the_clock();
    let mut left = length;
    // 200 kB/s.
    while left > 0 {
        let mut piece = vec![0; left.min(1 << 20)];
        slow.read_exact(&mut piece).await.unwrap();
        left -= piece.len();
        tokio::time::advance(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut() {
    let (bench, ..) = bench(&[BatchBuilder::at(0).records(1, 32 << 20)]).await;
    let (mut stuck, length) = begin_to_read(&bench, 0..1, 1).await;
    let _guard = stop_the_clock();
    // At first the sockets take some pieces.
    for _ in 0..200 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let mut taken = Vec::new();
    let end = stuck.read_to_end(&mut taken).await;
    assert!(end.is_err() || taken.len() < length, "{} of {length} bytes", taken.len());
}

#[tokio::test]
async fn a_repeated_login_is_answered_behind_the_request_before_it() {
    let bench = Bench::new().await;
    let _logs = bench.mirror("t", 1);
    let mut socket = TcpStream::connect(bench.sasl_address).await.unwrap();
    let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
    let token = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0root\0root"));
    let login = |id| [encode_request(1, id, "", &handshake).unwrap(), encode_request(2, id + 1, "", &token).unwrap()];
    let waits = fetch(vec![partition(0, 0)]).with_max_wait_ms(1000);
    let pipelined = [&login(1)[..], &[encode_request(4, 3, "", &waits).unwrap()], &login(4)[..]].concat();
    for frame in &pipelined {
        socket.write_all(frame).await.unwrap();
    }
    let mut answered = Vec::new();
    for _ in &pipelined {
        let mut answer = vec![0; usize::try_from(socket.read_i32().await.unwrap()).unwrap()];
        socket.read_exact(&mut answer).await.unwrap();
        answered.push(i32::from_be_bytes(answer[..4].try_into().unwrap()));
    }
    assert_eq!(answered, [1, 2, 3, 4, 5]);
}
