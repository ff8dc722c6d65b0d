//! How each task of a link stands, in the words of the reference (§3.1 of its facts).

use std::fmt;

/// What is kept in sync besides the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Committed offsets of consumer groups: `consumer.offset.sync.*`.
    ConsumerOffsetSync,
    /// ACLs: `acl.sync.*`.
    AclSync,
    /// Mirrors of matching topics: `auto.create.mirror.topics.*`.
    AutoCreateMirror,
    /// Topic configs: `topic.config.sync.*`.
    TopicConfigsSync,
}

/// Whether a task does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Its last pass went through, or none is done yet.
    Active,
    /// Its last pass met the errors that it shows.
    InError,
    /// Its settings do not ask for it.
    NotConfigured,
    /// The source cannot be reached; it goes on by itself.
    LinkUnavailable,
    /// The source refuses the link's login: somebody must mend it.
    LinkFailed,
    /// `cluster.link.paused`.
    LinkPaused,
}

/// The kinds of error that a task can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskErrorCode {
    /// This side failed.
    Internal,
    /// The login at the source was refused.
    Authentication,
    /// The link's login at the source lacks a right, named in the message.
    Authorization,
    /// A synced group has members at the destination: its offsets are left alone.
    ConsumerGroupInUse,
    /// The source has no authorizer.
    SecurityDisabled,
    /// A topic of that name is here already, and is no mirror of this link.
    TopicExists,
    /// The destination does not allow the change.
    PolicyViolation,
    /// The source answers that it does not know a topic.
    UnknownTopicOrPartition,
    /// More ACLs match than are taken.
    AclLimitExceeded,
    /// Anything else that the source answered.
    Unknown,
}

/// One thing that went wrong in the last pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{message}")]
pub struct TaskError {
    /// Its kind.
    pub code: TaskErrorCode,
    /// What, where and what to do; without secrets.
    pub message: String,
}

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Which.
    pub task: Task,
    /// Whether it does its work.
    pub state: TaskState,
    /// When the last pass began, ms since 1970.
    pub last_run_ms: Option<i64>,
    /// How long it took, ms.
    pub last_duration_ms: Option<u64>,
    /// Passes since the daemon started.
    pub runs: u64,
    /// Things that all passes changed: offsets, configs, ACLs or topics.
    pub changed: u64,
    /// What the last pass looked at: groups, topics or ACLs.
    pub examined: u64,
    /// Errors of the last pass, at most [`SHOWN_MAX`] and one that counts the rest.
    pub errors: Vec<TaskError>,
    /// What the last pass left out on purpose.
    pub skipped: u64,
    /// Why, for at most [`SHOWN_MAX`] of them.
    pub skipped_reasons: Vec<String>,
}

/// Errors of one pass that are kept, and reasons of what it left out; the rest are counted.
pub(crate) const SHOWN_MAX: usize = 20;

impl Task {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ConsumerOffsetSync, Self::AclSync, Self::AutoCreateMirror, Self::TopicConfigsSync];

    /// The reference's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConsumerOffsetSync => "ConsumerOffsetSync",
            Self::AclSync => "AclSync",
            Self::AutoCreateMirror => "AutoCreateMirror",
            Self::TopicConfigsSync => "TopicConfigsSync",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl TaskState {
    /// The reference's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::InError => "IN_ERROR",
            Self::NotConfigured => "NOT_CONFIGURED",
            Self::LinkUnavailable => "LINK_UNAVAILABLE",
            Self::LinkFailed => "LINK_FAILED",
            Self::LinkPaused => "LINK_PAUSED",
        }
    }
}

impl TaskErrorCode {
    /// The reference's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "INTERNAL_ERROR",
            Self::Authentication => "AUTHENTICATION_ERROR",
            Self::Authorization => "AUTHORIZATION_ERROR",
            Self::ConsumerGroupInUse => "CONSUMER_GROUP_IN_USE_ERROR",
            Self::SecurityDisabled => "SECURITY_DISABLED_ERROR",
            Self::TopicExists => "TOPIC_EXISTS_ERROR",
            Self::PolicyViolation => "POLICY_VIOLATION_ERROR",
            Self::UnknownTopicOrPartition => "UNKNOWN_TOPIC_OR_PARTITION_ERROR",
            Self::AclLimitExceeded => "ACL_LIMIT_EXCEEDED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl TaskError {
    /// An error of kind `code`.
    pub fn new(code: TaskErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl TaskStatus {
    /// What it did, without what it met: nobody is to mend that any more.
    pub(crate) fn turned_off(self) -> Self {
        let Self { task, last_run_ms, last_duration_ms, runs, changed, examined, .. } = self;
        Self { last_run_ms, last_duration_ms, runs, changed, examined, ..Self::new(task) }
    }

    pub(crate) const fn new(task: Task) -> Self {
        Self {
            task,
            state: TaskState::NotConfigured,
            last_run_ms: None,
            last_duration_ms: None,
            runs: 0,
            changed: 0,
            examined: 0,
            errors: Vec::new(),
            skipped: 0,
            skipped_reasons: Vec::new(),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
