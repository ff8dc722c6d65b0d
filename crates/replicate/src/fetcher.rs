//! One fetcher task: the I/O of a [`Broker`]. It owns one connection to one source broker (and a second one for
//! questions once a long poll would hold them up), and the copies of the partitions that it fetches.
//!
//! The next Fetch is sent before the answer to the last one is written, so the line never waits for the disk; a third
//! answer is not asked for, so at most two are in memory: one being written, one on its way. A write keeps its thread, so
//! before a long one the tasks behind this one have their turn: the connection's task above all, which sends that Fetch.
//!
//! Cancel-safety: the task ends when its command channel closes, between two writes; a write is never cut short.

use crate::broker::{Ask, Broker, FetchBounds};
use crate::config::ReplicateConfig;
use crate::outbox::Outbox;
use crate::partition::{Event, Leader, Partition, Report};
use crate::reason::Failure;
use crate::size::Sizer;
use crate::status::{Beat, LinkCounters, PartitionBoard, now_ms};
use crate::throttle::Throttle;
use crate::write::Write;
use hawser_store::{MirrorPartition, Store, TopicSpec};
use hawser_transport::{ClientError, Connector, KafkaClient, LeaseError, Target};
use hawser_wire::messages::{
    ApiKey, ApiVersionsRequest, FetchResponse, ListOffsetsResponse, OffsetForLeaderEpochResponse,
};
use hawser_wire::{NodeId, StrBytes, TopicPartition, Uuid};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// Highest Fetch version used; 18 concerns followers only.
const FETCH_VERSION_MAX: i16 = 17;
/// Highest version of the questions; what they need is older than these.
const LIST_OFFSETS_VERSION_MAX: i16 = 8;
const EPOCH_VERSION_MAX: i16 = 4;
const API_VERSIONS_VERSION_MAX: i16 = 3;
/// Copies opened before other work has its turn.
const OPENS_A_TURN: usize = 64;
/// Bytes written before other tasks of this thread have their turn: a quarter of a millisecond, ten times what it takes to
/// give way.
const WRITTEN_A_TURN: usize = 256 * 1024;

/// A partition as it is handed from one fetcher to another, by way of the coordinator.
pub(crate) struct Held<P> {
    pub(crate) id: TopicPartition,
    pub(crate) machine: Partition,
    pub(crate) side: Side<P>,
}

/// What a fetcher keeps beside a machine.
pub(crate) struct Side<P> {
    pub(crate) topic_id: Uuid,
    pub(crate) spec: Arc<TopicSpec>,
    pub(crate) place: Arc<PartitionBoard>,
    pub(crate) copy: Option<P>,
}

/// What the coordinator wants of a fetcher. Topics are named as at the source.
pub(crate) enum Command<P> {
    Assign(Box<Held<P>>),
    Leader(TopicPartition, Leader),
    Pause(Arc<str>),
    Resume(Arc<str>),
    Fail(Arc<str>, Failure),
    Remove(Arc<BTreeSet<Arc<str>>>),
}

/// What a fetcher tells the coordinator.
pub(crate) enum Notice<P> {
    Returned(Box<Held<P>>),
    Stale(Arc<str>),
    Report(TopicPartition, Report),
}

pub(crate) struct Fetcher<S: Store> {
    pub(crate) store: Arc<S>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) config: Arc<ReplicateConfig>,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) counters: LinkCounters,
    pub(crate) beat: Beat,
    pub(crate) commands: mpsc::Receiver<Command<S::Partition>>,
    pub(crate) notices: mpsc::Sender<Notice<S::Partition>>,
    core: Core<S::Partition>,
    outbox: Outbox<S::Partition>,
    to_open: VecDeque<TopicPartition>,
    line: Line,
    /// Times that the line went down since a Fetch was last answered: a broker may take connections and fail each Fetch.
    failures: u32,
    /// A second connection, made when a question would have to wait behind a fetch, and let go with the first.
    asker: Option<KafkaClient>,
    ask_after: Instant,
    fetch_after: Instant,
    fetch_sent: Instant,
    sizer: Sizer,
}

/// Machines and copies, apart from the rest so that both can be borrowed at once.
struct Core<P> {
    broker: Broker,
    sides: HashMap<TopicPartition, Side<P>>,
}

enum Line {
    Down { retry_at: Instant },
    Dialling,
    Up(KafkaClient),
}

/// Why a connection could not be used.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the source broker does not offer Fetch")]
    NoFetch,
}

