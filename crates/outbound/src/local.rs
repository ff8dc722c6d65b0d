//! The cluster that this half lends: its id, its brokers, and connections to them with the `local.*` login. Addresses
//! are those that the bootstrap listener advertises, as every Kafka client learns them. A broker counts as reached once
//! it has answered a request; which one is tried when any will do, [`Candidates`] decides.

use crate::policy::Policy;
use hawser_link::LinkName;
use hawser_link::reversal::Node;
use hawser_transport::{Candidates, ClientOptions, ClientSecurity, DialError, HostPort, KafkaClient, Obstacle, Stream};
use hawser_wire::NodeId;
use hawser_wire::messages::MetadataRequest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Highest Metadata version that is asked: later ones add nothing that is used here.
const METADATA_VERSION_MAX: i16 = 12;
/// Largest Metadata answer, in bytes.
const METADATA_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The local cluster.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    link: LinkName,
    security: ClientSecurity,
    /// Of one connection, however many servers are tried for it.
    dial_timeout: Duration,
    request_timeout: Duration,
    /// `default.api.timeout.ms`: of one question, its connection included.
    api_timeout: Duration,
    /// Given when topics may not all leave: then their ids are learnt too.
    policy: Option<Arc<Policy>>,
    seen: Mutex<Seen>,
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
    #[error("the local cluster calls itself {found}, but this half was made beside {known}: nobody is led there")]
    OtherCluster { found: String, known: String },
}

/// What was learnt of the cluster.
#[derive(Debug)]
struct Seen {
    /// That which this half was made beside, or the bootstrap servers led to first.
    cluster_id: Option<String>,
    /// Whether they lead to another now, none of whose brokers is known then.
    is_another: bool,
    brokers: BTreeMap<NodeId, HostPort>,
    candidates: Candidates,
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
    #[allow(clippy::too_many_arguments)] // one caller, which has just these
    pub(crate) fn new(
        link: LinkName,
        bootstrap: Vec<HostPort>,
        security: ClientSecurity,
        dial_timeout: Duration,
        request_timeout: Duration,
        api_timeout: Duration,
        policy: Option<Arc<Policy>>,
        cluster_id: Option<String>,
    ) -> Self {
        let candidates = Candidates::new(bootstrap);
        let seen = Mutex::new(Seen { cluster_id, is_another: false, brokers: BTreeMap::new(), candidates });
        Self { link, security, dial_timeout, request_timeout, api_timeout, policy, seen }
    }

