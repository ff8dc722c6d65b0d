//! The command line: words and flags as operators of cluster links know them. Only parsing; [`crate::commands`] acts.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 verify found a difference.\n\
Standard output is data, standard error is talk.";

/// Hawser links Kafka clusters across a firewall, byte for byte.
#[derive(Parser, Debug)]
#[command(name = "hawser", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What to log: a level, or directives such as `info,hawser_transport=debug`
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// How to log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a daemon
    Serve(Serve),
    /// Make, show and delete cluster links
    #[command(subcommand)]
    Link(Link),
    /// Make and show mirror topics
    #[command(subcommand)]
    Mirror(Mirror),
    /// Compare mirrors with their sources, batch by batch, while both run
    #[command(after_help = EXIT_CODES)]
    Verify(Verify),
    /// Show the whole thing on this machine: a stock Kafka, two daemons, a link and a mirror
    Quickstart(Quickstart),
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The daemon's file; docs/configuration.md has all keys
    #[arg(value_name = "FILE", required_unless_present = "dump_config")]
    pub(crate) file: Option<PathBuf>,
    /// Check the file, print every key with its value (secrets hidden), and leave
    #[arg(long)]
    pub(crate) dump_config: bool,
    /// Write the bound addresses to this file when ready, one `NAME://host:port` a line
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// How to reach the daemon, as with Kafka's own tools.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Connect {
    /// A listener of the daemon
    #[arg(long, value_name = "HOST:PORT", env = "HAWSER_BOOTSTRAP_SERVER")]
    pub(crate) bootstrap_server: Option<String>,
    /// Client settings (security.protocol, sasl.*, ssl.*)
    #[arg(long, value_name = "FILE", env = "HAWSER_COMMAND_CONFIG")]
    pub(crate) command_config: Option<PathBuf>,
    /// How to print results
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Human,
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Link {
    /// Make this side's half of a link
    Create(Box<LinkCreate>),
    /// All links of the daemon
    List {
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
        /// Do not ask, and delete a link that has live mirrors too
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        connect: Connect,
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
    /// Sets bootstrap.servers of a destination-initiated link
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) source_bootstrap_server: Option<String>,
    /// Login at the source: SASL_SSL with PLAIN, user name
    #[arg(long, value_name = "KEY")]
    pub(crate) source_api_key: Option<String>,
    /// Login at the source: SASL_SSL with PLAIN, password. Every user of this machine sees a command line: `@FILE` takes
    /// the first line of a file, and without this flag HAWSER_SOURCE_API_SECRET is taken
    #[arg(long, value_name = "SECRET|@FILE", requires = "source_api_key")]
    pub(crate) source_api_secret: Option<String>,
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

#[derive(Subcommand, Debug)]
pub(crate) enum Mirror {
    /// Begin to mirror a topic
    Create {
        /// Name of the mirror topic
        #[arg(value_name = "TOPIC")]
        topic: String,
        /// The link that it comes over
        #[arg(long)]
        link: String,
        /// Name at the source, if another
        #[arg(long, value_name = "TOPIC")]
        source_topic: Option<String>,
        /// Topic settings: `key=value,…` or a file's name
        #[arg(long, value_name = "K=V,…|FILE")]
        config: Vec<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// All mirror topics
    List {
        /// Only this link's
        #[arg(long)]
        link: Option<String>,
        /// Only mirrors in this status
        #[arg(long, value_name = "STATUS")]
        mirror_status: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// One mirror topic with its partitions
    Describe {
        /// Name of the mirror topic
        #[arg(value_name = "TOPIC")]
        topic: String,
        /// Its link
        #[arg(long)]
        link: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The link whose mirrors are compared
    #[arg(long)]
    pub(crate) link: String,
    /// Only this mirror topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Vec<String>,
    /// Go on with what arrives, until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct Quickstart {
    /// End by itself when all is shown (default when not on a terminal)
    #[arg(long, conflicts_with = "keep")]
    pub(crate) once: bool,
    /// Stay up until Ctrl-C (default on a terminal)
    #[arg(long)]
    pub(crate) keep: bool,
    /// Use this Kafka instead of starting one
    #[arg(long, value_name = "HOST:PORT", requires = "topic")]
    pub(crate) source: Option<String>,
    /// Client settings for --source
    #[arg(long, value_name = "FILE", requires = "source")]
    pub(crate) command_config: Option<PathBuf>,
    /// The topic of --source to mirror
    #[arg(long, requires = "source")]
    pub(crate) topic: Option<String>,
    /// The one folder that everything is written to
    #[arg(long, value_name = "DIR", default_value = "hawser-quickstart")]
    pub(crate) dir: PathBuf,
    /// A folder with stock Kafka's jars, instead of fetching them with Maven
    #[arg(long, value_name = "DIR", env = "HAWSER_KAFKA_LIB")]
    pub(crate) kafka_lib: Option<PathBuf>,
}
