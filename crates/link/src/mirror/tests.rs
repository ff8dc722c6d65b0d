//! Every status with every command, every fact and every sight.

use super::*;
use MirrorAction::{Failover, Pause, Promote, Resume};
use MirrorStatus::{Active, Failed, Paused, PendingMirror, PendingStopped, Stopped};

const ALL: [MirrorStatus; 6] = [PendingMirror, Active, Paused, PendingStopped, Stopped, Failed];

#[test]
fn every_status_meets_every_command() {
    let (promotes, fails_over) = (Ok(Effect::Stops(MirrorStop::Promote)), Ok(Effect::Stops(MirrorStop::Failover)));
    let (no_change, becomes) = (Ok(Effect::None), |status| Ok(Effect::Becomes(status)));
    let table = [
        (PendingMirror, [promotes, fails_over, becomes(Paused), no_change]),
        (Active, [promotes, fails_over, becomes(Paused), no_change]),
        (Paused, [promotes, fails_over, no_change, becomes(Active)]),
        (PendingStopped, [no_change, fails_over, Err(OutOfPlace::Stopping), Err(OutOfPlace::Stopping)]),
        (Stopped, [Err(OutOfPlace::Stopped); 4]),
        (Failed, [Err(OutOfPlace::Failed), fails_over, Err(OutOfPlace::Failed), becomes(PendingMirror)]),
    ];
    assert_eq!(table.map(|(status, _)| status), ALL);
    for (status, expected) in table {
        for (action, expected) in [Promote, Failover, Pause, Resume].into_iter().zip(expected) {
            assert_eq!(status.on_action(action), expected, "{status:?} {action:?}");
        }
    }
}

#[test]
fn every_status_meets_every_fact() {
    let table = [
        (PendingMirror, [Active, Failed, PendingMirror]),
        (Active, [Active, Failed, Active]),
        (Paused, [Paused, Failed, Paused]),
        (PendingStopped, [PendingStopped, Failed, Stopped]),
        (Stopped, [Stopped; 3]),
        (Failed, [Failed; 3]),
    ];
    assert_eq!(table.map(|(status, _)| status), ALL);
    for (status, expected) in table {
        let facts = [MirrorFact::Flows, MirrorFact::Fails, MirrorFact::Stopped];
        assert_eq!(facts.map(|fact| status.on_fact(fact)), expected, "{status:?}");
    }
}

#[test]
fn every_status_is_shown_with_what_is_seen() {
    const LINKS: [LinkSeen; 4] = [LinkSeen::Up, LinkSeen::Paused, LinkSeen::Unavailable, LinkSeen::Failed];
    let (gone, link) = ("SOURCE_UNAVAILABLE", ["LINK_PAUSED", "SOURCE_UNAVAILABLE", "LINK_FAILED"]);
    let table = [
        (PendingMirror, ["PENDING_MIRROR", link[0], link[1], link[2]], [gone, link[0], gone, link[2]], "FAILED"),
        (Active, ["ACTIVE", link[0], link[1], link[2]], [gone, link[0], gone, link[2]], "FAILED"),
        (Paused, ["PAUSED"; 4], ["PAUSED"; 4], "FAILED"),
        (PendingStopped, ["PENDING_STOPPED"; 4], ["PENDING_STOPPED"; 4], "PENDING_STOPPED"),
        (Stopped, ["STOPPED"; 4], ["STOPPED"; 4], "STOPPED"),
        (Failed, ["FAILED"; 4], ["FAILED"; 4], "FAILED"),
    ];
    assert_eq!(table.map(|(status, ..)| status), ALL);
    for (status, there, unavailable, failed) in table {
        assert_eq!(LINKS.map(|link| status.shown(link, SourceSeen::There)), there, "{status:?}");
        assert_eq!(LINKS.map(|link| status.shown(link, SourceSeen::Unavailable)), unavailable, "{status:?}");
        assert_eq!(LINKS.map(|link| status.shown(link, SourceSeen::Failed)), [failed; 4], "{status:?}");
        assert!(there.iter().chain(&unavailable).chain([&failed]).all(|shown| STATUSES.contains(shown)), "{status:?}");
    }
}

#[test]
fn only_what_is_over_lets_go_of_its_link() {
    assert_eq!(ALL.map(MirrorStatus::is_live), [true, true, true, true, false, false]);
}
