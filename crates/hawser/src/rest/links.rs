//! `/clusters/{cluster_id}/links`: making, showing and deleting links.

use super::answer::{Answer, List, Resource};
use super::{Asked, Error, segment, unexpected};
use crate::operations::{LinkView, MirrorView, Operation, Outcome, RemoteCluster, TaskErrorView, TaskView};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hawser_link::{LinkMode, LinkName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// `KafkaLinkData`
#[derive(Serialize)]
struct Link {
    source_cluster_id: Option<String>,
    destination_cluster_id: Option<String>,
    remote_cluster_id: Option<String>,
    link_name: String,
    /// As older clients know it: a UUID's text.
    link_id: String,
    /// As Kafka writes a UUID.
    cluster_link_id: String,
    topic_names: Vec<String>,
    link_state: String,
    link_error: String,
    link_error_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Vec<Task>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category_counts: Option<Vec<CategoryCount>>,
}

/// What a link does besides replicating: name, state and errors as in the reference, then what is our own.
#[derive(Serialize)]
struct Task {
    task_name: String,
    state: String,
    errors: Vec<TaskErrorView>,
    last_run_ms: Option<i64>,
    last_duration_ms: Option<u64>,
    runs: u64,
    changed: u64,
    examined: u64,
    skipped: u64,
    skipped_reasons: Vec<String>,
}

#[derive(Serialize)]
struct CategoryCount {
    state_category: String,
    count: u64,
}

/// `CreateLinkRequestData`
#[derive(Deserialize)]
struct Create {
    source_cluster_id: Option<String>,
    destination_cluster_id: Option<String>,
    remote_cluster_id: Option<String>,
    cluster_link_id: Option<String>,
    #[serde(default)]
    configs: Option<Vec<Config>>,
}

/// A setting, of a link or a topic.
#[derive(Deserialize)]
pub(super) struct Config {
    name: String,
    /// `null` leaves the default.
    value: Option<String>,
}

/// `GET /clusters/{cluster_id}/links`
pub(super) async fn list(asked: Asked) -> Result<Answer, Error> {
    let Outcome::Links { links } = asked.operate(Operation::LinkList).await? else { return Err(unexpected()) };
    let mirrors = mirrors(&asked, None).await?;
    let links = links.into_iter().map(|link| resource(&asked, link, &mirrors, false)).collect();
    Answer::json(&List::new("KafkaLinkDataList", asked.at("/links"), links))
}

/// `GET /clusters/{cluster_id}/links/{link_name}`
pub(super) async fn get(asked: Asked) -> Result<Answer, Error> {
    let include_tasks = asked.flag("include_tasks", false)?;
    let link = view(&asked).await?;
    let mirrors = mirrors(&asked, Some(asked.link())).await?;
    Answer::json(&resource(&asked, link, &mirrors, include_tasks))
}

/// `POST /clusters/{cluster_id}/links?link_name=…`
pub(super) async fn create(asked: Asked) -> Result<Answer, Error> {
    let link = asked.query.get("link_name").map(String::as_str).unwrap_or_default();
    let link = LinkName::new(link).map_err(|why| Error::unreadable(format!("Invalid Cluster Link Name. {why}")))?;
    let link = link.as_str().to_owned();
    let (validate_only, validate_link) = (asked.flag("validate_only", false)?, asked.flag("validate_link", true)?);
    let body: Create = asked.body()?;
    if body.cluster_link_id.as_ref().is_some_and(|id| !id.is_empty()) {
        return Err(Error::invalid(
            "Unexpected cluster link id: only a bidirectional link takes one, and Hawser has none.",
        ));
    }
    let configs = settings(body.configs.as_deref().unwrap_or_default());
    let remote = remote(
        &asked.cluster_id,
        &configs,
        [body.source_cluster_id, body.destination_cluster_id, body.remote_cluster_id],
    )?;
    let operation = Operation::LinkCreate { link, configs, remote, validate_only, skip_remote_check: !validate_link };
    match asked.operate(operation).await? {
        Outcome::LinkCreated { warnings, .. } | Outcome::LinkValid { warnings } => {
            Ok(Answer::no_content().warned(warnings))
        }
        _ => Err(unexpected()),
    }
}

/// `DELETE /clusters/{cluster_id}/links/{link_name}`
pub(super) async fn delete(asked: Asked) -> Result<Answer, Error> {
    let (force, validate_only) = (asked.flag("force", false)?, asked.flag("validate_only", false)?);
    match asked.operate(Operation::LinkDelete { link: asked.link(), force, validate_only }).await? {
        Outcome::LinkDeleted | Outcome::LinkValid { .. } => Ok(Answer::empty()),
        _ => Err(unexpected()),
    }
}

/// The settings of a body; the later of two of one name wins.
pub(super) fn settings(configs: &[Config]) -> BTreeMap<String, String> {
    configs.iter().filter_map(|config| Some((config.name.clone(), config.value.clone()?))).collect()
}

/// Which cluster is the other one. A body may name both sides, one of them this cluster; and examples of this API name
/// the other side of a destination half in `destination_cluster_id`.
fn remote(
    own: &str,
    configs: &BTreeMap<String, String>,
    named: [Option<String>; 3],
) -> Result<Option<RemoteCluster>, Error> {
    let [source, destination, other] = named.map(|id| id.filter(|id| !id.is_empty()));
    let (source, destination) = (source.filter(|id| id != own), destination.filter(|id| id != own));
    let is_source_half = configs.get("link.mode").is_some_and(|mode| mode.parse() == Ok(LinkMode::Source));
    match (source, destination, other) {
        (None, None, None) => Ok(None),
        (Some(id), None, None) => Ok(Some(RemoteCluster::Source(id))),
        (None, Some(id), None) if is_source_half => Ok(Some(RemoteCluster::Destination(id))),
        (None, Some(id), None) | (None, None, Some(id)) => Ok(Some(RemoteCluster::Other(id))),
        _ => Err(Error::invalid(
            "More than one other cluster is named: give one of source_cluster_id, destination_cluster_id, remote_cluster_id.",
        )),
    }
}

async fn view(asked: &Asked) -> Result<LinkView, Error> {
    match asked.operate(Operation::LinkDescribe { link: asked.link() }).await? {
        Outcome::Link(link) => Ok(link),
        _ => Err(unexpected()),
    }
}

async fn mirrors(asked: &Asked, link: Option<String>) -> Result<Vec<MirrorView>, Error> {
    match asked.operate(Operation::MirrorList { link, partitions: false }).await? {
        Outcome::Mirrors { mirrors } => Ok(mirrors),
        _ => Err(unexpected()),
    }
}

fn resource(asked: &Asked, link: LinkView, mirrors: &[MirrorView], include_tasks: bool) -> Resource<Link> {
    let at = asked.at(&format!("/links/{}", segment(&link.link_name)));
    let id = link.link_id.unwrap_or_default();
    let of = mirrors.iter().filter(|mirror| mirror.link_name == link.link_name);
    let topic_names = of.map(|mirror| mirror.mirror_topic_name.clone()).collect();
    let counts = link.mirror_partition_states_count.map(|counts| {
        counts.into_iter().map(|(state_category, count)| CategoryCount { state_category, count }).collect()
    });
    let data = Link {
        source_cluster_id: link.source_cluster,
        destination_cluster_id: link.destination_cluster,
        remote_cluster_id: link.remote_cluster,
        link_name: link.link_name,
        link_id: uuid_text(&id),
        cluster_link_id: id,
        topic_names,
        link_state: link.state.to_string(),
        link_error: link.error,
        link_error_message: link.error_message,
        tasks: include_tasks.then(|| link.tasks.into_iter().map(task).collect()),
        category_counts: counts,
    };
    Resource::new("KafkaLinkData", at, data)
}

/// A UUID in Kafka's writing as RFC 9562 writes it; a half that has not learnt its link's id has none.
fn uuid_text(id: &str) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(id).unwrap_or_default();
    Uuid::from_slice(&bytes).map(|id| id.to_string()).unwrap_or_default()
}

fn task(view: TaskView) -> Task {
    let TaskView { task_name, state, errors, last_run_ms, last_duration_ms, runs, changed, examined, .. } = view;
    let (skipped, skipped_reasons) = (view.skipped, view.skipped_reasons);
    Task { task_name, state, errors, last_run_ms, last_duration_ms, runs, changed, examined, skipped, skipped_reasons }
}

#[cfg(test)]
mod tests;
