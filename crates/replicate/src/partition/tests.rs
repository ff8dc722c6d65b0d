//! The table of transitions: each row drives a machine into a state, gives one event in, and says what comes out.

use super::*;
use bytes::Bytes;
use hawser_store::conformance::batch;
use hawser_wire::NodeId;

const PATIENCE: Patience = Patience {
    retry_backoff: Duration::from_millis(100),
    retry_backoff_max: Duration::from_secs(1),
    fetch_backoff: Duration::from_secs(1),
    retry_timeout: Duration::from_secs(300),
};

/// A machine with a clock of its own and what it said last.
struct Rig {
    machine: Partition,
    now: Instant,
    last: Actions,
}

fn at(log_start: i64, log_end: i64, last_epoch: i32) -> Position {
    let (log_start, log_end, last_epoch) = (Offset(log_start), Offset(log_end), LeaderEpoch(last_epoch));
    Position { log_start, log_end, flushed: log_start, last_epoch }
}

fn leader(node: i32, epoch: i32) -> Leader {
    Leader { node: NodeId(node), epoch: LeaderEpoch(epoch) }
}

/// Batches as (base offset, records, epoch).
fn records(batches: &[(i64, i32, i32)]) -> Bytes {
    batches.iter().flat_map(|&(base, count, epoch)| batch(base, count, epoch).bytes.to_vec()).collect::<Vec<_>>().into()
}

fn brought(high_watermark: i64, log_start: i64, batches: &[(i64, i32, i32)]) -> Event {
    let records = records(batches);
    Event::Fetched(Fetched { high_watermark: Offset(high_watermark), log_start: Offset(log_start), records })
}

fn code(error: ResponseError) -> i16 {
    error.code()
}

fn epoch_end(theirs: Option<(i32, i64)>, ours: Option<(i32, i64)>) -> Event {
    let pair = |(epoch, end)| (LeaderEpoch(epoch), Offset(end));
    Event::EpochEnd { theirs: theirs.map(pair), ours: ours.map(pair) }
}

fn disk_full() -> StoreError {
    StoreError::Io { what: "write".into(), source: std::io::ErrorKind::StorageFull.into() }
}

impl Rig {
    fn closed(start: Start) -> Self {
        let mut machine = Partition::new(start, PATIENCE);
        machine.set_lineage_in_fetch(true);
        Self { machine, now: Instant::now(), last: Actions::default() }
    }

    /// Open at `position` and led by node 1 in epoch 5.
    fn led(position: Position) -> Self {
        let mut rig = Self::closed(Start::Earliest);
        rig.on(Event::Leader(leader(1, 5))).on(Event::Opened(position));
        rig
    }

    fn on(&mut self, event: Event) -> &mut Self {
        self.last = self.machine.on(event, self.now);
        self
    }

    fn wait(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self.on(Event::Tick)
    }

    fn cut(&self) -> Option<Cut> {
        self.last.write.as_ref().and_then(|write| write.cut)
    }

    fn trouble(&self) -> Option<TroubleKind> {
        self.machine.trouble().map(|trouble| trouble.kind)
    }

    fn failure(&self) -> Option<Reason> {
        self.machine.failure().map(|failure| failure.reason)
    }

    fn fetches(&self) -> Option<(i64, i32, i32)> {
        match self.machine.want() {
            Want::Fetch(at) => Some((at.offset.0, at.leader_epoch.0, at.last_epoch.0)),
            _ => None,
        }
    }
}

const EARLIEST: Want = Want::Offset { at: Start::Earliest, leader_epoch: LeaderEpoch(5) };
const LATEST: Want = Want::Offset { at: Start::Latest, leader_epoch: LeaderEpoch(5) };

#[test]
fn opening_and_leading_come_in_either_order() {
    let mut rig = Rig::closed(Start::Earliest);
    assert_eq!(rig.machine.want(), Want::Open);
    rig.on(Event::Opened(at(0, 10, 3)));
    assert_eq!(rig.machine.want(), Want::Leader);
    assert!(rig.last.refresh, "nobody told it of a leader");
    rig.on(Event::Leader(leader(1, 5)));
    assert_eq!(rig.fetches(), Some((10, 5, 3)));
    assert_eq!(rig.last.reports, [Report::Started { at: Offset(10) }]);
    assert_eq!(Rig::led(at(0, 10, 3)).fetches(), Some((10, 5, 3)));
}

