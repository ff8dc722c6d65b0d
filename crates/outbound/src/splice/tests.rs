//! One channel between two in-memory peers: order, memory, ends, rate.

use super::*;
use crate::guard::Guard;
use bytes::{BufMut, BytesMut};
use hawser_wire::api::{encode_request, encode_response};
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use hawser_wire::messages::{DescribeClusterRequest, FetchRequest, FetchResponse, InitProducerIdRequest};
use tokio::io::{AsyncReadExt, DuplexStream};

/// What a duplex pipe holds, in bytes.
const PIPE: usize = 16 * 1024;

struct Rig {
    destination: DuplexStream,
    broker: DuplexStream,
    counts: Arc<Counts>,
    retired: watch::Sender<bool>,
    task: tokio::task::JoinHandle<End>,
}

fn rig(throttle: Option<Throttle>, idle_max: Duration) -> Rig {
    let (destination, destination_end) = tokio::io::duplex(PIPE);
    let (broker, broker_end) = tokio::io::duplex(PIPE);
    let counts = Arc::new(Counts::new("l"));
    let retired = watch::Sender::new(false);
    let splice = Splice {
        guard: Guard::new(None),
        throttle: throttle.map(Arc::new),
        counts: Arc::clone(&counts),
        idle_max,
        retired: retired.subscribe(),
        reauthentication: None,
    };
    let task = tokio::spawn(splice.run(destination_end, broker_end));
    Rig { destination, broker, counts, retired, task }
}

const LONG: Duration = Duration::from_secs(600);

fn fetch(id: i32) -> Bytes {
    encode_request(12, id, "c", &FetchRequest::default()).unwrap()
}

