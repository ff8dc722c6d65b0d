//! What the acceptor of source halves asks about links and rights, answered from the state.

use crate::cluster::Cluster;
use crate::persist::persist;
use crate::service::link_properties;
use hawser_broker::{Authorizer, Operation, Resource};
use hawser_inbound::{BoxFuture, LinkDirectory, LinkFacts};
use hawser_link::{LinkConfig, LinkName};
use hawser_state::{LinkRecord, State};
use hawser_transport::Principal;
use std::sync::Arc;
use uuid::Uuid;

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
        Some(LinkFacts::new(record.id.unwrap_or_default(), record.remote_cluster_id.clone(), &parsed.config))
    }

    fn learned_source_cluster(&self, link: &LinkName, link_id: Uuid, cluster_id: &str) -> BoxFuture {
        let (state, link, cluster_id) = (self.state.clone(), link.clone(), cluster_id.to_owned());
        Box::pin(async move {
            let name = link.as_str().to_owned();
            let learn = move |record: &mut LinkRecord| {
                // Another link of that name may have been made meanwhile.
                let is_meant = record.id.unwrap_or_default() == link_id && record.remote_cluster_id.is_none();
                if is_meant {
                    record.remote_cluster_id = Some(cluster_id);
                }
                is_meant
            };
            if let Err(error) = persist(&state, move |state| state.update_link(&name, learn)).await {
                tracing::error!(%link, %error, "the source cluster's id could not be kept");
            }
        })
    }

    fn may_alter_cluster(&self, principal: &Principal) -> bool {
        self.authorizer.authorize(principal, Operation::Alter, Resource::Cluster)
    }

    fn local_cluster_id(&self) -> String {
        self.cluster.known_id().unwrap_or_default()
    }
}
