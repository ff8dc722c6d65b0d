//! Executes operations: the one place where they are authorised, audited and done. Faces only translate.

use crate::cluster::Cluster;
use crate::links::{Links, StartError};
use crate::operations::{
    ClusterView, LinkState, LinkView, MirrorPartitionView, MirrorView, Operation, Outcome, Refusal, RefusalCode,
    RemoteCluster as NamedCluster, Reply, Right,
};
use crate::persist::persist;
use crate::remote::{self, RemoteError};
use crate::verify::{Job, JobTopic, Verifications};
use bytes::Bytes;
use hawser_broker::Authorizer;
use hawser_link::{LinkConfig, LinkMode, LinkName, Properties};
use hawser_log::Logs;
use hawser_replicate::{LinkStatus, PartitionStatus, Phase, TopicState, TopicStatus};
use hawser_state::{LinkRecord, MirrorRecord, MirrorStatus, SecretConfigs, State, TopicRecord};
use hawser_transport::{ClientError, Principal, Target};
use hawser_wire::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

/// Kafka's longest topic name (`Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_MAX: usize = 249;
/// Changes under way at a time; further ones wait. Most of them wait for another cluster, and outlive whoever asked.
const CHANGES_MAX: usize = 64;
/// Topic settings of the source that a mirror is made with: those that say how its log is to be kept and read.
const MIRRORED_CONFIGS: [&str; 9] = [
    "cleanup.policy",
    "compression.type",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.type",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
];

/// What operations work on.
pub(crate) struct Service {
    state: State,
    logs: Arc<Logs>,
    links: Arc<Links>,
    authorizer: Arc<Authorizer>,
    cluster: Arc<Cluster>,
    node_id: i32,
    verifications: Verifications,
    /// Operations that change something are done one at a time: check and change belong together.
    changes: Mutex<()>,
    /// [`CHANGES_MAX`]; closed when the daemon stops.
    room: Arc<Semaphore>,
    /// Names of links whose other side is being asked.
    being_made: std::sync::Mutex<BTreeSet<String>>,
}

/// A name in [`Service::being_made`].
struct Reserved<'a> {
    names: &'a std::sync::Mutex<BTreeSet<String>>,
    name: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        lock(self.names).remove(&self.name);
    }
}

impl Service {
    /// Over the daemon's parts.
    pub(crate) fn new(
        state: State,
        logs: Arc<Logs>,
        links: Arc<Links>,
        cluster: Arc<Cluster>,
        authorizer: Arc<Authorizer>,
        node_id: i32,
    ) -> Self {
        let (verifications, changes) = (Verifications::default(), Mutex::new(()));
        let (being_made, room) = (std::sync::Mutex::default(), Arc::new(Semaphore::new(CHANGES_MAX)));
        Self { state, logs, links, cluster, authorizer, node_id, verifications, changes, room, being_made }
    }

    /// The private API `OPERATE`: JSON in, JSON out. Never fails: what goes wrong is a refusal. May be dropped at any
    /// time: a change that has begun is done to its end.
    pub(crate) async fn operate(self: &Arc<Self>, principal: &Principal, body: &[u8]) -> Bytes {
        let reply = match serde_json::from_slice::<Operation>(body) {
            Ok(operation) if operation.right() == Right::Alter => self.change(principal, operation).await,
            Ok(operation) => self.authorized(principal, operation).await,
            Err(error) => Err(Refusal::new(RefusalCode::InvalidRequest, format!("not an operation: {error}"))),
        };
        let reply = reply.map_or_else(Reply::Refused, |outcome| Reply::Done(Box::new(outcome)));
        Bytes::from(serde_json::to_vec(&reply).unwrap_or_default())
    }

    /// Begins no more changes, and waits for the one that is writing.
    pub(crate) async fn stop(&self) {
        self.room.close();
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
        let (name, subject) = (operation.name(), operation.subject());
        let result = if self.authorizer.authorize(principal, acl, Resource::Cluster) {
            self.perform(operation).await
        } else {
            let what = if right == Right::Alter { "ALTER" } else { "DESCRIBE" };
            let message = format!("{} lacks {what} on the cluster, which {name} takes", principal.as_str());
            Err(Refusal::new(RefusalCode::NotAuthorized, message))
        };
        let principal = principal.as_str();
        match (&result, right) {
            (Ok(_), Right::Alter) => tracing::info!(target: "audit", principal, operation = name, subject, "done"),
            (Ok(_), Right::Describe) => tracing::debug!(target: "audit", principal, operation = name, subject, "done"),
            (Err(refusal), _) => {
                tracing::warn!(target: "audit", principal, operation = name, subject, code = ?refusal.code, "refused");
            }
        }
        result
    }

