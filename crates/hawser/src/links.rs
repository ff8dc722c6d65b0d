//! The links that run in this daemon: a source half is an `Outbound`, a destination half a `Replicator` over a
//! connector, reversed or dialled. Takes records of the state to running links and back.

use crate::cluster::Cluster;
use crate::operations::{LinkState, MemberView};
use crate::persist::persist;
use crate::remote::{self, RemoteCluster};
use crate::service::{link_properties, now_ms};
use hawser_broker::{BoxFuture, Mirrors};
use hawser_inbound::Inbound;
use hawser_link::config::StartOffset;
use hawser_link::mirror::{LinkSeen, MirrorFact};
use hawser_link::reversal::RefusalCode;
use hawser_link::{ConfigErrors, LinkConfig, LinkName, Properties, TopicFilters, topic_configs};
use hawser_outbound::{Cause, Outbound, OutboundConfig, OutboundState, OutboundStatus};
use hawser_replicate::{LinkStatus, MirrorEvent, MirrorSpec, ReplicateConfig, Replicator, Start, Unreachable};
use hawser_state::{LinkRecord, MirrorRecord, MirrorStatus, State, TopicRecord};
use hawser_store::{EmbeddedStore, TopicSpec};
use hawser_transport::{
    ClientError, ClientOptions, ClientSecurity, Connector, Direct, HostPort, KafkaClient, LeaseError, Obstacle,
    RESPONSE_BYTES_MAX, Target,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long the making of a link waits for the other side's word.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// The reference's names of link errors that stand here more than once.
const NO_ERROR: &str = "NO_ERROR";
const TIMEOUT: &str = "TIMEOUT_ERROR";
const UNKNOWN: &str = "UNKNOWN";

/// The running links of a daemon.
pub(crate) struct Links {
    state: State,
    store: Arc<EmbeddedStore>,
    inbound: Inbound,
    cluster: Arc<Cluster>,
    /// `hawser.link.fetch.bytes.per.second`.
    fetch_bytes_per_second: Option<u64>,
    /// `hawser.egress.topics.filters` of the daemon: of every source half, whatever its link says.
    egress: Option<TopicFilters>,
    running: Mutex<BTreeMap<String, Running>>,
    /// The epoch of the next source half: a half that is made anew in this life of the daemon is newer than its
    /// predecessor, and every half of the daemon's next life is newer than all of this one.
    lives: AtomicI64,
}

/// Halves that one life of the daemon may begin before their epochs meet those of the next life.
const LIVES_BITS: u32 = 20;

/// One of them.
enum Running {
    Source(Outbound),
    Destination(Destination),
    /// Could not be started; only a change of its settings helps.
    Broken(String),
}

struct Destination {
    connector: Arc<dyn Connector>,
    replicator: Replicator,
    /// Writes down what it finds out.
    keeper: JoinHandle<()>,
    /// Whether the source half dials us.
    is_reversed: bool,
    /// `cluster.link.paused`.
    is_paused: bool,
}

/// A link that runs but is not one of ours yet.
pub(crate) struct Trial {
    /// With what the other side told.
    record: LinkRecord,
    running: Running,
}

/// Why a link could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    NoSuchRemoteLink(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unavailable(String),
}

/// How a link stands.
pub(crate) struct Liveness {
    pub(crate) state: LinkState,
    /// As the reference names it.
    pub(crate) error: &'static str,
    pub(crate) error_message: Option<String>,
    pub(crate) members: Vec<MemberView>,
    pub(crate) link_id: Option<Uuid>,
    pub(crate) remote_cluster_id: Option<String>,
}

impl Links {
    /// No link runs yet: see [`resume`](Self::resume).
    pub(crate) fn new(
        state: State,
        store: Arc<EmbeddedStore>,
        inbound: Inbound,
        cluster: Arc<Cluster>,
        fetch_bytes_per_second: Option<u64>,
        egress: Option<TopicFilters>,
    ) -> Arc<Self> {
        let lives = AtomicI64::new(state.member_epoch() << LIVES_BITS);
        let running = Mutex::default();
        Arc::new(Self { state, store, inbound, cluster, fetch_bytes_per_second, egress, running, lives })
    }

