//! Two daemons as processes and a source cluster in memory: a link from its making to its end, restarts and kills in
//! between. What stock Kafka says to all this is tested in `tests/`.

#[path = "link/ring.rs"]
mod ring;
#[path = "link/rotation.rs"]
mod rotation;

use bytes::Bytes;
use hawser_testkit::batches::{BatchBuilder, Codec};
use hawser_testkit::daemon::{Daemon, DaemonSpec, Said};
use hawser_testkit::fake_source::FakeSource;
use hawser_transport::{Listener, ServerSecurity};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 3;
const DESTINATION_HALF: [&str; 5] =
    ["link", "create", "l", "--config", "link.mode=DESTINATION,connection.mode=INBOUND"];

fn daemon(folder: &Path, name: &str, more: &[(&str, &str)]) -> Daemon {
    let binary = Path::new(env!("CARGO_BIN_EXE_hawser"));
    let spec = DaemonSpec::new(binary, folder, name, "PLAINTEXT").property("allow.everyone.if.no.acl.found", "true");
    more.iter().fold(spec, |spec, (key, value)| spec.property(key, value)).start().expect(name)
}

/// A destination, a daemon beside the source cluster `at`, and the settings of the half that links the two.
fn sites(folder: &Path, at: &str) -> (Daemon, Daemon, String) {
    let cloud = daemon(folder, "cloud", &[]);
    let on_prem = daemon(folder, "on-prem", &[("local.bootstrap.servers", at)]);
    let to_cloud = format!("link.mode=SOURCE,bootstrap.servers={}", cloud.bootstrap());
    (cloud, on_prem, to_cloud)
}

fn json(daemon: &Daemon, args: &[&str]) -> Value {
    let said = daemon.run(&[args, &["--output", "json"]].concat()).expect("command");
    serde_json::from_str(&said).expect("JSON")
}

