//! The running syncs of one link: a loop for each task, its status to be looked at, and a pass on demand for a promotion.
//! A link whose settings change gets new ones: no task keeps anything from one pass to the next but how it stands.

use crate::destination::{Destination, SourceEnds};
use crate::pass::{self, Report, Stop};
use crate::source::Source;
use crate::status::{SHOWN_MAX, Task, TaskError, TaskErrorCode, TaskState, TaskStatus};
use hawser_link::filter::{AclFilters, GroupFilters};
use hawser_link::{LinkConfig, TopicFilters};
use hawser_transport::{Connector, caught};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often topics are looked for: as often as their configs are by default. The reference has no key for it.
const AUTO_CREATE_PERIOD: Duration = Duration::from_secs(5);
/// Wait after a pass that could not reach the source; shorter than most periods, so that a link that comes back is used.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(2);

/// What the syncs of a link are to do.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Name of the link.
    pub link: String,
    /// `default.api.timeout.ms`.
    pub api_timeout: Duration,
    /// `cluster.link.paused`.
    pub paused: bool,
    /// Put before group ids; empty: nothing.
    pub group_prefix: String,
    /// How often and which groups, when on.
    pub offsets: Option<(Duration, GroupFilters)>,
    /// How often and which ACLs, when on.
    pub acls: Option<(Duration, AclFilters)>,
    /// Which topics, when on.
    pub auto_create: Option<TopicFilters>,
    /// `topic.config.sync.ms`.
    pub config_period: Duration,
    /// `topic.config.sync.include`.
    pub config_include: BTreeSet<String>,
}

/// The syncs of a link. Dropping it ends them where they are.
pub struct Syncs {
    shared: Arc<Shared>,
    config: Arc<SyncConfig>,
    stop: CancellationToken,
    loops: JoinSet<()>,
}

struct Shared {
    source: Source,
    destination: Arc<dyn Destination>,
    status: Mutex<[TaskStatus; Task::ALL.len()]>,
    /// One pass of a task at a time, also when one is asked for.
    passes: [tokio::sync::Mutex<()>; Task::ALL.len()],
}