    /// Starts every link of the state. What cannot be started shows why, and waits for somebody to act.
    pub(crate) async fn resume(&self) {
        for record in self.state.links() {
            self.begin(&record).await;
        }
    }

    async fn begin(&self, record: &LinkRecord) {
        let name = record.name.clone();
        let running = self.launch(record).await.unwrap_or_else(|error| {
            tracing::error!(link = name, %error, "the link cannot be started");
            Running::Broken(error.to_string())
        });
        lock(&self.running).insert(name, running);
    }

    /// Starts a new link and, unless told otherwise, waits for the other side's word. It is to be
    /// [kept](Self::keep) or [discarded](Self::discard). Nothing runs after an error.
    ///
    /// # Errors
    /// Wrong settings, an unreachable other side, or its refusal.
    pub(crate) async fn try_out(&self, mut record: LinkRecord, unchecked: bool) -> Result<Trial, StartError> {
        let own = match self.cluster.known_id() {
            Some(id) => Some(id),
            None if unchecked => None,
            None => Some(self.cluster.id().await.map_err(|e| StartError::Unavailable(e.to_string()))?),
        };
        let running = self.launch(&record).await?;
        if !unchecked {
            let checked = tokio::time::timeout(CHECK_TIMEOUT, check(&running, &mut record)).await;
            let checked = checked
                .unwrap_or_else(|_| {
                    let seconds = CHECK_TIMEOUT.as_secs();
                    Err(StartError::Unavailable(format!("the other side did not answer within {seconds} s")))
                })
                .and_then(|()| match record.remote_cluster_id == own {
                    true => Err(StartError::Refused("the other side is this cluster itself".to_owned())),
                    false => Ok(()),
                });
            if let Err(error) = checked {
                end(running, RefusalCode::SourceHalfDeleted).await;
                return Err(error);
            }
        }
        Ok(Trial { record, running })
    }

    /// Counts `trial` among the links from now on. Gives its record, which is to be put into the state.
    pub(crate) fn keep(&self, trial: Trial) -> LinkRecord {
        lock(&self.running).insert(trial.record.name.clone(), trial.running);
        trial.record
    }

    /// Whether `record` could be started; starts nothing.
    ///
    /// # Errors
    /// Wrong settings.
    pub(crate) fn validate(&self, record: &LinkRecord) -> Result<(), StartError> {
        let properties = link_properties(&record.name, &record.configs.0);
        let config = LinkConfig::parse(&properties)?.config;
        match config.half {
            half if !half.holds_mirrors() => self.outbound_config(record, properties).map(drop),
            half if half.dials() => Ok(direct(&properties, &config).map(drop)?),
            _ => Ok(()),
        }
    }

    /// Puts the settings of `record`, which are in the state, into effect.
    pub(crate) async fn reconfigure(&self, record: &LinkRecord) {
        let running = lock(&self.running).remove(&record.name);
        if let Some(running) = running {
            end(running, RefusalCode::Stopping).await;
        }
        self.begin(record).await;
    }

    /// Ends `trial`.
    pub(crate) async fn discard(&self, trial: Trial) {
        end(trial.running, RefusalCode::SourceHalfDeleted).await;
    }

    /// Ends link `name`, which is about to be deleted. When this returns nothing writes to its mirrors or their records.
    pub(crate) async fn end(&self, name: &str) {
        let running = lock(&self.running).remove(name);
        if let Some(running) = running {
            end(running, RefusalCode::SourceHalfDeleted).await;
        }
    }

    /// Tells the source half of link `name` that it is deleted. Its record is gone by now: who dials again is refused.
    pub(crate) fn part(&self, name: &str) {
        if let Ok(name) = LinkName::new(name) {
            self.inbound.end(&name, RefusalCode::LinkDeleted);
        }
    }

