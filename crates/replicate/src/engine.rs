//! The shell of a link's replication: one coordinator task that keeps metadata and decides which fetcher has which
//! partition, and one task for each fetcher of each source broker.
//!
//! ```text
//!   daemon ── Replicator (handle) ──► coordinator ── Command ──► fetcher (node 1)
//!          ◄── MirrorEvent ─────────      │       ◄── Notice ─── fetcher (node 2) …
//!                                      metadata, from any broker
//! ```
//!
//! A partition is held by the coordinator (no leader known) or by exactly one fetcher, with its copy. When its leader
//! moves, its fetcher hands it back and the coordinator passes it on; a copy never has two writers.

use crate::config::{MirrorSpec, ReplicateConfig};
use crate::fetcher::{Command, Fetcher, Held, Notice, Side, now};
use crate::partition::{Event, Leader, Partition, Report, Start};
use crate::reason::{Failure, Trouble};
use crate::status::{Beat, Board, LinkCounters, LinkStatus, METRICS_INTERVAL, TopicState, Unreachable};
use crate::throttle::Throttle;
use crate::topics::{Change, Topics};
use hawser_store::{Store, TopicSpec};
use hawser_transport::{Connector, KafkaClient, RESTART_AFTER_MAX, Target, caught, restart_after};
use hawser_wire::messages::metadata_request::MetadataRequestTopic;
use hawser_wire::messages::{MetadataRequest, MetadataResponse, TopicName};
use hawser_wire::{NodeId, Offset, StrBytes, TopicPartition, Uuid};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{error, warn};

/// Calls of the handle that may wait: they are rare, and the caller waits anyway.
const CALLS_MAX: usize = 64;
/// Commands that may wait at one fetcher. The coordinator waits when it is full; the fetcher never waits for it in turn.
const COMMANDS_MAX: usize = 1_024;
/// Notices that may wait at the coordinator; a fetcher keeps the rest to itself.
const NOTICES_MAX: usize = 1_024;
/// Events that may wait for the daemon. When it does not take them the coordinator waits, while data goes on flowing.
const EVENTS_MAX: usize = 1_024;
/// Highest Metadata version used.
const METADATA_VERSION_MAX: i16 = 12;

/// What the daemon should persist or show. Topics are named as they are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorEvent {
    /// The source's id of the topic (nil if it has none): keep it, so that another topic of that name is refused.
    Pinned {
        /// The mirror.
        topic: Arc<str>,
        /// The source's topic id.
        source_topic_id: Uuid,
    },
    /// The source has more partitions; their copies are being opened.
    PartitionsGrew {
        /// The mirror.
        topic: Arc<str>,
        /// Before.
        from: i32,
        /// Now.
        to: i32,
    },
    /// The beginning of every partition is stored: from now on the mirror's start offset spec is history.
    Started {
        /// The mirror.
        topic: Arc<str>,
    },
    /// The beginning of one partition is stored, or it is newer than the mirror: keep that until
    /// [`MirrorEvent::Started`], and pass it in [`MirrorSpec::started`]. An empty copy does not tell by itself that it
    /// began at 0, and would look for its start offset anew, behind what came meanwhile. Only for mirrors that do not
    /// begin at the earliest offset.
    PartitionStarted {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
    },
    /// The topic does not answer at the source; it is retried.
    Unavailable {
        /// The mirror.
        topic: Arc<str>,
        /// What was seen.
        detail: String,
    },
    /// It answers again.
    Available {
        /// The mirror.
        topic: Arc<str>,
    },
    /// Records were trimmed at the source before they were mirrored; the copy goes on behind the gap.
    Gap {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// First offset that is missing.
        from: Offset,
        /// First offset that is not.
        to: Offset,
    },
    /// The source replaced its tail, and the copy was cut likewise.
    Truncated {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The copy's end before.
        from: Offset,
        /// The copy's end after.
        to: Offset,
    },
    /// A partition met a trouble; it is retried.
    Trouble {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// What.
        trouble: Trouble,
    },
    /// The trouble is over.
    Recovered {
        /// The mirror.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
    },
    /// A dead end: of the topic, or of one partition of it.
    Failed {
        /// The mirror.
        topic: Arc<str>,
        /// The partition, `None` for all.
        partition: Option<i32>,
        /// Why.
        failure: Failure,
    },
}