/// Asks until `good`; what was last seen if it never is.
fn until(what: &str, mut good: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(seen) = good() {
        assert!(began.elapsed() < LIMIT, "{what}: {seen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn caught_up(destination: &Daemon, topic: &str, ends: i64) {
    until("caught up", || {
        let mirror = json(destination, &["mirror", "describe", topic]);
        let partitions = mirror["partitions"].as_array().cloned().unwrap_or_default();
        let reached: i64 = partitions.iter().filter_map(|p| p["log_end_offset"].as_i64()).sum();
        if reached == ends { Ok(()) } else { Err(mirror.to_string()) }
    });
}

fn state(daemon: &Daemon, link: &str) -> (String, String) {
    let link = json(daemon, &["link", "describe", link]);
    let text = |key: &str| link[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("error_message"))
}

fn await_state(daemon: &Daemon, link: &str, expected: &str, message: &str) {
    until(expected, || {
        let (state, said) = state(daemon, link);
        if state == expected && said.contains(message) { Ok(()) } else { Err(format!("{state}: {said}")) }
    });
}

fn refused(said: &Said, expected: &str) {
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    assert!(said.stderr.contains(expected), "{said:?}");
}

fn batches(base: i64, codec: Codec) -> Bytes {
    BatchBuilder::at(base).codec(codec).records(50, 100).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_its_making_to_its_end() {
    let source = FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    source.create("orders", PARTITIONS);
    for partition in 0..PARTITIONS {
        source.append("orders", partition, batches(0, Codec::None));
        source.append("orders", partition, batches(50, Codec::Lz4));
    }
    tokio::task::spawn_blocking(move || story(&source, &at)).await.unwrap();
}

fn story(source: &FakeSource, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut cloud, mut on_prem, to_cloud) = sites(folder.path(), at);
    let source_half = ["link", "create", "l", "--config", &to_cloud];

    // Refusals by name, and nothing stays behind.
    refused(&on_prem.command(&source_half).unwrap(), "NoSuchLink: the destination has no link of that name");
    assert_eq!(on_prem.run(&["link", "list"]).unwrap(), "No cluster links found.\n");
    let wrong_side = [&DESTINATION_HALF[..], &["--destination-cluster", "x"]].concat();
    refused(&cloud.command(&wrong_side).unwrap(), "makes this cluster the destination");
    let both = [&DESTINATION_HALF[..], &["--cluster", "not-this-one"]].concat();
    refused(&cloud.command(&both).unwrap(), "--cluster not-this-one: the daemon's cluster is ");
    refused(
        &cloud.command(&["mirror", "create", "orders", "--link", "l"]).unwrap(),
        "Cluster link 'l' does not exist.",
    );

    assert_eq!(cloud.run(&DESTINATION_HALF).unwrap(), "Created cluster link \"l\".\n");
    refused(&cloud.command(&DESTINATION_HALF).unwrap(), "Cluster link \"l\" already exists.");
    let dry = [&source_half[..], &["--validate-only"]].concat();
    assert_eq!(on_prem.run(&dry).unwrap(), "Cluster link \"l\" is valid; nothing was created.\n");
    let remote = json(&cloud, &["link", "describe", "l"])["remote_cluster"].clone();
    assert!(remote.as_str().unwrap_or_default().is_empty(), "a dry run bound the link to {remote}");
    assert_eq!(on_prem.run(&source_half).unwrap(), "Created cluster link \"l\".\n");
    await_state(&on_prem, "l", "ACTIVE", "");
    await_state(&cloud, "l", "ACTIVE", "");
    let (ours, theirs) = (json(&cloud, &["link", "describe", "l"]), json(&on_prem, &["link", "describe", "l"]));
    assert_eq!(ours["link_id"], theirs["link_id"]);
    assert_eq!(ours["local_cluster"], theirs["remote_cluster"]);
    assert_eq!(ours["remote_cluster"], theirs["local_cluster"]);

    refused(&cloud.command(&["mirror", "create", "none", "--link", "l"]).unwrap(), "The source has no topic 'none'");
    refused(
        &on_prem.command(&["mirror", "create", "orders", "--link", "l"]).unwrap(),
        "mirrors are made at the destination",
    );
    let create = ["mirror", "create", "orders", "--link", "l"];
    assert_eq!(cloud.run(&create).unwrap(), "Created mirror topic \"orders\".\n");
    refused(&cloud.command(&create).unwrap(), "Topic 'orders' already exists.");
    caught_up(&cloud, "orders", 300);
    let verify = ["verify", "--link", "l"];
    assert!(cloud.run(&verify).unwrap().contains("Compared 6 batches"));
    let metrics = cloud.metrics().unwrap();
    assert!(
        metrics.contains("hawser_mirror_lag_records{link=\"l\",topic=\"orders\",partition=\"2\"} 0\n"),
        "{metrics}"
    );
    assert!(metrics.contains("hawser_link_up{link=\"l\",mode=\"DESTINATION\"} 1\n"), "{metrics}");

    // Everything comes back by itself, however it ended.
    cloud.kill9().unwrap();
    await_state(&on_prem, "l", "UNAVAILABLE", "nothing listens on this port");
    assert_eq!(json(&on_prem, &["link", "describe", "l"])["error"], "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR");
    on_prem.stop().unwrap();
    for partition in 0..PARTITIONS {
        source.append("orders", partition, batches(100, Codec::Zstd));
    }
    on_prem.start().unwrap();
    cloud.start().unwrap();
    caught_up(&cloud, "orders", 450);
    assert!(cloud.run(&verify).unwrap().contains("Compared 9 batches"));

    // A byte that the disk changed is found, and named.
    cloud.stop().unwrap();
    let segment = cloud.data_dir().join("orders-1/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    cloud.start().unwrap();
    await_state(&cloud, "l", "ACTIVE", "");
    let said = cloud.command(&verify).unwrap();
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.stdout.contains("First difference: orders-1 at offset 0: the batches differ from byte 100 on"),
        "{said:?}"
    );

    // Its end, seen from the other side.
    refused(&cloud.command(&["link", "delete", "l"]).unwrap(), "has 1 live mirror topics (orders)");
    assert_eq!(cloud.run(&["link", "delete", "l", "--force"]).unwrap(), "Deleted cluster link \"l\".\n");
    await_state(&on_prem, "l", "UNAVAILABLE", "LinkDeleted");
    assert_eq!(json(&on_prem, &["link", "describe", "l"])["error"], "REMOTE_LINK_NOT_FOUND_ERROR");
    assert_eq!(json(&cloud, &["mirror", "list"])[0]["mirror_status"], "FAILED");
    assert_eq!(on_prem.run(&["link", "delete", "l"]).unwrap(), "Deleted cluster link \"l\".\n");
    refused(&on_prem.command(&["link", "describe", "l"]).unwrap(), "Cluster link 'l' does not exist.");
    cloud.stop().unwrap();
    on_prem.stop().unwrap();
}

/// What is not there any more cannot differ: a tail that a mirror lost is missed, whoever keeps it from coming back.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_lost_its_tail_is_behind_until_it_has_it_again() {
    let source = FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    source.create("orders", 2);
    for partition in 0..2 {
        source.append("orders", partition, batches(0, Codec::None));
        source.append("orders", partition, batches(50, Codec::Lz4));
    }
    tokio::task::spawn_blocking(move || lost_tail(&source, &at)).await.unwrap();
}

fn lost_tail(source: &FakeSource, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut cloud, mut on_prem, to_cloud) = sites(folder.path(), at);
    cloud.run(&DESTINATION_HALF).unwrap();
    on_prem.run(&["link", "create", "l", "--config", &to_cloud]).unwrap();
    cloud.run(&["mirror", "create", "orders", "--link", "l"]).unwrap();
    caught_up(&cloud, "orders", 200);
    let verify = ["verify", "--link", "l"];
    let said = cloud.run(&verify).unwrap();
    assert!(said.contains("in 2 of 2 partitions: in sync, every byte is equal."), "{said}");
    let pause = |cloud: &Daemon, paused: &str| {
        let setting = format!("cluster.link.paused={paused}");
        cloud.run(&["link", "configuration", "update", "l", "--config", &setting]).unwrap();
    };
    pause(&cloud, "true");

    cloud.stop().unwrap();
    let segment = cloud.data_dir().join("orders-1/00000000000000000000.log");
    let kept = batches(0, Codec::None).len() as u64;
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(kept).unwrap();
    cloud.start().unwrap();
    until("the source half is back", || {
        let link = json(&cloud, &["link", "describe", "l"]);
        if link["connections"].as_u64().is_some_and(|count| count > 0) { Ok(()) } else { Err(link.to_string()) }
    });
    let behind = |ends: i64, of: i64, status: &str| {
        let said = cloud.command(&verify).unwrap();
        let line = format!(
            "Behind: orders-1 ends at offset {ends}, its source at {of}: {} records missing, the mirror is {status}\n",
            of - ends
        );
        assert!(said.code == 4 && said.stdout.ends_with(&line), "{line} {said:?}");
    };
    behind(50, 100, "LINK_PAUSED");

    // It comes again by itself; who asks waits for it.
    pause(&cloud, "false");
    let said = cloud.run(&verify).unwrap();
    assert!(said.contains("Compared 4 batches") && said.contains("in sync"), "{said}");

    cloud.run(&["mirror", "pause", "orders", "--link", "l"]).unwrap();
    source.append("orders", 1, batches(100, Codec::Zstd));
    behind(100, 150, "PAUSED");
    cloud.run(&["mirror", "resume", "orders", "--link", "l"]).unwrap();
    let said = json(&cloud, &verify);
    assert_eq!((said["batches"].as_u64(), said["partitions_behind"].as_u64()), (Some(5), Some(0)), "{said}");

    // What is written after a failover is no difference.
    cloud.run(&["mirror", "failover", "orders", "--link", "l"]).unwrap();
    until("it is an ordinary topic", || {
        let mirror = json(&cloud, &["mirror", "describe", "orders"]);
        if mirror["mirror_status"] == "STOPPED" { Ok(()) } else { Err(mirror.to_string()) }
    });
    source.append("orders", 0, batches(100, Codec::None));
    let said = cloud.run(&verify).unwrap();
    assert!(said.contains("Compared 5 batches") && said.contains("in sync"), "{said}");
    cloud.stop().unwrap();
    on_prem.stop().unwrap();
}

