//! How links begin, and begin again.

use super::*;
use hawser_replicate::MirrorEvent;
use keeper::apply;
use uuid::Uuid;

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
}

#[test]
fn a_partition_that_began_does_not_look_for_its_beginning_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = State::open(&dir.path().join("state.redb")).expect("opens");
    let mirror = MirrorRecord::new("dr", "t", Uuid::from_u128(1), 0);
    let mirror = MirrorRecord { start_offset_spec: "latest".into(), ..mirror };
    let id = Uuid::from_u128(2);
    let topic = TopicRecord { name: "t".into(), id, partitions: 2, configs: BTreeMap::new(), mirror: Some(mirror) };
    state.put_topic(topic).expect("stored");
    let spec = || {
        let topic = state.topic("t").expect("stored");
        let spec = mirror_spec(&topic, topic.mirror.as_ref().expect("a mirror"), false);
        (spec.start, spec.started)
    };
    apply(&state, "dr", &MirrorEvent::PartitionStarted { topic: "t".into(), partition: 0 }).expect("stored");
    assert_eq!(spec(), (Start::Latest, [0].into()));
    apply(&state, "dr", &MirrorEvent::Started { topic: "t".into() }).expect("stored");
    assert_eq!(spec(), (Start::Earliest, [].into()));
    let began = state.topic("t").and_then(|topic| Some(topic.mirror.as_ref()?.start_offset_spec.clone()));
    assert_eq!(began.as_deref(), Some("latest"), "where it began is still known");
}

#[test]
fn a_half_that_dials_takes_keys_that_only_a_jvm_understands() {
    let text = "bootstrap.servers=SASL_SSL://broker:9092\nsasl.login.callback.handler.class=org.example.Handler\n\
                ssl.engine.factory.class=org.example.Factory\nsource.bootstrap.servers=broker:9092\n";
    let properties = Properties::parse("west", text);
    let parsed = LinkConfig::parse(&properties).expect("valid");
    assert_eq!(parsed.warnings.len(), 3);
    direct(&properties, &parsed.config).expect("valid");
}
