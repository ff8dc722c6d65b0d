//! A listening port: everybody may knock, only who logged in comes out of [`Listener::accept`].
//!
//! What a stranger can cost is bounded three ways. Before it has sent a byte: a socket and a small task, nothing else.
//! Until it is logged in: [`ARRIVING_MAX`] such connections, each with a deadline; one more pushes out the one that has
//! waited longest, so that a crowd of silent ones cannot keep others out. After that: `max.connections`, whose places only
//! a login takes, and `connections.max.idle.ms`.

mod connection;

pub use connection::{Principal, ServerConnection};

use crate::frames::{FrameError, FrameReader};
use crate::sasl::{ServerLogin, Verdict, answer_versions};
use crate::security::{ServerParts, ServerSecurity, TlsProblem};
use crate::stream::{self, Socket, Stream};
use connection::Session;
use hawser_link::RefusalLog;
use hawser_wire::RequestFrame;
use hawser_wire::messages::api_versions_response::ApiVersion;
use hawser_wire::messages::{ApiKey, ApiVersionsResponse};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

/// Lines about strangers that a listener logs in a second, for those who cannot log in and for those who speak otherwise;
/// the counts have all of them.
const LINES_A_SECOND: u32 = 20;
/// Connections between accept and login: ten thousand idle ones turn over in about ten rounds.
pub const ARRIVING_MAX: usize = 1024;
/// Finished logins that wait for [`Listener::accept`]: the caller only has to spawn a task for each.
const READY_MAX: usize = 64;
/// Largest frame before the login, in bytes: ApiVersions, a mechanism's name, a token.
const LOGIN_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Frames of one login; SCRAM after ApiVersions takes four.
const LOGIN_FRAMES_MAX: usize = 16;
/// First byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// `unexpected_message`, fatal: tells a plain-text client that this port speaks TLS.
const TLS_ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 10];
/// How long, and for how many bytes, a refused peer may go on talking before the socket closes.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 64 * 1024;
/// Pause after a failed `accept(2)`: the usual cause, too many open files, does not go away at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A listening socket with its security. Stops listening when dropped; connections that came out of it live on.
pub struct Listener {
    address: SocketAddr,
    shared: Arc<Shared>,
    ready: Mutex<mpsc::Receiver<ServerConnection>>,
    acceptor: AbortHandle,
}

/// What happened at a listener since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted from the kernel.
    pub accepted: u64,
    /// Connections that came through to [`Listener::accept`].
    pub logged_in: u64,
    /// Connections that failed TLS or the login, or broke the protocol before it.
    pub refused: u64,
    /// Logins refused for a wrong name or password, among `refused`.
    pub wrong_credentials: u64,
    /// Connections that did not finish in time, or were pushed out by later ones.
    pub too_slow: u64,
    /// Connections closed because `max.connections` was reached.
    pub too_many: u64,
}

struct Shared {
    security: ServerSecurity,
    api_versions: Arc<ApiVersionsResponse>,
    /// For connections that have logged in.
    places: Arc<Semaphore>,
    /// Lines about strangers; wrong credentials are of a kind of their own.
    log: std::sync::Mutex<RefusalLog<bool>>,
    accepted: AtomicU64,
    logged_in: AtomicU64,
    refused: AtomicU64,
    wrong_credentials: AtomicU64,
    too_slow: AtomicU64,
    too_many: AtomicU64,
}

impl Listener {
    /// Binds and begins to listen. Before a login it offers nothing but the login itself; a broker should use
    /// [`bind_serving`](Self::bind_serving), as some clients ask for ApiVersions only once.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub async fn bind(address: SocketAddr, security: ServerSecurity) -> io::Result<Self> {
        let api = |key: ApiKey, min, max| {
            ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
        };
        let keys =
            vec![api(ApiKey::SaslHandshake, 0, 1), api(ApiKey::ApiVersions, 0, 4), api(ApiKey::SaslAuthenticate, 0, 2)];
        Self::bind_serving(address, security, ApiVersionsResponse::default().with_api_keys(keys)).await
    }

    /// As [`bind`](Self::bind), answering ApiVersions before the login with `api_versions`: the whole table of what is
    /// served after it, SaslHandshake 0–1 (librdkafka looks for version 0) and SaslAuthenticate 0–2 included.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub async fn bind_serving(
        address: SocketAddr,
        security: ServerSecurity,
        api_versions: ApiVersionsResponse,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        let places = Arc::new(Semaphore::new(security.parts().limits.connections));
        let shared = Arc::new(Shared {
            security,
            api_versions: Arc::new(api_versions),
            places,
            log: std::sync::Mutex::new(RefusalLog::of(LINES_A_SECOND)),
            accepted: AtomicU64::new(0),
            logged_in: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            wrong_credentials: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            too_many: AtomicU64::new(0),
        });
        let (done, ready) = mpsc::channel(READY_MAX);
        let acceptor = tokio::spawn(accept_all(tcp, Arc::clone(&shared), done)).abort_handle();
        Ok(Self { address, shared, ready: Mutex::new(ready), acceptor })
    }

    /// The bound address (the port may have been 0).
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection that finished TLS and SASL. Handshakes run side by side, bounded in number and time;
    /// failed ones are logged and counted, never returned. Cancel-safe.
    pub async fn accept(&self) -> ServerConnection {
        match self.ready.lock().await.recv().await {
            Some(connection) => connection,
            // The acceptor runs until this listener is dropped, which cannot happen while it is borrowed.
            None => std::future::pending().await,
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let shared = &self.shared;
        Counts {
            accepted: read(&shared.accepted),
            logged_in: read(&shared.logged_in),
            refused: read(&shared.refused),
            wrong_credentials: read(&shared.wrong_credentials),
            too_slow: read(&shared.too_slow),
            too_many: read(&shared.too_many),
        }
    }
}