/// Either half goes, comes back, and comes back as another: the one that stays says so, and takes up what is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_loses_the_other_says_so_and_takes_it_back() {
    let source = FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    source.create("orders", 1);
    source.append("orders", 0, batches(0, Codec::None));
    tokio::task::spawn_blocking(move || partings(&source, &at)).await.unwrap();
}

fn partings(source: &FakeSource, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut cloud, mut on_prem, to_cloud) = sites(folder.path(), at);
    let source_half = ["link", "create", "l", "--config", &to_cloud];
    let error = |daemon: &Daemon| json(daemon, &["link", "describe", "l"])["error"].clone();
    cloud.run(&DESTINATION_HALF).unwrap();
    on_prem.run(&source_half).unwrap();
    cloud.run(&["mirror", "create", "orders", "--link", "l"]).unwrap();
    caught_up(&cloud, "orders", 50);
    let link = json(&cloud, &["link", "describe", "l"]);
    assert!(link["last_beat_ms"].as_u64().is_some_and(|ms| ms < 30_000), "{link}");
    assert!(link["connections"].as_u64().is_some_and(|connections| connections >= 2), "{link}");
    assert!(link["last_fetch_ms"].is_u64(), "{link}");
    assert!(json(&on_prem, &["link", "describe", "l"])["connections"].as_u64().is_some_and(|count| count >= 2));

    // The source half goes: nothing flows, and the destination half says why.
    on_prem.run(&["link", "delete", "l"]).unwrap();
    await_state(&cloud, "l", "UNAVAILABLE", "SourceHalfDeleted: the source half of the link was deleted");
    assert_eq!(error(&cloud), "REMOTE_LINK_NOT_FOUND_ERROR");
    source.append("orders", 0, batches(50, Codec::None));
    on_prem.run(&source_half).unwrap();
    await_state(&cloud, "l", "ACTIVE", "");
    caught_up(&cloud, "orders", 100);

    // It means another cluster: it is refused by name, and nothing stays behind.
    on_prem.run(&["link", "delete", "l"]).unwrap();
    let elsewhere = [&source_half[..], &["--destination-cluster", "another-cluster"]].concat();
    refused(&on_prem.command(&elsewhere).unwrap(), "WrongDestinationCluster");
    on_prem.run(&source_half).unwrap();
    await_state(&cloud, "l", "ACTIVE", "");

    // The destination half goes, and another one comes under its name: the source half takes it for what it is.
    let old = json(&cloud, &["link", "describe", "l"])["link_id"].clone();
    cloud.run(&["link", "delete", "l", "--force"]).unwrap();
    await_state(&on_prem, "l", "UNAVAILABLE", "LinkDeleted");
    assert_eq!(error(&on_prem), "REMOTE_LINK_NOT_FOUND_ERROR");
    cloud.run(&DESTINATION_HALF).unwrap();
    await_state(&on_prem, "l", "ACTIVE", "");
    let new = json(&on_prem, &["link", "describe", "l"])["link_id"].clone();
    assert_ne!(new, old);
    assert_eq!(new, json(&cloud, &["link", "describe", "l"])["link_id"]);
    assert_eq!(json(&cloud, &["mirror", "list"])[0]["mirror_status"], "FAILED", "it was the other link's");

    // Both remember, whoever starts first.
    cloud.kill9().unwrap();
    on_prem.kill9().unwrap();
    on_prem.start().unwrap();
    cloud.start().unwrap();
    await_state(&on_prem, "l", "ACTIVE", "");
    await_state(&cloud, "l", "ACTIVE", "");
    cloud.stop().unwrap();
    on_prem.stop().unwrap();
}

