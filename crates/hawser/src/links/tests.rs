//! The names of a link's errors are those that operators of the reference know.

use super::*;

#[test]
fn what_a_dial_meets_has_the_references_names() {
    let names = [
        (Obstacle::Name, "UNRESOLVABLE_BOOTSTRAP_ERROR"),
        (Obstacle::Tcp, "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR"),
        (Obstacle::Timeout, "TIMEOUT_ERROR"),
        (Obstacle::Authentication, "AUTHENTICATION_ERROR"),
        (Obstacle::Protocol, "UNKNOWN"),
    ];
    for (obstacle, name) in names {
        let lease = LeaseError::Dial { obstacle, reason: String::new() };
        assert_eq!((cause_error(Cause::Dial(obstacle)), unreachable_error(&lease.into())), (name, name));
    }
    let refused = Unreachable::Lease(LeaseError::Authentication(String::new()));
    assert_eq!(unreachable_error(&refused), "AUTHENTICATION_ERROR");
    let slow = Unreachable::Client(ClientError::Timeout { api: "Metadata", after: CHECK_TIMEOUT });
    assert_eq!(unreachable_error(&slow), "TIMEOUT_ERROR");
}

#[test]
fn a_refusal_is_told_from_unreachability_whatever_its_words() {
    for &code in RefusalCode::ALL {
        let error = not_open(Cause::Refused(code), "the words".to_owned());
        let is_named = matches!(code, RefusalCode::NoSuchLink | RefusalCode::ModeMismatch);
        assert_eq!(matches!(error, StartError::NoSuchRemoteLink(_)), is_named, "{code:?}");
        assert_eq!(matches!(error, StartError::Refused(_)), !is_named, "{code:?}");
    }
    let lost = not_open(Cause::Lost, "NoSuchLink: as a proxy might say".to_owned());
    assert!(matches!(lost, StartError::Unavailable(_)));
    for code in [RefusalCode::NoSuchLink, RefusalCode::ModeMismatch, RefusalCode::LinkDeleted] {
        assert_eq!(cause_error(Cause::Refused(code)), "REMOTE_LINK_NOT_FOUND_ERROR");
    }
}

#[test]
fn a_partition_that_began_does_not_look_for_its_beginning_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = State::open(&dir.path().join("state.redb")).expect("opens");
    let mirror = MirrorRecord {
        link: "dr".into(),
        source_topic: "t".into(),
        source_topic_id: Uuid::from_u128(1),
        start_offset_spec: "latest".into(),
        started: [].into(),
        status: MirrorStatus::Active,
        stop: None,
        stopped_at: Vec::new(),
        error: None,
        status_since_ms: 0,
    };
    let id = Uuid::from_u128(2);
    let topic = TopicRecord { name: "t".into(), id, partitions: 2, configs: BTreeMap::new(), mirror: Some(mirror) };
    state.put_topic(topic).expect("stored");
    let spec = || {
        let topic = state.topic("t").expect("stored");
        let spec = mirror_spec(&topic, topic.mirror.as_ref().expect("a mirror"), false);
        (spec.start, spec.started)
    };
    apply(&state, &MirrorEvent::PartitionStarted { topic: "t".into(), partition: 0 }).expect("stored");
    assert_eq!(spec(), (Start::Latest, [0].into()));
    apply(&state, &MirrorEvent::Started { topic: "t".into() }).expect("stored");
    assert_eq!(spec(), (Start::Earliest, [].into()));
}