#[test]
fn opening_is_retried() {
    let mut rig = Rig::closed(Start::Earliest);
    rig.on(Event::OpenFailed(disk_full()));
    assert_eq!((rig.machine.want(), rig.trouble()), (Want::Nothing, Some(TroubleKind::Store)));
    rig.wait(1000);
    assert_eq!(rig.machine.want(), Want::Open);
    rig.on(Event::OpenFailed(StoreError::Refused("other topic id".into())));
    assert_eq!(rig.failure(), Some(Reason::IllegalState));
}

#[test]
fn a_new_copy_asks_where_to_begin() {
    let mut rig = Rig::led(at(0, 0, -1));
    assert_eq!(rig.machine.want(), EARLIEST);
    rig.on(Event::Offset(Some(Offset(0))));
    assert_eq!(rig.fetches(), Some((0, 5, -1)));

    let mut rig = Rig::led(at(0, 0, -1));
    rig.on(Event::Offset(Some(Offset(40))));
    assert_eq!((rig.cut(), rig.machine.want()), (Some(Cut::RestartAt(Offset(40))), Want::Nothing));
    rig.on(Event::Stored(at(40, 40, -1)));
    assert_eq!(rig.fetches(), Some((40, 5, -1)));
    assert_eq!(rig.last.reports, [Report::Started { at: Offset(40) }]);
}

#[test]
fn a_beginning_that_could_not_be_stored_is_looked_for_again() {
    let mut rig = Rig::led(at(0, 0, -1));
    rig.on(Event::Offset(Some(Offset(40)))).on(Event::StoreFailed(at(0, 0, -1), disk_full().into())).wait(1000);
    assert_eq!(rig.machine.want(), EARLIEST);
}

#[test]
fn a_time_past_the_end_means_the_end() {
    let mut rig = Rig::closed(Start::Timestamp(77));
    rig.on(Event::Leader(leader(1, 5))).on(Event::Opened(at(0, 0, -1)));
    assert_eq!(rig.machine.want(), Want::Offset { at: Start::Timestamp(77), leader_epoch: LeaderEpoch(5) });
    rig.on(Event::Offset(None));
    assert_eq!(rig.machine.want(), LATEST);
    rig.on(Event::Offset(Some(Offset(9))));
    assert_eq!(rig.cut(), Some(Cut::RestartAt(Offset(9))));
}

#[test]
fn an_empty_copy_that_began_somewhere_goes_on_there() {
    assert_eq!(Rig::led(at(40, 40, -1)).fetches(), Some((40, 5, -1)));
}

#[test]
fn data_is_appended_and_the_next_fetch_need_not_wait() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(14, 0, &[(10, 2, 3), (12, 2, 5)]));
    let write = rig.last.write.as_ref().expect("a write");
    assert_eq!((write.append.len(), write.high_watermark, write.log_start), (2, Some(Offset(14)), None));
    assert_eq!(rig.fetches(), Some((14, 5, 5)), "asked for before the write is done");
    rig.on(Event::Stored(at(0, 14, 5)));
    assert_eq!(rig.fetches(), Some((14, 5, 5)));
}

#[test]
fn news_without_data_costs_a_write_only_if_it_is_news() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(10, 0, &[])).on(Event::Stored(at(0, 10, 3))).on(brought(10, 0, &[]));
    assert!(rig.last.write.is_none());
    rig.on(brought(10, 4, &[]));
    assert_eq!(rig.last.write.as_ref().and_then(|write| write.log_start), Some(Offset(4)));
    assert_eq!(rig.last.write.as_ref().and_then(|write| write.high_watermark), Some(Offset(10)), "it is no more to do");
}

#[test]
fn the_log_start_is_followed_no_further_than_the_copy() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(14, 13, &[(10, 2, 3)]));
    assert_eq!(rig.last.write.as_ref().and_then(|write| write.log_start), Some(Offset(12)));
}

