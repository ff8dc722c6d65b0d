//! Operations on mirror topics: making and showing them.

use super::{Service, internal, now_ms, unavailable};
use crate::operations::{Outcome, Refusal, RefusalCode};
use crate::remote::{self, RemoteTopic};
use hawser_broker::{ApiError, Layout, NewTopic, check_topic_name};
use hawser_link::config::StartOffset;
use hawser_link::topic_configs;
use hawser_state::{LinkRecord, MirrorRecord};
use hawser_sync::{SetBy, SourceError, TopicConfigs};
use hawser_transport::{ClientError, KafkaClient, Target};
use hawser_wire::ResponseError;
use std::collections::{BTreeMap, BTreeSet};

impl Service {
    pub(super) async fn mirror_create(&self, link: &str, wanted: WantedMirror) -> Result<Outcome, Refusal> {
        let record = self.link(link)?;
        let config = self.link_config(&record)?;
        let invalid = |message: String| Refusal::new(RefusalCode::InvalidRequest, message);
        if !config.half.holds_mirrors() {
            return Err(invalid(format!(
                "Cluster link \"{link}\" is a source half: mirrors are made at the destination."
            )));
        }
        let WantedMirror { mirror_topic, source_topic, configs, replication_factor, start } = wanted;
        let (name, source) = names(link, &config.mirrors.prefix, mirror_topic, source_topic)?;
        check_topic_name(&name).map_err(invalid)?;
        check_replication_factor(replication_factor)?;
        check_overrides(&name, &configs, &config.mirrors.config_include)?;
        self.topics.check_new_configs(&configs).map_err(topic_refusal)?;
        let start = start.unwrap_or_else(|| start_offset_spec(&record));
        if StartOffset::parse(&start).is_none() {
            return Err(invalid(format!(
                "mirror.start.offset.spec={start} is neither earliest, latest nor an instant such as 2026-01-31T12:00:00Z"
            )));
        }
        self.refuse_if_exists(&name)?;
        let within = config.connection.api_timeout;
        let late = || {
            unavailable(&format!("The source did not tell of '{source}' within {within:?} (default.api.timeout.ms)."))
        };
        let asked = tokio::time::timeout(within, self.ask_source(&record, &source)).await;
        let SourceTopic { client, found, theirs, source_clusters } = asked.unwrap_or_else(|_| Err(late()))?;
        let mut kept: BTreeMap<String, String> = theirs
            .into_iter()
            .filter(|(key, c)| c.set_by == SetBy::Topic && config.mirrors.config_include.contains(key.as_str()))
            .map(|(key, config)| (key, config.value))
            .collect();
        kept.extend(configs);
        let partitions = i32::try_from(found.leaders.len()).map_err(|_| invalid("too many partitions".into()))?;
        let mirror = MirrorRecord::new(link, &source, found.id, now_ms());
        let mirror = MirrorRecord { start_offset_spec: start, source_clusters, ..mirror };
        let topic = NewTopic { name, layout: Layout::count(partitions), configs: kept, mirror: Some(mirror) };
        // Asking the source took its time: what was checked before may have changed.
        let _one_at_a_time = self.changes.lock().await;
        self.link(link)?;
        self.refuse_if_exists(&topic.name)?;
        let topic = self.topics.create(topic, false).await.map_err(topic_refusal)?;
        self.links.add_mirror(&topic, client).await;
        let flow = self.flow();
        let view = topic.mirror.as_ref().map(|mirror| self.mirror_view(&topic, mirror, &flow).without_partitions());
        view.map(Outcome::MirrorCreated).ok_or_else(|| internal(&"the mirror is gone"))
    }

    /// What the source of link `record` tells of its topic `source`.
    async fn ask_source(&self, record: &LinkRecord, source: &str) -> Result<SourceTopic, Refusal> {
        let link = record.name.as_str();
        let cluster =
            self.links.source(link).ok_or_else(|| unavailable(&format!("Cluster link \"{link}\" is not running")))?;
        // One connection for these questions and those of the replicator: over a link each costs two logins.
        let client = cluster.lease(Target::Any).await.map_err(|e| source_refusal(&SourceError::Lease(e)))?;
        let found = remote::topic(&client, source).await.map_err(|e| source_refusal(&e))?;
        let Some(found) = found else {
            let message = format!("The source has no topic '{source}', or this link may not see it.");
            return Err(Refusal::new(RefusalCode::SourceTopicNotFound, message));
        };
        let theirs = match remote::topic_configs(&client, source).await {
            Err(SourceError::Client(ClientError::Unsupported { .. })) => BTreeMap::new(),
            asked => asked.map_err(|e| source_refusal(&e))?,
        };
        let known = self.links.liveness(link).remote_cluster_id.or_else(|| record.remote_cluster_id.clone());
        let source_cluster = match known {
            Some(id) => id,
            None => remote::cluster_id(&client).await.map_err(|e| source_refusal(&e))?,
        };
        let came_through = theirs.get(topic_configs::SOURCE_CLUSTERS).map_or("", |config| config.value.as_str());
        let source_clusters = topic_configs::source_clusters(came_through, &source_cluster);
        Ok(SourceTopic { client, found, theirs, source_clusters })
    }

    fn refuse_if_exists(&self, name: &str) -> Result<(), Refusal> {
        let Some(topic) = self.state.topic(name) else { return Ok(()) };
        let what = match &topic.mirror {
            Some(mirror) => format!(" It is the mirror of '{}' over \"{}\".", mirror.source_topic, mirror.link),
            None => String::new(),
        };
        Err(Refusal::new(RefusalCode::TopicExists, format!("Topic '{name}' already exists.{what}")))
    }

