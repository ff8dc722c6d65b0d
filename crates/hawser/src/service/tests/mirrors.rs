//! The lives of mirrors that follow their source: what commands do to them, and what a restart finds.

use super::bed::*;
use super::*;
use crate::operations::{AlteredMirror, MirrorAction};
use hawser_state::TopicRecord;
use hawser_sync::{CommittedOffset, Destination, GroupOffsets, SourceEnds};
use hawser_testkit::batches::BatchBuilder;
use hawser_wire::{Offset, TopicPartition};

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_lasts_over_a_restart_until_it_is_ended() {
    let bed = Bed::new().await;
    for topic in ["t", "other"] {
        bed.create(topic, 1).await;
    }
    bed.caught_up("m-t", 50).await;
    bed.alter(MirrorAction::Pause, &["m-t"]).await;
    assert_eq!(bed.mirror("m-t").await.mirror_status, "PAUSED");
    for topic in ["t", "other"] {
        bed.source.append(topic, 0, batch(50));
    }
    bed.caught_up("m-other", 100).await;
    assert_eq!(bed.mirror("m-t").await.partitions[0].log_end_offset, 50);

    let bed = bed.restarted(|_, source| source.append("other", 0, batch(100))).await;
    bed.caught_up("m-other", 150).await;
    let view = bed.mirror("m-t").await;
    assert_eq!((view.mirror_status.as_str(), view.partitions[0].log_end_offset), ("PAUSED", 50));
    assert_eq!(bed.refusal(MirrorAction::Pause, "m-t").await, (None, String::new()), "it is so already");
    bed.alter(MirrorAction::Resume, &["m-t"]).await;
    bed.caught_up("m-t", 100).await;
    assert_eq!(bed.mirror("m-t").await.mirror_status, "ACTIVE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mirror_is_tried_again_on_request() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let fail = |topic: &mut TopicRecord| topic.mirror.as_mut().unwrap().fail("SOURCE_TOPIC_MAY_BE_DELETED", 1);
    let bed = bed.restarted(move |state, _| drop(state.update_topics(&["m-t".to_owned()], fail).unwrap())).await;
    bed.source.append("t", 0, batch(50));
    assert_eq!(bed.mirror("m-t").await.mirror_status, "FAILED");
    assert_eq!(bed.refusal(MirrorAction::Pause, "m-t").await.0, Some(RefusalCode::MirrorFailed));
    assert_eq!(bed.refusal(MirrorAction::Resume, "m-t").await, (None, String::new()));
    bed.caught_up("m-t", 100).await;
    bed.until("m-t", |view| view.mirror_status == "ACTIVE" && view.mirror_topic_error.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_mirrors_gets_an_answer_for_each() {
    let bed = Bed::new().await;
    for topic in ["a1", "a2", "b1"] {
        bed.create(topic, 2).await;
    }
    let alter = |topics: &[&str], pattern: Option<&str>, link: Option<&str>, validate_only| Operation::MirrorAlter {
        link: link.map(str::to_owned),
        action: MirrorAction::Pause,
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        pattern: pattern.map(str::to_owned),
        validate_only,
    };
    let names = |results: &[AlteredMirror]| results.iter().map(|r| r.mirror_topic_name.clone()).collect::<Vec<_>>();
    let dry = altered(bed.service.perform(alter(&["m-b1", "m-a1", "m-b1"], None, None, true)).await.unwrap());
    assert_eq!(names(&dry), ["m-b1", "m-a1"]);
    assert_eq!(dry[0].mirror_lags.len(), 2);
    assert_eq!(bed.mirror("m-a1").await.mirror_status, "ACTIVE", "nothing was changed");
    let matched = altered(bed.service.perform(alter(&[], Some("m-a."), Some("l"), false)).await.unwrap());
    assert_eq!(names(&matched), ["m-a1", "m-a2"], "the whole name has to match");
    assert_eq!(bed.mirror("m-a2").await.mirror_status, "PAUSED");
    let all = altered(bed.service.perform(alter(&[], None, Some("l"), false)).await.unwrap());
    assert_eq!(names(&all), ["m-a1", "m-a2", "m-b1"]);
    for (operation, expected) in [
        (alter(&[], None, None, false), "Name mirror topics"),
        (alter(&["m-a1"], Some("."), None, false), "not both"),
        (alter(&[], Some("("), None, false), "mirror_topic_name_pattern"),
        (alter(&[], Some("(a{1000}){1000}"), None, false), "mirror_topic_name_pattern"),
        (alter(&["m-a1"], None, Some("x"), false), "Cluster link 'x' does not exist."),
    ] {
        let refusal = bed.service.perform(operation).await.unwrap_err();
        assert!(refusal.message.contains(expected), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mirrored_is_refused_by_name() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    let create = |mirror: Option<&str>, source: Option<&str>, change: &dyn Fn(&mut Operation)| {
        let mut operation = Operation::MirrorCreate {
            link: "l".to_owned(),
            mirror_topic: mirror.map(str::to_owned),
            source_topic: source.map(str::to_owned),
            configs: BTreeMap::new(),
            replication_factor: None,
            mirror_start_offset_spec: None,
        };
        change(&mut operation);
        operation
    };
    let factor = |operation: &mut Operation| {
        if let Operation::MirrorCreate { replication_factor, .. } = operation {
            *replication_factor = Some(3);
        }
    };
    let start = |operation: &mut Operation| {
        if let Operation::MirrorCreate { mirror_start_offset_spec, .. } = operation {
            *mirror_start_offset_spec = Some("yesterday".to_owned());
        }
    };
    let policy = |operation: &mut Operation| {
        if let Operation::MirrorCreate { configs, .. } = operation {
            configs.insert("cleanup.policy".to_owned(), "compact".to_owned());
        }
    };
    let link = |operation: &mut Operation| {
        if let Operation::MirrorCreate { link, .. } = operation {
            *link = "x".to_owned();
        }
    };
    let plain = |_: &mut Operation| {};
    let long = "x".repeat(250);
    type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a dyn Fn(&mut Operation), RefusalCode, &'a str);
    let table: [Case<'_>; 10] = [
        (None, None, &plain, RefusalCode::InvalidRequest, "Name the source topic"),
        (Some("t2"), Some("t"), &plain, RefusalCode::TopicRenamingUnsupported, "is named 'm-t', not 't2'"),
        (Some("t"), None, &plain, RefusalCode::TopicRenamingUnsupported, "is named 'm-t', not 't'"),
        (
            None,
            Some("t"),
            &plain,
            RefusalCode::TopicExists,
            "Topic 'm-t' already exists. It is the mirror of 't' over \"l\".",
        ),
        (None, Some("none"), &plain, RefusalCode::SourceTopicNotFound, "The source has no topic 'none'"),
        (None, Some(&long), &plain, RefusalCode::InvalidRequest, "249"),
        (None, Some("u"), &factor, RefusalCode::InvalidReplicationFactor, "Replication factor 3"),
        (None, Some("u"), &start, RefusalCode::InvalidRequest, "mirror.start.offset.spec=yesterday"),
        (None, Some("u"), &policy, RefusalCode::InvalidTopicConfig, "'cleanup.policy' are set to always sync"),
        (None, Some("u"), &link, RefusalCode::LinkNotFound, "Cluster link 'x' does not exist."),
    ];
    for (mirror, source, change, code, words) in table {
        let refusal = bed.service.perform(create(mirror, source, change)).await.unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.message.contains(words), "{refusal}");
    }
    // Where it begins.
    bed.source.create("u", 1);
    bed.source.append("u", 0, BatchBuilder::at(0).timestamp(1_000).records(10, 10).build());
    bed.source.append("u", 0, BatchBuilder::at(10).timestamp(2_000_000).records(10, 10).build());
    let latest = |operation: &mut Operation| {
        if let Operation::MirrorCreate { mirror_start_offset_spec, .. } = operation {
            *mirror_start_offset_spec = Some("1970-01-01T00:20:00Z".to_owned());
        }
    };
    bed.service.perform(create(Some("m-u"), None, &latest)).await.unwrap();
    let view = bed.until("m-u", |view| view.partitions[0].log_end_offset == 20).await;
    assert_eq!(view.partitions[0].log_start_offset, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_whose_link_was_deleted_can_only_be_failed_over() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let delete = |force, validate_only| {
        bed.service.perform(Operation::LinkDelete { link: "l".to_owned(), force, validate_only })
    };
    // A dry run says what the real one would.
    assert_eq!(delete(false, true).await.unwrap_err().code, RefusalCode::LinkHasMirrors);
    assert!(matches!(delete(true, true).await, Ok(Outcome::LinkValid { .. })));
    assert!(matches!(delete(true, false).await, Ok(Outcome::LinkDeleted)));
    for action in [MirrorAction::Resume, MirrorAction::Promote, MirrorAction::Pause] {
        let (code, message) = bed.refusal(action, "m-t").await;
        assert_eq!(code, Some(RefusalCode::LinkNotFound), "{action:?}: {message}");
    }
    let view = bed.mirror("m-t").await;
    assert_eq!((view.mirror_status.as_str(), view.mirror_topic_error.as_deref()), ("FAILED", Some("LINK_DELETED")));
    // By the name of the link that it hangs on, as every face asks.
    let failover = Operation::MirrorAlter {
        link: Some("l".to_owned()),
        action: MirrorAction::Failover,
        topics: vec!["m-t".to_owned()],
        pattern: None,
        validate_only: false,
    };
    let results = altered(bed.service.perform(failover).await.unwrap());
    assert_eq!(results[0].error_code, None, "{results:?}");
    assert_eq!(bed.mirror("m-t").await.mirror_status, "STOPPED");
    assert!(bed.leads("m-t", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_are_judged_before_the_mirror_is_made_and_odd_copies_stay_configurable() {
    let bed = Bed::new().await;
    bed.source.create("t", 1);
    let Operation::MirrorCreate { link, .. } = mirror_of("t") else { panic!("not a create") };
    let wanted = |configs: [(&str, &str); 2]| Operation::MirrorCreate {
        link: link.clone(),
        mirror_topic: None,
        source_topic: Some("t".to_owned()),
        configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        replication_factor: None,
        mirror_start_offset_spec: None,
    };
    let refusal = bed.service.perform(wanted([("bogus", "1"), ("flush.ms", "abc")])).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidTopicConfig);
    assert!(refusal.message.contains("bogus") && refusal.message.contains("flush.ms"), "{}", refusal.message);
    bed.service.perform(mirror_of("t")).await.unwrap();

    // As an older source has it: smaller than Kafka takes today.
    let odd = |topic: &mut TopicRecord| topic.configs.insert("segment.bytes".to_owned(), "100000".to_owned()).is_none();
    bed.service.state.update_topics(&["m-t".to_owned()], odd).unwrap();
    bed.alter(MirrorAction::Failover, &["m-t"]).await;
    let set = |key: &str, value: &str| {
        let change = hawser_broker::ConfigOp::Set(value.to_owned());
        hawser_broker::ConfigChange::Incremental(vec![(key.to_owned(), change)])
    };
    let topics = &bed.service.topics;
    topics.alter_configs("m-t", set("retention.ms", "1000000"), false).await.unwrap();
    let error = topics.alter_configs("m-t", set("segment.bytes", "100001"), false).await.unwrap_err();
    assert!(error.message.contains("segment.bytes"), "{}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_stays_between_its_anchors() {
    let bed = Bed::new().await;
    let alter = Operation::MirrorAlter {
        link: Some("l".to_owned()),
        action: MirrorAction::Pause,
        topics: Vec::new(),
        pattern: Some("m-a)|(.*b".to_owned()),
        validate_only: true,
    };
    let refusal = bed.service.perform(alter).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    assert!(refusal.message.contains("mirror_topic_name_pattern"), "{}", refusal.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_that_do_not_run_are_not_settled() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let topics = SourceEnds::from([("m-t".into(), vec![Offset(50)])]);
    assert_eq!(bed.service.settle_syncs("l", topics.clone()).await, BTreeMap::new());
    // As between the two steps of a change of settings.
    bed.service.forget_link("l").await;
    let open = bed.service.settle_syncs("l", topics.clone()).await;
    assert!(open.contains_key("m-t"), "{open:?}");
    bed.service.follow_link(&bed.service.state.link("l").unwrap()).await;
    assert_eq!(bed.service.settle_syncs("l", topics).await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_readers_stop_is_unknown_until_a_fetch_was_answered() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    let known = |bed: &Bed| bed.service.destination("l", "m-").readable("m-t", 0);
    until("fetched", async || known(&bed) == Some(Offset(0)..Offset(50))).await;
    let bed = bed.restarted(|_, source| source.stall(1, true)).await;
    let log = bed.service.logs.partition(&TopicPartition::new("m-t", 0)).unwrap();
    assert_eq!(log.watermarks().log_end, Offset(50));
    assert_eq!(known(&bed), None, "what a checkpoint says");
    bed.source.stall(1, false);
    until("fetched again", async || known(&bed) == Some(Offset(0)..Offset(50))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_and_configs_of_a_mirror_that_was_stopped_meanwhile_are_left_alone() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.create("u", 1).await;
    for topic in ["m-t", "m-u"] {
        bed.caught_up(topic, 50).await;
    }
    let broker = broker(&bed.service);
    bed.service.start_syncs(&broker).await;
    let to = bed.service.destination("l", "m-");
    let commit = async |offset| {
        let at = |topic: &str| {
            let committed = CommittedOffset { offset: Offset(offset), leader_epoch: -1, metadata: String::new() };
            ((Arc::from(topic), 0), committed)
        };
        let offsets = GroupOffsets::from([at("m-t"), at("m-u")]);
        to.commit(BTreeMap::from([("g".to_owned(), offsets)])).await.unwrap();
        let committed = to.committed(vec!["g".to_owned()]).await.unwrap();
        ["m-t", "m-u"].map(|topic| committed["g"][&(topic.into(), 0)].offset.0)
    };
    assert_eq!(commit(7).await, [7, 7]);
    // A pass that has compared both, and then one of them is failed over.
    bed.alter(MirrorAction::Failover, &["m-t"]).await;
    assert_eq!(commit(3).await, [7, 3]);
    // Likewise for configs.
    for topic in ["m-t", "m-u"] {
        let retention = BTreeMap::from([("retention.ms".to_owned(), Some("7".to_owned()))]);
        to.set_topic_configs(topic.into(), retention).await.unwrap();
    }
    assert_eq!(["m-t", "m-u"].map(|topic| to.topic_configs(topic).contains_key("retention.ms")), [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_cannot_be_deleted_goes_on() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let id = bed.service.state.topic("m-t").unwrap().id;
    bed.fill_disk();
    bed.service.topics.delete(id).await.unwrap_err();
    bed.source.append("t", 0, batch(50));
    bed.caught_up("m-t", 100).await;
    bed.make_room();
    bed.service.topics.delete(id).await.unwrap();
    assert!(bed.service.state.topic("m-t").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_deletes_a_mirror_that_is_being_changed() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let topic = bed.service.state.topic("m-t").unwrap();
    // As in the middle of a promotion, of a resumption, or of its making: the record is read, its logs come next.
    let turn = bed.service.changes.lock().await;
    let topics = bed.service.topics.clone();
    let deleting = tokio::spawn(async move { topics.delete(topic.id).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!deleting.is_finished() && bed.service.state.topic("m-t").is_some(), "deleted under a change");
    drop(turn);
    deleting.await.unwrap().unwrap();
    assert!(bed.service.state.topic("m-t").is_none() && bed.service.logs.partitions().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mirror_is_set_to_holds_when_its_fetchers_are_made_anew() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let log = || bed.service.logs.partition(&TopicPartition::new("m-t", 0)).unwrap();
    let set = hawser_broker::ConfigOp::Set("5000".to_owned());
    let change = hawser_broker::ConfigChange::Incremental(vec![("index.interval.bytes".to_owned(), set)]);
    bed.service.topics.alter_configs("m-t", change, false).await.unwrap();
    assert_eq!(log().config().index_interval_bytes, 5000);
    let fetchers = Alteration { name: "num.cluster.link.fetchers".to_owned(), value: Some("2".to_owned()) };
    let alter = Operation::LinkAlterConfigs { link: "l".to_owned(), changes: vec![fetchers], validate_only: false };
    bed.service.perform(alter).await.unwrap();
    bed.source.append("t", 0, batch(50));
    bed.caught_up("m-t", 100).await;
    assert_eq!(log().config().index_interval_bytes, 5000, "as it was when the mirror was made");
    let bed = bed.restarted(|_, source| source.append("t", 0, batch(100))).await;
    bed.caught_up("m-t", 150).await;
    let log = bed.service.logs.partition(&TopicPartition::new("m-t", 0)).unwrap();
    assert_eq!(log.config().index_interval_bytes, 5000);
}