#[test]
fn a_partial_batch_is_left_for_the_next_fetch() {
    let mut rig = Rig::led(at(0, 10, 3));
    let whole = records(&[(10, 2, 3), (12, 2, 3)]);
    let fetched = Fetched { high_watermark: Offset(14), log_start: Offset(0), records: whole.slice(..whole.len() - 1) };
    rig.on(Event::Fetched(fetched));
    assert_eq!((rig.fetches(), rig.trouble()), (Some((12, 5, 3)), None));
}

#[test]
fn only_an_empty_copy_may_begin_inside_a_batch() {
    let mut rig = Rig::led(at(105, 105, -1));
    rig.on(brought(120, 105, &[(100, 10, 3)]));
    assert_eq!(rig.last.write.as_ref().map(|write| write.append.len()), Some(1));
    assert_eq!(rig.fetches(), Some((110, 5, 3)));

    let mut rig = Rig::led(at(0, 105, 3));
    rig.on(brought(120, 0, &[(100, 10, 3)]));
    assert_eq!(
        (rig.trouble(), rig.last.write.is_some_and(|w| !w.append.is_empty())),
        (Some(TroubleKind::OutOfOrder), false)
    );
}

#[test]
fn a_fault_keeps_the_batches_before_it() {
    for (batches, kind) in [
        (&[(10, 2, 3), (11, 2, 3)][..], TroubleKind::OutOfOrder),
        (&[(10, 2, 3), (12, 2, 2)], TroubleKind::EpochFell),
        (&[(10, 2, 3), (12, 2, 6)], TroubleKind::Leadership),
    ] {
        let mut rig = Rig::led(at(0, 10, 3));
        rig.on(brought(20, 0, batches));
        assert_eq!(rig.trouble(), Some(kind));
        assert_eq!(rig.last.write.as_ref().map(|write| write.append.len()), Some(1), "{kind:?}");
        rig.on(Event::Stored(at(0, 12, 3))).wait(1000);
        assert_eq!(rig.fetches(), Some((12, 5, 3)), "{kind:?}");
    }
}

#[test]
fn old_formats_are_a_dead_end() {
    let mut old = records(&[(10, 2, 3)]).to_vec();
    old[16] = 1;
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(Event::Fetched(Fetched { high_watermark: Offset(12), log_start: Offset(0), records: old.into() }));
    assert_eq!(rig.failure(), Some(Reason::UnsupportedMessageFormat));
}

#[test]
fn a_corrupt_batch_is_fetched_again() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(14, 0, &[(10, 2, 3), (12, 2, 3)]));
    let crc = BatchError::Crc { base_offset: 12, stated: 1, computed: 2 };
    rig.on(Event::StoreFailed(at(0, 12, 3), crc.into()));
    assert_eq!((rig.trouble(), rig.machine.want()), (Some(TroubleKind::Corrupt), Want::Nothing));
    rig.wait(1000);
    assert_eq!(rig.fetches(), Some((12, 5, 3)));
    rig.on(brought(14, 0, &[(12, 2, 3)])).on(Event::Stored(at(0, 14, 3)));
    assert_eq!(rig.last.reports, [Report::Recovered]);
}

#[test]
fn a_full_disk_waits_and_goes_on() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(14, 0, &[(10, 2, 3)])).on(Event::StoreFailed(at(0, 10, 3), disk_full().into()));
    assert_eq!((rig.trouble(), rig.machine.want()), (Some(TroubleKind::Store), Want::Nothing));
    rig.on(Event::Leader(leader(1, 6)));
    assert_eq!(rig.machine.want(), Want::Nothing, "another leader mends no disk");
    rig.wait(1000);
    assert_eq!(rig.fetches(), Some((10, 6, 3)));
    // What is fetched and cannot be written is no recovery, and is not fetched again and again.
    for millis in [2000, 4000, 8000, 10_000, 10_000] {
        rig.on(brought(14, 0, &[(10, 2, 3)]));
        assert!(rig.last.reports.is_empty(), "{:?}", rig.last.reports);
        rig.on(Event::StoreFailed(at(0, 10, 3), disk_full().into())).wait(millis - 1);
        assert_eq!(rig.fetches(), None);
        rig.wait(1);
    }
    rig.on(brought(14, 0, &[(10, 2, 3)])).on(Event::Stored(at(0, 12, 3)));
    assert_eq!(rig.last.reports, [Report::Recovered]);
}

