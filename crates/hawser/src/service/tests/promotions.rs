//! How mirrors are stopped: what a promotion waits for, what a failover takes, what a restart goes on with.

use super::bed::*;
use super::*;
use crate::operations::{MirrorAction, MirrorStop};
use hawser_state::{MirrorStatus, TopicRecord};
use hawser_testkit::batches::BatchBuilder;
use hawser_testkit::fake_source::FakeSource;
use hawser_wire::{Offset, TopicPartition};
use std::time::Instant;

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
