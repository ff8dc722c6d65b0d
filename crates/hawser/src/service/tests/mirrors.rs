//! The lives of mirrors against a source in memory: what commands do, what they wait for, what a restart finds.

use super::*;
use crate::operations::{AlteredMirror, MirrorAction, MirrorStop, MirrorView};
use hawser_state::{MirrorStatus, TopicRecord};
use hawser_sync::{CommittedOffset, Destination, GroupOffsets};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_wire::{Offset, TopicPartition};
use std::collections::BTreeSet;
use std::time::Instant;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const NOT_LEADER: i16 = 6;

struct Bed {
    service: Arc<Service>,
    source: FakeSource,
    dir: TempDir,
}

impl Bed {
    /// A source, and a link to it that dials it.
    async fn new() -> Self {
        let source = FakeSource::local().await;
        let dir = tempfile::tempdir().unwrap();
        let bed = Self { service: service(dir.path()), source, dir };
        let address = bed.source.addresses()[0].to_string();
        let configs = [("bootstrap.servers", address.as_str()), ("cluster.link.prefix", "m-")];
        let create = Operation::LinkCreate {
            link: "l".to_owned(),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            remote: None,
            validate_only: false,
            skip_remote_check: false,
        };
        bed.service.perform(create).await.unwrap();
        bed
    }

    /// As a daemon that stops and starts; `while_down` sees to what happens meanwhile.
    async fn restarted(self, while_down: impl FnOnce(&State, &FakeSource)) -> Self {
        let Self { service, source, dir } = self;
        service.stop().await;
        service.links.stop_all().await;
        while_down(&service.state, &source);
        service.logs.close().unwrap();
        drop(service);
        let service = super::service(dir.path());
        service.links.resume().await;
        for link in service.state.links() {
            service.follow_link(&link).await;
        }
        service.resume();
        Self { service, source, dir }
    }

    async fn create(&self, source_topic: &str, partitions: i32) {
        self.source.create(source_topic, partitions);
        for partition in 0..partitions {
            self.source.append(source_topic, partition, batch(0));
        }
        self.service.perform(mirror_of(source_topic)).await.unwrap();
    }

    async fn mirror(&self, name: &str) -> MirrorView {
        let describe = Operation::MirrorDescribe { mirror_topic: name.to_owned(), link: None };
        let Outcome::Mirror(view) = self.service.perform(describe).await.unwrap() else { panic!("not a mirror") };
        view
    }

