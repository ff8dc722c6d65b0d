//! Which cluster this daemon speaks for: the stock cluster beside it, whose id is asked for once and pinned, or its own.

use crate::config::LocalCluster;
use crate::persist::{PersistError, persist};
use crate::remote;
use hawser_state::State;
use hawser_transport::{ClientOptions, HostPort, KafkaClient};
use std::sync::OnceLock;
use std::time::Duration;

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// The daemon's cluster.
pub(crate) struct Cluster {
    state: State,
    beside: Option<LocalCluster>,
    /// Set once the stock cluster has been asked.
    confirmed: OnceLock<String>,
}

/// Why the cluster's id is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("the local cluster is not reachable: {0}")]
    Unreachable(String),
    #[error(
        "local.bootstrap.servers leads to cluster {seen}, but this daemon belongs to {pinned}: \
         a daemon is not moved to another cluster with its state"
    )]
    Another { pinned: String, seen: String },
    #[error(transparent)]
    State(#[from] PersistError),
}

impl Cluster {
    /// The cluster beside, or, without one, the embedded store's own.
    pub(crate) fn new(state: State, beside: Option<LocalCluster>) -> Self {
        Self { state, beside, confirmed: OnceLock::new() }
    }

    /// The stock cluster beside, if there is one.
    pub(crate) fn beside(&self) -> Option<&LocalCluster> {
        self.beside.as_ref()
    }

    /// The id; asks the stock cluster the first time. Cancel-safe.
    ///
    /// # Errors
    /// When it cannot be asked, or is another one than before.
    pub(crate) async fn id(&self) -> Result<String, ClusterError> {
        let Some(beside) = &self.beside else { return Ok(self.state.cluster_id().to_owned()) };
        if let Some(id) = self.confirmed.get() {
            return Ok(id.clone());
        }
        let seen = ask(beside).await?;
        let answered = seen.clone();
        let pinned = persist(&self.state, move |state| state.pin_local_cluster(&answered)).await?;
        if pinned != seen {
            return Err(ClusterError::Another { pinned, seen });
        }
        Ok(self.confirmed.get_or_init(|| pinned).clone())
    }

    /// The id, as far as it is known without asking.
    pub(crate) fn known_id(&self) -> Option<String> {
        if self.beside.is_none() {
            return Some(self.state.cluster_id().to_owned());
        }
        self.confirmed.get().cloned().or_else(|| self.state.local_cluster().ok().flatten())
    }
}

async fn ask(beside: &LocalCluster) -> Result<String, ClusterError> {
    let mut last = String::new();
    for to in &beside.bootstrap {
        match ask_one(beside, to).await {
            Ok(id) => return Ok(id),
            Err(error) => last = format!("{to}: {error:#}"),
        }
    }
    Err(ClusterError::Unreachable(last))
}

async fn ask_one(beside: &LocalCluster, to: &HostPort) -> anyhow::Result<String> {
    let stream = beside.security.dial(to, DIAL_TIMEOUT).await?;
    let options = ClientOptions {
        client_id: "hawser".to_owned(),
        request_timeout: DIAL_TIMEOUT,
        response_bytes_max: RESPONSE_BYTES_MAX,
        idle_max: None,
    };
    Ok(remote::cluster_id(&KafkaClient::start(stream, options).await?).await?)
}