#[test]
fn what_the_store_lost_is_fetched_again() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(Event::Looked(at(0, 10, 3)));
    assert_eq!(rig.fetches(), Some((10, 5, 3)), "nothing of this copy is lost");
    rig.on(Event::Looked(at(0, 6, 2)));
    assert_eq!((rig.trouble(), rig.machine.want()), (Some(TroubleKind::Store), Want::Nothing));
    rig.wait(1000);
    assert_eq!(rig.fetches(), Some((6, 5, 2)));
    // What is being written finds it out by itself.
    rig.on(brought(14, 0, &[(6, 8, 3)])).on(Event::Looked(at(0, 4, 2)));
    assert_eq!((rig.fetches(), rig.machine.position().log_end), (Some((14, 5, 3)), Offset(6)));
    rig.on(Event::StoreFailed(at(0, 4, 2), disk_full().into())).wait(2000);
    assert_eq!(rig.fetches(), Some((4, 5, 2)));
    // A pause is none the shorter, and ends where the copy does.
    rig.on(Event::Pause).on(Event::Looked(at(0, 0, -1)));
    assert_eq!((rig.machine.phase(), rig.machine.deadline()), (Phase::Paused, None));
    rig.on(Event::Resume);
    assert_eq!(rig.fetches(), Some((0, 5, -1)), "and it does not look for a beginning anew");
}

#[test]
fn another_writer_is_a_dead_end() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(14, 0, &[(10, 2, 3)]));
    rig.on(Event::StoreFailed(at(0, 10, 3), StoreError::Fenced("taken over".into()).into()));
    assert_eq!(rig.failure(), Some(Reason::IllegalState));
}

#[test]
fn lineages_decide_about_cuts() {
    // The copy ends at 100 in epoch 4, and holds epochs 2 (from 20), 3 (from 50) and 4 (from 80).
    for (theirs, ours, expected) in [
        (Some((4, 90)), Some((4, 100)), Cut::TruncateTo(Offset(90))), // their epoch 4 is shorter
        (Some((3, 70)), Some((3, 80)), Cut::TruncateTo(Offset(70))),  // they lack epoch 4
        (Some((3, 90)), Some((3, 80)), Cut::TruncateTo(Offset(80))),  // and have more of 3 than we: cut ours of 4
        (Some((1, 60)), None, Cut::RestartAt(Offset(20))),            // all that we hold is of epochs they lack
        (Some((1, 10)), None, Cut::RestartAt(Offset(10))),            // and they end below our start
        (Some((3, 95)), Some((2, 50)), Cut::TruncateTo(Offset(50))), // they have an epoch that we lack: ask again lower
        (Some((3, 5)), Some((3, 80)), Cut::RestartAt(Offset(5))),    // below our log start
    ] {
        for in_fetch in [true, false] {
            let mut rig = Rig::closed(Start::Earliest);
            rig.machine.set_lineage_in_fetch(in_fetch);
            rig.on(Event::Leader(leader(1, 5))).on(Event::Opened(at(20, 100, 4)));
            let asks = Want::EpochEnd { epoch: LeaderEpoch(4), leader_epoch: LeaderEpoch(5) };
            assert_eq!(rig.machine.want() == asks, !in_fetch);
            rig.on(epoch_end(theirs, ours));
            assert_eq!(rig.cut(), Some(expected), "{theirs:?} against {ours:?}");
            let (Cut::TruncateTo(to) | Cut::RestartAt(to)) = expected;
            assert_eq!(rig.last.reports, [Report::Truncated { from: Offset(100), to }]);
            assert_eq!(rig.machine.want(), Want::Nothing);
            rig.on(Event::Stored(at(20.min(to.0), to.0, 3)));
            match in_fetch {
                true => assert_eq!(rig.fetches(), Some((to.0, 5, 3))),
                false => assert!(matches!(rig.machine.want(), Want::EpochEnd { .. }), "a cut is checked again"),
            }
        }
    }
}

#[test]
fn an_epoch_without_batches_is_forgotten() {
    let mut rig = Rig::led(at(122, 122, 4)); // the log start was followed to the end
    rig.on(epoch_end(Some((3, 128)), None));
    assert_eq!(rig.cut(), Some(Cut::RestartAt(Offset(122))), "found by the simulation, seed 5389");
    rig.on(Event::Stored(at(122, 122, -1)));
    assert_eq!(rig.fetches(), Some((122, 5, -1)));
}