/// The cluster beside the source half dies and returns: both halves beat on, and say that nothing flows.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_cluster_that_dies_shows_on_both_halves_until_it_is_back() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ServerSecurity::plaintext()).await.unwrap();
    let source = FakeSource::start(vec![listener]);
    let at = source.addresses()[0].to_string();
    source.create("orders", 1);
    source.append("orders", 0, batches(0, Codec::None));
    tokio::task::spawn_blocking(move || dead_source(&source, &at)).await.unwrap();
}

fn dead_source(source: &FakeSource, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    // A cluster that comes back with what it held: a daemon, which has its topic from the source in memory.
    let mut kafka = daemon(folder.path(), "kafka", &[]);
    let mut cloud = daemon(folder.path(), "cloud", &[]);
    let beside = kafka.bootstrap();
    let mut on_prem = daemon(folder.path(), "on-prem", &[("local.bootstrap.servers", &beside)]);
    kafka.run(&["link", "create", "feed", "--config", &format!("bootstrap.servers={at}")]).unwrap();
    kafka.run(&["mirror", "create", "orders", "--link", "feed"]).unwrap();
    caught_up(&kafka, "orders", 50);
    cloud.run(&["link", "create", "l", "--config", "link.mode=DESTINATION,connection.mode=INBOUND"]).unwrap();
    let to_cloud = format!("link.mode=SOURCE,bootstrap.servers={}", cloud.bootstrap());
    on_prem.run(&["link", "create", "l", "--config", &to_cloud]).unwrap();
    cloud.run(&["mirror", "create", "orders", "--link", "l"]).unwrap();
    caught_up(&cloud, "orders", 50);
    await_state(&on_prem, "l", "ACTIVE", "");
    await_state(&cloud, "l", "ACTIVE", "");

    kafka.kill9().unwrap();
    await_state(&cloud, "l", "UNAVAILABLE", "LocalUnreachable");
    await_state(&on_prem, "l", "UNAVAILABLE", "cannot reach the local cluster");
    tasks_wait_in_every_face(&cloud);
    let up = |daemon: &Daemon| {
        daemon.metrics().unwrap().lines().find(|l| l.starts_with("hawser_link_up")).map(str::to_owned)
    };
    assert!(up(&cloud).is_some_and(|line| line.ends_with(" 0")), "{:?}", up(&cloud));
    until("the mirror shows it", || {
        let mirror = json(&cloud, &["mirror", "describe", "orders"]);
        let partition = &mirror["partitions"][0];
        let shows = mirror["mirror_status"] == "SOURCE_UNAVAILABLE"
            && partition["state"] == "WAITING"
            && partition["reason"].as_str().is_some_and(|why| why.starts_with("unreachable: "))
            && partition["partition_mirror_lag_ms"].as_i64().is_some_and(|ms| ms > 0);
        if shows { Ok(()) } else { Err(mirror.to_string()) }
    });

    kafka.start().unwrap();
    source.append("orders", 0, batches(50, Codec::None));
    await_state(&cloud, "l", "ACTIVE", "");
    await_state(&on_prem, "l", "ACTIVE", "");
    caught_up(&cloud, "orders", 100);
    until("the mirror flows again", || {
        let mirror = json(&cloud, &["mirror", "describe", "orders"]);
        let partition = &mirror["partitions"][0];
        let flows = mirror["mirror_status"] == "ACTIVE"
            && partition["state"] == "FETCHING"
            && partition["reason"].is_null()
            && partition["partition_mirror_lag_ms"] == 0;
        if flows { Ok(()) } else { Err(mirror.to_string()) }
    });
    for daemon in [&mut cloud, &mut on_prem, &mut kafka] {
        daemon.stop().unwrap();
    }
}

