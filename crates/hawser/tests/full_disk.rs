//! A daemon that is started on a full disk serves what it has.

use hawser_log::{LogConfig, Logs};
use hawser_state::{State, TopicRecord};
use hawser_testkit::batches::BatchBuilder;
use hawser_transport::{ClientOptions, ClientSecurity, HostPort, KafkaClient};
use hawser_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use hawser_wire::messages::{FetchRequest, TopicName};
use hawser_wire::{Batch, StrBytes, TopicPartition, Uuid};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "t";

/// A small file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(folder.path()).status();
        assert!(mounted.expect("run mount").success(), "needs root");
        Self(folder)
    }

    /// Leaves no byte.
    fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.0.path().join("filler")).expect("opens");
        for bytes in [1 << 16, 1 << 10, 1] {
            while filler.write(&vec![1; bytes]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).expect("removes");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

struct Daemon(Child);

impl Drop for Daemon {
    /// kill -9.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a daemon over `data`, with its other files in `folder`; where it listens.
fn start(folder: &Path, data: &Path) -> (Daemon, HostPort) {
    let (settings, ready) = (folder.join("serve.properties"), folder.join("ready"));
    let text = "listeners=PLAINTEXT://127.0.0.1:0\nallow.everyone.if.no.acl.found=true\n";
    std::fs::write(&settings, format!("{text}log.dirs={}\n", data.display())).expect("settings");
    let _ = std::fs::remove_file(&ready); // of the start before
    let mut serve = Command::new(env!("CARGO_BIN_EXE_hawser"));
    serve.arg("serve").arg(&settings).arg("--ready-file").arg(&ready).stdout(Stdio::null());
    let mut daemon = Daemon(serve.spawn().expect("run hawser"));
    let began = Instant::now();
    loop {
        if let Ok(addresses) = std::fs::read_to_string(&ready) {
            let address = addresses.lines().find_map(|line| line.strip_prefix("PLAINTEXT://")).expect("an address");
            return (daemon, address.parse().expect("host and port"));
        }
        assert!(daemon.0.try_wait().expect("a child").is_none(), "it does not start");
        assert!(began.elapsed() < LIMIT, "it is never ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn fetched(address: &HostPort) -> Vec<u8> {
    let stream = ClientSecurity::plaintext().dial(address, LIMIT).await.expect("connects");
    let client = KafkaClient::start(stream, ClientOptions::default()).await.expect("starts");
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20).with_current_leader_epoch(-1);
    let topic = FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(TOPIC)));
    let request = FetchRequest::default()
        .with_topics(vec![topic.with_partitions(vec![partition])])
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1);
    let (_, mut answer) = client.call(&request, 12, LIMIT).await.expect("answers");
    let partition = answer.responses.remove(0).partitions.remove(0);
    partition.records.unwrap_or_default().to_vec()
}

#[tokio::test]
#[ignore = "needs root, to mount a file system"]
async fn netns_a_daemon_on_a_full_disk_starts_and_serves_what_it_has() {
    let (folder, disk) = (tempfile::tempdir().expect("temporary folder"), Disk::mount());
    let data: PathBuf = disk.0.path().join("data");
    drop(start(folder.path(), &data));
    let records = BatchBuilder::at(0).records(10, 1_000).build();
    {
        let state = State::open(&data.join("hawser.state")).expect("opens");
        let id = Uuid::from_u128(7);
        let topic = TopicRecord { name: TOPIC.into(), id, partitions: 1, configs: Default::default(), mirror: None };
        state.put_topic(topic).expect("writes");
        let logs = Logs::open(&data, LogConfig::default()).expect("opens");
        let log = logs.open_partition(&TopicPartition::new(TOPIC, 0), id).expect("opens");
        log.append(&[Batch::split_off(&mut records.clone()).expect("a batch")]).expect("appends");
        log.flush().expect("flushes");
    }
    let reserved = || std::fs::metadata(data.join("hawser.reserve")).map_or(0, |file| file.len());
    let full = reserved();
    assert!(full > 0);
    for _ in 0..3 {
        disk.fill();
        let (_daemon, address) = start(folder.path(), &data);
        assert_eq!(fetched(&address).await, records);
        assert!(reserved() > 0, "what the start left over is kept for the next");
    }
    disk.free();
    let (_daemon, address) = start(folder.path(), &data);
    assert_eq!((fetched(&address).await, reserved()), (records.to_vec(), full));
}
