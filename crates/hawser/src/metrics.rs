//! `metrics.listener`: Prometheus' text, and whether the daemon lives and is ready. Counters come from where they are
//! counted; the state of links and mirrors is rendered from what holds now, so a series goes with its partition.

mod crowd;
mod status;

use crate::operations::TaskView;
use crate::service::Service;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use crowd::Crowd;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Histograms of times.
const LATENCY_BUCKETS_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
/// How often the recorder folds its histograms, so that they stay small without anyone asking.
const UPKEEP: Duration = Duration::from_secs(10);

/// How long a connection may live, idle or not: longer than the usual scrape interval, so that a scraper that keeps its
/// connection mostly finds it open.
const LIFETIME: Duration = Duration::from_secs(90);

/// What the endpoint shows.
#[derive(Clone)]
pub(crate) struct Endpoint {
    recorder: PrometheusHandle,
    service: Arc<Service>,
    ready: Arc<AtomicBool>,
}

/// Installs the recorder; once a process.
///
/// # Errors
/// When there is one already.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let times = Matcher::Suffix("_seconds".to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(times, &LATENCY_BUCKETS_SECONDS)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("a metrics recorder is installed already"))?;
    Ok(handle)
}

impl Endpoint {
    /// Shows `service`'s links and mirrors.
    pub(crate) fn new(recorder: PrometheusHandle, service: Arc<Service>, ready: Arc<AtomicBool>) -> Self {
        Self { recorder, service, ready }
    }