/// A task shows what its link knows, whatever its last pass found.
fn tasks_wait_in_every_face(cloud: &Daemon) {
    let waits = |task: &Value| {
        let error = &task["errors"][0];
        task["state"] == "LINK_UNAVAILABLE" && error["error_message"].as_str().is_some_and(|why| !why.is_empty())
    };
    let find = |tasks: &Value, key: &str| {
        tasks.as_array().and_then(|tasks| tasks.iter().find(|task| task[key] == "TopicConfigsSync")).cloned()
    };
    for args in [&["link", "task", "list", "l"][..], &["link", "describe", "l"]] {
        let shown = json(cloud, args);
        let task = find(if args[1] == "task" { &shown } else { &shown["tasks"] }, "task_name");
        assert!(task.as_ref().is_some_and(waits), "{args:?}: {shown}");
        assert!(task.is_some_and(|task| task["last_run_ms"].is_i64() && task["runs"].is_u64()), "{shown}");
    }
    let described = cloud.run(&["kafka-cluster-links", "--describe", "--link", "l", "--include-tasks"]).unwrap();
    assert!(described.contains("Task: TopicConfigsSync\tState: LINK_UNAVAILABLE\tLastRunMs: "), "{described}");
    let status: Value = serde_json::from_str(&cloud.status().unwrap()).unwrap();
    let task = find(&status["links"][0]["tasks"], "name").unwrap_or_default();
    assert!(task["state"] == "LINK_UNAVAILABLE" && task["reason"].is_string() && task["runs"].is_u64(), "{status}");
    let metrics = cloud.metrics().unwrap();
    for line in [
        "hawser_sync_state{link=\"l\",task=\"TopicConfigsSync\",state=\"LINK_UNAVAILABLE\"} 1\n",
        "hawser_sync_last_run_timestamp_seconds{link=\"l\",task=\"TopicConfigsSync\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
}

/// Links that the destination dials, one behind the other: the source, its mirror, and the mirror of that mirror.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_links_that_dial_themselves() {
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(Listener::bind("127.0.0.1:0".parse().unwrap(), ServerSecurity::plaintext()).await.unwrap());
    }
    let source = FakeSource::start(listeners);
    source.create("orders", PARTITIONS);
    for partition in 0..PARTITIONS {
        source.append("orders", partition, batches(0, Codec::None));
    }
    tokio::task::spawn_blocking(move || chain(&source)).await.unwrap();
}

