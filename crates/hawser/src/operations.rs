//! The operations on links and mirrors: what can be asked, what comes back, how it is refused. One typed set for every
//! face; the private Kafka API `OPERATE` carries them as JSON, so one login and one grant on the cluster rule them all.
//! [`crate::service`] executes them.

pub(crate) use absent::Absent;
pub(crate) use hawser_link::Alteration;
pub(crate) use hawser_link::mirror::{MirrorAction, MirrorStop};

use hawser_link::promotion::Wait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What can be asked of a daemon.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Operation {
    /// Who are you?
    ClusterDescribe,
    /// Make this daemon's half of a link.
    LinkCreate {
        link: String,
        /// Keys and values as in a link file, secrets included.
        configs: BTreeMap<String, String>,
        remote: Option<RemoteCluster>,
        /// Check everything, make nothing.
        #[serde(default)]
        validate_only: bool,
        /// Make it without reaching the other side.
        #[serde(default)]
        skip_remote_check: bool,
    },
    /// All links.
    LinkList,
    /// One link.
    LinkDescribe { link: String },
    /// Change settings of this daemon's half of a link; all of them or none.
    LinkAlterConfigs {
        link: String,
        changes: Vec<Alteration>,
        /// Check everything, change nothing.
        #[serde(default)]
        validate_only: bool,
    },
    /// The settings of this daemon's half of a link, defaults included.
    LinkDescribeConfigs { link: String },
    /// Remove this daemon's half of a link.
    LinkDelete {
        link: String,
        /// Also with live mirrors; they then stay as they are, FAILED.
        #[serde(default)]
        force: bool,
        /// Only say whether it could be.
        #[serde(default)]
        validate_only: bool,
    },
    /// Begin to mirror a topic.
    MirrorCreate {
        link: String,
        /// Default: the link's prefix and the source topic's name. One of the two names must be given.
        mirror_topic: Option<String>,
        /// Default: the mirror's name without the link's prefix.
        source_topic: Option<String>,
        /// Topic settings that are not always the source's.
        #[serde(default)]
        configs: BTreeMap<String, String>,
        /// The embedded store keeps one replica: 1, or −1 for the default.
        #[serde(default)]
        replication_factor: Option<i16>,
        /// `earliest`, `latest` or an ISO-8601 instant. Default: what the link says.
        #[serde(default)]
        mirror_start_offset_spec: Option<String>,
    },
    /// Promote, fail over, pause or resume mirrors; what is wrong with one does not hold up the others.
    MirrorAlter {
        /// Only mirrors of this link. Without names and pattern: all of them that are not stopped.
        link: Option<String>,
        action: MirrorAction,
        /// Mirrors by name.
        #[serde(default)]
        topics: Vec<String>,
        /// In place of names: a regular expression that the whole name matches. Leaves out what is stopped already.
        #[serde(default)]
        pattern: Option<String>,
        /// Say what would come of it, change nothing.
        #[serde(default)]
        validate_only: bool,
    },
    /// All mirrors, or those of one link.
    MirrorList {
        link: Option<String>,
        /// With every partition of each.
        #[serde(default)]
        partitions: bool,
    },
    /// One mirror with its partitions.
    MirrorDescribe { mirror_topic: String, link: Option<String> },
    /// Begin to compare mirrors with their sources.
    VerifyStart {
        link: String,
        /// Empty: all mirrors of the link.
        #[serde(default)]
        topics: Vec<String>,
        /// Go on comparing what arrives, until stopped.
        #[serde(default)]
        follow: bool,
        /// How long mirrors that end before their sources may stand still before they are called behind; 30 s by default.
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// How far a comparison is.
    VerifyStatus { verification: u64 },
    /// End a comparison and forget it.
    VerifyStop { verification: u64 },
}

/// The other cluster, as the caller named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RemoteCluster {
    /// `--source-cluster`: this half must be a destination.
    Source(String),
    /// `--destination-cluster`: this half must be a source.
    Destination(String),
    /// `--cluster-id`: whichever the other side is.
    Other(String),
}

/// What came of an operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    Cluster(ClusterView),
    /// With what was accepted although it has no effect.
    LinkCreated {
        link: LinkView,
        warnings: Vec<String>,
    },
    /// Checked, and nothing changed; likewise.
    LinkValid {
        warnings: Vec<String>,
    },
    Links {
        links: Vec<LinkView>,
    },
    Link(LinkView),
    /// With what was accepted although it has no effect.
    LinkConfigsAltered {
        warnings: Vec<String>,
    },
    LinkConfigs {
        configs: Vec<LinkConfigView>,
    },
    LinkDeleted,
    MirrorCreated(MirrorView),
    Mirrors {
        mirrors: Vec<MirrorView>,
    },
    Mirror(MirrorView),
    /// In the order in which they were named.
    MirrorsAltered {
        results: Vec<AlteredMirror>,
    },
    VerifyStarted {
        verification: u64,
    },
    Verify(VerifyView),
    VerifyStopped,
}

