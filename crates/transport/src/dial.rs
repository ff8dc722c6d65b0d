//! Connects, speaks TLS, logs in; and says by name what stood in the way.

use crate::client;
use crate::frames::{FrameError, FrameReader};
use crate::host_port::HostPort;
use crate::sasl::{self, Reauthentication};
use crate::security::{ClientSecurity, TlsProblem};
use crate::stream::{self, Socket, Stream};
use rustls_pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// Largest frame of a broker during a login, in bytes.
const LOGIN_FRAME_BYTES_MAX: usize = 512 * 1024;
/// Least time for one of several addresses of a host.
const ATTEMPT_MIN: Duration = Duration::from_millis(500);
/// How long one socket may try to connect before a fresh one does. The system repeats a lost SYN after 1, 3, 7 s (RFC
/// 6298: it doubles its wait): a dial begun during an outage would sleep through the first seconds after the repair.
/// Fresh sockets leave no gap above 2 s, and any path whose round trip takes less than this can still be used.
const SYN_PATIENCE: Duration = Duration::from_secs(3);

/// Why a connection could not be made. Each variant names the remedy; none holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The host name has no address.
    #[error("cannot resolve '{host}': {reason}")]
    Resolve {
        /// As configured.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// Nobody listens there.
    #[error("{address} refused the connection: nothing listens on this port, or a firewall rejects it")]
    Refused {
        /// The last address tried.
        address: SocketAddr,
    },
    /// The network failed in another way.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Too slow.
    #[error("no {stage} within {after:?}: a firewall may drop packets, or the peer is overloaded")]
    Timeout {
        /// What was waited for.
        stage: &'static str,
        /// For how long.
        after: Duration,
    },
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    /// We spoke plain text, the peer answered in TLS.
    #[error("the peer speaks TLS on this port: set security.protocol to SSL or SASL_SSL")]
    PeerIsTls,
    /// The peer said no to our credentials.
    #[error("authentication failed with {mechanism}: {message} (check sasl.jaas.config and sasl.mechanism)")]
    Authentication {
        /// The mechanism.
        mechanism: String,
        /// The peer's words.
        message: String,
    },
    /// The peer does not offer our mechanism.
    #[error("the peer does not offer {wanted}: set sasl.mechanism to one of {}", .enabled.join(", "))]
    Mechanism {
        /// Ours.
        wanted: String,
        /// The peer's.
        enabled: Vec<String>,
    },
    /// The peer takes no login on this listener.
    #[error("the peer takes no login on this port: set security.protocol to PLAINTEXT or SSL, or use its SASL port")]
    NoLoginHere,
    /// The peer could not prove that it knows our password (SCRAM).
    #[error("the peer did not prove that it knows the password (wrong SCRAM signature): it may be an impostor")]
    ServerUnproven,
    /// The peer closed during the login.
    #[error("the peer closed the connection during the login")]
    ClosedInLogin,
    /// The peer does not keep to the protocol.
    #[error("the peer does not speak Kafka's protocol as expected: {0}")]
    Protocol(String),
}

/// What stood in the way of a connection, for machines: [`DialError`] without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// The host name has no address.
    Name,
    /// No TCP connection.
    Tcp,
    /// Too slow.
    Timeout,
    /// Credentials, certificates, or a listener of another security protocol.
    Authentication,
    /// The peer does not keep to the protocol.
    Protocol,
}

impl DialError {
    /// Its kind.
    pub fn obstacle(&self) -> Obstacle {
        match self {
            Self::Resolve { .. } => Obstacle::Name,
            Self::Refused { .. } | Self::Connect { .. } => Obstacle::Tcp,
            Self::Timeout { .. } => Obstacle::Timeout,
            // Kafka's SslAuthenticationException is an AuthenticationException, too.
            Self::Tls(_)
            | Self::PeerIsTls
            | Self::Authentication { .. }
            | Self::Mechanism { .. }
            | Self::NoLoginHere
            | Self::ServerUnproven => Obstacle::Authentication,
            Self::ClosedInLogin | Self::Protocol(_) => Obstacle::Protocol,
        }
    }

    /// Whether trying again is pointless until somebody changes a configuration.
    pub fn is_authentication(&self) -> bool {
        matches!(self, Self::Authentication { .. } | Self::Mechanism { .. } | Self::NoLoginHere | Self::ServerUnproven)
    }

    /// What an I/O error during a login means.
    pub(crate) fn of_login(error: io::Error) -> Self {
        match TlsProblem::of(&error, "") {
            Some(problem) => Self::Tls(problem),
            None if closes(&error) => Self::ClosedInLogin,
            None => Self::Protocol(error.to_string()),
        }
    }

    pub(crate) fn of_frame(error: FrameError) -> Self {
        match error {
            FrameError::Io(e) => Self::of_login(e),
            FrameError::Tls => Self::PeerIsTls,
            FrameError::Cut { .. } => Self::ClosedInLogin,
            other => Self::Protocol(other.to_string()),
        }
    }
}

