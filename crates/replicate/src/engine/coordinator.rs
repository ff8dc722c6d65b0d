//! The coordinator task: obeys the handle, hears its fetchers, and starts over after a panic.

use super::metadata::MetadataAnswer;
use super::mirror::Mirror;
use super::placement::{COMMANDS_MAX, FetcherHandle, Place};
use super::{Call, MirrorEvent};
use crate::config::{MirrorSpec, ReplicateConfig};
use crate::fetcher::{Command, Held, Notice, now};
use crate::partition::{Event, Leader, Report, Start};
use crate::status::{Board, LinkCounters};
use crate::throttle::Throttle;
use crate::topics::Topics;
use hawser_store::Store;
use hawser_transport::{Connector, KafkaClient, RESTART_AFTER_MAX, caught, restart_after};
use hawser_wire::TopicPartition;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::error;

/// Notices that may wait at the coordinator; a fetcher keeps the rest to itself.
const NOTICES_MAX: usize = 1_024;

/// When a source is asked for its first sign of life: time enough for a mirror to ask something, or for the daemon to lend
/// the connection that it has.
const FIRST_PROBE: Duration = Duration::from_secs(1);

/// Who waits for the end, if anybody does.
type Stop = Option<oneshot::Sender<()>>;

/// What the coordinator does next.
enum Life {
    /// Run.
    New,
    /// Start over after a panic, and rest before it runs.
    Broken { rest_until: Instant },
    /// Rest after a panic while it started over, and start over again.
    Lost { rest_until: Instant },
}

/// The task of one link.
pub(super) struct Coordinator<S: Store> {
    pub(super) config: Arc<ReplicateConfig>,
    pub(super) store: Arc<S>,
    pub(super) connector: Arc<dyn Connector>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) counters: LinkCounters,
    pub(super) board: Arc<Board>,
    pub(super) events: mpsc::Sender<MirrorEvent>,
    pub(super) notices: mpsc::Sender<Notice<S::Partition>>,
    pub(super) topics: Topics,
    /// By name at the source.
    pub(super) mirrors: BTreeMap<Arc<str>, Mirror>,
    /// Mirrors that are still to be taken up again, by name at the source; empty but for a start over.
    restarting: BTreeMap<Arc<str>, MirrorSpec>,
    /// Name here to name at the source.
    pub(super) names: HashMap<Arc<str>, Arc<str>>,
    pub(super) parked: HashMap<TopicPartition, Box<Held<S::Partition>>>,
    pub(super) placed: HashMap<TopicPartition, Place>,
    pub(super) leaders: HashMap<TopicPartition, Leader>,
    pub(super) fetchers: HashMap<Place, FetcherHandle<S::Partition>>,
    pub(super) tasks: JoinSet<Place>,
    pub(super) client: Option<KafkaClient>,
    /// As configured, or as the source said first.
    pub(super) source_cluster_id: Option<String>,
    pub(super) ask_after: Instant,
    pub(super) refresh_at: Instant,
    /// When the source is asked for a sign of life, unless it gives one before.
    pub(super) probe_at: Option<Instant>,
    pub(super) failures: u32,
}

impl<S: Store> Coordinator<S> {
    /// Over parts that nobody else has. Gives what its fetchers will tell it.
    pub(super) fn new(
        config: ReplicateConfig,
        store: Arc<S>,
        connector: Arc<dyn Connector>,
        board: Arc<Board>,
        throttle: Arc<Throttle>,
        events: mpsc::Sender<MirrorEvent>,
    ) -> (Self, mpsc::Receiver<Notice<S::Partition>>) {
        let (notices, heard) = mpsc::channel(NOTICES_MAX);
        let coordinator = Self {
            topics: Topics::new(config.patience.retry_timeout),
            board,
            throttle,
            counters: LinkCounters::new(&config.link),
            store,
            connector,
            events,
            notices,
            mirrors: BTreeMap::new(),
            restarting: BTreeMap::new(),
            names: HashMap::new(),
            parked: HashMap::new(),
            placed: HashMap::new(),
            leaders: HashMap::new(),
            fetchers: HashMap::new(),
            tasks: JoinSet::new(),
            client: None,
            source_cluster_id: config.source_cluster_id.clone(),
            ask_after: now(),
            refresh_at: now() + config.metadata_age_max,
            probe_at: config.availability_check.map(|every| now() + every.min(FIRST_PROBE)),
            failures: 0,
            config: Arc::new(config),
        };
        (coordinator, heard)
    }