/// The daemon and its cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClusterView {
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    pub(crate) version: String,
}

/// A link as this daemon sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LinkView {
    pub(crate) link_name: String,
    pub(crate) link_id: Option<String>,
    pub(crate) link_mode: String,
    pub(crate) connection_mode: String,
    pub(crate) local_cluster: String,
    /// Filled at a destination, as the reference does.
    pub(crate) source_cluster: Option<String>,
    /// Filled at a source.
    pub(crate) destination_cluster: Option<String>,
    pub(crate) remote_cluster: Option<String>,
    pub(crate) state: LinkState,
    /// Whether the other side answers, on a paused link as well.
    #[serde(default)]
    pub(crate) remote_is_available: bool,
    /// `NO_ERROR` shows as blank.
    pub(crate) error: String,
    pub(crate) error_message: Option<String>,
    /// Since the other side was last heard on a control connection; `None` on a link that dials its source.
    #[serde(default)]
    pub(crate) last_beat_ms: Option<u64>,
    /// Since a fetch of any mirror was answered.
    #[serde(default)]
    pub(crate) last_fetch_ms: Option<u64>,
    /// Connections that carry the link; `None` where each fetcher dials for itself.
    #[serde(default)]
    pub(crate) connections: Option<u64>,
    /// Control connections from or to the other side.
    pub(crate) members: Vec<MemberView>,
    /// What is kept in sync besides the data; only the half that consumes has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tasks: Vec<TaskView>,
    /// Mirror partitions by state; only the half that consumes has them.
    pub(crate) mirror_partition_states_count: Option<BTreeMap<String, u64>>,
    /// The half's settings, secrets left out.
    pub(crate) configs: BTreeMap<String, String>,
}

/// A setting of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkConfigView {
    pub(crate) name: String,
    /// `None` for a secret, and where there is neither value nor default.
    pub(crate) value: Option<String>,
    pub(crate) is_default: bool,
    /// Cannot be changed on an existing link.
    pub(crate) is_read_only: bool,
    pub(crate) is_sensitive: bool,
    /// `DYNAMIC_CLUSTER_LINK_CONFIG` or `DEFAULT_CONFIG`.
    pub(crate) source: String,
    pub(crate) synonyms: Vec<String>,
}

/// One member of a source half and its connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberView {
    pub(crate) member: String,
    /// Time since the last sign of life.
    pub(crate) last_beat_ms: Option<u64>,
    pub(crate) channels: u64,
}

/// A task of a link, as §3.1 of the reference names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TaskView {
    pub(crate) task_name: String,
    pub(crate) state: String,
    pub(crate) errors: Vec<TaskErrorView>,
    /// When its last pass began, ms since 1970.
    pub(crate) last_run_ms: Option<i64>,
    pub(crate) last_duration_ms: Option<u64>,
    /// Passes since the daemon started, or the link's settings changed.
    pub(crate) runs: u64,
    /// Things written by those passes.
    pub(crate) changed: u64,
    /// Things that the last pass looked at.
    pub(crate) examined: u64,
    /// Things that it left out on purpose.
    #[serde(default)]
    pub(crate) skipped: u64,
    /// Why, for the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped_reasons: Vec<String>,
}

/// One error of a task's last pass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TaskErrorView {
    pub(crate) error_code: String,
    pub(crate) error_message: String,
}

/// State of a link; unlike the reference's, `ACTIVE` means that the other side answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum LinkState {
    Active,
    Paused,
    Unavailable,
    Failed,
}

/// A mirror topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MirrorView {
    pub(crate) link_name: String,
    pub(crate) mirror_topic_name: String,
    pub(crate) source_topic_name: String,
    pub(crate) mirror_status: String,
    pub(crate) mirror_topic_error: Option<String>,
    /// When the decided status began, ms since 1970.
    pub(crate) status_time_ms: i64,
    /// How it is being stopped, or was.
    pub(crate) stopped_by: Option<MirrorStop>,
    /// What keeps a promotion in PENDING_STOPPED.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) waits_for: Vec<WaitView>,
    /// Where it began: `earliest`, `latest` or an ISO-8601 instant.
    pub(crate) mirror_start_offset_spec: String,
    pub(crate) link_id: Option<String>,
    pub(crate) mirror_topic_id: String,
    /// Before the source was asked: none.
    pub(crate) source_topic_id: Option<String>,
    pub(crate) num_partition: i32,
    /// −1 before the first fetch.
    pub(crate) max_per_partition_mirror_lag: i64,
    /// Empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) partitions: Vec<MirrorPartitionView>,
}

