use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

fn file(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("state.redb")
}

fn topic(name: &str, id: u128) -> TopicRecord {
    let mirror = MirrorRecord::new("dr", name, Uuid::from_u128(id + 1000), 7);
    let configs = BTreeMap::from([("retention.ms".into(), "-1".into())]);
    TopicRecord { name: name.into(), id: Uuid::from_u128(id), partitions: 3, configs, mirror: Some(mirror) }
}

fn link(name: &str) -> LinkRecord {
    let configs = SecretConfigs(BTreeMap::from([("sasl.jaas.config".into(), "hunter2".into())]));
    LinkRecord {
        name: name.into(),
        id: Some(Uuid::from_u128(9)),
        remote_cluster_id: None,
        configs,
        created_ms: 1,
        acls: [].into(),
    }
}

fn at(offset: i64) -> CommittedOffset {
    CommittedOffset { offset, leader_epoch: 4, metadata: "m".into(), commit_timestamp_ms: 5 }
}

fn put_offset(group: &str, topic: &str, partition: i32, offset: i64) -> GroupChange {
    GroupChange::PutOffset { group: group.into(), topic: topic.into(), partition, committed: at(offset) }
}

#[test]
fn identity_is_made_once_and_every_start_counts() {
    let dir = tempfile::tempdir().unwrap();
    let first = State::open(&file(&dir)).unwrap();
    let (cluster_id, member_id) = (first.cluster_id().to_owned(), first.member_id());
    assert_eq!(cluster_id.len(), 22);
    assert_eq!(first.member_epoch(), 1);
    drop(first);
    let second = State::open(&file(&dir)).unwrap();
    assert_eq!((second.cluster_id(), second.member_id(), second.member_epoch()), (cluster_id.as_str(), member_id, 2));
}

/// An answer that comes late must not bring a deleted link back, secrets included.
#[test]
fn a_link_that_is_gone_is_not_updated() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&file(&dir)).unwrap();
    state.put_link(link("a")).unwrap();
    let learn = |link: &mut LinkRecord| {
        link.remote_cluster_id = Some("theirs".into());
        true
    };
    assert!(state.update_link("a", learn).unwrap());
    assert!(state.update_link("a", |_| false).unwrap());
    assert_eq!(state.link("a").unwrap().remote_cluster_id.as_deref(), Some("theirs"));
    state.delete_link("a", &[], |_| false).unwrap();
    assert!(!state.update_link("a", learn).unwrap());
    drop(state);
    assert!(State::open(&file(&dir)).unwrap().links().is_empty());
}

#[test]
fn links_and_topics_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&file(&dir)).unwrap();
    state.put_link(link("a")).unwrap();
    state.put_link(link("b")).unwrap();
    state.put_topic(topic("t1", 0)).unwrap();
    let gone = |state: &State| {
        let renumber = |found: &mut TopicRecord| {
            *found = topic("t1", 1);
            true
        };
        state.delete_link("a", &["t1".to_owned()], renumber).unwrap()
    };
    assert!(gone(&state) && !gone(&state));
    state.put_topic(topic("t2", 2)).unwrap();
    // Recreated under a new id: the old id leads nowhere.
    state.put_topic(topic("t2", 3)).unwrap();
    let check = |state: &State| {
        assert_eq!(state.links(), [Arc::new(link("b"))]);
        assert_eq!(state.link("b").as_deref(), Some(&link("b")));
        assert_eq!(state.topics().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["t1", "t2"]);
        assert_eq!(*state.topic("t1").unwrap(), topic("t1", 1), "changed with the deletion of the link");
        assert_eq!(*state.topic("t2").unwrap(), topic("t2", 3));
        assert_eq!(state.topic_by_id(Uuid::from_u128(3)).unwrap().name, "t2");
        assert!(state.topic_by_id(Uuid::from_u128(2)).is_none());
    };
    check(&state);
    drop(state);
    check(&State::open(&file(&dir)).unwrap());
}