    /// Ends every link because the daemon stops.
    pub(crate) async fn stop_all(&self) {
        let all = std::mem::take(&mut *lock(&self.running));
        let mut ends = tokio::task::JoinSet::new();
        for running in all.into_values() {
            ends.spawn(end(running, RefusalCode::Stopping));
        }
        self.inbound.stop().await;
        ends.join_all().await;
    }

    /// Begins to replicate a mirror that is in the state. `client` leads to a broker of its source.
    pub(crate) async fn add_mirror(&self, topic: &TopicRecord, client: KafkaClient) {
        let Some(mirror) = &topic.mirror else { return };
        let Some((replicator, is_paused)) = self.replicator(&mirror.link) else { return };
        let _ = replicator.lend(client).await; // an end shows below
        if replicator.add_mirror(mirror_spec(topic, mirror, is_paused)).await.is_err() {
            // The link ends just now; its next start takes the mirror from the state.
            tracing::warn!(topic = topic.name, link = mirror.link, "the link is not replicating");
        }
    }

    /// Ends the copying into mirror `topic`, which is about to be deleted.
    async fn end_mirror(&self, link: &str, topic: &str) {
        let Some((replicator, _)) = self.replicator(link) else { return };
        let _ = replicator.remove(&[topic]).await; // a replicator that ended writes no more
    }

    /// Ends the copying into mirrors of `link`. When this returns nobody writes to their logs any more.
    pub(crate) async fn end_mirrors(&self, link: &str, topics: &[String]) {
        let Some((replicator, _)) = self.replicator(link) else { return };
        let _ = replicator.remove(topics).await; // a replicator that ended writes no more
    }

    /// Stops fetching mirrors of `link`, or goes on with them unless the whole link is paused.
    pub(crate) async fn set_mirrors_paused(&self, link: &str, topics: &[String], is_paused: bool) {
        let Some((replicator, link_is_paused)) = self.replicator(link) else { return };
        for topic in topics {
            let outcome = match is_paused || link_is_paused {
                true => replicator.pause(topic).await,
                false => replicator.resume(topic).await,
            };
            if outcome.is_err() {
                return; // the link ends just now; its next start takes the mirrors from the state
            }
        }
    }

    /// Begins anew to replicate mirrors of `link` that came to a dead end. Their copies stay.
    pub(crate) async fn restart_mirrors(&self, link: &str, topics: &[Arc<TopicRecord>]) {
        let Some((replicator, is_paused)) = self.replicator(link) else { return };
        for topic in topics {
            let Some(mirror) = &topic.mirror else { continue };
            if replicator.add_mirror(mirror_spec(topic, mirror, is_paused)).await.is_err() {
                return; // as above
            }
        }
    }

    /// What is seen of link `name`, for the status of its mirrors.
    pub(crate) fn seen(&self, name: &str) -> LinkSeen {
        if self.replicator(name).is_some_and(|(_, is_paused)| is_paused) {
            return LinkSeen::Paused;
        }
        match self.liveness(name).state {
            LinkState::Active | LinkState::Paused => LinkSeen::Up,
            LinkState::Unavailable => LinkSeen::Unavailable,
            LinkState::Failed => LinkSeen::Failed,
        }
    }

    /// The replicator of `link`, and whether the whole link is paused.
    fn replicator(&self, link: &str) -> Option<(Replicator, bool)> {
        match lock(&self.running).get(link)? {
            Running::Destination(destination) => Some((destination.replicator.clone(), destination.is_paused)),
            Running::Source(_) | Running::Broken(_) => None,
        }
    }

    /// How the mirrors of link `name` stand with their fetchers. Proportional to the number of its partitions.
    pub(crate) fn replication(&self, name: &str) -> Option<LinkStatus> {
        self.replicator(name).map(|(replicator, _)| replicator.status())
    }

    /// The source of link `name`, if it holds mirrors.
    pub(crate) fn source(&self, name: &str) -> Option<RemoteCluster> {
        match lock(&self.running).get(name)? {
            Running::Destination(destination) => Some(RemoteCluster::new(destination.connector.clone())),
            Running::Source(_) | Running::Broken(_) => None,
        }
    }