    pub(super) fn mirror_list(&self, link: Option<&str>, partitions: bool) -> Result<Outcome, Refusal> {
        if let Some(link) = link {
            self.link(link)?;
        }
        let flow = self.flow();
        let mirrors = self
            .mirrors_of(link)
            .map(|(topic, mirror)| self.mirror_view(&topic, &mirror, &flow))
            .map(|view| if partitions { view } else { view.without_partitions() })
            .collect();
        Ok(Outcome::Mirrors { mirrors })
    }

    pub(super) fn mirror_describe(&self, name: &str, link: Option<&str>) -> Result<Outcome, Refusal> {
        let topic = self.state.topic(name);
        let found = topic.as_ref().and_then(|t| Some((t, t.mirror.as_ref()?)));
        match found.filter(|(_, mirror)| link.is_none_or(|link| mirror.link == link)) {
            Some((topic, mirror)) => Ok(Outcome::Mirror(self.mirror_view(topic, mirror, &self.flow()))),
            None => Err(Refusal::new(RefusalCode::MirrorNotFound, format!("There is no mirror topic '{name}'."))),
        }
    }
}

/// A topic of the source, as a mirror of it is made.
struct SourceTopic {
    /// That told it.
    client: KafkaClient,
    found: RemoteTopic,
    theirs: TopicConfigs,
    /// See [`topic_configs::SOURCE_CLUSTERS`].
    source_clusters: Vec<String>,
}

/// What an operator wants mirrored.
#[derive(Default)]
pub(super) struct WantedMirror {
    pub(super) mirror_topic: Option<String>,
    pub(super) source_topic: Option<String>,
    pub(super) configs: BTreeMap<String, String>,
    pub(super) replication_factor: Option<i16>,
    /// `mirror.start.offset.spec`.
    pub(super) start: Option<String>,
}

/// The source does not tell what a mirror needs to know: for now, or until somebody there acts.
fn source_refusal(error: &SourceError) -> Refusal {
    let code = if error.is_retriable() { RefusalCode::LinkUnavailable } else { RefusalCode::RemoteRefused };
    let hint = match error {
        SourceError::Answer { error: ResponseError::TopicAuthorizationFailed, .. } => {
            ": the link's login needs READ and DESCRIBE_CONFIGS on the topic at the source"
        }
        _ => "",
    };
    Refusal::new(code, format!("{error}{hint}"))
}

fn start_offset_spec(record: &LinkRecord) -> String {
    let spec = record.configs.0.get("mirror.start.offset.spec");
    spec.map_or("earliest", |s| s.trim()).to_owned()
}

fn topic_refusal(error: ApiError) -> Refusal {
    let code = match error.code {
        ResponseError::TopicAlreadyExists => RefusalCode::TopicExists,
        ResponseError::InvalidConfig => RefusalCode::InvalidTopicConfig,
        ResponseError::KafkaStorageError | ResponseError::UnknownServerError => return internal(&error),
        _ => RefusalCode::InvalidRequest,
    };
    Refusal::new(code, error.message)
}

/// Name here and name at the source.
fn names(
    link: &str,
    prefix: &str,
    mirror: Option<String>,
    source: Option<String>,
) -> Result<(String, String), Refusal> {
    let source = match (&mirror, source) {
        (_, Some(source)) => source,
        (Some(mirror), None) => mirror.strip_prefix(prefix).unwrap_or(mirror).to_owned(),
        (None, None) => {
            return Err(Refusal::new(RefusalCode::InvalidRequest, "Name the source topic, the mirror topic, or both."));
        }
    };
    let due = format!("{prefix}{source}");
    match mirror {
        Some(mirror) if mirror != due => {
            let message = format!(
                "Topic renaming for mirroring is not yet supported: over \"{link}\" the mirror of '{source}' is named '{due}', not '{mirror}'."
            );
            Err(Refusal::new(RefusalCode::TopicRenamingUnsupported, message))
        }
        _ => Ok((due, source)),
    }
}

fn check_replication_factor(wanted: Option<i16>) -> Result<(), Refusal> {
    match wanted {
        None | Some(-1 | 1) => Ok(()),
        Some(wanted) => {
            let message = format!(
                "Replication factor {wanted}: the embedded store keeps one replica; use 1, or −1 for the default."
            );
            Err(Refusal::new(RefusalCode::InvalidReplicationFactor, message))
        }
    }
}

/// Settings that are always the source's, or whose copies the link's settings ask for, cannot be set here.
fn check_overrides(
    name: &str,
    configs: &BTreeMap<String, String>,
    include: &BTreeSet<&'static str>,
) -> Result<(), Refusal> {
    let is_synced = |key: &&str| topic_configs::ALWAYS.contains(key) || include.contains(key);
    let taken: Vec<_> = configs.keys().map(String::as_str).filter(is_synced).collect();
    if taken.is_empty() {
        return Ok(());
    }
    let remedy = match taken.iter().any(|key| !topic_configs::ALWAYS.contains(key)) {
        true => "Leave them out, or out of topic.config.sync.include where that lists them.",
        false => "Leave them out: they are the source's on every mirror.",
    };
    let taken = taken.join(", ");
    let message = format!("Cannot modify mirror topic {name} because '{taken}' are set to always sync. {remedy}");
    Err(Refusal::new(RefusalCode::InvalidTopicConfig, message))
}