#[test]
fn offsets_are_kept_by_group_and_go_with_their_group_or_topic() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&file(&dir)).unwrap();
    state.put_topic(topic("t1", 1)).unwrap();
    let record = GroupRecord { generation: 3, protocol_type: "consumer".into(), ..Default::default() };
    // `g` is a prefix of `g2`: neither may see the other's offsets.
    let changes = [
        put_offset("g", "t1", 0, 10),
        put_offset("g", "t1", 0, 11),
        put_offset("g", "t2", 1, 12),
        put_offset("g2", "t1", 0, 13),
        put_offset("", "t2", -1, 14),
        GroupChange::PutGroup { group: "g".into(), record: record.clone() },
    ];
    state.apply(&changes).unwrap();
    drop(state);
    let state = State::open(&file(&dir)).unwrap();
    assert_eq!((state.group("g").unwrap(), state.group("g2").unwrap()), (Some(record.clone()), None));
    assert_eq!(state.groups().unwrap(), [("g".to_owned(), record)]);
    assert_eq!(state.groups_with_offsets().unwrap(), ["", "g", "g2"]);
    assert_eq!(state.offset("g", "t1", 0).unwrap(), Some(at(11)));
    assert_eq!(state.offset("g", "t1", 1).unwrap(), None);
    assert_eq!(state.offsets("g").unwrap(), [("t1".into(), 0, at(11)), ("t2".into(), 1, at(12))]);
    state.apply(&[GroupChange::DeleteOffset { group: "g".into(), topic: "t2".into(), partition: 1 }]).unwrap();
    assert_eq!(state.offsets("g").unwrap().len(), 1);
    state.apply(&[GroupChange::DeleteGroup { group: "g".into() }]).unwrap();
    assert_eq!((state.offsets("g").unwrap().len(), state.groups().unwrap().len()), (0, 0));
    assert_eq!(state.groups_with_offsets().unwrap(), ["", "g2"]);
    assert!(state.delete_topic("t1").unwrap());
    assert_eq!(state.groups_with_offsets().unwrap(), [""]);
}

#[test]
fn readers_see_what_is_durable_and_wait_for_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&file(&dir)).unwrap();
    state.apply(&[put_offset("g", "t", 0, 1)]).unwrap();
    let reader = state.clone();
    let seen = state.inner.disk.write(|t| {
        groups::forget_topic(t, "t")?;
        let (send, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(reader.offset("g", "t", 0)));
        Ok(seen.recv_timeout(std::time::Duration::from_secs(30)).expect("a reader does not wait"))
    });
    assert_eq!(seen.unwrap().unwrap(), Some(at(1)));
    assert_eq!(state.offset("g", "t", 0).unwrap(), None);
}

/// What is to expire is looked at when it is written: a commit or a member that came meanwhile counts.
#[test]
fn only_what_is_old_when_it_is_written_expires() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&file(&dir)).unwrap();
    let put = |group: &str, partition, commit_timestamp_ms| {
        let committed = CommittedOffset { commit_timestamp_ms, ..at(1) };
        GroupChange::PutOffset { group: group.into(), topic: "t".into(), partition, committed }
    };
    let group = |group: &str, state_since_ms, members: usize| {
        let members = vec![GroupMemberRecord::default(); members];
        let record = GroupRecord { generation: 3, state_since_ms, members, ..Default::default() };
        GroupChange::PutGroup { group: group.into(), record }
    };
    let expire = |group: &str| GroupChange::ExpireOffsets { group: group.into(), until_ms: 100 };
    let changes = [
        // (`old` is a prefix of `old2`.)
        [group("old", 100, 0), put("old", 0, 99), put("old", 1, 100), expire("old")],
        [group("old2", 1, 0), put("old2", 0, 99), put("old2", 1, 101), expire("old2")],
        [group("left late", 101, 0), put("left late", 0, 1), put("left late", 1, 101), expire("left late")],
        [group("joined", 1, 1), put("joined", 0, 1), put("joined", 1, 101), expire("joined")],
    ];
    state.apply(changes.as_flattened()).unwrap();
    let left = |group: &str| {
        let offsets = state.offsets(group).unwrap();
        (offsets.iter().map(|(_, partition, _)| *partition).collect::<Vec<_>>(), state.group(group).unwrap().is_some())
    };
    assert_eq!(left("old"), (vec![], false));
    assert_eq!(left("old2"), (vec![1], true));
    assert_eq!(left("left late"), (vec![0, 1], true));
    assert_eq!(left("joined"), (vec![0, 1], true));
}

