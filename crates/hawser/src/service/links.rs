//! Operations on links: making, showing and deleting a half.

use super::views::Flow;
use super::{Service, internal, kafka_uuid, link_properties, now_ms};
use crate::links::{Liveness, StartError};
use crate::lock::lock;
use crate::operations::{LinkState, LinkView, Outcome, Refusal, RefusalCode, RemoteCluster, TaskErrorView, TaskView};
use crate::persist::persist;
use hawser_link::{LinkConfig, LinkMode, LinkName};
use hawser_state::{LinkRecord, MirrorStatus, SecretConfigs, TopicRecord};
use hawser_sync::{TaskState, TaskStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

impl Service {
    pub(super) async fn link_create(
        &self,
        name: String,
        configs: BTreeMap<String, String>,
        remote: Option<RemoteCluster>,
        validate_only: bool,
        skip_remote_check: bool,
    ) -> Result<Outcome, Refusal> {
        let invalid = |message: String| Refusal::new(RefusalCode::InvalidRequest, message);
        let name = LinkName::new(&name).map_err(|e| invalid(e.to_string()))?;
        // The other side may take its time: only this name waits for it.
        let _reserved = self.reserve(&name)?;
        let parsed = LinkConfig::parse(&link_properties(name.as_str(), &configs))
            .map_err(|e| Refusal::new(RefusalCode::InvalidLinkConfig, e.to_string()))?;
        let warnings: Vec<_> = parsed.warnings.iter().map(ToString::to_string).collect();
        for warning in &warnings {
            tracing::warn!(link = %name, "{warning}");
        }
        let half = parsed.config.half;
        if half.link_mode() == LinkMode::Bidirectional {
            let message = "link.mode: BIDIRECTIONAL is not supported yet; create two links, one for each direction";
            return Err(Refusal::new(RefusalCode::Unsupported, message));
        }
        match &remote {
            Some(RemoteCluster::Source(_)) if !half.holds_mirrors() => {
                return Err(invalid(
                    "a source cluster was named, but link.mode=SOURCE makes this cluster the source".into(),
                ));
            }
            Some(RemoteCluster::Destination(_)) if half.link_mode() == LinkMode::Destination => {
                let message =
                    "a destination cluster was named, but link.mode=DESTINATION makes this cluster the destination";
                return Err(invalid(message.into()));
            }
            _ => {}
        }
        self.prefix_is_free(&parsed.config)?;
        let record = LinkRecord {
            name: name.as_str().to_owned(),
            id: half.holds_mirrors().then(Uuid::new_v4),
            remote_cluster_id: remote.map(|r| r.id().to_owned()),
            configs: SecretConfigs(configs),
            created_ms: now_ms(),
            acls: BTreeSet::new(),
        };
        let trial =
            self.links.try_out(record, skip_remote_check, validate_only).await.map_err(|e| start_refusal(&e))?;
        if validate_only {
            self.links.discard(trial).await;
            return Ok(Outcome::LinkValid { warnings });
        }
        let _one_at_a_time = self.changes.lock().await;
        if let Err(refusal) = self.prefix_is_free(&parsed.config) {
            self.links.discard(trial).await;
            return Err(refusal);
        }
        let record = self.links.keep(trial);
        let kept = record.clone();
        if let Err(error) = persist(&self.state, move |state| state.put_link(kept)).await {
            self.links.end(&record.name).await;
            return Err(internal(&error));
        }
        self.follow_link(&record).await;
        Ok(Outcome::LinkCreated { link: self.link_view(&record, &self.flow()), warnings })
    }

    pub(super) async fn link_delete(&self, name: &str, force: bool, validate_only: bool) -> Result<Outcome, Refusal> {
        let record = self.link(name)?;
        let mirrors: Vec<_> = self.mirrors_of(Some(name)).collect();
        let live: Vec<_> = mirrors.iter().filter(|(_, mirror)| mirror.status.is_live()).collect();
        if !live.is_empty() && !force {
            let names: Vec<_> = live.iter().take(5).map(|(topic, _)| topic.name.as_str()).collect();
            let message = format!(
                "Cluster link \"{name}\" has {} live mirror topics ({}): promote, fail over or delete them first. With force \
                 (--force, force=true) the link goes all the same, and they stay as they are, read-only and FAILED, until they are failed over or deleted.",
                live.len(),
                names.join(", ")
            );
            return Err(Refusal::new(RefusalCode::LinkHasMirrors, message));
        }
        if validate_only {
            return Ok(Outcome::LinkValid { warnings: Vec::new() });
        }
        // Nothing fetches or syncs any more before the records change.
        self.forget_link(name).await;
        self.links.end(name).await;
        let orphans: Vec<_> = live.iter().map(|(topic, _)| topic.name.clone()).collect();
        let fail =
            |topic: &mut TopicRecord| topic.mirror.as_mut().is_some_and(|mirror| mirror.fail("LINK_DELETED", now_ms()));
        let gone = name.to_owned();
        if let Err(error) = persist(&self.state, move |state| state.delete_link(&gone, &orphans, fail)).await {
            self.links.begin(&record).await;
            self.follow_link(&record).await;
            return Err(internal(&format!("{error}. Cluster link \"{name}\" was not deleted and goes on.")));
        }
        self.links.part(name);
        if !record.acls.is_empty() {
            tracing::info!(link = name, acls = record.acls.len(), "the ACLs that the link brought stay");
        }
        Ok(Outcome::LinkDeleted)
    }

    /// Two links with one prefix would make mirrors of one name.
    fn prefix_is_free(&self, config: &LinkConfig) -> Result<(), Refusal> {
        let prefix = &config.mirrors.prefix;
        let has_it = |other: &LinkRecord| self.link_config(other).is_ok_and(|other| other.mirrors.prefix == *prefix);
        match self.state.links().iter().find(|other| !prefix.is_empty() && has_it(other)) {
            None => Ok(()),
            Some(other) => Err(Refusal::new(
                RefusalCode::InvalidLinkConfig,
                format!("cluster.link.prefix: cluster link \"{}\" has the prefix \"{prefix}\" already", other.name),
            )),
        }
    }

    /// Takes the name of a new link, so that nobody else makes one of that name meanwhile.
    pub(super) fn reserve(&self, name: &LinkName) -> Result<Reserved<'_>, Refusal> {
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

    pub(super) fn link(&self, name: &str) -> Result<Arc<LinkRecord>, Refusal> {
        let message = || format!("Cluster link '{name}' does not exist.");
        self.state.link(name).ok_or_else(|| Refusal::new(RefusalCode::LinkNotFound, message()))
    }

    pub(super) fn link_config(&self, record: &LinkRecord) -> Result<LinkConfig, Refusal> {
        let parsed = LinkConfig::parse(&link_properties(&record.name, &record.configs.0));
        parsed.map(|p| p.config).map_err(|e| Refusal::new(RefusalCode::InvalidLinkConfig, e.to_string()))
    }

    pub(super) fn link_view(&self, record: &LinkRecord, flow: &Flow) -> LinkView {
        let liveness = self.links.liveness(&record.name);
        let tasks = self.sync_status(&record.name).into_iter().map(|status| task_view(status, &liveness)).collect();
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
            remote_is_available: liveness.state == LinkState::Active,
            state: if paused { LinkState::Paused } else { liveness.state },
            error: liveness.error.to_owned(),
            error_message: liveness.error_message,
            last_beat_ms: liveness.last_beat_ms,
            last_fetch_ms: flow.last_fetch_ms(&record.name).map(|at| (now_ms() - at).max(0).unsigned_abs()),
            connections: liveness.connections,
            members: liveness.members,
            tasks,
            mirror_partition_states_count: holds_mirrors.then(|| self.partition_states(&record.name, flow)),
            configs: record.configs.0.iter().filter_map(shown).collect(),
        }
    }

    /// The categories of the reference's `link describe`.
    pub(super) fn partition_states(&self, link: &str, flow: &Flow) -> BTreeMap<String, u64> {
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
                    MirrorStatus::Active if matches!(&*partition.state, "FAILED" | "OFFLINE") => "IN_ERROR",
                    MirrorStatus::Active if partition.last_source_high_watermark < 0 => "UNKNOWN",
                    MirrorStatus::Active => "ACTIVE",
                };
                *counts.entry(category.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// Every link.
    pub(crate) fn links(&self) -> Vec<LinkView> {
        let flow = self.flow();
        self.state.links().iter().map(|l| self.link_view(l, &flow)).collect()
    }
}

/// A task as the link lets it: between two passes it is the link that knows whether the next one will find its source.
fn task_view(status: TaskStatus, link: &Liveness) -> TaskView {
    let state = match (status.state, link.state) {
        (state @ (TaskState::NotConfigured | TaskState::LinkPaused), _) => state,
        (_, LinkState::Failed) => TaskState::LinkFailed,
        (_, LinkState::Unavailable) => TaskState::LinkUnavailable,
        (state, LinkState::Active | LinkState::Paused) => state,
    };
    let errors = status
        .errors
        .into_iter()
        .map(|error| TaskErrorView { error_code: error.code.name().to_owned(), error_message: error.message });
    // What the last pass met is older than what keeps the link.
    let of_link = link.error_message.as_ref().filter(|_| state != status.state);
    let of_link =
        of_link.map(|why| TaskErrorView { error_code: link.task_error().to_owned(), error_message: why.clone() });
    TaskView {
        task_name: status.task.name().to_owned(),
        state: state.name().to_owned(),
        errors: of_link.into_iter().chain(errors).collect(),
        last_run_ms: status.last_run_ms,
        last_duration_ms: status.last_duration_ms,
        runs: status.runs,
        changed: status.changed,
        examined: status.examined,
        skipped: status.skipped,
        skipped_reasons: status.skipped_reasons,
    }
}

/// A name in [`Service::being_made`].
pub(super) struct Reserved<'a> {
    names: &'a std::sync::Mutex<BTreeSet<String>>,
    name: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        lock(self.names).remove(&self.name);
    }
}

pub(super) fn start_refusal(error: &StartError) -> Refusal {
    let code = match error {
        StartError::Config(_) => RefusalCode::InvalidLinkConfig,
        StartError::NoSuchRemoteLink(_) => RefusalCode::RemoteLinkNotFound,
        StartError::Refused(_) | StartError::LoginRefused(_) => RefusalCode::RemoteRefused,
        StartError::Unavailable(_) => RefusalCode::LinkUnavailable,
    };
    Refusal::new(code, error.to_string())
}

#[cfg(test)]
mod tests;
