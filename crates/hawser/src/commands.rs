//! The commands that ask a daemon: from flags to an operation, from its outcome to text and an exit code.

use crate::cli::{Connect, Link, LinkCreate, Mirror, Verify};
use crate::client::{DaemonClient, OperateError, read_properties};
use crate::operations::{Operation, Outcome, RemoteCluster, VerifyView};
use crate::output;
use anyhow::{Context, anyhow, bail};
use hawser_link::{LinkConfig, Properties};
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 3
    Different,
}

/// Holds what should not stand on a command line, which everybody on the machine sees.
const API_SECRET_VARIABLE: &str = "HAWSER_SOURCE_API_SECRET";

/// Between two questions how far a comparison is.
const VERIFY_POLL: Duration = Duration::from_millis(250);

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => 0.into(),
            Exit::Failed => 1.into(),
            Exit::Usage => 2.into(),
            Exit::Different => 3.into(),
        }
    }
}

/// `hawser link …`.
///
/// # Errors
/// Refusals and failures, for the user to read.
pub(crate) async fn link(command: Link) -> anyhow::Result<Exit> {
    match command {
        Link::Create(create) => link_create(*create).await,
        Link::List { connect } => {
            let Outcome::Links { links } = ask(&connect, &Operation::LinkList).await? else { return unexpected() };
            print(&output::show(connect.output, &links, |l| output::links(l)));
            Ok(Exit::Done)
        }
        Link::Describe { name, link, connect } => {
            let link = name.or(link).unwrap_or_default();
            let Outcome::Link(view) = ask(&connect, &Operation::LinkDescribe { link }).await? else {
                return unexpected();
            };
            print(&output::show(connect.output, &view, output::link));
            Ok(Exit::Done)
        }
        Link::Delete { names, link, force, connect } => {
            let client = DaemonClient::connect(&connect).await?;
            for link in names.into_iter().chain(link) {
                if !force && !confirm(&format!("Delete cluster link \"{link}\"?"))? {
                    eprintln!("Left cluster link \"{link}\" as it is.");
                    continue;
                }
                client.operate(&Operation::LinkDelete { link: link.clone(), force }).await?;
                print(&format!("Deleted cluster link \"{link}\"."));
            }
            Ok(Exit::Done)
        }
    }
}

async fn link_create(create: LinkCreate) -> anyhow::Result<Exit> {
    let configs = link_configs(&create)?;
    // The daemon checks again; only here are the file's lines known.
    for warning in LinkConfig::parse(&configs)?.warnings {
        eprintln!("Warning: {warning}");
    }
    let link = create.name.or(create.link).unwrap_or_default();
    let remote = match (create.source_cluster, create.destination_cluster, create.cluster_id) {
        (Some(id), _, _) => Some(RemoteCluster::Source(id)),
        (_, Some(id), _) => Some(RemoteCluster::Destination(id)),
        (_, _, Some(id)) => Some(RemoteCluster::Other(id)),
        (None, None, None) => None,
    };
    let client = DaemonClient::connect(&create.connect).await?;
    if let Some(expected) = create.cluster {
        let Outcome::Cluster(cluster) = client.operate(&Operation::ClusterDescribe).await? else { return unexpected() };
        if cluster.cluster_id != expected {
            bail!("--cluster {expected}: the daemon's cluster is {}", cluster.cluster_id);
        }
    }
    let operation = Operation::LinkCreate {
        link: link.clone(),
        configs: owned(&configs),
        remote,
        validate_only: create.validate_only,
        skip_remote_check: create.no_validate,
    };
    let outcome = client.operate(&operation).await?;
    let shown = match &outcome {
        Outcome::LinkCreated(view) => {
            output::show(create.connect.output, view, |_| format!("Created cluster link \"{link}\"."))
        }
        Outcome::LinkValid => format!("Cluster link \"{link}\" is valid; nothing was created."),
        _ => return unexpected(),
    };
    print(&shown);
    Ok(Exit::Done)
}

/// `--config-file`, then `--config`, then the API key: the later wins.
fn link_configs(create: &LinkCreate) -> anyhow::Result<Properties> {
    // A file stays a file, so that errors can name its lines.
    let only = match create.config.as_slice() {
        [one] if Path::new(one).is_file() => Some(Path::new(one)),
        _ => None,
    };
    let mut configs = match create.config_file.as_deref().or(only) {
        Some(file) => read_properties(file)?,
        None => Properties::parse("command line", ""),
    };
    for text in create.config.iter().filter(|text| create.config_file.is_some() || only != Some(Path::new(text))) {
        for (key, value) in inline_or_file(text)? {
            configs.set(&key, &value);
        }
    }
    if let Some(server) = &create.source_bootstrap_server {
        configs.set("bootstrap.servers", server);
    }
    if let Some(key) = &create.source_api_key {
        let secret = api_secret(create.source_api_secret.as_deref(), std::env::var(API_SECRET_VARIABLE).ok())?;
        let quote = |s: &str| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
        configs.set("security.protocol", "SASL_SSL");
        configs.set("sasl.mechanism", "PLAIN");
        let login = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required username={} password={};",
            quote(key),
            quote(&secret)
        );
        configs.set("sasl.jaas.config", &login);
    }
    Ok(configs)
}

