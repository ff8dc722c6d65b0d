//! The cluster that this half lends: its id, its brokers, and connections to them with the `local.*` login. Addresses
//! are those that the bootstrap listener advertises, as every Kafka client learns them.

use crate::policy::Policy;
use hawser_link::reversal::Node;
use hawser_transport::{ClientOptions, ClientSecurity, DialError, HostPort, KafkaClient, Obstacle, Stream};
use hawser_wire::NodeId;
use hawser_wire::messages::MetadataRequest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Highest Metadata version that is asked: later ones add nothing that is used here.
const METADATA_VERSION_MAX: i16 = 12;
/// Largest Metadata answer, in bytes.
const METADATA_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The local cluster.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    bootstrap: Vec<HostPort>,
    security: ClientSecurity,
    dial_timeout: Duration,
    request_timeout: Duration,
    /// Given when topics may not all leave: then their ids are learnt too.
    policy: Option<Arc<Policy>>,
    brokers: Mutex<BTreeMap<NodeId, HostPort>>,
    cluster: Mutex<Cluster>,
}

/// What the local cluster says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) cluster_id: String,
    pub(crate) nodes: Vec<Node>,
}

/// Why the local cluster or one of its brokers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot reach the local cluster at {at}: {source}")]
    Dial {
        at: HostPort,
        #[source]
        source: DialError,
    },
    #[error("the local cluster did not answer: {0}")]
    Metadata(String),
    #[error("the local cluster has no broker {0}")]
    NoSuchBroker(NodeId),
    #[error("the local cluster has no id: it is older than Kafka 0.10.1")]
    NoClusterId,
    #[error("the local cluster calls itself {found} now, and was {known}: nobody is led there")]
    OtherCluster { found: String, known: String },
}

/// Which cluster this half was made beside, or the bootstrap servers led to first; and the one to which they lead now, if it
/// is another.
#[derive(Debug, Default)]
struct Cluster {
    known: Option<String>,
    other: Option<String>,
}

impl Cluster {
    /// Takes in where they lead; whether that is where they led first.
    fn saw(&mut self, found: &str) -> bool {
        let is_known = self.known.get_or_insert_with(|| found.to_owned()) == found;
        self.other = (!is_known).then(|| found.to_owned());
        is_known
    }

    fn check(&self) -> Result<(), LocalError> {
        match (&self.known, &self.other) {
            (Some(known), Some(found)) => Err(LocalError::OtherCluster { found: found.clone(), known: known.clone() }),
            _ => Ok(()),
        }
    }
}

impl LocalError {
    /// Whether the `local.*` login was refused.
    pub(crate) fn is_authentication(&self) -> bool {
        matches!(self, Self::Dial { source, .. } if source.is_authentication())
    }

    /// What stood in the way of a broker that was dialled in vain.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Dial { source, .. } => Some(source.obstacle()),
            Self::Metadata(_) | Self::NoSuchBroker(_) | Self::NoClusterId | Self::OtherCluster { .. } => None,
        }
    }
}

impl LocalCluster {
    pub(crate) fn new(
        bootstrap: Vec<HostPort>,
        security: ClientSecurity,
        dial_timeout: Duration,
        request_timeout: Duration,
        policy: Option<Arc<Policy>>,
        cluster_id: Option<String>,
    ) -> Self {
        let brokers = Mutex::default();
        let cluster = Mutex::new(Cluster { known: cluster_id, other: None });
        Self { bootstrap, security, dial_timeout, request_timeout, policy, brokers, cluster }
    }

