//! Executes operations: the one place where they are authorised, audited and done. Faces only translate. What each
//! does stands in the folder beside this, by subject.

mod alter;
mod audit;
mod configs;
mod links;
mod mirrors;
mod syncs;
mod verify;
mod views;

use crate::cluster::Cluster;
use crate::links::Links;
use crate::operations::{ClusterView, Operation, Outcome, Refusal, RefusalCode, Reply, Right};
use crate::promotions::Promotions;
use crate::verify::Verifications;
use alter::Chosen;
use bytes::Bytes;
use hawser_broker::{Authorizer, Broker, Topics};
use hawser_link::Properties;
use hawser_log::Logs;
use hawser_state::State;
use hawser_transport::Principal;
use mirrors::WantedMirror;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

/// Changes under way at a time; further ones wait. Most of them wait for another cluster, and outlive whoever asked.
const CHANGES_MAX: usize = 64;

/// What operations work on.
pub(crate) struct Service {
    state: State,
    logs: Arc<Logs>,
    topics: Arc<Topics>,
    links: Arc<Links>,
    authorizer: Arc<Authorizer>,
    cluster: Arc<Cluster>,
    node_id: i32,
    verifications: Verifications,
    syncs: syncs::RunningSyncs,
    /// Who knows which groups have members; set when it is there.
    broker: OnceLock<Weak<Broker>>,
    /// For what outlives the call that begins it.
    me: Weak<Self>,
    /// Operations that change something, and deletions of mirrors, are done one at a time: check and change belong together.
    changes: Arc<Mutex<()>>,
    /// Taken before `changes` by a change of a link's settings, for as long as the other side is tried out.
    settings: Mutex<()>,
    promotions: Arc<Promotions>,
    /// [`CHANGES_MAX`]; closed when the daemon stops.
    room: Arc<Semaphore>,
    /// Names of links whose other side is being asked.
    being_made: std::sync::Mutex<BTreeSet<String>>,
}

impl Service {
    /// Over the daemon's parts.
    pub(crate) fn new(
        state: State,
        logs: Arc<Logs>,
        topics: Arc<Topics>,
        links: Arc<Links>,
        cluster: Arc<Cluster>,
        authorizer: Arc<Authorizer>,
        node_id: i32,
    ) -> Arc<Self> {
        let changes = topics.mirrors_turn().clone();
        Arc::new_cyclic(|me| Self {
            promotions: Promotions::new(
                state.clone(),
                logs.clone(),
                topics.producer_ids().clone(),
                links.clone(),
                me.clone(),
                changes.clone(),
            ),
            state,
            logs,
            topics,
            links,
            authorizer,
            cluster,
            node_id,
            verifications: Verifications::default(),
            syncs: syncs::RunningSyncs::default(),
            broker: OnceLock::new(),
            me: me.clone(),
            changes,
            settings: Mutex::default(),
            room: Arc::new(Semaphore::new(CHANGES_MAX)),
            being_made: std::sync::Mutex::default(),
        })
    }

    /// Goes on with what an earlier life of the daemon began.
    pub(crate) fn resume(&self) {
        self.promotions.resume();
    }

    /// The private API `OPERATE`: JSON in, JSON out. Never fails: what goes wrong is a refusal. May be dropped at any
    /// time: a change that has begun is done to its end.
    pub(crate) async fn operate(self: &Arc<Self>, principal: &Principal, body: &[u8]) -> Bytes {
        let reply = match serde_json::from_slice::<Operation>(body) {
            Ok(operation) => self.execute(principal, operation).await,
            Err(error) => Err(Refusal::new(RefusalCode::InvalidRequest, format!("not an operation: {error}"))),
        };
        let reply = reply.map_or_else(Reply::Refused, |outcome| Reply::Done(Box::new(outcome)));
        Bytes::from(serde_json::to_vec(&reply).unwrap_or_default())
    }

