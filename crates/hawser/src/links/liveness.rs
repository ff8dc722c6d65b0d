//! How a link stands, from what its parts see. Nothing here asks anybody: what was seen comes in, what is shown comes out.
//!
//! Unlike the reference's, `ACTIVE` means that the other side answers: beats on a control connection, answers on a
//! dialled one; and the source cluster, as far as anybody asked it. As in the reference, `FAILED` is a link that needs
//! somebody: its login is refused or lacks the right, or the daemon is at fault. It is tried again all the same, so a login
//! that is mended at the other side needs nothing here.

use crate::operations::{LinkState, MemberView};
use hawser_inbound::InboundStatus;
use hawser_link::reversal::{Refusal, RefusalCode};
use hawser_outbound::{Cause, OutboundState, OutboundStatus};
use hawser_replicate::Unreachable;
use hawser_transport::{ClientError, LeaseError, Obstacle};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The reference's names of link errors that stand here more than once.
const NO_ERROR: &str = "NO_ERROR";
const TIMEOUT: &str = "TIMEOUT_ERROR";
pub(super) const UNKNOWN: &str = "UNKNOWN";
const REMOTE_LINK_NOT_FOUND: &str = "REMOTE_LINK_NOT_FOUND_ERROR";
pub(super) const AUTHENTICATION: &str = "AUTHENTICATION_ERROR";
const AUTHORIZATION: &str = "AUTHORIZATION_ERROR";

/// What is seen of a half.
pub(crate) enum Seen<'a> {
    /// Of one that lends its cluster.
    Source(&'a OutboundStatus),
    /// Of one that holds mirrors and is dialled.
    Reversed {
        half: &'a InboundStatus,
        /// What keeps its fetchers, if anything does.
        fetchers: Option<&'a Unreachable>,
        /// What keeps its findings from being written down, if anything does.
        keeper: Option<&'a str>,
    },
    /// Of one that holds mirrors and dials.
    Direct { fetchers: Option<&'a Unreachable>, keeper: Option<&'a str> },
    /// It could not be started.
    Broken(&'a str),
    /// It is not there, for a moment of its making or its end.
    Missing,
}

/// How a link stands.
#[derive(Debug)]
pub(crate) struct Liveness {
    pub(crate) state: LinkState,
    /// As the reference names it.
    pub(crate) error: &'static str,
    pub(crate) error_message: Option<String>,
    /// Since the other side was last heard on a control connection.
    pub(crate) last_beat_ms: Option<u64>,
    /// Connections that carry the link: control connections and channels. `None` where each fetcher dials for itself.
    pub(crate) connections: Option<u64>,
    pub(crate) members: Vec<MemberView>,
    pub(crate) link_id: Option<Uuid>,
    pub(crate) remote_cluster_id: Option<String>,
}

impl Liveness {
    /// What `seen` means at `now`.
    pub(crate) fn of(seen: &Seen<'_>, now: Instant) -> Self {
        match seen {
            Seen::Source(status) => Self::of_source(status, now),
            Seen::Reversed { half, fetchers, keeper } => Self::of_reversed(half, *fetchers, *keeper, now),
            Seen::Direct { fetchers, keeper } => match fetchers {
                Some(why) => Self::unreached(why),
                None => Self::in_state(LinkState::Active, NO_ERROR, None).kept_by(*keeper),
            },
            Seen::Broken(why) => Self::in_state(LinkState::Failed, UNKNOWN, Some((*why).to_owned())),
            Seen::Missing => Self::in_state(LinkState::Failed, UNKNOWN, Some("the link is not running".to_owned())),
        }
    }

    fn of_source(status: &OutboundStatus, now: Instant) -> Self {
        let is_open = status.state == OutboundState::Open;
        let error = status.cause.map_or(NO_ERROR, cause_error);
        let state = match (status.state, status.cause) {
            // With a refused `local.*` login it is there, too, with nothing to lend.
            (OutboundState::Open, Some(Cause::Local(_))) => state_of(error),
            (OutboundState::Open, _) => LinkState::Active,
            (_, Some(Cause::Panicked)) => LinkState::Failed,
            (_, _) => state_of(error),
        };
        Self {
            last_beat_ms: status.last_heard.map(|at| millis(now.saturating_duration_since(at))),
            connections: Some(status.channels_open as u64 + u64::from(is_open)),
            link_id: status.link_id,
            remote_cluster_id: status.destination_cluster_id.clone(),
            ..Self::in_state(state, error, status.reason.clone())
        }
    }

    fn of_reversed(half: &InboundStatus, fetchers: Option<&Unreachable>, keeper: Option<&str>, now: Instant) -> Self {
        let since = |at: Instant| millis(now.saturating_duration_since(at));
        let members: Vec<_> = half
            .members
            .iter()
            .map(|member| MemberView {
                member: member.member.to_string(),
                last_beat_ms: Some(since(member.last_heard)),
                channels: member.channels as u64,
            })
            .collect();
        let stands = match (fetchers, &half.parted) {
            (Some(why @ Unreachable::Panicked(_)), _) => Self::unreached(why),
            // The source half is there, its cluster is not.
            (Some(why), _) if !members.is_empty() => Self::unreached(why),
            _ if !members.is_empty() => Self::in_state(LinkState::Active, NO_ERROR, None).kept_by(keeper),
            (_, Some(parted)) => Self::in_state(LinkState::Unavailable, parted_error(parted), Some(parted.to_string())),
            (_, None) => {
                let reason = "no source half is connected".to_owned();
                Self::in_state(LinkState::Unavailable, NO_ERROR, Some(reason))
            }
        };
        Self {
            last_beat_ms: half.last_heard.map(since),
            connections: Some((members.len() + half.channels_open) as u64),
            members,
            remote_cluster_id: half.source_cluster_id.clone(),
            ..stands
        }
    }

    /// The source does not answer.
    fn unreached(why: &Unreachable) -> Self {
        let error = unreachable_error(why);
        let state = if matches!(why, Unreachable::Panicked(_)) { LinkState::Failed } else { state_of(error) };
        Self::in_state(state, error, Some(why.to_string()))
    }

    /// What a task shows that waits for this link: tasks have fewer names for errors.
    pub(crate) fn task_error(&self) -> &'static str {
        match self.error {
            error @ (AUTHENTICATION | AUTHORIZATION | REMOTE_LINK_NOT_FOUND) => error,
            _ => UNKNOWN,
        }
    }

    /// In `state` for this reason, with nothing else known.
    pub(crate) fn in_state(state: LinkState, error: &'static str, error_message: Option<String>) -> Self {
        Self {
            state,
            error,
            error_message,
            last_beat_ms: None,
            connections: None,
            members: Vec::new(),
            link_id: None,
            remote_cluster_id: None,
        }
    }

    /// A link that flows but whose findings are not kept is in no order: a restart would forget them.
    fn kept_by(self, keeper: Option<&str>) -> Self {
        match keeper {
            None => self,
            Some(why) => Self { error: UNKNOWN, error_message: Some(why.to_owned()), ..self },
        }
    }
}

