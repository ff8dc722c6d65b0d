#![forbid(unsafe_code)]
//! The Kafka face of the embedded store: what stock clients and tools speak to. Topics and their configs, produce and
//! fetch, consumer groups with committed offsets, ACLs and SCRAM users; a mirror is read-only.
//!
//! [`Broker::serve`] owns one connection at a time: requests are answered in the order in which they came, one is
//! handled while at most one more is read ahead. Large ones wait for a process-wide budget of memory. Bodies are decoded
//! behind the guard of `hawser_wire`; what cannot be decoded ends that connection and nothing else. Record bytes go from
//! the log to the socket as slices.

mod acls;
mod apis;
mod authorizer;
mod cluster;
mod config;
mod configs;
mod connection;
mod dispatch;
mod error;
mod fetch;
mod groups;
mod log_dirs;
mod offsets;
mod one_node;
mod partitions;
mod produce;
mod producer_ids;
mod requests;
mod topic_partitions;
mod topics;
mod transactions;
mod users;

pub use apis::{ApiRange, advertised_apis, api_versions_before_login};
pub use authorizer::{Authorizer, Operation, Resource};
pub use config::BrokerConfig;
pub use configs::BrokerSetting;
pub use error::ApiError;
pub use producer_ids::ProducerIds;
pub use topics::{ConfigChange, ConfigOp, Layout, Mirrors, NewTopic, Topics, check_topic_name};
pub use users::StoredUsers;

use bytes::Bytes;
use hawser_log::Logs;
use hawser_state::State;
use hawser_transport::{HostPort, Principal, ServerConnection};
use hawser_wire::{RequestFrame, ResponseError};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A future of some kind, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Hawser's own API keys, which the daemon implements. It asks the [`Authorizer`] itself: it knows what is asked for.
pub trait PrivateApis: Send + Sync {
    /// A `LinkOpen` came in: takes the connection over, for as long as it lives. Nothing was read beyond `frame`.
    fn link_open(&self, frame: RequestFrame, connection: ServerConnection) -> BoxFuture<'_, ()>;

    /// One operation on links and mirrors: JSON in, JSON out, refusals included.
    fn operate(&self, principal: &Principal, body: Bytes) -> BoxFuture<'_, Bytes>;
}

/// What a broker is made of.
pub struct Parts {
    /// Topics, groups, offsets, the cluster's id.
    pub state: State,
    /// The data.
    pub logs: Arc<Logs>,
    /// Makes and deletes topics in both.
    pub topics: Arc<Topics>,
    /// Who may do what.
    pub authorizer: Arc<Authorizer>,
    /// SCRAM users that tools make; the listeners let in the same.
    pub users: Arc<StoredUsers>,
    /// `LinkOpen` and `Operate`.
    pub private: Arc<dyn PrivateApis>,
    /// Bounds and policies.
    pub config: BrokerConfig,
}

/// The broker; one a daemon, shared by all its connections.
pub struct Broker {
    state: State,
    topics: Arc<Topics>,
    authorizer: Arc<Authorizer>,
    users: Arc<StoredUsers>,
    private: Arc<dyn PrivateApis>,
    config: BrokerConfig,
    partitions: partitions::Partitions,
    fetch: fetch::Fetches,
    requests: requests::RequestMemory,
    searches: offsets::Searches,
    groups: Arc<groups::Coordinator>,
}

impl Broker {
    /// Puts the parts together and takes up the groups that were stable when the daemon stopped. Must be called inside a
    /// tokio runtime: one task writes offsets, one watches the groups' clocks; both end with the broker.
    ///
    /// # Errors
    /// When the stored groups cannot be read.
    pub fn new(parts: Parts) -> Result<Arc<Self>, hawser_state::Error> {
        let Parts { state, logs, topics, authorizer, users, private, config } = parts;
        let groups = groups::Coordinator::start(state.clone(), config.clone())?;
        let partitions = partitions::Partitions::new(logs, state.clone());
        let fetch = fetch::Fetches::new(&config);
        let requests = requests::RequestMemory::new(config.request_memory_bytes);
        let searches = offsets::Searches::new();
        Ok(Arc::new(Self {
            state,
            topics,
            authorizer,
            users,
            private,
            config,
            partitions,
            fetch,
            requests,
            searches,
            groups,
        }))
    }

    /// Serves `connection` until the peer leaves, breaks the protocol, is idle for too long (the listener's rule), or
    /// `shutdown` is cancelled (the request at hand then has a moment to finish). `advertised` is what clients of this
    /// listener are told to connect to.
    pub async fn serve(
        self: &Arc<Self>,
        connection: ServerConnection,
        advertised: Arc<HostPort>,
        shutdown: CancellationToken,
    ) {
        connection::serve(self, connection, advertised, shutdown).await;
    }

    /// Makes `changes` of committed offsets for somebody who is no member of any group, such as a link. Those of groups that
    /// have members by the time of the write are left out; gives these groups. Cancel-safe: once this was polled, the others
    /// are written all the same.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` when they could not be written; the log says why.
    pub async fn write_offsets(
        &self,
        changes: Vec<hawser_state::GroupChange>,
    ) -> Result<BTreeSet<String>, ResponseError> {
        self.groups.write_for_outsider(changes).await
    }

    /// Whether `group` has members here: then nobody else may set its offsets.
    pub fn group_has_members(&self, group: &str) -> bool {
        self.groups.has_members(group)
    }
}
