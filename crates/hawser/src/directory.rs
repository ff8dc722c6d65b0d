//! What the acceptor of source halves asks about links and rights, answered from the state.

use crate::cluster::Cluster;
use crate::service::link_properties;
use hawser_broker::{Authorizer, Operation, Resource};
use hawser_inbound::{LinkDirectory, LinkFacts};
use hawser_link::{LinkConfig, LinkName};
use hawser_state::State;
use hawser_transport::Principal;
use std::sync::Arc;

/// The daemon's links, as the acceptor sees them.
pub(crate) struct Directory {
    state: State,
    cluster: Arc<Cluster>,
    authorizer: Arc<Authorizer>,
}

impl Directory {
    /// Over the daemon's parts.
    pub(crate) fn new(state: State, cluster: Arc<Cluster>, authorizer: Arc<Authorizer>) -> Self {
        Self { state, cluster, authorizer }
    }
}

impl LinkDirectory for Directory {
    fn lookup(&self, link: &LinkName) -> Option<LinkFacts> {
        let record = self.state.link(link.as_str())?;
        let parsed = LinkConfig::parse(&link_properties(&record.name, &record.configs.0)).ok()?;
        Some(LinkFacts::new(record.id.unwrap_or_default(), record.remote_cluster_id, &parsed.config))
    }

    fn learned_source_cluster(&self, link: &LinkName, cluster_id: &str) {
        let (state, link, cluster_id) = (self.state.clone(), link.clone(), cluster_id.to_owned());
        // Whoever tells us must not wait for the disk.
        tokio::task::spawn_blocking(move || {
            let Some(mut record) = state.link(link.as_str()) else { return };
            record.remote_cluster_id = Some(cluster_id);
            if let Err(error) = state.put_link(record) {
                // It is learnt again from the next half, as long as it is not kept.
                tracing::error!(%link, %error, "the source cluster's id could not be kept");
            }
        });
    }

    fn may_alter_cluster(&self, principal: &Principal) -> bool {
        self.authorizer.authorize(principal, Operation::Alter, Resource::Cluster)
    }

    fn local_cluster_id(&self) -> String {
        self.cluster.known_id().unwrap_or_default()
    }
}
