//! Every kind of half × everything that can be seen of it.

use super::*;
use hawser_link::reversal::{Incarnation, MemberId, MemberStatus};
use hawser_transport::Panicked;

/// With the state and the error of a link that meets it.
fn obstacles() -> [(Obstacle, LinkState, &'static str); 5] {
    use LinkState::{Failed, Unavailable};
    [
        (Obstacle::Name, Unavailable, "UNRESOLVABLE_BOOTSTRAP_ERROR"),
        (Obstacle::Tcp, Unavailable, "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR"),
        (Obstacle::Timeout, Unavailable, "TIMEOUT_ERROR"),
        (Obstacle::Authentication, Failed, "AUTHENTICATION_ERROR"),
        (Obstacle::Protocol, Unavailable, "UNKNOWN"),
    ]
}

fn shown(seen: &Seen<'_>) -> (LinkState, &'static str, bool) {
    let liveness = Liveness::of(seen, Instant::now());
    (liveness.state, liveness.error, liveness.error_message.is_some())
}

fn source(state: OutboundState, cause: Option<Cause>) -> (LinkState, &'static str, bool) {
    let mut status = OutboundStatus::default();
    (status.state, status.cause, status.reason) = (state, cause, cause.map(|_| "why".to_owned()));
    shown(&Seen::Source(&status))
}

#[test]
fn a_source_half_is_active_while_its_control_connection_stands() {
    use LinkState::{Active, Failed, Unavailable};
    assert_eq!(source(OutboundState::Open, None), (Active, "NO_ERROR", false));
    let another_cluster = source(OutboundState::Open, Some(Cause::Local(None)));
    assert_eq!(another_cluster, (Unavailable, "UNKNOWN", true));
    for (obstacle, state, name) in obstacles() {
        let nothing_to_lend = source(OutboundState::Open, Some(Cause::Local(Some(obstacle))));
        assert_eq!(nothing_to_lend, (state, name, true));
    }
    let states =
        [OutboundState::WaitingForLocal, OutboundState::Waiting, OutboundState::Connecting, OutboundState::Stopped];
    for state in states {
        assert_eq!(source(state, None), (Unavailable, "NO_ERROR", false), "{state:?}");
        for (obstacle, shown, name) in obstacles() {
            assert_eq!(source(state, Some(Cause::Dial(obstacle))), (shown, name, true), "{state:?}");
            assert_eq!(source(state, Some(Cause::Local(Some(obstacle)))), (shown, name, true), "{state:?}");
        }
        assert_eq!(source(state, Some(Cause::Local(None))), (Unavailable, "UNKNOWN", true), "{state:?}");
        assert_eq!(source(state, Some(Cause::Lost)), (Unavailable, "UNKNOWN", true), "{state:?}");
        assert_eq!(source(state, Some(Cause::Panicked)), (Failed, "UNKNOWN", true), "{state:?}");
        for &code in RefusalCode::ALL {
            let (shown, name) = match code {
                RefusalCode::NoSuchLink | RefusalCode::ModeMismatch | RefusalCode::LinkDeleted => {
                    (Unavailable, "REMOTE_LINK_NOT_FOUND_ERROR")
                }
                RefusalCode::NotAuthorised => (Failed, "AUTHORIZATION_ERROR"),
                RefusalCode::Silent => (Unavailable, "TIMEOUT_ERROR"),
                _ => (Unavailable, "UNKNOWN"),
            };
            assert_eq!(source(state, Some(Cause::Refused(code))), (shown, name, true), "{state:?} {code:?}");
        }
    }
}

/// What keeps fetchers, and what a half that dials shows of it.
fn unreachable() -> Vec<(Unreachable, LinkState, &'static str)> {
    use LinkState::{Failed, Unavailable};
    let mut all: Vec<_> = obstacles()
        .into_iter()
        .map(|(obstacle, state, name)| {
            let lease = LeaseError::Dial { obstacle, reason: String::new() };
            (lease.into(), state, name)
        })
        .collect();
    let slow = ClientError::Timeout { api: "Metadata", after: Duration::from_secs(30) };
    all.push((Unreachable::Lease(LeaseError::Authentication(String::new())), Failed, "AUTHENTICATION_ERROR"));
    all.push((Unreachable::Lease(LeaseError::Unavailable(String::new())), Unavailable, "UNKNOWN"));
    all.push((Unreachable::Client(slow), Unavailable, "TIMEOUT_ERROR"));
    all.push((Unreachable::Panicked(Panicked("at 7".to_owned())), Failed, "UNKNOWN"));
    all
}

#[test]
fn a_half_that_dials_is_active_while_its_source_answers() {
    fn direct(fetchers: Option<&Unreachable>, keeper: Option<&str>) -> (LinkState, &'static str, bool) {
        shown(&Seen::Direct { fetchers, keeper })
    }
    assert_eq!(direct(None, None), (LinkState::Active, "NO_ERROR", false));
    assert_eq!(direct(None, Some("no space")), (LinkState::Active, "UNKNOWN", true));
    for (why, state, name) in unreachable() {
        for keeper in [None, Some("no space")] {
            assert_eq!(direct(Some(&why), keeper), (state, name, true), "{why}");
        }
    }
}

#[test]
fn a_half_that_waits_is_active_while_a_source_half_beats_and_its_cluster_answers() {
    use LinkState::{Active, Failed, Unavailable};
    let now = Instant::now();
    let member = MemberStatus {
        member: MemberId(Uuid::from_u128(1)),
        incarnation: Incarnation { epoch: 1, attempt: 1 },
        nodes: Vec::new(),
        since: now,
        last_heard: now,
        round_trip: None,
        channels: 2,
    };
    let stands = |members: usize, parted: Option<RefusalCode>, fetchers: Option<&Unreachable>| {
        let half = InboundStatus {
            members: vec![member.clone(); members],
            parted: parted.map(Refusal::new),
            ..InboundStatus::default()
        };
        shown(&Seen::Reversed { half: &half, fetchers, keeper: None })
    };
    assert_eq!(stands(0, None, None), (Unavailable, "NO_ERROR", true));
    assert_eq!(stands(1, None, None), (Active, "NO_ERROR", false));
    assert_eq!(
        stands(2, Some(RefusalCode::SourceHalfDeleted), None),
        (Active, "NO_ERROR", false),
        "another member lives"
    );
    for &code in RefusalCode::ALL {
        let name = if code == RefusalCode::SourceHalfDeleted { "REMOTE_LINK_NOT_FOUND_ERROR" } else { "NO_ERROR" };
        assert_eq!(stands(0, Some(code), None), (Unavailable, name, true), "{code:?}");
    }
    for (why, state, name) in unreachable() {
        assert_eq!(stands(1, None, Some(&why)), (state, name, true), "{why}");
        // Without a source half there is no way to ask: that comes first, but for a bug of ours.
        let is_bug = matches!(why, Unreachable::Panicked(_));
        let alone = if is_bug { (Failed, "UNKNOWN", true) } else { (Unavailable, "NO_ERROR", true) };
        assert_eq!(stands(0, None, Some(&why)), alone, "{why}");
    }
}

#[test]
fn what_does_not_run_has_failed() {
    assert_eq!(shown(&Seen::Broken("why")), (LinkState::Failed, "UNKNOWN", true));
    assert_eq!(shown(&Seen::Missing), (LinkState::Failed, "UNKNOWN", true));
}

#[test]
fn signs_of_life_are_counted() {
    let began = Instant::now();
    let now = began + Duration::from_millis(1500);
    let status = OutboundStatus {
        state: OutboundState::Open,
        last_heard: Some(began),
        channels_open: 3,
        ..OutboundStatus::default()
    };
    let liveness = Liveness::of(&Seen::Source(&status), now);
    assert_eq!((liveness.last_beat_ms, liveness.connections), (Some(1500), Some(4)));
    let half = InboundStatus { last_heard: Some(began), channels_open: 3, ..InboundStatus::default() };
    let liveness = Liveness::of(&Seen::Reversed { half: &half, fetchers: None, keeper: None }, now);
    assert_eq!((liveness.last_beat_ms, liveness.connections), (Some(1500), Some(3)));
}