    /// How link `name` stands.
    pub(crate) fn liveness(&self, name: &str) -> Liveness {
        match lock(&self.running).get(name) {
            Some(Running::Source(outbound)) => source_liveness(&outbound.status()),
            Some(Running::Destination(destination)) => match destination.replicator.unreachable() {
                Some(why @ Unreachable::Panicked(_)) => Liveness::broken(why.to_string()),
                _ if destination.is_reversed => self.inbound_liveness(name),
                unreachable => direct_liveness(unreachable.as_ref()),
            },
            Some(Running::Broken(reason)) => Liveness::broken(reason.clone()),
            None => Liveness::broken("the link is not running".to_owned()),
        }
    }

    fn inbound_liveness(&self, name: &str) -> Liveness {
        let status = LinkName::new(name).ok().and_then(|name| self.inbound.status(&name)).unwrap_or_default();
        let members: Vec<_> = status
            .members
            .iter()
            .map(|member| MemberView {
                member: member.member.to_string(),
                last_beat_ms: Some(millis(member.last_heard.elapsed())),
                channels: member.channels as u64,
            })
            .collect();
        let is_up = !members.is_empty();
        Liveness {
            state: if is_up { LinkState::Active } else { LinkState::Unavailable },
            error: NO_ERROR,
            error_message: (!is_up).then(|| "no source half is connected".to_owned()),
            members,
            link_id: None,
            remote_cluster_id: status.source_cluster_id,
        }
    }

    /// Starts `record`'s half.
    async fn launch(&self, record: &LinkRecord) -> Result<Running, StartError> {
        let properties = link_properties(&record.name, &record.configs.0);
        let config = LinkConfig::parse(&properties)?.config;
        if config.half.holds_mirrors() {
            self.launch_destination(record, &properties, &config).await.map(Running::Destination)
        } else {
            self.launch_source(record, properties).map(Running::Source)
        }
    }

    fn launch_source(&self, record: &LinkRecord, properties: Properties) -> Result<Outbound, StartError> {
        let mut config = self.outbound_config(record, properties)?;
        config.epoch = self.lives.fetch_add(1, Ordering::Relaxed);
        Ok(Outbound::spawn(config))
    }

    /// A source half as it would be started, but for its epoch.
    fn outbound_config(&self, record: &LinkRecord, mut properties: Properties) -> Result<OutboundConfig, StartError> {
        let name = link_name(record)?;
        let beside = self.cluster.beside();
        // A link without a login of its own for the local cluster takes the daemon's.
        let has_own = properties.iter().any(|(key, _)| key.starts_with("local.") && key != "local.listener.name");
        if let Some(beside) = beside
            && !has_own
        {
            for (key, value) in beside.properties.iter().filter(|(key, _)| *key != "bootstrap.servers") {
                properties.set(&format!("local.{key}"), value);
            }
        }
        let bootstrap = beside.map(|b| b.bootstrap.as_slice()).unwrap_or_default();
        let member = self.state.member_id();
        let (mut config, _) = OutboundConfig::from_properties(name, member, 0, &properties, bootstrap)?;
        config.site_topics = self.egress.clone();
        config.source_cluster_id = self.cluster.known_id();
        config.destination_cluster_id = record.remote_cluster_id.clone();
        Ok(config)
    }

    async fn launch_destination(
        &self,
        record: &LinkRecord,
        properties: &Properties,
        config: &LinkConfig,
    ) -> Result<Destination, StartError> {
        let (is_reversed, is_paused) = (!config.half.dials(), config.mirrors.paused);
        let connector: Arc<dyn Connector> = if is_reversed {
            self.inbound.connector(&link_name(record)?)
        } else {
            Arc::new(direct(properties, config)?)
        };
        let mut replicate = ReplicateConfig::new(&record.name, config);
        replicate.bytes_per_second = self.fetch_bytes_per_second;
        let (replicator, events) = Replicator::spawn(replicate, self.store.clone(), connector.clone());
        let keeper = tokio::spawn(keep(self.state.clone(), events));
        for topic in self.state.topics() {
            match &topic.mirror {
                Some(mirror) if mirror.link == record.name && is_replicated(mirror) => {
                    // It has just been started and ends only by us.
                    let _ = replicator.add_mirror(mirror_spec(&topic, mirror, is_paused)).await;
                }
                _ => {}
            }
        }
        Ok(Destination { connector, replicator, keeper, is_reversed, is_paused })
    }
}

