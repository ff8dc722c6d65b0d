//! `kafka-cluster-links`: links, one line each.

use super::java_list;
use crate::cli::Login;
use crate::client::DaemonClient;
use crate::commands::{Exit, print, unexpected};
use crate::operations::{LinkConfigView, LinkView, MirrorView, Operation, Outcome, RemoteCluster};
use crate::output::last_run;
use anyhow::Context;
use clap::{ArgGroup, Args};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Settings are refused with these actions.
const NOT_CREATE: [&str; 3] = ["list", "describe", "delete"];
const GROUP_FILTERS: &str = "consumer.offset.group.filters";
const ACL_FILTERS: &str = "acl.filters";
const TOPIC_FILTERS: &str = "auto.create.mirror.topics.filters";

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("action").required(true).args(["create", "list", "describe", "delete"])))]
pub(crate) struct Flags {
    #[command(flatten)]
    login: Login,
    /// Make this cluster's half of a link
    #[arg(long, requires = "link")]
    create: bool,
    /// Links, one a line
    #[arg(long)]
    list: bool,
    /// Links with their settings
    #[arg(long)]
    describe: bool,
    /// Delete this cluster's half of a link
    #[arg(long, requires = "link")]
    delete: bool,
    /// Name of the link
    #[arg(long, alias = "link-name", value_name = "LINK")]
    link: Option<String>,
    /// Settings: `key=value,key=value`, a value with commas in `[…]`
    #[arg(long, value_name = "K=V,…", conflicts_with_all = NOT_CREATE)]
    config: Option<String>,
    /// File with the settings of this half
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_CREATE)]
    config_file: Option<PathBuf>,
    /// The other cluster
    #[arg(long, value_name = "ID", conflicts_with_all = NOT_CREATE)]
    cluster_id: Option<String>,
    /// Which consumer groups' offsets are synced
    #[arg(long, value_name = "JSON", conflicts_with_all = NOT_CREATE)]
    consumer_group_filters_json: Option<String>,
    /// The same, in a file
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_CREATE, conflicts_with = "consumer_group_filters_json")]
    consumer_group_filters_json_file: Option<PathBuf>,
    /// Which ACLs are synced
    #[arg(long, value_name = "JSON", conflicts_with_all = NOT_CREATE)]
    acl_filters_json: Option<String>,
    /// The same, in a file
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_CREATE, conflicts_with = "acl_filters_json")]
    acl_filters_json_file: Option<PathBuf>,
    /// File that says which topics are mirrored by themselves
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_CREATE)]
    topic_filters_json_file: Option<PathBuf>,
    /// Check everything, change nothing
    #[arg(long, conflicts_with_all = ["list", "describe"])]
    validate_only: bool,
    /// Do not reach the other cluster first
    #[arg(long, requires = "cluster_id")]
    exclude_validate_link: bool,
    /// Show the mirror topics of each link
    #[arg(long, conflicts_with_all = ["create", "delete"])]
    include_topics: bool,
    /// Show what each link keeps in sync besides the data, a task a line
    #[arg(long)]
    include_tasks: bool,
    /// Delete a link that has live mirrors too
    #[arg(long, conflicts_with_all = ["create", "list", "describe"])]
    force: bool,
}

/// Does what `flags` say.
///
/// # Errors
/// Refusals and failures, for the user to read.
pub(crate) async fn run(flags: Flags) -> anyhow::Result<Exit> {
    let client = DaemonClient::connect(&flags.login).await?;
    if flags.create {
        create(&client, &flags).await
    } else if flags.delete {
        delete(&client, &flags).await
    } else {
        show(&client, &flags).await
    }
}

async fn create(client: &DaemonClient, flags: &Flags) -> anyhow::Result<Exit> {
    let link = flags.link.clone().unwrap_or_default();
    let operation = Operation::LinkCreate {
        link: link.clone(),
        configs: settings(flags)?,
        remote: flags.cluster_id.clone().map(RemoteCluster::Other),
        validate_only: flags.validate_only,
        skip_remote_check: flags.exclude_validate_link,
    };
    let (done, warnings) = match client.operate(&operation).await? {
        Outcome::LinkCreated { warnings, .. } => ("creation", warnings),
        Outcome::LinkValid { warnings } => ("validation", warnings),
        _ => return unexpected(),
    };
    for warning in warnings {
        eprintln!("Warning: {warning}");
    }
    print(&format!("Cluster link '{link}' {done} successfully completed."));
    Ok(Exit::Done)
}

async fn delete(client: &DaemonClient, flags: &Flags) -> anyhow::Result<Exit> {
    let link = flags.link.clone().unwrap_or_default();
    let operation =
        Operation::LinkDelete { link: link.clone(), force: flags.force, validate_only: flags.validate_only };
    match client.operate(&operation).await? {
        Outcome::LinkDeleted => print(&format!("Cluster link '{link}' deletion successfully completed.")),
        Outcome::LinkValid { .. } => print(&format!("Cluster link '{link}' can be deleted.")),
        _ => return unexpected(),
    }
    Ok(Exit::Done)
}

