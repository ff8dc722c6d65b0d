//! `kafka-mirrors`: mirror topics, one line each and one a partition.

use super::java_list;
use crate::cli::Login;
use crate::client::{DaemonClient, Usage};
use crate::commands::{Exit, print, unexpected};
use crate::operations::{Absent, AlteredMirror, MirrorAction, MirrorView, Operation, Outcome};
use clap::{ArgGroup, Args};
use std::fmt::Write as _;
use std::path::PathBuf;
use time::UtcDateTime;

/// Flags of one action are refused with another: none is taken and then does nothing.
const NOT_CREATE: [&str; 4] = ["list", "describe", "alters", "absent"];
const NOT_DESCRIBE: [&str; 4] = ["create", "list", "alters", "absent"];
const NOT_ALTER: [&str; 3] = ["create", "list", "describe"];
const NOT_TRUNCATE: [&str; 6] = ["create", "list", "describe", "alters", "reverse_and_start", "reverse_and_pause"];
const NONE_FOUND: &str = "No mirror topics found.";

#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("action").required(true).args(
        ["create", "list", "describe", "promote", "failover", "pause", "unpause", "reverse_and_start", "reverse_and_pause",
         "truncate_and_restore"]
    )),
    group(ArgGroup::new("alters").args(["promote", "failover", "pause", "unpause"])),
    group(ArgGroup::new("absent").args(["reverse_and_start", "reverse_and_pause", "truncate_and_restore"]))
)]
pub(crate) struct Flags {
    #[command(flatten)]
    login: Login,
    /// Begin to mirror a topic
    #[arg(long, requires_all = ["mirror_topic", "link"])]
    create: bool,
    /// Names of mirror topics
    #[arg(long)]
    list: bool,
    /// Mirror topics with their partitions
    #[arg(long)]
    describe: bool,
    /// Make mirrors ordinary topics, once they hold all that the source has
    #[arg(long)]
    promote: bool,
    /// Make mirrors ordinary topics at once, whatever may be missing
    #[arg(long)]
    failover: bool,
    /// Stop fetching for mirrors
    #[arg(long)]
    pause: bool,
    /// Fetch for paused mirrors again
    #[arg(long)]
    unpause: bool,
    /// Refused: no bidirectional links here
    #[arg(long)]
    reverse_and_start: bool,
    /// Refused: no bidirectional links here
    #[arg(long)]
    reverse_and_pause: bool,
    /// Refused: no bidirectional links here
    #[arg(long)]
    truncate_and_restore: bool,
    /// Name of the mirror topic
    #[arg(long, value_name = "TOPIC", conflicts_with_all = NOT_CREATE)]
    mirror_topic: Option<String>,
    /// Name at the source; needed where the link has a prefix
    #[arg(long, value_name = "TOPIC", conflicts_with_all = NOT_CREATE)]
    source_topic: Option<String>,
    /// Settings of the topic: `key=value,key=value`
    #[arg(long, value_name = "K=V,…", conflicts_with_all = NOT_CREATE)]
    config: Option<String>,
    /// File with settings of the topic
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_CREATE)]
    config_file: Option<PathBuf>,
    /// Copies of each partition: the embedded store keeps 1
    #[arg(long, value_name = "N", conflicts_with_all = NOT_CREATE)]
    replication_factor: Option<i16>,
    /// Name of the link
    #[arg(long, visible_alias = "links", alias = "link-name", value_name = "LINK")]
    link: Option<String>,
    /// Names of mirror topics
    #[arg(long, value_name = "TOPIC,…", value_delimiter = ',', conflicts_with = "create")]
    topics: Vec<String>,
    /// Only mirrors that are being promoted or failed over
    #[arg(long, conflicts_with_all = NOT_DESCRIBE)]
    pending_stopped_only: bool,
    /// Accepted with --truncate-and-restore
    #[arg(long, conflicts_with_all = NOT_TRUNCATE)]
    include_partition_data: bool,
    /// Say what would become of each mirror, change nothing
    #[arg(long, conflicts_with_all = NOT_ALTER)]
    validate_only: bool,
}

/// Does what `flags` say.
///
/// # Errors
/// Refusals and failures, for the user to read.
pub(crate) async fn run(flags: Flags) -> anyhow::Result<Exit> {
    let absent = [
        (flags.reverse_and_start, Absent::ReverseAndStart),
        (flags.reverse_and_pause, Absent::ReverseAndPause),
        (flags.truncate_and_restore, Absent::TruncateAndRestore),
    ];
    if let Some((_, absent)) = absent.into_iter().find(|(is_asked, _)| *is_asked) {
        return Err(absent.refusal().into());
    }
    let action = [
        (flags.promote, MirrorAction::Promote),
        (flags.failover, MirrorAction::Failover),
        (flags.pause, MirrorAction::Pause),
        (flags.unpause, MirrorAction::Resume),
    ];
    let action = action.into_iter().find_map(|(is_asked, action)| is_asked.then_some(action));
    if action.is_some() && flags.topics.is_empty() == flags.link.is_none() {
        return Err(Usage("exactly one of --topics and --link says which mirrors are meant").into());
    }
    let client = DaemonClient::connect(&flags.login).await?;
    match action {
        Some(action) => alter(&client, &flags, action).await,
        None if flags.create => create(&client, flags).await,
        None => show(&client, &flags).await,
    }
}