/// The state of a link that does not work for this reason.
fn state_of(error: &str) -> LinkState {
    match error {
        AUTHENTICATION | AUTHORIZATION => LinkState::Failed,
        _ => LinkState::Unavailable,
    }
}

/// What the last source half said when it left.
fn parted_error(parted: &Refusal) -> &'static str {
    match parted.code {
        RefusalCode::SourceHalfDeleted => REMOTE_LINK_NOT_FOUND,
        _ => NO_ERROR,
    }
}

/// The error that a source half shows for `cause`.
pub(super) fn cause_error(cause: Cause) -> &'static str {
    match cause {
        Cause::Dial(obstacle) | Cause::Local(Some(obstacle)) => obstacle_error(obstacle),
        Cause::Refused(RefusalCode::NoSuchLink | RefusalCode::ModeMismatch | RefusalCode::LinkDeleted) => {
            REMOTE_LINK_NOT_FOUND
        }
        Cause::Refused(RefusalCode::NotAuthorised) => AUTHORIZATION,
        Cause::Refused(RefusalCode::Silent) => TIMEOUT,
        Cause::Local(None) | Cause::Refused(_) | Cause::Lost | Cause::Panicked => UNKNOWN,
    }
}

/// The error that a half which holds mirrors shows.
pub(super) fn unreachable_error(why: &Unreachable) -> &'static str {
    match why {
        Unreachable::Lease(LeaseError::Dial { obstacle, .. }) => obstacle_error(*obstacle),
        Unreachable::Lease(LeaseError::Authentication(_)) | Unreachable::Client(ClientError::Reauthentication(_)) => {
            obstacle_error(Obstacle::Authentication)
        }
        Unreachable::Client(ClientError::Timeout { .. }) => TIMEOUT,
        Unreachable::Lease(_)
        | Unreachable::Client(_)
        | Unreachable::OtherCluster { .. }
        | Unreachable::Panicked(_) => UNKNOWN,
    }
}

fn obstacle_error(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Name => "UNRESOLVABLE_BOOTSTRAP_ERROR",
        Obstacle::Tcp => "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR",
        Obstacle::Timeout => TIMEOUT,
        Obstacle::Authentication => AUTHENTICATION,
        Obstacle::Protocol => UNKNOWN,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
