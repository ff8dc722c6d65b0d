//! Reads length-prefixed frames off a stream, whole or passing through, and never loses its place.
//!
//! Small frames come out of a read-ahead buffer (one system call for many); a large one is read straight into a buffer of
//! its own size. All state is kept here, so every wait can be cancelled and taken up again.

mod memory;

pub use memory::FRAMES_BYTES_MAX;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memory::{Charge, FrameMemory};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep};

/// What is read at once where frames are small, in bytes.
const READ_AHEAD: usize = 16 * 1024;
/// What [`FrameReader::forward`] moves at once, in bytes: four TLS records.
const FORWARD: usize = 64 * 1024;
/// First buffer of a frame whose sender is not trusted; it doubles as the bytes really come, in bytes.
const GROW_FROM: usize = 64 * 1024;
/// A large frame of somebody who is not trusted holds memory that others wait for: it has this long for every so many
/// bytes of it (17 kB/s, as fast as answers have to be taken), and for what is left of it at the end.
const PIECE_BYTES: usize = 1024 * 1024;
const PIECE_TIME: Duration = Duration::from_secs(60);
/// Frames from this size on have their buffers kept for the next, in bytes: below, the allocator is quick enough.
const KEEP_FROM: usize = 64 * 1024;
/// Buffers kept for reuse: one being filled, two with their readers, one on its way.
const KEEP_FRAMES: usize = 4;
/// Sum of the kept buffers' sizes, in bytes; what is above is freed with its last reader.
const KEEP_BYTES: usize = 32 * 1024 * 1024;
/// Small frames in a row after which the kept buffers are freed: the stream has gone quiet.
const QUIET_AFTER: u32 = 32;
/// Length prefix, in bytes.
const PREFIX: usize = 4;

/// Why no frame could be read. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A frame longer than the limit.
    #[error("frame of {length} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What the prefix said, in bytes.
        length: usize,
        /// What is accepted, in bytes.
        limit: usize,
    },
    /// A negative length, or HTTP: not Kafka's protocol.
    #[error("peer does not speak Kafka's protocol: it begins with \"{}\"", .0.escape_ascii())]
    NotKafka([u8; PREFIX]),
    /// A TLS alert or hello where a frame should begin.
    #[error("peer speaks TLS where plain text is expected: one side's security.protocol or port is wrong")]
    Tls,
    /// The peer began a large frame and does not bring the rest.
    #[error("{got} of {length} bytes of a frame came: too slow")]
    TooSlow {
        /// Bytes that came.
        got: usize,
        /// Bytes that were promised.
        length: usize,
    },
    /// The stream ended inside a frame.
    #[error("connection closed inside a frame after {got} of {length} bytes")]
    Cut {
        /// Bytes that came.
        got: usize,
        /// Bytes that were promised.
        length: usize,
    },
}

/// Reads frames; belongs to one stream, which is passed to every call.
#[derive(Debug)]
pub struct FrameReader {
    ahead: BytesMut,
    /// A large frame that is being read into a buffer of its own.
    large: Option<Large>,
    bytes_max: usize,
    trust: Trust,
    /// What large frames of peers that are not trusted are charged to.
    memory: Arc<FrameMemory>,
    kept: VecDeque<Bytes>,
    small_in_a_row: u32,
}

#[derive(Debug)]
struct Large {
    frame: BytesMut,
    length: usize,
    /// `None` for a peer that we chose.
    terms: Option<Terms>,
}

/// On which terms a large frame of a peer that is not trusted is read.
#[derive(Debug)]
struct Terms {
    charge: Charge,
    /// Ends when the piece at hand must be there. Stands still while memory is waited for.
    pace: Pin<Box<Sleep>>,
    /// Where that piece ends.
    piece_end: usize,
}

/// Whether a frame's whole length is reserved before its bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Reserve it, and keep buffers for reuse: few connections, to brokers that we chose.
    Whole,
    /// Grow with the data, and hold nothing while idle: anybody may connect.
    AsItComes,
}

impl FrameReader {
    /// For a connection that we dialled: frames up to `bytes_max` bytes, large buffers are reused once all their
    /// slices are dropped.
    pub fn dialled(bytes_max: usize) -> Self {
        Self::new(bytes_max, Trust::Whole, FrameMemory::of_process())
    }

    /// For a connection that somebody else dialled: no memory is taken beyond twice what has really come, nor beyond
    /// [`FRAMES_BYTES_MAX`] over all of them, from a frame's first bytes until its last slice is dropped. A large frame
    /// must come at some pace.
    pub fn accepted(bytes_max: usize) -> Self {
        Self::new(bytes_max, Trust::AsItComes, FrameMemory::of_process())
    }

