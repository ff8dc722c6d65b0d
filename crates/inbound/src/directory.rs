//! What the acceptor has to know of links and rights; the daemon's state answers.

use hawser_link::{Half, LinkConfig, LinkName};
use hawser_transport::Principal;
use std::pin::Pin;
use std::time::Duration;
use uuid::Uuid;

/// What the directory does beside the accepting tasks.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The daemon's links and rights. Called from accepting tasks: must not block for long.
pub trait LinkDirectory: Send + Sync + 'static {
    /// The link of that name, as it is now.
    fn lookup(&self, link: &LinkName) -> Option<LinkFacts>;

    /// The first source half of the link with this id has told its cluster's id: keep it. That half is answered when the
    /// future is done, so that a restart does not forget what it was told. What could not be kept is learnt again.
    fn learned_source_cluster(&self, link: &LinkName, link_id: Uuid, cluster_id: &str) -> BoxFuture;

    /// Whether the principal has ALTER on the cluster resource, which is all that a source half needs.
    fn may_alter_cluster(&self, principal: &Principal) -> bool;

    /// The id of the cluster that this daemon stands for.
    fn local_cluster_id(&self) -> String;
}

/// What a link record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// Given when it was created.
    pub link_id: Uuid,
    /// The source cluster, if it was given or learnt.
    pub source_cluster_id: Option<String>,
    /// Which half it is.
    pub half: Half,
    /// How long a lease waits, which is how long a channel may take to open (`socket.connection.setup.timeout.ms`: the
    /// source half's dial, which the other side of the same key bounds, is nearly all of it).
    pub lease_timeout: Duration,
    /// How long a leased client waits for answers (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// TCP receive buffer of channels (`replica.socket.receive.buffer.bytes`); `None`: the system's.
    pub receive_buffer_bytes: Option<usize>,
}

impl LinkFacts {
    /// The facts of a link with this configuration.
    pub fn new(link_id: Uuid, source_cluster_id: Option<String>, config: &LinkConfig) -> Self {
        Self {
            link_id,
            source_cluster_id,
            half: config.half,
            lease_timeout: config.connection.setup_timeout,
            request_timeout: config.connection.request_timeout,
            receive_buffer_bytes: config.mirrors.receive_buffer_bytes,
        }
    }
}