/// The replication of one link. Cheap to clone; [`Replicator::stop`] ends it, as does dropping the last clone.
#[derive(Clone)]
pub struct Replicator {
    calls: mpsc::Sender<Call>,
    board: Arc<Board>,
    throttle: Arc<Throttle>,
}

/// The link's replication has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("replication of this link has stopped")]
pub struct Stopped;

enum Call {
    Add(Box<MirrorSpec>, oneshot::Sender<()>),
    Remove(Vec<Arc<str>>, oneshot::Sender<()>),
    Pause(Arc<str>, oneshot::Sender<()>),
    Resume(Arc<str>, oneshot::Sender<()>),
    Lend(KafkaClient),
    Stop(oneshot::Sender<()>),
}

impl Replicator {
    /// Starts the coordinator on the current runtime. The daemon must take the events.
    pub fn spawn<S: Store>(
        config: ReplicateConfig,
        store: Arc<S>,
        connector: Arc<dyn Connector>,
    ) -> (Self, mpsc::Receiver<MirrorEvent>) {
        let (calls, incoming) = mpsc::channel(CALLS_MAX);
        let (events, taken) = mpsc::channel(EVENTS_MAX);
        let (notices, heard) = mpsc::channel(NOTICES_MAX);
        let board = Arc::new(Board::new());
        let throttle = Arc::new(Throttle::new(config.bytes_per_second, now()));
        let counters = LinkCounters::new(&config.link);
        let coordinator = Coordinator {
            topics: Topics::new(config.patience.retry_timeout),
            board: board.clone(),
            throttle: throttle.clone(),
            counters,
            store,
            connector,
            events,
            notices,
            mirrors: BTreeMap::new(),
            names: HashMap::new(),
            parked: HashMap::new(),
            placed: HashMap::new(),
            leaders: HashMap::new(),
            fetchers: HashMap::new(),
            tasks: JoinSet::new(),
            client: None,
            ask_after: now(),
            refresh_at: now() + config.metadata_age_max,
            failures: 0,
            config: Arc::new(config),
        };
        tokio::spawn(coordinator.supervise(incoming, heard));
        (Self { calls, board, throttle }, taken)
    }