fn closes(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

impl ClientSecurity {
    /// Connects, does TLS and SASL, and returns the stream, ready for any Kafka request. `timeout` bounds it all; each
    /// address of the host is tried in turn, for `socket.connection.setup.timeout.ms` at most. Cancel-safe: dropping it
    /// closes the socket.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, to: &HostPort, timeout: Duration) -> Result<Stream, DialError> {
        let budget = Budget { until: Instant::now() + timeout, whole: timeout };
        let (tcp, peer) = self.connect(to, budget).await?;
        let stream = match &self.tls {
            None => Stream::plain(tcp, peer),
            Some(tls) => {
                let name = ServerName::try_from(to.host.clone()).map_err(|_| DialError::Resolve {
                    host: to.host.clone(),
                    reason: "not a host name that a certificate could carry".to_owned(),
                })?;
                let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, Socket::new(tcp));
                match budget.spend("TLS handshake", handshake).await? {
                    Ok(tls) => Stream::tls(tls.into(), peer),
                    Err(e) => return Err(Self::tls_error(e, &to.host)),
                }
            }
        };
        match &self.credentials {
            None => Ok(stream),
            Some(_) => budget.spend("answer to the login", self.log_in(stream)).await?,
        }
    }

    /// As [`dial`](Self::dial), and the peer has answered a request within the same time. A broker whose process is stopped
    /// still takes connections, and one whose request handlers hang still takes logins. The stream is as `dial` leaves it.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial_answering(&self, to: &HostPort, timeout: Duration) -> Result<Stream, DialError> {
        let budget = Budget { until: Instant::now() + timeout, whole: timeout };
        let mut stream = self.dial(to, timeout).await?;
        let greeted = budget.spend("answer to ApiVersions", client::greet(&mut stream, &self.client_id)).await?;
        greeted.map_err(|error| DialError::Protocol(error.to_string()))?;
        Ok(stream)
    }

    async fn log_in(&self, mut stream: Stream) -> Result<Stream, DialError> {
        let Some(credentials) = &self.credentials else { return Ok(stream) };
        let mut frames = FrameReader::dialled(LOGIN_FRAME_BYTES_MAX);
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let lifetime = sasl::log_in(credentials, &self.client_id, &mut frames, &mut from, &mut to).await?;
        stream.unread(frames.into_ahead());
        stream.set_reauthentication(
            lifetime.map(|l| Reauthentication::new(Arc::clone(credentials), Arc::clone(&self.client_id), l)),
        );
        Ok(stream)
    }

    async fn connect(&self, to: &HostPort, budget: Budget) -> Result<(TcpStream, SocketAddr), DialError> {
        let resolve = |reason: String| DialError::Resolve { host: to.host.clone(), reason };
        let found = budget.spend("answer of the name service", tokio::net::lookup_host((to.host.as_str(), to.port)));
        let addresses: Vec<SocketAddr> = found.await?.map_err(|e| resolve(e.to_string()))?.collect();
        self.connect_any(&addresses, budget).await.unwrap_or_else(|| Err(resolve("it has no address".to_owned())))
    }

    /// Tries one address after the other (`client.dns.lookup=use_all_dns_ips`); `None` without any.
    async fn connect_any(
        &self,
        addresses: &[SocketAddr],
        budget: Budget,
    ) -> Option<Result<(TcpStream, SocketAddr), DialError>> {
        let mut last = None;
        for (tried, address) in addresses.iter().enumerate() {
            // A silent address must leave time for the others.
            let left = budget.until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let attempt = self.attempt.min(share.max(ATTEMPT_MIN).min(left));
            let failed = match tokio::time::timeout(attempt, reach(*address)).await {
                Ok(Ok(tcp)) => match stream::tune(&tcp, self.send_bytes, self.receive_bytes) {
                    Ok(()) => {
                        stream::detect_silence(&tcp);
                        return Some(Ok((tcp, *address)));
                    }
                    Err(source) => DialError::Connect { address: *address, source },
                },
                Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => DialError::Refused { address: *address },
                Ok(Err(source)) => DialError::Connect { address: *address, source },
                Err(_) => DialError::Timeout { stage: "TCP connection", after: attempt },
            };
            last = Some(Err(failed));
        }
        last
    }

    fn tls_error(error: io::Error, host: &str) -> DialError {
        match TlsProblem::of(&error, host) {
            Some(problem) => problem.into(),
            // What a plain-text Kafka does with a TLS hello: it is a frame of 369 MB.
            None if closes(&error) => TlsProblem::ClosedAtHello.into(),
            None => TlsProblem::Other(error.to_string()).into(),
        }
    }
}

/// Connects, however long it takes, with a fresh socket every [`SYN_PATIENCE`].
async fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    loop {
        if let Ok(done) = tokio::time::timeout(SYN_PATIENCE, TcpStream::connect(address)).await {
            return done;
        }
    }
}

/// The time that a dial may still take.
#[derive(Clone, Copy)]
struct Budget {
    until: Instant,
    whole: Duration,
}

impl Budget {
    async fn spend<F: Future>(&self, stage: &'static str, future: F) -> Result<F::Output, DialError> {
        timeout_at(self.until, future).await.map_err(|_| DialError::Timeout { stage, after: self.whole })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        let whole = Duration::from_secs(30);
        let budget = Budget { until: Instant::now() + whole, whole };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        // Nothing listens there: the port is this listener's on another address.
        let dead = |host: &str| SocketAddr::new(host.parse().unwrap(), alive.port());
        let security = ClientSecurity::plaintext();
        let (_, reached) =
            security.connect_any(&[dead("127.0.0.2"), dead("127.0.0.3"), alive], budget).await.unwrap().unwrap();
        assert_eq!(reached, alive);
        let failed = security.connect_any(&[dead("127.0.0.2"), dead("127.0.0.3")], budget).await.unwrap();
        assert!(matches!(failed, Err(DialError::Refused { address }) if address == dead("127.0.0.3")), "the last one");
        assert!(security.connect_any(&[], budget).await.is_none());
    }
}
