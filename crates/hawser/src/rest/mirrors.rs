//! `/clusters/{cluster_id}/links/{link_name}/mirrors`: mirror topics, and what can be done to them.

use super::answer::{Answer, List, Resource};
use super::error::status_and_code;
use super::links::{Config, settings};
use super::{Asked, Error, segment, unexpected};
use crate::operations::{Absent, AlteredMirror, MirrorAction, MirrorLag, MirrorView, Operation, Outcome};
use hawser_link::mirror::STATUSES;
use serde::{Deserialize, Serialize};

/// `KafkaMirrorData`
#[derive(Serialize)]
struct Mirror {
    link_name: String,
    mirror_topic_name: String,
    source_topic_name: String,
    num_partitions: i32,
    mirror_lags: Vec<MirrorLag>,
    mirror_status: String,
    mirror_topic_error: String,
    state_time_ms: i64,
    /// What keeps a promotion from its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror_state_transition_errors: Option<Vec<TransitionError>>,
}

#[derive(Serialize)]
struct TransitionError {
    error_code: String,
    error_message: String,
}

/// `AlterMirrorsData`
#[derive(Serialize)]
struct Altered {
    mirror_topic_name: String,
    error_code: Option<u32>,
    error_message: Option<String>,
    mirror_lags: Vec<MirrorLag>,
    /// Of truncations, which Hawser does not have.
    messages_truncated: Option<i64>,
    partition_level_truncation_data: [(); 0],
}

/// `CreateMirrorTopicRequestData`
#[derive(Deserialize)]
struct Create {
    source_topic_name: String,
    mirror_topic_name: Option<String>,
    replication_factor: Option<i16>,
    #[serde(default)]
    configs: Option<Vec<Config>>,
}

/// `AlterMirrorsRequestData`
#[derive(Deserialize)]
struct Alter {
    mirror_topic_names: Option<Vec<String>>,
    mirror_topic_name_pattern: Option<String>,
}

/// `GET …/links/{link_name}/mirrors`
pub(super) async fn list(asked: Asked) -> Result<Answer, Error> {
    let link = asked.link();
    let at = asked.at(&format!("/links/{}/mirrors", segment(&link)));
    list_of(asked, Some(link), at).await
}

/// `GET …/links/-/mirrors`
pub(super) async fn list_all(asked: Asked) -> Result<Answer, Error> {
    let at = asked.at("/links/-/mirrors");
    list_of(asked, None, at).await
}

async fn list_of(asked: Asked, link: Option<String>, at: String) -> Result<Answer, Error> {
    let status = asked.query.get("mirror_status").filter(|s| !s.is_empty()).map(|s| s.to_ascii_uppercase());
    if let Some(status) = status.as_ref().filter(|status| !STATUSES.contains(&status.as_str())) {
        return Err(Error::unreadable(format!("mirror_status={status}: expected one of {}", STATUSES.join(", "))));
    }
    let Outcome::Mirrors { mirrors } = asked.operate(Operation::MirrorList { link, partitions: true }).await? else {
        return Err(unexpected());
    };
    let wanted = mirrors.into_iter().filter(|m| status.as_ref().is_none_or(|status| m.mirror_status == *status));
    let mirrors = wanted.map(|mirror| resource(&asked, mirror, false)).collect();
    Answer::json(&List::new("KafkaMirrorDataList", at, mirrors))
}

/// `GET …/links/{link_name}/mirrors/{mirror_topic_name}`
pub(super) async fn get(asked: Asked) -> Result<Answer, Error> {
    let include_errors = asked.flag("include_state_transition_errors", false)?;
    // A missing link is another error than a missing mirror.
    asked.operate(Operation::LinkDescribe { link: asked.link() }).await?;
    let operation =
        Operation::MirrorDescribe { mirror_topic: asked.named("mirror_topic_name"), link: Some(asked.link()) };
    match asked.operate(operation).await? {
        Outcome::Mirror(mirror) => Answer::json(&resource(&asked, mirror, include_errors)),
        _ => Err(unexpected()),
    }
}

/// `POST …/links/{link_name}/mirrors`
pub(super) async fn create(asked: Asked) -> Result<Answer, Error> {
    let body: Create = asked.body()?;
    let operation = Operation::MirrorCreate {
        link: asked.link(),
        mirror_topic: body.mirror_topic_name.filter(|name| !name.is_empty()),
        source_topic: Some(body.source_topic_name),
        configs: settings(body.configs.as_deref().unwrap_or_default()),
        replication_factor: body.replication_factor,
        mirror_start_offset_spec: None,
    };
    match asked.operate(operation).await? {
        Outcome::MirrorCreated(_) => Ok(Answer::no_content()),
        _ => Err(unexpected()),
    }
}