/// An answer of `bytes` bytes in all, prefix included.
fn answer(id: i32, bytes: usize) -> Bytes {
    let mut frame = BytesMut::zeroed(bytes);
    let length = u32::try_from(bytes - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[4..8].copy_from_slice(&id.to_be_bytes());
    for (i, byte) in frame[8..].iter_mut().enumerate() {
        *byte = (i % 251) as u8;
    }
    frame.freeze()
}

async fn read_exactly(from: &mut DuplexStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    from.read_exact(&mut read).await.expect("read");
    read
}

#[tokio::test]
async fn answers_of_every_size_pass_unchanged_and_in_order() {
    let mut rig = rig(None, LONG);
    for (id, bytes) in
        [8, 9, 4096, 8191, 8192, 8193, 70_000, 262_143, 262_144, 300_000, 3_000_000, 8].into_iter().enumerate()
    {
        let id = i32::try_from(id).unwrap();
        rig.destination.write_all(&fetch(id)).await.unwrap();
        rig.destination.write_all(&fetch(id + 100)).await.unwrap();
        let asked = fetch(id);
        assert_eq!(read_exactly(&mut rig.broker, asked.len()).await, asked);
        let asked = fetch(id + 100);
        assert_eq!(read_exactly(&mut rig.broker, asked.len()).await, asked);
        let (first, second) = (answer(id, bytes), answer(id + 100, 20));
        let both = [first, second].concat();
        let (mut broker, expected) = (rig.broker, both.clone());
        let writer = tokio::spawn(async move {
            broker.write_all(&both).await.unwrap();
            broker
        });
        assert_eq!(read_exactly(&mut rig.destination, expected.len()).await, expected, "{bytes} bytes");
        rig.broker = writer.await.unwrap();
    }
    assert_eq!(rig.counts.refused.load(Ordering::Relaxed), 0);
    drop(rig.broker);
    assert!(matches!(rig.task.await.unwrap(), End::Broker));
}

#[tokio::test]
async fn a_refusal_keeps_its_place_between_answers() {
    let mut rig = rig(None, LONG);
    rig.destination.write_all(&fetch(1)).await.unwrap();
    let forbidden =
        encode_request(0, 2, "c", &InitProducerIdRequest::default().with_transaction_timeout_ms(1)).unwrap();
    rig.destination.write_all(&forbidden).await.unwrap();
    rig.destination.write_all(&fetch(3)).await.unwrap();
    let asked = fetch(1).len() + fetch(3).len();
    read_exactly(&mut rig.broker, asked).await;
    rig.broker.write_all(&[answer(1, 20), answer(3, 20)].concat()).await.unwrap();
    for id in [1, 2, 3] {
        let length = rig.destination.read_u32().await.unwrap();
        let frame = read_exactly(&mut rig.destination, length as usize).await;
        assert_eq!(frame[..4], i32::to_be_bytes(id));
    }
    assert_eq!(rig.counts.refused.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_foreign_session_is_refused_and_an_own_one_continued() {
    let mut rig = rig(None, LONG);
    let asked = |id, session| {
        let body = FetchRequest::default().with_session_id(session).with_session_epoch(1);
        encode_request(12, id, "c", &body).unwrap()
    };
    // Guessed: answered here, and the broker sees nothing of it.
    rig.destination.write_all(&asked(1, 4711)).await.unwrap();
    let none = FetchResponse::default().with_error_code(70);
    let none = encode_response::<FetchRequest>(12, 1, &none).unwrap();
    assert_eq!(read_exactly(&mut rig.destination, none.len()).await, none);
    assert_eq!(rig.counts.refused.load(Ordering::Relaxed), 1);
    // Given by the broker, in an answer that comes byte by byte.
    rig.destination.write_all(&fetch(2)).await.unwrap();
    assert_eq!(read_exactly(&mut rig.broker, fetch(2).len()).await, fetch(2));
    let given = encode_response::<FetchRequest>(12, 2, &FetchResponse::default().with_session_id(4711)).unwrap();
    for byte in given.iter() {
        rig.broker.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read_exactly(&mut rig.destination, given.len()).await, given);
    rig.destination.write_all(&asked(3, 4711)).await.unwrap();
    assert_eq!(read_exactly(&mut rig.broker, asked(3, 4711).len()).await, asked(3, 4711));
    assert_eq!(rig.counts.refused.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn own_answers_that_nobody_reads_stop_the_requests() {
    let mut rig = rig(None, LONG);
    // A replica's fetch is refused with a word about each of its partitions: some 150 kB.
    let partitions = vec![FetchPartition::default(); 4000];
    let topic = FetchTopic::default().with_partitions(partitions);
    let replica = FetchRequest::default().with_replica_id(3.into()).with_topics(vec![topic]);
    let asked = encode_request(12, 1, "c", &replica).unwrap();
    let mut sent = 0;
    let mut taken = 0;
    while taken < IN_FLIGHT_MAX {
        let rest = &asked[sent..];
        let Ok(wrote) = tokio::time::timeout(Duration::from_millis(500), rig.destination.write(rest)).await else {
            break;
        };
        sent += wrote.unwrap();
        if sent == asked.len() {
            (sent, taken) = (0, taken + 1);
        }
    }
    assert!((2..8).contains(&taken), "{taken} requests were taken");
    assert!(rig.counts.refused.load(Ordering::Relaxed) < 8);
    // Once they are read, the rest is.
    let (mut reader, mut writer) = tokio::io::split(rig.destination);
    let rest = asked.slice(sent..);
    let writing = tokio::spawn(async move { writer.write_all(&rest).await.map(|()| writer) });
    for _ in 0..=taken {
        let length = reader.read_u32().await.unwrap();
        let mut answer = vec![0; length as usize];
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..4], 1_i32.to_be_bytes());
    }
    assert!(writing.await.unwrap().is_ok());
}

#[tokio::test]
async fn an_answer_is_never_gathered() {
    let mut rig = rig(None, LONG);
    rig.destination.write_all(&fetch(1)).await.unwrap();
    read_exactly(&mut rig.broker, fetch(1).len()).await;
    let whole = answer(1, 10 << 20);
    // The destination does not read: the broker must be stopped after what the buffer and the pipes hold.
    let mut sent = 0;
    while let Ok(wrote) = tokio::time::timeout(Duration::from_millis(300), rig.broker.write(&whole[sent..])).await {
        sent += wrote.unwrap();
    }
    assert!(sent <= BUSY_BYTES + 2 * PIPE, "{sent} bytes were taken");
    let (mut broker, rest) = (rig.broker, whole.slice(sent..));
    let writer = tokio::spawn(async move { broker.write_all(&rest).await.map(|()| broker) });
    assert_eq!(read_exactly(&mut rig.destination, whole.len()).await, whole);
    assert!(writer.await.unwrap().is_ok());
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_end_the_channel() {
    let mut unasked = rig(None, LONG);
    unasked.broker.write_all(&answer(1, 20)).await.unwrap();
    assert!(matches!(unasked.task.await.unwrap(), End::Answer(_)));

    let mut negative = rig(None, LONG);
    negative.destination.write_all(&fetch(1)).await.unwrap();
    read_exactly(&mut negative.broker, fetch(1).len()).await;
    negative.broker.write_all(&[0xff; 8]).await.unwrap();
    assert!(matches!(negative.task.await.unwrap(), End::BrokerIo(_)));

    let mut cut = rig(None, LONG);
    cut.destination.write_all(&fetch(1)).await.unwrap();
    read_exactly(&mut cut.broker, fetch(1).len()).await;
    cut.broker.write_all(&answer(1, 100)[..50]).await.unwrap();
    drop(cut.broker);
    assert!(matches!(cut.task.await.unwrap(), End::BrokerIo(_)));
}

#[tokio::test]
async fn garbage_from_the_destination_ends_the_channel() {
    let mut rig = rig(None, LONG);
    let mut frame = BytesMut::new();
    frame.put_u32(6);
    frame.put_slice(&[0xff; 6]);
    rig.destination.write_all(&frame).await.unwrap();
    assert!(matches!(rig.task.await.unwrap(), End::Forbidden(_)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_channel_closes_but_not_one_that_waits_for_an_answer() {
    let rig_idle = rig(None, Duration::from_secs(5));
    assert!(matches!(rig_idle.task.await.unwrap(), End::Idle(_)));

    let mut busy = rig(None, Duration::from_secs(5));
    busy.destination.write_all(&fetch(1)).await.unwrap();
    read_exactly(&mut busy.broker, fetch(1).len()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    busy.broker.write_all(&answer(1, 20)).await.unwrap();
    assert_eq!(read_exactly(&mut busy.destination, 20).await, answer(1, 20));
    assert!(matches!(busy.task.await.unwrap(), End::Idle(_)));
}

#[tokio::test]
async fn the_rate_is_kept() {
    let mut rig = rig(Some(Throttle::new(1_000_000, Instant::now())), LONG);
    let begun = Instant::now();
    for id in 0..4 {
        let asked = encode_request(1, id, "c", &DescribeClusterRequest::default()).unwrap();
        rig.destination.write_all(&asked).await.unwrap();
        read_exactly(&mut rig.broker, asked.len()).await;
        let (mut broker, whole) = (rig.broker, answer(id, 100_000));
        let writer = tokio::spawn(async move {
            broker.write_all(&whole).await.unwrap();
            broker
        });
        read_exactly(&mut rig.destination, 100_000).await;
        rig.broker = writer.await.unwrap();
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(280), "400 kB at 1 MB/s with a burst of 100 kB took {took:?}");
    assert_eq!(rig.counts.bytes.load(Ordering::Relaxed), 400_000);
}

#[tokio::test]
async fn a_retired_channel_ends_between_two_requests() {
    let mut rig = rig(None, LONG);
    rig.destination.write_all(&fetch(1)).await.unwrap();
    read_exactly(&mut rig.broker, fetch(1).len()).await;
    rig.retired.send_replace(true);
    tokio::task::yield_now().await;
    rig.broker.write_all(&answer(1, 300)).await.unwrap();
    assert_eq!(read_exactly(&mut rig.destination, 300).await, answer(1, 300), "what was asked is answered");
    assert!(matches!(rig.task.await.unwrap(), End::Retired));
    assert_eq!(rig.destination.read(&mut [0]).await.unwrap(), 0);
    let mut idle = self::rig(None, LONG);
    idle.retired.send_replace(true);
    assert_eq!(idle.destination.read(&mut [0]).await.unwrap(), 0, "who waits for nothing ends at once");
}
