//! The machine by hand, then with clients that obey, lag, lose answers, restart and vanish.

use super::*;
use proptest::prelude::*;

const SESSION: Duration = Duration::from_secs(45);
const REBALANCE: Duration = Duration::from_secs(60);
const RULES: Rules = Rules { size_max: 4, session_timeout: SESSION };

/// A group with a clock and topics `t0`, `t1`… of so many partitions.
struct Bench {
    group: ConsumerGroup,
    now: Instant,
    topics: Vec<i32>,
    version: u64,
}

fn id_of(topic: usize) -> Uuid {
    Uuid::from_u128(topic as u128 + 1)
}

impl Bench {
    fn new(topics: &[i32]) -> Self {
        let now = Instant::now();
        Self { group: ConsumerGroup::new(RULES, 0), now, topics: topics.to_vec(), version: 0 }
    }

    fn beat(&mut self, beat: Heartbeat) -> Result<Beaten, ResponseError> {
        let topics = self.topics.clone();
        let topic = |name: &str| {
            let at: usize = name.strip_prefix('t')?.parse().ok()?;
            Some(TopicShape { id: id_of(at), partitions: *topics.get(at)? })
        };
        let catalogue = Catalogue { version: self.version, topic: &topic };
        self.group.heartbeat(beat, &catalogue, self.now, 7).map_err(|error| error.code)
    }

    fn join(&mut self, member: &str, names: &[&str]) -> Beaten {
        self.beat(joining(member, names)).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.tick(self.now, 8);
    }

    fn consumes(&self, topic: &str) -> bool {
        self.group.members().any(|member| member.topics().any(|name| name == topic))
    }

    fn restart(&mut self) {
        self.group = ConsumerGroup::restore(RULES, self.group.record(), self.now);
    }
}

fn joining(member: &str, names: &[&str]) -> Heartbeat {
    Heartbeat {
        member_id: member.into(),
        rebalance_timeout: Some(REBALANCE),
        names: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        owned: Some(Partitions::new()),
        ..Heartbeat::default()
    }
}

fn staying(member: &str, epoch: i32, owned: Option<Partitions>) -> Heartbeat {
    Heartbeat { member_id: member.into(), epoch, owned, ..Heartbeat::default() }
}

fn of_t0(partitions: &[i32]) -> Partitions {
    let partitions: BTreeSet<i32> = partitions.iter().copied().collect();
    if partitions.is_empty() { Partitions::new() } else { Partitions::from([(id_of(0), partitions)]) }
}

fn beaten(member: &str, epoch: i32, assignment: Option<Partitions>) -> Beaten {
    Beaten { member_id: member.into(), epoch, assignment }
}

