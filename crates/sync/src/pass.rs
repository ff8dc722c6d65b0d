//! One pass of each task: ask, decide, write. A pass keeps nothing for the next one, so what somebody changed by hand is
//! seen; the cost of one that finds nothing to do is asking.

use crate::destination::{Destination, GroupOffsets, SourceEnds};
use crate::offsets::Plan;
use crate::source::{Source, SourceError};
use crate::status::{SHOWN_MAX, Task, TaskError, TaskErrorCode};
use crate::syncs::SyncConfig;
use crate::topics::Missing;
use crate::{acls, configs, offsets};
use hawser_link::topic_configs::SOURCE_CLUSTERS;
use hawser_transport::ClientError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Groups whose offsets are compared and written at once: bounds what a pass holds in memory, and one fsync is worth it.
const GROUPS_AT_ONCE: usize = 1000;
/// ACLs that a link may bring (the reference has a bound of its own, which it does not publish).
const ACLS_MAX: usize = 100_000;

/// What one pass did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) examined: u64,
    pub(crate) changed: u64,
    pub(crate) errors: Vec<TaskError>,
    /// How much was left out on purpose.
    pub(crate) skipped: u64,
    /// Why, for the first [`SHOWN_MAX`] of that.
    pub(crate) skipped_reasons: Vec<String>,
    /// By mirror topic: why it is not yet as the source is.
    pub(crate) unsettled: BTreeMap<Arc<str>, String>,
}

impl Report {
    fn skip(&mut self, why: String) {
        self.skipped += 1;
        if self.skipped_reasons.len() < SHOWN_MAX {
            self.skipped_reasons.push(why);
        }
    }
}

/// Why a pass ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The source cannot be reached.
    Unavailable(String),
    Error(TaskError),
}

/// Runs one pass of `task`; nothing to do where it is not configured. `ends`: see [`offsets::plan`].
pub(crate) async fn run(
    task: Task,
    config: &SyncConfig,
    source: &Source,
    destination: &dyn Destination,
    ends: &SourceEnds,
) -> Result<Report, Stop> {
    match task {
        Task::ConsumerOffsetSync => consumer_offsets(config, source, destination, ends).await,
        Task::AclSync => acl_sync(config, source, destination).await,
        Task::AutoCreateMirror => auto_create(config, source, destination).await,
        Task::TopicConfigsSync => topic_configs(config, source, destination).await,
    }
}

async fn consumer_offsets(
    config: &SyncConfig,
    source: &Source,
    to: &dyn Destination,
    ends: &SourceEnds,
) -> Result<Report, Stop> {
    let mut report = Report::default();
    let Some((_, filters)) = &config.offsets else { return Ok(report) };
    let mirrors = to.mirrors();
    if mirrors.is_empty() {
        return Ok(report);
    }
    let brokers = source.brokers().await.map_err(stop("the brokers of the source", ""))?;
    let mut seen = BTreeSet::new();
    for node in brokers {
        // One broker that is down hides its groups and no others.
        let listed = match source.groups(node).await {
            Ok(listed) => listed,
            Err(error) => {
                let what = format!("the groups of source broker {node}");
                report.errors.push(error.shown(&what, "DESCRIBE on the cluster, or on each group"));
                for mirror in &mirrors {
                    report.unsettled.entry(mirror.name.clone()).or_insert_with(|| format!("{what}: {error}"));
                }
                continue;
            }
        };
        let wanted: Vec<_> =
            listed.into_iter().filter(|group| filters.includes(group) && seen.insert(group.clone())).collect();
        report.examined += wanted.len() as u64;
        for some in wanted.chunks(GROUPS_AT_ONCE) {
            let found = source.offsets(node, some).await;
            let (found, errors) = found.map_err(stop("the offsets of consumer groups", "DESCRIBE on the groups"))?;
            for mirror in mirrors.iter().filter(|_| !errors.is_empty()) {
                let why = "the offsets of some groups cannot be read at the source";
                report.unsettled.entry(mirror.name.clone()).or_insert_with(|| why.to_owned());
            }
            report.errors.extend(errors);
            let names = found.iter().map(|g| offsets::name_here(&config.group_prefix, &g.group)).collect();
            let here = to.committed(names).await.map_err(Stop::Error)?;
            let plan = offsets::plan(
                found,
                &config.group_prefix,
                &mirrors,
                &here,
                ends,
                |topic, partition| to.readable(topic, partition),
                |group| to.group_has_members(group),
            );
            for group in &plan.past_source_end {
                tracing::warn!(link = config.link, group, "a committed offset is beyond the source's end");
            }
            commit(plan, to, &mut report).await?;
        }
    }
    Ok(report)
}