    fn new(bytes_max: usize, trust: Trust, memory: Arc<FrameMemory>) -> Self {
        Self { ahead: BytesMut::new(), large: None, bytes_max, trust, memory, kept: VecDeque::new(), small_in_a_row: 0 }
    }

    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Whether nothing has been read beyond the last frame.
    pub fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.large.is_none()
    }

    /// Bytes that have been read beyond the last frame: how far the one that is coming has come.
    pub(crate) fn begun_bytes(&self) -> usize {
        self.ahead.len() + self.large.as_ref().map_or(0, |large| large.frame.len())
    }

    /// What was read beyond the last frame, in wire form, for the next owner of the stream.
    pub fn into_ahead(self) -> Bytes {
        match self.large {
            None => self.ahead.freeze(),
            Some(Large { frame, length, .. }) => {
                let mut whole = BytesMut::with_capacity(PREFIX + frame.len());
                whole.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
                whole.put_slice(&frame);
                whole.freeze()
            }
        }
    }

    /// The next frame without its prefix; `None` at the end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub async fn frame<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> Result<Option<Bytes>, FrameError> {
        poll_fn(|cx| self.poll_frame(cx, from)).await
    }

    /// As [`frame`](Self::frame), for loops that wait on several things.
    pub fn poll_frame<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<Result<Option<Bytes>, FrameError>> {
        loop {
            if self.large.is_some() {
                return self.poll_large(cx, from).map(|r| r.map(Some));
            }
            if let Some(length) = self.length()? {
                if let Some(body) = self.ahead.get(PREFIX..PREFIX + length) {
                    let frame = Bytes::copy_from_slice(body);
                    self.ahead.advance(PREFIX + length);
                    self.small_in_a_row = self.small_in_a_row.saturating_add(1);
                    if self.small_in_a_row == QUIET_AFTER {
                        self.kept = VecDeque::new();
                    }
                    return Poll::Ready(Ok(Some(frame)));
                }
                if PREFIX + length > READ_AHEAD {
                    self.begin_large(length);
                    continue;
                }
            }
            if ready!(self.poll_fill(cx, from, READ_AHEAD))? == 0 {
                return Poll::Ready(self.ended());
            }
        }
    }

    /// Length of the next frame and its first `n` bytes (or all, if it is shorter), none of which are consumed.
    /// `None` at the end of the stream. `n` is at most 1 KiB. Cancel-safe.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub async fn peek<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        n: usize,
    ) -> Result<Option<(usize, &[u8])>, FrameError> {
        debug_assert!(n <= 1024 && self.large.is_none());
        loop {
            if let Some(length) = self.length()?
                && self.ahead.len() >= PREFIX + length.min(n)
            {
                return Ok(self.ahead.get(PREFIX..PREFIX + length.min(n)).map(|head| (length, head)));
            }
            if poll_fn(|cx| self.poll_fill(cx, from, FORWARD)).await? == 0 {
                return match self.ended() {
                    Ok(_) => Ok(None),
                    Err(e) => Err(e),
                };
            }
        }
    }

    /// Moves the next frame, prefix included, to `to` without gathering it; does not flush. Returns the bytes moved,
    /// 0 at the end of the stream. Not cancel-safe: a frame cut in the middle spoils `to`.
    ///
    /// # Errors
    /// See [`FrameError`]; `Io` may also be `to`'s.
    pub async fn forward<R, W>(&mut self, from: &mut R, to: &mut W) -> Result<u64, FrameError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Some((length, _)) = self.peek(from, 0).await? else { return Ok(0) };
        let whole = PREFIX + length;
        let mut left = whole;
        loop {
            let n = left.min(self.ahead.len());
            to.write_all(&self.ahead[..n]).await?;
            self.ahead.advance(n);
            left -= n;
            if left == 0 {
                return Ok(whole as u64);
            }
            if poll_fn(|cx| self.poll_fill(cx, from, FORWARD)).await? == 0 {
                return Err(FrameError::Cut { got: (whole - left).saturating_sub(PREFIX), length });
            }
        }
    }

    /// The length of the frame at the front, once its prefix is there.
    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.ahead.first_chunk::<PREFIX>() else { return Ok(None) };
        match usize::try_from(i32::from_be_bytes(*prefix)) {
            // As a length these are 335 to 370 MiB; as TLS, an alert or a handshake record of version 3.x.
            _ if matches!(prefix, [0x15 | 0x16, 3, 0..=4, _]) && !self.allows_tls_like() => Err(FrameError::Tls),
            Ok(length) if length <= self.bytes_max => Ok(Some(length)),
            Ok(_) if prefix == b"HTTP" => Err(FrameError::NotKafka(*prefix)),
            Ok(length) => Err(FrameError::TooLarge { length, limit: self.bytes_max }),
            Err(_) => Err(FrameError::NotKafka(*prefix)),
        }
    }

    fn allows_tls_like(&self) -> bool {
        self.bytes_max >= 0x1503_0000
    }

    fn begin_large(&mut self, length: usize) {
        self.ahead.advance(PREFIX);
        self.large = Some(match self.trust {
            Trust::Whole => {
                let mut frame = self.reuse(length).unwrap_or_else(|| BytesMut::with_capacity(round_up(length)));
                frame.put_slice(&self.ahead);
                self.ahead.clear();
                Large { frame, length, terms: None }
            }
            Trust::AsItComes => {
                let terms = Terms {
                    charge: Arc::clone(&self.memory).charge(),
                    pace: Box::pin(sleep(PIECE_TIME)),
                    piece_end: PIECE_BYTES,
                };
                Large { frame: std::mem::take(&mut self.ahead), length, terms: Some(terms) }
            }
        });
    }

    fn poll_large<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<Result<Bytes, FrameError>> {
        let Some(Large { frame, length, terms }) = &mut self.large else {
            return Poll::Ready(Err(io::Error::other("no frame begun").into()));
        };
        let begun = frame.len();
        while frame.len() < *length {
            let left = *length - frame.len();
            if let Some(terms) = terms
                && (frame.len() == frame.capacity() || !terms.is_charged())
            {
                ready!(terms.poll_grow(cx, frame, *length));
            }
            let room = left.min(frame.capacity() - frame.len());
            let read = pin!(from.read_buf(&mut frame.limit(room))).poll(cx).map(or_end);
            if let Some(terms) = terms
                && terms.is_too_slow(cx, begun, frame.len(), read.is_pending())
            {
                return Poll::Ready(Err(FrameError::TooSlow { got: frame.len(), length: *length }));
            }
            if ready!(read)? == 0 {
                return Poll::Ready(Err(FrameError::Cut { got: frame.len(), length: *length }));
            }
        }
        let Some(Large { frame, terms, .. }) = self.large.take() else { return Poll::Pending };
        let frame = match terms {
            Some(terms) => terms.charge.pay_for(frame),
            None => frame.freeze(),
        };
        if self.trust == Trust::Whole && frame.len() >= KEEP_FROM {
            self.keep(frame.clone());
        }
        Poll::Ready(Ok(frame))
    }

    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        target: usize,
    ) -> Poll<io::Result<usize>> {
        self.ahead.reserve(target.saturating_sub(self.ahead.len()).max(1));
        let room = self.ahead.capacity() - self.ahead.len();
        let read = pin!(from.read_buf(&mut (&mut self.ahead).limit(room))).poll(cx).map(or_end);
        if read.is_pending() && self.trust == Trust::AsItComes && self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        read
    }

    fn ended(&self) -> Result<Option<Bytes>, FrameError> {
        match self.length()? {
            _ if self.ahead.is_empty() => Ok(None),
            Some(length) => Err(FrameError::Cut { got: self.ahead.len() - PREFIX, length }),
            None => Err(FrameError::Cut { got: 0, length: PREFIX }),
        }
    }

    fn keep(&mut self, frame: Bytes) {
        self.small_in_a_row = 0;
        self.kept.push_back(frame);
        while self.kept.len() > KEEP_FRAMES || self.kept.iter().map(Bytes::len).sum::<usize>() > KEEP_BYTES {
            self.kept.pop_front();
        }
    }

    /// A kept buffer that nobody reads any more and that `length` fits in without waste.
    fn reuse(&mut self, length: usize) -> Option<BytesMut> {
        for _ in 0..self.kept.len() {
            let kept = self.kept.pop_front()?;
            match kept.try_into_mut() {
                Ok(mut free) => {
                    free.clear();
                    if free.capacity() >= length && free.capacity() / 8 <= length {
                        return Some(free);
                    }
                    // Wrong size: let it go, sizes have changed.
                }
                Err(in_use) => self.kept.push_back(in_use),
            }
        }
        None
    }
}