    async fn perform(&self, operation: Operation) -> Result<Outcome, Refusal> {
        match operation {
            Operation::ClusterDescribe => self.cluster_describe().await,
            Operation::LinkCreate { link, configs, remote, validate_only, skip_remote_check } => {
                self.link_create(link, configs, remote, validate_only, skip_remote_check).await
            }
            Operation::LinkList => Ok(Outcome::Links { links: self.links() }),
            Operation::LinkDescribe { link } => Ok(Outcome::Link(self.link_view(&self.link(&link)?, &self.flow()))),
            Operation::LinkDelete { link, force } => {
                let _one_at_a_time = self.changes.lock().await;
                self.link_delete(&link, force).await
            }
            Operation::MirrorCreate { link, mirror_topic, source_topic, configs } => {
                self.mirror_create(&link, mirror_topic, source_topic, configs).await
            }
            Operation::MirrorList { link } => self.mirror_list(link.as_deref()),
            Operation::MirrorDescribe { mirror_topic, link } => self.mirror_describe(&mirror_topic, link.as_deref()),
            Operation::VerifyStart { link, topics, follow } => self.verify_start(&link, &topics, follow),
            Operation::VerifyStatus { verification } => self.verifications.status(verification).map(Outcome::Verify),
            Operation::VerifyStop { verification } => {
                self.verifications.stop(verification).map(|()| Outcome::VerifyStopped)
            }
        }
    }

