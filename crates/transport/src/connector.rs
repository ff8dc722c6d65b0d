//! Where clients to a remote cluster come from. Here: dialled.

use crate::candidates::Candidates;
use crate::client::{ClientError, ClientOptions, KafkaClient};
use crate::dial::{DialError, Obstacle};
use crate::host_port::HostPort;
use crate::security::ClientSecurity;
use hawser_wire::NodeId;
use hawser_wire::messages::MetadataRequest;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Newest Metadata that [`Direct`] needs: an empty list of topics means none since version 1.
const METADATA: i16 = 9;

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
    /// No broker could be dialled: try again later.
    #[error("source is not reachable: {reason}")]
    Dial {
        /// What stood in the way of the last one tried.
        obstacle: Obstacle,
        /// Why, of each one tried.
        reason: String,
    },
    /// The login was refused; retrying is pointless until somebody acts.
    #[error("authentication failed: {0}")]
    Authentication(String),
}

/// Dials the remote cluster itself (`connection.mode=OUTBOUND` on a destination). Learns node addresses from Metadata;
/// forgets one that cannot be reached, so that the next lease asks again. Waiting between attempts is the caller's part.
pub struct Direct {
    security: ClientSecurity,
    options: ClientOptions,
    setup: Duration,
    seen: Mutex<Seen>,
}

/// What was learnt of the cluster.
struct Seen {
    nodes: HashMap<NodeId, HostPort>,
    candidates: Candidates,
}

impl Direct {
    /// `bootstrap` are some brokers of the cluster; `setup` bounds one lease, all in all.
    pub fn new(security: ClientSecurity, bootstrap: Vec<HostPort>, options: ClientOptions, setup: Duration) -> Self {
        let seen = Mutex::new(Seen { nodes: HashMap::new(), candidates: Candidates::new(bootstrap) });
        Self { security, options, setup, seen }
    }

    async fn any(&self, until: Instant) -> Result<(HostPort, KafkaClient), LeaseError> {
        let (mut obstacle, mut reasons) = (Obstacle::Name, Vec::new());
        let mut round = self.seen().candidates.round(until);
        while let Some((address, share)) = round.next(Instant::now()) {
            match self.dial(&address, share).await {
                Ok(client) => return Ok((address, client)),
                Err(Failure::Authentication(e)) => return Err(LeaseError::Authentication(format!("{address}: {e}"))),
                Err(Failure::Other(met, e)) => {
                    obstacle = met;
                    reasons.push(format!("{address}: {e}"));
                }
            }
        }
        Err(LeaseError::Dial { obstacle, reason: reasons.join("; ") })
    }

    async fn node(&self, node: NodeId, until: Instant) -> Result<KafkaClient, LeaseError> {
        if self.address(node).is_none() {
            self.learn(until).await?;
        }
        let Some(address) = self.address(node) else {
            return Err(LeaseError::Node { node, reason: "the cluster's metadata does not list it".to_owned() });
        };
        match self.dial(&address, until.saturating_duration_since(Instant::now())).await {
            Ok(client) => Ok(client),
            Err(Failure::Authentication(e)) => Err(LeaseError::Authentication(format!("{address}: {e}"))),
            Err(Failure::Other(_, e)) => {
                self.seen().nodes.remove(&node);
                Err(LeaseError::Node { node, reason: format!("{address}: {e}") })
            }
        }
    }