type Slot<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;
type FetchAnswer = Result<(i16, FetchResponse), ClientError>;
type Dialled = Result<(KafkaClient, i16, Duration), LineError>;
type Asked = (Ask, Way, Result<(KafkaClient, Told), LineError>);

/// Which connection carries a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// That of the fetches, while there are none: the beginning of the first mirror needs no second one.
    Line,
    /// One of its own, so as not to wait behind a long poll.
    Asker,
}

enum Told {
    Offsets(ListOffsetsResponse),
    Epochs(OffsetForLeaderEpochResponse),
}

impl<S: Store> Fetcher<S> {
    #[allow(clippy::too_many_arguments)] // one caller, which has just these
    pub(crate) fn new(
        node: NodeId,
        store: Arc<S>,
        connector: Arc<dyn Connector>,
        config: Arc<ReplicateConfig>,
        throttle: Arc<Throttle>,
        counters: LinkCounters,
        beat: Beat,
        commands: mpsc::Receiver<Command<S::Partition>>,
        notices: mpsc::Sender<Notice<S::Partition>>,
    ) -> Self {
        let now = now();
        let response_bytes_max = usize::try_from(config.bounds.response_bytes_max).unwrap_or_default();
        let sizer = Sizer::new(response_bytes_max, config.fetchers);
        Self {
            core: Core { broker: Broker::new(node, config.bounds, store.losses()), sides: HashMap::new() },
            store,
            connector,
            config,
            throttle,
            counters,
            beat,
            commands,
            notices,
            outbox: Outbox::default(),
            to_open: VecDeque::new(),
            line: Line::Down { retry_at: now },
            failures: 0,
            asker: None,
            ask_after: now,
            fetch_after: now,
            fetch_sent: now,
            sizer,
        }
    }