    /// Does `operation` in the name of `principal`. Cancel-safe: a change that has begun is done to its end.
    ///
    /// # Errors
    /// When it is not done: why.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        principal: &Principal,
        operation: Operation,
    ) -> Result<Outcome, Refusal> {
        match operation.right() {
            Right::Alter => self.change(principal, operation).await,
            Right::Describe => self.authorized(principal, operation).await,
        }
    }

    /// Begins no more changes, and waits for the one that is writing.
    pub(crate) async fn stop(&self) {
        self.room.close();
        self.stop_syncs().await;
        self.promotions.end().await;
        let _last = self.changes.lock().await;
    }

    /// Does `operation` in a task of its own: whoever asked may hang up, and must not leave half a change behind.
    async fn change(self: &Arc<Self>, principal: &Principal, operation: Operation) -> Result<Outcome, Refusal> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| unavailable(&"the daemon stops"))?;
        let (service, principal) = (self.clone(), principal.clone());
        let changing = tokio::spawn(async move {
            let _room = room;
            service.authorized(&principal, operation).await
        });
        changing.await.unwrap_or_else(|error| Err(internal(&error)))
    }

    async fn authorized(&self, principal: &Principal, operation: Operation) -> Result<Outcome, Refusal> {
        use hawser_broker::{Operation as Acl, Resource};
        let right = operation.right();
        let acl = match right {
            Right::Describe => Acl::Describe,
            Right::Alter => Acl::Alter,
        };
        let entry = audit::Entry::new(&operation);
        let result = if self.authorizer.authorize(principal, acl, Resource::Cluster) {
            self.perform(operation).await
        } else {
            let what = if right == Right::Alter { "ALTER" } else { "DESCRIBE" };
            let (principal, name) = (principal.as_str(), operation.name());
            let message = format!("{principal} lacks {what} on the cluster, which {name} takes");
            Err(Refusal::new(RefusalCode::NotAuthorized, message))
        };
        entry.write(principal, &result);
        result
    }

    async fn perform(&self, operation: Operation) -> Result<Outcome, Refusal> {
        match operation {
            Operation::ClusterDescribe => self.cluster_describe().await,
            Operation::LinkCreate { link, configs, remote, validate_only, skip_remote_check } => {
                self.link_create(link, configs, remote, validate_only, skip_remote_check).await
            }
            Operation::LinkList => Ok(Outcome::Links { links: self.links() }),
            Operation::LinkDescribe { link } => Ok(Outcome::Link(self.link_view(&*self.link(&link)?, &self.flow()))),
            Operation::LinkAlterConfigs { link, changes, validate_only } => {
                self.link_alter_configs(&link, &changes, validate_only).await
            }
            Operation::LinkDescribeConfigs { link } => self.link_describe_configs(&link),
            Operation::LinkDelete { link, force, validate_only } => {
                let _one_at_a_time = self.changes.lock().await;
                self.link_delete(&link, force, validate_only).await
            }
            Operation::MirrorCreate {
                link,
                mirror_topic,
                source_topic,
                configs,
                replication_factor,
                mirror_start_offset_spec,
            } => {
                let wanted = WantedMirror {
                    mirror_topic,
                    source_topic,
                    configs,
                    replication_factor,
                    start: mirror_start_offset_spec,
                };
                self.mirror_create(&link, wanted).await
            }
            Operation::MirrorAlter { link, action, topics, pattern, validate_only } => {
                let chosen = Chosen::new(link, topics, pattern)?;
                self.mirror_alter(&chosen, action, validate_only).await
            }
            Operation::MirrorList { link, partitions } => self.mirror_list(link.as_deref(), partitions),
            Operation::MirrorDescribe { mirror_topic, link } => self.mirror_describe(&mirror_topic, link.as_deref()),
            Operation::VerifyStart { link, topics, follow, timeout_ms } => {
                self.verify_start(&link, &topics, follow, timeout_ms)
            }
            Operation::VerifyStatus { verification } => self.verifications.status(verification).map(Outcome::Verify),
            Operation::VerifyStop { verification } => {
                self.verifications.stop(verification).map(|()| Outcome::VerifyStopped)
            }
        }
    }

    /// The cluster's id, as far as it is known without asking.
    pub(crate) fn known_cluster_id(&self) -> Option<String> {
        self.cluster.known_id()
    }

    async fn cluster_describe(&self) -> Result<Outcome, Refusal> {
        let cluster_id = self.cluster.id().await.map_err(|e| unavailable(&e))?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Outcome::Cluster(ClusterView { cluster_id, node_id: self.node_id, version }))
    }
}

/// A half's settings as properties; errors name the link as their file.
pub(crate) fn link_properties(link: &str, configs: &BTreeMap<String, String>) -> Properties {
    let mut properties = Properties::parse(&format!("link {link}"), "");
    for (key, value) in configs {
        properties.set(key, value);
    }
    properties
}

/// A UUID as Kafka writes it: base64url without padding.
pub(crate) fn kafka_uuid(id: Uuid) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn unavailable(reason: &impl ToString) -> Refusal {
    Refusal::new(RefusalCode::LinkUnavailable, reason.to_string())
}

fn internal(error: &impl ToString) -> Refusal {
    let message = error.to_string();
    tracing::error!(message, "operation failed");
    Refusal::new(RefusalCode::Internal, message)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