#[test]
fn a_file_of_a_newer_format_or_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&file(&dir)).unwrap();
    let in_use = State::open(&file(&dir)).err().unwrap().to_string();
    assert!(in_use.contains("in use by another process") && in_use.contains("state.redb"), "{in_use}");
    state.inner.disk.write(|t| Ok(t.open_table(META)?.insert("format", "2").map(drop)?)).unwrap();
    drop(state);
    let newer = State::open(&file(&dir)).err().unwrap().to_string();
    assert!(newer.contains("written by a newer Hawser: format 2, this one reads up to 1"), "{newer}");
}

#[test]
fn a_corrupt_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(file(&dir), vec![0x5a; 8192]).unwrap();
    assert!(State::open(&file(&dir)).is_err());
}

#[test]
fn secrets_stay_out_of_debug_and_the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&file(&dir)).unwrap();
    state.put_link(link("a")).unwrap();
    let shown = format!("{:?}", state.links());
    assert!(shown.contains("sasl.jaas.config") && !shown.contains("hunter2"), "{shown}");
    assert_eq!(std::fs::metadata(file(&dir)).unwrap().permissions().mode() & 0o777, 0o600);
}

const CHILD: &str = "HAWSER_STATE_TEST_CHILD";

/// Not a test of its own: the process that the next test kills. Prints each offset once it is promised.
#[test]
fn child_commits_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let state = State::open(Path::new(&path)).unwrap();
    let mut out = std::io::stdout();
    for n in 0..100_000 {
        state.apply(&[put_offset("g", "t", 0, n), put_offset("g", "t", 1, n)]).unwrap();
        state.put_topic(topic("t", n as u128)).unwrap();
        writeln!(out, "promised {n}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_promised_survives_kill_during_write() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::child_commits_until_killed", "--nocapture"])
            .env(CHILD, file(&dir))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut promised = lines.filter_map(|l| l.strip_prefix("promised ").and_then(|n| n.parse::<i64>().ok()));
        let seen = promised.by_ref().nth(5 * round).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let last = promised.last().unwrap_or(seen);
        let state = State::open(&file(&dir)).unwrap();
        let offsets = state.offsets("g").unwrap();
        let found: Vec<i64> = offsets.iter().map(|(_, _, c)| c.offset).collect();
        assert!(found == [last, last] || found == [last + 1, last + 1], "promised {last}, found {found:?}");
        assert!(state.topic("t").is_some());
        assert_eq!(state.member_epoch(), 2 * round as i64);
    }
}

#[test]
fn the_local_cluster_is_pinned_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    let state = State::open(&file).unwrap();
    assert_eq!(state.local_cluster().unwrap(), None);
    assert_eq!(state.pin_local_cluster("first").unwrap(), "first");
    assert_eq!(state.pin_local_cluster("second").unwrap(), "first");
    drop(state);
    assert_eq!(State::open(&file).unwrap().local_cluster().unwrap().as_deref(), Some("first"));
}

#[test]
fn leader_epochs_only_rise_and_go_with_their_topic() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    let (kept, gone) = (topic("kept", 1), topic("gone", 2));
    let ids = (kept.id, gone.id);
    {
        let state = State::open(&file).unwrap();
        state.put_topic(kept).unwrap();
        state.put_topic(gone).unwrap();
        assert_eq!(state.leader_epoch(ids.0, 0).unwrap(), None);
        state.raise_leader_epochs(&[(ids.0, 0, 7), (ids.0, 1, 3), (ids.1, 0, 9)]).unwrap();
        state.raise_leader_epochs(&[(ids.0, 0, 5), (ids.0, 1, 4)]).unwrap();
        assert!(state.delete_topic("gone").unwrap());
    }
    let state = State::open(&file).unwrap();
    let epoch = |id, partition| state.leader_epoch(id, partition).unwrap();
    assert_eq!((epoch(ids.0, 0), epoch(ids.0, 1), epoch(ids.1, 0)), (Some(7), Some(4), None));
}