    /// Asks any broker for the cluster's id and brokers. One that does not tell is asked last the next time.
    ///
    /// # Errors
    /// `OtherCluster` when that is not the cluster that this half was made beside; nobody is led there until it is again.
    pub(crate) async fn refresh(&self) -> Result<Known, LocalError> {
        let late = || LocalError::Metadata(format!("not within {:?} (default.api.timeout.ms)", self.api_timeout));
        tokio::time::timeout(self.api_timeout, self.ask()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self) -> Result<Known, LocalError> {
        let options = ClientOptions {
            client_id: "hawser-source".to_owned(),
            request_timeout: self.request_timeout,
            response_bytes_max: METADATA_BYTES_MAX,
            idle_max: None,
        };
        let (at, stream) = self.reach_any().await?;
        let failed = |error: &dyn std::fmt::Display| {
            self.note(&at, Some(error));
            LocalError::Metadata(format!("{at}: {error}"))
        };
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
        let cluster_id = metadata.cluster_id.ok_or(LocalError::NoClusterId)?.to_string();
        let nodes = {
            let mut seen = self.seen();
            let known = seen.cluster_id.get_or_insert_with(|| cluster_id.clone()).clone();
            seen.is_another = known != cluster_id;
            if seen.is_another {
                seen.brokers.clear();
                seen.candidates.learn([]);
                return Err(LocalError::OtherCluster { found: cluster_id, known });
            }
            seen.candidates.learn(brokers.values().cloned());
            seen.brokers = brokers;
            let near = |at: &HostPort| seen.candidates.is_configured(at);
            seen.brokers.iter().map(|(id, at)| Node { id: *id, near: near(at) }).collect()
        };
        if let Some(policy) = &self.policy {
            for topic in &metadata.topics {
                policy.learn(topic.name.as_ref().map_or("", |name| name.as_str()), topic.topic_id);
            }
        }
        Ok(Known { cluster_id, nodes })
    }

    /// A connection to a broker, logged in, on which it has answered; to any for `None`. Takes no longer than one dial may,
    /// unless the broker has moved.
    pub(crate) async fn connect(&self, node: Option<NodeId>) -> Result<Stream, LocalError> {
        let Some(node) = node else {
            if self.seen().is_another {
                self.refresh().await?;
            }
            return self.reach_any().await.map(|(_, stream)| stream);
        };
        let known = || self.seen().brokers.get(&node).cloned();
        let at = match known() {
            Some(at) => at,
            None => {
                self.refresh().await?;
                known().ok_or(LocalError::NoSuchBroker(node))?
            }
        };
        let failed = match self.reach(&at, self.dial_timeout).await {
            Ok(stream) => return Ok(stream),
            Err(failed) => failed,
        };
        if failed.is_authentication() || self.refresh().await.is_err() {
            return Err(failed);
        }
        // It may have moved since its address was learnt.
        let Some(at) = known().filter(|moved| *moved != at) else { return Err(failed) };
        self.reach(&at, self.dial_timeout).await
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reach_any(&self) -> Result<(HostPort, Stream), LocalError> {
        let mut round = self.seen().candidates.round(Instant::now() + self.dial_timeout);
        let mut last = LocalError::Metadata("no bootstrap server is configured".to_owned());
        while let Some((at, within)) = round.next(Instant::now()) {
            match self.reach(&at, within).await {
                Ok(stream) => return Ok((at, stream)),
                // Somebody has to mend a login that is refused, whatever the others say.
                Err(_) if last.is_authentication() => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn reach(&self, at: &HostPort, within: Duration) -> Result<Stream, LocalError> {
        let reached = self.security.dial_answering(at, within).await;
        self.note(at, reached.as_ref().err().map(|error| error as &dyn std::fmt::Display));
        reached.map_err(|source| LocalError::Dial { at: at.clone(), source })
    }

    /// Remembers how it went with a broker; says it once each time that this changes.
    fn note(&self, at: &HostPort, failure: Option<&dyn std::fmt::Display>) {
        let (link, mut seen) = (&self.link, self.seen());
        match failure {
            Some(error) => {
                if seen.candidates.failed(at) {
                    tracing::warn!(%link, broker = %at, %error, "a local broker does not answer; others are asked first");
                }
            }
            None => {
                if seen.candidates.answered(at) {
                    tracing::info!(%link, broker = %at, "a local broker answers again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_testkit::fake_source::FakeSource;
    use hawser_transport::{Listener, ServerSecurity};
    use tokio::net::{TcpSocket, TcpStream};

    fn link() -> LinkName {
        LinkName::new("dr").expect("a name")
    }

    /// A port that answers no SYN: its queue is full, and nobody takes from it.
    async fn dropping_port() -> (HostPort, Queue) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
        let listener = socket.listen(1).expect("listens");
        let at = listener.local_addr().expect("is bound");
        let mut waiting = Vec::new();
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(at)).await {
            waiting.push(taken.expect("is queued"));
        }
        (HostPort::new(at.ip().to_string(), at.port()), (listener, waiting))
    }

    type Queue = (tokio::net::TcpListener, Vec<TcpStream>);

    /// Two brokers whose first one does not speak: what is asked of any is asked of the other, and soon of that one first.
    async fn the_other_is_reached(source: &FakeSource, first: HostPort) {
        let second = HostPort::new(source.addresses()[1].ip().to_string(), source.addresses()[1].port());
        let (setup, patience) = (Duration::from_secs(8), Duration::from_secs(60));
        let fresh = || {
            let bootstrap = vec![first.clone(), second.clone()];
            LocalCluster::new(link(), bootstrap, ClientSecurity::plaintext(), setup, patience, patience, None, None)
        };
        let (to_refresh, to_connect) = (fresh(), fresh());
        let (known, reached) = tokio::join!(to_refresh.refresh(), to_connect.reach_any());
        assert_eq!(known.expect("the second answers").nodes.len(), 2);
        assert_eq!(reached.expect("the second answers").0, second);
        let mut order = to_connect.seen().candidates.round(Instant::now() + patience);
        let order: Vec<_> = std::iter::from_fn(|| order.next(Instant::now()).map(|(at, _)| at)).collect();
        assert_eq!(order, [second.clone(), first.clone()], "the silent one is asked last");
        // The stream is as it was dialled: whoever has it speaks first.
        let stream = to_connect.connect(None).await.expect("the second answers");
        KafkaClient::start(stream, ClientOptions::default()).await.expect("nothing is left in it");
    }

    #[tokio::test]
    async fn a_first_server_that_drops_packets_or_hangs_keeps_nobody() {
        let bind = || Listener::bind("127.0.0.1:0".parse().expect("an address"), ServerSecurity::plaintext());
        let source = FakeSource::start(vec![bind().await.expect("binds"), bind().await.expect("binds")]);
        source.stall(1, true);
        let hangs = HostPort::new(source.addresses()[0].ip().to_string(), source.addresses()[0].port());
        let (drops, _queue) = dropping_port().await;
        tokio::join!(the_other_is_reached(&source, hangs.clone()), the_other_is_reached(&source, drops));
        // Alone it is no other's turn: it is named, and taken again once it answers.
        let setup = Duration::from_secs(5);
        let local = LocalCluster::new(
            link(),
            vec![hangs.clone()],
            ClientSecurity::plaintext(),
            setup,
            setup,
            2 * setup,
            None,
            None,
        );
        let error = local.reach_any().await.expect_err("it hangs");
        assert_eq!(error.obstacle(), Some(Obstacle::Timeout), "{error}");
        assert!(error.to_string().contains(&hangs.to_string()), "{error}");
        source.stall(1, false);
        let node = local.refresh().await.expect("it answers again").nodes[0].id;
        local.connect(Some(node)).await.expect("it answers again");
    }

    #[tokio::test]
    async fn a_broker_that_has_moved_is_found_at_its_new_address() {
        let bind = || Listener::bind("127.0.0.1:0".parse().expect("an address"), ServerSecurity::plaintext());
        let (gone, listener) = (bind().await.expect("binds"), bind().await.expect("binds"));
        let host_port = |at: std::net::SocketAddr| HostPort::new(at.ip().to_string(), at.port());
        let source = FakeSource::start(vec![listener]);
        let bootstrap = vec![host_port(source.addresses()[0])];
        let patience = Duration::from_secs(30);
        let local =
            LocalCluster::new(link(), bootstrap, ClientSecurity::plaintext(), patience, patience, patience, None, None);
        let node = local.refresh().await.expect("answers").nodes[0].id;
        let old = host_port(gone.local_addr());
        drop(gone);
        local.seen().brokers.insert(node, old);
        local.connect(Some(node)).await.expect("looked up again");
        let now = local.seen().brokers.get(&node).cloned();
        assert_eq!(now, Some(host_port(source.addresses()[0])));
    }

    #[tokio::test]
    async fn a_question_takes_no_longer_than_it_may() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let at = silent.local_addr().expect("an address");
        let bootstrap = vec![HostPort::new(at.ip().to_string(), at.port())];
        let (long, short) = (Duration::from_secs(600), Duration::from_millis(50));
        let local = LocalCluster::new(link(), bootstrap, ClientSecurity::plaintext(), long, long, short, None, None);
        let error = local.refresh().await.expect_err("nobody answers").to_string();
        assert!(error.contains("default.api.timeout.ms"), "{error}");
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
            LocalCluster::new(
                link(),
                bootstrap,
                ClientSecurity::plaintext(),
                patience,
                patience,
                patience,
                None,
                cluster,
            )
        };
        let ours = beside(None);
        let known = ours.refresh().await.expect("answers");
        ours.refresh().await.expect("is the same");
        ours.connect(None).await.expect("leads there");
        let strange = beside(Some("another"));
        let is_refused = |error: LocalError| assert!(matches!(error, LocalError::OtherCluster { .. }), "{error}");
        is_refused(strange.refresh().await.expect_err("it is another cluster"));
        for node in [None, Some(known.nodes[0].id)] {
            is_refused(strange.connect(node).await.expect_err("it is another cluster"));
        }
        // The bootstrap servers lead where they should again.
        strange.seen().cluster_id = Some(known.cluster_id);
        strange.connect(None).await.expect("leads there");
    }
}
