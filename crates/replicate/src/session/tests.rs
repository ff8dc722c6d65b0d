//! The rules of KIP-227, one by one.

use super::*;
use hawser_wire::{LeaderEpoch, Offset};
use proptest::prelude::*;

fn id(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn at(offset: i64) -> Fetching {
    let at = FetchAt { offset: Offset(offset), leader_epoch: LeaderEpoch(1), last_epoch: LeaderEpoch(1) };
    Fetching { topic_id: Uuid::from_u128(7), at, bytes_max: 100 }
}

/// A session that the broker numbered 9, with partitions 0 to 2 at offset 0.
fn established() -> Session {
    let mut session = Session::default();
    for partition in 0..3 {
        session.want(&id(partition), at(0));
    }
    let plan = session.plan();
    assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (0, 0, 3));
    assert!(session.answered(0, 9));
    session
}

#[test]
fn an_idle_poll_sends_nothing() {
    let mut session = established();
    let plan = session.plan();
    assert_eq!(plan, Plan { session_id: 9, session_epoch: 1, send: vec![], forget: vec![] });
    assert!(session.answered(0, 9));
    assert_eq!(session.plan().session_epoch, 2);
}

#[test]
fn only_changes_are_sent() {
    let mut session = established();
    session.want(&id(1), at(5));
    session.want(&id(3), at(0));
    session.drop(&id(0));
    let plan = session.plan();
    assert_eq!(plan.send, [(id(1), at(5)), (id(3), at(0))]);
    assert_eq!(plan.forget, [(id(0), Uuid::from_u128(7))]);
    assert_eq!(session.asked(&id(0)), None);
    assert_eq!(session.asked(&id(1)), Some(at(5)));
}

#[test]
fn a_change_that_is_taken_back_is_not_sent() {
    let mut session = established();
    session.want(&id(1), at(5));
    session.want(&id(1), at(0));
    session.drop(&id(2));
    session.want(&id(2), at(0));
    assert_eq!(session.plan().send, []);
}

#[test]
fn what_was_missed_is_told_by_a_new_session_unless_it_is_forgotten_anyway() {
    let mut session = established();
    session.missed(&id(1));
    session.drop(&id(1));
    session.want(&id(1), at(0));
    let plan = session.plan();
    assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (9, 0, 3));
    assert!(session.answered(0, 10));
    assert_eq!(session.plan().session_epoch, 1, "told once");
    assert!(session.answered(0, 10));
    session.missed(&id(1));
    session.drop(&id(1));
    session.missed(&id(7));
    let plan = session.plan();
    assert_eq!((plan.session_epoch, plan.forget), (2, vec![(id(1), Uuid::from_u128(7))]));
    assert!(session.answered(0, 10));
    session.want(&id(1), at(0));
    let plan = session.plan();
    assert_eq!((plan.session_epoch, plan.send), (3, vec![(id(1), at(0))]));
}

#[test]
fn another_topic_id_is_forgotten_and_sent() {
    let mut session = established();
    let other = Fetching { topic_id: Uuid::from_u128(8), ..at(0) };
    session.want(&id(1), other);
    let plan = session.plan();
    assert_eq!(plan.send, [(id(1), other)]);
    assert_eq!(plan.forget, [(id(1), Uuid::from_u128(7))]);
}

#[test]
fn what_is_in_flight_stays_comparable() {
    let mut session = established();
    session.want(&id(1), at(5));
    assert_eq!(session.asked(&id(1)), Some(at(0)), "the broker has not been told yet");
}

#[test]
fn errors_start_over() {
    for (code, keeps_id) in [(70, false), (71, true), (106, true)] {
        let mut session = established();
        session.plan();
        assert!(!session.answered(code, 0));
        let plan = session.plan();
        assert_eq!((plan.session_id, plan.session_epoch), (if keeps_id { 9 } else { 0 }, 0), "error {code}");
        assert_eq!(plan.send.len(), 3);
        assert!(session.answered(0, 10));
        assert_eq!(session.plan().session_id, 10);
    }
}

#[test]
fn a_session_ends_with_its_connection() {
    for (end, session_id) in [(Session::reset as fn(&mut Session), 9), (Session::forget, 0)] {
        let mut session = established();
        session.want(&id(1), at(5));
        session.plan();
        end(&mut session);
        let plan = session.plan();
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (session_id, 0, 3));
    }
}

#[test]
fn another_session_id_is_not_believed() {
    let mut session = established();
    session.plan();
    assert!(!session.answered(0, 10));
    assert_eq!(session.plan().session_epoch, 0);
}

#[test]
fn an_answer_that_ends_the_session_is_good() {
    let mut session = established();
    session.plan();
    assert!(session.answered(0, 0));
    let plan = session.plan();
    assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (9, 0, 3));
}

#[test]
fn without_a_session_every_request_is_full() {
    let mut session = Session::default();
    session.want(&id(0), at(0));
    for _ in 0..3 {
        let plan = session.plan();
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (0, 0, 1));
        assert!(session.answered(0, 0));
    }
}

#[test]
fn the_epoch_wraps_to_one() {
    let mut session = established();
    session.epoch = i32::MAX;
    assert!(session.answered(0, 9));
    assert_eq!(session.plan().session_epoch, 1);
}

/// A broker's side: what it would fetch.
#[derive(Default)]
struct Peer {
    cache: HashMap<TopicPartition, Fetching>,
}

impl Peer {
    fn take(&mut self, plan: Plan) {
        if plan.session_epoch == 0 {
            self.cache.clear();
        }
        for (id, _) in plan.forget {
            self.cache.remove(&id);
        }
        self.cache.extend(plan.send);
    }
}

proptest! {
    /// Whatever is wanted, dropped, lost and refused: after a request the broker's cache is what we want.
    #[test]
    fn the_broker_always_knows_what_we_want(steps in prop::collection::vec((0_u8..6, 0_i32..5, 0_i64..4), 1..200)) {
        let (mut session, mut peer) = (Session::default(), Peer::default());
        for (step, partition, offset) in steps {
            match step {
                0 | 1 => session.want(&id(partition), at(offset)),
                2 => session.drop(&id(partition)),
                _ => {
                    let plan = session.plan();
                    match step {
                        3 => session.forget(), // lost before the broker saw it
                        4 => {
                            peer.take(plan);
                            session.answered(71, 0);
                        }
                        _ => {
                            peer.take(plan);
                            prop_assert_eq!(&peer.cache, &session.wanted);
                            prop_assert!(session.answered(0, 9));
                        }
                    }
                }
            }
        }
    }
}