/// Writes what `plan` says.
async fn commit(mut plan: Plan, to: &dyn Destination, report: &mut Report) -> Result<(), Stop> {
    if !plan.commit.is_empty() {
        let topics_of =
            |offsets: &GroupOffsets| offsets.keys().map(|(topic, _)| topic.clone()).collect::<BTreeSet<_>>();
        let left = to.commit(plan.commit.clone()).await.map_err(Stop::Error)?;
        for group in left {
            if let Some(offsets) = plan.commit.remove(&group) {
                let topics = topics_of(&offsets);
                plan.leave_alone(&group, topics.into_iter());
            }
        }
        report.changed += plan.commit.values().map(|offsets| offsets.len() as u64).sum::<u64>();
    }
    plan.below_start.drain(..).for_each(|why| report.skip(why));
    report.errors.append(&mut plan.errors);
    report.unsettled.append(&mut plan.unsettled);
    Ok(())
}

async fn topic_configs(config: &SyncConfig, source: &Source, to: &dyn Destination) -> Result<Report, Stop> {
    let mut report = Report::default();
    let mirrors = to.mirrors();
    if mirrors.is_empty() {
        return Ok(report);
    }
    let names: Vec<_> = mirrors.iter().map(|mirror| mirror.source.clone()).collect();
    let asked = source.topic_configs(&names, &config.config_include).await;
    let (found, errors) = asked.map_err(stop("the topic configs", "DESCRIBE_CONFIGS on the topics"))?;
    report.errors.extend(errors);
    for mirror in &mirrors {
        report.examined += 1;
        let Some(at_source) = found.get(&mirror.source) else {
            report.unsettled.insert(mirror.name.clone(), "its configs cannot be read at the source".to_owned());
            continue;
        };
        let changes = configs::changes(at_source, &config.config_include, &to.topic_configs(&mirror.name));
        if changes.is_empty() {
            continue;
        }
        let count = changes.len() as u64;
        match to.set_topic_configs(mirror.name.clone(), changes).await {
            Ok(()) => report.changed += count,
            Err(error) => {
                report.unsettled.insert(mirror.name.clone(), error.message.clone());
                report.errors.push(error);
            }
        }
    }
    Ok(report)
}

async fn auto_create(config: &SyncConfig, source: &Source, to: &dyn Destination) -> Result<Report, Stop> {
    let mut report = Report::default();
    let Some(filters) = &config.auto_create else { return Ok(report) };
    let found = source.topics().await.map_err(stop("the topics of the source", "DESCRIBE on the topics"))?;
    report.examined = found.len() as u64;
    let mut missing = Missing::of(&found, filters, |topic| to.topic_here(topic));
    leave_out_loops(&mut missing, source, to, &mut report).await?;
    report.errors.extend(missing.errors());
    for topic in missing.create {
        match to.create_mirror(topic.clone()).await {
            Ok(()) => {
                tracing::info!(link = config.link, topic = &*topic, "mirror created, its topic matches the filters");
                report.changed += 1;
            }
            Err(error) => report.errors.push(error),
        }
    }
    Ok(report)
}

/// Keeps in `missing` what does not come from here; and what the source tells nothing of waits for another pass.
async fn leave_out_loops(
    missing: &mut Missing,
    source: &Source,
    to: &dyn Destination,
    report: &mut Report,
) -> Result<(), Stop> {
    let names = missing.names();
    let Some(own) = to.cluster_id().filter(|_| !names.is_empty()) else { return Ok(()) };
    match source.topic_configs(&names, &[SOURCE_CLUSTERS.to_owned()].into()).await {
        Ok((configs, errors)) => {
            missing.create.retain(|topic| configs.contains_key(topic));
            report.errors.extend(errors);
            missing.leave_out_loops(&configs, &own).into_iter().for_each(|why| report.skip(why));
            Ok(())
        }
        // A Kafka of before 0.11 has no mirrors of Hawser's.
        Err(SourceError::Client(ClientError::Unsupported { .. })) => Ok(()),
        Err(error) => Err(stop("the topic configs", "DESCRIBE_CONFIGS on the topics")(error)),
    }
}

async fn acl_sync(config: &SyncConfig, source: &Source, to: &dyn Destination) -> Result<Report, Stop> {
    let mut report = Report::default();
    let Some((_, filters)) = &config.acls else { return Ok(report) };
    let mut wanted = BTreeSet::new();
    for filter in filters.iter() {
        let found = source.acls(filter).await;
        wanted.extend(found.map_err(stop("the ACLs of the source", "DESCRIBE on the cluster"))?);
        if wanted.len() > ACLS_MAX {
            let message = format!("more than {ACLS_MAX} ACLs match acl.filters: none is copied. Narrow the filters.");
            return Err(Stop::Error(TaskError::new(TaskErrorCode::AclLimitExceeded, message)));
        }
    }
    report.examined = wanted.len() as u64;
    let (add, remove) = acls::difference(&wanted, &to.acls());
    if !add.is_empty() || !remove.is_empty() {
        let count = (add.len() + remove.len()) as u64;
        to.change_acls(add, remove).await.map_err(Stop::Error)?;
        report.changed = count;
    }
    Ok(report)
}

/// Turns a failed question about `what` into the end of the pass.
fn stop<'a>(what: &'a str, right: &'a str) -> impl Fn(SourceError) -> Stop + 'a {
    move |error| match error.is_unreachable() {
        true => Stop::Unavailable(format!("{what}: {error}")),
        false => Stop::Error(error.shown(what, right)),
    }
}
