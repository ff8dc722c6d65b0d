//! The topics of the embedded store, as they are made, grown, configured and deleted: the one place for it, whichever
//! face asks (Kafka's admin APIs, an operation on mirrors, a link that creates mirrors by itself).
//!
//! Changes are done one at a time, and each to its end: a caller may hang up. A record is written before its logs are
//! made and removed before they are: so what a crash leaves behind is a topic whose logs are made at the next start, or
//! folders that no topic names, never half a topic.

mod configure;
mod grow;
mod name;
mod new;
mod requests;

pub use configure::{ConfigChange, ConfigOp};
pub use name::check_topic_name;
pub use new::{Layout, NewTopic};
pub(crate) use requests::repeated;

use crate::groups::wall_ms;
use crate::producer_ids::ProducerIds;
use crate::{ApiError, BoxFuture, BrokerConfig};
use hawser_log::{ConfigOf, LogConfig, Logs, TopicConfig};
use hawser_state::{State, TopicRecord};
use hawser_wire::{NodeId, ResponseError, TopicPartition, Uuid};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

/// Most partitions that one request may make (`ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`).
pub(crate) const PARTITIONS_PER_REQUEST_MAX: i32 = 10_000;

/// What topics need of the daemon's links.
pub trait Mirrors: Send + Sync {
    /// Ends the copying into `topic`, which is about to be deleted. When this is done, nobody writes to its logs or its
    /// record.
    fn end(&self, topic: &TopicRecord) -> BoxFuture<'_, ()>;

    /// Goes on with the copying into `topic`, which could not be deleted.
    fn go_on(&self, topic: &TopicRecord) -> BoxFuture<'_, ()>;

    /// The configs of mirror `topic` that are copied from its source, always or because its link says so.
    fn copied_configs(&self, topic: &TopicRecord) -> BTreeSet<&'static str>;
}

/// What a topic gets that does not say.
pub(crate) struct TopicDefaults {
    /// The one node that holds every replica.
    pub(crate) node_id: NodeId,
    /// `num.partitions`.
    pub(crate) partitions: i32,
}

/// The topics; one a daemon.
pub struct Topics {
    state: State,
    logs: Arc<Logs>,
    mirrors: Arc<dyn Mirrors>,
    defaults: TopicDefaults,
    producer_ids: Arc<ProducerIds>,
    mirrors_turn: Arc<Mutex<()>>,
    /// Held over a check and the change that it allows.
    turn: Arc<Mutex<()>>,
}

impl Topics {
    /// Takes up the topics of `state`, making logs that a crash kept from being made. Blocks on files.
    pub fn open(state: State, logs: Arc<Logs>, mirrors: Arc<dyn Mirrors>, config: &BrokerConfig) -> Arc<Self> {
        let defaults = TopicDefaults { node_id: config.node_id, partitions: config.num_partitions };
        let producer_ids = ProducerIds::new(state.clone());
        let (mirrors_turn, turn) = Default::default();
        logs.follow(config_of(state.clone(), logs.config().clone()));
        let topics = Self { state, logs, mirrors, defaults, producer_ids, mirrors_turn, turn };
        for topic in topics.state.topics().iter().filter(|topic| !topic.is_read_only()) {
            let listed = topic.mirror.as_ref().and_then(|mirror| i32::try_from(mirror.stopped_at.len()).ok());
            let listed = listed.map_or(topic.partitions, |listed| listed.min(topic.partitions));
            let opened = topics.open_logs(topic, 0..listed);
            for outcome in [opened, topics.promote_unlisted(topic, listed..topic.partitions)] {
                if let Err(error) = outcome {
                    error!(topic = topic.name, %error, "not all partitions of the topic can be opened");
                }
            }
        }
        let strays = topics.logs.partitions().into_iter().filter(|id| topics.state.topic(&id.topic).is_none());
        let strays: BTreeSet<_> = strays.map(|id| id.to_string()).collect();
        if !strays.is_empty() {
            warn!(folders = ?strays, "folders of topics that do not exist, such as a deletion that was cut short leaves behind: delete them by hand");
        }
        Arc::new(topics)
    }

    /// Makes a topic, or with `validate_only` says whether it could be made. Runs to its end even when dropped.
    ///
    /// # Errors
    /// Kafka's, for what the name, the layout or a config breaks; `KafkaStorageError` when it could not be written, and
    /// then there is no such topic.
    pub async fn create(self: &Arc<Self>, new: NewTopic, validate_only: bool) -> Result<Arc<TopicRecord>, ApiError> {
        self.change(move |topics| {
            let record = new.check(&topics.defaults, topics.logs.config(), &topics.state.topics())?;
            if validate_only {
                return Ok(Arc::new(record));
            }
            topics.state.put_topic(record.clone()).map_err(|error| ApiError::storage(&error))?;
            if !record.is_read_only()
                && let Err(error) = topics.open_logs(&record, 0..record.partitions)
            {
                topics.remove(&record);
                return Err(error);
            }
            info!(topic = record.name, partitions = record.partitions, "topic created");
            Ok(Arc::new(record))
        })
        .await
    }