    async fn cluster_describe(&self) -> Result<Outcome, Refusal> {
        let cluster_id = self.cluster.id().await.map_err(|e| unavailable(&e))?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Outcome::Cluster(ClusterView { cluster_id, node_id: self.node_id, version }))
    }

    async fn link_create(
        &self,
        name: String,
        configs: BTreeMap<String, String>,
        remote: Option<NamedCluster>,
        validate_only: bool,
        skip_remote_check: bool,
    ) -> Result<Outcome, Refusal> {
        let invalid = |message: String| Refusal::new(RefusalCode::InvalidRequest, message);
        let name = LinkName::new(&name).map_err(|e| invalid(e.to_string()))?;
        // The other side may take its time: only this name waits for it.
        let _reserved = self.reserve(&name)?;
        let parsed = LinkConfig::parse(&link_properties(name.as_str(), &configs))
            .map_err(|e| Refusal::new(RefusalCode::InvalidLinkConfig, e.to_string()))?;
        for warning in &parsed.warnings {
            tracing::warn!(link = %name, "{warning}");
        }
        let half = parsed.config.half;
        match &remote {
            Some(NamedCluster::Source(_)) if !half.holds_mirrors() => {
                return Err(invalid(
                    "a source cluster was named, but link.mode=SOURCE makes this cluster the source".into(),
                ));
            }
            Some(NamedCluster::Destination(_)) if half.link_mode() == LinkMode::Destination => {
                let message =
                    "a destination cluster was named, but link.mode=DESTINATION makes this cluster the destination";
                return Err(invalid(message.into()));
            }
            _ => {}
        }
        let record = LinkRecord {
            name: name.as_str().to_owned(),
            id: half.holds_mirrors().then(Uuid::new_v4),
            remote_cluster_id: remote.map(|r| r.id().to_owned()),
            configs: SecretConfigs(configs),
            created_ms: now_ms(),
        };
        let trial = self.links.try_out(record, skip_remote_check).await.map_err(|e| start_refusal(&e))?;
        if validate_only {
            self.links.discard(trial).await;
            return Ok(Outcome::LinkValid);
        }
        let _one_at_a_time = self.changes.lock().await;
        let record = self.links.keep(trial);
        let kept = record.clone();
        if let Err(error) = persist(&self.state, move |state| state.put_link(kept)).await {
            self.links.end(&record.name).await;
            return Err(internal(&error));
        }
        Ok(Outcome::LinkCreated(self.link_view(&record, &self.flow())))
    }

    async fn link_delete(&self, name: &str, force: bool) -> Result<Outcome, Refusal> {
        self.link(name)?;
        let mirrors: Vec<_> = self.mirrors_of(Some(name)).collect();
        let live: Vec<_> = mirrors.iter().filter(|(_, mirror)| is_live(mirror.status)).collect();
        if !live.is_empty() && !force {
            let names: Vec<_> = live.iter().take(5).map(|(topic, _)| topic.name.as_str()).collect();
            let message = format!(
                "Cluster link \"{name}\" has {} live mirror topics ({}): promote, fail over or delete them first, or use --force.",
                live.len(),
                names.join(", ")
            );
            return Err(Refusal::new(RefusalCode::LinkHasMirrors, message));
        }
        // Nothing fetches any more before the records change.
        self.links.end(name).await;
        for (topic, _) in live {
            let mut topic = TopicRecord::clone(topic);
            if let Some(mirror) = &mut topic.mirror {
                mirror.status = MirrorStatus::Failed;
                mirror.error = Some("LINK_DELETED".to_owned());
                mirror.status_since_ms = now_ms();
            }
            persist(&self.state, move |state| state.put_topic(topic)).await.map_err(|e| internal(&e))?;
        }
        let gone = name.to_owned();
        persist(&self.state, move |state| state.delete_link(&gone)).await.map_err(|e| internal(&e))?;
        self.links.part(name);
        Ok(Outcome::LinkDeleted)
    }

    async fn mirror_create(
        &self,
        link: &str,
        name: String,
        source: Option<String>,
        configs: BTreeMap<String, String>,
    ) -> Result<Outcome, Refusal> {
        let record = self.link(link)?;
        let config = self.link_config(&record)?;
        let invalid = |message: String| Refusal::new(RefusalCode::InvalidRequest, message);
        if !config.half.holds_mirrors() {
            return Err(invalid(format!(
                "Cluster link \"{link}\" is a source half: mirrors are made at the destination."
            )));
        }
        check_topic_name(&name).map_err(invalid)?;
        let prefix = &config.mirrors.prefix;
        let source = match source.or_else(|| name.strip_prefix(prefix.as_str()).map(str::to_owned)) {
            Some(source) if format!("{prefix}{source}") == name => source,
            _ => {
                return Err(Refusal::new(
                    RefusalCode::InvalidRequest,
                    format!("the mirror of a topic over \"{link}\" is named {prefix}TOPIC; renaming is not supported"),
                ));
            }
        };
        if self.state.topic(&name).is_some() {
            return Err(topic_exists(&name));
        }
        let cluster =
            self.links.source(link).ok_or_else(|| unavailable(&format!("Cluster link \"{link}\" is not running")))?;
        // One connection for these questions and those of the replicator: over a link each costs two logins.
        let client = cluster.lease(Target::Any).await.map_err(|e| remote_refusal(&e))?;
        let found = remote::topic(&client, &source).await.map_err(|e| remote_refusal(&e))?;
        let Some(found) = found else {
            let message = format!("The source has no topic '{source}', or this link may not see it.");
            return Err(Refusal::new(RefusalCode::SourceTopicNotFound, message));
        };
        let theirs = match remote::topic_configs(&client, &source).await {
            Err(RemoteError::Client(ClientError::Unsupported { .. })) => BTreeMap::new(),
            asked => asked.map_err(|e| remote_refusal(&e))?,
        };
        let mut kept: BTreeMap<String, String> = theirs
            .into_iter()
            .filter(|(key, (_, is_set))| *is_set && MIRRORED_CONFIGS.contains(&key.as_str()))
            .map(|(key, (value, _))| (key, value))
            .collect();
        kept.extend(configs);
        let partitions = i32::try_from(found.leaders.len()).map_err(|_| invalid("too many partitions".into()))?;
        let topic = TopicRecord {
            name,
            id: Uuid::new_v4(),
            partitions,
            configs: kept,
            mirror: Some(MirrorRecord {
                link: link.to_owned(),
                source_topic: source,
                source_topic_id: found.id,
                start_offset_spec: start_offset_spec(&record),
                started: [].into(),
                status: MirrorStatus::Active,
                error: None,
                status_since_ms: now_ms(),
            }),
        };
        // Asking the source took its time: what was checked before may have changed.
        let _one_at_a_time = self.changes.lock().await;
        self.link(link)?;
        if self.state.topic(&topic.name).is_some() {
            return Err(topic_exists(&topic.name));
        }
        let kept = topic.clone();
        persist(&self.state, move |state| state.put_topic(kept)).await.map_err(|e| internal(&e))?;
        self.links.add_mirror(&topic, client).await;
        let flow = self.flow();
        let view = topic.mirror.as_ref().map(|mirror| self.mirror_view(&topic, mirror, &flow).without_partitions());
        view.map(Outcome::MirrorCreated).ok_or_else(|| internal(&"the mirror is gone"))
    }

    fn mirror_list(&self, link: Option<&str>) -> Result<Outcome, Refusal> {
        if let Some(link) = link {
            self.link(link)?;
        }
        let flow = self.flow();
        let mirrors = self
            .mirrors_of(link)
            .map(|(topic, mirror)| self.mirror_view(&topic, &mirror, &flow).without_partitions())
            .collect();
        Ok(Outcome::Mirrors { mirrors })
    }

    fn mirror_describe(&self, name: &str, link: Option<&str>) -> Result<Outcome, Refusal> {
        let topic = self.state.topic(name);
        let found = topic.as_ref().and_then(|t| Some((t, t.mirror.as_ref()?)));
        match found.filter(|(_, mirror)| link.is_none_or(|link| mirror.link == link)) {
            Some((topic, mirror)) => Ok(Outcome::Mirror(self.mirror_view(topic, mirror, &self.flow()))),
            None => Err(Refusal::new(RefusalCode::MirrorNotFound, format!("There is no mirror topic '{name}'."))),
        }
    }

    fn verify_start(&self, link: &str, topics: &[String], follow: bool) -> Result<Outcome, Refusal> {
        self.link(link)?;
        let source =
            self.links.source(link).ok_or_else(|| unavailable(&format!("Cluster link \"{link}\" holds no mirrors")))?;
        let mirrors: Vec<_> = self.mirrors_of(Some(link)).collect();
        if let Some(missing) = topics.iter().find(|name| !mirrors.iter().any(|(topic, _)| topic.name == **name)) {
            let message = format!("There is no mirror topic '{missing}' on cluster link \"{link}\".");
            return Err(Refusal::new(RefusalCode::MirrorNotFound, message));
        }
        let chosen = mirrors.into_iter().filter(|(topic, _)| topics.is_empty() || topics.contains(&topic.name));
        let topics: Vec<_> = chosen
            .map(|(topic, mirror)| JobTopic {
                mirror: topic.name.clone(),
                source: mirror.source_topic,
                source_id: mirror.source_topic_id,
                partitions: topic.partitions,
            })
            .collect();
        if topics.is_empty() {
            let message = format!("Cluster link \"{link}\" has no mirror topics.");
            return Err(Refusal::new(RefusalCode::MirrorNotFound, message));
        }
        let job = Job { source, logs: self.logs.clone(), topics, follow };
        self.verifications.start(job).map(|verification| Outcome::VerifyStarted { verification })
    }

    /// Takes the name of a new link, so that nobody else makes one of that name meanwhile.
    fn reserve(&self, name: &LinkName) -> Result<Reserved<'_>, Refusal> {
        let taken = |how| Refusal::new(RefusalCode::LinkExists, format!("Cluster link \"{name}\" {how}."));
        let names = &self.being_made;
        if !lock(names).insert(name.as_str().to_owned()) {
            return Err(taken("is being created by another command"));
        }
        let reserved = Reserved { names, name: name.as_str().to_owned() };
        match self.state.link(name.as_str()) {
            Some(_) => Err(taken("already exists")),
            None => Ok(reserved),
        }
    }

    fn link(&self, name: &str) -> Result<LinkRecord, Refusal> {
        let message = || format!("Cluster link '{name}' does not exist.");
        self.state.link(name).ok_or_else(|| Refusal::new(RefusalCode::LinkNotFound, message()))
    }

    fn link_config(&self, record: &LinkRecord) -> Result<LinkConfig, Refusal> {
        let parsed = LinkConfig::parse(&link_properties(&record.name, &record.configs.0));
        parsed.map(|p| p.config).map_err(|e| Refusal::new(RefusalCode::InvalidLinkConfig, e.to_string()))
    }

    fn link_view(&self, record: &LinkRecord, flow: &Flow) -> LinkView {
        let liveness = self.links.liveness(&record.name);
        let config = self.link_config(record).ok();
        let half = config.as_ref().map(|c| c.half);
        let holds_mirrors = half.is_some_and(|h| h.holds_mirrors());
        let paused = config.as_ref().is_some_and(|c| c.mirrors.paused);
        let remote = liveness.remote_cluster_id.or_else(|| record.remote_cluster_id.clone());
        let shown = |(key, value): (&String, &String)| {
            (!hawser_link::catalogue::is_secret(key)).then(|| (key.clone(), value.clone()))
        };
        LinkView {
            link_name: record.name.clone(),
            link_id: liveness.link_id.or(record.id).map(kafka_uuid),
            link_mode: half.map(|h| h.link_mode().to_string()).unwrap_or_default(),
            connection_mode: half.map(|h| h.connection_mode().to_string()).unwrap_or_default(),
            local_cluster: self.cluster.known_id().unwrap_or_default(),
            source_cluster: remote.clone().filter(|_| holds_mirrors),
            destination_cluster: remote.clone().filter(|_| half.is_some() && !holds_mirrors),
            remote_cluster: remote,
            state: if paused { LinkState::Paused } else { liveness.state },
            error: liveness.error.to_owned(),
            error_message: liveness.error_message,
            members: liveness.members,
            mirror_partition_states_count: holds_mirrors.then(|| self.partition_states(&record.name, flow)),
            configs: record.configs.0.iter().filter_map(shown).collect(),
        }
    }

    /// The categories of the reference's `link describe`.
    fn partition_states(&self, link: &str, flow: &Flow) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<String, u64> =
            ["ACTIVE", "PAUSED", "PENDING", "IN_ERROR", "UNKNOWN"].map(|state| (state.to_owned(), 0)).into();
        for (topic, mirror) in self.mirrors_of(Some(link)) {
            let view = self.mirror_view(&topic, &mirror, flow);
            for partition in &view.partitions {
                let category = match mirror.status {
                    MirrorStatus::Failed => "IN_ERROR",
                    MirrorStatus::Paused => "PAUSED",
                    MirrorStatus::PendingMirror | MirrorStatus::PendingStopped => "PENDING",
                    MirrorStatus::Stopped => continue,
                    MirrorStatus::Active if partition.state == "FAILED" => "IN_ERROR",
                    MirrorStatus::Active if partition.last_source_high_watermark < 0 => "UNKNOWN",
                    MirrorStatus::Active => "ACTIVE",
                };
                *counts.entry(category.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    fn mirror_view(&self, topic: &TopicRecord, mirror: &MirrorRecord, flow: &Flow) -> MirrorView {
        let status = flow.topic(mirror, &topic.name);
        let partitions: Vec<_> = (0..topic.partitions)
            .map(|index| {
                let fetch = status.and_then(|s| s.partitions.iter().find(|p| p.partition == index));
                self.partition_view(topic, fetch, index)
            })
            .collect();
        let lag = partitions.iter().map(|p| p.partition_mirror_lag).max().unwrap_or(-1);
        MirrorView {
            link_name: mirror.link.clone(),
            mirror_topic_name: topic.name.clone(),
            source_topic_name: mirror.source_topic.clone(),
            mirror_status: shown_status(mirror.status, status).to_owned(),
            mirror_topic_error: mirror.error.clone(),
            status_time_ms: mirror.status_since_ms,
            num_partition: topic.partitions,
            max_per_partition_mirror_lag: lag,
            partitions,
        }
    }

    fn partition_view(&self, topic: &TopicRecord, fetch: Option<&PartitionStatus>, index: i32) -> MirrorPartitionView {
        let log = self.logs.partition(&TopicPartition::new(topic.name.as_str(), index));
        let marks = log.as_ref().map(|log| log.watermarks());
        let (log_start, log_end) = marks.map_or((0, 0), |m| (m.log_start.0, m.log_end.0));
        let reason = |f: &PartitionStatus| {
            f.failure.as_ref().map(ToString::to_string).or_else(|| f.trouble.as_ref().map(ToString::to_string))
        };
        let high_watermark = fetch.and_then(|f| f.source_high_watermark);
        MirrorPartitionView {
            partition: index,
            state: fetch.map_or("UNKNOWN", |f| shown_phase(f.phase)).to_owned(),
            reason: fetch.and_then(reason),
            log_start_offset: log_start,
            log_end_offset: log_end,
            last_source_high_watermark: high_watermark.map_or(-1, |hw| hw.0),
            partition_mirror_lag: fetch.and_then(|f| f.lag_records).unwrap_or(-1),
            partition_mirror_lag_ms: fetch.and_then(|f| f.lag_ms),
            last_source_fetch_offset: high_watermark.map_or(-1, |_| log_end),
            time_since_last_fetch_ms: fetch
                .and_then(|f| f.last_fetch_ms)
                .map(|at| (now_ms() - at).max(0).unsigned_abs()),
            size_bytes: log.map_or(0, |log| log.size_bytes()),
        }
    }

    fn mirrors_of(&self, link: Option<&str>) -> impl Iterator<Item = (Arc<TopicRecord>, MirrorRecord)> {
        let topics = self.state.topics().into_iter();
        let mirrors = topics.filter_map(|topic| topic.mirror.clone().map(|mirror| (topic, mirror)));
        mirrors.filter(move |(_, mirror)| link.is_none_or(|link| mirror.link == link))
    }

    /// Every mirror with its partitions, for metrics.
    pub(crate) fn mirrors(&self) -> Vec<MirrorView> {
        let flow = self.flow();
        self.mirrors_of(None).map(|(topic, mirror)| self.mirror_view(&topic, &mirror, &flow)).collect()
    }

    /// One glance at every link's fetchers.
    fn flow(&self) -> Flow {
        let links = self.state.links().into_iter();
        let statuses = links.filter_map(|link| self.links.replication(&link.name).map(|status| (link.name, status)));
        Flow(statuses.map(|(name, status)| (name, by_name(status))).collect())
    }

    /// Every link.
    pub(crate) fn links(&self) -> Vec<LinkView> {
        let flow = self.flow();
        self.state.links().iter().map(|l| self.link_view(l, &flow)).collect()
    }
}

/// How all mirrors stand with their fetchers, by link and by the topic's name here.
struct Flow(BTreeMap<String, BTreeMap<Arc<str>, TopicStatus>>);

impl Flow {
    fn topic(&self, mirror: &MirrorRecord, name: &str) -> Option<&TopicStatus> {
        self.0.get(&mirror.link)?.get(name)
    }
}

fn by_name(status: LinkStatus) -> BTreeMap<Arc<str>, TopicStatus> {
    status.topics.into_iter().map(|topic| (topic.topic.clone(), topic)).collect()
}

/// The status as the reference names it: what was decided, and while ACTIVE what is seen.
fn shown_status(decided: MirrorStatus, seen: Option<&TopicStatus>) -> &'static str {
    match (decided, seen.map(|s| &s.state)) {
        (MirrorStatus::Active, Some(TopicState::SourceUnavailable(_))) => "SOURCE_UNAVAILABLE",
        (MirrorStatus::Active, Some(TopicState::Failed(_))) | (MirrorStatus::Failed, _) => "FAILED",
        (MirrorStatus::Active, _) => "ACTIVE",
        (MirrorStatus::PendingMirror, _) => "PENDING_MIRROR",
        (MirrorStatus::Paused, _) => "PAUSED",
        (MirrorStatus::PendingStopped, _) => "PENDING_STOPPED",
        (MirrorStatus::Stopped, _) => "STOPPED",
    }
}

fn shown_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "STARTING",
        Phase::Fetching => "FETCHING",
        Phase::Waiting => "WAITING",
        Phase::Paused => "PAUSED",
        Phase::Failed => "FAILED",
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

fn start_offset_spec(record: &LinkRecord) -> String {
    let spec = record.configs.0.get("mirror.start.offset.spec");
    spec.map_or("earliest", |s| s.trim()).to_owned()
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_live(status: MirrorStatus) -> bool {
    !matches!(status, MirrorStatus::Stopped | MirrorStatus::Failed)
}

/// Kafka's rule (`Topic.validate`).
fn check_topic_name(name: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !matches!(name, "" | "." | "..") && name.len() <= TOPIC_NAME_MAX && name.bytes().all(legal) {
        return Ok(());
    }
    Err(format!("not a topic name: 1 to {TOPIC_NAME_MAX} of the characters a-z A-Z 0-9 . _ -, and not \".\" or \"..\""))
}

fn topic_exists(name: &str) -> Refusal {
    Refusal::new(RefusalCode::TopicExists, format!("Topic '{name}' already exists."))
}

fn start_refusal(error: &StartError) -> Refusal {
    let code = match error {
        StartError::Config(_) => RefusalCode::InvalidLinkConfig,
        StartError::NoSuchRemoteLink(_) => RefusalCode::RemoteLinkNotFound,
        StartError::Refused(_) => RefusalCode::RemoteRefused,
        StartError::Unavailable(_) => RefusalCode::LinkUnavailable,
    };
    Refusal::new(code, error.to_string())
}

fn remote_refusal(error: &RemoteError) -> Refusal {
    match error {
        RemoteError::Lease(error) => unavailable(error),
        error => Refusal::new(RefusalCode::LinkUnavailable, error.to_string()),
    }
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
