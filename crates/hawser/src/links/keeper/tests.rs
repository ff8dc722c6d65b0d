use super::*;
use hawser_state::{MirrorStatus, MirrorStop};
use std::collections::VecDeque;

fn event(topic: &str) -> MirrorEvent {
    MirrorEvent::Started { topic: topic.into() }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_shown_and_tried_again_until_it_is() {
    let (events, taken) = mpsc::channel(8);
    let outcomes = ["full", "panic", "full", ""].map(str::to_owned);
    let outcomes = Arc::new(Mutex::new(VecDeque::from(outcomes)));
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (left, written) = (outcomes.clone(), kept.clone());
    let keeper = Keeper::over(taken, move |event| {
        let outcome = left.lock().unwrap().pop_front().unwrap_or_default();
        assert!(outcome != "panic", "at a write");
        if outcome.is_empty() {
            written.lock().unwrap().push(event);
        }
        std::future::ready(if outcome.is_empty() { Ok(()) } else { Err(outcome) })
    });
    events.send(event("a")).await.unwrap();
    events.send(event("b")).await.unwrap();
    let mut seen = Vec::new();
    while kept.lock().unwrap().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        seen.extend(keeper.trouble());
    }
    seen.dedup();
    let full = "what replication found out cannot be kept: full";
    assert_eq!(seen, [full, "what replication found out cannot be kept: panicked: at a write", full]);
    assert_eq!(*kept.lock().unwrap(), [event("a"), event("b")], "none is lost, and their order stays");
    assert_eq!(keeper.trouble(), None);

    // At its end it waits for no disk.
    outcomes.lock().unwrap().extend(std::iter::repeat_n("full".to_owned(), 100));
    events.send(event("c")).await.unwrap();
    drop(events);
    keeper.ended().await;
    assert_eq!(kept.lock().unwrap().len(), 2);
}

#[test]
fn a_mirror_that_was_stopped_grows_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("state")).unwrap();
    let of = |link: &str| MirrorRecord::new(link, "t", uuid::Uuid::from_u128(2), 0);
    let grows = |mirror: MirrorRecord| {
        let id = uuid::Uuid::from_u128(1);
        let topic =
            TopicRecord { name: "t".into(), id, partitions: 1, configs: Default::default(), mirror: Some(mirror) };
        state.put_topic(topic).unwrap();
        apply(&state, "dr", &MirrorEvent::PartitionsGrew { topic: "t".into(), from: 1, to: 3 }).unwrap();
        state.topic("t").unwrap().partitions == 3
    };
    assert!(grows(of("dr")));
    assert!(!grows(of("another")), "made anew meanwhile");
    assert!(!grows(MirrorRecord { stopped_at: vec![7], ..of("dr") }));
    assert!(!grows(MirrorRecord { stop: Some(MirrorStop::Failover), ..of("dr") }));
    assert!(!grows(MirrorRecord { status: MirrorStatus::Stopped, ..of("dr") }));
}