    /// Looks until `good`.
    async fn until(&self, name: &str, good: impl Fn(&MirrorView) -> bool) -> MirrorView {
        let began = Instant::now();
        loop {
            let view = self.mirror(name).await;
            if good(&view) {
                return view;
            }
            assert!(began.elapsed() < LIMIT, "{view:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn caught_up(&self, name: &str, end: i64) {
        self.until(name, |view| view.partitions.iter().all(|partition| partition.log_end_offset == end)).await;
    }

    async fn alter(&self, action: MirrorAction, topics: &[&str]) -> Vec<AlteredMirror> {
        let topics = topics.iter().map(|&topic| topic.to_owned()).collect();
        let alter = Operation::MirrorAlter { link: None, action, topics, pattern: None, validate_only: false };
        altered(self.service.perform(alter).await.unwrap())
    }

    /// The code and the words with which one mirror refuses `action`; empty if it does not.
    async fn refusal(&self, action: MirrorAction, topic: &str) -> (Option<RefusalCode>, String) {
        let [result] = &self.alter(action, &[topic]).await[..] else { panic!("one result") };
        (result.error_code, result.error_message.clone().unwrap_or_default())
    }

    /// From now on every write to the state fails, as on a disk that is full.
    fn fill_disk(&self) {
        let [file, away] = self.state_files();
        std::fs::rename(&file, away).unwrap();
        std::fs::create_dir(file).unwrap();
        // A write that fails closes the file; whoever writes next finds a folder in its place.
        self.service.state.take_producer_ids(i64::MAX, i64::MAX).unwrap_err();
    }

    fn make_room(&self) {
        let [file, away] = self.state_files();
        std::fs::remove_dir(&file).unwrap();
        std::fs::rename(away, file).unwrap();
    }

    fn state_files(&self) -> [std::path::PathBuf; 2] {
        ["state", "state.away"].map(|name| self.dir.path().join(name))
    }

    fn leads(&self, topic: &str, partition: i32) -> bool {
        let log = self.service.logs.partition(&TopicPartition::new(topic, partition)).unwrap();
        log.leads().is_some()
    }
}

fn batch(base: i64) -> bytes::Bytes {
    BatchBuilder::at(base).records(50, 100).build()
}

fn mirror_of(source_topic: &str) -> Operation {
    Operation::MirrorCreate {
        link: "l".to_owned(),
        mirror_topic: None,
        source_topic: Some(source_topic.to_owned()),
        configs: BTreeMap::new(),
        replication_factor: None,
        mirror_start_offset_spec: None,
    }
}

fn altered(outcome: Outcome) -> Vec<AlteredMirror> {
    let Outcome::MirrorsAltered { results } = outcome else { panic!("{outcome:?}") };
    results
}

fn condition(view: &MirrorView, condition: &str) -> bool {
    view.waits_for.iter().any(|wait| wait.condition == condition)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_waits_until_nothing_is_missing() {
    let bed = Bed::new().await;
    bed.create("t", 2).await;
    bed.caught_up("m-t", 50).await;
    bed.source.fail("t", 1, Some(NOT_LEADER));
    bed.source.append("t", 1, batch(50));
    assert_eq!(bed.refusal(MirrorAction::Promote, "m-t").await, (None, String::new()));
    let view = bed.until("m-t", |view| condition(view, "SOURCE_REACHABLE")).await;
    assert_eq!((view.mirror_status.as_str(), view.stopped_by), ("PENDING_STOPPED", Some(MirrorStop::Promote)));
    assert!(view.waits_for[0].reason.contains("partition 1"), "{:?}", view.waits_for);
    assert!(!bed.leads("m-t", 0));
    // Once more is as good; but it does not turn back.
    assert_eq!(bed.refusal(MirrorAction::Promote, "m-t").await, (None, String::new()));
    let (code, _) = bed.refusal(MirrorAction::Pause, "m-t").await;
    assert_eq!(code, Some(RefusalCode::MirrorStopping));

    bed.source.fail("t", 1, None);
    let view = bed.until("m-t", |view| view.mirror_status == "STOPPED").await;
    let stopped_at: Vec<_> = view.partitions.iter().map(|partition| partition.stopped_at_offset).collect();
    assert_eq!((stopped_at, view.max_per_partition_mirror_lag), (vec![Some(50), Some(100)], 0));
    assert_eq!((view.waits_for.len(), view.stopped_by), (0, Some(MirrorStop::Promote)));
    assert!(bed.leads("m-t", 0) && bed.leads("m-t", 1));
    let already = "Topic 'm-t' has already stopped its mirror from 'l'".to_owned();
    for action in [MirrorAction::Promote, MirrorAction::Failover, MirrorAction::Pause, MirrorAction::Resume] {
        assert_eq!(bed.refusal(action, "m-t").await, (Some(RefusalCode::MirrorStopped), already.clone()));
    }
    bed.source.append("t", 0, batch(50));
    let list = Operation::MirrorList { link: Some("l".to_owned()), partitions: true };
    let Outcome::Mirrors { mirrors } = bed.service.perform(list).await.unwrap() else { panic!("not a list") };
    assert_eq!(mirrors[0].partitions[0].log_end_offset, 50, "what comes later stays away");
    let delete = Operation::LinkDelete { link: "l".to_owned(), force: false, validate_only: false };
    assert!(bed.service.perform(delete).await.is_ok(), "nothing lives on the link");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_waits_for_syncs_that_are_made_anew() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    // As while the link's settings change.
    bed.service.forget_link("l").await;
    bed.alter(MirrorAction::Promote, &["m-t"]).await;
    let view = bed.until("m-t", |view| condition(view, "TOPIC_CONFIGS") || view.mirror_status == "STOPPED").await;
    assert_eq!(view.mirror_status, "PENDING_STOPPED", "it did not ask for what follows the data");
    bed.service.follow_link(&bed.service.link("l").unwrap()).await;
    bed.until("m-t", |view| view.mirror_status == "STOPPED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_takes_what_is_there_from_every_status() {
    let bed = Bed::new().await;
    let topics = ["active", "paused", "failed", "pending"];
    for topic in topics {
        bed.create(topic, 1).await;
        bed.caught_up(&format!("m-{topic}"), 50).await;
    }
    bed.alter(MirrorAction::Pause, &["m-paused"]).await;
    bed.until("m-paused", |view| view.partitions[0].state == "PAUSED").await;
    bed.source.create("failed", 1); // another topic of that name
    bed.source.drop_connections(1);
    bed.until("m-failed", |view| view.mirror_status == "FAILED").await;
    bed.source.fail("pending", 0, Some(NOT_LEADER));
    bed.alter(MirrorAction::Promote, &["m-pending"]).await;
    bed.until("m-pending", |view| !view.waits_for.is_empty()).await;
    let (code, message) = bed.refusal(MirrorAction::Promote, "m-failed").await;
    assert_eq!(code, Some(RefusalCode::MirrorFailed));
    assert!(message.contains("SOURCE_TOPIC_ID_CHANGED"), "{message}");
    bed.source.stop();

    let names: Vec<_> = topics.map(|topic| format!("m-{topic}")).into();
    let mut asked: Vec<_> = names.iter().map(String::as_str).collect();
    asked.push("nobody");
    let results = bed.alter(MirrorAction::Failover, &asked).await;
    let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [None, None, None, None, Some(RefusalCode::MirrorNotFound)]);
    for name in &names {
        let view = bed.mirror(name).await;
        assert_eq!((view.mirror_status.as_str(), view.stopped_by), ("STOPPED", Some(MirrorStop::Failover)), "{name}");
        assert_eq!((view.partitions[0].stopped_at_offset, view.partitions[0].partition_mirror_lag), (Some(50), -1));
        assert!(bed.leads(name, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_rise_above_mirrored_ones_before_the_first_write() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.source.append("t", 0, BatchBuilder::at(50).idempotent(4711, 0, 0).records(50, 100).build());
    bed.caught_up("m-t", 100).await;
    bed.alter(MirrorAction::Failover, &["m-t"]).await;
    assert_eq!(bed.mirror("m-t").await.mirror_status, "STOPPED");
    assert_eq!(bed.service.state.take_producer_ids(1, 0).unwrap(), 4712);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_the_source_never_committed_is_not_promoted() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.alter(MirrorAction::Pause, &["m-t"]).await;
    bed.until("m-t", |view| view.partitions[0].state == "PAUSED").await;
    // As many records as before, but other ones.
    bed.source.lead_uncleanly("t", 0, 1, 0);
    bed.source.append("t", 0, BatchBuilder::at(0).epoch(1).records(50, 7).build());
    bed.alter(MirrorAction::Promote, &["m-t"]).await;
    bed.until("m-t", |view| view.mirror_status == "STOPPED").await;
    let log = bed.service.logs.partition(&TopicPartition::new("m-t", 0)).unwrap();
    let held = log.read(Offset(0), Offset(50), 1 << 20, true).unwrap();
    assert_eq!(held, bed.source.bytes("t", 0));
}

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
async fn a_promotion_goes_on_after_a_restart() {
    let bed = Bed::new().await;
    for topic in ["waits", "begun", "failover"] {
        bed.create(topic, 1).await;
        bed.caught_up(&format!("m-{topic}"), 50).await;
    }
    bed.source.fail("waits", 0, Some(NOT_LEADER));
    bed.alter(MirrorAction::Promote, &["m-waits"]).await;
    bed.until("m-waits", |view| !view.waits_for.is_empty()).await;
    // As a kill leaves them between two steps.
    let killed = |state: &State, source: &FakeSource| {
        let leave = |name: &str, stop: MirrorStop, stopped_at: Vec<i64>| {
            let change = |topic: &mut TopicRecord| {
                let mirror = topic.mirror.as_mut().unwrap();
                (mirror.status, mirror.stop) = (MirrorStatus::PendingStopped, Some(stop));
                mirror.stopped_at.clone_from(&stopped_at);
                true
            };
            state.update_topics(&[name.to_owned()], change).unwrap();
        };
        leave("m-begun", MirrorStop::Promote, vec![50]);
        leave("m-failover", MirrorStop::Failover, Vec::new());
        for topic in ["begun", "failover"] {
            source.delete(topic);
        }
    };
    let bed = bed.restarted(killed).await;
    for name in ["m-begun", "m-failover"] {
        bed.until(name, |view| view.mirror_status == "STOPPED").await;
        assert!(bed.leads(name, 0));
    }
    let view = bed.until("m-waits", |view| !view.waits_for.is_empty()).await;
    assert_eq!(view.mirror_status, "PENDING_STOPPED");
    bed.source.fail("waits", 0, None);
    bed.until("m-waits", |view| view.mirror_status == "STOPPED").await;
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

/// What this process has used of its processors, both ends of the link included.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10) // `USER_HZ` is 100 wherever Linux runs
}

/// No assertion on times: they are printed, for docs/measurements.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_partitions_are_promoted_together() {
    const TOPICS: usize = 1_000;
    let bed = Bed::new().await;
    for topic in 0..TOPICS {
        bed.create(&format!("t{topic}"), 1).await;
    }
    let list = || Operation::MirrorList { link: None, partitions: false };
    let all = |status: &'static str| {
        let (bed, list) = (&bed, &list);
        async move {
            let began = Instant::now();
            loop {
                let Outcome::Mirrors { mirrors } = bed.service.perform(list()).await.unwrap() else {
                    panic!("no list")
                };
                let seen: BTreeSet<_> =
                    mirrors.iter().map(|m| (m.mirror_status.clone(), m.max_per_partition_mirror_lag)).collect();
                if mirrors.len() == TOPICS && seen == BTreeSet::from([(status.to_owned(), 0)]) {
                    return;
                }
                assert!(began.elapsed() < 10 * LIMIT, "{seen:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    all("ACTIVE").await;
    let began = Instant::now();
    bed.service.perform(list()).await.unwrap();
    let listed = began.elapsed();
    let alter = Operation::MirrorAlter {
        link: Some("l".to_owned()),
        action: MirrorAction::Promote,
        topics: Vec::new(),
        pattern: Some("m-.*".to_owned()),
        validate_only: false,
    };
    let (began, cpu) = (Instant::now(), cpu_time());
    let results = altered(bed.service.perform(alter).await.unwrap());
    let accepted = began.elapsed();
    assert!(results.len() == TOPICS && results.iter().all(|result| result.error_code.is_none()));
    let is_stopped = |topic: &Arc<TopicRecord>| topic.mirror.as_ref().unwrap().status == MirrorStatus::Stopped;
    while !bed.service.state.topics().iter().all(is_stopped) {
        assert!(began.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (done, cpu) = (began.elapsed(), cpu_time() - cpu);
    all("STOPPED").await;
    eprintln!(
        "{TOPICS} mirrors: listed in {listed:?}; promotion accepted in {accepted:?}, done in {done:?} with {cpu:?} of CPU"
    );
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
        assert!(matches!(code, Some(RefusalCode::LinkNotFound | RefusalCode::MirrorFailed)), "{action:?}: {message}");
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
async fn a_stopped_mirror_waits_for_nothing() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.source.stall(1, true);
    bed.alter(MirrorAction::Promote, &["m-t"]).await;
    // The question to the source is under way, and will fail in a while.
    tokio::time::sleep(Duration::from_millis(200)).await;
    bed.alter(MirrorAction::Failover, &["m-t"]).await;
    bed.source.stop();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let view = bed.mirror("m-t").await;
        assert_eq!((view.mirror_status.as_str(), view.waits_for.len()), ("STOPPED", 0), "{view:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
async fn trying_out_new_settings_keeps_nobody_else_waiting() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let change =
        Alteration { name: "bootstrap.servers".to_owned(), value: Some(silent.local_addr().unwrap().to_string()) };
    let alter = Operation::LinkAlterConfigs { link: "l".to_owned(), changes: vec![change], validate_only: false };
    let service = bed.service.clone();
    let changing = tokio::spawn(async move { service.perform(alter).await });
    // Once the server that says nothing was dialled, the change is being tried out.
    let accepted = tokio::task::spawn_blocking(move || silent.accept().map(|(stream, _)| (silent, stream)));
    let _held = accepted.await.unwrap().unwrap();
    bed.alter(MirrorAction::Failover, &["m-t"]).await;
    assert_eq!(bed.mirror("m-t").await.mirror_status, "STOPPED");
    assert!(!changing.is_finished(), "the failover waited for the trial");
    changing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bidirectional_link_is_refused_by_name() {
    let bed = Bed::new().await;
    let address = bed.source.addresses()[0].to_string();
    let configs = [("bootstrap.servers", address.as_str()), ("link.mode", "bidirectional")];
    let create = Operation::LinkCreate {
        link: "both".to_owned(),
        configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        remote: None,
        validate_only: false,
        skip_remote_check: false,
    };
    let refusal = bed.service.perform(create).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unsupported);
    assert!(refusal.message.contains("BIDIRECTIONAL is not supported yet"), "{}", refusal.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_that_do_not_run_are_not_settled() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    let topics = BTreeSet::from(["m-t".into()]);
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
    let known = |bed: &Bed| bed.service.destination("l", "m-").high_watermark("m-t", 0);
    until("fetched", async || known(&bed) == Some(Offset(50))).await;
    let bed = bed.restarted(|_, source| source.stall(1, true)).await;
    let log = bed.service.logs.partition(&TopicPartition::new("m-t", 0)).unwrap();
    assert_eq!(log.watermarks().log_end, Offset(50));
    assert_eq!(known(&bed), None, "what a checkpoint says");
    bed.source.stall(1, false);
    until("fetched again", async || known(&bed) == Some(Offset(50))).await;
}

/// Serves nobody; the syncs write committed offsets through it.
fn broker(service: &Service) -> Arc<hawser_broker::Broker> {
    let parts = hawser_broker::Parts {
        state: service.state.clone(),
        logs: service.logs.clone(),
        topics: service.topics.clone(),
        authorizer: service.authorizer.clone(),
        users: Arc::new(hawser_broker::StoredUsers::load(&service.state).unwrap()),
        private: Arc::new(NoPrivateApis),
        config: BrokerConfig::default(),
    };
    hawser_broker::Broker::new(parts).unwrap()
}

struct NoPrivateApis;

impl hawser_broker::PrivateApis for NoPrivateApis {
    fn link_open(
        &self,
        _: hawser_wire::RequestFrame,
        _: hawser_transport::ServerConnection,
    ) -> hawser_broker::BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn operate(&self, _: &Principal, _: bytes::Bytes) -> hawser_broker::BoxFuture<'_, bytes::Bytes> {
        Box::pin(std::future::ready(bytes::Bytes::new()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_mirror_that_was_stopped_meanwhile_are_left_alone() {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_cannot_be_deleted_goes_on() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.fill_disk();
    let delete =
        || bed.service.perform(Operation::LinkDelete { link: "l".to_owned(), force: true, validate_only: false });
    let refusal = delete().await.unwrap_err();
    assert!(refusal.message.contains("was not deleted and goes on"), "{refusal}");
    bed.source.append("t", 0, batch(50));
    bed.caught_up("m-t", 100).await;
    assert_eq!(bed.mirror("m-t").await.mirror_status, "ACTIVE");
    assert!(!bed.service.sync_status("l").is_empty(), "the syncs run");
    bed.make_room();
    assert!(matches!(delete().await, Ok(Outcome::LinkDeleted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_cannot_be_written_down_follows_its_source_on() {
    let bed = Bed::new().await;
    bed.create("t", 1).await;
    bed.caught_up("m-t", 50).await;
    bed.source.fail("t", 0, Some(NOT_LEADER));
    bed.alter(MirrorAction::Promote, &["m-t"]).await;
    bed.until("m-t", |view| condition(view, "SOURCE_REACHABLE")).await;
    bed.fill_disk();
    bed.source.fail("t", 0, None);
    bed.until("m-t", |view| condition(view, "LOG")).await;
    // It is behind again, and nobody but its fetcher can change that.
    bed.source.append("t", 0, batch(50));
    bed.caught_up("m-t", 100).await;
    bed.make_room();
    let view = bed.until("m-t", |view| view.mirror_status == "STOPPED").await;
    assert_eq!(view.partitions[0].stopped_at_offset, Some(100));
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
async fn an_acl_goes_when_the_last_link_that_brought_it_takes_it_away() {
    let bed = Bed::new().await;
    let address = bed.source.addresses()[0].to_string();
    for (link, prefix) in [("a", "a-"), ("b", "b-")] {
        let configs = [("bootstrap.servers", address.as_str()), ("cluster.link.prefix", prefix)];
        let create = Operation::LinkCreate {
            link: link.to_owned(),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            remote: None,
            validate_only: false,
            skip_remote_check: false,
        };
        bed.service.perform(create).await.unwrap();
    }
    let [a, b] = ["a", "b"].map(|link| bed.service.destination(link, ""));
    let acl = |name: &str| hawser_sync::Acl {
        resource_type: 2,
        resource_name: name.to_owned(),
        pattern_type: 3,
        principal: "User:ann".to_owned(),
        host: "*".to_owned(),
        operation: 3,
        permission: 3,
    };
    let here = || {
        let acls = bed.service.state.acls(&hawser_state::AclFilter::default());
        acls.into_iter().map(|acl| acl.resource_name).collect::<Vec<_>>()
    };
    let (shared, own) = (acl("shared"), acl("own"));
    a.change_acls(vec![shared.clone(), own.clone()], Vec::new()).await.unwrap();
    assert!(b.acls().made_here.is_empty(), "what another link brought is not this side's");
    b.change_acls(vec![shared.clone()], Vec::new()).await.unwrap();
    assert_eq!(b.acls().of_link, BTreeSet::from([shared.clone()]));
    a.change_acls(Vec::new(), vec![shared.clone()]).await.unwrap();
    assert_eq!((here(), a.acls().of_link), (vec!["own".to_owned(), "shared".to_owned()], BTreeSet::from([own])));
    b.change_acls(Vec::new(), vec![shared.clone()]).await.unwrap();
    assert_eq!(here(), ["own"]);

    // Who moved here needs them longer than the link.
    let delete = Operation::LinkDelete { link: "a".to_owned(), force: false, validate_only: false };
    bed.service.perform(delete).await.unwrap();
    assert_eq!((here(), b.acls().made_here.len()), (vec!["own".to_owned()], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_made_unseen_learns_its_source_cluster_and_keeps_to_it() {
    let bed = Bed::new().await;
    let address = bed.source.addresses()[0].to_string();
    let create = Operation::LinkCreate {
        link: "unseen".to_owned(),
        configs: [("bootstrap.servers".to_owned(), address)].into(),
        remote: None,
        validate_only: false,
        skip_remote_check: true,
    };
    bed.service.perform(create).await.unwrap();
    let known = || bed.service.state.link("unseen").and_then(|link| link.remote_cluster_id.clone());
    until("it is learnt", async || known().is_some()).await;
    assert_eq!(known().as_deref(), Some("fake-source"));
}
