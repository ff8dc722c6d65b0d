//! Frames in every cut, forwarded, oversized, and with their buffers used again.

use super::*;
use proptest::prelude::*;
use std::io::Cursor;
use tokio::io::{AsyncWriteExt, duplex};

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

/// Gives at most `step` bytes a read.
struct Drip<R>(R, usize);

impl<R: AsyncRead + Unpin> AsyncRead for Drip<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let step = self.1.min(buf.remaining());
        let mut part = vec![0; step];
        let mut read = tokio::io::ReadBuf::new(&mut part);
        ready!(std::pin::Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn reads_any_frames_in_any_cut(
        sizes in proptest::collection::vec(prop_oneof![0_usize..40, 0_usize..200_000], 0..6),
        step in prop_oneof![1_usize..5, 100_usize..100_000],
        accepted in any::<bool>(),
        forward in any::<bool>(),
    ) {
        let step = if sizes.iter().sum::<usize>() > 10_000 { step.max(97) } else { step };
        let bodies: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, n)| (0..*n).map(|b| (b * 31 + i) as u8).collect()).collect();
        let wire: Vec<u8> = bodies.iter().flat_map(|b| framed(b)).collect();
        block_on(async {
            let mut from = Drip(Cursor::new(wire.clone()), step);
            let mut frames = if accepted { FrameReader::accepted(1 << 20) } else { FrameReader::dialled(1 << 20) };
            let mut copy = Vec::new();
            for body in &bodies {
                if forward {
                    let (length, head) = frames.peek(&mut from, 8).await.unwrap().unwrap();
                    assert_eq!((length, head), (body.len(), &body[..body.len().min(8)]));
                    assert_eq!(frames.forward(&mut from, &mut copy).await.unwrap(), 4 + body.len() as u64);
                } else {
                    assert_eq!(frames.frame(&mut from).await.unwrap().unwrap(), body[..]);
                }
            }
            if forward {
                assert_eq!(copy, wire);
            }
            assert!(frames.frame(&mut from).await.unwrap().is_none() && frames.is_empty());
        });
    }
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let body: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let wire = framed(&body);
    let (mut to, mut from) = duplex(1 << 20);
    let mut frames = FrameReader::accepted(1 << 20);
    for part in wire.chunks(30_000) {
        to.write_all(part).await.unwrap();
        let polled = poll_fn(|cx| Poll::Ready(frames.poll_frame(cx, &mut from))).await;
        if let Poll::Ready(frame) = polled {
            assert_eq!(frame.unwrap().unwrap(), body[..]);
            return;
        }
    }
    panic!("the frame never came");
}

