//! Asking the source for its topics and their leaders, and what follows from the answers.

use super::MirrorEvent;
use super::coordinator::Coordinator;
use crate::fetcher::{Command, now};
use crate::partition::{Event, Leader, Start};
use crate::status::Unreachable;
use crate::topics::Change;
use hawser_store::Store;
use hawser_transport::{KafkaClient, Target};
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::{MetadataRequest, MetadataResponse, TopicName};
use hawser_wire::{StrBytes, TopicPartition};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, warn};

/// Highest Metadata version used.
const METADATA_VERSION_MAX: i16 = 12;

/// What was asked for, and what came.
pub(super) type MetadataAnswer = (Vec<Arc<str>>, Result<Answered, Unreachable>);
/// An answer, and the connection that it came on.
type Answered = (KafkaClient, MetadataResponse);

impl<S: Store> Coordinator<S> {
    pub(super) fn ask_metadata(&mut self) -> Option<Pin<Box<dyn Future<Output = MetadataAnswer> + Send>>> {
        let is_probe_due = self.probe_at.is_some_and(|at| at <= now());
        if !(self.topics.has_stale() || is_probe_due) || now() < self.ask_after {
            return None;
        }
        // Without stale topics this asks for none, which is answered all the same.
        let asked = self.topics.to_ask();
        let names = asked.iter().map(|name| {
            let name = TopicName(StrBytes::from_string(name.to_string()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        let request =
            MetadataRequest::default().with_topics(Some(names.collect())).with_allow_auto_topic_creation(false);
        let (client, connector) = (self.client.take().filter(|client| !client.is_closed()), self.connector.clone());
        Some(Box::pin(async move {
            let answer = async {
                let client = match client {
                    Some(client) => client,
                    None => connector.lease(Target::Any).await?,
                };
                let answer = client.call(&request, METADATA_VERSION_MAX, Duration::ZERO).await;
                Ok((client, answer?.1))
            };
            let answer = answer.await;
            (asked, answer)
        }))
    }

    pub(super) async fn metadata_answered(&mut self, (asked, answer): MetadataAnswer) {
        let answer = match answer {
            Ok(answered) => self.recognise(answered).await,
            unreachable => unreachable,
        };
        let changes = match answer {
            Ok((client, answer)) => {
                self.client = Some(client);
                self.failures = 0;
                self.probe_at = self.config.availability_check.map(|every| now() + every);
                self.board.set_unreachable(None);
                self.topics.on(&asked, &answer, now())
            }
            Err(error) => {
                if self.failures == 0 {
                    warn!(link = %self.config.link, %error, "no metadata from the source");
                }
                self.failures = self.failures.saturating_add(1);
                // From now on it is asked again at the pace of retries, until it answers, whether or not a topic needs it.
                self.probe_at = Some(now());
                if self.failures >= self.config.availability_failures_max {
                    self.board.set_unreachable(Some(error));
                }
                Vec::new()
            }
        };
        self.ask_after = now()
            + match self.failures.checked_sub(1) {
                None => self.config.patience.retry_backoff,
                Some(earlier) => self.config.reconnect_after(earlier),
            };
        for change in changes {
            self.change(change).await;
        }
    }

    /// Takes an answer from the cluster that the others came from; the first one tells which that is.
    async fn recognise(&mut self, answered: Answered) -> Result<Answered, Unreachable> {
        // Brokers older than 0.10.1 have no cluster id.
        let found = answered.1.cluster_id.as_ref().map(ToString::to_string);
        match (&self.source_cluster_id, found) {
            (Some(known), Some(found)) if *known != found => {
                Err(Unreachable::OtherCluster { found, known: known.clone() })
            }
            (None, Some(found)) => {
                self.source_cluster_id = Some(found.clone());
                self.tell_daemon(Some(MirrorEvent::SourceKnown { cluster_id: found })).await;
                Ok(answered)
            }
            (Some(_), Some(_)) | (_, None) => Ok(answered),
        }
    }

    async fn change(&mut self, change: Change) {
        match change {
            Change::Leader { partition, leader } => self.leader(partition, leader).await,
            Change::Pinned { topic, id } => {
                let Some(mirror) = self.mirrors.get_mut(&topic) else { return };
                mirror.source_topic_id = id;
                for (_, held) in self.parked.iter_mut().filter(|(held, _)| held.topic == topic) {
                    held.side.topic_id = id;
                }
                let topic = mirror.spec.name.clone();
                self.tell_daemon(Some(MirrorEvent::Pinned { topic, source_topic_id: id })).await;
            }
            Change::Grew { topic, from, to } => {
                let Some(mirror) = self.mirrors.get_mut(&topic) else { return };
                let name = mirror.spec.name.clone();
                if from > 0 && mirror.start != Start::Earliest {
                    // What is added to a topic later is newer than its mirror: all of it is wanted.
                    mirror.started.extend(from..to);
                    for partition in from..to {
                        self.tell_daemon(Some(MirrorEvent::PartitionStarted { topic: name.clone(), partition })).await;
                    }
                }
                self.grow(&topic, to);
                self.tell_daemon(Some(MirrorEvent::PartitionsGrew { topic: name, from, to })).await;
            }
            Change::Unavailable { topic, detail } => {
                let event = |topic| MirrorEvent::Unavailable { topic, detail: detail.clone() };
                self.availability(&topic, Some(detail.clone()), event).await;
            }
            Change::Available { topic } => {
                self.availability(&topic, None, |topic| MirrorEvent::Available { topic }).await;
            }
            Change::Failed { topic, failure } => {
                let Some(mirror) = self.mirrors.get_mut(&topic) else { return };
                error!(link = %self.config.link, topic = %mirror.spec.name, %failure, "mirror failed");
                mirror.failure = Some(failure.clone());
                let name = mirror.spec.name.clone();
                self.board.set_state(&name, mirror.state());
                for (_, held) in self.parked.iter_mut().filter(|(id, _)| id.topic == topic) {
                    held.machine.on(Event::Fail(failure.clone()), now());
                    held.side.place.changed(&held.machine);
                }
                self.tell_all(|| Command::Fail(topic.clone(), failure.clone())).await;
                self.tell_daemon(Some(MirrorEvent::Failed { topic: name, partition: None, failure })).await;
            }
        }
    }

    async fn availability(
        &mut self,
        topic: &Arc<str>,
        unavailable: Option<String>,
        event: impl FnOnce(Arc<str>) -> MirrorEvent,
    ) {
        let Some(mirror) = self.mirrors.get_mut(topic) else { return };
        if mirror.unavailable == unavailable {
            return;
        }
        mirror.unavailable = unavailable;
        let name = mirror.spec.name.clone();
        self.board.set_state(&name, mirror.state());
        self.tell_daemon(Some(event(name))).await;
    }

    async fn leader(&mut self, id: TopicPartition, leader: Leader) {
        if let Some(mut held) = self.parked.remove(&id) {
            self.leaders.insert(id, leader);
            held.machine.on(Event::Leader(leader), now());
            return self.route(held).await;
        }
        let Some(place) = self.placed.get(&id) else { return };
        if self.leaders.get(&id) == Some(&leader) {
            return;
        }
        self.leaders.insert(id.clone(), leader);
        if let Some(fetcher) = self.fetchers.get(place) {
            let _ = fetcher.commands.send(Command::Leader(id, leader)).await; // ended: `fetcher_ended` starts over
        }
    }
}