#[test]
fn a_copy_that_is_cut_to_nothing_does_not_begin_anew() {
    let mut rig = Rig::closed(Start::Latest);
    rig.on(Event::Leader(leader(1, 5))).on(Event::Opened(at(20, 100, 4))).on(epoch_end(Some((3, 0)), None));
    assert_eq!(rig.cut(), Some(Cut::RestartAt(Offset(0))));
    rig.on(Event::Stored(at(0, 0, -1)));
    assert_eq!(rig.fetches(), Some((0, 5, -1)), "found by the simulation, seed 406");
}

#[test]
fn agreeing_lineages_fetch() {
    let mut rig = Rig::closed(Start::Earliest);
    rig.machine.set_lineage_in_fetch(false);
    rig.on(Event::Leader(leader(1, 5))).on(Event::Opened(at(0, 100, 4))).on(epoch_end(Some((4, 100)), None));
    assert_eq!(rig.fetches(), Some((100, 5, 4)));
}

#[test]
fn answers_that_make_no_sense_cut_nothing() {
    for theirs in [(7, 50), (4, 300)] {
        let mut rig = Rig::led(at(0, 100, 4));
        rig.on(epoch_end(Some(theirs), Some((4, 100))));
        assert!(rig.cut().is_none() && rig.trouble().is_some(), "{theirs:?}");
    }
}

#[test]
fn an_unknown_lineage_is_never_cut_and_fails_in_the_end() {
    let mut rig = Rig::led(at(0, 100, 4));
    for _ in 0..300 {
        rig.on(Event::Refused(code(ResponseError::OffsetOutOfRange))).on(Event::Offset(Some(Offset(0))));
        rig.on(epoch_end(None, None));
        assert!(rig.cut().is_none());
        assert_eq!(rig.trouble(), Some(TroubleKind::LineageUnknown));
        rig.wait(1000);
    }
    rig.on(Event::Refused(code(ResponseError::OffsetOutOfRange))).on(Event::Offset(Some(Offset(0))));
    rig.on(epoch_end(None, None));
    assert_eq!(rig.failure(), Some(Reason::UnexpectedTruncation));
}

#[test]
fn out_of_range_below_the_log_start_is_a_gap_that_is_told() {
    let mut rig = Rig::led(at(0, 100, 4));
    rig.on(Event::Refused(code(ResponseError::OffsetOutOfRange)));
    assert_eq!(rig.machine.want(), EARLIEST);
    rig.on(Event::Offset(Some(Offset(150))));
    assert_eq!(rig.cut(), Some(Cut::RestartAt(Offset(150))));
    assert_eq!(rig.last.reports, [Report::Gap { from: Offset(100), to: Offset(150) }]);
    rig.on(Event::Stored(at(150, 150, -1)));
    assert_eq!(rig.fetches(), Some((150, 5, -1)));
}

#[test]
fn out_of_range_above_asks_for_the_lineage() {
    let mut rig = Rig::led(at(0, 100, 4));
    rig.on(Event::Refused(code(ResponseError::OffsetOutOfRange))).on(Event::Offset(Some(Offset(0))));
    assert_eq!(rig.machine.want(), Want::EpochEnd { epoch: LeaderEpoch(4), leader_epoch: LeaderEpoch(5) });
    rig.on(epoch_end(Some((4, 100)), Some((4, 100))));
    assert_eq!(rig.trouble(), Some(TroubleKind::OutOfRange), "they agree: no cut, but no hot loop either");
    rig.wait(1000);
    assert_eq!(rig.fetches(), Some((100, 5, 4)));
}

#[test]
fn out_of_range_of_an_empty_copy_begins_at_the_end() {
    let mut rig = Rig::led(at(40, 40, -1));
    rig.on(Event::Refused(code(ResponseError::OffsetOutOfRange))).on(Event::Offset(Some(Offset(0))));
    assert_eq!(rig.machine.want(), LATEST);
    rig.on(Event::Offset(Some(Offset(30))));
    assert_eq!(rig.cut(), Some(Cut::RestartAt(Offset(30))));
}