    /// Runs until the command channel closes.
    pub(crate) async fn run(mut self) {
        let mut dial: Slot<Dialled> = None;
        let mut fetch: Slot<FetchAnswer> = None;
        let mut ask: Slot<Asked> = None;
        let mut answered: Option<FetchAnswer> = None;
        let notices = self.notices.clone();
        loop {
            self.housekeep().await;
            self.start_dial(&mut dial);
            if answered.is_none() {
                self.start_fetch(&mut fetch);
            }
            self.start_ask(&mut ask, fetch.is_none());
            let deadline = self.deadline(fetch.is_none(), ask.is_none());
            tokio::select! {
                biased; // the write last: while the next answer is always there before it ends, all else has its turn
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                dialled = fill(&mut dial) => self.dialled(dialled),
                asked = fill(&mut ask) => {
                    let writes = self.asked(asked);
                    self.write(writes).await;
                    self.overtake(&mut fetch);
                }
                permit = notices.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(notice) = self.outbox.pop() {
                            permit.send(notice);
                        }
                    }
                    Err(_) => return, // nobody listens any more
                },
                () = sleep_until(deadline) => self.core.broker.tick(now()),
                answer = fill(&mut fetch), if answered.is_none() => answered = Some(answer),
                () = std::future::ready(()), if answered.is_some() || !self.to_open.is_empty() => {
                    if let Some(answer) = answered.take() {
                        answered = self.fetched(answer, &mut fetch).await;
                    }
                }
            }
        }
    }

    /// Writes what an answer brought. Returns the next one, if it comes meanwhile.
    async fn fetched(&mut self, answer: FetchAnswer, fetch: &mut Slot<FetchAnswer>) -> Option<FetchAnswer> {
        let writes = self.fetch_answered(answer);
        self.start_fetch(fetch); // before the writes: see the head of this file
        let mut next = None;
        let writing = self.write(writes);
        tokio::pin!(writing);
        loop {
            tokio::select! {
                biased;
                answer = fill(fetch), if next.is_none() => next = Some(answer),
                () = &mut writing => return next,
            }
        }
    }

    fn obey(&mut self, command: Command<S::Partition>) {
        let Core { broker, sides } = &mut self.core;
        match command {
            Command::Assign(held) => {
                let Held { id, machine, side } = *held;
                side.place.follow(Some(self.beat.clone()));
                let (topic_id, position) = (side.topic_id, side.copy.as_ref().map(MirrorPartition::position));
                sides.insert(id.clone(), side);
                broker.assign(id.clone(), topic_id, machine, position, now());
                self.core.show(&id);
            }
            Command::Leader(id, leader) => self.feed(&id, Event::Leader(leader)),
            Command::Pause(topic) => self.feed_topic(&topic, || Event::Pause),
            Command::Resume(topic) => self.feed_topic(&topic, || Event::Resume),
            Command::Fail(topic, failure) => self.feed_topic(&topic, || Event::Fail(failure.clone())),
            Command::Remove(topics) => {
                sides.retain(|id, _| {
                    let stays = !topics.contains(&id.topic);
                    if !stays {
                        broker.release(id);
                    }
                    stays
                });
            }
        }
    }

    fn feed_topic(&mut self, topic: &str, event: impl Fn() -> Event) {
        let ids: Vec<_> = self.core.sides.keys().filter(|id| &*id.topic == topic).cloned().collect();
        for id in ids {
            self.feed(&id, event());
        }
    }

    /// Feeds an event that never orders a write.
    fn feed(&mut self, id: &TopicPartition, event: Event) {
        let write = self.core.broker.on(id, event, now());
        debug_assert!(write.is_none(), "only answers order writes");
        if let (Some(side), Some(machine)) = (self.core.sides.get(id), self.core.broker.partition(id)) {
            side.place.changed(machine);
        }
    }

    /// Opens copies, hands over partitions that are led elsewhere, passes on what is to be told.
    async fn housekeep(&mut self) {
        self.look_for_losses();
        self.to_open.extend(self.core.broker.take_opens());
        for _ in 0..OPENS_A_TURN {
            let Some(id) = self.to_open.pop_front() else { break };
            let Some(side) = self.core.sides.get_mut(&id) else { continue };
            let event = match self.store.open(&side.spec, id.partition).await {
                Ok(copy) => {
                    let position = copy.position();
                    side.copy = Some(copy);
                    Event::Opened(position)
                }
                Err(error) => Event::OpenFailed(error),
            };
            self.feed(&id, event);
            self.core.show(&id);
        }
        for id in self.core.broker.take_leaving() {
            if let (Some(machine), Some(side)) = (self.core.broker.release(&id), self.core.sides.remove(&id)) {
                self.outbox.give_back(Box::new(Held { id, machine, side }));
            }
        }
        self.outbox.ask_for(self.core.broker.take_stale());
        for (id, report) in self.core.broker.take_reports() {
            log(&self.config.link, &id, &report);
            self.counters.count(&report);
            if let (Some(side), Some(machine)) = (self.core.sides.get(&id), self.core.broker.partition(&id)) {
                side.place.changed(machine);
            }
            self.outbox.report(id, report);
        }
        if self.core.sides.is_empty() {
            self.asker = None;
            if matches!(self.line, Line::Up(_)) {
                self.line = Line::Down { retry_at: now() };
            }
        }
    }

    /// No write is under way here.
    fn look_for_losses(&mut self) {
        let Core { broker, sides } = &mut self.core;
        let position = |id: &TopicPartition| Some(sides.get(id)?.copy.as_ref()?.position());
        for id in broker.look_for_losses(self.store.losses(), &position, now()) {
            self.core.show(&id);
        }
    }

    fn start_dial(&mut self, slot: &mut Slot<Dialled>) {
        let Line::Down { retry_at } = self.line else { return };
        if self.core.sides.is_empty() || now() < retry_at {
            return;
        }
        self.line = Line::Dialling;
        let (connector, node) = (self.connector.clone(), self.core.broker.node());
        *slot = Some(Box::pin(async move {
            let client = connector.lease(Target::Node(node)).await?;
            let (_, fetch_version) = client.versions(ApiKey::Fetch as i16).ok_or(LineError::NoFetch)?;
            let name = StrBytes::from_static_str("hawser");
            let hello = ApiVersionsRequest::default()
                .with_client_software_name(name)
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
            let sent = now();
            client.call(&hello, API_VERSIONS_VERSION_MAX, Duration::ZERO).await?;
            Ok((client, fetch_version.min(FETCH_VERSION_MAX), now() - sent))
        }));
    }

    fn dialled(&mut self, dialled: Dialled) {
        match dialled {
            Ok((client, fetch_version, round_trip)) => {
                debug!(link = %self.config.link, node = %self.core.broker.node(), fetch_version, ?round_trip, "connected");
                self.sizer.saw_round_trip(round_trip);
                self.beat.regain();
                self.core.broker.connected(fetch_version);
                self.line = Line::Up(client);
            }
            Err(error) => self.line_down(&error),
        }
    }

    /// The broker cannot be reached: perhaps its partitions are led by others by now.
    fn line_down(&mut self, error: &dyn std::fmt::Display) {
        let (link, node) = (&self.config.link, self.core.broker.node());
        if self.failures == 0 {
            warn!(%link, %node, %error, "source broker is not reachable");
        }
        self.line = Line::Down { retry_at: now() + self.config.reconnect_after(self.failures) };
        self.failures = self.failures.saturating_add(1);
        self.beat.lose(error);
        self.asker = None;
        self.core.broker.fetch_failed();
        self.outbox.ask_for(self.core.sides.keys().map(|id| id.topic.clone()));
    }

    fn start_fetch(&mut self, slot: &mut Slot<FetchAnswer>) {
        let Line::Up(client) = &self.line else { return };
        let now = now();
        if slot.is_some() || now < self.fetch_after {
            return;
        }
        if let Some(at) = self.throttle.ready_at(now) {
            self.counters.throttled_ms.increment(u64::try_from((at - now).as_millis()).unwrap_or_default());
            self.fetch_after = at;
            return;
        }
        let response_bytes_max = i32::try_from(self.sizer.response_bytes()).unwrap_or(i32::MAX);
        self.core.broker.set_bounds(FetchBounds { response_bytes_max, ..self.config.bounds });
        let version = self.core.broker.fetch_version();
        let Some(request) = self.core.broker.fetch_request() else { return };
        self.fetch_sent = now;
        self.counters.fetch_requests.increment(1);
        let client = client.clone();
        let wait = Duration::from_millis(u64::try_from(self.config.bounds.wait_ms_max).unwrap_or_default());
        let timeout = self.config.fetch_timeout.saturating_add(wait);
        *slot = Some(Box::pin(async move { client.call_within(&request, version, timeout).await }));
    }

    fn fetch_answered(&mut self, answer: FetchAnswer) -> Vec<(TopicPartition, Write)> {
        let now = now();
        let answer = match answer {
            Ok((_, answer)) => answer,
            Err(error) => {
                self.sizer.saw_failure();
                self.line_down(&error);
                return Vec::new();
            }
        };
        self.failures = 0;
        let beat_ms = now_ms();
        self.beat.answered(beat_ms);
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes: usize = partitions.filter_map(|data| data.records.as_ref().map(bytes::Bytes::len)).sum();
        self.counters.fetch_bytes.increment(bytes as u64);
        self.sizer.saw_answer(bytes, now - self.fetch_sent);
        self.throttle.spend(bytes, now);
        if let Ok(throttle @ 1..) = u64::try_from(answer.throttle_time_ms) {
            self.counters.throttled_ms.increment(throttle);
            self.fetch_after = now + Duration::from_millis(throttle);
        }
        let Core { broker, sides } = &mut self.core;
        broker.fetched(answer, &|id, epoch| sides.get(id)?.copy.as_ref()?.end_of_epoch(epoch), now)
    }

    /// Performs writes one after the other. One that fails concerns its partition only.
    async fn write(&mut self, writes: Vec<(TopicPartition, Write)>) {
        let mut turn = 0;
        for (id, write) in writes {
            turn += write.bytes();
            if turn >= WRITTEN_A_TURN {
                // The task that this one has just woken is the next on its thread, and no other thread takes it from there
                // (tokio's LIFO slot): without this the Fetch would leave after the write.
                tokio::task::yield_now().await;
                turn = 0;
            }
            let Some(copy) = self.core.sides.get_mut(&id).and_then(|side| side.copy.as_mut()) else { continue };
            let event = match write.perform(copy).await {
                Ok(position) => Event::Stored(position),
                Err(error) => Event::StoreFailed(copy.position(), error),
            };
            let more = self.core.broker.on(&id, event, now());
            debug_assert!(more.is_none(), "a write orders no other");
            if let (Some(side), Some(machine)) = (self.core.sides.get(&id), self.core.broker.partition(&id)) {
                let batch_ms = write.append.last().map(|batch| batch.header.max_timestamp);
                side.place.moved(machine, write.bytes(), batch_ms, self.beat.answered_ms());
            }
        }
    }

    fn start_ask(&mut self, slot: &mut Slot<Asked>, line_is_free: bool) {
        let Line::Up(line) = &self.line else { return };
        if slot.is_some() || now() < self.ask_after {
            return;
        }
        let Some(ask) = self.core.broker.ask() else { return };
        let (way, client) = match &self.asker {
            None if line_is_free => (Way::Line, Some(line.clone())),
            asker => (Way::Asker, asker.clone().filter(|asker| !asker.is_closed())),
        };
        let (connector, node) = (self.connector.clone(), self.core.broker.node());
        *slot = Some(Box::pin(async move {
            let told = put(&ask, client, &*connector, node).await;
            (ask, way, told)
        }));
    }

    fn asked(&mut self, (ask, way, told): Asked) -> Vec<(TopicPartition, Write)> {
        let now = now();
        let Core { broker, sides } = &mut self.core;
        let (Ask::Offsets(_, partitions) | Ask::Epochs(_, partitions)) = &ask;
        match told {
            Ok((client, told)) => {
                if way == Way::Asker {
                    self.asker = Some(client);
                }
                match told {
                    Told::Offsets(answer) => broker.told_offsets(partitions, &answer, now),
                    Told::Epochs(answer) => {
                        let ours = |id: &TopicPartition, epoch| sides.get(id)?.copy.as_ref()?.end_of_epoch(epoch);
                        broker.told_epochs(partitions, &answer, &ours, now)
                    }
                }
            }
            Err(error) => {
                debug!(link = %self.config.link, node = %broker.node(), %error, "question failed");
                self.asker = None;
                self.ask_after = now + self.config.patience.retry_backoff;
                broker.ask_failed(partitions);
                if way == Way::Line && matches!(&self.line, Line::Up(line) if line.is_closed()) {
                    self.line_down(&error); // without a fetch nobody else would find out
                }
                Vec::new()
            }
        }
    }

    /// Partitions that have just learnt where to begin need not wait for the end of an idle long poll: the connection of
    /// the questions takes over, and the poll is given up with its own. Nothing is lost: positions are the copies'.
    fn overtake(&mut self, fetch: &mut Slot<FetchAnswer>) {
        if fetch.is_none() || !matches!(self.line, Line::Up(_)) || !self.core.broker.is_held_up() {
            return;
        }
        if let Some(client) = self.asker.take() {
            *fetch = None;
            self.core.broker.fetch_failed();
            self.line = Line::Up(client);
        }
    }

    fn deadline(&self, may_fetch: bool, may_ask: bool) -> Option<Instant> {
        let now = now();
        let line = match &self.line {
            Line::Down { retry_at } if !self.core.sides.is_empty() => Some(*retry_at),
            Line::Down { .. } | Line::Dialling | Line::Up(_) => None,
        };
        let fetch = (may_fetch && self.fetch_after > now).then_some(self.fetch_after);
        let ask = (may_ask && self.ask_after > now).then_some(self.ask_after);
        [line, fetch, ask, self.core.broker.deadline()].into_iter().flatten().min()
    }
}