    /// Deletes the topic with this id: its logs, its configs, the offsets committed in it, and what makes it a mirror, which
    /// nobody makes, stops or changes meanwhile. Runs to its end even when dropped.
    ///
    /// # Errors
    /// `UnknownTopicId`; `KafkaStorageError` when it could not be written, and then it is as before.
    pub async fn delete(self: &Arc<Self>, id: Uuid) -> Result<(), ApiError> {
        let topics = Arc::clone(self);
        let find = move |topics: &Self| {
            topics.state.topic_by_id(id).ok_or_else(|| ApiError::of(ResponseError::UnknownTopicId))
        };
        let deleting = tokio::spawn(async move {
            // An ordinary topic never becomes a mirror.
            let _mirrors_turn = match find(&topics)?.is_read_only() {
                true => Some(topics.mirrors_turn.lock().await),
                false => None,
            };
            let turn = Arc::clone(&topics.turn).lock_owned().await;
            let topic = find(&topics)?;
            if topic.is_read_only() {
                topics.mirrors.end(&topic).await;
            }
            let removing = {
                let (topics, topic) = (Arc::clone(&topics), Arc::clone(&topic));
                tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    topics.state.delete_topic(&topic.name).map_err(|error| ApiError::storage(&error))?;
                    topics.remove_logs(&topic);
                    info!(topic = topic.name, "topic deleted");
                    Ok(())
                })
            };
            let removed = removing.await.unwrap_or_else(|ended| Err(ApiError::unfinished(&ended)));
            if removed.is_err() && topic.is_read_only() {
                topics.mirrors.go_on(&topic).await;
            }
            removed
        });
        deleting.await.unwrap_or_else(|ended| Err(ApiError::unfinished(&ended)))
    }

    /// Held by whoever makes, stops or changes a mirror or its link, as it is by [`delete`](Self::delete).
    pub fn mirrors_turn(&self) -> &Arc<Mutex<()>> {
        &self.mirrors_turn
    }

    /// Ids for producers of these topics.
    pub fn producer_ids(&self) -> &Arc<ProducerIds> {
        &self.producer_ids
    }

    /// What topics go by that say nothing else.
    pub(crate) fn log_config(&self) -> &LogConfig {
        self.logs.config()
    }

    /// Does `change` on a thread for blocking work, when its turn has come.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let topics = Arc::clone(self);
        let changing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            change(&topics)
        });
        changing.await.unwrap_or_else(|ended| Err(ApiError::unfinished(&ended)))
    }

    /// Opens logs of an ordinary topic, making those that are not there, and leads them.
    fn open_logs(&self, topic: &TopicRecord, partitions: Range<i32>) -> Result<(), ApiError> {
        for partition in partitions {
            let id = TopicPartition::new(topic.name.as_str(), partition);
            let opened = match self.logs.open_partition(&id, topic.id) {
                Err(hawser_log::Error::TopicId { held, .. }) if self.state.topic_by_id(held).is_none() => {
                    warn!(%id, "the folder is of a deleted topic of that name, and deleted now");
                    self.logs.delete_partition(&id).and_then(|()| self.logs.open_partition(&id, topic.id))
                }
                opened => opened,
            };
            let log = opened.map_err(|error| ApiError::storage(&error))?;
            log.become_leader().map_err(|error| ApiError::storage(&error))?;
        }
        Ok(())
    }

    /// Promotes and leads partitions of a stopped mirror that `stopped_at` does not list, as nobody has promoted them. Led as
    /// they are, they would keep mirrored transactions open and take mirrored producers for our own.
    fn promote_unlisted(&self, topic: &TopicRecord, unlisted: Range<i32>) -> Result<(), ApiError> {
        if unlisted.is_empty() {
            return Ok(());
        }
        warn!(topic = topic.name, partitions = ?unlisted, "partitions that no promotion knew of are promoted");
        let (mut mirrors, mut ends, mut largest_producer_id) = (Vec::new(), Vec::new(), -1);
        for partition in unlisted {
            let id = TopicPartition::new(topic.name.as_str(), partition);
            let log = self.logs.open_partition(&id, topic.id).map_err(|error| ApiError::storage(&error))?;
            largest_producer_id = largest_producer_id.max(log.largest_producer_id());
            ends.push(log.watermarks().log_end.0);
            mirrors.push(id);
        }
        // First, as each takes writes once it is promoted.
        self.producer_ids.raise_above(largest_producer_id).map_err(|error| ApiError::storage(&error))?;
        for outcome in self.logs.end_mirroring(&mirrors, wall_ms()) {
            outcome.map_err(|error| ApiError::storage(&error))?;
        }
        let list = |topic: &mut TopicRecord| {
            topic.mirror.iter_mut().for_each(|mirror| mirror.stopped_at.extend(&ends));
            true
        };
        self.state.update_topic(&topic.name, list).map(drop).map_err(|error| ApiError::storage(&error))
    }

    /// Takes back a topic that was not made to its end.
    fn remove(&self, topic: &TopicRecord) {
        if let Err(error) = self.state.delete_topic(&topic.name) {
            error!(topic = topic.name, %error, "a topic that could not be made remains");
            return;
        }
        self.remove_logs(topic);
    }

    /// Deletes the logs of a topic that is no more. What cannot be deleted is told at the next start, and taken away when
    /// the name is used again.
    fn remove_logs(&self, topic: &TopicRecord) {
        for partition in 0..topic.partitions {
            let id = TopicPartition::new(topic.name.as_str(), partition);
            if let Err(error) = self.logs.delete_partition(&id) {
                error!(%id, %error, "the log of a deleted topic remains");
            }
        }
    }
}

/// What the logs of a topic go by is what stands in the state, whoever opens them.
fn config_of(state: State, defaults: LogConfig) -> ConfigOf {
    Box::new(move |topic| {
        // Values were good when they were set; what is no longer good must not keep the topic away.
        let config = state.topic(topic).map(|topic| TopicConfig::of_mirror(&topic.configs, &defaults));
        Arc::new(config.unwrap_or_else(|| TopicConfig::defaults(&defaults)))
    })
}

#[cfg(test)]
mod tests;
