//! Operations on mirror topics: making and showing them.

use super::{Service, internal, now_ms, remote_refusal, unavailable};
use crate::operations::{Outcome, Refusal, RefusalCode};
use crate::remote::{self, RemoteError};
use hawser_broker::{Layout, NewTopic, TopicError, check_topic_name};
use hawser_state::{LinkRecord, MirrorRecord, MirrorStatus};
use hawser_transport::{ClientError, Target};
use hawser_wire::ResponseError;
use std::collections::BTreeMap;

impl Service {
    pub(super) async fn mirror_create(
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
        let topic = NewTopic {
            name,
            layout: Layout::count(partitions),
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
        let topic = self.topics.create(topic, false).await.map_err(topic_refusal)?;
        self.links.add_mirror(&topic, client).await;
        let flow = self.flow();
        let view = topic.mirror.as_ref().map(|mirror| self.mirror_view(&topic, mirror, &flow).without_partitions());
        view.map(Outcome::MirrorCreated).ok_or_else(|| internal(&"the mirror is gone"))
    }

    pub(super) fn mirror_list(&self, link: Option<&str>) -> Result<Outcome, Refusal> {
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

    pub(super) fn mirror_describe(&self, name: &str, link: Option<&str>) -> Result<Outcome, Refusal> {
        let topic = self.state.topic(name);
        let found = topic.as_ref().and_then(|t| Some((t, t.mirror.as_ref()?)));
        match found.filter(|(_, mirror)| link.is_none_or(|link| mirror.link == link)) {
            Some((topic, mirror)) => Ok(Outcome::Mirror(self.mirror_view(topic, mirror, &self.flow()))),
            None => Err(Refusal::new(RefusalCode::MirrorNotFound, format!("There is no mirror topic '{name}'."))),
        }
    }
}

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

fn start_offset_spec(record: &LinkRecord) -> String {
    let spec = record.configs.0.get("mirror.start.offset.spec");
    spec.map_or("earliest", |s| s.trim()).to_owned()
}

fn topic_refusal(error: TopicError) -> Refusal {
    let code = match error.code {
        ResponseError::TopicAlreadyExists => RefusalCode::TopicExists,
        ResponseError::KafkaStorageError | ResponseError::UnknownServerError => return internal(&error),
        _ => RefusalCode::InvalidRequest,
    };
    Refusal::new(code, error.message)
}

fn topic_exists(name: &str) -> Refusal {
    Refusal::new(RefusalCode::TopicExists, format!("Topic '{name}' already exists."))
}