    /// Mirrors one more topic. Returns when it is taken over; its state is then on the board.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn add_mirror(&self, spec: MirrorSpec) -> Result<(), Stopped> {
        self.call(|done| Call::Add(Box::new(spec), done)).await
    }

    /// Gives a connection to any broker of the source to ask for metadata on. Spares the first mirror one of its own; one
    /// that is not needed is closed.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn lend(&self, client: KafkaClient) -> Result<(), Stopped> {
        self.calls.send(Call::Lend(client)).await.map_err(|_| Stopped)
    }

    /// Stops mirroring `topics` (their names here). When this returns nothing writes to their copies any more. Costs one turn
    /// of every fetcher, however many they are.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn remove<T: AsRef<str>>(&self, topics: &[T]) -> Result<(), Stopped> {
        let topics = topics.iter().map(|topic| topic.as_ref().into()).collect();
        self.call(|done| Call::Remove(topics, done)).await
    }

    /// Stops fetching `topic` until [`Replicator::resume`]. What has arrived is still written.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn pause(&self, topic: &str) -> Result<(), Stopped> {
        self.call(|done| Call::Pause(topic.into(), done)).await
    }

    /// Goes on with `topic`.
    ///
    /// # Errors
    /// When the replication has stopped.
    pub async fn resume(&self, topic: &str) -> Result<(), Stopped> {
        self.call(|done| Call::Resume(topic.into(), done)).await
    }

    /// Changes the rate limit of the link; `None` lifts it.
    pub fn set_throttle(&self, bytes_per_second: Option<u64>) {
        self.throttle.set(bytes_per_second);
    }

    /// How everything stands. Proportional to the number of partitions.
    pub fn status(&self) -> LinkStatus {
        self.board.snapshot()
    }

    /// Why the source gives no metadata, if it gives none. Costs nothing beside [`Replicator::status`].
    pub fn unreachable(&self) -> Option<Unreachable> {
        self.board.unreachable()
    }

    /// Ends all fetchers between two writes and waits for them. Nothing is flushed: that is the store's own.
    pub async fn stop(&self) {
        let _ = self.call(Call::Stop).await; // stopped already is as good
    }

    async fn call(&self, call: impl FnOnce(oneshot::Sender<()>) -> Call) -> Result<(), Stopped> {
        let (done, answer) = oneshot::channel();
        self.calls.send(call(done)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Who waits for the end, if anybody does.
type Stop = Option<oneshot::Sender<()>>;
/// A fetcher's place: its broker, and which of the fetchers to it.
type Place = (NodeId, usize);
type MetadataAnswer = (Vec<Arc<str>>, Result<(KafkaClient, MetadataResponse), Unreachable>);

struct Coordinator<S: Store> {
    config: Arc<ReplicateConfig>,
    store: Arc<S>,
    connector: Arc<dyn Connector>,
    throttle: Arc<Throttle>,
    counters: LinkCounters,
    board: Arc<Board>,
    events: mpsc::Sender<MirrorEvent>,
    notices: mpsc::Sender<Notice<S::Partition>>,
    topics: Topics,
    /// By name at the source.
    mirrors: BTreeMap<Arc<str>, Mirror>,
    /// Name here to name at the source.
    names: HashMap<Arc<str>, Arc<str>>,
    parked: HashMap<TopicPartition, Box<Held<S::Partition>>>,
    placed: HashMap<TopicPartition, Place>,
    leaders: HashMap<TopicPartition, Leader>,
    fetchers: HashMap<Place, FetcherHandle<S::Partition>>,
    tasks: JoinSet<Place>,
    client: Option<KafkaClient>,
    ask_after: Instant,
    refresh_at: Instant,
    failures: u32,
}

struct FetcherHandle<P> {
    commands: mpsc::Sender<Command<P>>,
    beat: Beat,
    task: tokio::task::Id,
}

struct Mirror {
    spec: Arc<TopicSpec>,
    source_topic_id: Uuid,
    start: Start,
    partitions: i32,
    paused: bool,
    /// For whom `start` is history: known from an earlier life, or newer than the mirror.
    started: BTreeSet<i32>,
    not_started: BTreeSet<i32>,
    failure: Option<Failure>,
    unavailable: Option<String>,
}

impl Mirror {
    /// Where an empty copy of `partition` begins. One that has started is one that began at 0.
    fn start_of(&self, partition: i32) -> Start {
        let is_new = self.not_started.contains(&partition) && !self.started.contains(&partition);
        if is_new { self.start } else { Start::Earliest }
    }

    /// What would make a mirror that stands as this one does.
    fn into_spec(self, source_topic: Arc<str>) -> MirrorSpec {
        let mut started = self.started;
        started.extend((0..self.partitions).filter(|partition| !self.not_started.contains(partition)));
        MirrorSpec {
            topic: Arc::unwrap_or_clone(self.spec),
            source_topic,
            source_topic_id: Some(self.source_topic_id).filter(|id| !id.is_nil()),
            partitions: self.partitions,
            start: self.start,
            started,
            paused: self.paused,
        }
    }

    fn state(&self) -> TopicState {
        match (&self.failure, &self.unavailable, self.paused) {
            (Some(failure), _, _) => TopicState::Failed(failure.clone()),
            (None, _, true) => TopicState::Paused,
            (None, Some(detail), false) => TopicState::SourceUnavailable(detail.clone()),
            (None, None, false) if self.partitions == 0 || !self.not_started.is_empty() => TopicState::Starting,
            (None, None, false) => TopicState::Active,
        }
    }
}

impl<S: Store> Coordinator<S> {
    /// Runs until it is stopped. A panic costs what is in memory only: it is shown, and everything starts over from what
    /// the mirrors are, as after a restart of the daemon.
    async fn supervise(mut self, mut calls: mpsc::Receiver<Call>, mut heard: mpsc::Receiver<Notice<S::Partition>>) {
        let (mut rest_until, mut panics) = (now(), 0);
        let stopped = loop {
            let begun = rest_until;
            let run = async {
                match self.rest(&mut calls, rest_until).await {
                    Some(stop) => stop,
                    None => self.run(&mut calls, &mut heard).await,
                }
            };
            match caught(run).await {
                Ok(stopped) => break stopped,
                Err(panic) => {
                    error!(link = %self.config.link, %panic, "replication of the link failed; it starts over");
                    self.board.set_unreachable(Some(panic.into()));
                }
            }
            panics = if now().saturating_duration_since(begun) > RESTART_AFTER_MAX { 0 } else { panics };
            rest_until = now() + restart_after(panics);
            panics = panics.saturating_add(1);
            self.start_over(&mut heard).await;
        };
        self.end_fetchers(&mut heard).await;
        if let Some(done) = stopped {
            let _ = done.send(()); // the caller may have gone
        }
    }

    /// Obeys calls only. `Some` when told to stop.
    async fn rest(&mut self, calls: &mut mpsc::Receiver<Call>, until: Instant) -> Option<Stop> {
        while now() < until {
            tokio::select! {
                call = calls.recv() => match call {
                    Some(Call::Stop(done)) => return Some(Some(done)),
                    Some(call) => self.obey(call).await,
                    None => return Some(None),
                },
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
        None
    }

    /// Forgets everything but the mirrors. Copies are closed between two writes and opened anew.
    async fn start_over(&mut self, heard: &mut mpsc::Receiver<Notice<S::Partition>>) {
        self.end_fetchers(heard).await;
        (self.notices, *heard) = mpsc::channel(NOTICES_MAX);
        self.topics = Topics::new(self.config.patience.retry_timeout);
        self.names.clear();
        self.parked.clear();
        self.placed.clear();
        self.leaders.clear();
        self.client = None;
        for (source_topic, mirror) in std::mem::take(&mut self.mirrors) {
            self.board.remove(&mirror.spec.name);
            self.add(mirror.into_spec(source_topic)).await;
        }
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
        let mut metrics = tokio::time::interval(METRICS_INTERVAL);
        metrics.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if metadata.is_none() {
                metadata = self.ask_metadata();
            }
            let wake_at = if self.topics.has_stale() { self.ask_after } else { self.refresh_at };
            let asking = metadata.is_some();
            tokio::select! {
                call = calls.recv() => match call {
                    Some(Call::Stop(done)) => return Some(done),
                    Some(call) => self.obey(call).await,
                    None => return None,
                },
                Some(notice) = heard.recv() => self.hear(notice).await,
                answer = wait(&mut metadata), if asking => {
                    metadata = None;
                    self.metadata_answered(answer).await;
                }
                Some(ended) = self.tasks.join_next() => self.fetcher_ended(ended).await,
                _ = metrics.tick() => self.board.publish(),
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
            Call::Stop(done) => done,
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
    fn grow(&mut self, source_topic: &Arc<str>, to: i32) {
        let Some(mirror) = self.mirrors.get_mut(source_topic) else { return };
        for index in mirror.partitions..to {
            mirror.not_started.insert(index);
            let id = TopicPartition::new(source_topic.clone(), index);
            let mut machine = Partition::new(mirror.start_of(index), self.config.patience);
            if mirror.paused {
                machine.on(Event::Pause, now());
            }
            let side = Side {
                topic_id: mirror.source_topic_id,
                spec: mirror.spec.clone(),
                place: self.board.place(&self.config.link, &mirror.spec.name, index),
                copy: None,
            };
            self.parked.insert(id.clone(), Box::new(Held { id, machine, side }));
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

    async fn tell_all(&mut self, command: impl Fn() -> Command<S::Partition>) {
        for fetcher in self.fetchers.values() {
            let _ = fetcher.commands.send(command()).await; // one that has ended is replaced by `fetcher_ended`
        }
    }

    async fn hear(&mut self, notice: Notice<S::Partition>) {
        match notice {
            Notice::Stale(topic) => self.topics.mark_stale(&topic),
            Notice::Returned(held) => {
                if self.mirrors.contains_key(&held.id.topic) && self.placed.remove(&held.id).is_some() {
                    held.side.place.follow(None);
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

    async fn tell_daemon(&mut self, event: Option<MirrorEvent>) {
        if let Some(event) = event {
            let _ = self.events.send(event).await; // nobody wants to know: go on
        }
    }

    fn ask_metadata(&mut self) -> Option<Pin<Box<dyn Future<Output = MetadataAnswer> + Send>>> {
        if !self.topics.has_stale() || now() < self.ask_after {
            return None;
        }
        let asked = self.topics.to_ask();
        let names = asked.iter().map(|name| {
            let name = TopicName(StrBytes::from_string(name.to_string()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        let request =
            MetadataRequest::default().with_topics(Some(names.collect())).with_allow_auto_topic_creation(false);
        let (client, connector) = (self.client.take(), self.connector.clone());
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

    async fn metadata_answered(&mut self, (asked, answer): MetadataAnswer) {
        let patience = self.config.patience;
        let changes = match answer {
            Ok((client, answer)) => {
                self.client = Some(client);
                self.failures = 0;
                self.board.set_unreachable(None);
                self.topics.on(&asked, &answer, now())
            }
            Err(error) => {
                if self.failures == 0 {
                    warn!(link = %self.config.link, %error, "no metadata from the source");
                }
                self.failures = self.failures.saturating_add(1);
                self.board.set_unreachable(Some(error));
                Vec::new()
            }
        };
        let backoff = patience.retry_backoff.saturating_mul(1 << self.failures.min(10));
        self.ask_after = now() + backoff.min(patience.fetch_backoff.max(patience.retry_backoff));
        for change in changes {
            self.change(change).await;
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

    /// Gives a partition to a fetcher of its leader.
    async fn route(&mut self, held: Box<Held<S::Partition>>) {
        let Some(leader) = held.machine.leader() else {
            self.parked.insert(held.id.clone(), held);
            return;
        };
        let mut hasher = DefaultHasher::new();
        held.id.hash(&mut hasher);
        let which = usize::try_from(hasher.finish() % self.config.fetchers as u64).unwrap_or_default();
        let place = (leader.node, which);
        let fetcher = self.fetcher(place);
        held.side.place.follow(Some(fetcher.beat.clone()));
        let commands = fetcher.commands.clone();
        self.placed.insert(held.id.clone(), place);
        let _ = commands.send(Command::Assign(held)).await; // ended: `fetcher_ended` makes the partition anew
    }

    fn fetcher(&mut self, place: Place) -> &FetcherHandle<S::Partition> {
        let Self { fetchers, tasks, store, connector, config, throttle, counters, notices, .. } = self;
        fetchers.entry(place).or_insert_with(|| {
            let (commands, taken) = mpsc::channel(COMMANDS_MAX);
            let beat = Beat::default();
            let fetcher = Fetcher::new(
                place.0,
                store.clone(),
                connector.clone(),
                config.clone(),
                throttle.clone(),
                counters.clone(),
                beat.clone(),
                taken,
                notices.clone(),
            );
            let task = tasks.spawn(async move {
                fetcher.run().await;
                place
            });
            FetcherHandle { commands, beat, task: task.id() }
        })
    }

    /// A fetcher only ends by itself when it panicked: its partitions are opened anew, which fences what it held.
    async fn fetcher_ended(&mut self, ended: Result<Place, tokio::task::JoinError>) {
        let place = match ended {
            Ok(place) => place,
            Err(error) => {
                error!(link = %self.config.link, %error, "a fetcher panicked; its partitions start over");
                let Some((&place, _)) = self.fetchers.iter().find(|(_, f)| f.task == error.id()) else { return };
                place
            }
        };
        self.fetchers.remove(&place);
        let lost: Vec<_> = self.placed.iter().filter(|(_, at)| **at == place).map(|(id, _)| id.clone()).collect();
        for id in lost {
            self.placed.remove(&id);
            let Some(mirror) = self.mirrors.get(&id.topic) else { continue };
            let mut machine = Partition::new(mirror.start_of(id.partition), self.config.patience);
            if mirror.paused {
                machine.on(Event::Pause, now());
            }
            if let Some(leader) = self.leaders.get(&id) {
                machine.on(Event::Leader(*leader), now());
            }
            let side = Side {
                topic_id: mirror.source_topic_id,
                spec: mirror.spec.clone(),
                place: self.board.place(&self.config.link, &mirror.spec.name, id.partition),
                copy: None,
            };
            self.route(Box::new(Held { id, machine, side })).await;
        }
    }
}

async fn wait<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