impl Shared {
    /// Whether a line about a stranger is to be written, and how many were not since the last.
    fn to_be_logged(&self, has_credentials: bool) -> Option<u64> {
        let mut log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        log.admit(has_credentials, Instant::now().into_std())
    }

    fn turn_away(&self, peer: SocketAddr) {
        count(&self.too_many);
        debug!(%peer, "connection closed: max.connections is reached");
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Accepts until aborted. Owns the arriving connections: they end with it.
async fn accept_all(tcp: TcpListener, shared: Arc<Shared>, done: mpsc::Sender<ServerConnection>) {
    let mut arriving = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (socket, peer) = tokio::select! {
            accepted = tcp.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    warn!(error = %e, "cannot accept a connection");
                    sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            },
            Some(_) = arriving.join_next() => continue,
        };
        count(&shared.accepted);
        if shared.places.available_permits() == 0 {
            shared.turn_away(peer);
            continue;
        }
        while arriving.try_join_next().is_some() {}
        if arriving.len() >= ARRIVING_MAX {
            order.retain(|task| !task.is_finished());
            if let Some(oldest) = order.pop_front() {
                count(&shared.too_slow);
                oldest.abort();
            }
        }
        if order.len() >= 2 * ARRIVING_MAX {
            order.retain(|task| !task.is_finished());
        }
        let (shared, done) = (Arc::clone(&shared), done.clone());
        order.push_back(arriving.spawn(async move {
            if let Some(mut connection) = admit(socket, peer, &shared).await {
                let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
                    return shared.turn_away(peer);
                };
                connection.keep_place(place);
                count(&shared.logged_in);
                // Fails only while the listener goes away.
                let _ = done.send(connection).await;
            }
        }));
    }
}

/// Why a connection did not come through, and what is left of it.
struct Refusal {
    reason: Reason,
    /// Set if the peer has something to read still.
    socket: Option<Box<dyn Duplex>>,
}

enum Reason {
    /// It went away, or never said anything.
    Silent,
    /// It did not do what it should have.
    Named(String),
    /// Wrong name or password.
    Credentials(String),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

impl Refusal {
    fn silent() -> Self {
        Self { reason: Reason::Silent, socket: None }
    }

    fn named(reason: impl ToString) -> Self {
        Self { reason: Reason::Named(reason.to_string()), socket: None }
    }