impl Mirrors for Links {
    fn end(&self, topic: &TopicRecord) -> BoxFuture<'_, ()> {
        let (topic, link) = (topic.name.clone(), topic.mirror.as_ref().map(|mirror| mirror.link.clone()));
        Box::pin(async move {
            if let Some(link) = link {
                self.end_mirror(&link, &topic).await;
            }
        })
    }

    fn copied_configs(&self, topic: &TopicRecord) -> BTreeSet<&'static str> {
        let mut copied = BTreeSet::from(topic_configs::ALWAYS);
        let link = topic.mirror.as_ref().and_then(|mirror| self.state.link(&mirror.link));
        let config = link.and_then(|link| LinkConfig::parse(&link_properties(&link.name, &link.configs.0)).ok());
        copied.extend(config.into_iter().flat_map(|parsed| parsed.config.mirrors.config_include));
        copied
    }
}

/// A connector that dials the source itself.
fn direct(properties: &Properties, config: &LinkConfig) -> Result<Direct, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut bootstrap = Vec::new();
    for server in &config.bootstrap_servers {
        match server.parse::<HostPort>() {
            Ok(server) => bootstrap.push(server),
            Err(error) => errors.0.push(properties.error("bootstrap.servers", error.to_string())),
        }
    }
    let security = ClientSecurity::from_properties(properties).map_err(|ConfigErrors(found)| errors.0.extend(found));
    let Ok(security) = security else { return Err(errors) };
    errors.into_result()?;
    let options = ClientOptions {
        client_id: "hawser".to_owned(),
        request_timeout: config.connection.request_timeout,
        response_bytes_max: RESPONSE_BYTES_MAX,
    };
    Ok(Direct::new(security, bootstrap, options, config.connection.setup_timeout_max))
}

impl Liveness {
    fn broken(reason: String) -> Self {
        Self {
            state: LinkState::Failed,
            error: UNKNOWN,
            error_message: Some(reason),
            members: Vec::new(),
            link_id: None,
            remote_cluster_id: None,
        }
    }
}

/// Waits for the other side's word on a new half.
async fn check(running: &Running, record: &mut LinkRecord) -> Result<(), StartError> {
    match running {
        Running::Source(outbound) => {
            let mut status = outbound.watch();
            loop {
                let now = status.borrow_and_update().clone();
                match (now.state, now.cause) {
                    (OutboundState::Open, _) => {
                        record.id = now.link_id;
                        record.remote_cluster_id = now.destination_cluster_id;
                        return Ok(());
                    }
                    (_, Some(cause)) => return Err(not_open(cause, now.reason.unwrap_or_default())),
                    (_, None) => {}
                }
                if status.changed().await.is_err() {
                    return Err(StartError::Unavailable("the source half ended".to_owned()));
                }
            }
        }
        // Nobody can have dialled yet.
        Running::Destination(destination) if destination.is_reversed => Ok(()),
        Running::Destination(destination) => {
            let unavailable = |e: &dyn std::fmt::Display| StartError::Unavailable(e.to_string());
            let source = RemoteCluster::new(destination.connector.clone());
            let client = source.lease(Target::Any).await.map_err(|e| unavailable(&e))?;
            let seen = remote::cluster_id(&client).await.map_err(|e| unavailable(&e))?;
            match &record.remote_cluster_id {
                Some(expected) if *expected != seen => {
                    Err(StartError::Refused(format!("bootstrap.servers leads to cluster {seen}, not to {expected}")))
                }
                _ => {
                    record.remote_cluster_id = Some(seen);
                    Ok(())
                }
            }
        }
        Running::Broken(reason) => Err(StartError::Refused(reason.clone())),
    }
}