impl Terms {
    fn is_charged(&self) -> bool {
        !self.charge.is_waiting() && self.charge.bytes() > 0
    }

    /// Ready once `frame` has room for more; its memory is granted first.
    fn poll_grow(&mut self, cx: &mut Context<'_>, frame: &mut BytesMut, length: usize) -> Poll<()> {
        let capacity = length.min(frame.len().saturating_mul(2).max(GROW_FROM));
        let waited = self.charge.is_waiting();
        ready!(self.charge.poll_raise(cx, capacity));
        if waited {
            self.pace.as_mut().reset(Instant::now() + PIECE_TIME);
        }
        // Exactly what was granted: a buffer that grows by itself takes more.
        let mut grown = BytesMut::with_capacity(capacity);
        grown.put_slice(frame);
        *frame = grown;
        Poll::Ready(())
    }

    /// Whether the piece at hand is not there in time, now that `got` bytes are, `begun` of them before this call. To be
    /// told whether more are waited for.
    fn is_too_slow(&mut self, cx: &mut Context<'_>, begun: usize, got: usize, waits: bool) -> bool {
        // So much at once was waiting in the socket: it was us who did not read.
        if got >= self.piece_end || got - begun >= GROW_FROM {
            self.piece_end = got.saturating_add(PIECE_BYTES);
            self.pace.as_mut().reset(Instant::now() + PIECE_TIME);
        }
        waits && self.pace.as_mut().poll(cx).is_ready()
    }
}

/// TLS calls an end without close_notify an error. Frames carry their length, so nothing can be cut off unseen.
fn or_end(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        other => other,
    }
}

/// Room for a little more than this frame, so that the next one, of nearly the same size, fits as well.
fn round_up(length: usize) -> usize {
    let step = (length / 8).next_power_of_two();
    (length / step + 1).saturating_mul(step)
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(e) => e,
            FrameError::Cut { .. } => Self::new(io::ErrorKind::UnexpectedEof, error),
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

#[cfg(test)]
mod tests;