    /// Serves until `shutdown`. What strangers can cost is bounded by [`Crowd`].
    pub(crate) async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let recorder = self.recorder.clone();
        let routes = axum::Router::new()
            .route("/", get(status::page))
            .route("/status", get(status::status))
            .route("/metrics", get(metrics))
            .route("/health/live", get(|| async { "live\n" }))
            .route("/health/ready", get(ready))
            .with_state(self);
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                recorder.run_upkeep();
            }
        };
        let server =
            axum::serve(Crowd::new(listener, LIFETIME), routes).with_graceful_shutdown(shutdown.cancelled_owned());
        tokio::select! {
            result = server => if let Err(error) = result {
                tracing::error!(%error, "the metrics endpoint failed");
            },
            () = upkeep => {}
        }
    }

    fn render(&self) -> String {
        let mut out = self.recorder.render();
        let mut gauge = Gauges(&mut out);
        let links = self.service.links();
        gauge.head("hawser_link_up", "Whether the other side of the link answers.");
        for link in &links {
            let up = i64::from(link.remote_is_available);
            gauge.sample("hawser_link_up", &[("link", &link.link_name), ("mode", &link.link_mode)], up);
        }
        gauge.head("hawser_link_state", "1 for the state that the link is in, with its error.");
        for link in &links {
            let state = link.state.to_string();
            let labels = [("link", &*link.link_name), ("state", &state), ("error", &link.error)];
            gauge.sample("hawser_link_state", &labels, 1);
        }
        gauge.head("hawser_link_members", "Control connections of the link.");
        for link in &links {
            gauge.sample("hawser_link_members", &[("link", &link.link_name)], link.members.len());
        }
        let tasks: Vec<_> = links.iter().flat_map(|link| link.tasks.iter().map(move |task| (link, task))).collect();
        gauge.head("hawser_sync_state", "1 for the state that the task of the link is in.");
        for (link, task) in &tasks {
            let labels = [("link", &*link.link_name), ("task", &task.task_name), ("state", &task.state)];
            gauge.sample("hawser_sync_state", &labels, 1);
        }
        let mut of_task = |name: &str, help: &str, value: &dyn Fn(&TaskView) -> Option<f64>| {
            gauge.head(name, help);
            for (link, task) in &tasks {
                if let Some(value) = value(task) {
                    gauge.sample(name, &[("link", &link.link_name), ("task", &task.task_name)], value);
                }
            }
        };
        of_task("hawser_sync_last_run_timestamp_seconds", "When the last pass began, since 1970.", &|task| {
            task.last_run_ms.map(|ms| ms as f64 / 1000.0)
        });
        of_task("hawser_sync_errors", "Errors that the task shows.", &|task| Some(task.errors.len() as f64));
        of_task("hawser_sync_examined", "What the last pass looked at.", &|task| Some(task.examined as f64));
        of_task("hawser_sync_skipped", "What the last pass left out on purpose.", &|task| Some(task.skipped as f64));
        let mirrors = self.service.mirrors();
        let mut by_status: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for mirror in &mirrors {
            *by_status.entry((&mirror.link_name, &mirror.mirror_status)).or_default() += 1;
        }
        gauge.head("hawser_link_mirrors", "Mirror topics of the link by their status.");
        for ((link, status), count) in by_status {
            gauge.sample("hawser_link_mirrors", &[("link", link), ("status", status)], count);
        }
        let partitions: Vec<_> = mirrors
            .iter()
            .flat_map(|mirror| mirror.partitions.iter().map(move |partition| (mirror, partition)))
            .map(|(mirror, partition)| (mirror, partition, partition.partition.to_string()))
            .collect();
        let mut each = |name: &str, help: &str, value: &dyn Fn(usize) -> Option<f64>| {
            gauge.head(name, help);
            for (index, (mirror, _, number)) in partitions.iter().enumerate() {
                if let Some(value) = value(index) {
                    let labels =
                        [("link", &*mirror.link_name), ("topic", &*mirror.mirror_topic_name), ("partition", number)];
                    gauge.sample(name, &labels, value);
                }
            }
        };
        let of = |index: usize| partitions.get(index).map(|(_, partition, _)| *partition);
        each("hawser_mirror_lag_records", "Records that the source has and the mirror has not.", &|i| {
            of(i).filter(|p| p.partition_mirror_lag >= 0).map(|p| p.partition_mirror_lag as f64)
        });
        each("hawser_mirror_lag_seconds", "Time since the mirror last held all that the source had.", &|i| {
            of(i)?.partition_mirror_lag_ms.map(|ms| ms as f64 / 1000.0)
        });
        each("hawser_mirror_fetch_age_seconds", "Time since the source last answered for the partition.", &|i| {
            of(i)?.time_since_last_fetch_ms.map(|ms| ms as f64 / 1000.0)
        });
        each("hawser_mirror_log_end_offset", "The offset that is fetched next.", &|i| {
            of(i).map(|p| p.log_end_offset as f64)
        });
        each("hawser_mirror_size_bytes", "Bytes of the partition on disk.", &|i| of(i).map(|p| p.size_bytes as f64));
        gauge.head("hawser_mirror_partition_state", "1 for the state that the partition is in.");
        for (mirror, partition, number) in &partitions {
            let labels = [
                ("link", &*mirror.link_name),
                ("topic", &*mirror.mirror_topic_name),
                ("partition", number),
                ("state", &partition.state),
            ];
            gauge.sample("hawser_mirror_partition_state", &labels, 1);
        }
        process(&mut gauge);
        out
    }
}

async fn metrics(State(endpoint): State<Endpoint>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], endpoint.render())
}

async fn ready(State(endpoint): State<Endpoint>) -> impl IntoResponse {
    if endpoint.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// The process' own figures, where the kernel tells them.
fn process(gauge: &mut Gauges<'_>) {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let field = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        gauge.head("process_resident_memory_bytes", "Resident memory size in bytes.");
        gauge.sample("process_resident_memory_bytes", &[], kib * 1024);
    }
    if let Some(threads) = field("Threads:") {
        gauge.head("process_threads", "Threads of the process.");
        gauge.sample("process_threads", &[], threads);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge.head("process_open_fds", "Open file descriptors.");
        gauge.sample("process_open_fds", &[], open.count());
    }
}

/// Prometheus' text format, version 0.0.4.
struct Gauges<'a>(&'a mut String);

impl Gauges<'_> {
    fn head(&mut self, name: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_prometheus_text() {
        let mut text = String::new();
        let mut gauges = Gauges(&mut text);
        gauges.head("a", "What a is.");
        gauges.sample("a", &[], 1);
        gauges.sample("a", &[("l", "x\"\\\ny"), ("m", "")], 0.5);
        assert_eq!(text, "# HELP a What a is.\n# TYPE a gauge\na 1\na{l=\"x\\\"\\\\\\ny\",m=\"\"} 0.5\n");
    }
}