/// One thing that a promotion waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitView {
    /// A stable name: `SOURCE_REACHABLE`, `MIRROR_LAG`, ….
    pub(crate) condition: String,
    /// What is missing, for people.
    pub(crate) reason: String,
}

/// What became of one mirror that was to be altered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlteredMirror {
    pub(crate) link_name: String,
    pub(crate) mirror_topic_name: String,
    /// `None`: done, or accepted if it takes its time.
    pub(crate) error_code: Option<RefusalCode>,
    pub(crate) error_message: Option<String>,
    /// Every partition, before the change; empty after an error.
    pub(crate) mirror_lags: Vec<MirrorLag>,
}

/// How far a partition is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorLag {
    pub(crate) partition: i32,
    /// Records; −1 before the first fetch.
    pub(crate) lag: i64,
    /// −1 before the first fetch.
    pub(crate) last_source_fetch_offset: i64,
}

/// A partition of a mirror topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MirrorPartitionView {
    pub(crate) partition: i32,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) log_start_offset: i64,
    pub(crate) log_end_offset: i64,
    /// −1 before the first fetch.
    pub(crate) last_source_high_watermark: i64,
    /// Records; −1 before the first fetch.
    pub(crate) partition_mirror_lag: i64,
    /// Time since the mirror last held all that the source had; 0 if it does.
    pub(crate) partition_mirror_lag_ms: Option<i64>,
    /// −1 before the first fetch.
    pub(crate) last_source_fetch_offset: i64,
    pub(crate) time_since_last_fetch_ms: Option<u64>,
    /// Its log end when the mirror was stopped: below it all is the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stopped_at_offset: Option<i64>,
    pub(crate) size_bytes: u64,
}

/// How a comparison stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct VerifyView {
    pub(crate) finished: bool,
    pub(crate) partitions: u64,
    pub(crate) partitions_done: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    /// Offsets still to be compared.
    pub(crate) offsets_left: u64,
    /// Offsets covered by the comparison so far.
    pub(crate) offsets_compared: u64,
    pub(crate) differences: u64,
    /// The first of them.
    pub(crate) first_difference: Option<String>,
    /// What the source has trimmed or compacted since it was mirrored: no difference, but not compared either.
    pub(crate) not_comparable: Vec<String>,
    /// Why partitions could not be compared to the end.
    pub(crate) errors: Vec<String>,
    /// Partitions that lack what their source held when the comparison began.
    #[serde(default)]
    pub(crate) partitions_behind: u64,
    /// How much, in all of them.
    #[serde(default)]
    pub(crate) records_behind: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) behind: Vec<BehindView>,
}

/// A partition that lacks its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BehindView {
    pub(crate) mirror_topic_name: String,
    pub(crate) partition: i32,
    pub(crate) log_end_offset: i64,
    /// The source's high watermark when the comparison began.
    pub(crate) source_end_offset: i64,
    /// Records (offsets) between the two.
    pub(crate) records_behind: u64,
    /// Why it was not waited for any longer.
    pub(crate) reason: String,
}

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) code: RefusalCode,
    pub(crate) message: String,
}

/// The kinds of refusal, stable names for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum RefusalCode {
    /// The principal lacks ALTER or DESCRIBE on the cluster.
    NotAuthorized,
    /// The operation or its values cannot be understood.
    InvalidRequest,
    /// The link's settings are wrong; the message has all errors.
    InvalidLinkConfig,
    LinkExists,
    LinkNotFound,
    /// The destination has no link of that name, or not one that waits for us.
    RemoteLinkNotFound,
    /// The other side refused this half; the message says why.
    RemoteRefused,
    /// The other side cannot be reached, or no source half is connected.
    LinkUnavailable,
    LinkHasMirrors,
    TopicExists,
    SourceTopicNotFound,
    /// The reference can do it, Hawser cannot; the message says what to do instead.
    Unsupported,
    /// A mirror is named prefix and source topic: no other name.
    TopicRenamingUnsupported,
    InvalidReplicationFactor,
    /// A topic setting that cannot be set on this mirror.
    InvalidTopicConfig,
    MirrorNotFound,
    /// It is a mirror no more.
    MirrorStopped,
    /// It is being promoted or failed over.
    MirrorStopping,
    /// It has failed: only resume, failover and deletion help.
    MirrorFailed,
    VerificationNotFound,
    /// The daemon failed; its log says more.
    Internal,
}

/// The reply that `OPERATE` carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Done(Box<Outcome>),
    Refused(Refusal),
}

/// What the caller must be allowed on the cluster resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Describe,
    Alter,
}

