//! The life of a mirror topic: which status follows which, what a command means in each, and what is shown.
//!
//! ```text
//!                  flows              pause
//!   PENDING_MIRROR ─────► ACTIVE ◄───────────► PAUSED
//!     ▲                     │         resume     │
//!     │ resume              │ promote            │ promote
//!     │                     ▼                    ▼
//!   FAILED ─ failover ─► PENDING_STOPPED ◄───────┘
//!     ▲                     │ stopped
//!     │ fails               ▼
//!   (any but STOPPED)    STOPPED
//! ```
//!
//! A promotion waits in PENDING_STOPPED for the mirror to hold all that its source has; a failover (from every status
//! but STOPPED, also to cut a promotion's wait short) passes through it at once. Either goes on after a restart.
//! LINK_PAUSED, LINK_FAILED and SOURCE_UNAVAILABLE are not decided but seen: see [`MirrorStatus::shown`].

use serde::{Deserialize, Serialize};

/// What was decided about a mirror topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MirrorStatus {
    /// About to be mirrored again after a failure.
    PendingMirror,
    /// Mirrored.
    Active,
    /// Not fetched until somebody resumes it.
    Paused,
    /// Promoted or failed over, but not writable yet.
    PendingStopped,
    /// An ordinary topic, which remembers its link.
    Stopped,
    /// At a dead end.
    Failed,
}

/// Every status by which mirrors can be asked for: what [`MirrorStatus::shown`] shows, and what only reversal and restore
/// have (the reference knows these words, so they are no slips; nothing here is ever in them).
pub const STATUSES: [&str; 13] = [
    "ACTIVE",
    "FAILED",
    "LINK_FAILED",
    "LINK_PAUSED",
    "PAUSED",
    "PENDING_MIRROR",
    "PENDING_RESTORE",
    "PENDING_SETUP_FOR_RESTORE",
    "PENDING_STOPPED",
    "PENDING_SYNCHRONIZE",
    "SOURCE_UNAVAILABLE",
    "STOPPED",
    "UNKNOWN",
];

/// How a mirror becomes an ordinary topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MirrorStop {
    /// When it holds all that the source has.
    Promote,
    /// At once, with what it holds.
    Failover,
}

/// What an operator asks of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MirrorAction {
    /// Stop it without loss.
    Promote,
    /// Stop it now.
    Failover,
    /// Fetch nothing until it is resumed.
    Pause,
    /// Go on after a pause; try again after a failure.
    Resume,
}

/// What happens to a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorFact {
    /// Every partition is being fetched.
    Flows,
    /// It came to a dead end.
    Fails,
    /// Its logs take writes.
    Stopped,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it is so already.
    None,
    /// The status becomes this one.
    Becomes(MirrorStatus),
    /// The status becomes PENDING_STOPPED, and the mirror is stopped so.
    Stops(MirrorStop),
}

/// Why a command has no place in a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfPlace {
    /// It is a mirror no more.
    Stopped,
    /// It is being stopped.
    Stopping,
    /// It has failed.
    Failed,
}

/// What is seen of a mirror's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkSeen {
    /// The source answers.
    Up,
    /// The whole link is paused.
    Paused,
    /// The source cannot be reached; that is tried again.
    Unavailable,
    /// It cannot work until somebody changes it.
    Failed,
}

/// What is seen of a mirror's source topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSeen {
    /// It answers, or has not been asked yet.
    There,
    /// It does not answer; that is tried again.
    Unavailable,
    /// The topic or one of its partitions is at a dead end.
    Failed,
}

impl MirrorStatus {
    /// What `action` does to a mirror of this status.
    ///
    /// # Errors
    /// When it has no place there.
    pub fn on_action(self, action: MirrorAction) -> Result<Effect, OutOfPlace> {
        use MirrorAction::{Failover, Pause, Promote, Resume};
        match (self, action) {
            (Self::Stopped, Promote | Failover | Pause | Resume) => Err(OutOfPlace::Stopped),
            (Self::PendingStopped, Pause | Resume) => Err(OutOfPlace::Stopping),
            (Self::PendingStopped, Promote) => Ok(Effect::None),
            (Self::Failed, Promote | Pause) => Err(OutOfPlace::Failed),
            (Self::PendingMirror | Self::Active | Self::Paused, Promote) => Ok(Effect::Stops(MirrorStop::Promote)),
            (Self::PendingMirror | Self::Active | Self::Paused | Self::PendingStopped | Self::Failed, Failover) => {
                Ok(Effect::Stops(MirrorStop::Failover))
            }
            (Self::PendingMirror | Self::Active, Pause) => Ok(Effect::Becomes(Self::Paused)),
            (Self::Paused, Resume) => Ok(Effect::Becomes(Self::Active)),
            (Self::Failed, Resume) => Ok(Effect::Becomes(Self::PendingMirror)),
            (Self::Paused, Pause) | (Self::PendingMirror | Self::Active, Resume) => Ok(Effect::None),
        }
    }

    /// The status after `fact`.
    #[must_use]
    pub fn on_fact(self, fact: MirrorFact) -> Self {
        match (self, fact) {
            (Self::PendingMirror, MirrorFact::Flows) => Self::Active,
            (Self::PendingStopped, MirrorFact::Stopped) => Self::Stopped,
            (Self::PendingMirror | Self::Active | Self::Paused | Self::PendingStopped, MirrorFact::Fails) => {
                Self::Failed
            }
            (Self::Active | Self::Paused | Self::PendingStopped | Self::Stopped | Self::Failed, MirrorFact::Flows)
            | (Self::Stopped | Self::Failed, MirrorFact::Fails)
            | (Self::PendingMirror | Self::Active | Self::Paused | Self::Stopped | Self::Failed, MirrorFact::Stopped) => {
                self
            }
        }
    }

    /// Whether its link still has to do with it, so that the link must not vanish unasked.
    pub fn is_live(self) -> bool {
        match self {
            Self::PendingMirror | Self::Active | Self::Paused | Self::PendingStopped => true,
            Self::Stopped | Self::Failed => false,
        }
    }

    /// What operators see: what was decided, and while that is to be mirrored, what is seen. What needs a hand comes before
    /// what was done by hand, and both before what passes by itself.
    pub fn shown(self, link: LinkSeen, source: SourceSeen) -> &'static str {
        match (self, link, source) {
            (Self::Stopped, _, _) => "STOPPED",
            (Self::PendingStopped, _, _) => "PENDING_STOPPED",
            (Self::Failed, _, _) | (Self::PendingMirror | Self::Active | Self::Paused, _, SourceSeen::Failed) => {
                "FAILED"
            }
            (Self::Paused, _, _) => "PAUSED",
            (_, LinkSeen::Failed, _) => "LINK_FAILED",
            (_, LinkSeen::Paused, _) => "LINK_PAUSED",
            (_, LinkSeen::Unavailable, _) | (_, _, SourceSeen::Unavailable) => "SOURCE_UNAVAILABLE",
            (Self::PendingMirror, LinkSeen::Up, SourceSeen::There) => "PENDING_MIRROR",
            (Self::Active, LinkSeen::Up, SourceSeen::There) => "ACTIVE",
        }
    }
}

#[cfg(test)]
mod tests;