    async fn learn(&self, until: Instant) -> Result<(), LeaseError> {
        let (asked, client) = self.any(until).await?;
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let failed = |why: String| {
            self.seen().candidates.failed(&asked);
            LeaseError::Unavailable(format!("Metadata of {asked}: {why}"))
        };
        let (_, response) = match timeout_at(until, client.call(&request, METADATA, Duration::ZERO)).await {
            Ok(answer) => answer.map_err(|e| failed(e.to_string()))?,
            Err(_) => return Err(failed(format!("no answer within {:?}", self.setup))),
        };
        let found = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((NodeId(broker.node_id.0), HostPort::new(broker.host.as_str(), port)))
        });
        let mut seen = self.seen();
        seen.nodes = found.collect();
        let Seen { nodes, candidates } = &mut *seen;
        candidates.learn(nodes.values().cloned());
        Ok(())
    }

    fn address(&self, node: NodeId) -> Option<HostPort> {
        self.seen().nodes.get(&node).cloned()
    }

    /// Takes `within` at most, and no longer than one dial may (`socket.connection.setup.timeout.ms`).
    async fn dial(&self, to: &HostPort, within: Duration) -> Result<KafkaClient, Failure> {
        let dialled = self.dial_within(to, within.min(self.security.attempt)).await;
        let mut seen = self.seen();
        match &dialled {
            Ok(_) => seen.candidates.answered(to),
            Err(_) => seen.candidates.failed(to),
        };
        dialled
    }

    async fn dial_within(&self, to: &HostPort, within: Duration) -> Result<KafkaClient, Failure> {
        let until = Instant::now() + within;
        let stream = self.security.dial(to, within).await.map_err(|e: DialError| match e.is_authentication() {
            true => Failure::Authentication(e.to_string()),
            false => Failure::Other(e.obstacle(), e.to_string()),
        })?;
        // One whose process is stopped takes connections, too.
        match timeout_at(until, KafkaClient::start(stream, self.options.clone())).await {
            Ok(started) => started.map_err(|e: ClientError| Failure::Other(Obstacle::Protocol, e.to_string())),
            Err(_) => {
                let late = DialError::Timeout { stage: "answer to ApiVersions", after: within };
                Err(Failure::Other(late.obstacle(), late.to_string()))
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Failure {
    Authentication(String),
    Other(Obstacle, String),
}

impl Connector for Direct {
    fn lease(&self, to: Target) -> Pin<Box<dyn Future<Output = Result<KafkaClient, LeaseError>> + Send + '_>> {
        Box::pin(async move {
            // Each step has this bound: a lease cut short from outside would not learn who kept it waiting.
            let until = Instant::now() + self.setup;
            match to {
                Target::Any => self.any(until).await.map(|(_, client)| client),
                Target::Node(node) => self.node(node, until).await,
            }
        })
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("candidates", &self.seen().candidates).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Listener, ServerSecurity};
    use hawser_wire::RequestFrame;
    use hawser_wire::api::encode_response;
    use hawser_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

    #[tokio::test]
    async fn a_first_server_that_hangs_leaves_time_for_the_second() {
        let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), ServerSecurity::plaintext());
        let listener = listener.await.expect("binds");
        let at = |at: std::net::SocketAddr| HostPort::new(at.ip().to_string(), at.port());
        let bootstrap = vec![at(hangs.local_addr().expect("is bound")), at(listener.local_addr())];
        let served = tokio::spawn(async move {
            let mut kept = Vec::new();
            for _ in 0..2 {
                let mut connection = listener.accept().await;
                let frame = connection.next_frame().await.expect("a frame").expect("a request");
                let asked = RequestFrame::parse(frame).expect("a request");
                let answer = ApiVersionsResponse::default();
                let answer = encode_response::<ApiVersionsRequest>(asked.api_version, asked.correlation_id, &answer);
                connection.write(&[answer.expect("an answer")]).await.expect("is read");
                kept.push(connection);
            }
            kept
        });
        let direct =
            Direct::new(ClientSecurity::plaintext(), bootstrap, ClientOptions::default(), Duration::from_secs(8));
        direct.lease(Target::Any).await.expect("the second answers");
        assert!(!direct.seen().candidates.failed(&at(hangs.local_addr().expect("is bound"))), "it is known to hang");
        direct.lease(Target::Any).await.expect("the second is asked first");
        served.await.expect("both were served");
    }
}
