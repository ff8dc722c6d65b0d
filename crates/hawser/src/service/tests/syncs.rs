//! What the syncs of a link leave, take and say, with sources in memory.

use super::bed::*;
use super::*;
use crate::operations::MirrorAction;
use hawser_sync::{Destination, Task};
use hawser_testkit::fake_source::FakeSource;
use hawser_wire::Offset;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_beyond_the_end_of_its_source_holds_no_promotion_up() {
    let bed = Bed::new().await;
    let broker = broker(&bed.service);
    bed.service.start_syncs(&broker).await;
    let all = r#"{"groupFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}"#;
    bed.set(&[("consumer.offset.sync.enable", "true"), ("consumer.offset.group.filters", all)]).await;
    bed.create("t", 2).await;
    bed.caught_up("m-t", 50).await;
    bed.source.commit("g", "t", 0, 60);
    bed.source.commit("g", "t", 1, 20);
    // While the source lacks an answer for one partition, nothing is settled for any.
    bed.source.fail("t", 1, Some(NOT_LEADER));
    bed.alter(MirrorAction::Promote, &["m-t"]).await;
    bed.until("m-t", |view| condition(view, "SOURCE_REACHABLE")).await;
    bed.source.fail("t", 1, None);
    bed.until("m-t", |view| view.mirror_status == "STOPPED").await;
    let committed = bed.service.destination("l", "m-").committed(vec!["g".to_owned()]).await.unwrap();
    let at: Vec<_> = committed["g"].values().map(|committed| committed.offset).collect();
    assert_eq!(at, [Offset(50), Offset(20)], "the first stands at the end, as the source has no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_here_gets_no_mirror_by_itself() {
    let bed = Bed::new().await;
    let own = bed.service.state.cluster_id().to_owned();
    for (topic, clusters) in [("loop", format!("{own},jump")), ("chain", "private,jump".to_owned())] {
        bed.source.create(topic, 1);
        bed.source.came_through(topic, &clusters);
    }
    bed.source.create("plain", 1);
    let all = r#"{"topicFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}"#;
    bed.set(&[("auto.create.mirror.topics.enable", "true"), ("auto.create.mirror.topics.filters", all)]).await;
    let record = |name: &str| bed.service.state.topic(name);
    until("mirrors are made", async || record("m-chain").is_some() && record("m-plain").is_some()).await;
    let came_through = |name: &str| record(name).unwrap().mirror.clone().unwrap().source_clusters;
    assert_eq!(came_through("m-plain"), ["fake-source"]);
    assert_eq!(came_through("m-chain"), ["private", "jump", "fake-source"]);
    assert!(!record("m-chain").unwrap().configs.contains_key("mirror.source.cluster.ids"));
    let task = async || {
        let describe = Operation::LinkDescribe { link: "l".to_owned() };
        let Outcome::Link(link) = bed.service.perform(describe).await.unwrap() else { panic!("no link") };
        link.tasks.into_iter().find(|task| task.task_name == "AutoCreateMirror").unwrap()
    };
    until("it is told", async || task().await.skipped == 1).await;
    let task = task().await;
    assert_eq!((task.state.as_str(), task.changed, task.skipped_reasons.len()), ("ACTIVE", 2, 1), "{task:?}");
    assert!(task.skipped_reasons[0].contains("'loop'"), "{task:?}");
    assert!(record("m-loop").is_none());
    // Whoever asks for it by name gets it.
    bed.service.perform(mirror_of("loop")).await.unwrap();
    assert_eq!(came_through("m-loop"), [own.as_str(), "jump", "fake-source"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_source_drops_stays_while_another_has_it() {
    let bed = Bed::new().await;
    let sources = [FakeSource::local().await, FakeSource::local().await];
    let all = r#"{"aclFilters":[{"resourceFilter":{"resourceType":"any","patternType":"any"},
                               "accessFilter":{"operation":"any","permissionType":"any"}}]}"#;
    for (link, source) in ["a", "b"].into_iter().zip(&sources) {
        source.allow_read("shared", "User:ann");
        source.allow_read(link, "User:ann");
        let address = source.addresses()[0].to_string();
        let configs = [
            ("bootstrap.servers", address.as_str()),
            ("acl.sync.enable", "true"),
            ("acl.sync.ms", "1000"),
            ("acl.filters", all),
        ];
        let create = Operation::LinkCreate {
            link: link.to_owned(),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            remote: None,
            validate_only: false,
            skip_remote_check: false,
        };
        bed.service.perform(create).await.unwrap();
    }
    let here = || {
        let acls = bed.service.state.acls(&hawser_state::AclFilter::default());
        acls.into_iter().map(|acl| acl.resource_name).collect::<BTreeSet<_>>()
    };
    let brought = |link: &str| bed.service.state.link(link).unwrap().acls.len();
    // What is brought is noted first.
    until("both have brought it", async || (brought("a"), brought("b"), here().len()) == (2, 2, 3)).await;
    assert_eq!(here(), ["a", "b", "shared"].map(str::to_owned).into());
    // One pass takes both away from the first link.
    sources[0].disallow_read("shared", "User:ann");
    sources[0].disallow_read("a", "User:ann");
    until("the first has let go", async || brought("a") == 0).await;
    assert_eq!(here(), ["b", "shared"].map(str::to_owned).into());
    sources[1].disallow_read("shared", "User:ann");
    until("the second has let go", async || brought("b") == 1).await;
    assert_eq!(here(), ["b"].map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_to_the_source_takes_no_longer_than_it_may() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.source.create("u", 1);
    bed.set(&[("default.api.timeout.ms", "300"), ("topic.config.sync.ms", "1000")]).await;
    bed.source.stall(1, true);
    let refusal = bed.service.perform(mirror_of("u")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::LinkUnavailable);
    assert!(refusal.message.contains("'u' within 300ms (default.api.timeout.ms)"), "{refusal}");
    let error = || {
        let status = bed.service.sync_status("l").into_iter().find(|status| status.task == Task::TopicConfigsSync);
        status.and_then(|status| Some(status.errors.first()?.message.clone())).unwrap_or_default()
    };
    until("the task gives up", async || error().contains("no answer to DescribeConfigs within 300ms")).await;
}

const ALL_GROUPS: &str = r#"{"groupFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn offsets_before_a_mirror_that_begins_late_stand_at_its_start() {
    let bed = Bed::new().await;
    let broker = broker(&bed.service);
    bed.service.start_syncs(&broker).await;
    bed.set(&[("mirror.start.offset.spec", "latest")]).await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.source.append("t", 0, batch(50));
    bed.caught_up("m-t", 100).await;
    let to = bed.service.destination("l", "m-");
    assert_eq!(to.readable("m-t", 0), Some(Offset(50)..Offset(100)));
    for (group, offset, protocol_type) in
        [("early", 3, "consumer"), ("on", 70, "consumer"), ("streams", 60, "streams"), ("share", 60, "share")]
    {
        bed.source.commit(group, "t", 0, offset);
        bed.source.set_protocol_type(group, protocol_type);
    }
    bed.set(&[("consumer.offset.sync.enable", "true"), ("consumer.offset.group.filters", ALL_GROUPS)]).await;
    let task = || {
        let mut all = bed.service.sync_status("l").into_iter();
        all.find(|status| status.task == Task::ConsumerOffsetSync)
    };
    until("written", async || task().is_some_and(|status| status.changed == 3)).await;
    let status = task().unwrap();
    assert_eq!((status.errors.len(), status.skipped, status.examined), (0, 1, 3), "{status:?}");
    assert!(
        status.skipped_reasons[0].contains("'early' is at offset 3") && status.skipped_reasons[0].contains("at 50")
    );
    let groups = ["early", "on", "streams", "share"];
    let committed = to.committed(groups.map(str::to_owned).into()).await.unwrap();
    let at = groups.map(|group| committed[group].values().map(|committed| committed.offset.0).next());
    assert_eq!(at, [Some(50), Some(70), Some(60), None]);
    // It holds no promotion up.
    bed.alter(MirrorAction::Promote, &["m-t"]).await;
    bed.until("m-t", |view| view.mirror_status == "STOPPED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_keep_their_history_when_settings_change() {
    let bed = Bed::new().await;
    let broker = broker(&bed.service);
    bed.service.start_syncs(&broker).await;
    bed.set(&[("consumer.offset.sync.enable", "true"), ("consumer.offset.group.filters", ALL_GROUPS)]).await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.source.commit("g", "t", 0, 20);
    let task = |state: &'static str| {
        let mut all = bed.service.sync_status("l").into_iter();
        all.find(|status| status.task == Task::ConsumerOffsetSync && status.state.name() == state)
    };
    until("written", async || task("ACTIVE").is_some_and(|status| status.changed == 1)).await;
    let before = task("ACTIVE").unwrap();
    for (key, value, state) in [
        ("retry.backoff.ms", "200", "ACTIVE"),
        ("cluster.link.paused", "true", "LINK_PAUSED"),
        ("consumer.offset.sync.enable", "false", "NOT_CONFIGURED"),
    ] {
        bed.set(&[(key, value)]).await;
        until(key, async || task(state).is_some()).await;
        let status = task(state).unwrap();
        assert!(status.runs >= before.runs && status.last_run_ms >= before.last_run_ms, "{key}: {status:?}");
        assert_eq!(status.changed, 1, "{key}");
    }
}
