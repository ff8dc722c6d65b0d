//! A connection that came in and is known: frames in, frames out, and its session's end.

use crate::frames::FrameReader;
use crate::sasl::{ServerLogin, Verdict};
use crate::security::{self, ListenerLimits};
use crate::stream::Stream;
use bytes::{Buf, Bytes};
use hawser_wire::RequestFrame;
use hawser_wire::messages::ApiKey;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

/// Slices that are written with one system call.
const WRITE_SLICES: usize = 32;

/// Who is at the other end of an accepted connection, and where that end is: ACLs go by both. Only the login can build
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
    host: IpAddr,
}

impl Principal {
    pub(crate) fn of_login(user: &str, peer: IpAddr) -> Self {
        Self { name: format!("User:{user}"), host: peer.to_canonical() }
    }

    /// The subject of the client's certificate, or nobody in particular.
    pub(super) fn of_certificate(stream: &Stream) -> Self {
        let leaf = stream.peer_certificates().and_then(|chain| chain.first());
        let name = leaf.and_then(security::subject).filter(|name| !name.is_empty());
        Self::of_login(name.as_deref().unwrap_or("ANONYMOUS"), stream.peer().ip())
    }

    /// `User:name`, as Kafka writes it; `User:ANONYMOUS` without a login.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Where it connected from.
    pub fn host(&self) -> IpAddr {
        self.host
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A SASL session: when it ends, and how it can be prolonged.
pub(super) struct Session {
    login: ServerLogin,
    ends: Option<Instant>,
}

impl Session {
    pub(super) fn new(login: ServerLogin, lifetime: Option<Duration>) -> Self {
        Self { login, ends: lifetime.map(|l| Instant::now() + l) }
    }
}

/// An accepted, authenticated connection that serves requests, one frame at a time.
pub struct ServerConnection {
    stream: Stream,
    frames: FrameReader,
    principal: Principal,
    session: Option<Session>,
    limits: ListenerLimits,
    /// What [`read_ahead`](Self::read_ahead) read, and when.
    ahead: Option<(Bytes, Instant)>,
    /// The answer to a step of a repeated login that is still to be written.
    unsent: Bytes,
    flushed: bool,
}

impl ServerConnection {
    pub(super) fn new(
        stream: Stream,
        frames: FrameReader,
        principal: Principal,
        session: Option<Session>,
        limits: ListenerLimits,
    ) -> Self {
        Self { stream, frames, principal, session, limits, ahead: None, unsent: Bytes::new(), flushed: true }
    }

    /// Its place in the listener, given back with its stream.
    pub(super) fn keep_place(&mut self, place: OwnedSemaphorePermit) {
        self.stream.keep_place(place);
    }

    /// Who logged in.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where it came from.
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer()
    }

    /// Whether TLS protects it.
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// The next request frame without its length prefix; `None` when the peer closed or was silent for
    /// `connections.max.idle.ms`. A repeated login (KIP-368) is answered here and never seen by the caller, who must
    /// therefore have answered all earlier frames: answers go out in order. Cancel-safe, but for the refusal of a repeated
    /// login, which a cancelled call does not send.
    ///
    /// # Errors
    /// I/O errors, frames above `socket.request.max.bytes`, and a session that ended without a new login: the connection
    /// is to be dropped.
    pub async fn next_frame(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            self.write_unsent().await?;
            if !self.read_ahead().await? {
                return Ok(None);
            }
            let Some((frame, arrived)) = self.ahead.take() else { return Ok(None) };
            let Some(session) = &mut self.session else { return Ok(Some(frame)) };
            let key = frame.first_chunk::<2>().map(|b| i16::from_be_bytes(*b));
            if key.is_some_and(|k| k == ApiKey::SaslHandshake as i16 || k == ApiKey::SaslAuthenticate as i16) {
                self.log_in_again(frame).await?;
            } else if !session.login.is_over() {
                return Err(io::Error::other("a request in the middle of a repeated login"));
            } else if session.ends.is_some_and(|ends| ends <= arrived) {
                return Err(io::Error::other("the session has ended and the client did not log in again"));
            } else {
                return Ok(Some(frame));
            }
        }
    }

