//! `hawser link …`.

use super::settings::{api_secret, api_secret_variable, set_login};
use super::{Exit, ask, confirm, inline_or_file, owned, print, unexpected};
use crate::cli::{Connect, Link, LinkConfiguration, LinkCreate, LinkTask};
use crate::client::{DaemonClient, read_properties};
use crate::operations::{Alteration, Operation, Outcome, RemoteCluster};
use crate::output::{self, LinkConfigRow};
use anyhow::bail;
use hawser_link::{LinkConfig, LinkMode, Properties};
use std::collections::BTreeMap;
use std::path::Path;

/// `hawser link …`.
///
/// # Errors
/// Refusals and failures, for the user to read.
pub(crate) async fn link(command: Link) -> anyhow::Result<Exit> {
    match command {
        Link::Create(create) => link_create(*create).await,
        Link::List { include_topics, connect } => link_list(&connect, include_topics).await,
        Link::Describe { name, link, connect } => {
            let link = name.or(link).unwrap_or_default();
            let Outcome::Link(view) = ask(&connect.login, &Operation::LinkDescribe { link }).await? else {
                return unexpected();
            };
            print(&output::show(connect.output, &view, output::link));
            Ok(Exit::Done)
        }
        Link::Delete { names, link, force, login } => {
            let client = DaemonClient::connect(&login).await?;
            for link in names.into_iter().chain(link) {
                if !force && !confirm(&format!("Delete cluster link \"{link}\"?"))? {
                    eprintln!("Left cluster link \"{link}\" as it is.");
                    continue;
                }
                client.operate(&Operation::LinkDelete { link: link.clone(), force, validate_only: false }).await?;
                print(&format!("Deleted cluster link \"{link}\"."));
            }
            Ok(Exit::Done)
        }
        Link::Task(LinkTask::List { name, connect }) => {
            let Outcome::Link(view) = ask(&connect.login, &Operation::LinkDescribe { link: name }).await? else {
                return unexpected();
            };
            print(&output::show(connect.output, &view.tasks, |t| output::link_tasks(t)));
            Ok(Exit::Done)
        }
        Link::Configuration(LinkConfiguration::List { name, link, connect }) => {
            let link = name.or(link).unwrap_or_default();
            let outcome = ask(&connect.login, &Operation::LinkDescribeConfigs { link }).await?;
            let Outcome::LinkConfigs { configs } = outcome else { return unexpected() };
            let rows: Vec<_> = configs.iter().map(LinkConfigRow::from).collect();
            print(&output::show(connect.output, &rows, |rows| output::link_configs(rows)));
            Ok(Exit::Done)
        }
        Link::Configuration(LinkConfiguration::Update { name, link, config, delete_config, validate_only, login }) => {
            let link = name.or(link).unwrap_or_default();
            let changes = changes(&config, delete_config)?;
            let operation = Operation::LinkAlterConfigs { link: link.clone(), changes, validate_only };
            let Outcome::LinkConfigsAltered { warnings } = ask(&login, &operation).await? else {
                return unexpected();
            };
            for warning in warnings {
                eprintln!("Warning: {warning}");
            }
            print(&match validate_only {
                true => format!("The settings are valid for cluster link \"{link}\"; nothing was changed."),
                false => format!("Updated cluster link \"{link}\"."),
            });
            Ok(Exit::Done)
        }
    }
}

async fn link_list(connect: &Connect, include_topics: bool) -> anyhow::Result<Exit> {
    let client = DaemonClient::connect(&connect.login).await?;
    let Outcome::Links { links } = client.operate(&Operation::LinkList).await? else { return unexpected() };
    if !include_topics {
        print(&output::show(connect.output, &links, |l| output::links(l)));
        return Ok(Exit::Done);
    }
    let Outcome::Mirrors { mirrors } = client.operate(&Operation::MirrorList { link: None, partitions: false }).await?
    else {
        return unexpected();
    };
    let rows = output::links_with_topics(&links, &mirrors);
    print(&output::show(connect.output, &rows, |rows| output::link_topics(rows)));
    Ok(Exit::Done)
}

/// What `--config` sets (the later wins) and `--delete-config` puts back to its default.
fn changes(config: &[String], deleted: Vec<String>) -> anyhow::Result<Vec<Alteration>> {
    let mut set = BTreeMap::new();
    for text in config {
        set.extend(inline_or_file(text)?);
    }
    let set = set.into_iter().map(|(name, value)| Alteration { name, value: Some(value) });
    Ok(set.chain(deleted.into_iter().map(|name| Alteration { name, value: None })).collect())
}

async fn link_create(create: LinkCreate) -> anyhow::Result<Exit> {
    let configs = link_configs(&create)?;
    // The daemon checks again and warns again; only here are the file's lines known.
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
    let client = DaemonClient::connect(&create.connect.login).await?;
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
        Outcome::LinkCreated { link: view, .. } => {
            output::show(create.connect.output, view, |_| format!("Created cluster link \"{link}\"."))
        }
        Outcome::LinkValid { warnings } => {
            let valid = serde_json::json!({ "link_name": link, "is_valid": true, "warnings": warnings });
            output::show(create.connect.output, &valid, |_| {
                format!("Cluster link \"{link}\" is valid; nothing was created.")
            })
        }
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
    // Which side the flags speak of: at a source half the source is this side, and its keys are the local ones.
    let at_source = configs.value("link.mode").is_some_and(|mode| mode.parse() == Ok(LinkMode::Source));
    let f = &create.logins;
    let sides = [
        ("source", at_source, f.source_bootstrap_server.as_ref(), f.source_api_key.as_ref(), &f.source_api_secret),
        (
            "destination",
            !at_source,
            f.destination_bootstrap_server.as_ref(),
            f.destination_api_key.as_ref(),
            &f.destination_api_secret,
        ),
        ("remote", false, f.remote_bootstrap_server.as_ref(), f.remote_api_key.as_ref(), &f.remote_api_secret),
        ("local", true, None, f.local_api_key.as_ref(), &f.local_api_secret),
    ];
    for (side, is_ours, server, key, secret) in sides {
        let prefix = if is_ours { "local." } else { "" };
        if let Some(server) = server {
            configs.set(&format!("{prefix}bootstrap.servers"), server);
        }
        if let Some(key) = key {
            let secret = api_secret(side, secret.as_deref(), std::env::var(api_secret_variable(side)).ok())?;
            set_login(&mut configs, prefix, key, &secret);
        }
    }
    Ok(configs)
}

#[cfg(test)]
mod tests;
