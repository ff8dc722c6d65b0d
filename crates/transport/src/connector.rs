//! Where clients to a remote cluster come from. Here: dialled.

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
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

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
    bootstrap: Vec<HostPort>,
    options: ClientOptions,
    setup: Duration,
    nodes: Mutex<HashMap<NodeId, HostPort>>,
    /// Where in the bootstrap list to begin: not always with the same broker.
    turn: AtomicUsize,
}

impl Direct {
    /// `bootstrap` are some brokers of the cluster; `setup` bounds one lease, all in all.
    pub fn new(security: ClientSecurity, bootstrap: Vec<HostPort>, options: ClientOptions, setup: Duration) -> Self {
        Self { security, bootstrap, options, setup, nodes: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    async fn any(&self) -> Result<KafkaClient, LeaseError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (before, after) = self.bootstrap.split_at(turn % self.bootstrap.len().max(1));
        let (mut obstacle, mut reasons) = (Obstacle::Name, Vec::new());
        // One silent broker must leave time for the others.
        let share = self.setup / u32::try_from(self.bootstrap.len()).unwrap_or(u32::MAX).max(1);
        for address in after.iter().chain(before) {
            match self.dial(address, share).await {
                Ok(client) => return Ok(client),
                Err(Failure::Authentication(e)) => return Err(LeaseError::Authentication(format!("{address}: {e}"))),
                Err(Failure::Other(met, e)) => {
                    obstacle = met;
                    reasons.push(format!("{address}: {e}"));
                }
            }
        }
        Err(LeaseError::Dial { obstacle, reason: reasons.join("; ") })
    }

    async fn node(&self, node: NodeId) -> Result<KafkaClient, LeaseError> {
        if self.address(node).is_none() {
            self.learn().await?;
        }
        let Some(address) = self.address(node) else {
            return Err(LeaseError::Node { node, reason: "the cluster's metadata does not list it".to_owned() });
        };
        match self.dial(&address, self.setup).await {
            Ok(client) => Ok(client),
            Err(Failure::Authentication(e)) => Err(LeaseError::Authentication(format!("{address}: {e}"))),
            Err(Failure::Other(_, e)) => {
                self.forget(node);
                Err(LeaseError::Node { node, reason: format!("{address}: {e}") })
            }
        }
    }

    async fn learn(&self) -> Result<(), LeaseError> {
        let client = self.any().await?;
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let (_, response) = client
            .call(&request, METADATA, Duration::ZERO)
            .await
            .map_err(|e| LeaseError::Unavailable(format!("Metadata: {e}")))?;
        let found = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((NodeId(broker.node_id.0), HostPort::new(broker.host.as_str(), port)))
        });
        *self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = found.collect();
        Ok(())
    }

    fn address(&self, node: NodeId) -> Option<HostPort> {
        self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&node).cloned()
    }

    fn forget(&self, node: NodeId) {
        self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&node);
    }

    /// Takes `within` at most, and no longer than one dial may (`socket.connection.setup.timeout.ms`).
    async fn dial(&self, to: &HostPort, within: Duration) -> Result<KafkaClient, Failure> {
        let within = within.min(self.security.attempt);
        let stream = self.security.dial(to, within).await.map_err(|e: DialError| match e.is_authentication() {
            true => Failure::Authentication(e.to_string()),
            false => Failure::Other(e.obstacle(), e.to_string()),
        })?;
        let started = KafkaClient::start(stream, self.options.clone()).await;
        started.map_err(|e: ClientError| Failure::Other(Obstacle::Protocol, e.to_string()))
    }
}

enum Failure {
    Authentication(String),
    Other(Obstacle, String),
}

impl Connector for Direct {
    fn lease(&self, to: Target) -> Pin<Box<dyn Future<Output = Result<KafkaClient, LeaseError>> + Send + '_>> {
        Box::pin(async move {
            let lease = async {
                match to {
                    Target::Any => self.any().await,
                    Target::Node(node) => self.node(node).await,
                }
            };
            timeout(self.setup, lease).await.unwrap_or_else(|_| {
                let reason = format!("no connection within {:?}", self.setup);
                Err(LeaseError::Dial { obstacle: Obstacle::Timeout, reason })
            })
        })
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}
