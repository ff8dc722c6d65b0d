use super::Coordinator;
use super::machine::{Actions, Answer, Event, Group, Identity, Join, Joined, Rules, Sync, Synced, Ticket};
use crate::BrokerConfig;
use bytes::Bytes;
use hawser_state::{CommittedOffset, GroupChange, State};
use hawser_wire::ResponseError;
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_secs(3);

/// A group driven by hand: time passes only when told.
struct Bench {
    group: Group,
    now: Instant,
    next: u64,
    answers: BTreeMap<Ticket, Answer>,
    stores: usize,
}

impl Bench {
    fn new(initial_delay: Duration) -> Self {
        let group = Group::new(Rules { initial_delay, size_max: 4 });
        Self { group, now: Instant::now(), next: 0, answers: BTreeMap::new(), stores: 0 }
    }

    fn feed(&mut self, event: Event) {
        let Actions { answers, store } = self.group.on(event, self.now, 1);
        for (ticket, answer) in answers {
            assert!(self.answers.insert(ticket, answer).is_none(), "{ticket:?} answered twice");
        }
        self.stores += usize::from(store);
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    fn join(&mut self, join: Join) -> Ticket {
        let ticket = self.ticket();
        self.feed(Event::Join(ticket, Box::new(join)));
        ticket
    }

    fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> Ticket {
        let ticket = self.ticket();
        let assignments =
            assignments.iter().map(|(id, bytes)| ((*id).to_owned(), Bytes::from_static(bytes.as_bytes())));
        let sync = Sync {
            identity: who(id, generation),
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments: assignments.collect(),
        };
        self.feed(Event::Sync(ticket, sync));
        ticket
    }

    fn stored(&mut self, is_ok: bool) {
        let generation = self.group.record().unwrap().generation;
        self.feed(Event::Stored { generation, is_ok });
    }

    fn done(&mut self, event: impl FnOnce(Ticket) -> Event) -> Result<(), ResponseError> {
        let ticket = self.ticket();
        self.feed(event(ticket));
        match self.answers.remove(&ticket) {
            Some(Answer::Done(verdict)) => verdict,
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), ResponseError> {
        self.done(|ticket| Event::Heartbeat(ticket, who(id, generation)))
    }

    fn leave(&mut self, id: &str) -> Result<(), ResponseError> {
        self.done(|ticket| Event::Leave(ticket, who(id, -1)))
    }

    fn commit(&mut self, id: &str, generation: i32) -> Result<(), ResponseError> {
        self.done(|ticket| Event::Commit(ticket, who(id, generation)))
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.feed(Event::Tick);
    }

    fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.answers.remove(&ticket) {
            Some(Answer::Joined(joined)) => joined,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn synced(&mut self, ticket: Ticket) -> Result<Synced, ResponseError> {
        match self.answers.remove(&ticket) {
            Some(Answer::Synced(synced)) => synced,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn is_waiting(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    /// A stable group of `a` (the leader) and `b`, in generation 1.
    fn stable_pair() -> Self {
        let mut bench = Self::new(DELAY);
        let (a, b) = (bench.join(anew("a")), bench.join(anew("b")));
        bench.pass(DELAY);
        bench.pass(DELAY);
        assert_eq!((bench.joined(a).leader.as_str(), bench.joined(b).generation), ("a", 1));
        let (a, b) = (bench.sync("a", 1, &[("a", "0"), ("b", "1")]), bench.sync("b", 1, &[]));
        bench.stored(true);
        assert_eq!(bench.synced(a).unwrap().assignment, "0");
        assert_eq!(bench.synced(b).unwrap().assignment, "1");
        assert_eq!(bench.group.state_name(), "Stable");
        bench
    }
}

fn who(id: &str, generation: i32) -> Identity {
    Identity { member_id: id.into(), instance_id: None, generation }
}

/// A first join without KIP-394, getting `id`.
fn anew(id: &str) -> Join {
    Join {
        member_id: String::new(),
        instance_id: None,
        fresh_id: id.into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![
            ("range".into(), Bytes::from_static(b"sub")),
            ("roundrobin".into(), Bytes::from_static(b"sub")),
        ],
        requires_known_member: false,
        can_skip_assignment: false,
    }
}

fn again(id: &str) -> Join {
    Join { member_id: id.into(), ..anew(id) }
}

fn fixed(id: &str, instance: &str) -> Join {
    Join { instance_id: Some(instance.into()), ..anew(id) }
}

#[test]
fn the_first_round_waits_for_latecomers_but_not_for_ever() {
    let mut bench = Bench::new(DELAY);
    let a = bench.join(anew("a"));
    assert_eq!(bench.group.deadline(), Some(bench.now + DELAY));
    bench.pass(DELAY / 2);
    let b = bench.join(anew("b"));
    bench.pass(DELAY / 2);
    assert!(bench.is_waiting(a) && bench.is_waiting(b), "a newcomer prolongs the round");
    bench.pass(DELAY);
    let (a, b) = (bench.joined(a), bench.joined(b));
    assert_eq!((a.generation, a.leader.as_str(), a.protocol.as_deref()), (1, "a", Some("range")));
    assert_eq!(a.members.len(), 2);
    assert!(b.members.is_empty() && b.error.is_none());
    // A newcomer at every delay: the rebalance time-out is the end.
    let mut bench = Bench { group: Group::new(Rules { initial_delay: DELAY, size_max: 100 }), ..Bench::new(DELAY) };
    let first = bench.join(anew("m0"));
    let mut rounds = 0;
    while bench.is_waiting(first) {
        rounds += 1;
        let id = format!("m{rounds}");
        bench.join(anew(&id));
        bench.pass(DELAY);
    }
    assert_eq!(rounds, 20);
}

#[test]
fn without_initial_delay_the_first_member_is_in_at_once() {
    let mut bench = Bench::new(Duration::ZERO);
    let a = bench.join(anew("a"));
    assert_eq!(bench.joined(a).generation, 1);
}

#[test]
fn kip_394_a_dynamic_member_first_gets_an_id_and_joins_with_it() {
    let mut bench = Bench::new(DELAY);
    let knock = bench.join(Join { requires_known_member: true, ..anew("a") });
    let refused = bench.joined(knock);
    assert_eq!((refused.error, refused.member_id.as_str()), (Some(ResponseError::MemberIdRequired), "a"));
    assert!(!bench.group.is_deserted());
    let join = bench.join(Join { requires_known_member: true, ..again("a") });
    bench.pass(DELAY);
    bench.pass(DELAY);
    assert_eq!(bench.joined(join).member_id, "a");
    // An id that nobody gave out, and one that has lapsed.
    let unknown = bench.join(again("x"));
    assert_eq!(bench.joined(unknown).error, Some(ResponseError::UnknownMemberId));
    let mut bench = Bench::new(DELAY);
    bench.join(Join { requires_known_member: true, ..anew("a") });
    bench.pass(SESSION);
    assert!(bench.group.is_deserted());
    let late = bench.join(again("a"));
    assert_eq!(bench.joined(late).error, Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_promised_member_holds_up_the_round_until_it_lapses_or_leaves() {
    for leaves in [true, false] {
        let mut bench = Bench::stable_pair();
        bench.join(Join { requires_known_member: true, ..anew("c") });
        let (a, b) = (bench.join(again("a")), bench.join(again("b")));
        assert!(bench.is_waiting(a) && bench.is_waiting(b));
        if leaves {
            assert_eq!(bench.leave("c"), Ok(()));
        } else {
            bench.pass(SESSION);
        }
        assert_eq!((bench.joined(a).generation, bench.joined(b).generation), (2, 2));
    }
}

#[test]
fn sync_waits_for_the_leader_and_for_the_disk() {
    let mut bench = Bench::new(Duration::ZERO);
    let a = bench.join(anew("a"));
    bench.joined(a);
    assert_eq!(bench.group.state_name(), "CompletingRebalance");
    let sync = bench.sync("a", 1, &[("a", "x")]);
    assert!(bench.is_waiting(sync));
    assert_eq!(bench.stores, 1);
    // Offsets cannot be committed between two assignments.
    assert_eq!(bench.commit("a", 1), Err(ResponseError::RebalanceInProgress));
    assert_eq!(bench.heartbeat("a", 1), Ok(()));
    // Another generation's report changes nothing.
    bench.feed(Event::Stored { generation: 0, is_ok: true });
    assert!(bench.is_waiting(sync));
    bench.stored(true);
    assert_eq!(bench.synced(sync).unwrap().assignment, "x");
    // Asked again, it is said again.
    let sync = bench.sync("a", 1, &[]);
    assert_eq!(bench.synced(sync).unwrap().assignment, "x");
    let record = bench.group.record().unwrap();
    assert_eq!((record.generation, record.members[0].assignment.as_slice()), (1, &b"x"[..]));
}

#[test]
fn a_failed_store_sends_everybody_back_to_join() {
    let mut bench = Bench::new(Duration::ZERO);
    let a = bench.join(anew("a"));
    bench.joined(a);
    let sync = bench.sync("a", 1, &[("a", "x")]);
    bench.stored(false);
    assert_eq!(bench.synced(sync), Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(bench.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
    let a = bench.join(again("a"));
    assert_eq!(bench.joined(a).generation, 2);
}

#[test]
fn a_new_member_rebalances_a_stable_group() {
    let mut bench = Bench::stable_pair();
    let c = bench.join(anew("c"));
    assert_eq!(bench.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
    // Members may still commit what they consumed.
    assert_eq!(bench.commit("a", 1), Ok(()));
    let sync = bench.sync("a", 1, &[]);
    assert_eq!(bench.synced(sync), Err(ResponseError::RebalanceInProgress));
    let (a, b) = (bench.join(again("a")), bench.join(again("b")));
    assert_eq!(bench.joined(a).members.len(), 3);
    assert_eq!((bench.joined(b).generation, bench.joined(c).generation), (2, 2));
    assert_eq!(bench.heartbeat("a", 1), Err(ResponseError::IllegalGeneration));
    assert_eq!(bench.commit("a", 1), Err(ResponseError::IllegalGeneration));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut bench = Bench::stable_pair();
    let b = bench.join(Join { protocols: vec![("range".into(), Bytes::from_static(b"other"))], ..again("b") });
    for _ in 0..5 {
        bench.pass(SESSION - Duration::from_secs(1));
        assert_eq!(bench.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
        assert!(bench.is_waiting(b));
    }
    bench.pass(REBALANCE - 5 * (SESSION - Duration::from_secs(1)));
    let b = bench.joined(b);
    assert_eq!((b.leader.as_str(), b.generation, b.members.len()), ("b", 2, 1));
    assert_eq!(bench.heartbeat("a", 1), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_silent_member_expires_and_a_waiting_one_does_not() {
    let mut bench = Bench::stable_pair();
    bench.pass(SESSION / 2);
    assert_eq!(bench.heartbeat("a", 1), Ok(()));
    bench.pass(SESSION / 2);
    assert_eq!(bench.group.state_name(), "PreparingRebalance");
    assert_eq!(bench.heartbeat("b", 1), Err(ResponseError::UnknownMemberId));
    let a = bench.join(again("a"));
    assert_eq!(bench.joined(a).members.len(), 1);
    // `a` now waits for the disk, longer than its session.
    let sync = bench.sync("a", 2, &[("a", "x")]);
    bench.pass(SESSION * 2);
    assert!(bench.is_waiting(sync));
    bench.stored(true);
    assert!(bench.synced(sync).is_ok());
}

#[test]
fn members_that_never_sync_are_removed() {
    let mut bench = Bench::new(Duration::ZERO);
    let a = bench.join(anew("a"));
    bench.joined(a);
    let b = bench.join(anew("b"));
    let a = bench.join(again("a"));
    assert_eq!((bench.joined(a).generation, bench.joined(b).generation), (2, 2));
    let a = bench.sync("a", 2, &[("a", "x")]);
    bench.stored(true);
    assert!(bench.synced(a).is_ok());
    for _ in 0..7 {
        bench.pass(SESSION - Duration::from_secs(1));
        bench.heartbeat("a", 2).ok();
        bench.heartbeat("b", 2).ok();
    }
    assert_eq!(bench.heartbeat("b", 2), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.heartbeat("a", 2), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn the_last_one_out_leaves_an_empty_generation() {
    let mut bench = Bench::stable_pair();
    let stores = bench.stores;
    assert_eq!(bench.leave("a"), Ok(()));
    assert_eq!(bench.leave("a"), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.leave("b"), Ok(()));
    assert!(bench.group.is_deserted());
    assert_eq!(bench.stores, stores + 1);
    let record = bench.group.record().unwrap();
    assert_eq!((record.generation, record.members.len(), record.protocol_type.as_str()), (2, 0, "consumer"));
    // Now offsets can be set from outside, and no longer from a former member.
    assert_eq!(bench.commit("", -1), Ok(()));
    assert_eq!(bench.commit("a", 1), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.group.deadline(), None);
}

#[test]
fn offsets_of_a_live_group_are_its_members_own() {
    let mut bench = Bench::stable_pair();
    assert_eq!(bench.commit("", -1), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.commit("x", 1), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.commit("a", 1), Ok(()));
}

#[test]
fn unchanged_members_are_told_again_and_the_leader_rebalances() {
    let mut bench = Bench::stable_pair();
    let b = bench.join(again("b"));
    assert_eq!((bench.joined(b).generation, bench.group.state_name()), (1, "Stable"));
    let a = bench.join(again("a"));
    assert!(bench.is_waiting(a));
    assert_eq!(bench.group.state_name(), "PreparingRebalance");
    // The same member asking twice: the older question is answered, the newer waits.
    let a2 = bench.join(again("a"));
    assert_eq!(bench.joined(a).error, Some(ResponseError::RebalanceInProgress));
    let b = bench.join(again("b"));
    assert_eq!((bench.joined(a2).generation, bench.joined(b).generation), (2, 2));
    // A lost join answer, before the sync.
    let a = bench.join(again("a"));
    assert_eq!(bench.joined(a).members.len(), 2);
    assert_eq!(bench.group.state_name(), "CompletingRebalance");
}

#[test]
fn kip_345_a_static_member_keeps_its_place_over_a_restart() {
    for can_skip_assignment in [true, false] {
        let mut bench = Bench::new(Duration::ZERO);
        let a = bench.join(fixed("i1-old", "i1"));
        bench.joined(a);
        let sync = bench.sync_static("i1-old", "i1", 1);
        bench.stored(true);
        assert!(bench.synced(sync).is_ok());
        // It restarts: a new id, the same generation and assignment, no rebalance.
        let a = bench.join(Join { can_skip_assignment, ..fixed("i1-new", "i1") });
        let joined = bench.joined(a);
        assert_eq!((joined.generation, joined.member_id.as_str()), (1, "i1-new"));
        assert_eq!(
            (joined.skip_assignment, joined.members.len()),
            (can_skip_assignment, usize::from(can_skip_assignment))
        );
        assert_eq!(joined.leader, if can_skip_assignment { "i1-new" } else { "i1-old" });
        let sync = bench.sync_static("i1-new", "i1", 1);
        assert_eq!(bench.synced(sync).unwrap().assignment, "mine");
        // The ghost is fenced, whatever it does.
        let ghost = Identity { instance_id: Some("i1".into()), ..who("i1-old", 1) };
        assert_eq!(bench.done(|t| Event::Heartbeat(t, ghost.clone())), Err(ResponseError::FencedInstanceId));
        assert_eq!(bench.done(|t| Event::Commit(t, ghost.clone())), Err(ResponseError::FencedInstanceId));
        assert_eq!(bench.done(|t| Event::Leave(t, ghost)), Err(ResponseError::FencedInstanceId));
        let stale = bench.join(Join { member_id: "i1-old".into(), ..fixed("x", "i1") });
        assert_eq!(bench.joined(stale).error, Some(ResponseError::FencedInstanceId));
        // An administrator removes it by its instance id.
        let nobody = Identity { instance_id: Some("i2".into()), ..who("", -1) };
        assert_eq!(bench.done(|t| Event::Leave(t, nobody)), Err(ResponseError::UnknownMemberId));
        let by_instance = Identity { instance_id: Some("i1".into()), ..who("", -1) };
        assert_eq!(bench.done(|t| Event::Leave(t, by_instance)), Ok(()));
        assert!(bench.group.is_deserted());
    }
}

#[test]
fn a_replaced_static_member_hears_that_it_was_fenced() {
    let mut bench = Bench::new(DELAY);
    let old = bench.join(fixed("i1-old", "i1"));
    let new = bench.join(fixed("i1-new", "i1"));
    assert_eq!(bench.joined(old).error, Some(ResponseError::FencedInstanceId));
    bench.pass(DELAY);
    bench.pass(DELAY);
    let joined = bench.joined(new);
    assert_eq!((joined.generation, joined.leader.as_str()), (1, "i1-new"));
}

#[test]
fn static_members_that_stay_away_keep_their_place_until_their_session_ends() {
    let mut bench = Bench::new(Duration::ZERO);
    let a = bench.join(Join { session_timeout: 10 * REBALANCE, ..fixed("s", "i") });
    bench.joined(a);
    bench.sync_static("s", "i", 1);
    bench.stored(true);
    let b = bench.join(anew("b"));
    bench.pass(REBALANCE);
    let joined = bench.joined(b);
    assert_eq!((joined.generation, joined.leader.as_str(), joined.members.len()), (2, "b", 2));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut bench = Bench::stable_pair();
    let error = |bench: &mut Bench, join: Join| {
        let ticket = bench.join(join);
        bench.joined(ticket).error
    };
    let inconsistent = Some(ResponseError::InconsistentGroupProtocol);
    assert_eq!(error(&mut bench, Join { protocol_type: "connect".into(), ..anew("c") }), inconsistent);
    assert_eq!(error(&mut bench, Join { protocols: vec![("sticky".into(), Bytes::new())], ..anew("c") }), inconsistent);
    assert_eq!(error(&mut bench, Join { protocols: Vec::new(), ..anew("c") }), inconsistent);
    let huge = vec![("range".into(), Bytes::from(vec![0; 33 << 20]))];
    assert_eq!(error(&mut bench, Join { protocols: huge, ..anew("c") }), Some(ResponseError::GroupMaxSizeReached));
    let huge = vec![("range".into(), Bytes::new()), ("x".repeat(33 << 20), Bytes::new())];
    assert_eq!(error(&mut bench, Join { protocols: huge, ..anew("c") }), Some(ResponseError::GroupMaxSizeReached));
    let many = (0..65).map(|n| (if n == 0 { "range".into() } else { format!("p{n}") }, Bytes::new())).collect();
    assert_eq!(error(&mut bench, Join { protocols: many, ..anew("c") }), Some(ResponseError::InvalidRequest));
    bench.join(anew("c"));
    bench.join(Join { requires_known_member: true, ..anew("d") });
    assert_eq!(error(&mut bench, anew("e")), Some(ResponseError::GroupMaxSizeReached));
    let ticket = bench.ticket();
    let sync =
        Sync { identity: who("a", 1), protocol_type: Some("connect".into()), protocol: None, assignments: Vec::new() };
    bench.feed(Event::Sync(ticket, sync));
    assert_eq!(bench.synced(ticket), Err(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn the_assignor_is_the_favourite_of_most_among_what_all_know() {
    let knows = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect::<Vec<_>>();
    let mut bench = Bench::new(DELAY);
    let a = bench.join(Join { protocols: knows(&["x", "range", "sticky"]), ..anew("a") });
    bench.join(Join { protocols: knows(&["sticky", "range"]), ..anew("b") });
    bench.join(Join { protocols: knows(&["sticky", "range"]), ..anew("c") });
    bench.pass(DELAY);
    bench.pass(DELAY);
    assert_eq!(bench.joined(a).protocol.as_deref(), Some("sticky"));
}

#[test]
fn a_restored_group_goes_on_without_a_rebalance() {
    let mut bench = Bench::stable_pair();
    let record = bench.group.record().unwrap();
    let rules = Rules { initial_delay: DELAY, size_max: 4 };
    bench.group = Group::restore(rules, record.clone(), bench.now);
    assert_eq!((bench.group.state_name(), bench.group.record()), ("Stable", Some(record)));
    assert_eq!(bench.heartbeat("a", 1), Ok(()));
    assert_eq!(bench.commit("b", 1), Ok(()));
    let sync = bench.sync("b", 1, &[]);
    assert_eq!(bench.synced(sync).unwrap().assignment, "1");
    // Who does not come back expires.
    bench.pass(SESSION / 2);
    assert_eq!(bench.heartbeat("b", 1), Ok(()));
    bench.pass(SESSION / 2);
    assert_eq!(bench.heartbeat("a", 1), Err(ResponseError::UnknownMemberId));
}

impl Bench {
    fn sync_static(&mut self, id: &str, instance: &str, generation: i32) -> Ticket {
        let ticket = self.ticket();
        let identity = Identity { instance_id: Some(instance.into()), ..who(id, generation) };
        let assignments = vec![(id.to_owned(), Bytes::from_static(b"mine"))];
        self.feed(Event::Sync(ticket, Sync { identity, protocol_type: None, protocol: None, assignments }));
        ticket
    }
}

/// Any events in any order: no panic, every ticket answered at most once, joins and syncs answered once time has passed,
/// and the generation never falls.
#[test]
fn no_sequence_of_events_leaves_a_ticket_unanswered() {
    for seed in 0..3000_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut bench = Bench::new(if seed % 2 == 0 { DELAY } else { Duration::ZERO });
        let mut tickets = Vec::new();
        let mut generation = 0;
        for step in 0..60 {
            // Fresh ids are unique; the others are of somebody who joined lately, or of nobody.
            let fresh = format!("m{step}");
            let id = format!("m{}", step - next(8).min(step));
            match next(9) {
                0 => tickets.push(bench.join(anew(&fresh))),
                1 => tickets.push(bench.join(Join { requires_known_member: true, ..anew(&fresh) })),
                2 => tickets.push(bench.join(again(&id))),
                3 => tickets.push(bench.join(fixed(&format!("s{step}"), "i1"))),
                4 => tickets.push(bench.sync(&id, generation, &[(&id, "x"), ("m2", "y")])),
                5 => drop(bench.heartbeat(&id, generation)),
                6 => drop(bench.leave(&id)),
                7 => bench.feed(Event::Stored { generation, is_ok: next(3) > 0 }),
                _ => bench.pass(Duration::from_secs(next(20))),
            }
            let now = bench.group.record().map_or(generation, |record| record.generation);
            assert!(now >= generation, "seed {seed}: generation fell");
            generation = now;
        }
        for _ in 0..200 {
            bench.feed(Event::Stored { generation, is_ok: true });
            bench.pass(SESSION);
            generation = bench.group.record().map_or(generation, |record| record.generation);
        }
        let open: Vec<_> = tickets.iter().filter(|ticket| bench.is_waiting(**ticket)).collect();
        assert!(open.is_empty(), "seed {seed}: {open:?} in {}", bench.group.state_name());
        assert!(bench.group.is_deserted(), "seed {seed}: {}", bench.group.state_name());
    }
}

fn put(group: &str, offset: i64) -> GroupChange {
    let committed = CommittedOffset { offset, leader_epoch: 0, metadata: String::new(), commit_timestamp_ms: 1 };
    GroupChange::PutOffset { group: group.into(), topic: "t".into(), partition: 0, committed }
}

/// Lets a call begin, which then waits for something.
async fn begin<T>(mut call: Pin<&mut impl Future<Output = T>>) {
    tokio::select! {
        biased;
        _ = &mut call => panic!("it does not wait"),
        () = std::future::ready(()) => {}
    }
}

/// What is taken from a group is decided when its turn to be written comes: a member that joined and committed while the
/// deletion was under way keeps its offset.
#[tokio::test]
async fn no_deletion_takes_the_commit_of_a_member_that_came_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state")).unwrap();
    let groups = Coordinator::start(state.clone(), BrokerConfig::default()).unwrap();
    let committed = |group| state.offset(group, "t", 0).unwrap().map(|committed| committed.offset);
    groups.write(vec![put("g", 1)]).await.unwrap();
    let mut delete = pin!(groups.delete("g"));
    begin(delete.as_mut()).await;
    // Version 1, one topic `t`, no user data.
    let subscription = Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff");
    // It stays, however long the disk takes.
    let long = Duration::from_secs(600);
    let member = Join {
        protocols: vec![("range".into(), subscription)],
        session_timeout: long,
        rebalance_timeout: long,
        ..anew("a")
    };
    let mut join = pin!(groups.ask("g", |ticket| Event::Join(ticket, Box::new(member))));
    begin(join.as_mut()).await;
    groups.write(vec![put("g", 2)]).await.unwrap();
    assert_eq!(delete.await, Err(ResponseError::NonEmptyGroup));
    groups.expire(vec!["g".into()], 100).await;
    let subscribed = groups.delete_offsets("g".into(), vec![("t".into(), 0)]).await;
    assert_eq!(subscribed, Err(ResponseError::GroupSubscribedToTopic));
    let written = groups.write_for_outsider(vec![put("g", 3), put("empty", 3), put("g", 4)]).await;
    assert_eq!(written, Ok(["g".to_owned()].into()), "and who asked is told that it was not written");
    assert_eq!((committed("g"), committed("empty")), (Some(2), Some(3)));

    assert_eq!(groups.delete_offsets("empty".into(), vec![("t".into(), 0)]).await, Ok(()));
    assert_eq!(committed("empty"), None);
    groups.write(vec![put("empty", 4)]).await.unwrap();
    assert_eq!(groups.delete("empty").await, Ok(()));
    assert_eq!((committed("empty"), groups.delete("empty").await), (None, Err(ResponseError::GroupIdNotFound)));
    groups.write(vec![put("empty", 5)]).await.unwrap();
    groups.expire(vec!["empty".into()], 100).await;
    assert_eq!((committed("g"), committed("empty")), (Some(2), None));
}