/// `--source-api-secret`, the file that it names, or else the environment's.
fn api_secret(flag: Option<&str>, environment: Option<String>) -> anyhow::Result<String> {
    let Some(flag) = flag else {
        return environment.ok_or_else(|| {
            anyhow!("--source-api-key needs a secret: --source-api-secret @FILE, or {API_SECRET_VARIABLE}")
        });
    };
    let Some(file) = flag.strip_prefix('@') else { return Ok(flag.to_owned()) };
    let text = std::fs::read_to_string(file).with_context(|| format!("--source-api-secret: read {file}"))?;
    match text.lines().next() {
        Some(secret) if !secret.is_empty() => Ok(secret.to_owned()),
        _ => bail!("--source-api-secret: {file} has no secret in its first line"),
    }
}

/// What `--config` holds: a file if there is one of that name, else `key=value` pairs.
fn inline_or_file(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    if Path::new(text).is_file() {
        return Ok(owned(&read_properties(Path::new(text))?));
    }
    pairs(text).map_err(|e| anyhow!("--config {e}; expected key=value,… or the name of a file"))
}

/// `k=v,k=[v,with,commas]`. A JSON value keeps its commas and brackets as well.
fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
    let mut depth = 0_i32;
    let mut quoted = false;
    let mut start = 0;
    let mut items = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    for item in items.iter().map(|i| i.trim()).filter(|i| !i.is_empty()) {
        // The value may be a secret: only the key is shown.
        let (key, value) = item.split_once('=').ok_or("has an item without '='")?;
        let value = value.trim();
        let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).filter(|v| !v.starts_with(['{', '[']));
        pairs.insert(key.trim().to_owned(), list.unwrap_or(value).to_owned());
    }
    Ok(pairs)
}

fn owned(properties: &Properties) -> BTreeMap<String, String> {
    properties.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// `hawser mirror …`.
///
/// # Errors
/// Refusals and failures, for the user to read.
pub(crate) async fn mirror(command: Mirror) -> anyhow::Result<Exit> {
    match command {
        Mirror::Create { topic, link, source_topic, config, connect } => {
            let mut configs = BTreeMap::new();
            for text in &config {
                configs.extend(inline_or_file(text)?);
            }
            let operation = Operation::MirrorCreate {
                link,
                mirror_topic: Some(topic.clone()),
                source_topic,
                configs,
                replication_factor: None,
                mirror_start_offset_spec: None,
            };
            let Outcome::MirrorCreated(view) = ask(&connect, &operation).await? else { return unexpected() };
            print(&output::show(connect.output, &view, |_| format!("Created mirror topic \"{topic}\".")));
        }
        Mirror::List { link, mirror_status, connect } => {
            let Outcome::Mirrors { mut mirrors } =
                ask(&connect, &Operation::MirrorList { link, partitions: false }).await?
            else {
                return unexpected();
            };
            if let Some(status) = mirror_status {
                mirrors.retain(|m| m.mirror_status.eq_ignore_ascii_case(&status));
            }
            print(&output::show(connect.output, &mirrors, |m| output::mirrors(m)));
        }
        Mirror::Describe { topic, link, connect } => {
            let operation = Operation::MirrorDescribe { mirror_topic: topic, link };
            let Outcome::Mirror(view) = ask(&connect, &operation).await? else { return unexpected() };
            print(&output::show(connect.output, &view, output::mirror));
        }
    }
    Ok(Exit::Done)
}

/// `hawser verify`.
///
/// # Errors
/// Refusals and failures, for the user to read. A difference is no error but [`Exit::Different`].
pub(crate) async fn verify(command: Verify) -> anyhow::Result<Exit> {
    let client = DaemonClient::connect(&command.connect).await?;
    let start = Operation::VerifyStart { link: command.link, topics: command.topic, follow: command.follow };
    let Outcome::VerifyStarted { verification } = client.operate(&start).await? else { return unexpected() };
    let view = tokio::select! {
        view = watch(&client, verification) => view?,
        _ = tokio::signal::ctrl_c() => status(&client, verification).await?,
    };
    client.operate(&Operation::VerifyStop { verification }).await?;
    print(&output::show(command.connect.output, &view, output::verification));
    Ok(match () {
        () if view.differences > 0 => Exit::Different,
        () if !view.errors.is_empty() || (!view.finished && !command.follow) => Exit::Failed,
        () => Exit::Done,
    })
}

/// Polls until the comparison is over; one line of progress on standard error.
async fn watch(client: &DaemonClient, verification: u64) -> anyhow::Result<VerifyView> {
    let terminal = std::io::stderr().is_terminal();
    let mut said = String::new();
    loop {
        let view = status(client, verification).await?;
        let line = output::verification_progress(&view);
        if terminal {
            eprint!("\r\x1b[K{line}");
            if view.finished {
                eprintln!();
            }
        } else if line != said {
            eprintln!("{line}");
            said = line;
        }
        if view.finished {
            return Ok(view);
        }
        tokio::time::sleep(VERIFY_POLL).await;
    }
}

async fn status(client: &DaemonClient, verification: u64) -> anyhow::Result<VerifyView> {
    match client.operate(&Operation::VerifyStatus { verification }).await? {
        Outcome::Verify(view) => Ok(view),
        _ => unexpected(),
    }
}

async fn ask(connect: &Connect, operation: &Operation) -> Result<Outcome, OperateError> {
    DaemonClient::connect(connect).await?.operate(operation).await
}

/// Asks a person; where there is none, the command line was the decision.
fn confirm(question: &str) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(true);
    }
    eprint!("{question} (y/n): ");
    std::io::stderr().flush().ok();
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn print(text: &str) {
    // A closed pipe (`hawser link list | head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn unexpected<T>() -> anyhow::Result<T> {
    bail!("the daemon's answer does not fit the question: is it of another version?")
}

#[cfg(test)]
mod tests;