#[test]
fn out_of_range_while_writing_waits_for_the_write() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(12, 0, &[(10, 2, 3)])).on(Event::Refused(code(ResponseError::OffsetOutOfRange)));
    assert_eq!(rig.machine.want(), Want::Nothing);
    rig.on(Event::Stored(at(0, 12, 3)));
    assert_eq!(rig.fetches(), Some((12, 5, 3)));
}

#[test]
fn errors_wait_with_their_reason() {
    use ResponseError as E;
    for (error, kind, millis, refresh) in [
        (E::NotLeaderOrFollower, TroubleKind::Leadership, 100, true),
        (E::FencedLeaderEpoch, TroubleKind::Leadership, 100, true),
        (E::UnknownLeaderEpoch, TroubleKind::Leadership, 100, true),
        (E::LeaderNotAvailable, TroubleKind::Leadership, 100, true),
        (E::ReplicaNotAvailable, TroubleKind::Leadership, 100, true),
        (E::OffsetNotAvailable, TroubleKind::Leadership, 100, true),
        (E::UnknownTopicOrPartition, TroubleKind::UnknownTopic, 1000, true),
        (E::UnknownTopicId, TroubleKind::UnknownTopic, 1000, true),
        (E::InconsistentTopicId, TroubleKind::UnknownTopic, 1000, true),
        (E::TopicAuthorizationFailed, TroubleKind::Unauthorized, 1000, true),
        (E::KafkaStorageError, TroubleKind::Source, 1000, true),
        (E::CorruptMessage, TroubleKind::Corrupt, 1000, false),
        (E::UnknownServerError, TroubleKind::Source, 1000, true),
    ] {
        let mut rig = Rig::led(at(0, 10, 3));
        rig.on(Event::Refused(code(error)));
        assert_eq!((rig.trouble(), rig.last.refresh), (Some(kind), refresh), "{error:?}");
        assert!(matches!(rig.last.reports.as_slice(), [Report::Trouble(_)]));
        assert_eq!(rig.machine.want(), Want::Nothing);
        rig.wait(millis - 1);
        assert_eq!(rig.machine.want(), Want::Nothing, "{error:?}");
        rig.wait(1);
        assert_eq!(rig.fetches(), Some((10, 5, 3)), "{error:?}");
        rig.on(brought(10, 0, &[])).on(Event::Stored(at(0, 10, 3)));
        assert_eq!(rig.last.reports, [Report::Recovered]);
    }
}

#[test]
fn an_old_format_topic_is_a_dead_end() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(Event::Refused(code(ResponseError::UnsupportedForMessageFormat)));
    assert_eq!(rig.failure(), Some(Reason::UnsupportedMessageFormat));
}

#[test]
fn leadership_backs_off_further_each_time() {
    let mut rig = Rig::led(at(0, 10, 3));
    for millis in [100, 200, 400, 800, 1000, 1000] {
        rig.on(Event::Refused(code(ResponseError::NotLeaderOrFollower)));
        rig.wait(millis - 1);
        assert_eq!(rig.fetches(), None);
        rig.wait(1);
        assert!(rig.fetches().is_some());
    }
}

#[test]
fn a_missing_right_backs_off_up_to_half_a_minute() {
    let mut rig = Rig::led(at(0, 10, 3));
    for millis in [1000, 2000, 4000, 8000, 16000, 30000, 30000] {
        rig.on(Event::Refused(code(ResponseError::TopicAuthorizationFailed)));
        rig.wait(millis - 1);
        assert_eq!(rig.fetches(), None);
        rig.wait(1);
        assert!(rig.fetches().is_some());
    }
    rig.on(brought(10, 0, &[])).on(Event::Stored(at(0, 10, 3)));
    rig.on(Event::Refused(code(ResponseError::TopicAuthorizationFailed)));
    rig.wait(1000);
    assert!(rig.fetches().is_some(), "begins anew");
}

#[test]
fn a_newer_leader_ends_the_wait_and_an_older_one_is_ignored() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(Event::Refused(code(ResponseError::FencedLeaderEpoch))).on(Event::Leader(leader(1, 5)));
    assert_eq!(rig.fetches(), None);
    rig.on(Event::Leader(leader(2, 4)));
    assert_eq!(rig.machine.leader(), Some(leader(1, 5)));
    rig.on(Event::Leader(leader(2, 6)));
    assert_eq!((rig.fetches(), rig.machine.leader()), (Some((10, 6, 3)), Some(leader(2, 6))));
}