    /// Runs until it is stopped. A panic costs what is in memory only: it is shown, and everything starts over from what
    /// the mirrors are, as after a restart of the daemon; as often as that takes.
    pub(super) async fn supervise(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        mut heard: mpsc::Receiver<Notice<S::Partition>>,
    ) {
        let (mut begun, mut panics) = (now(), 0);
        let mut life = Life::New;
        let stopped = loop {
            let run = async {
                match life {
                    Life::New => {}
                    Life::Broken { rest_until } => {
                        self.start_over(&mut heard).await;
                        if let Some(stop) = self.rest(&mut calls, &mut heard, rest_until).await {
                            return stop;
                        }
                    }
                    // Not even starting over went well: it is tried again after a while.
                    Life::Lost { rest_until } => {
                        tokio::time::sleep_until(rest_until.into()).await;
                        self.start_over(&mut heard).await;
                    }
                }
                life = Life::New;
                self.run(&mut calls, &mut heard).await
            };
            match caught(run).await {
                Ok(stopped) => break stopped,
                Err(panic) => {
                    error!(link = %self.config.link, %panic, "replication of the link failed; it starts over");
                    self.board.set_unreachable(Some(panic.into()));
                    self.probe_at = Some(now()); // an answer takes that back
                }
            }
            panics = if now().saturating_duration_since(begun) > RESTART_AFTER_MAX { 0 } else { panics };
            let rest_until = now() + restart_after(panics);
            life = match life {
                Life::New => Life::Broken { rest_until },
                Life::Broken { .. } | Life::Lost { .. } => Life::Lost { rest_until },
            };
            begun = rest_until;
            panics = panics.saturating_add(1);
        };
        if let Err(panic) = caught(self.end_fetchers(&mut heard)).await {
            error!(link = %self.config.link, %panic, "replication of the link did not end in order");
        }
        if let Some(done) = stopped {
            let _ = done.send(()); // the caller may have gone
        }
    }

