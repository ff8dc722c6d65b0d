//! The links that run in this daemon: a source half is an `Outbound`, a destination half a `Replicator` over a
//! connector, reversed or dialled. Takes records of the state to running links and back.

mod change;
mod keeper;
mod liveness;

pub(crate) use liveness::Liveness;

use crate::cluster::Cluster;
use crate::lock::lock;
use crate::operations::LinkState;
use crate::remote;
use crate::service::link_properties;
use hawser_broker::{BoxFuture, Mirrors};
use hawser_inbound::Inbound;
use hawser_link::config::StartOffset;
use hawser_link::mirror::LinkSeen;
use hawser_link::reversal::RefusalCode;
use hawser_link::{ConfigErrors, LinkConfig, LinkName, Properties, TopicFilters, catalogue, topic_configs};
use hawser_outbound::{Cause, Outbound, OutboundConfig, OutboundState, OutboundStatus};
use hawser_replicate::{LinkStatus, MirrorSpec, ReplicateConfig, Replicator, Start, Unreachable};
use hawser_state::{LinkRecord, MirrorRecord, MirrorStatus, State, TopicRecord};
use hawser_store::{EmbeddedStore, TopicSpec};
use hawser_transport::{
    ClientOptions, ClientSecurity, Connector, Direct, HostPort, KafkaClient, RESPONSE_BYTES_MAX, Target,
};
use keeper::Keeper;
use liveness::Seen;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the making of a link waits for the other side's word.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

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
    Source(Source),
    Destination(Destination),
    /// Could not be started; only a change of its settings helps.
    Broken(String),
}

pub(crate) struct Source {
    outbound: Outbound,
    /// Of this life of the half; a change of its settings leaves it as it is.
    epoch: i64,
}

struct Destination {
    connector: Arc<dyn Connector>,
    replicator: Replicator,
    /// Writes down what it finds out.
    keeper: Keeper,
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
    /// To try again is pointless until somebody acts.
    #[error("{0}")]
    LoginRefused(String),
    #[error("{0}")]
    Unavailable(String),
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

    /// Starts link `record`, which does not run. What keeps it from running shows as its state.
    pub(crate) async fn begin(&self, record: &LinkRecord) {
        let name = record.name.clone();
        let running = self.launch(record, false).await.unwrap_or_else(|error| {
            tracing::error!(link = name, %error, "the link cannot be started");
            Running::Broken(error.to_string())
        });
        lock(&self.running).insert(name, running);
    }

