//! `hawser mirror …`: the words and flags of `confluent kafka mirror`.

use super::Connect;
use clap::{Args, Subcommand};
use hawser_link::mirror::STATUSES;

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
        /// Copies of each partition: the embedded store keeps 1
        #[arg(long, value_name = "N")]
        replication_factor: Option<i16>,
        /// Where the mirror begins: earliest, latest or an ISO-8601 instant; default: what the link says
        #[arg(long, value_name = "SPEC")]
        mirror_start_offset_spec: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },
    /// All mirror topics
    List {
        /// Only this link's
        #[arg(long)]
        link: Option<String>,
        /// Only mirrors in this status
        #[arg(long, value_name = "STATUS", value_parser = STATUSES, ignore_case = true, hide_possible_values = true)]
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
    /// Make mirrors ordinary topics, once they hold all that the source has
    Promote(Alter),
    /// Make mirrors ordinary topics at once, whatever may be missing
    Failover(Alter),
    /// Stop fetching for mirrors; they stay read-only
    Pause(Alter),
    /// Fetch for paused mirrors again
    Resume(Alter),
    /// What keeps a promotion from its end
    #[command(subcommand)]
    StateTransitionError(StateTransitionError),
    /// Refused: takes a bidirectional link, which Hawser does not have
    ReverseAndStart(Alter),
    /// Refused: takes a bidirectional link, which Hawser does not have
    ReverseAndPause(Alter),
    /// Refused: takes a bidirectional link, which Hawser does not have
    TruncateAndRestore {
        #[command(flatten)]
        which: Alter,
        /// Accepted, like the rest of the line
        #[arg(long)]
        include_partitions: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum StateTransitionError {
    /// Everything that a mirror in PENDING_STOPPED waits for
    List {
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

/// Which mirrors are to be changed.
#[derive(Args, Debug)]
pub(crate) struct Alter {
    /// Names of the mirror topics
    #[arg(
        value_name = "TOPIC",
        required_unless_present = "pattern",
        conflicts_with = "pattern",
        value_delimiter = ','
    )]
    pub(crate) topics: Vec<String>,
    /// All mirror topics of the link whose whole name this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub(crate) pattern: Option<String>,
    /// Their link
    #[arg(long)]
    pub(crate) link: String,
    /// Say what would become of each, change nothing
    #[arg(long, alias = "validate-only")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) connect: Connect,
}