#[test]
fn a_new_leader_waits_for_the_outstanding_write() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(12, 0, &[(10, 2, 3)])).on(Event::Leader(leader(2, 6)));
    assert!(rig.machine.is_writing() && rig.fetches().is_none());
    rig.on(Event::Stored(at(0, 12, 3)));
    assert_eq!(rig.fetches(), Some((12, 6, 3)));
}

#[test]
fn a_source_whose_epoch_went_back_fails_in_the_end() {
    let mut rig = Rig::led(at(0, 10, 9));
    assert_eq!((rig.trouble(), rig.last.refresh), (Some(TroubleKind::EpochBehind), true));
    for _ in 0..310 {
        rig.wait(1000);
    }
    assert_eq!(rig.failure(), Some(Reason::NonMonotonicSourceEpoch));
}

#[test]
fn epochs_that_keep_falling_fail_in_the_end() {
    let mut rig = Rig::led(at(0, 10, 3));
    for _ in 0..300 {
        rig.on(brought(12, 0, &[(10, 2, 2)]));
        if rig.last.write.is_some() {
            rig.on(Event::Stored(at(0, 10, 3)));
        }
        rig.wait(1000);
    }
    rig.on(brought(12, 0, &[(10, 2, 2)]));
    assert_eq!(rig.failure(), Some(Reason::NonMonotonicLogAppendEpoch));
}

#[test]
fn pause_and_resume() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(12, 0, &[(10, 2, 3)])).on(Event::Pause);
    assert_eq!((rig.machine.want(), rig.machine.phase()), (Want::Nothing, Phase::Paused));
    rig.on(Event::Stored(at(0, 12, 3))).on(Event::Leader(leader(1, 6)));
    assert_eq!(rig.machine.want(), Want::Nothing);
    rig.on(Event::Resume);
    assert_eq!(rig.fetches(), Some((12, 6, 3)));

    let mut rig = Rig::closed(Start::Earliest);
    rig.on(Event::Pause).on(Event::Leader(leader(1, 5))).on(Event::Opened(at(0, 10, 3)));
    assert_eq!(rig.machine.want(), Want::Nothing, "paused before it was opened");
    rig.on(Event::Resume);
    assert_eq!(rig.fetches(), Some((10, 5, 3)));
}

#[test]
fn nothing_leads_out_of_a_dead_end() {
    let failure = Failure { reason: Reason::SourceTopicIdChanged, detail: "another".into() };
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(brought(12, 0, &[(10, 2, 3)])).on(Event::Fail(failure.clone()));
    assert_eq!(rig.last.reports, [Report::Failed(failure.clone())]);
    let events = [
        Event::Stored(at(0, 12, 3)),
        Event::Leader(leader(2, 9)),
        Event::Tick,
        Event::Pause,
        Event::Resume,
        Event::Refused(code(ResponseError::OffsetOutOfRange)),
        Event::Offset(Some(Offset(5))),
        epoch_end(Some((3, 5)), None),
        brought(20, 0, &[(12, 2, 3)]),
        Event::Looked(at(0, 5, 3)),
        Event::NoNews,
        Event::Fail(failure),
    ];
    for event in events {
        rig.on(event);
        assert!(rig.last.write.is_none() && rig.last.reports.is_empty());
        assert_eq!((rig.machine.want(), rig.failure()), (Want::Nothing, Some(Reason::SourceTopicIdChanged)));
    }
}

#[test]
fn late_answers_change_nothing() {
    let mut rig = Rig::led(at(0, 10, 3));
    rig.on(Event::Offset(Some(Offset(99))));
    assert_eq!((rig.fetches(), rig.cut()), (Some((10, 5, 3)), None));
    let mut rig = Rig::led(at(0, 0, -1));
    rig.on(brought(20, 0, &[(0, 2, 3)])).on(epoch_end(Some((1, 0)), None));
    assert!(rig.last.write.is_none());
    assert_eq!(rig.machine.want(), EARLIEST);
}