    /// Starts a new link and, unless told otherwise, waits for the other side's word. It is to be
    /// [kept](Self::keep) or [discarded](Self::discard), as it always is if `to_discard`. Nothing runs after an error.
    ///
    /// # Errors
    /// Wrong settings, an unreachable other side, or its refusal.
    pub(crate) async fn try_out(
        &self,
        mut record: LinkRecord,
        unchecked: bool,
        to_discard: bool,
    ) -> Result<Trial, StartError> {
        let own = match self.cluster.known_id() {
            Some(id) => Some(id),
            None if unchecked => None,
            None => Some(self.cluster.id().await.map_err(|e| StartError::Unavailable(e.to_string()))?),
        };
        let running = self.launch(&record, to_discard).await?;
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

    /// Begins anew to replicate mirrors of `link` that came to a dead end, or were ended. Their copies stay.
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

    /// Whether the source has answered for a partition of mirror `topic` of `link` since it runs.
    pub(crate) fn has_fetched(&self, link: &str, topic: &str, partition: i32) -> bool {
        let replicator = self.replicator(link);
        replicator.is_some_and(|(replicator, _)| replicator.source_high_watermark(topic, partition).is_some())
    }

    /// The way to the source of link `name`, if it holds mirrors.
    pub(crate) fn source(&self, name: &str) -> Option<Arc<dyn Connector>> {
        match lock(&self.running).get(name)? {
            Running::Destination(destination) => Some(destination.connector.clone()),
            Running::Source(_) | Running::Broken(_) => None,
        }
    }

    /// How link `name` stands.
    pub(crate) fn liveness(&self, name: &str) -> Liveness {
        let now = Instant::now();
        match lock(&self.running).get(name) {
            Some(Running::Source(source)) => Liveness::of(&Seen::Source(&source.outbound.status()), now),
            Some(Running::Destination(destination)) => {
                let (fetchers, keeper) = (destination.replicator.unreachable(), destination.keeper.trouble());
                let (fetchers, keeper) = (fetchers.as_ref(), keeper.as_deref());
                if destination.is_reversed {
                    let half = LinkName::new(name).ok().and_then(|name| self.inbound.status(&name)).unwrap_or_default();
                    return Liveness::of(&Seen::Reversed { half: &half, fetchers, keeper }, now);
                }
                Liveness::of(&Seen::Direct { fetchers, keeper }, now)
            }
            Some(Running::Broken(reason)) => Liveness::of(&Seen::Broken(reason), now),
            None => Liveness::of(&Seen::Missing, now),
        }
    }

    /// Starts `record`'s half; with `trial`, a source half binds nothing at the other side.
    async fn launch(&self, record: &LinkRecord, trial: bool) -> Result<Running, StartError> {
        let properties = link_properties(&record.name, &record.configs.0);
        let config = LinkConfig::parse(&properties)?.config;
        if config.half.holds_mirrors() {
            self.launch_destination(record, &properties, &config).await.map(Running::Destination)
        } else {
            let epoch = self.lives.fetch_add(1, Ordering::Relaxed);
            self.launch_source(record, properties, epoch, trial).map(Running::Source)
        }
    }

    fn launch_source(
        &self,
        record: &LinkRecord,
        properties: Properties,
        epoch: i64,
        trial: bool,
    ) -> Result<Source, StartError> {
        let mut config = self.outbound_config(record, properties)?;
        (config.epoch, config.trial) = (epoch, trial);
        Ok(Source { outbound: Outbound::spawn(config), epoch })
    }

    /// A source half as it would be started, but for its epoch.
    fn outbound_config(&self, record: &LinkRecord, mut properties: Properties) -> Result<OutboundConfig, StartError> {
        let name = link_name(record)?;
        let beside = self.cluster.beside();
        // A link without a login of its own for the local cluster takes the daemon's.
        let logs_in =
            |key: &str| ["local.security.", "local.sasl.", "local.ssl."].iter().any(|own| key.starts_with(own));
        let has_own = properties.iter().any(|(key, _)| logs_in(key));
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
        let connector = self.connector(record, properties, config)?;
        let replicate = self.replicate_config(record, config);
        let (replicator, events) = Replicator::spawn(replicate, self.store.clone(), connector.clone());
        let keeper = Keeper::spawn(self.state.clone(), record.name.clone(), events);
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

    /// The way to the source of a half that holds mirrors.
    fn connector(
        &self,
        record: &LinkRecord,
        properties: &Properties,
        config: &LinkConfig,
    ) -> Result<Arc<dyn Connector>, StartError> {
        if config.half.dials() {
            return Ok(Arc::new(direct(properties, config)?));
        }
        Ok(self.inbound.connector(&link_name(record)?))
    }

    fn replicate_config(&self, record: &LinkRecord, config: &LinkConfig) -> ReplicateConfig {
        let mut replicate = ReplicateConfig::new(&record.name, config);
        replicate.bytes_per_second = self.fetch_bytes_per_second;
        replicate.source_cluster_id.clone_from(&record.remote_cluster_id);
        if !config.half.dials() {
            replicate.availability_check = None; // the beats tell
        }
        replicate
    }
}

impl Mirrors for Links {
    fn end(&self, topic: &TopicRecord) -> BoxFuture<'_, ()> {
        let (topic, link) = (topic.name.clone(), topic.mirror.as_ref().map(|mirror| mirror.link.clone()));
        Box::pin(async move {
            if let Some(link) = link {
                self.end_mirrors(&link, &[topic]).await;
            }
        })
    }

    fn go_on(&self, topic: &TopicRecord) -> BoxFuture<'_, ()> {
        let topic = Arc::new(topic.clone());
        Box::pin(async move {
            if let Some(link) = topic.mirror.as_ref().filter(|mirror| is_replicated(mirror)).map(|mirror| &mirror.link)
            {
                self.restart_mirrors(link, std::slice::from_ref(&topic)).await;
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
    let security = ClientSecurity::from_properties(&catalogue::without_jvm(properties))
        .map_err(|ConfigErrors(found)| errors.0.extend(found));
    let Ok(security) = security else { return Err(errors) };
    errors.into_result()?;
    let options = ClientOptions {
        client_id: "hawser".to_owned(),
        request_timeout: config.connection.request_timeout,
        response_bytes_max: RESPONSE_BYTES_MAX,
        idle_max: Some(config.connection.idle_max),
    };
    let security = security.with_receive_buffer(config.mirrors.receive_buffer_bytes);
    Ok(Direct::new(security, bootstrap, options, config.connection.setup_timeout_max))
}

/// Waits for the other side's word on a new half.
async fn check(running: &Running, record: &mut LinkRecord) -> Result<(), StartError> {
    match running {
        Running::Source(source) => {
            let open = opened(&source.outbound).await?;
            record.id = open.link_id;
            record.remote_cluster_id = open.destination_cluster_id;
            Ok(())
        }
        // Nobody can have dialled yet.
        Running::Destination(destination) if destination.is_reversed => Ok(()),
        Running::Destination(destination) => {
            let (_, seen) = reached(&destination.connector, record.remote_cluster_id.as_deref()).await?;
            record.remote_cluster_id = Some(seen);
            Ok(())
        }
        Running::Broken(reason) => Err(StartError::Refused(reason.clone())),
    }
}

/// Waits until a source half is open or fails.
async fn opened(outbound: &Outbound) -> Result<OutboundStatus, StartError> {
    let mut status = outbound.watch();
    loop {
        let now = status.borrow_and_update().clone();
        match (now.state, now.cause) {
            (OutboundState::Open, _) => return Ok(now),
            (_, Some(cause)) => return Err(not_open(cause, now.reason.unwrap_or_default())),
            (_, None) => {}
        }
        if status.changed().await.is_err() {
            return Err(StartError::Unavailable("the source half ended".to_owned()));
        }
    }
}

/// A connection to the source, and the id of its cluster, which must be the one that is `expected`.
async fn reached(connector: &Arc<dyn Connector>, expected: Option<&str>) -> Result<(KafkaClient, String), StartError> {
    let client = connector.lease(Target::Any).await.map_err(|e| {
        let why = Unreachable::from(e);
        unreached(liveness::unreachable_error(&why), &why.to_string())
    })?;
    let seen = remote::cluster_id(&client).await.map_err(|e| StartError::Unavailable(e.to_string()))?;
    match expected {
        Some(expected) if expected != seen => {
            Err(StartError::Refused(format!("bootstrap.servers leads to cluster {seen}, not to {expected}")))
        }
        _ => Ok((client, seen)),
    }
}

/// A refusal is the destination's word; anything else is about getting there.
fn not_open(cause: Cause, reason: String) -> StartError {
    match cause {
        Cause::Refused(RefusalCode::NoSuchLink | RefusalCode::ModeMismatch) => StartError::NoSuchRemoteLink(reason),
        Cause::Refused(_) => StartError::Refused(reason),
        Cause::Local(_) | Cause::Dial(_) | Cause::Lost | Cause::Panicked => {
            unreached(liveness::cause_error(cause), &reason)
        }
    }
}

/// The other side is not reached: why, with the error that an existing link would show.
fn unreached(error: &str, reason: &str) -> StartError {
    match error {
        liveness::UNKNOWN => StartError::Unavailable(reason.to_owned()),
        liveness::AUTHENTICATION => StartError::LoginRefused(format!("{reason} (link error {error})")),
        _ => StartError::Unavailable(format!("{reason} (link error {error})")),
    }
}

async fn end(running: Running, reason: RefusalCode) {
    match running {
        Running::Source(source) => source.outbound.stop(reason).await,
        Running::Destination(destination) => {
            destination.replicator.stop().await;
            destination.keeper.ended().await;
        }
        Running::Broken(_) => {}
    }
}

fn mirror_spec(topic: &TopicRecord, mirror: &MirrorRecord, link_is_paused: bool) -> MirrorSpec {
    MirrorSpec {
        topic: TopicSpec { name: topic.name.as_str().into(), id: topic.id },
        source_topic: mirror.source_topic.as_str().into(),
        source_topic_id: Some(mirror.source_topic_id).filter(|id| !id.is_nil()),
        partitions: topic.partitions,
        start: match StartOffset::parse(&mirror.start_offset_spec) {
            _ if mirror.has_begun => Start::Earliest,
            Some(StartOffset::Latest) => Start::Latest,
            Some(StartOffset::Timestamp(ms)) => Start::Timestamp(ms),
            Some(StartOffset::Earliest) | None => Start::Earliest,
        },
        started: mirror.started.clone(),
        paused: link_is_paused || mirror.status == MirrorStatus::Paused,
    }
}

/// A promotion needs the fetchers until nothing is missing; a failover does without them.
pub(crate) fn is_replicated(mirror: &MirrorRecord) -> bool {
    mirror.status.is_live() && !mirror.is_let_go()
}

fn link_name(record: &LinkRecord) -> Result<LinkName, StartError> {
    LinkName::new(&record.name).map_err(|e| StartError::Refused(e.to_string()))
}

#[cfg(test)]
mod tests;