async fn create(client: &DaemonClient, flags: Flags) -> anyhow::Result<Exit> {
    let configs = super::settings(flags.config_file.as_deref(), "--config", flags.config.as_deref())?;
    let mirror_topic = flags.mirror_topic.unwrap_or_default();
    let operation = Operation::MirrorCreate {
        link: flags.link.unwrap_or_default(),
        mirror_topic: Some(mirror_topic.clone()),
        source_topic: flags.source_topic,
        configs,
        replication_factor: flags.replication_factor,
        mirror_start_offset_spec: None,
    };
    let Outcome::MirrorCreated(_) = client.operate(&operation).await? else { return unexpected() };
    print(&format!("Created topic {mirror_topic}."));
    Ok(Exit::Done)
}

async fn mirrors(client: &DaemonClient, flags: &Flags, partitions: bool) -> anyhow::Result<Vec<MirrorView>> {
    let operation = Operation::MirrorList { link: flags.link.clone(), partitions };
    let Outcome::Mirrors { mut mirrors } = client.operate(&operation).await? else { return unexpected() };
    mirrors.retain(|mirror| flags.topics.is_empty() || flags.topics.contains(&mirror.mirror_topic_name));
    mirrors.retain(|mirror| !flags.pending_stopped_only || mirror.mirror_status == "PENDING_STOPPED");
    Ok(mirrors)
}

async fn show(client: &DaemonClient, flags: &Flags) -> anyhow::Result<Exit> {
    let mirrors = mirrors(client, flags, flags.describe).await?;
    if mirrors.is_empty() {
        print(NONE_FOUND);
    }
    for mirror in mirrors {
        print(&if flags.describe { described(&mirror) } else { mirror.mirror_topic_name });
    }
    Ok(Exit::Done)
}

async fn alter(client: &DaemonClient, flags: &Flags, action: MirrorAction) -> anyhow::Result<Exit> {
    let topics = match flags.topics.as_slice() {
        [] => {
            let live = mirrors(client, flags, false).await?.into_iter().filter(|m| m.mirror_status != "STOPPED");
            live.map(|mirror| mirror.mirror_topic_name).collect()
        }
        topics => topics.to_vec(),
    };
    if topics.is_empty() {
        print(NONE_FOUND);
        return Ok(Exit::Done);
    }
    let names = java_list(topics.iter().map(String::as_str));
    if action == MirrorAction::Promote {
        print(&format!("Calculating max offset and ms lag for mirror topics: {names}"));
    }
    let link = flags.link.clone();
    let operation = Operation::MirrorAlter { link, action, topics, pattern: None, validate_only: flags.validate_only };
    let Outcome::MirrorsAltered { results } = client.operate(&operation).await? else { return unexpected() };
    if action == MirrorAction::Promote {
        print(&format!("Finished calculating max offset lag and max lag ms for mirror topics: {names}"));
    }
    for result in &results {
        print(&altered(result, action, flags.validate_only));
    }
    Ok(if results.iter().any(|result| result.error_code.is_some()) { Exit::Failed } else { Exit::Done })
}

fn altered(result: &AlteredMirror, action: MirrorAction, is_dry_run: bool) -> String {
    let topic = &result.mirror_topic_name;
    let (doing, hint) = match action {
        MirrorAction::Promote | MirrorAction::Failover => {
            ("stopping", " Please use the describe command with the --pending-stopped-only option to monitor progress.")
        }
        MirrorAction::Pause => ("pausing", ""),
        MirrorAction::Resume => ("unpausing", ""),
    };
    match &result.error_message {
        None if result.error_code.is_none() && is_dry_run => {
            format!("Request for {doing} topic {topic}s mirror is valid; nothing was changed.")
        }
        // The reference prints no apostrophe here.
        None if result.error_code.is_none() => {
            format!("Request for {doing} topic {topic}s mirror was successfully scheduled.{hint}")
        }
        message => {
            format!("Request for {doing} topic {topic}s mirror failed: {}", message.as_deref().unwrap_or_default())
        }
    }
}

fn described(mirror: &MirrorView) -> String {
    let mut lines = format!(
        "Topic: {}\tLinkName: {}\tLinkId: {}\tMirrorTopic: {}\tState: {}\tStateTime: {}",
        mirror.mirror_topic_name,
        mirror.link_name,
        mirror.link_id.as_deref().unwrap_or_default(),
        mirror.source_topic_name,
        mirror.mirror_status,
        date_time(mirror.status_time_ms),
    );
    for partition in &mirror.partitions {
        let since_fetch = partition.time_since_last_fetch_ms.map_or("-1".to_owned(), |ms| ms.to_string());
        let state = if mirror.mirror_status == "ACTIVE" && partition.state == "FAILED" {
            "FAILED"
        } else {
            &mirror.mirror_status
        };
        let _ = write!(
            lines,
            "\n\tPartition: {}\tState: {state}\tDestLogEndOffset: {}\tLastFetchSourceHighWatermark: {}\tLag: {}\tTimeSinceLastFetchMs: {since_fetch}",
            partition.partition,
            partition.log_end_offset,
            partition.last_source_high_watermark,
            partition.partition_mirror_lag,
        );
    }
    lines
}

/// `2024-01-01 12:00:00`, in UTC.
fn date_time(ms: i64) -> String {
    let Ok(at) = UtcDateTime::from_unix_timestamp(ms.div_euclid(1000)) else { return ms.to_string() };
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

#[cfg(test)]
mod tests;