    /// Reads the frame that [`next_frame`](Self::next_frame) will take up, while an earlier one is still to be answered;
    /// one that is there already is kept. So a peer that hangs up is noticed: false when it closed or was silent for
    /// `connections.max.idle.ms`. Nothing is answered here. Cancel-safe.
    ///
    /// # Errors
    /// I/O errors, frames above `socket.request.max.bytes`.
    pub async fn read_ahead(&mut self) -> io::Result<bool> {
        if self.ahead.is_none() {
            let next = self.frames.frame(&mut self.stream);
            let frame = timeout_at(Instant::now() + self.limits.idle, next).await.unwrap_or(Ok(None))?;
            self.ahead = frame.map(|frame| (frame, Instant::now()));
        }
        Ok(self.ahead.is_some())
    }

    async fn log_in_again(&mut self, frame: Bytes) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let request = RequestFrame::parse(frame).map_err(io::Error::other)?;
        match session.login.on(&request) {
            Verdict::Reply(reply) => self.unsent = reply,
            Verdict::Accepted { reply, lifetime, .. } => {
                session.ends = lifetime.map(|l| Instant::now() + l);
                self.unsent = reply;
            }
            Verdict::Refused { reply, reason, guess } => {
                info!(peer = %self.peer(), principal = %self.principal, reason, "repeated login refused");
                if guess {
                    sleep(self.limits.failed_login_delay).await;
                }
                if let Some(reply) = reply {
                    self.unsent = reply;
                    self.write_unsent().await?;
                }
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "repeated login refused"));
            }
        }
        Ok(())
    }

    /// Cancel-safe, as [`next_frame`](Self::next_frame) is: what is left is taken up by the next call.
    async fn write_unsent(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            self.flushed = false;
            let n = self.stream.write(&self.unsent).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.unsent.advance(n);
        }
        if !self.flushed {
            self.stream.flush().await?;
            self.flushed = true;
        }
        Ok(())
    }

    /// Writes whole frames (length prefixes included; a frame may come in several pieces) and flushes, without copying
    /// them together first. Not cancel-safe: a frame cut in the middle spoils the connection.
    ///
    /// # Errors
    /// I/O errors.
    pub async fn write(&mut self, frames: &[Bytes]) -> io::Result<()> {
        self.write_unsent().await?;
        let mut frames = frames;
        let mut offset = 0;
        while let Some(first) = frames.first() {
            if offset >= first.len() {
                frames = frames.get(1..).unwrap_or_default();
                offset = 0;
                continue;
            }
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            for (slice, frame) in slices.iter_mut().zip(frames) {
                *slice = IoSlice::new(frame);
            }
            slices[0] = IoSlice::new(first.get(offset..).unwrap_or_default());
            let slices = slices.get(..frames.len().min(WRITE_SLICES)).unwrap_or_default();
            let n = poll_fn(|cx| Pin::new(&mut self.stream).poll_write_vectored(cx, slices)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += n;
            while let Some(front) = frames.first().filter(|f| f.len() <= offset) {
                offset -= front.len();
                frames = frames.get(1..).unwrap_or_default();
            }
        }
        poll_fn(|cx| {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            std::task::Poll::Ready(Ok(()))
        })
        .await
    }

    #[cfg(test)]
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Gives up serving: the stream with whatever was read ahead, to be reversed. The session's end no longer counts:
    /// after the reversal this side asks, and the peer has no way to log in again on it. A peer that falls silent is
    /// found as on a dialled connection.
    pub fn into_stream(self) -> Stream {
        let mut stream = self.stream;
        stream.detect_silence();
        stream.unread(self.frames.into_ahead());
        stream
    }
}

impl fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection")
            .field("peer", &self.peer())
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}