impl Operation {
    /// The right that it takes.
    pub(crate) fn right(&self) -> Right {
        match self {
            Self::ClusterDescribe
            | Self::LinkList
            | Self::LinkDescribe { .. }
            | Self::LinkDescribeConfigs { .. }
            | Self::MirrorList { .. }
            | Self::MirrorDescribe { .. }
            | Self::VerifyStatus { .. } => Right::Describe,
            // A comparison reads whole topics over the link: not for everybody who may look.
            Self::LinkCreate { .. }
            | Self::LinkAlterConfigs { .. }
            | Self::LinkDelete { .. }
            | Self::MirrorCreate { .. }
            | Self::MirrorAlter { .. }
            | Self::VerifyStart { .. }
            | Self::VerifyStop { .. } => Right::Alter,
        }
    }

    /// Whether it changes nothing, and only says whether it could be done.
    pub(crate) fn is_dry_run(&self) -> bool {
        match self {
            Self::LinkCreate { validate_only, .. }
            | Self::LinkAlterConfigs { validate_only, .. }
            | Self::LinkDelete { validate_only, .. }
            | Self::MirrorAlter { validate_only, .. } => *validate_only,
            Self::ClusterDescribe
            | Self::LinkList
            | Self::LinkDescribe { .. }
            | Self::LinkDescribeConfigs { .. }
            | Self::MirrorCreate { .. }
            | Self::MirrorList { .. }
            | Self::MirrorDescribe { .. }
            | Self::VerifyStart { .. }
            | Self::VerifyStatus { .. }
            | Self::VerifyStop { .. } => false,
        }
    }

    /// Its name in the audit log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ClusterDescribe => "cluster describe",
            Self::LinkCreate { .. } => "link create",
            Self::LinkList => "link list",
            Self::LinkDescribe { .. } => "link describe",
            Self::LinkAlterConfigs { .. } => "link configuration update",
            Self::LinkDescribeConfigs { .. } => "link configuration list",
            Self::LinkDelete { .. } => "link delete",
            Self::MirrorCreate { .. } => "mirror create",
            Self::MirrorAlter { action, .. } => match action {
                MirrorAction::Promote => "mirror promote",
                MirrorAction::Failover => "mirror failover",
                MirrorAction::Pause => "mirror pause",
                MirrorAction::Resume => "mirror resume",
            },
            Self::MirrorList { .. } => "mirror list",
            Self::MirrorDescribe { .. } => "mirror describe",
            Self::VerifyStart { .. } => "verify start",
            Self::VerifyStatus { .. } => "verify status",
            Self::VerifyStop { .. } => "verify stop",
        }
    }

    /// What it is about, for the audit log.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::ClusterDescribe | Self::LinkList => String::new(),
            Self::LinkCreate { link, .. }
            | Self::LinkDescribe { link }
            | Self::LinkAlterConfigs { link, .. }
            | Self::LinkDescribeConfigs { link }
            | Self::LinkDelete { link, .. } => link.clone(),
            Self::MirrorCreate { link, mirror_topic, source_topic, .. } => {
                format!("{link}/{}", mirror_topic.as_ref().or(source_topic.as_ref()).map_or("", String::as_str))
            }
            Self::MirrorAlter { link, topics, pattern, .. } => {
                let link = link.as_deref().unwrap_or("-");
                format!("{link}/{}", pattern.clone().unwrap_or_else(|| topics.join(",")))
            }
            Self::MirrorList { link, .. } => link.clone().unwrap_or_default(),
            Self::MirrorDescribe { mirror_topic, .. } => mirror_topic.clone(),
            Self::VerifyStart { link, .. } => link.clone(),
            Self::VerifyStatus { verification } | Self::VerifyStop { verification } => verification.to_string(),
        }
    }
}

impl fmt::Debug for Operation {
    /// Name and subject: link settings hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.subject())
    }
}

impl RemoteCluster {
    /// The id itself.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Source(id) | Self::Destination(id) | Self::Other(id) => id,
        }
    }
}

impl Refusal {
    /// A refusal with its message.
    pub(crate) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Wait> for WaitView {
    fn from(wait: Wait) -> Self {
        Self { condition: wait.condition.as_str().to_owned(), reason: wait.reason }
    }
}

impl From<&MirrorPartitionView> for MirrorLag {
    fn from(partition: &MirrorPartitionView) -> Self {
        Self {
            partition: partition.partition,
            lag: partition.partition_mirror_lag,
            last_source_fetch_offset: partition.last_source_fetch_offset,
        }
    }
}

impl MirrorView {
    /// As lists show it.
    pub(crate) fn without_partitions(mut self) -> Self {
        self.partitions = Vec::new();
        self
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "ACTIVE",
            Self::Paused => "PAUSED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Failed => "FAILED",
        })
    }
}

mod absent;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