/// `POST …/mirrors:promote`
pub(super) async fn promote(asked: Asked) -> Result<Answer, Error> {
    alter(asked, MirrorAction::Promote, "promote").await
}

/// `POST …/mirrors:failover`
pub(super) async fn failover(asked: Asked) -> Result<Answer, Error> {
    alter(asked, MirrorAction::Failover, "failover").await
}

/// `POST …/mirrors:pause`
pub(super) async fn pause(asked: Asked) -> Result<Answer, Error> {
    alter(asked, MirrorAction::Pause, "pause").await
}

/// `POST …/mirrors:resume`
pub(super) async fn resume(asked: Asked) -> Result<Answer, Error> {
    alter(asked, MirrorAction::Resume, "resume").await
}

/// `POST …/mirrors:reverse-and-start-mirror`, and its older name.
pub(super) async fn reverse_and_start(_: Asked) -> Result<Answer, Error> {
    Err(Absent::ReverseAndStart.refusal().into())
}

/// `POST …/mirrors:reverse-and-pause-mirror`, and its older name.
pub(super) async fn reverse_and_pause(_: Asked) -> Result<Answer, Error> {
    Err(Absent::ReverseAndPause.refusal().into())
}

/// `POST …/mirrors:truncate-and-restore`
pub(super) async fn truncate_and_restore(_: Asked) -> Result<Answer, Error> {
    Err(Absent::TruncateAndRestore.refusal().into())
}

async fn alter(asked: Asked, action: MirrorAction, verb: &str) -> Result<Answer, Error> {
    let validate_only = asked.flag("validate_only", false)?;
    let Alter { mirror_topic_names, mirror_topic_name_pattern: pattern } = asked.body()?;
    let (topics, pattern) = match (mirror_topic_names.filter(|n| !n.is_empty()), pattern.filter(|p| !p.is_empty())) {
        (Some(topics), None) => (topics, None),
        (None, Some(pattern)) => (Vec::new(), Some(pattern)),
        _ => {
            return Err(Error::unreadable("Expected one of mirror_topic_names and mirror_topic_name_pattern."));
        }
    };
    let link = asked.link();
    let operation = Operation::MirrorAlter { link: Some(link.clone()), action, topics, pattern, validate_only };
    let Outcome::MirrorsAltered { results } = asked.operate(operation).await? else { return Err(unexpected()) };
    let at = |topic: &str| asked.at(&format!("/links/{}/mirrors/{}", segment(&link), segment(topic)));
    let results = results.into_iter().map(|result| {
        let at = at(&result.mirror_topic_name);
        Resource::new("AlterMirrorsData", at, altered(result))
    });
    let all = asked.at(&format!("/links/{}/mirrors:{verb}", segment(&link)));
    Answer::json(&List::new("KafkaPromoteMirror", all, results.collect()))
}

fn altered(result: AlteredMirror) -> Altered {
    Altered {
        mirror_topic_name: result.mirror_topic_name,
        error_code: result.error_code.map(|code| status_and_code(code).1),
        error_message: result.error_message,
        mirror_lags: result.mirror_lags,
        messages_truncated: None,
        partition_level_truncation_data: [],
    }
}

fn resource(asked: &Asked, mirror: MirrorView, include_errors: bool) -> Resource<Mirror> {
    let (link, topic) = (segment(&mirror.link_name), segment(&mirror.mirror_topic_name));
    let data = Mirror {
        mirror_lags: mirror.partitions.iter().map(MirrorLag::from).collect(),
        link_name: mirror.link_name,
        mirror_topic_name: mirror.mirror_topic_name,
        source_topic_name: mirror.source_topic_name,
        num_partitions: mirror.num_partition,
        mirror_status: mirror.mirror_status,
        mirror_topic_error: mirror.mirror_topic_error.unwrap_or_else(|| "NO_ERROR".to_owned()),
        state_time_ms: mirror.status_time_ms,
        mirror_state_transition_errors: include_errors.then(|| {
            let waits = mirror.waits_for.into_iter();
            waits.map(|w| TransitionError { error_code: w.condition, error_message: w.reason }).collect()
        }),
    };
    Resource::new("KafkaMirrorData", asked.at(&format!("/links/{link}/mirrors/{topic}")), data)
}