#[test]
fn a_second_member_takes_what_the_first_has_given_up() {
    let mut bench = Bench::new(&[4]);
    assert_eq!(bench.group.state_name(), "Empty");
    assert_eq!(bench.join("a", &["t0"]), beaten("a", 1, Some(of_t0(&[0, 1, 2, 3]))));
    assert_eq!(bench.group.state_name(), "Stable");
    // Nothing is free yet.
    assert_eq!(bench.join("b", &["t0"]), beaten("b", 2, Some(of_t0(&[]))));
    assert_eq!(bench.group.state_name(), "Reconciling");
    let owned = of_t0(&[0, 1, 2, 3]);
    let told = bench.beat(staying("a", 1, Some(owned.clone()))).unwrap();
    assert_eq!(told, beaten("a", 1, Some(of_t0(&[0, 1]))), "still in its epoch until it has given up");
    assert_eq!(bench.beat(staying("a", 1, None)).unwrap(), beaten("a", 1, None));
    assert_eq!(bench.beat(staying("b", 2, None)).unwrap(), beaten("b", 2, None));
    assert_eq!(bench.beat(staying("a", 1, Some(of_t0(&[0, 1])))).unwrap(), beaten("a", 2, None));
    assert_eq!(bench.beat(staying("b", 2, None)).unwrap(), beaten("b", 2, Some(of_t0(&[2, 3]))));
    assert_eq!(bench.group.state_name(), "Stable");
    // The answer was lost: the epoch before passes once more, with what the member could have.
    assert!(bench.beat(staying("a", 1, Some(of_t0(&[0])))).is_ok());
    for (epoch, owned) in [(3, None), (1, None), (1, Some(of_t0(&[0, 3]))), (0x7fff, Some(Partitions::new()))] {
        let fenced = bench.beat(staying("a", epoch, owned));
        assert_eq!(fenced, Err(ResponseError::FencedMemberEpoch), "{epoch}");
    }
    // It gives up everything and begins anew.
    assert_eq!(bench.join("a", &["t0"]), beaten("a", 2, Some(of_t0(&[0, 1]))));
    let left = bench.beat(staying("b", LEAVE, None)).unwrap();
    assert_eq!(left, beaten("b", LEAVE, None));
    assert_eq!(bench.group.state_name(), "Assigning");
    assert_eq!(bench.beat(staying("a", 2, None)).unwrap(), beaten("a", 3, Some(of_t0(&[0, 1, 2, 3]))));
    assert_eq!(bench.beat(staying("b", 2, None)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn who_is_silent_or_keeps_what_it_has_to_give_up_is_out() {
    let mut bench = Bench::new(&[2]);
    bench.join("a", &["t0"]);
    bench.pass(SESSION / 2);
    bench.join("b", &["t0"]);
    assert_eq!(bench.group.deadline(), Some(bench.now + SESSION / 2));
    bench.pass(SESSION / 2);
    assert_eq!(bench.group.members().map(|member| member.member_id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(bench.beat(staying("b", 2, None)).unwrap().assignment, Some(of_t0(&[0, 1])));
    bench.join("c", &["t0"]);
    bench.beat(staying("b", 3, Some(of_t0(&[0, 1])))).unwrap();
    let deadline = bench.now + REBALANCE;
    while bench.now < deadline {
        // Both beat, but b does not give up.
        bench.pass(Duration::from_secs(5));
        let _ = bench.beat(staying("b", 3, Some(of_t0(&[0, 1]))));
        let _ = bench.beat(staying("c", 4, None));
    }
    assert_eq!(bench.beat(staying("b", 3, None)), Err(ResponseError::UnknownMemberId));
    bench.pass(SESSION);
    assert_eq!((bench.group.state_name(), bench.group.deadline()), ("Empty", None));
}

#[test]
fn a_static_member_keeps_its_place_while_it_is_away() {
    let mut bench = Bench::new(&[2]);
    let as_static = |beat: Heartbeat| Heartbeat { instance_id: Some("i".into()), ..beat };
    bench.beat(as_static(joining("a", &["t0"]))).unwrap();
    bench.join("b", &["t0"]);
    bench.beat(as_static(staying("a", 1, Some(of_t0(&[0, 1]))))).unwrap();
    let epoch = bench.beat(as_static(staying("a", 1, Some(of_t0(&[0]))))).unwrap().epoch;
    assert_eq!(bench.beat(as_static(joining("a2", &["t0"]))), Err(ResponseError::UnreleasedInstanceId));
    assert_eq!(bench.beat(as_static(staying("x", epoch, None))), Err(ResponseError::FencedInstanceId));
    let other = Heartbeat { instance_id: Some("j".into()), ..staying("a", epoch, None) };
    assert_eq!(bench.beat(other), Err(ResponseError::UnknownMemberId));
    let away = bench.beat(as_static(staying("a", LEAVE_FOR_NOW, None))).unwrap();
    assert_eq!(away.epoch, LEAVE_FOR_NOW);
    bench.restart();
    let group_epoch = bench.group.epoch;
    let back = bench.beat(as_static(joining("a2", &["t0"]))).unwrap();
    assert_eq!(back, beaten("a2", epoch, Some(of_t0(&[0]))), "the same partitions, and no rebalance");
    assert_eq!(bench.group.epoch, group_epoch);
    bench.beat(as_static(staying("a2", LEAVE_FOR_NOW, None))).unwrap();
    bench.pass(SESSION / 2);
    bench.beat(staying("b", 2, None)).unwrap();
    bench.pass(SESSION / 2);
    assert_eq!(bench.beat(staying("b", 2, None)).unwrap().assignment, Some(of_t0(&[0, 1])));
}

#[test]
fn topics_regexes_and_assignors_change_the_targets() {
    let mut bench = Bench::new(&[2, 2]);
    let regex = |resolved: &[&str]| Heartbeat {
        names: None,
        regex: Some("t.*".into()),
        resolved: Some(resolved.iter().map(|name| (*name).to_owned()).collect()),
        assignor: Some("range".into()),
        ..joining("a", &[])
    };
    let all = bench.beat(regex(&["t0", "t1"])).unwrap().assignment.unwrap();
    assert_eq!(all.values().map(BTreeSet::len).sum::<usize>(), 4);
    assert_eq!((bench.group.assignor.as_str(), bench.consumes("t1")), ("range", true));
    assert_eq!(bench.group.stale_regex("a", 0), None);
    // A topic grows, another one is gone; it is noticed with the catalogue's next version.
    bench.topics = vec![3];
    bench.version += 1;
    assert_eq!(bench.group.stale_regex("a", 1).as_deref(), Some("t.*"));
    let beat = Heartbeat { resolved: Some(BTreeSet::from(["t0".to_owned()])), ..staying("a", 1, Some(all)) };
    assert_eq!(bench.beat(beat).unwrap(), beaten("a", 1, Some(of_t0(&[0, 1]))));
    let told = bench.beat(staying("a", 1, Some(of_t0(&[0, 1])))).unwrap();
    assert_eq!(told, beaten("a", 2, Some(of_t0(&[0, 1, 2]))));
    // The regex is taken back.
    let names = Heartbeat { regex: Some(String::new()), names: Some(BTreeSet::new()), ..staying("a", 2, None) };
    bench.beat(names).unwrap();
    assert!(!bench.consumes("t0"));
}

#[test]
fn offsets_are_for_members_of_the_right_epoch() {
    let mut bench = Bench::new(&[1]);
    let may = |bench: &Bench, member, epoch, is_modern| bench.group.may_commit(member, epoch, is_modern).err();
    assert_eq!(may(&bench, "", -1, true), None);
    bench.join("a", &["t0"]);
    assert_eq!(may(&bench, "a", 1, true), None);
    assert_eq!(may(&bench, "a", 1, false), Some(ResponseError::UnsupportedVersion));
    assert_eq!(may(&bench, "a", 0, true), Some(ResponseError::StaleMemberEpoch));
    assert_eq!(may(&bench, "", -1, true), Some(ResponseError::UnknownMemberId));
    assert_eq!(bench.group.may_fetch("a", 2), Err(ResponseError::StaleMemberEpoch));
    assert_eq!(bench.group.may_fetch("b", 1), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.group.may_fetch("a", 1), Ok(()));
    for member in ["b", "c", "d"] {
        bench.join(member, &["t0"]);
    }
    assert_eq!(bench.beat(joining("e", &["t0"])), Err(ResponseError::GroupMaxSizeReached));
    assert_eq!(bench.beat(staying("e", 1, None)), Err(ResponseError::UnknownMemberId));
}

/// A consumer as the Java client behaves: it gives up before it takes, and says what it has.
#[derive(Clone, Debug, Default)]
struct Client {
    epoch: i32,
    owned: Partitions,
    is_member: bool,
    names: Vec<&'static str>,
}

#[derive(Clone, Debug)]
enum Step {
    Beat(usize),
    LoseAnswer(usize),
    Subscribe(usize, bool, bool),
    Leave(usize),
    Vanish(usize),
    Grow(usize),
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..4_usize;
    prop_oneof![
        12 => client.clone().prop_map(Step::Beat),
        2 => client.clone().prop_map(Step::LoseAnswer),
        2 => (client.clone(), any::<bool>(), any::<bool>()).prop_map(|(at, a, b)| Step::Subscribe(at, a, b)),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.prop_map(Step::Vanish),
        1 => (0..2_usize).prop_map(Step::Grow),
        1 => (1..50_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    epoch: i32,
}

impl World {
    fn beat(&mut self, at: usize, is_answer_lost: bool) {
        let id = format!("m{at}");
        let client = self.clients[at].clone();
        if client.names.is_empty() {
            return;
        }
        let names = Some(client.names.iter().map(|name| (*name).to_owned()).collect());
        let beat = Heartbeat {
            names,
            rebalance_timeout: Some(REBALANCE),
            ..staying(&id, client.epoch, Some(client.owned.clone()))
        };
        let client = &mut self.clients[at];
        match self.bench.beat(beat) {
            Ok(_) if is_answer_lost => {}
            Ok(told) => {
                (client.is_member, client.epoch) = (true, told.epoch);
                // Everything is said to a client that says everything.
                client.owned = told.assignment.expect("a full heartbeat has a full answer");
            }
            Err(ResponseError::FencedMemberEpoch | ResponseError::UnknownMemberId) => {
                *client = Client { names: client.names.clone(), ..Client::default() };
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Beat(at) => self.beat(at, false),
            Step::LoseAnswer(at) => self.beat(at, true),
            Step::Subscribe(at, first, second) => {
                let names = [("t0", first), ("t1", second)];
                let names: Vec<_> = names.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
                if !names.is_empty() {
                    self.clients[at].names = names;
                }
            }
            Step::Leave(at) => {
                let _ = self.bench.beat(staying(&format!("m{at}"), LEAVE, None));
                self.clients[at] = Client { names: self.clients[at].names.clone(), ..Client::default() };
            }
            // It goes on consuming until its session ends, and does not hear of that.
            Step::Vanish(at) => self.clients[at].names.clear(),
            Step::Grow(topic) => {
                self.bench.topics[topic] += 1;
                self.bench.version += 1;
            }
            Step::Pass(seconds) => {
                self.bench.pass(Duration::from_secs(seconds));
                // A client whose session has ended stops by itself.
                for (at, client) in self.clients.iter_mut().enumerate() {
                    if !self.bench.group.members.contains_key(&format!("m{at}")) {
                        client.owned.clear();
                    }
                }
            }
            Step::Restart => self.bench.restart(),
        }
        assert!(self.bench.group.epoch >= self.epoch, "the epoch fell");
        self.epoch = self.bench.group.epoch;
        let mut owners = HashSet::new();
        for client in &self.clients {
            for partition in each(&client.owned) {
                assert!(owners.insert(partition), "{partition:?} has two owners after {step:?}");
            }
        }
    }
}

proptest! {
    /// Whatever happens, no partition has two owners; once it is quiet, each has one, and the group is stable.
    #[test]
    fn no_partition_has_two_owners(steps in proptest::collection::vec(step(), 1..80)) {
        let clients = vec![Client { names: vec!["t0", "t1"], ..Client::default() }; 4];
        let mut world = World { bench: Bench::new(&[3, 2]), clients, epoch: 0 };
        steps.iter().for_each(|step| world.step(step));
        let alive: Vec<usize> = (0..4).filter(|at| !world.clients[*at].names.is_empty()).collect();
        for _ in 0..12 {
            world.step(&Step::Pass(10));
            alive.iter().for_each(|at| world.step(&Step::Beat(*at)));
        }
        if alive.is_empty() {
            prop_assert_eq!(world.bench.group.state_name(), "Empty");
            return Ok(());
        }
        prop_assert_eq!(world.bench.group.state_name(), "Stable");
        for (at, name) in ["t0", "t1"].into_iter().enumerate() {
            let subscribed: Vec<&Client> = world.clients.iter().filter(|client| client.names.contains(&name)).collect();
            let owned: usize = subscribed.iter().filter_map(|client| client.owned.get(&id_of(at))).map(BTreeSet::len).sum();
            let expected = if subscribed.is_empty() { 0 } else { usize::try_from(world.bench.topics[at]).unwrap() };
            prop_assert_eq!(owned, expected, "{}", name);
        }
    }

    /// Both assignors give every partition that somebody wants to exactly one who wants it; `uniform` is even where all
    /// want the same, and leaves alone what is even.
    #[test]
    fn assignors_leave_nothing_out(
        sizes in proptest::collection::vec(0..9_i32, 1..4),
        wants in proptest::collection::vec(0..8_u8, 1..6),
        is_alike in any::<bool>(),
    ) {
        let topics: BTreeMap<String, TopicShape> = sizes.iter().enumerate()
            .map(|(at, partitions)| (format!("t{at}"), TopicShape { id: id_of(at), partitions: *partitions })).collect();
        let ids: Vec<String> = (0..wants.len()).map(|at| format!("m{at}")).collect();
        let run = |assignor: Assignor, before: &[Partitions]| {
            let wanted = |at: usize| if is_alike { 7 } else { wants[at] };
            let topics_of = |at: usize| topics.keys().enumerate()
                .filter(|(topic, _)| wanted(at) & (1 << topic) != 0).map(|(_, name)| name.as_str()).collect();
            let members: Vec<Subscriber<'_>> = (0..wants.len()).map(|at| Subscriber {
                id: &ids[at], instance_id: None, topics: topics_of(at), target: &before[at],
            }).collect();
            let targets = assignor.assign(&members, &topics);
            for (name, shape) in &topics {
                let subscribers = members.iter().filter(|member| member.topics.contains(name.as_str())).count();
                for partition in 0..shape.partitions {
                    let owners: Vec<usize> = (0..members.len())
                        .filter(|at| reconcile::contains(&targets[*at], shape.id, partition)).collect();
                    assert_eq!(owners.len(), subscribers.min(1), "{name} {partition}");
                    assert!(owners.iter().all(|at| members[*at].topics.contains(name.as_str())));
                }
            }
            targets
        };
        let nothing = vec![Partitions::new(); wants.len()];
        run(Assignor::Range, &nothing);
        let first = run(Assignor::Uniform, &nothing);
        prop_assert_eq!(&run(Assignor::Uniform, &first), &first);
        if is_alike {
            let loads: Vec<usize> = first.iter().map(|target| each(target).count()).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{:?}", loads);
        }
    }
}
