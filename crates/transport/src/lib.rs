#![forbid(unsafe_code)]
//! Sockets: TLS and SASL on both sides, listeners, dialling, and the one Kafka client that everything
//! above speaks through, whoever dialled.
//!
//! SKELETON written by the lead; the transport helper owns it from here. Signatures are the seam.

use bytes::Bytes;
use hawser_link::{ConfigErrors, Properties};
use hawser_wire::{DecodeError, NodeId, Request};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A host and a port, as in `bootstrap.servers`; a `PROTOCOL://` in front is accepted and dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// An established byte stream: plain TCP, or TLS as client or as server.
pub struct Stream {
    _private: (),
}

/// How to log in somewhere: `security.protocol`, `ssl.*`, `sasl.*`. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct ClientSecurity {
    _private: (),
}

/// How a listener lets clients in: its protocol, certificates, mechanisms and users.
#[derive(Clone)]
pub struct ServerSecurity {
    _private: (),
}

/// Why a connection could not be made. Each variant names the remedy; none holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Placeholder until the transport helper writes the real list (resolve, refused, time-out, TLS …,
    /// authentication failed, unsupported mechanism, plain text peer on a TLS port and the reverse).
    #[error("{0}")]
    Other(String),
}

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection is gone; lease another.
    #[error("connection closed: {0}")]
    Closed(String),
    /// No answer within the time-out; the connection is closed, as its order is lost.
    #[error("no answer to {api} within {after:?}")]
    Timeout {
        /// The request.
        api: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The peer does not speak any version that we do.
    #[error("peer does not support {api}")]
    Unsupported {
        /// The request.
        api: &'static str,
    },
    /// The answer was not what it should be; the connection is closed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A Kafka connection that we send requests on: correlation, pipelining, time-outs and version
/// negotiation (ApiVersions is asked at start). Clones share the connection; it closes when the last
/// clone is dropped.
#[derive(Clone)]
pub struct KafkaClient {
    _private: (),
}

/// Bounds and names of a client connection.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `client.id` in every request.
    pub client_id: String,
    /// `request.timeout.ms`; a request may add its own wait (Fetch's `max_wait_ms`).
    pub request_timeout: Duration,
    /// Largest response frame that is accepted, in bytes.
    pub response_bytes_max: usize,
}

impl KafkaClient {
    /// Takes a stream that is authenticated already (or needs no login) and asks for ApiVersions.
    /// The driver task ends with the last clone or the connection.
    ///
    /// # Errors
    /// When ApiVersions fails.
    pub async fn start(stream: Stream, options: ClientOptions) -> Result<Self, ClientError> {
        let _ = (stream, options);
        todo!("transport helper")
    }

    /// Sends `request` at the highest version both sides speak, not above `version_max`, and waits for the
    /// answer for `request_timeout + extra_wait`. Returns the version used and the response.
    /// Cancel-safe: a dropped call's answer is read and thrown away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call<M: Request>(
        &self,
        request: &M,
        version_max: i16,
        extra_wait: Duration,
    ) -> Result<(i16, M::Response), ClientError> {
        let _ = (request, version_max, extra_wait);
        todo!("transport helper")
    }

    /// As [`call`](Self::call) with the body already encoded (private keys, forwarded frames).
    /// The answer is what follows the response head (v0 head for private keys).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call_raw(
        &self,
        api_key: i16,
        api_version: i16,
        body: Bytes,
        extra_wait: Duration,
    ) -> Result<Bytes, ClientError> {
        let _ = (api_key, api_version, body, extra_wait);
        todo!("transport helper")
    }

    /// The version range that the peer offers for `api_key`.
    pub fn versions(&self, api_key: i16) -> Option<(i16, i16)> {
        let _ = api_key;
        todo!("transport helper")
    }

    /// Resolves when the connection is gone, with the reason.
    pub fn closed(&self) -> impl Future<Output = String> + Send + 'static {
        async { todo!("transport helper") }
    }
}

