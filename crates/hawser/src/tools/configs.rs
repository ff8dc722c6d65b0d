//! `kafka-configs --cluster-link`: a link's settings. Everything else that the stock tool of this name does, it does
//! itself against the daemon's listener.

use crate::cli::Login;
use crate::client::{DaemonClient, Usage};
use crate::commands::{Exit, print, unexpected};
use crate::operations::{Alteration, LinkConfigView, Operation, Outcome};
use clap::{ArgGroup, Args};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(
    group(ArgGroup::new("action").required(true).args(["describe", "alter"])),
    after_help = "For topics, users, brokers and the rest use Kafka's own kafka-configs."
)]
pub(crate) struct Flags {
    #[command(flatten)]
    login: Login,
    /// Show the settings
    #[arg(long)]
    describe: bool,
    /// Change settings
    #[arg(long)]
    alter: bool,
    /// Name of the link
    #[arg(long, value_name = "LINK")]
    cluster_link: String,
    /// New settings: `key=value,key=value`, a value with commas in `[…]`
    #[arg(long, value_name = "K=V,…", conflicts_with = "describe")]
    add_config: Option<String>,
    /// File with new settings
    #[arg(long, value_name = "FILE", conflicts_with_all = ["describe", "add_config"])]
    add_config_file: Option<PathBuf>,
    /// Settings that go back to their defaults
    #[arg(long, value_name = "KEY,…", conflicts_with = "describe", value_delimiter = ',')]
    delete_config: Vec<String>,
    /// Accepted: all settings are shown in any case
    #[arg(long, conflicts_with = "alter")]
    all: bool,
}

/// Does what `flags` say.
///
/// # Errors
/// Refusals and failures, for the user to read.
pub(crate) async fn run(flags: Flags) -> anyhow::Result<Exit> {
    let link = flags.cluster_link.clone();
    let changes = if flags.alter { changes(&flags)? } else { Vec::new() };
    let client = DaemonClient::connect(&flags.login).await?;
    if flags.alter {
        let operation = Operation::LinkAlterConfigs { link: link.clone(), changes, validate_only: false };
        let Outcome::LinkConfigsAltered { warnings } = client.operate(&operation).await? else { return unexpected() };
        for warning in warnings {
            eprintln!("Warning: {warning}");
        }
        print(&format!("Completed updating config for cluster-link {link}."));
    } else {
        let operation = Operation::LinkDescribeConfigs { link: link.clone() };
        let Outcome::LinkConfigs { configs } = client.operate(&operation).await? else { return unexpected() };
        print(&described(&link, &configs));
    }
    Ok(Exit::Done)
}

fn changes(flags: &Flags) -> anyhow::Result<Vec<Alteration>> {
    let added = super::settings(flags.add_config_file.as_deref(), "--add-config", flags.add_config.as_deref())?;
    let added = added.into_iter().map(|(name, value)| Alteration { name, value: Some(value) });
    let deleted = flags.delete_config.iter().map(|name| Alteration { name: name.trim().to_owned(), value: None });
    let changes: Vec<_> = added.chain(deleted).collect();
    if changes.is_empty() {
        return Err(Usage("--alter needs --add-config, --add-config-file or --delete-config").into());
    }
    Ok(changes)
}

fn described(link: &str, configs: &[LinkConfigView]) -> String {
    let mut lines = vec![format!("Dynamic configs for cluster-link {link} are:")];
    lines.extend(configs.iter().map(|config| {
        let value = config.value.as_deref().unwrap_or("null");
        format!(
            "  {}={value} sensitive={} synonyms={{{}}}",
            config.name,
            config.is_sensitive,
            config.synonyms.join(", ")
        )
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::operations::samples;
    use clap::Parser;

    fn flags(args: &[&str]) -> Result<Flags, clap::Error> {
        let all = ["hawser", "kafka-configs", "--bootstrap-server", "h:1", "--cluster-link", "l"];
        match Cli::try_parse_from(all.iter().chain(args))?.command {
            Command::KafkaConfigs(flags) => Ok(flags),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_are_shown_as_a6_shows_them() {
        let configs = [
            samples::config("reconnect.backoff.ms", Some("50"), false),
            samples::config("sasl.jaas.config", None, true),
        ];
        assert_eq!(
            described("from-cloud-link", &configs),
            "Dynamic configs for cluster-link from-cloud-link are:\n\
             \x20 reconnect.backoff.ms=50 sensitive=false synonyms={}\n\
             \x20 sasl.jaas.config=null sensitive=true synonyms={}"
        );
    }

    #[test]
    fn added_and_deleted_settings_are_one_change() {
        let flags = flags(&["--alter", "--add-config", "a=1,b=[x,y]", "--delete-config", "c,d"]).unwrap();
        let changes: Vec<_> = changes(&flags).unwrap().into_iter().map(|c| (c.name, c.value)).collect();
        let expected = [("a", Some("1")), ("b", Some("x,y")), ("c", None), ("d", None)];
        assert_eq!(changes, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
    }

    #[test]
    fn what_says_nothing_is_wrong_usage() {
        assert!(flags(&[]).is_err());
        assert!(flags(&["--describe", "--alter"]).is_err());
        assert!(flags(&["--describe", "--add-config", "a=1"]).is_err());
        assert!(changes(&flags(&["--alter"]).unwrap()).is_err_and(|error| error.is::<Usage>()));
    }
}
