//! The status page: one HTML file without anything from elsewhere, and the JSON that it asks for. It shows what `/metrics`
//! shows, and the reasons, to whoever reaches this listener.

use super::Endpoint;
use crate::operations::{LinkView, MirrorView, TaskView};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;

const PAGE: &str = include_str!("status.html");
/// Nothing but what the page itself holds, and its own server.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Serialize)]
struct Status {
    /// `None` until the cluster beside has said it.
    cluster_id: Option<String>,
    links: Vec<Link>,
    mirrors: Vec<Mirror>,
}

#[derive(Serialize)]
struct Link {
    name: String,
    link_mode: String,
    connection_mode: String,
    remote_cluster: Option<String>,
    state: String,
    members: usize,
    error: Option<String>,
    error_message: Option<String>,
    /// Those that are configured.
    tasks: Vec<Task>,
}

#[derive(Serialize)]
struct Task {
    name: String,
    state: String,
    last_run_ms: Option<i64>,
    runs: u64,
    examined: u64,
    changed: u64,
    skipped: u64,
    /// What it shows first: an error, or why it left something out.
    reason: Option<String>,
}

#[derive(Serialize)]
struct Mirror {
    link: String,
    topic: String,
    status: String,
    partitions: i32,
    /// Records; −1 before the first fetch.
    lag: i64,
    lag_ms: Option<i64>,
    reason: Option<String>,
}

pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE)
}

pub(super) async fn status(State(endpoint): State<Endpoint>) -> impl IntoResponse {
    let service = &endpoint.service;
    let status = Status {
        cluster_id: service.known_cluster_id(),
        links: service.links().into_iter().map(link).collect(),
        mirrors: service.mirrors().into_iter().map(mirror).collect(),
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(status))
}

fn link(view: LinkView) -> Link {
    Link {
        name: view.link_name,
        link_mode: view.link_mode,
        connection_mode: view.connection_mode,
        remote_cluster: view.remote_cluster,
        state: view.state.to_string(),
        members: view.members.len(),
        error: Some(view.error).filter(|error| error != "NO_ERROR"),
        error_message: view.error_message,
        tasks: view.tasks.into_iter().filter(|task| task.state != "NOT_CONFIGURED").map(task).collect(),
    }
}

fn task(view: TaskView) -> Task {
    let error = view.errors.into_iter().next().map(|error| format!("{}: {}", error.error_code, error.error_message));
    Task {
        name: view.task_name,
        state: view.state,
        last_run_ms: view.last_run_ms,
        runs: view.runs,
        examined: view.examined,
        changed: view.changed,
        skipped: view.skipped,
        reason: error.or_else(|| view.skipped_reasons.into_iter().next()),
    }
}

fn mirror(view: MirrorView) -> Mirror {
    let lag_ms = view.partitions.iter().filter_map(|partition| partition.partition_mirror_lag_ms).max();
    let reason = view.mirror_topic_error.or_else(|| view.partitions.into_iter().find_map(|partition| partition.reason));
    Mirror {
        link: view.link_name,
        topic: view.mirror_topic_name,
        status: view.mirror_status,
        partitions: view.num_partition,
        lag: view.max_per_partition_mirror_lag,
        lag_ms,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_takes_nothing_from_elsewhere_and_no_text_as_markup() {
        for forbidden in [
            "src=",
            "href=",
            "@import",
            "url(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        // The one address in it is a name, that of SVG.
        assert_eq!(PAGE.matches("http").collect::<Vec<_>>().len(), 1);
    }
}
