//! One byte stream, whatever it runs over, and the socket below it.
//!
//! Bytes and copies: rustls reads its input 4 KiB at a time, which would be four system calls a record. So TLS sits on
//! [`Socket`], which reads ahead up to [`SOCKET_READ_AHEAD`] and hands rustls its morsels from memory; a socket that has
//! nothing to read keeps no buffer, so an idle connection costs none.

use crate::sasl::Reauthentication;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsStream;

/// How much a TLS connection takes from the kernel at once, in bytes: several records, yet within the L2 cache.
const SOCKET_READ_AHEAD: usize = 64 * 1024;

/// Quiet time before the first keep-alive probe, and between probes.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// The same where [`detect_silence`] applies: with three probes a quiet connection is found dead after
/// [`SILENT_MAX`], as one with bytes under way is.
const KEEP_ALIVE_OFTEN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));

/// How long a peer's TCP may leave bytes or probes unanswered: long enough for the five retransmissions that 6.2 seconds
/// hold, and far below the request time-out that would be the next to notice.
const SILENT_MAX: Duration = Duration::from_secs(8);

/// The two halves of a [`Stream`]; they share it behind a lock that is held for one poll only.
pub type ReadHalf = tokio::io::ReadHalf<Stream>;
/// See [`ReadHalf`].
pub type WriteHalf = tokio::io::WriteHalf<Stream>;

/// An established byte stream: plain TCP, or TLS as client or as server. Closes when dropped.
pub struct Stream {
    transport: Transport,
    /// Plain text that was read before the stream changed hands.
    ahead: Bytes,
    peer: SocketAddr,
    reauthentication: Option<Reauthentication>,
    /// The place that an accepted connection takes in its listener (`max.connections`).
    place: Option<OwnedSemaphorePermit>,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<Socket>>),
}

/// A TCP socket that reads ahead for rustls.
pub(crate) struct Socket {
    tcp: TcpStream,
    ahead: BytesMut,
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream, peer: SocketAddr) -> Self {
        Self { transport: Transport::Plain(tcp), ahead: Bytes::new(), peer, reauthentication: None, place: None }
    }

    /// Takes a connected socket as it is: plain text, no login.
    ///
    /// # Errors
    /// When the socket is not connected (any more).
    pub fn from_tcp(tcp: TcpStream) -> io::Result<Self> {
        tune(&tcp, None, None)?;
        let peer = tcp.peer_addr()?;
        Ok(Self::plain(tcp, peer))
    }

    pub(crate) fn tls(tls: TlsStream<Socket>, peer: SocketAddr) -> Self {
        let transport = Transport::Tls(Box::new(tls));
        Self { transport, ahead: Bytes::new(), peer, reauthentication: None, place: None }
    }

    /// Gives bytes back that were read too far; they are read again before anything else.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        debug_assert!(self.ahead.is_empty() || bytes.is_empty(), "bytes would change their order");
        if !bytes.is_empty() {
            self.ahead = bytes;
        }
    }

    pub(crate) fn keep_place(&mut self, place: OwnedSemaphorePermit) {
        self.place = Some(place);
    }

    pub(crate) fn set_reauthentication(&mut self, reauthentication: Option<Reauthentication>) {
        self.reauthentication = reauthentication;
    }

    /// How and when to log in again, if the peer limits the session's life (KIP-368). [`KafkaClient`](crate::KafkaClient)
    /// takes care of it by itself; whoever forwards frames over a dialled stream takes it out and does it between two
    /// frames.
    pub fn take_reauthentication(&mut self) -> Option<Reauthentication> {
        self.reauthentication.take()
    }

    /// Where it leads.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether TLS protects it.
    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// The peer's certificate chain, leaf first, if TLS was used and it sent one.
    pub fn peer_certificates(&self) -> Option<&[rustls_pki_types::CertificateDer<'static>]> {
        match &self.transport {
            Transport::Plain(_) => None,
            Transport::Tls(tls) => tls.get_ref().1.peer_certificates(),
        }
    }

    /// See [`detect_silence`].
    pub(crate) fn detect_silence(&self) {
        detect_silence(self.tcp());
    }

    fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => &tls.get_ref().0.tcp,
        }
    }

    /// Sets the TCP receive buffer; the system may round it, and bounds it (`net.core.rmem_max` on Linux).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        socket2::SockRef::from(self.tcp()).set_recv_buffer_size(bytes)
    }

    /// Two halves for two loops.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        tokio::io::split(self)
    }
}

/// No delay, keep-alive, and buffer sizes where the operator set them (otherwise the kernel tunes them).
pub(crate) fn tune(tcp: &TcpStream, send_bytes: Option<usize>, receive_bytes: Option<usize>) -> io::Result<()> {
    let socket = socket2::SockRef::from(tcp);
    socket.set_tcp_nodelay(true)?;
    let (time, interval) = KEEP_ALIVE;
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(3))?;
    if let Some(bytes) = send_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(())
}

/// Gives the connection up when the peer's TCP has been silent for [`SILENT_MAX`]. For connections on which this side
/// asks, and for reversed ones: their peers always read. Not for those of ordinary clients, because the time-out
/// (RFC 5482; Linux) also strikes a living peer that leaves its window closed for so long, as a consumer does that takes
/// minutes over one poll. Where the system lacks an option, request time-outs and beats have to do.
pub(crate) fn detect_silence(tcp: &TcpStream) {
    let socket = socket2::SockRef::from(tcp);
    let (time, interval) = KEEP_ALIVE_OFTEN;
    let keep_alive = socket2::TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(3);
    if let Err(error) = socket.set_tcp_keepalive(&keep_alive) {
        tracing::debug!(%error, "keep-alive stays as it was");
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket.set_tcp_user_timeout(Some(SILENT_MAX)) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT here");
    }
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: BytesMut::new() }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            this.ahead.clear();
            this.ahead.reserve(SOCKET_READ_AHEAD);
            let read = pin!(this.tcp.read_buf(&mut this.ahead)).poll(cx);
            if read.is_pending() {
                this.ahead = BytesMut::new();
            }
            ready!(read)?;
        }
        let n = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let n = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(n));
            return Poll::Ready(Ok(()));
        }
        match &mut this.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).field("tls", &self.is_tls()).finish_non_exhaustive()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