impl ClientSecurity {
    /// Reads `security.protocol`, `ssl.*` and `sasl.*` (prefix already taken off by
    /// [`Properties::with_prefix`]); collects every error instead of stopping at the first.
    /// Files are read here, once.
    ///
    /// # Errors
    /// All errors at once.
    pub fn from_properties(properties: &Properties) -> Result<Self, ConfigErrors> {
        let _ = properties;
        todo!("transport helper")
    }

    /// Connects, does TLS and SASL, and returns the stream, ready for any Kafka request.
    /// Cancel-safe: dropping it closes the socket.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, to: &HostPort, timeout: Duration) -> Result<Stream, DialError> {
        let _ = (to, timeout);
        todo!("transport helper")
    }
}

/// Who is at the other end of an accepted connection. Only the login can build it.
#[derive(Clone, Debug)]
pub struct Principal {
    name: String,
}

impl Principal {
    /// `User:name`, as Kafka writes it; `User:ANONYMOUS` without a login.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// An accepted, authenticated connection that serves requests, one frame at a time.
pub struct ServerConnection {
    _private: (),
}

impl ServerConnection {
    /// Who logged in.
    pub fn principal(&self) -> &Principal {
        todo!("transport helper")
    }

    /// Where it came from.
    pub fn peer(&self) -> SocketAddr {
        todo!("transport helper")
    }

    /// The next request frame without its length prefix; `None` when the peer closed. Frames above the
    /// listener's `socket.request.max.bytes` end the connection. Not cancel-safe across a partial frame unless the
    /// buffer is kept inside (it is): cancel-safe.
    ///
    /// # Errors
    /// I/O errors and oversized frames.
    pub async fn next_frame(&mut self) -> std::io::Result<Option<Bytes>> {
        todo!("transport helper")
    }

    /// Writes whole frames (length prefixes included) and flushes.
    ///
    /// # Errors
    /// I/O errors.
    pub async fn write(&mut self, frames: &[Bytes]) -> std::io::Result<()> {
        let _ = frames;
        todo!("transport helper")
    }

    /// Gives up serving: the stream with whatever was read ahead, to be reversed.
    pub fn into_stream(self) -> Stream {
        todo!("transport helper")
    }
}

/// A listening socket with its security.
pub struct Listener {
    _private: (),
}

impl Listener {
    /// Binds at once; serves when [`accept`](Self::accept) is called.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub async fn bind(address: SocketAddr, security: ServerSecurity) -> std::io::Result<Self> {
        let _ = (address, security);
        todo!("transport helper")
    }

    /// The bound address (the port may have been 0).
    pub fn local_addr(&self) -> SocketAddr {
        todo!("transport helper")
    }

    /// The next connection that finished TLS and SASL. Handshakes run side by side, bounded in number and time;
    /// failed ones are logged and counted, never returned.
    pub async fn accept(&self) -> ServerConnection {
        todo!("transport helper")
    }
}

/// Where a leased client should lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Any broker of the remote cluster: metadata, admin reads.
    Any,
    /// This broker.
    Node(NodeId),
}

/// Gives out clients to the brokers of a remote cluster; the replicator and the syncs never learn whether they
/// were dialled ([`Direct`]) or reversed (`inbound`).
pub trait Connector: Send + Sync + 'static {
    /// A connection of the caller's own. Waits no longer than the connector's set-up time-out.
    /// Cancel-safe.
    fn lease(&self, to: Target) -> Pin<Box<dyn Future<Output = Result<KafkaClient, LeaseError>> + Send + '_>>;
}

/// Why there is no client.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// No half is connected, or nobody answers: try again later.
    #[error("source is not reachable: {0}")]
    Unavailable(String),
    /// This node cannot be reached although others can.
    #[error("broker {node} is not reachable: {reason}")]
    Node {
        /// The broker.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// The login was refused; retrying is pointless until somebody acts.
    #[error("authentication failed: {0}")]
    Authentication(String),
}

/// Dials the remote cluster itself (`connection.mode=OUTBOUND` on a destination). Learns node addresses from Metadata.
pub struct Direct {
    _private: (),
}

impl fmt::Debug for ClientSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecurity")
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        todo!("transport helper")
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        todo!("transport helper")
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        todo!("transport helper")
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        todo!("transport helper")
    }
}