    /// Asks for the cluster's id and brokers. Any bootstrap server will do; the first that answers.
    pub(crate) async fn refresh(&self) -> Result<Known, LocalError> {
        let options = ClientOptions {
            client_id: "hawser-source".to_owned(),
            request_timeout: self.request_timeout,
            response_bytes_max: METADATA_BYTES_MAX,
            idle_max: None,
        };
        let stream = self.dial_any().await?;
        let failed = |error: &dyn std::fmt::Display| LocalError::Metadata(error.to_string());
        let client = KafkaClient::start(stream, options).await.map_err(|e| failed(&e))?;
        let topics = if self.policy.is_some() { None } else { Some(Vec::new()) };
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let asked = client.call(&request, METADATA_VERSION_MAX, Duration::ZERO).await;
        let (_, metadata) = asked.map_err(|e| failed(&e))?;
        let brokers: BTreeMap<NodeId, HostPort> = metadata
            .brokers
            .iter()
            .filter_map(|b| {
                Some((NodeId(b.node_id.0), HostPort { host: b.host.to_string(), port: u16::try_from(b.port).ok()? }))
            })
            .collect();
        let is_near = |at: &HostPort| {
            self.bootstrap.iter().any(|near| near.port == at.port && near.host.eq_ignore_ascii_case(&at.host))
        };
        let nodes = brokers.iter().map(|(id, at)| Node { id: *id, near: is_near(at) }).collect();
        let cluster_id = metadata.cluster_id.ok_or(LocalError::NoClusterId)?.to_string();
        let is_ours = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).saw(&cluster_id);
        let brokers = if is_ours { brokers } else { BTreeMap::new() };
        if let Some(policy) = self.policy.as_ref().filter(|_| is_ours) {
            for topic in &metadata.topics {
                policy.learn(topic.name.as_ref().map_or("", |name| name.as_str()), topic.topic_id);
            }
        }
        *self.brokers.lock().unwrap_or_else(PoisonError::into_inner) = brokers;
        Ok(Known { cluster_id, nodes })
    }

    /// A connection to a broker, logged in; to any for `None`.
    pub(crate) async fn connect(&self, node: Option<NodeId>) -> Result<Stream, LocalError> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).check()?;
        let Some(node) = node else { return self.dial_any().await };
        let known = || self.brokers.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        let at = match known() {
            Some(at) => at,
            None => {
                self.refresh().await?;
                self.cluster.lock().unwrap_or_else(PoisonError::into_inner).check()?;
                known().ok_or(LocalError::NoSuchBroker(node))?
            }
        };
        let source = match self.security.dial(&at, self.dial_timeout).await {
            Ok(stream) => return Ok(stream),
            Err(source) => source,
        };
        let failed = LocalError::Dial { at: at.clone(), source };
        if failed.is_authentication() || self.refresh().await.is_err() {
            return Err(failed);
        }
        // It may have moved since its address was learnt.
        let Some(at) = known().filter(|moved| *moved != at) else { return Err(failed) };
        let dialled = self.security.dial(&at, self.dial_timeout).await;
        dialled.map_err(|source| LocalError::Dial { at, source })
    }

    async fn dial_any(&self) -> Result<Stream, LocalError> {
        let mut last = LocalError::Metadata("no bootstrap server is configured".to_owned());
        for at in &self.bootstrap {
            match self.security.dial(at, self.dial_timeout).await {
                Ok(stream) => return Ok(stream),
                Err(source) => last = LocalError::Dial { at: at.clone(), source },
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_testkit::fake_source::FakeSource;
    use hawser_transport::{Listener, ServerSecurity};

    #[tokio::test]
    async fn a_broker_that_has_moved_is_found_at_its_new_address() {
        let bind = || Listener::bind("127.0.0.1:0".parse().expect("an address"), ServerSecurity::plaintext());
        let (gone, listener) = (bind().await.expect("binds"), bind().await.expect("binds"));
        let host_port = |at: std::net::SocketAddr| HostPort::new(at.ip().to_string(), at.port());
        let source = FakeSource::start(vec![listener]);
        let bootstrap = vec![host_port(source.addresses()[0])];
        let patience = Duration::from_secs(30);
        let local = LocalCluster::new(bootstrap, ClientSecurity::plaintext(), patience, patience, None, None);
        let node = local.refresh().await.expect("answers").nodes[0].id;
        let old = host_port(gone.local_addr());
        drop(gone);
        local.brokers.lock().expect("whole").insert(node, old);
        local.connect(Some(node)).await.expect("looked up again");
        let now = local.brokers.lock().expect("whole").get(&node).cloned();
        assert_eq!(now, Some(host_port(source.addresses()[0])));
    }

    #[tokio::test]
    async fn nobody_is_led_into_another_cluster() {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), ServerSecurity::plaintext());
        let source = FakeSource::start(vec![listener.await.expect("binds")]);
        let at = source.addresses()[0];
        let patience = Duration::from_secs(30);
        let beside = |cluster: Option<&str>| {
            let bootstrap = vec![HostPort::new(at.ip().to_string(), at.port())];
            let cluster = cluster.map(str::to_owned);
            LocalCluster::new(bootstrap, ClientSecurity::plaintext(), patience, patience, None, cluster)
        };
        let strange = beside(Some("another"));
        let known = strange.refresh().await.expect("answers");
        for node in [None, Some(known.nodes[0].id)] {
            let refused = strange.connect(node).await.expect_err("it is another cluster");
            assert!(matches!(refused, LocalError::OtherCluster { .. }), "{refused}");
        }
        let ours = beside(None);
        ours.refresh().await.expect("answers");
        ours.refresh().await.expect("is the same");
        ours.connect(None).await.expect("leads there");
    }
}
