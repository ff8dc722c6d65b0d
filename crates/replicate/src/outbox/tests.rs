use super::*;
use crate::reason::{Failure, Reason, Trouble, TroubleKind};
use hawser_wire::Offset;

fn id(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn trouble(detail: usize) -> Report {
    Report::Trouble(Trouble { kind: TroubleKind::Store, detail: detail.to_string() })
}

fn told(outbox: &mut Outbox<()>) -> Vec<String> {
    let next = || outbox.pop();
    std::iter::from_fn(next)
        .map(|notice| match notice {
            Notice::Returned(held) => format!("{} returned", held.id),
            Notice::Report(id, report) => format!("{id} {report:?}"),
            Notice::Stale(topic) => format!("{topic} stale"),
        })
        .collect()
}

#[test]
fn a_partition_that_flaps_costs_no_more_than_one_that_does_not() {
    let mut outbox = Outbox::default();
    for round in 0..10_000 {
        for partition in 0..3 {
            outbox.report(id(partition), trouble(round));
            outbox.report(id(partition), Report::Recovered);
            outbox.ask_for(["t".into()]);
        }
    }
    outbox.report(id(1), trouble(10_000));
    assert_eq!((outbox.order.len(), outbox.reports.values().map(Vec::len).sum::<usize>()), (3, 3));
    let expected = [
        "t-0 Recovered".to_owned(),
        format!("t-1 {:?}", trouble(10_000)),
        "t-2 Recovered".to_owned(),
        "t stale".to_owned(),
    ];
    assert_eq!(told(&mut outbox), expected);
    assert!(outbox.is_empty() && outbox.reports.is_empty());
}

#[test]
fn losses_add_up_and_beginnings_and_ends_are_never_dropped() {
    let mut outbox = Outbox::default();
    let failed = |reason| Report::Failed(Failure { reason, detail: String::new() });
    outbox.report(id(0), Report::Started { at: Offset(0) });
    outbox.report(id(0), Report::Gap { from: Offset(5), to: Offset(9) });
    outbox.report(id(0), Report::Truncated { from: Offset(20), to: Offset(15) });
    outbox.report(id(0), Report::Gap { from: Offset(30), to: Offset(40) });
    outbox.report(id(0), Report::Truncated { from: Offset(50), to: Offset(12) });
    outbox.report(id(0), failed(Reason::UnexpectedTruncation));
    outbox.report(id(0), failed(Reason::IllegalState));
    let expected = [
        Report::Started { at: Offset(0) },
        Report::Gap { from: Offset(5), to: Offset(40) },
        Report::Truncated { from: Offset(50), to: Offset(12) },
        failed(Reason::UnexpectedTruncation),
    ];
    assert_eq!(told(&mut outbox), expected.map(|report| format!("t-0 {report:?}")));
}

#[test]
fn news_that_come_while_others_are_told_are_told_too() {
    let mut outbox = Outbox::<()>::default();
    outbox.report(id(0), Report::Started { at: Offset(0) });
    outbox.report(id(0), trouble(1));
    assert!(matches!(outbox.pop(), Some(Notice::Report(_, Report::Started { .. }))));
    outbox.report(id(0), Report::Recovered);
    assert!(matches!(outbox.pop(), Some(Notice::Report(_, Report::Recovered))));
    assert!(outbox.pop().is_none() && outbox.is_empty());
    outbox.report(id(0), trouble(2));
    assert!(!outbox.is_empty());
}
