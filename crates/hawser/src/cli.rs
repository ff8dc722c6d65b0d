//! The command line: words and flags as operators of cluster links know them. Only parsing; [`crate::commands`] acts.

mod link;
mod mirror;

pub(crate) use link::{Link, LinkConfiguration, LinkCreate, LinkTask};
pub(crate) use mirror::{Alter, Mirror, StateTransitionError};

use crate::tools;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 verify found a difference · \
4 verify found none, but a mirror ends before its source.\n\
Standard output is data, standard error is talk.";

/// Else these two, which every command has, stand among its own.
const LOGGING: &str = "Logging";

/// Hawser links Kafka clusters across a firewall, byte for byte.
#[derive(Parser, Debug)]
#[command(name = "hawser", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What to log: a level, or directives such as `info,hawser_transport=debug`
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER", hide_env_values = true, help_heading = LOGGING)]
    pub(crate) log: Option<String>,
    /// How to log on standard error
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Human, help_heading = LOGGING)]
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
    /// Make, show, change and delete cluster links
    #[command(subcommand)]
    Link(Link),
    /// Make, show and change mirror topics
    #[command(subcommand)]
    Mirror(Mirror),
    /// Compare mirrors with their sources, batch by batch, while both run
    ///
    /// Each mirror must hold, unchanged, all that its source held when the comparison began. One that is catching up is waited
    /// for; one that is paused or FAILED is compared as far as it goes, and so is one that was promoted or failed over.
    #[command(after_help = EXIT_CODES)]
    Verify(Verify),
    /// Show the whole thing on this machine: a stock Kafka, two daemons, a link and a mirror
    Quickstart(Quickstart),
    /// Print the completion script of a shell
    Completion {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Cluster links with the flags and outputs of the tool of this name
    KafkaClusterLinks(tools::cluster_links::Flags),
    /// Mirror topics with the flags and outputs of the tool of this name
    KafkaMirrors(tools::mirrors::Flags),
    /// A link's settings with the flags and outputs of the tool of this name
    KafkaConfigs(tools::configs::Flags),
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
pub(crate) struct Login {
    /// A listener of the daemon
    #[arg(long, value_name = "HOST:PORT", env = "HAWSER_BOOTSTRAP_SERVER")]
    pub(crate) bootstrap_server: Option<String>,
    /// Client settings (security.protocol, sasl.*, ssl.*)
    #[arg(long, value_name = "FILE", env = "HAWSER_COMMAND_CONFIG")]
    pub(crate) command_config: Option<PathBuf>,
}

/// How to reach the daemon, and how to print what it says.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) login: Login,
    /// How to print results
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Human,
    Json,
    Yaml,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The link whose mirrors are compared
    #[arg(long)]
    pub(crate) link: String,
    /// Only this mirror topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Vec<String>,
    /// Go on with what arrives, until Ctrl-C; no mirror is called behind then
    #[arg(long)]
    pub(crate) follow: bool,
    /// How long mirrors that end before their sources may stand still before they are called behind
    #[arg(long, value_name = "MS", default_value_t = 30_000, conflicts_with = "follow")]
    pub(crate) timeout_ms: u64,
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