async fn show(client: &DaemonClient, flags: &Flags) -> anyhow::Result<Exit> {
    let links = match &flags.link {
        Some(link) => match client.operate(&Operation::LinkDescribe { link: link.clone() }).await? {
            Outcome::Link(link) => vec![link],
            _ => return unexpected(),
        },
        None => match client.operate(&Operation::LinkList).await? {
            Outcome::Links { links } => links,
            _ => return unexpected(),
        },
    };
    let mirrors = if flags.describe || flags.include_topics {
        match client.operate(&Operation::MirrorList { link: flags.link.clone(), partitions: false }).await? {
            Outcome::Mirrors { mirrors } => mirrors,
            _ => return unexpected(),
        }
    } else {
        Vec::new()
    };
    if links.is_empty() {
        print("No cluster links found.");
    }
    if !flags.describe {
        for link in &links {
            print(&(listed(link, flags.include_topics.then_some(&mirrors)) + &tasks(link, flags.include_tasks)));
        }
        return Ok(Exit::Done);
    }
    let Outcome::Cluster(cluster) = client.operate(&Operation::ClusterDescribe).await? else { return unexpected() };
    // The daemon is the coordinator of all its links.
    let bootstrap = flags.login.bootstrap_server.as_deref().unwrap_or_default();
    let host = bootstrap.rsplit_once(':').map_or(bootstrap, |(host, _)| host);
    let host = host.rsplit_once("://").map_or(host, |(_, host)| host);
    for link in &links {
        let operation = Operation::LinkDescribeConfigs { link: link.link_name.clone() };
        let Outcome::LinkConfigs { configs } = client.operate(&operation).await? else { return unexpected() };
        let described = described(link, &mirrors, &configs, (cluster.node_id, host));
        print(&(described + &tasks(link, flags.include_tasks)));
    }
    Ok(Exit::Done)
}

/// The file, then `--config`, then the filters: the later wins.
fn settings(flags: &Flags) -> anyhow::Result<BTreeMap<String, String>> {
    let mut configs = super::settings(flags.config_file.as_deref(), "--config", flags.config.as_deref())?;
    let filters = [
        (GROUP_FILTERS, &flags.consumer_group_filters_json, &flags.consumer_group_filters_json_file),
        (ACL_FILTERS, &flags.acl_filters_json, &flags.acl_filters_json_file),
        (TOPIC_FILTERS, &None, &flags.topic_filters_json_file),
    ];
    for (key, json, file) in filters {
        if let Some(json) = json {
            configs.insert(key.to_owned(), json.clone());
        }
        if let Some(file) = file {
            configs.insert(key.to_owned(), read(file)?);
        }
    }
    Ok(configs)
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

fn listed(link: &LinkView, mirrors: Option<&Vec<MirrorView>>) -> String {
    let mut line = identity(link);
    let _ = write!(line, ", link state: '{}'", link.state);
    if let Some(mirrors) = mirrors {
        let _ = write!(line, ", topics: {}", topics(link, mirrors));
    }
    line
}

fn described(
    link: &LinkView,
    mirrors: &[MirrorView],
    configs: &[LinkConfigView],
    (coordinator_id, coordinator_host): (i32, &str),
) -> String {
    let mut lines = identity(link);
    let _ = write!(
        lines,
        ", link mode: '{}', connection mode: '{}', link state: '{}', link coordinator id: '{coordinator_id}', \
         link coordinator host: '{coordinator_host}', topics: {}",
        link.link_mode,
        link.connection_mode,
        link.state,
        topics(link, mirrors)
    );
    let shown = configs.iter().filter(|c| !c.is_sensitive);
    let configs: Vec<_> = shown.filter_map(|c| Some(format!("{}={}", c.name, c.value.as_ref()?))).collect();
    let _ = write!(lines, "\nConfigs: {}", configs.join(","));
    lines
}

/// The lines of `--include-tasks`, each after a line break.
fn tasks(link: &LinkView, are_asked_for: bool) -> String {
    let mut lines = String::new();
    for task in link.tasks.iter().filter(|_| are_asked_for) {
        let _ = write!(
            lines,
            "\n\tTask: {}\tState: {}\tLastRunMs: {}\tRuns: {}\tExamined: {}\tChanged: {}\tSkipped: {}",
            task.task_name,
            task.state,
            last_run(task),
            task.runs,
            task.examined,
            task.changed,
            task.skipped
        );
        for error in &task.errors {
            let _ = write!(lines, "\n\t\tError: {}\t{}", error.error_code, error.error_message);
        }
        for why in &task.skipped_reasons {
            let _ = write!(lines, "\n\t\tSkipped: {why}");
        }
    }
    lines
}

fn identity(link: &LinkView) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!(
        "Link name: '{}', link ID: '{}', remote cluster ID: '{}', local cluster ID: '{}', remote cluster available: '{}'",
        link.link_name,
        text(&link.link_id),
        text(&link.remote_cluster),
        link.local_cluster,
        link.remote_is_available,
    )
}

fn topics(link: &LinkView, mirrors: &[MirrorView]) -> String {
    let of = mirrors.iter().filter(|mirror| mirror.link_name == link.link_name);
    java_list(of.map(|mirror| mirror.mirror_topic_name.as_str()))
}

#[cfg(test)]
mod tests;
