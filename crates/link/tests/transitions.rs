//! Every state of either machine × every event, as a table: what it becomes and what it asks for. The tables stand
//! below as text; a change of a machine shows as a changed line.

use hawser_link::LinkName;
use hawser_link::reversal::*;
use hawser_wire::NodeId;
use std::time::{Duration, Instant};
use uuid::Uuid;

struct Zero;

/// Counts up, so that tickets differ; jitter stays at its least.
struct Counting(u8);

impl Entropy for Zero {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

impl Entropy for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.fill(self.0);
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn ticket(n: u8) -> Ticket {
    Ticket([n; 16])
}

fn refusal(code: RefusalCode) -> OpenAnswer {
    OpenAnswer::Refused(Refusal::new(code))
}

fn accepted(cluster: &str) -> OpenAnswer {
    OpenAnswer::Accepted(Accepted {
        link_id: Uuid::from_u128(9),
        destination_cluster_id: cluster.to_owned(),
        beat_interval: SECOND,
        beats_missed_max: 3,
    })
}

fn frame_name(frame: &ControlFrame) -> String {
    match frame {
        ControlFrame::LinkDial { node, tickets, .. } => {
            format!("LinkDial({:?},{:?})", node.map(|n| n.0), tickets.iter().map(|t| t.0[0]).collect::<Vec<_>>())
        }
        ControlFrame::DialFailed { ticket, refusal } => format!("DialFailed({},{})", ticket.0[0], refusal.code.name()),
        ControlFrame::Beat { .. } => "Beat".to_owned(),
        ControlFrame::BeatAck { sequence } => format!("BeatAck({sequence})"),
        ControlFrame::Nodes(nodes) => format!("Nodes({})", nodes.len()),
        ControlFrame::Goodbye(refusal) => format!("Goodbye({})", refusal.code.name()),
    }
}

fn source_action(action: &SourceAction) -> String {
    match action {
        SourceAction::Dial { attempt } => format!("Dial({attempt})"),
        SourceAction::SendOpen { attempt, .. } => format!("SendOpen({attempt})"),
        SourceAction::Send { attempt, frame } => format!("Send({attempt},{})", frame_name(frame)),
        SourceAction::Disconnect { attempt } => format!("Disconnect({attempt})"),
        SourceAction::OpenChannel { node, ticket, .. } => {
            format!("OpenChannel({:?},{})", node.map(|n| n.0), ticket.0[0])
        }
        SourceAction::AbandonChannels => "AbandonChannels".to_owned(),
    }
}

/// A source half in each of its states; the attempt at hand is 2, so that 1 is of the past.
fn sources(start: Instant) -> Vec<(&'static str, SourceControl, Instant)> {
    let new = || {
        SourceControl::new(SourceSettings {
            link: LinkName::new("l").unwrap(),
            source_cluster_id: "S".to_owned(),
            destination_cluster_id: Some("D".to_owned()),
            member: MemberId(Uuid::from_u128(7)),
            epoch: 1,
            attempts_before: 0,
            backoff: Backoff::new(Duration::from_millis(50), SECOND),
            setup_timeout: 3 * SECOND,
            channels_max: 2,
            trial: false,
        })
    };
    let feed = |source: &mut SourceControl, event, at| drop(source.on(event, at, &mut Zero));
    let waiting = |source: &mut SourceControl| {
        feed(source, SourceEvent::Start, start);
        let failed = SourceEvent::DialFailed { attempt: 1, reason: "x".to_owned(), needs_operator: false };
        feed(source, failed, start);
    };
    let later = start + SECOND;
    let stopped = new();
    let mut wait = new();
    waiting(&mut wait);
    let mut dialling = new();
    waiting(&mut dialling);
    feed(&mut dialling, SourceEvent::Tick, later);
    let open_to = |answered: bool| {
        let mut source = new();
        waiting(&mut source);
        feed(&mut source, SourceEvent::Tick, later);
        feed(&mut source, SourceEvent::Dialled { attempt: 2 }, later);
        if answered {
            feed(&mut source, SourceEvent::Answered { attempt: 2, answer: accepted("D") }, later);
            let dial = ControlFrame::LinkDial { request_id: 1, node: None, tickets: vec![ticket(1)] };
            feed(&mut source, SourceEvent::Received { attempt: 2, frame: dial }, later);
        }
        source
    };
    // Waiting is looked at before its time has come.
    vec![
        ("Stopped", stopped, later),
        ("Waiting", wait, start),
        ("Dialling", dialling, later),
        ("Opening", open_to(false), later),
        ("Open", open_to(true), later),
    ]
}

fn source_events() -> Vec<(&'static str, SourceEvent)> {
    let answered = |attempt, answer| SourceEvent::Answered { attempt, answer };
    let received = |frame| SourceEvent::Received { attempt: 2, frame };
    let goodbye = |code| received(ControlFrame::Goodbye(Refusal::new(code)));
    let failed = |attempt, needs_operator| SourceEvent::DialFailed { attempt, reason: "x".to_owned(), needs_operator };
    let dial = |n| received(ControlFrame::LinkDial { request_id: 2, node: Some(NodeId(5)), tickets: n });
    let ours = ChannelFailure::Ours(Refusal::new(RefusalCode::LocalUnreachable));
    vec![
        ("Start", SourceEvent::Start),
        ("Dialled 2", SourceEvent::Dialled { attempt: 2 }),
        ("Dialled 1", SourceEvent::Dialled { attempt: 1 }),
        ("DialFailed 2", failed(2, false)),
        ("DialFailed 2 login", failed(2, true)),
        ("DialFailed 1", failed(1, false)),
        ("Answered 2 yes", answered(2, accepted("D"))),
        ("Answered 2 yes, wrong cluster", answered(2, accepted("E"))),
        ("Answered 2 NoSuchLink", answered(2, refusal(RefusalCode::NoSuchLink))),
        ("Answered 2 StaleMember", answered(2, refusal(RefusalCode::StaleMember))),
        ("Answered 1 yes", answered(1, accepted("D"))),
        ("Received Beat", received(ControlFrame::Beat { sequence: 4 })),
        ("Received BeatAck", received(ControlFrame::BeatAck { sequence: 1 })),
        ("Received LinkDial new", dial(vec![ticket(2)])),
        ("Received LinkDial known", dial(vec![ticket(1)])),
        ("Received LinkDial too many", dial(vec![ticket(2), ticket(3)])),
        ("Received Goodbye Stopping", goodbye(RefusalCode::Stopping)),
        ("Received Goodbye LinkDeleted", goodbye(RefusalCode::LinkDeleted)),
        ("Received Goodbye Superseded", goodbye(RefusalCode::Superseded)),
        ("Received Nodes", received(ControlFrame::Nodes(Vec::new()))),
        ("Received of 1", SourceEvent::Received { attempt: 1, frame: ControlFrame::Beat { sequence: 1 } }),
        ("Closed 2", SourceEvent::Closed { attempt: 2, reason: "x".to_owned() }),
        ("Closed 1", SourceEvent::Closed { attempt: 1, reason: "x".to_owned() }),
        ("Nodes", SourceEvent::Nodes(vec![Node { id: NodeId(5), near: true }])),
        ("ChannelOpened", SourceEvent::ChannelOpened { ticket: ticket(1) }),
        ("ChannelFailed ours", SourceEvent::ChannelFailed { ticket: ticket(1), failure: ours }),
        ("ChannelFailed refused", SourceEvent::ChannelFailed { ticket: ticket(1), failure: ChannelFailure::Refused }),
        ("ChannelClosed", SourceEvent::ChannelClosed { ticket: ticket(1) }),
        ("Tick", SourceEvent::Tick),
        ("Tick after 4 s", SourceEvent::Tick),
        ("Stop", SourceEvent::Stop(RefusalCode::Stopping)),
    ]
}

#[test]
fn source_half_by_table() {
    let mut table = String::new();
    for index in 0..5 {
        for (name, event) in source_events() {
            let (state, mut source, mut now) = sources(Instant::now()).swap_remove(index);
            if name.ends_with("4 s") {
                now += 4 * SECOND;
            }
            let actions = source.on(event, now, &mut Zero);
            let wait = match source.phase() {
                SourcePhase::Waiting => {
                    format!(" {}ms", source.deadline().map_or(0, |d| d.duration_since(now).as_millis()))
                }
                _ => String::new(),
            };
            let actions: Vec<String> = actions.iter().map(source_action).collect();
            let channels = format!("{}+{}", source.channels_open(), source.channels_opening());
            table += &format!("{state} | {name} -> {:?}{wait} {channels} | {}\n", source.phase(), actions.join(" "));
        }
    }
    compare(&table, include_str!("tables/source.txt"), "source.txt");
}

fn destination_action(action: &DestinationAction) -> String {
    match action {
        DestinationAction::Answer { conn, answer: OpenAnswer::Accepted(_) } => format!("Accept({})", conn.0),
        DestinationAction::Answer { conn, answer: OpenAnswer::Refused(r) } => {
            format!("Refuse({},{})", conn.0, r.code.name())
        }
        DestinationAction::Send { conn, frame } => format!("Send({},{})", conn.0, frame_name(frame)),
        DestinationAction::Close { conn, reason } => format!("Close({},{})", conn.0, reason.name()),
        DestinationAction::Deliver { lease, conn } => format!("Deliver({},{})", lease.0, conn.0),
        DestinationAction::Fail { lease, failure } => {
            let failure = format!("{failure:?}");
            format!("Fail({},{})", lease.0, failure.split('(').next().unwrap_or(""))
        }
        DestinationAction::PinSource(id) => format!("PinSource({id})"),
    }
}

const A: u128 = 0xA;
const B: u128 = 0xB;

fn control(member: u128, epoch: i64, attempt: i64, nodes: &[(i32, bool)]) -> LinkOpen {
    let nodes = nodes.iter().map(|(id, near)| Node { id: NodeId(*id), near: *near }).collect();
    LinkOpen {
        link: LinkName::new("l").unwrap(),
        source_cluster_id: "S".to_owned(),
        destination_cluster_id: None,
        member: MemberId(Uuid::from_u128(member)),
        incarnation: Incarnation { epoch, attempt },
        purpose: Purpose::Control { nodes },
    }
}

fn channel(member: u128, epoch: i64, node: Option<i32>, n: u8) -> LinkOpen {
    let purpose = Purpose::Channel { node: node.map(NodeId), ticket: ticket(n) };
    LinkOpen { purpose, ..control(member, epoch, 1, &[]) }
}

/// A destination half that nobody has dialled yet.
fn destination() -> DestinationLink {
    DestinationLink::new(DestinationSettings {
        link_id: Uuid::from_u128(9),
        destination_cluster_id: "D".to_owned(),
        source_cluster_id: None,
        beat_interval: SECOND,
        beats_missed_max: 3,
        ask_next_after: 2 * SECOND,
    })
}

/// A destination half in each of the situations that matter. Members are A (connection 1, near broker 1) and B
/// (connection 2, near broker 2); lease 1 is for broker 1, its ticket is 1.
fn destinations(start: Instant) -> Vec<(&'static str, DestinationLink, Counting)> {
    let build = |members: usize, lease: bool, delivered: bool| {
        let mut link = destination();
        let mut entropy = Counting(0);
        let mut feed = |event| drop(link.on(event, start, &mut entropy));
        if members > 0 {
            let open = control(A, 2, 2, &[(1, true), (2, false)]);
            feed(DestinationEvent::Opened { conn: ConnId(1), open });
        }
        if members > 1 {
            let open = control(B, 1, 1, &[(1, false), (2, true)]);
            feed(DestinationEvent::Opened { conn: ConnId(2), open });
        }
        if lease {
            feed(DestinationEvent::Lease { lease: LeaseId(1), node: Some(NodeId(1)), until: start + 10 * SECOND });
        }
        if delivered {
            feed(DestinationEvent::Opened { conn: ConnId(3), open: channel(A, 2, Some(1), 1) });
        }
        (link, entropy)
    };
    [
        ("Alone", build(0, false, false)),
        ("Alone, lease waits", build(0, true, false)),
        ("A, asked", build(1, true, false)),
        ("A+B, asked A", build(2, true, false)),
        ("A+B, delivered by A", build(2, true, true)),
    ]
    .map(|(name, (link, entropy))| (name, link, entropy))
    .into()
}

fn destination_events() -> Vec<(&'static str, u64, DestinationEvent)> {
    let opened = |open| DestinationEvent::Opened { conn: ConnId(8), open };
    let received = |conn, frame| DestinationEvent::Received { conn: ConnId(conn), frame };
    let failed =
        |conn, code| received(conn, ControlFrame::DialFailed { ticket: ticket(1), refusal: Refusal::new(code) });
    let lease =
        |id| DestinationEvent::Lease { lease: LeaseId(id), node: Some(NodeId(2)), until: Instant::now() + 20 * SECOND };
    let mut foreign = control(A, 9, 1, &[]);
    foreign.source_cluster_id = "T".to_owned();
    let mut misled = control(A, 9, 1, &[]);
    misled.destination_cluster_id = Some("E".to_owned());
    vec![
        ("Opened A 2.1 (older dial)", 0, opened(control(A, 2, 1, &[]))),
        ("Opened A 2.2 (same)", 0, opened(control(A, 2, 2, &[]))),
        ("Opened A 2.3 (redial)", 0, opened(control(A, 2, 3, &[(1, true)]))),
        ("Opened A 3.1 (restart)", 0, opened(control(A, 3, 1, &[(1, true)]))),
        ("Opened A 1.9 (older life)", 0, opened(control(A, 1, 9, &[]))),
        ("Opened of cluster T", 0, opened(foreign)),
        ("Opened for cluster E", 0, opened(misled)),
        ("Opened channel, right ticket", 0, opened(channel(A, 2, Some(1), 1))),
        ("Opened channel, slow", 2, opened(channel(A, 2, Some(1), 1))),
        ("Opened channel, late", 10, opened(channel(A, 2, Some(1), 1))),
        ("Opened channel, other broker", 0, opened(channel(A, 2, Some(2), 1))),
        ("Opened channel, other member", 0, opened(channel(B, 1, Some(1), 1))),
        ("Opened channel, older life", 0, opened(channel(A, 1, Some(1), 1))),
        ("Opened channel, unknown ticket", 0, opened(channel(A, 2, Some(1), 99))),
        ("Received A Beat", 0, received(1, ControlFrame::Beat { sequence: 3 })),
        ("Received A BeatAck", 0, received(1, ControlFrame::BeatAck { sequence: 1 })),
        ("Received A Nodes", 0, received(1, ControlFrame::Nodes(vec![]))),
        ("Received A DialFailed", 0, failed(1, RefusalCode::LocalUnreachable)),
        ("Received A DialFailed login", 0, failed(1, RefusalCode::LocalAuthentication)),
        ("Received B DialFailed (not asked)", 0, failed(2, RefusalCode::LocalUnreachable)),
        ("Received A Goodbye", 0, received(1, ControlFrame::Goodbye(Refusal::new(RefusalCode::Stopping)))),
        ("Received A LinkDial", 0, received(1, ControlFrame::LinkDial { request_id: 1, node: None, tickets: vec![] })),
        ("Received of nobody", 0, received(7, ControlFrame::Beat { sequence: 1 })),
        ("Closed A", 0, DestinationEvent::Closed { conn: ConnId(1) }),
        ("Closed channel", 0, DestinationEvent::Closed { conn: ConnId(3) }),
        ("Closed of nobody", 0, DestinationEvent::Closed { conn: ConnId(7) }),
        ("Lease 2 for broker 2", 0, lease(2)),
        ("Dropped 1", 0, DestinationEvent::Dropped { lease: LeaseId(1) }),
        ("Tick after 1 s", 1, DestinationEvent::Tick),
        ("Tick after 2 s", 2, DestinationEvent::Tick),
        ("Tick after 3 s", 3, DestinationEvent::Tick),
        ("Tick after 10 s", 10, DestinationEvent::Tick),
        ("Shut LinkDeleted", 0, DestinationEvent::Shut(RefusalCode::LinkDeleted)),
    ]
}

#[test]
fn destination_half_by_table() {
    let mut table = String::new();
    for index in 0..5 {
        for (name, seconds, event) in destination_events() {
            let start = Instant::now();
            let (situation, mut link, mut entropy) = destinations(start).swap_remove(index);
            let actions = link.on(event, start + Duration::from_secs(seconds), &mut entropy);
            let actions: Vec<String> = actions.iter().map(destination_action).collect();
            let counts = format!(
                "members {} leases {} tickets {} channels {}",
                link.members().len(),
                link.leases_waiting(),
                link.tickets_issued(),
                link.channels_open()
            );
            table += &format!("{situation} | {name} -> {counts} | {}\n", actions.join(" "));
        }
    }
    compare(&table, include_str!("tables/destination.txt"), "destination.txt");
}

#[test]
fn a_spent_ticket_is_known_by_name() {
    let now = Instant::now();
    let (_, mut link, mut entropy) = destinations(now).swap_remove(4);
    let replay = DestinationEvent::Opened { conn: ConnId(9), open: channel(A, 2, Some(1), 1) };
    let actions: Vec<String> = link.on(replay, now, &mut entropy).iter().map(destination_action).collect();
    assert_eq!(actions, ["Refuse(9,ReplayedTicket)"]);
}

#[test]
fn a_departed_member_is_fenced_for_ten_minutes_and_then_forgotten() {
    let now = Instant::now();
    let (_, mut link, mut entropy) = destinations(now).swap_remove(2);
    link.on(DestinationEvent::Closed { conn: ConnId(1) }, now, &mut entropy);
    for (seconds, expected) in [(0, "Refuse(9,StaleMember)"), (599, "Refuse(9,StaleMember)"), (601, "Accept(9)")] {
        let at = now + Duration::from_secs(seconds);
        let old = DestinationEvent::Opened { conn: ConnId(9), open: control(A, 1, 1, &[]) };
        let mut actions = link.on(DestinationEvent::Tick, at, &mut entropy);
        actions.extend(link.on(old, at, &mut entropy));
        assert!(actions.iter().any(|a| destination_action(a) == expected), "{seconds} s: {actions:?}");
    }
}

/// Each member is asked once, and never again while it may still come: a slow link is not made slower by more dials.
#[test]
fn silence_has_the_next_member_asked_beside_the_first() {
    let now = Instant::now();
    let (_, mut link, mut entropy) = destinations(now).swap_remove(3);
    let mut asked = Vec::new();
    for second in 1..=10 {
        let at = now + Duration::from_secs(second);
        for conn in [1, 2] {
            let beat = ControlFrame::Beat { sequence: 1 };
            let event = DestinationEvent::Received { conn: ConnId(conn), frame: beat };
            asked.extend(link.on(event, at, &mut entropy).iter().map(destination_action));
        }
        asked.extend(link.on(DestinationEvent::Tick, at, &mut entropy).iter().map(destination_action));
    }
    asked.retain(|a| !a.contains("Beat"));
    assert_eq!(asked, ["Send(2,LinkDial(Some(1),[2]))", "Fail(1,Unavailable)"]);
    assert_eq!(link.tickets_issued(), 0);
}

#[test]
fn the_first_channel_that_comes_is_the_leases() {
    for (winner, loser, won, lost) in [(A, B, 1, 2), (B, A, 2, 1)] {
        let now = Instant::now();
        let (_, mut link, mut entropy) = destinations(now).swap_remove(3);
        let mut on = |event, at| -> Vec<String> {
            link.on(event, at, &mut entropy).iter().map(destination_action).filter(|a| !a.contains("Beat")).collect()
        };
        let epoch = |member| if member == A { 2 } else { 1 };
        let opened = |conn, member, n| DestinationEvent::Opened {
            conn: ConnId(conn),
            open: channel(member, epoch(member), Some(1), n),
        };
        let (slow, late) = (now + 2 * SECOND, now + 29 * SECOND / 10);
        assert_eq!(on(DestinationEvent::Tick, slow), ["Send(2,LinkDial(Some(1),[2]))"], "B, beside A");
        // What one member was given is no use to another, and takes nothing from the one whose it is.
        assert_eq!(on(opened(7, winner, won), late), ["Accept(7)", "Deliver(1,7)"]);
        assert_eq!(on(opened(8, loser, lost), late), ["Refuse(8,ExpiredTicket)"]);
        assert_eq!(on(opened(9, winner, won), late), ["Refuse(9,ReplayedTicket)"]);
        assert_eq!((link.tickets_issued(), link.leases_waiting(), link.channels_open()), (0, 0, 1));
    }
}

#[test]
fn a_lease_waits_for_the_silent_while_the_others_refuse() {
    let now = Instant::now();
    let (_, mut link, mut entropy) = destinations(now).swap_remove(3);
    let mut on = |event| -> Vec<String> {
        let at = now + 2 * SECOND;
        link.on(event, at, &mut entropy).iter().map(destination_action).filter(|a| !a.contains("Beat")).collect()
    };
    let refused = |conn, n| {
        let frame =
            ControlFrame::DialFailed { ticket: ticket(n), refusal: Refusal::new(RefusalCode::LocalUnreachable) };
        DestinationEvent::Received { conn: ConnId(conn), frame }
    };
    assert_eq!(on(DestinationEvent::Tick), ["Send(2,LinkDial(Some(1),[2]))"]);
    assert!(on(refused(2, 2)).is_empty(), "A may still bring it");
    assert_eq!(on(refused(1, 1)), ["Fail(1,Node)"]);
}

#[test]
fn no_more_than_four_members_dial_for_one_lease() {
    let now = Instant::now();
    let (mut link, mut entropy) = (destination(), Counting(0));
    for member in 1..=9 {
        let open = control(u128::from(member), 1, 1, &[]);
        link.on(DestinationEvent::Opened { conn: ConnId(member), open }, now, &mut entropy);
    }
    let until = now + 60 * SECOND;
    link.on(DestinationEvent::Lease { lease: LeaseId(1), node: None, until }, now, &mut entropy);
    for second in 1..=30 {
        let at = now + second * SECOND;
        for conn in 1..=9 {
            let frame = ControlFrame::Beat { sequence: 1 };
            link.on(DestinationEvent::Received { conn: ConnId(conn), frame }, at, &mut entropy);
        }
    }
    assert_eq!((link.members().len(), link.tickets_issued()), (9, 4));
    // One that says that it cannot makes room for the next.
    let frame = ControlFrame::DialFailed { ticket: ticket(1), refusal: Refusal::new(RefusalCode::LocalUnreachable) };
    let todo = link.on(DestinationEvent::Received { conn: ConnId(1), frame }, now + 30 * SECOND, &mut entropy);
    let dials = todo.iter().map(destination_action).filter(|action| action.contains("LinkDial")).count();
    assert_eq!((dials, link.tickets_issued()), (1, 4));
}

#[test]
fn a_lease_fails_when_the_last_member_that_could_be_asked_leaves() {
    let now = Instant::now();
    let (_, mut link, mut entropy) = destinations(now).swap_remove(3);
    let mut on = |event| -> Vec<String> { link.on(event, now, &mut entropy).iter().map(destination_action).collect() };
    let refused = |n| {
        let refusal = Refusal::new(RefusalCode::LocalUnreachable);
        let frame = ControlFrame::DialFailed { ticket: ticket(n), refusal };
        DestinationEvent::Received { conn: ConnId(1), frame }
    };
    assert_eq!(on(refused(1)), ["Send(2,LinkDial(Some(1),[2]))"], "B, the other one");
    assert_eq!(on(DestinationEvent::Closed { conn: ConnId(2) }), ["Fail(1,Node)"], "all that are left have refused");
    // The refusal of a life that has ended is not held against the next one.
    on(DestinationEvent::Opened { conn: ConnId(4), open: control(B, 1, 2, &[(1, false)]) });
    let until = now + 10 * SECOND;
    let todo = on(DestinationEvent::Lease { lease: LeaseId(2), node: Some(NodeId(1)), until });
    assert_eq!(todo, ["Send(4,LinkDial(Some(1),[3]))"], "A has just failed at it");
    let refusal = Refusal::new(RefusalCode::LocalUnreachable);
    let frame = ControlFrame::DialFailed { ticket: ticket(3), refusal };
    let todo = on(DestinationEvent::Received { conn: ConnId(4), frame });
    assert_eq!(todo, ["Send(1,LinkDial(Some(1),[4]))"]);
    on(DestinationEvent::Opened { conn: ConnId(5), open: control(B, 2, 1, &[(1, false)]) });
    assert_eq!(on(refused(4)), ["Send(5,LinkDial(Some(1),[5]))"]);
}

/// Set `WRITE_TABLES=1` to write the tables anew, then read the difference.
fn compare(actual: &str, expected: &str, name: &str) {
    if std::env::var_os("WRITE_TABLES").is_some() {
        std::fs::write(format!("{}/tests/tables/{name}", env!("CARGO_MANIFEST_DIR")), actual).expect("write");
        return;
    }
    for (actual, expected) in actual.lines().zip(expected.lines()) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

/// A trial is judged and answered as any control connection, and changes nothing: it binds the link to nobody's cluster, is
/// no member, and is asked for no channel.
#[test]
fn a_trial_leaves_no_trace() {
    let start = Instant::now();
    let mut entropy = Counting(0);
    let mut link = destination();
    let mut on = |event, seconds: u64| {
        let todo = link.on(event, start + Duration::from_secs(seconds), &mut entropy);
        (todo.iter().map(destination_action).collect::<Vec<_>>().join(" "), link.members().len())
    };
    let opened = |conn, source: &str, member, purpose: Purpose| {
        let open = LinkOpen { source_cluster_id: source.to_owned(), purpose, ..control(member, 1, 1, &[]) };
        DestinationEvent::Opened { conn: ConnId(conn), open }
    };
    let trial = || Purpose::Trial { nodes: vec![Node { id: NodeId(1), near: true }] };
    let said = |conn, frame| DestinationEvent::Received { conn: ConnId(conn), frame };
    let goodbye = ControlFrame::Goodbye(Refusal::new(RefusalCode::SourceHalfDeleted));

    assert_eq!(on(opened(1, "stranger", A, trial()), 0), ("Accept(1)".to_owned(), 0));
    let until = start + 10 * SECOND;
    let lease = DestinationEvent::Lease { lease: LeaseId(1), node: Some(NodeId(1)), until };
    assert_eq!(on(lease, 0), (String::new(), 0), "nobody can be asked");
    assert_eq!(on(said(1, ControlFrame::Beat { sequence: 3 }), 1), ("Send(1,BeatAck(3))".to_owned(), 0));
    let real = Purpose::Control { nodes: Vec::new() };
    let (todo, members) = on(opened(2, "S", B, real), 1);
    assert_eq!((todo.as_str(), members), ("PinSource(S) Accept(2) Send(2,Beat) Send(2,LinkDial(Some(1),[1]))", 1));
    // Nor does it take the place of a member, or part with one.
    assert_eq!(on(opened(3, "S", B, trial()), 1).0, "Refuse(3,StaleMember)");
    assert_eq!(on(opened(4, "stranger", A, trial()), 1).0, "Refuse(4,WrongSourceCluster)");
    assert_eq!(on(said(1, goodbye), 1), ("Close(1,SourceHalfDeleted)".to_owned(), 1));
    assert!(link.parted().is_none());

    // One that does not end is ended.
    let mut on = |event, seconds: u64| {
        let todo = link.on(event, start + Duration::from_secs(seconds), &mut entropy);
        todo.iter().map(destination_action).collect::<Vec<_>>().join(" ")
    };
    on(DestinationEvent::Closed { conn: ConnId(2) }, 20);
    assert_eq!(on(opened(5, "S", A, trial()), 20), "Accept(5)");
    assert_eq!(on(DestinationEvent::Tick, 79), "");
    assert_eq!(on(DestinationEvent::Tick, 80), "Close(5,Silent)");
    assert!(link.deadline().is_none());
}