impl<P> Core<P> {
    /// Shows how a partition stands that nothing was written to.
    fn show(&self, id: &TopicPartition) {
        if let (Some(side), Some(machine)) = (self.sides.get(id), self.broker.partition(id)) {
            side.place.changed(machine);
            side.place.moved(machine, 0, None, 0);
        }
    }
}

/// Sends a question, on a connection made for it if there is none.
async fn put(
    ask: &Ask,
    client: Option<KafkaClient>,
    connector: &dyn Connector,
    node: NodeId,
) -> Result<(KafkaClient, Told), LineError> {
    let client = match client {
        Some(client) => client,
        None => connector.lease(Target::Node(node)).await?,
    };
    let told = match ask {
        Ask::Offsets(request, _) => {
            Told::Offsets(client.call(request, LIST_OFFSETS_VERSION_MAX, Duration::ZERO).await?.1)
        }
        Ask::Epochs(request, _) => Told::Epochs(client.call(request, EPOCH_VERSION_MAX, Duration::ZERO).await?.1),
    };
    Ok((client, told))
}

/// Waits for the future in the slot and empties it; for ever while it is empty. Cancel-safe: the future stays.
async fn fill<T>(slot: &mut Slot<T>) -> T {
    match slot {
        Some(future) => {
            let value = future.as_mut().await;
            *slot = None;
            value
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Tokio's clock, so that tests can stop it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn log(link: &str, partition: &TopicPartition, report: &Report) {
    match report {
        Report::Started { at } => debug!(link, %partition, %at, "mirroring"),
        Report::Gap { from, to } => {
            warn!(link, %partition, %from, %to, "gap: the source trimmed records before they were mirrored");
        }
        Report::Truncated { from, to } => {
            warn!(link, %partition, %from, %to, "truncated: the source replaced its tail");
        }
        Report::Trouble(trouble) => info!(link, %partition, %trouble, "retrying"),
        Report::Recovered => info!(link, %partition, "flowing again"),
        Report::Failed(failure) => tracing::error!(link, %partition, %failure, "failed"),
    }
}

#[cfg(test)]
mod tests;