    fn with(self, socket: impl Duplex + 'static) -> Self {
        Self { socket: Some(Box::new(socket)), ..self }
    }
}

async fn admit(tcp: TcpStream, peer: SocketAddr, shared: &Shared) -> Option<ServerConnection> {
    let limits = shared.security.parts().limits;
    let refusal = match timeout_at(Instant::now() + limits.login, enter(tcp, peer, shared)).await {
        Ok(Ok(connection)) => return Some(connection),
        Ok(Err(refusal)) => refusal,
        Err(_) => {
            count(&shared.too_slow);
            debug!(%peer, "connection closed: no login in time");
            return None;
        }
    };
    count(&shared.refused);
    match refusal.reason {
        Reason::Silent => debug!(%peer, "connection closed by its client before the login"),
        Reason::Named(reason) => {
            if let Some(suppressed) = shared.to_be_logged(false) {
                info!(%peer, reason, suppressed, "connection refused");
            }
        }
        Reason::Credentials(reason) => {
            count(&shared.wrong_credentials);
            if let Some(suppressed) = shared.to_be_logged(true) {
                info!(%peer, reason, suppressed, "login refused");
            }
        }
    }
    if let Some(socket) = refusal.socket {
        linger(socket).await;
    }
    None
}

async fn enter(tcp: TcpStream, peer: SocketAddr, shared: &Shared) -> Result<ServerConnection, Refusal> {
    let parts = shared.security.parts();
    stream::tune(&tcp, parts.limits.send_bytes, parts.limits.receive_bytes).map_err(Refusal::named)?;
    // Kafka's clients speak first; until they do, nothing is allocated for them.
    let mut first = [0];
    if tcp.peek(&mut first).await.map_err(|_| Refusal::silent())? == 0 {
        return Err(Refusal::silent());
    }
    let stream = match (&parts.tls, first == [TLS_HANDSHAKE]) {
        (None, false) => Stream::plain(tcp, peer),
        (None, true) => {
            let message = format!("client speaks TLS, but this listener is {}", parts.protocol);
            return Err(Refusal::named(message));
        }
        (Some(_), false) => {
            let mut tcp = tcp;
            let _ = tcp.write_all(&TLS_ALERT).await;
            let message = format!("client speaks plain text, but this listener is {}", parts.protocol);
            return Err(Refusal::named(message).with(tcp));
        }
        (Some(tls), true) => match TlsAcceptor::from(Arc::clone(tls)).accept(Socket::new(tcp)).into_fallible().await {
            Ok(tls) => Stream::tls(tls.into(), peer),
            Err((e, socket)) => {
                let problem = TlsProblem::of(&e, "").map_or_else(|| e.to_string(), |p| p.to_string());
                return Err(Refusal::named(format!("TLS handshake failed: {problem}")).with(socket));
            }
        },
    };
    match &parts.sasl {
        None => {
            let principal = Principal::of_certificate(&stream);
            let frames = FrameReader::accepted(parts.limits.frame_bytes);
            Ok(ServerConnection::new(stream, frames, principal, None, parts.limits))
        }
        Some(sasl) => {
            let stored = shared.security.scram_users().cloned();
            let login = ServerLogin::new(Arc::clone(sasl), stored, Arc::clone(&shared.api_versions));
            log_in(stream, login, parts).await
        }
    }
}

async fn log_in(mut stream: Stream, mut login: ServerLogin, parts: &ServerParts) -> Result<ServerConnection, Refusal> {
    let mut frames = FrameReader::accepted(LOGIN_FRAME_BYTES_MAX);
    for _ in 0..LOGIN_FRAMES_MAX {
        let frame = match frames.frame(&mut stream).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(Refusal::silent()),
            Err(FrameError::Io(e)) => {
                let problem = TlsProblem::of(&e, "").map_or_else(|| e.to_string(), |p| p.to_string());
                return Err(Refusal::named(problem));
            }
            Err(e) => return Err(Refusal::named(e)),
        };
        let request = RequestFrame::parse(frame).map_err(Refusal::named)?;
        match login.on(&request) {
            Verdict::Reply(reply) => send(&mut stream, &reply).await?,
            Verdict::Accepted { reply, user, lifetime } => {
                send(&mut stream, &reply).await?;
                frames.set_bytes_max(parts.limits.frame_bytes);
                let principal = Principal::of_login(&user, stream.peer().ip());
                let session = Session::new(login, lifetime);
                return Ok(ServerConnection::new(stream, frames, principal, Some(session), parts.limits));
            }
            Verdict::Refused { reply, reason, guess } => {
                if guess {
                    sleep(parts.limits.failed_login_delay).await;
                }
                let reason = if guess { Reason::Credentials(reason) } else { Reason::Named(reason) };
                let refusal = Refusal { reason, socket: None };
                let Some(reply) = reply else { return Err(refusal) };
                send(&mut stream, &reply).await?;
                return Err(refusal.with(stream));
            }
        }
    }
    Err(Refusal::named("too many requests before the login".to_owned()))
}

/// Closes so that the peer still reads our last words: closing a socket with unread bytes in it makes the kernel send a
/// reset, which overtakes them.
async fn linger(mut socket: Box<dyn Duplex>) {
    let drain = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut (&mut socket).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER_MAX, drain).await;
}

async fn send(stream: &mut Stream, reply: &[u8]) -> Result<(), Refusal> {
    stream.write_all(reply).await.map_err(|_| Refusal::silent())?;
    stream.flush().await.map_err(|_| Refusal::silent())
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Answers an ApiVersions request with `table`, whatever version it asks for (KIP-511).
///
/// # Errors
/// When the table cannot be encoded.
pub fn answer_api_versions(
    table: &ApiVersionsResponse,
    request: &RequestFrame,
) -> Result<bytes::Bytes, hawser_wire::DecodeError> {
    answer_versions(table, request)
}

#[cfg(test)]
mod tests;