/// A refusal is the destination's word; anything else is about getting there.
fn not_open(cause: Cause, reason: String) -> StartError {
    match cause {
        Cause::Refused(RefusalCode::NoSuchLink | RefusalCode::ModeMismatch) => StartError::NoSuchRemoteLink(reason),
        Cause::Refused(_) => StartError::Refused(reason),
        Cause::Local | Cause::Dial(_) | Cause::Lost | Cause::Panicked => StartError::Unavailable(reason),
    }
}

async fn end(running: Running, reason: RefusalCode) {
    match running {
        Running::Source(outbound) => outbound.stop(reason).await,
        Running::Destination(destination) => {
            destination.replicator.stop().await;
            let _ = destination.keeper.await;
        }
        Running::Broken(_) => {}
    }
}

fn source_liveness(status: &OutboundStatus) -> Liveness {
    Liveness {
        state: match (status.state, status.cause) {
            (OutboundState::Open, _) => LinkState::Active,
            (_, Some(Cause::Panicked)) => LinkState::Failed,
            (_, _) => LinkState::Unavailable,
        },
        error: status.cause.map_or(NO_ERROR, cause_error),
        error_message: status.reason.clone(),
        members: Vec::new(),
        link_id: status.link_id,
        remote_cluster_id: status.destination_cluster_id.clone(),
    }
}

fn direct_liveness(unreachable: Option<&Unreachable>) -> Liveness {
    Liveness {
        state: if unreachable.is_none() { LinkState::Active } else { LinkState::Unavailable },
        error: unreachable.map_or(NO_ERROR, unreachable_error),
        error_message: unreachable.map(ToString::to_string),
        members: Vec::new(),
        link_id: None,
        remote_cluster_id: None,
    }
}

fn cause_error(cause: Cause) -> &'static str {
    match cause {
        Cause::Dial(obstacle) => obstacle_error(obstacle),
        Cause::Refused(RefusalCode::NoSuchLink | RefusalCode::ModeMismatch | RefusalCode::LinkDeleted) => {
            "REMOTE_LINK_NOT_FOUND_ERROR"
        }
        Cause::Refused(RefusalCode::NotAuthorised) => "AUTHORIZATION_ERROR",
        Cause::Refused(RefusalCode::Silent) => TIMEOUT,
        Cause::Local | Cause::Refused(_) | Cause::Lost | Cause::Panicked => UNKNOWN,
    }
}

fn unreachable_error(why: &Unreachable) -> &'static str {
    match why {
        Unreachable::Lease(LeaseError::Dial { obstacle, .. }) => obstacle_error(*obstacle),
        Unreachable::Lease(LeaseError::Authentication(_)) | Unreachable::Client(ClientError::Reauthentication(_)) => {
            obstacle_error(Obstacle::Authentication)
        }
        Unreachable::Client(ClientError::Timeout { .. }) => TIMEOUT,
        Unreachable::Lease(_) | Unreachable::Client(_) | Unreachable::Panicked(_) => UNKNOWN,
    }
}

fn obstacle_error(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Name => "UNRESOLVABLE_BOOTSTRAP_ERROR",
        Obstacle::Tcp => "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR",
        Obstacle::Timeout => TIMEOUT,
        Obstacle::Authentication => "AUTHENTICATION_ERROR",
        Obstacle::Protocol => UNKNOWN,
    }
}

/// Keeps in the state what replication finds out: ids, new partitions, dead ends. Ends with the replicator.
async fn keep(state: State, mut events: mpsc::Receiver<MirrorEvent>) {
    while let Some(event) = events.recv().await {
        if let Err(error) = persist(&state, move |state| apply(state, &event)).await {
            tracing::error!(%error, "what replication found out could not be kept");
        }
    }
}