impl SyncConfig {
    /// The part of a link's settings that concerns the syncs.
    pub fn new(link: &str, config: &LinkConfig) -> Self {
        let mirrors = &config.mirrors;
        Self {
            link: link.to_owned(),
            api_timeout: config.connection.api_timeout,
            paused: mirrors.paused,
            group_prefix: if mirrors.prefix_groups { mirrors.prefix.clone() } else { String::new() },
            offsets: mirrors.offset_sync.clone(),
            acls: mirrors.acl_sync.clone(),
            auto_create: mirrors.auto_create.clone(),
            config_period: mirrors.config_sync,
            config_include: mirrors.config_include.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// How often `task` has its turn; `None`: never.
    fn period(&self, task: Task) -> Option<Duration> {
        match task {
            Task::ConsumerOffsetSync => self.offsets.as_ref().map(|(period, _)| *period),
            Task::AclSync => self.acls.as_ref().map(|(period, _)| *period),
            Task::AutoCreateMirror => self.auto_create.as_ref().map(|_| AUTO_CREATE_PERIOD),
            Task::TopicConfigsSync => Some(self.config_period),
        }
    }
}

impl Syncs {
    /// Starts all tasks of a link; `before` is how they stood when their forerunners ended. Must be called inside a tokio
    /// runtime.
    pub fn spawn(
        config: SyncConfig,
        connector: Arc<dyn Connector>,
        destination: Arc<dyn Destination>,
        before: Vec<TaskStatus>,
    ) -> Self {
        let status = |task: Task| {
            let before = before.iter().find(|status| status.task == task).cloned();
            let before = before.unwrap_or_else(|| TaskStatus::new(task));
            if config.period(task).is_some() { before } else { before.turned_off() }
        };
        let shared = Arc::new(Shared {
            source: Source::new(connector, config.api_timeout),
            destination,
            status: Mutex::new(Task::ALL.map(status)),
            passes: Default::default(),
        });
        let config = Arc::new(config);
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        for task in Task::ALL {
            loops.spawn(turns(task, Arc::clone(&shared), Arc::clone(&config), stop.clone()));
        }
        Self { shared, config, stop, loops }
    }

    /// How every task stands.
    pub fn status(&self) -> Vec<TaskStatus> {
        self.shared.status().to_vec()
    }

    /// A future that runs one more pass of what a promotion waits for: committed offsets, where they are synced, and topic
    /// configs. `topics` are the mirrors concerned, which hold all that their sources have up to these ends. It gives, by
    /// mirror topic, what is not yet as at the source; a source that cannot be reached concerns all of `topics`. May be
    /// dropped at any point. Does not borrow from `self`.
    pub fn settle(
        &self,
        topics: SourceEnds,
    ) -> impl Future<Output = BTreeMap<Arc<str>, Vec<(Task, String)>>> + Send + use<> {
        let (shared, config) = (Arc::clone(&self.shared), Arc::clone(&self.config));
        async move {
            let mut open: BTreeMap<Arc<str>, Vec<(Task, String)>> = BTreeMap::new();
            for task in [Task::TopicConfigsSync, Task::ConsumerOffsetSync] {
                if config.period(task).is_none() {
                    continue;
                }
                match shared.pass(task, &config, &topics).await {
                    Ok(unsettled) => {
                        for (topic, why) in unsettled.into_iter().filter(|(topic, _)| topics.contains_key(topic)) {
                            open.entry(topic).or_default().push((task, why));
                        }
                    }
                    Err(why) => {
                        for topic in topics.keys() {
                            open.entry(topic.clone()).or_default().push((task, why.clone()));
                        }
                    }
                }
            }
            open
        }
    }

    /// Ends all tasks; when this returns, none of them writes any more. Gives how they stood.
    pub async fn stop(mut self) -> Vec<TaskStatus> {
        self.stop.cancel();
        while self.loops.join_next().await.is_some() {}
        self.status()
    }
}

/// The loop of one task.
async fn turns(task: Task, shared: Arc<Shared>, config: Arc<SyncConfig>, stop: CancellationToken) {
    let Some(period) = config.period(task) else { return };
    if config.paused {
        shared.note(task, TaskState::LinkPaused);
        return;
    }
    shared.note(task, TaskState::Active);
    let not_asked = SourceEnds::new();
    loop {
        // A pass is dropped where it waits, never in the middle of a write: see `Destination`.
        let passed = tokio::select! {
            () = stop.cancelled() => return,
            passed = shared.pass(task, &config, &not_asked) => passed,
        };
        let unavailable = passed.is_err() && shared.state(task) == TaskState::LinkUnavailable;
        let wait = if unavailable { RETRY_UNAVAILABLE.min(period) } else { period };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Shared {
    /// One pass, kept in the status. Gives what is unsettled by mirror topic, or why the pass ended early.
    async fn pass(
        &self,
        task: Task,
        config: &SyncConfig,
        ends: &SourceEnds,
    ) -> Result<BTreeMap<Arc<str>, String>, String> {
        let _alone = self.passes[task.index()].lock().await;
        let (began_ms, began) = (now_ms(), Instant::now());
        let passed = caught(pass::run(task, config, &self.source, &*self.destination, ends)).await;
        let (state, report, stopped) = match passed {
            Ok(Ok(report)) => {
                let state = if report.errors.is_empty() { TaskState::Active } else { TaskState::InError };
                (state, report, None)
            }
            Ok(Err(Stop::Unavailable(why))) => {
                let errors = vec![TaskError::new(TaskErrorCode::Unknown, why.clone())];
                (TaskState::LinkUnavailable, Report { errors, ..Report::default() }, Some(why))
            }
            Ok(Err(Stop::Error(error))) => {
                let why = error.message.clone();
                let state = match error.code {
                    TaskErrorCode::Authentication => TaskState::LinkFailed,
                    _ => TaskState::InError,
                };
                (state, Report { errors: vec![error], ..Report::default() }, Some(why))
            }
            Err(panicked) => {
                tracing::error!(link = config.link, %task, %panicked, "a sync failed; it goes on at its next turn");
                let errors = vec![TaskError::new(TaskErrorCode::Internal, panicked.to_string())];
                (TaskState::InError, Report { errors, ..Report::default() }, Some(panicked.to_string()))
            }
        };
        let labels = [("link", config.link.clone()), ("task", task.name().to_owned())];
        metrics::counter!("hawser_sync_passes_total", &labels).increment(1);
        metrics::counter!("hawser_sync_changes_total", &labels).increment(report.changed);
        let mut all = self.status();
        let status = &mut all[task.index()];
        let errors = shown(report.errors);
        if errors != status.errors {
            match errors.first() {
                Some(error) => {
                    tracing::warn!(link = config.link, %task, %error, errors = errors.len(), "a sync met errors")
                }
                None => tracing::info!(link = config.link, %task, "a sync goes on without errors"),
            }
        }
        if report.changed > 0 {
            tracing::debug!(link = config.link, %task, changed = report.changed, "a sync wrote changes");
        }
        status.state = state;
        status.last_run_ms = Some(began_ms);
        status.last_duration_ms = Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        status.runs += 1;
        status.examined = report.examined;
        status.changed += report.changed;
        status.errors = errors;
        status.skipped = report.skipped;
        if let Some(first) = report.skipped_reasons.first().filter(|_| report.skipped_reasons != status.skipped_reasons)
        {
            tracing::info!(link = config.link, %task, skipped = status.skipped, first, "a sync leaves something out");
        }
        status.skipped_reasons = report.skipped_reasons;
        stopped.map_or(Ok(report.unsettled), Err)
    }

    fn note(&self, task: Task, state: TaskState) {
        self.status()[task.index()].state = state;
    }

    fn state(&self, task: Task) -> TaskState {
        self.status()[task.index()].state
    }

    fn status(&self) -> MutexGuard<'_, [TaskStatus; Task::ALL.len()]> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first errors, and one that counts the rest.
fn shown(mut errors: Vec<TaskError>) -> Vec<TaskError> {
    let more = errors.len().saturating_sub(SHOWN_MAX);
    errors.truncate(SHOWN_MAX);
    if more > 0 {
        errors.push(TaskError::new(TaskErrorCode::Unknown, format!("and {more} more errors")));
    }
    errors
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