fn chain(source: &FakeSource) {
    let folder = tempfile::tempdir().unwrap();
    let mut jump = daemon(folder.path(), "jump", &[]);
    let mut far = daemon(folder.path(), "far", &[]);
    let dial = |to: &str| format!("link.mode=DESTINATION,connection.mode=OUTBOUND,bootstrap.servers={to}");
    let create = |at: &Daemon, to: &str| at.command(&["link", "create", "l", "--config", &dial(to)]).unwrap();

    // Who is not there, or is this cluster itself, is no source; and nothing stays behind.
    let nobody = format!("127.0.0.1:{}", hawser_testkit::ports::free_port());
    refused(&create(&jump, &nobody), "nothing listens on this port");
    refused(&create(&jump, &jump.bootstrap()), "the other side is this cluster itself");
    assert_eq!(jump.run(&["link", "list"]).unwrap(), "No cluster links found.\n");

    let made = create(&jump, &source.addresses()[0].to_string());
    assert_eq!(made.stdout, "Created cluster link \"l\".\n", "{made:?}");
    jump.run(&["mirror", "create", "orders", "--link", "l"]).unwrap();
    let made = create(&far, &jump.bootstrap());
    assert_eq!(made.stdout, "Created cluster link \"l\".\n", "{made:?}");
    far.run(&["mirror", "create", "orders", "--link", "l"]).unwrap();
    caught_up(&far, "orders", 150);
    for partition in 0..PARTITIONS {
        source.append("orders", partition, batches(50, Codec::Zstd));
    }
    caught_up(&far, "orders", 300);
    await_state(&far, "l", "ACTIVE", "");
    let link = json(&far, &["link", "describe", "l"]);
    assert_eq!(link["remote_cluster"], json(&jump, &["link", "describe", "l"])["local_cluster"]);
    assert!(far.run(&["verify", "--link", "l"]).unwrap().contains("Compared 6 batches"));

    // The middle goes away and comes back, with more.
    jump.kill9().unwrap();
    await_state(&far, "l", "UNAVAILABLE", "nothing listens on this port");
    assert_eq!(json(&far, &["link", "describe", "l"])["error"], "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR");
    for partition in 0..PARTITIONS {
        source.append("orders", partition, batches(100, Codec::Lz4));
    }
    jump.start().unwrap();
    caught_up(&far, "orders", 450);
    await_state(&far, "l", "ACTIVE", "");
    jump.stop().unwrap();
    far.stop().unwrap();
    let sent = [batches(0, Codec::None), batches(50, Codec::Zstd), batches(100, Codec::Lz4)].concat();
    for (daemon, partition) in [&jump, &far].into_iter().flat_map(|daemon| (0..PARTITIONS).map(move |p| (daemon, p))) {
        let segment = daemon.data_dir().join(format!("orders-{partition}/00000000000000000000.log"));
        assert!(std::fs::read(&segment).unwrap() == sent, "{}", segment.display());
    }
}