#[tokio::test]
async fn bad_frames_are_named() {
    let read = async |bytes: &[u8]| FrameReader::accepted(1000).frame(&mut Cursor::new(bytes.to_vec())).await;
    assert!(matches!(read(&[0, 0, 3, 0xe9]).await, Err(FrameError::TooLarge { length: 1001, limit: 1000 })));
    assert!(matches!(read(&[0xff; 9]).await, Err(FrameError::NotKafka([0xff, 0xff, 0xff, 0xff]))));
    let http = read(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap_err();
    assert_eq!(http.to_string(), "peer does not speak Kafka's protocol: it begins with \"HTTP\"");
    assert!(matches!(read(&[0x15, 3, 3, 0, 2, 2, 10]).await, Err(FrameError::Tls)));
    assert!(matches!(read(&[0x16, 3, 1, 2, 0, 1]).await, Err(FrameError::Tls)));
    assert!(matches!(read(&[0, 0, 0]).await, Err(FrameError::Cut { .. })));
    assert!(matches!(read(&[0, 0, 0, 9, 1]).await, Err(FrameError::Cut { got: 1, length: 9 })));
    assert!(read(&[]).await.unwrap().is_none());
    let mut cut = framed(&[1; 100_000]);
    cut.truncate(50_000);
    let cut = FrameReader::dialled(1 << 20).frame(&mut Cursor::new(cut)).await;
    assert!(matches!(cut, Err(FrameError::Cut { got: 49_996, length: 100_000 })));
    let get = FrameReader::accepted(1 << 20).frame(&mut Cursor::new(b"GET / HTTP/1.1\r\n".to_vec())).await;
    assert!(matches!(get, Err(FrameError::TooLarge { .. })));
}

/// A stranger who promises much gets little.
#[tokio::test]
async fn memory_follows_the_bytes_that_came() {
    let (mut to, mut from) = duplex(1 << 20);
    let mut frames = FrameReader::accepted(100 << 20);
    to.write_all(&(100_u32 << 20).to_be_bytes()).await.unwrap();
    to.write_all(&[7; 100_000]).await.unwrap();
    assert!(poll_fn(|cx| Poll::Ready(frames.poll_frame(cx, &mut from))).await.is_pending());
    let large = frames.large.as_ref().unwrap();
    assert!(large.frame.len() == 100_000 && large.frame.capacity() < 300_000, "{}", large.frame.capacity());
    // Nothing at all while nothing comes.
    let (_to, mut from) = duplex(64);
    let mut idle = FrameReader::accepted(1 << 20);
    assert!(poll_fn(|cx| Poll::Ready(idle.poll_frame(cx, &mut from))).await.is_pending());
    assert_eq!(idle.ahead.capacity(), 0);
}

#[tokio::test]
async fn large_buffers_are_used_again_once_free() {
    let mut frames = FrameReader::dialled(16 << 20);
    let read = async |frames: &mut FrameReader, n: usize| {
        let wire = framed(&vec![1; n]);
        frames.frame(&mut Cursor::new(wire)).await.unwrap().unwrap()
    };
    let first = read(&mut frames, 10 << 20).await;
    let (address, slice) = (first.as_ptr(), first.slice(5..9));
    drop(first);
    let second = read(&mut frames, 10 << 20).await;
    assert_ne!(second.as_ptr(), address, "a slice of the first is still read");
    drop(slice);
    let third = read(&mut frames, (10 << 20) + 1000).await;
    assert_eq!(third.as_ptr(), address);
    drop((second, third));
    let small = read(&mut frames, 100_000).await;
    assert!(small.try_into_mut().is_err_and(|s| s.len() == 100_000), "its own buffer, kept for the next");
    assert!((1..=KEEP_FRAMES).contains(&frames.kept.len()));
    for _ in 0..QUIET_AFTER {
        read(&mut frames, 10).await;
    }
    assert!(frames.kept.is_empty(), "a quiet stream keeps no large buffer");
}

#[tokio::test]
async fn what_was_read_ahead_goes_to_the_next_owner() {
    let wire: Vec<u8> = [framed(b"one"), framed(&[2; 40_000])].concat();
    let mut from = Cursor::new(wire.clone());
    let mut frames = FrameReader::accepted(1 << 20);
    assert_eq!(frames.frame(&mut from).await.unwrap().unwrap(), b"one"[..]);
    let ahead = frames.into_ahead();
    let rest = [&ahead[..], &wire[from.position() as usize..]].concat();
    assert_eq!(rest, wire[7..]);
}

/// A reader of a budget of its own, and the peer's end of its stream.
fn stranger(
    memory: &Arc<FrameMemory>,
    bytes_max: usize,
) -> (FrameReader, tokio::io::DuplexStream, tokio::io::DuplexStream) {
    let (to, from) = duplex(1 << 20);
    (FrameReader::new(bytes_max, Trust::AsItComes, Arc::clone(memory)), to, from)
}

#[tokio::test]
async fn many_that_promise_much_hold_no_more_than_the_budget() {
    const BUDGET: usize = 1 << 20;
    const FRAME: usize = 1 << 19;
    let memory = Arc::new(FrameMemory::new(BUDGET));
    let mut peers = Vec::new();
    for _ in 0..100 {
        let (mut frames, mut to, mut from) = stranger(&memory, FRAME);
        to.write_all(&u32::try_from(FRAME).unwrap().to_be_bytes()).await.unwrap();
        to.write_all(&[7; 100_000]).await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(frames.poll_frame(cx, &mut from))).await.is_pending());
        peers.push((frames, to, from));
    }
    let held = |frames: &FrameReader| frames.large.as_ref().map_or(0, |large| large.frame.capacity());
    let free = 2 * READ_AHEAD; // what was read ahead, before anything is charged
    let all: usize = peers.iter().map(|(frames, ..)| held(frames).saturating_sub(free)).sum();
    assert!(all <= BUDGET + FRAME, "{all} bytes are held");
    // They wait for each other, and none is stuck.
    let mut readers = tokio::task::JoinSet::new();
    for (mut frames, mut to, mut from) in peers {
        tokio::spawn(async move {
            let _ = to.write_all(&vec![7; FRAME - 100_000]).await;
            std::future::pending::<()>().await;
        });
        readers.spawn(async move { frames.frame(&mut from).await.unwrap().unwrap().len() });
    }
    let all = tokio::time::timeout(Duration::from_secs(60), readers.join_all()).await.expect("nobody is stuck");
    assert_eq!((all.len(), all.iter().sum::<usize>()), (100, 100 * FRAME));
    assert_eq!(memory.left_bytes(), BUDGET);
}

