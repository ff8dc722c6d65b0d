//! `hawser link …`: the words and flags of `confluent kafka link`.

use super::{Connect, Login};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum Link {
    /// Make this side's half of a link
    Create(Box<LinkCreate>),
    /// All links of the daemon
    List {
        /// A row for each mirror topic of a link
        #[arg(long)]
        include_topics: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// One link: state, liveness, settings
    Describe {
        /// Name of the link
        #[arg(value_name = "LINK", required_unless_present = "link")]
        name: Option<String>,
        /// Name of the link (other spelling)
        #[arg(long, conflicts_with = "name")]
        link: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Delete this side's half of links
    Delete {
        /// Names of the links
        #[arg(value_name = "LINK", required_unless_present = "link")]
        names: Vec<String>,
        /// Name of the link (other spelling)
        #[arg(long, conflicts_with = "names")]
        link: Option<String>,
        /// Do not ask, and delete a link that has live mirrors too: they stay, read-only and FAILED
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        login: Login,
    },
    /// Show and change a link's settings
    #[command(subcommand)]
    Configuration(LinkConfiguration),
    /// What a link does besides replicating: syncs, and how they fare
    #[command(subcommand)]
    Task(LinkTask),
}

#[derive(Subcommand, Debug)]
pub(crate) enum LinkTask {
    /// Every task of a link
    List {
        /// Name of the link
        #[arg(value_name = "LINK")]
        name: String,
        #[command(flatten)]
        connect: Connect,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum LinkConfiguration {
    /// Every setting with its value and where that comes from
    #[command(visible_alias = "describe")]
    List {
        /// Name of the link
        #[arg(value_name = "LINK", required_unless_present = "link")]
        name: Option<String>,
        /// Name of the link (other spelling)
        #[arg(long, conflicts_with = "name")]
        link: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Change settings; a running link takes them up at once
    Update {
        /// Name of the link
        #[arg(value_name = "LINK", required_unless_present = "link")]
        name: Option<String>,
        /// Name of the link (other spelling)
        #[arg(long, conflicts_with = "name")]
        link: Option<String>,
        /// New settings: `key=value,key=value` (a value with commas in `[…]`), or a file's name; may be repeated. Secrets
        /// belong into a file
        #[arg(long, alias = "config-file", value_name = "K=V,…|FILE", required_unless_present = "delete_config")]
        config: Vec<String>,
        /// Settings that go back to their defaults
        #[arg(long, value_name = "KEY,…", value_delimiter = ',')]
        delete_config: Vec<String>,
        /// Check everything, change nothing
        #[arg(long, alias = "dry-run")]
        validate_only: bool,
        #[command(flatten)]
        login: Login,
    },
}

#[derive(Args, Debug)]
pub(crate) struct LinkCreate {
    /// Name of the link, the same on both sides
    #[arg(value_name = "LINK", required_unless_present = "link")]
    pub(crate) name: Option<String>,
    /// Name of the link (other spelling)
    #[arg(long, conflicts_with = "name")]
    pub(crate) link: Option<String>,
    /// The cluster that this command is for; must be the daemon's own
    #[arg(long, value_name = "ID")]
    pub(crate) cluster: Option<String>,
    /// The other cluster, which is the source
    #[arg(long, alias = "source-cluster-id", value_name = "ID", group = "remote")]
    pub(crate) source_cluster: Option<String>,
    /// The other cluster, which is the destination
    #[arg(long, alias = "destination-cluster-id", value_name = "ID", group = "remote")]
    pub(crate) destination_cluster: Option<String>,
    /// The other cluster, whichever side it is
    #[arg(long, aliases = ["remote-cluster", "remote-cluster-id"], value_name = "ID", group = "remote")]
    pub(crate) cluster_id: Option<String>,
    #[command(flatten)]
    pub(crate) logins: Logins,
    /// Settings: `key=value,key=value` (a value with commas in `[…]`), or a file's name; may be repeated. Secrets belong
    /// into a file
    #[arg(long, value_name = "K=V,…|FILE")]
    pub(crate) config: Vec<String>,
    /// File with the settings of this half
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Check everything, make nothing
    #[arg(long, alias = "dry-run")]
    pub(crate) validate_only: bool,
    /// Do not reach the other side first
    #[arg(long, alias = "exclude-validate-link")]
    pub(crate) no_validate: bool,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

/// Creation with flags only: where a side is, and an API key for it (SASL_SSL with PLAIN: key and secret are user name and
/// password). Every user of this machine sees a command line: a secret of `@FILE` takes the first line of a file, and
/// without its flag the variable HAWSER_SOURCE_API_SECRET (…DESTINATION…, …REMOTE…, …LOCAL…) is taken.
#[derive(Args, Debug)]
pub(crate) struct Logins {
    /// Where the source cluster is
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) source_bootstrap_server: Option<String>,
    /// Login at the source cluster: SASL_SSL with PLAIN, user name
    #[arg(long, value_name = "KEY")]
    pub(crate) source_api_key: Option<String>,
    /// Login at the source cluster: password; `@FILE` takes the first line of a file. Without this flag the variable
    /// HAWSER_SOURCE_API_SECRET is taken; HAWSER_DESTINATION_API_SECRET and so on for the other sides
    #[arg(long, value_name = "SECRET|@FILE", requires = "source_api_key")]
    pub(crate) source_api_secret: Option<String>,
    /// Where the destination cluster is
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) destination_bootstrap_server: Option<String>,
    /// Login at the destination cluster: user name
    #[arg(long, value_name = "KEY")]
    pub(crate) destination_api_key: Option<String>,
    /// Login at the destination cluster: password
    #[arg(long, value_name = "SECRET|@FILE", requires = "destination_api_key")]
    pub(crate) destination_api_secret: Option<String>,
    /// Where the other cluster is, whichever side it is
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["source_bootstrap_server", "destination_bootstrap_server"])]
    pub(crate) remote_bootstrap_server: Option<String>,
    /// Login at the other cluster: user name
    #[arg(long, value_name = "KEY", conflicts_with_all = ["source_api_key", "destination_api_key"])]
    pub(crate) remote_api_key: Option<String>,
    /// Login at the other cluster: password
    #[arg(long, value_name = "SECRET|@FILE", requires = "remote_api_key")]
    pub(crate) remote_api_secret: Option<String>,
    /// Login of a source half at its own cluster: user name
    #[arg(long, value_name = "KEY", conflicts_with = "source_api_key")]
    pub(crate) local_api_key: Option<String>,
    /// Login of a source half at its own cluster: password
    #[arg(long, value_name = "SECRET|@FILE", requires = "local_api_key")]
    pub(crate) local_api_secret: Option<String>,
}