#[test]
fn while_a_link_waits_for_the_other_side_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = daemon(folder.path(), "daemon", &[]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let settings = "link.mode=DESTINATION,connection.mode=OUTBOUND,bootstrap.servers=";
    let settings = format!("{settings}{}", silent.local_addr().unwrap());
    let create = ["link", "create", "slow", "--config", &settings];
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| daemon.command(&create).unwrap());
        let mut dialled = None;
        until("the dial", || silent.accept().map(|(peer, _)| dialled = Some(peer)).map_err(|e| e.to_string()));
        let other = ["link", "create", "other", "--config", "link.mode=DESTINATION,connection.mode=INBOUND"];
        assert_eq!(daemon.run(&other).unwrap(), "Created cluster link \"other\".\n");
        refused(&daemon.command(&create).unwrap(), "Cluster link \"slow\" is being created by another command.");
        assert_eq!(daemon.run(&["link", "delete", "other"]).unwrap(), "Deleted cluster link \"other\".\n");
        assert!(!waiting.is_finished());
        drop((dialled, silent));
        refused(&waiting.join().unwrap(), "source is not reachable");
    });
    // Its name is free again, and nothing of it is left.
    refused(&daemon.command(&create).unwrap(), "nothing listens on this port");
    assert_eq!(daemon.run(&["link", "list"]).unwrap(), "No cluster links found.\n");
    daemon.stop().unwrap();
}

#[test]
fn operations_take_describe_or_alter_on_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_hawser"));
    let create = ["link", "create", "l", "--config", "link.mode=DESTINATION,connection.mode=INBOUND"];
    let mut nobody = DaemonSpec::new(binary, folder.path(), "closed", "PLAINTEXT").start().unwrap();
    for args in [&["link", "list"][..], &["mirror", "list"], &["link", "describe", "l"]] {
        refused(&nobody.command(args).unwrap(), "User:ANONYMOUS lacks DESCRIBE on the cluster");
    }
    refused(&nobody.command(&create).unwrap(), "User:ANONYMOUS lacks ALTER on the cluster, which link create takes");
    nobody.stop().unwrap();

    let reader = DaemonSpec::new(binary, folder.path(), "open", "PLAINTEXT");
    let mut reader = reader.property("hawser.acls", "User:ANONYMOUS DESCRIBE cluster").start().unwrap();
    assert_eq!(reader.run(&["link", "list"]).unwrap(), "No cluster links found.\n");
    refused(&reader.command(&create).unwrap(), "lacks ALTER");
    refused(&reader.command(&["verify", "--link", "l"]).unwrap(), "lacks ALTER");
    assert!(reader.log().contains("operation=\"link create\" subject=\"l\" code=NotAuthorized"), "{}", reader.log());
    reader.stop().unwrap();
}

#[test]
fn logs_are_json_on_request_and_two_daemons_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_hawser"));
    let mut first = DaemonSpec::new(binary, folder.path(), "first", "PLAINTEXT").start().unwrap();
    let file = folder.path().join("second.properties");
    let data = first.data_dir().display().to_string();
    std::fs::write(&file, format!("listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={data}\n")).unwrap();
    let second =
        std::process::Command::new(binary).args(["--log-format", "json", "serve"]).arg(&file).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"), "{second:?}");
    first.stop().unwrap();

    let file = file.display().to_string();
    let ready = folder.path().join("ready");
    let mut json = std::process::Command::new(binary)
        .args(["serve", &file, "--log-format", "json", "--ready-file"])
        .arg(&ready)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("ready", || std::fs::read_to_string(&ready).map(drop).map_err(|e| e.to_string()));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(json.id().cast_signed()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let mut log = String::new();
    std::io::Read::read_to_string(&mut json.stderr.take().unwrap(), &mut log).unwrap();
    assert!(json.wait().unwrap().success(), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().any(|line| line["message"] == "hawser ready" && line["level"] == "INFO"), "{log}");
    assert!(lines.iter().any(|line| line["message"] == "stopped"), "{log}");
}