#[tokio::test]
async fn a_frame_is_charged_until_its_last_slice_is_gone() {
    let memory = Arc::new(FrameMemory::new(1 << 20));
    let (mut frames, mut to, mut from) = stranger(&memory, 1 << 20);
    to.write_all(&framed(&[1; 100])).await.unwrap();
    assert_eq!(frames.frame(&mut from).await.unwrap().unwrap().len(), 100);
    assert_eq!(memory.left_bytes(), 1 << 20, "small ones are free");
    to.write_all(&framed(&vec![1; 300 * 1024])).await.unwrap();
    let frame = frames.frame(&mut from).await.unwrap().unwrap();
    let slice = frame.slice(1000..1010);
    drop(frame);
    assert_eq!(memory.left_bytes(), (1 << 20) - 300 * 1024);
    drop(slice);
    assert_eq!(memory.left_bytes(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dribbles_is_let_go() {
    let memory = Arc::new(FrameMemory::new(1 << 20));
    let (mut frames, mut to, mut from) = stranger(&memory, 1 << 24);
    let began = Instant::now();
    let dribble = tokio::spawn(async move {
        to.write_all(&(1_u32 << 20).to_be_bytes()).await.unwrap();
        to.write_all(&[7; 100_000]).await.unwrap();
        while to.write_all(&[7; 100]).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    let error = frames.frame(&mut from).await.expect_err("too slow");
    assert!(matches!(error, FrameError::TooSlow { length: 1_048_576, .. }), "{error}");
    assert_eq!(began.elapsed(), PIECE_TIME);
    drop((frames, from));
    assert_eq!(memory.left_bytes(), 1 << 20);
    dribble.await.unwrap();
    // One that keeps the pace may take long.
    let (mut frames, mut to, mut from) = stranger(&memory, 1 << 24);
    tokio::spawn(async move {
        to.write_all(&(8_u32 << 20).to_be_bytes()).await.unwrap();
        for _ in 0..64 {
            to.write_all(&vec![7; (8 << 20) / 64]).await.unwrap();
            sleep(PIECE_TIME / 9).await;
        }
        std::future::pending::<()>().await;
    });
    assert_eq!(frames.frame(&mut from).await.unwrap().unwrap().len(), 8 << 20);
}

/// Time that is spent waiting for memory is not the peer's.
#[tokio::test(start_paused = true)]
async fn waiting_for_memory_is_no_slowness() {
    let memory = Arc::new(FrameMemory::new(1 << 20));
    let mut whole = Vec::new();
    for _ in 0..2 {
        let (mut frames, mut to, mut from) = stranger(&memory, 1 << 20);
        to.write_all(&framed(&vec![1; 900_000])).await.unwrap();
        whole.push(frames.frame(&mut from).await.unwrap().unwrap()); // the second goes beyond
    }
    let (mut frames, mut to, mut from) = stranger(&memory, 1 << 20);
    to.write_all(&framed(&vec![1; 900_000])).await.unwrap();
    let third = tokio::spawn(async move { frames.frame(&mut from).await });
    sleep(10 * PIECE_TIME).await;
    assert!(!third.is_finished());
    drop(whole);
    assert_eq!(third.await.unwrap().unwrap().unwrap().len(), 900_000);
}