/// Writes one event down; `Ok` also for those that need not be kept.
fn apply(state: &State, event: &MirrorEvent) -> Result<(), hawser_state::Error> {
    let change = |name: &str, change: &dyn Fn(&mut TopicRecord, &mut MirrorRecord)| {
        let with_mirror = |topic: &mut TopicRecord| {
            let Some(mut mirror) = topic.mirror.take() else { return false };
            change(topic, &mut mirror);
            topic.mirror = Some(mirror);
            true
        };
        state.update_topic(name, with_mirror).map(drop)
    };
    match event {
        MirrorEvent::Pinned { topic, source_topic_id } => {
            change(topic, &|_, mirror| mirror.source_topic_id = *source_topic_id)
        }
        MirrorEvent::PartitionsGrew { topic, from, to } => {
            tracing::info!(%topic, from, to, "the source has more partitions");
            change(topic, &|record, _| record.partitions = (*to).max(record.partitions))
        }
        // A copy that has begun knows where by itself; a partition that comes later begins at its beginning.
        MirrorEvent::Started { topic } => change(topic, &|_, mirror| {
            "earliest".clone_into(&mut mirror.start_offset_spec);
            mirror.started.clear();
            mirror.set_status(mirror.status.on_fact(MirrorFact::Flows), now_ms());
        }),
        MirrorEvent::PartitionStarted { topic, partition } => change(topic, &|_, mirror| {
            mirror.started.insert(*partition);
        }),
        MirrorEvent::Failed { topic, partition: None, failure } => {
            tracing::error!(%topic, %failure, "the mirror failed");
            change(topic, &|_, mirror| {
                mirror.fail(failure.reason.as_str(), now_ms());
            })
        }
        MirrorEvent::Failed { topic, partition: Some(partition), failure } => {
            tracing::error!(%topic, partition, %failure, "a mirror partition failed");
            Ok(())
        }
        MirrorEvent::Gap { topic, partition, from, to } => {
            tracing::warn!(%topic, partition, %from, %to, "the source trimmed records before they were mirrored");
            Ok(())
        }
        MirrorEvent::Truncated { topic, partition, from, to } => {
            tracing::warn!(%topic, partition, %from, %to, "the source replaced its tail; the mirror was cut likewise");
            Ok(())
        }
        MirrorEvent::Unavailable { topic, detail } => {
            tracing::warn!(%topic, detail, "the source topic does not answer");
            Ok(())
        }
        MirrorEvent::Trouble { topic, partition, trouble } => {
            tracing::warn!(%topic, partition, %trouble, "a mirror partition waits");
            Ok(())
        }
        MirrorEvent::Available { topic } => {
            tracing::info!(%topic, "the source topic answers again");
            Ok(())
        }
        MirrorEvent::Recovered { topic, partition } => {
            tracing::info!(%topic, partition, "a mirror partition goes on");
            Ok(())
        }
    }
}

fn mirror_spec(topic: &TopicRecord, mirror: &MirrorRecord, link_is_paused: bool) -> MirrorSpec {
    MirrorSpec {
        topic: TopicSpec { name: topic.name.as_str().into(), id: topic.id, configs: topic.configs.clone() },
        source_topic: mirror.source_topic.as_str().into(),
        source_topic_id: Some(mirror.source_topic_id).filter(|id| !id.is_nil()),
        partitions: topic.partitions,
        start: match StartOffset::parse(&mirror.start_offset_spec) {
            Some(StartOffset::Latest) => Start::Latest,
            Some(StartOffset::Timestamp(ms)) => Start::Timestamp(ms),
            Some(StartOffset::Earliest) | None => Start::Earliest,
        },
        started: mirror.started.clone(),
        paused: link_is_paused || mirror.status == MirrorStatus::Paused,
    }
}

/// A promotion needs the fetchers until nothing is missing; a failover does without them.
fn is_replicated(mirror: &MirrorRecord) -> bool {
    mirror.status.is_live() && !mirror.is_let_go()
}

fn link_name(record: &LinkRecord) -> Result<LinkName, StartError> {
    LinkName::new(&record.name).map_err(|e| StartError::Refused(e.to_string()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