    /// Obeys calls only. `Some` when told to stop.
    async fn rest(
        &mut self,
        calls: &mut mpsc::Receiver<Call>,
        heard: &mut mpsc::Receiver<Notice<S::Partition>>,
        until: Instant,
    ) -> Option<Stop> {
        while now() < until {
            tokio::select! {
                call = calls.recv() => match call {
                    Some(Call::Stop(done)) => return Some(Some(done)),
                    Some(Call::Configure(config, connector, done)) => {
                        self.configure(*config, connector, heard).await;
                        let _ = done.send(()); // the caller may have gone
                    }
                    Some(call) => self.obey(call).await,
                    None => return Some(None),
                },
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
        None
    }

    /// Forgets everything but the mirrors. Copies are closed between two writes and opened anew. May be begun again where
    /// it failed: a mirror is in `mirrors` or in `restarting` at every moment.
    async fn start_over(&mut self, heard: &mut mpsc::Receiver<Notice<S::Partition>>) {
        for (source_topic, mirror) in std::mem::take(&mut self.mirrors) {
            let spec = mirror.into_spec(source_topic.clone());
            self.restarting.entry(source_topic).or_insert(spec);
        }
        self.end_fetchers(heard).await;
        (self.notices, *heard) = mpsc::channel(NOTICES_MAX);
        self.topics = Topics::new(self.config.patience.retry_timeout);
        self.names.clear();
        self.parked.clear();
        self.placed.clear();
        self.leaders.clear();
        self.client = None;
        while let Some((source_topic, spec)) = self.restarting.first_key_value() {
            let (source_topic, spec) = (source_topic.clone(), spec.clone());
            self.board.remove(&spec.topic.name);
            self.add(spec).await;
            self.restarting.remove(&source_topic);
        }
    }

    async fn configure(
        &mut self,
        config: ReplicateConfig,
        connector: Arc<dyn Connector>,
        heard: &mut mpsc::Receiver<Notice<S::Partition>>,
    ) {
        (self.config, self.connector) = (Arc::new(config), connector);
        if self.config.source_cluster_id.is_some() {
            self.source_cluster_id.clone_from(&self.config.source_cluster_id);
        }
        self.start_over(heard).await;
        (self.ask_after, self.refresh_at, self.failures) = (now(), now() + self.config.metadata_age_max, 0);
        self.probe_at = self.config.availability_check.map(|every| now() + every.min(FIRST_PROBE));
    }

    async fn end_fetchers(&mut self, heard: &mut mpsc::Receiver<Notice<S::Partition>>) {
        self.fetchers.clear();
        heard.close();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Runs until it is told to stop, and by whom, if not by the drop of the last handle.
    async fn run(
        &mut self,
        calls: &mut mpsc::Receiver<Call>,
        heard: &mut mpsc::Receiver<Notice<S::Partition>>,
    ) -> Stop {
        let mut metadata: Option<Pin<Box<dyn Future<Output = MetadataAnswer> + Send>>> = None;
        loop {
            if metadata.is_none() {
                metadata = self.ask_metadata();
            }
            let wake_at = if self.topics.has_stale() { self.ask_after } else { self.refresh_at };
            let wake_at = self.probe_at.map_or(wake_at, |at| wake_at.min(at.max(self.ask_after)));
            let asking = metadata.is_some();
            tokio::select! {
                call = calls.recv() => match call {
                    Some(Call::Stop(done)) => return Some(done),
                    Some(Call::Configure(config, connector, done)) => {
                        metadata = None;
                        self.configure(*config, connector, heard).await;
                        let _ = done.send(()); // the caller may have gone
                    }
                    Some(call) => self.obey(call).await,
                    None => return None,
                },
                Some(notice) = heard.recv() => self.hear(notice).await,
                answer = wait(&mut metadata), if asking => {
                    metadata = None;
                    self.metadata_answered(answer).await;
                }
                Some(ended) = self.tasks.join_next() => self.fetcher_ended(ended).await,
                () = tokio::time::sleep_until(wake_at.into()), if !asking => {
                    if now() >= self.refresh_at {
                        self.topics.mark_all_stale();
                        self.refresh_at = now() + self.config.metadata_age_max;
                    }
                }
            }
        }
    }

    async fn obey(&mut self, call: Call) {
        let done = match call {
            Call::Add(spec, done) => {
                self.add(*spec).await;
                done
            }
            Call::Remove(topics, done) => {
                self.remove(&topics).await;
                done
            }
            Call::Pause(topic, done) => {
                self.set_paused(&topic, true).await;
                done
            }
            Call::Resume(topic, done) => {
                self.set_paused(&topic, false).await;
                done
            }
            Call::Lend(client) => {
                self.client.get_or_insert(client);
                return;
            }
            // Told by whoever calls this.
            Call::Configure(.., done) | Call::Stop(done) => done,
        };
        let _ = done.send(()); // the caller may have gone
    }

    async fn add(&mut self, spec: MirrorSpec) {
        let MirrorSpec { topic, source_topic, source_topic_id, partitions, start, started, paused } = spec;
        self.remove(std::slice::from_ref(&topic.name)).await;
        let name = topic.name.clone();
        let mirror = Mirror {
            spec: Arc::new(topic),
            source_topic_id: source_topic_id.unwrap_or_default(),
            start,
            partitions: 0,
            paused,
            started,
            not_started: BTreeSet::new(),
            failure: None,
            unavailable: None,
        };
        self.board.add(name.clone(), source_topic.clone(), mirror.state());
        self.names.insert(name, source_topic.clone());
        self.mirrors.insert(source_topic.clone(), mirror);
        self.topics.add(source_topic.clone(), source_topic_id, partitions);
        self.grow(&source_topic, partitions);
    }

    /// Makes machines for the partitions up to `to`; they are parked until a leader is known.
    pub(super) fn grow(&mut self, source_topic: &Arc<str>, to: i32) {
        let Some(mirror) = self.mirrors.get_mut(source_topic) else { return };
        for index in mirror.partitions..to {
            mirror.not_started.insert(index);
            let held = mirror.hold(TopicPartition::new(source_topic.clone(), index), &self.config, &self.board);
            self.parked.insert(held.id.clone(), held);
        }
        mirror.partitions = mirror.partitions.max(to);
        self.board.set_state(&mirror.spec.name, mirror.state());
    }

    async fn remove(&mut self, topics: &[Arc<str>]) {
        let mut gone = BTreeSet::new();
        for topic in topics {
            let Some(source_topic) = self.names.remove(topic) else { continue };
            self.mirrors.remove(&source_topic);
            self.topics.remove(&source_topic);
            self.board.remove(topic);
            gone.insert(source_topic);
        }
        if gone.is_empty() {
            return;
        }
        self.parked.retain(|id, _| !gone.contains(&id.topic));
        self.leaders.retain(|id, _| !gone.contains(&id.topic));
        self.placed.retain(|id, _| !gone.contains(&id.topic));
        let gone = Arc::new(gone);
        self.tell_all(|| Command::Remove(gone.clone())).await;
        // A fetcher takes commands in order and between writes: once it has taken this one, nothing is written.
        for fetcher in self.fetchers.values() {
            let _ = fetcher.commands.reserve_many(COMMANDS_MAX).await; // it has taken all of them, or has ended
        }
    }

    async fn set_paused(&mut self, topic: &str, paused: bool) {
        let Some(source_topic) = self.names.get(topic).cloned() else { return };
        let Some(mirror) = self.mirrors.get_mut(&source_topic) else { return };
        mirror.paused = paused;
        self.board.set_state(topic, mirror.state());
        for (_, held) in self.parked.iter_mut().filter(|(id, _)| id.topic == source_topic) {
            held.machine.on(if paused { Event::Pause } else { Event::Resume }, now());
            held.side.place.changed(&held.machine);
        }
        self.tell_all(|| {
            let topic = source_topic.clone();
            if paused { Command::Pause(topic) } else { Command::Resume(topic) }
        })
        .await;
    }

    pub(super) async fn tell_all(&mut self, command: impl Fn() -> Command<S::Partition>) {
        for fetcher in self.fetchers.values() {
            let _ = fetcher.commands.send(command()).await; // one that has ended is replaced by `fetcher_ended`
        }
    }

    async fn hear(&mut self, notice: Notice<S::Partition>) {
        match notice {
            Notice::Stale(topic) => self.topics.mark_stale(&topic),
            Notice::Returned(mut held) => {
                if self.mirrors.contains_key(&held.id.topic) && self.placed.remove(&held.id).is_some() {
                    held.side.place.follow(None);
                    // Its fetcher was told of a later leader when it had let go of it.
                    if let Some(leader) = self.leaders.get(&held.id) {
                        held.machine.on(Event::Leader(*leader), now());
                    }
                    self.route(held).await;
                }
            }
            Notice::Report(id, report) => self.report(&id, report).await,
        }
    }

    async fn report(&mut self, id: &TopicPartition, report: Report) {
        let Some(mirror) = self.mirrors.get_mut(&id.topic) else { return };
        let (topic, partition) = (mirror.spec.name.clone(), id.partition);
        let event = match report {
            Report::Started { .. } => {
                let is_news = mirror.not_started.remove(&partition);
                match mirror.start {
                    _ if !is_news => None,
                    _ if mirror.not_started.is_empty() => Some(MirrorEvent::Started { topic: topic.clone() }),
                    Start::Earliest => None,
                    _ if mirror.started.contains(&partition) => None,
                    Start::Latest | Start::Timestamp(_) => {
                        Some(MirrorEvent::PartitionStarted { topic: topic.clone(), partition })
                    }
                }
            }
            Report::Gap { from, to } => Some(MirrorEvent::Gap { topic: topic.clone(), partition, from, to }),
            Report::Truncated { from, to } => {
                Some(MirrorEvent::Truncated { topic: topic.clone(), partition, from, to })
            }
            Report::Trouble(trouble) => Some(MirrorEvent::Trouble { topic: topic.clone(), partition, trouble }),
            Report::Recovered => Some(MirrorEvent::Recovered { topic: topic.clone(), partition }),
            Report::Failed(failure) if mirror.failure.as_ref() == Some(&failure) => None, // told for the whole topic
            Report::Failed(failure) => {
                mirror.failure.get_or_insert_with(|| failure.clone());
                Some(MirrorEvent::Failed { topic: topic.clone(), partition: Some(partition), failure })
            }
        };
        self.board.set_state(&topic, mirror.state());
        self.tell_daemon(event).await;
    }

    pub(super) async fn tell_daemon(&mut self, event: Option<MirrorEvent>) {
        if let Some(event) = event {
            let _ = self.events.send(event).await; // nobody wants to know: go on
        }
    }
}

async fn wait<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
