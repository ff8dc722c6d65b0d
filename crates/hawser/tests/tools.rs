//! The binary under the reference's names: scenario A6's and A7's commands against a daemon, each line that they print.

use hawser_testkit::batches::{BatchBuilder, Codec};
use hawser_testkit::daemon::{Daemon, DaemonSpec};
use hawser_testkit::fake_source::FakeSource;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// A folder with the tools, and the daemon that they are pointed at.
struct Tools {
    folder: PathBuf,
    daemon: Daemon,
}

impl Tools {
    fn said(&self, line: &str) -> (i32, String, String) {
        let (tool, args) = line.split_once(' ').expect("a tool and its flags");
        let output = Command::new(self.folder.join(tool))
            .args(args.split(' '))
            .args(["--bootstrap-server", &self.daemon.bootstrap()])
            .stdin(Stdio::null())
            .output()
            .expect("run");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn says(&self, line: &str) -> String {
        let (code, out, error) = self.said(line);
        assert_eq!(code, 0, "{line}: {out}{error}");
        out
    }

    /// Asks until what is said, figures and ids as `#`, is `expected`.
    fn comes_to_say(&self, line: &str, expected: &str) {
        let began = Instant::now();
        loop {
            let said = shape(&self.says(line));
            if said == expected {
                return;
            }
            assert!(began.elapsed() < LIMIT, "{line}:\n{said}\nexpected:\n{expected}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ids, times and ages as `#`.
fn shape(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for (before, after) in [
            ("link ID: '", "'"),
            ("cluster ID: '", "'"),
            ("local cluster ID: '", "'"),
            ("LinkId: ", "\t"),
            ("StateTime: ", "\n"),
            ("TimeSinceLastFetchMs: ", "\n"),
        ] {
            let Some(begin) = line.find(before).map(|at| at + before.len()) else { continue };
            let end = line[begin..].find(after).map_or(line.len(), |at| begin + at);
            if begin < end {
                line.replace_range(begin..end, "#");
            }
        }
        out += &line;
        out.push('\n');
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_through_prints_what_it_says() {
    let source = FakeSource::local().await;
    let at = source.addresses()[0].to_string();
    source.create("cloud-topic", 1);
    source.append("cloud-topic", 0, BatchBuilder::at(0).codec(Codec::None).records(3, 10).build());
    tokio::task::spawn_blocking(move || story(&source, &at)).await.unwrap();
}

fn story(_source: &FakeSource, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_hawser"));
    for tool in ["kafka-cluster-links", "kafka-mirrors", "kafka-configs"] {
        symlink(binary, folder.path().join(tool)).unwrap();
    }
    let daemon = DaemonSpec::new(binary, folder.path(), "on-prem", "PLAINTEXT")
        .property("allow.everyone.if.no.acl.found", "true")
        .start()
        .expect("daemon");
    let tools = Tools { folder: folder.path().to_owned(), daemon };
    let config = folder.path().join("clusterlink-cloud-to-CP.config");
    std::fs::write(&config, format!("bootstrap.servers={at}\n")).unwrap();

    assert_eq!(tools.says("kafka-cluster-links --list"), "No cluster links found.\n");
    assert_eq!(tools.says("kafka-mirrors --list"), "No mirror topics found.\n");
    let create = format!("kafka-cluster-links --create --link from-cloud-link --config-file {}", config.display());
    let wrong = tools.said(&format!("{create} --cluster-id another"));
    assert_eq!((wrong.0, wrong.1.as_str()), (1, ""));
    assert!(wrong.2.contains("another"), "{wrong:?}");
    // What is taken without effect is said, and not where scripts read.
    let harmless = tools.said(&format!("{create} --validate-only --config sasl.login.class=a.B"));
    assert_eq!(
        (harmless.0, harmless.1.as_str()),
        (0, "Cluster link 'from-cloud-link' validation successfully completed.\n")
    );
    assert!(
        harmless.2.starts_with("Warning: ") && harmless.2.contains("sasl.login.class: has no effect"),
        "{harmless:?}"
    );
    assert_eq!(tools.says(&create), "Cluster link 'from-cloud-link' creation successfully completed.\n");
    tools.comes_to_say(
        "kafka-cluster-links --list",
        "Link name: 'from-cloud-link', link ID: '#', remote cluster ID: '#', local cluster ID: '#', \
         remote cluster available: 'true', link state: 'ACTIVE'\n",
    );

    assert_eq!(
        tools.says("kafka-mirrors --create --mirror-topic cloud-topic --link from-cloud-link"),
        "Created topic cloud-topic.\n"
    );
    assert_eq!(tools.says("kafka-mirrors --list --link from-cloud-link"), "cloud-topic\n");
    tools.comes_to_say(
        "kafka-mirrors --describe --link from-cloud-link",
        "Topic: cloud-topic\tLinkName: from-cloud-link\tLinkId: #\tMirrorTopic: cloud-topic\tState: ACTIVE\tStateTime: #\n\
         \tPartition: 0\tState: ACTIVE\tDestLogEndOffset: 3\tLastFetchSourceHighWatermark: 3\tLag: 0\tTimeSinceLastFetchMs: #\n",
    );
    let described = tools.says("kafka-cluster-links --describe --link from-cloud-link");
    let (first, configs) = described.split_once('\n').unwrap();
    assert!(first.contains("link mode: 'DESTINATION', connection mode: 'OUTBOUND', link state: 'ACTIVE'"), "{first}");
    assert!(
        first.ends_with("link coordinator id: '1', link coordinator host: 'localhost', topics: [cloud-topic]"),
        "{first}"
    );
    assert!(configs.starts_with("Configs: ") && configs.contains("reconnect.backoff.ms=50"), "{configs}");

    let configs = tools.says("kafka-configs --describe --cluster-link from-cloud-link");
    assert!(configs.starts_with("Dynamic configs for cluster-link from-cloud-link are:\n"), "{configs}");
    assert!(configs.contains("  reconnect.backoff.ms=50 sensitive=false synonyms={}\n"), "{configs}");
    assert_eq!(
        tools.says("kafka-configs --alter --cluster-link from-cloud-link --add-config reconnect.backoff.ms=70"),
        "Completed updating config for cluster-link from-cloud-link.\n"
    );
    let configs = tools.says("kafka-configs --describe --cluster-link from-cloud-link");
    assert!(configs.contains("  reconnect.backoff.ms=70 sensitive=false synonyms={}\n"), "{configs}");

    assert_eq!(
        tools.says("kafka-mirrors --promote --topics cloud-topic"),
        "Calculating max offset and ms lag for mirror topics: [cloud-topic]\n\
         Finished calculating max offset lag and max lag ms for mirror topics: [cloud-topic]\n\
         Request for stopping topic cloud-topics mirror was successfully scheduled. \
         Please use the describe command with the --pending-stopped-only option to monitor progress.\n"
    );
    tools.comes_to_say("kafka-mirrors --describe --pending-stopped-only", "No mirror topics found.\n");
    let again = tools.said("kafka-mirrors --promote --topics cloud-topic");
    assert_eq!(again.0, 1);
    assert!(again.1.contains("Topic 'cloud-topic' has already stopped its mirror from 'from-cloud-link'"), "{again:?}");
    assert_eq!(
        tools.says("kafka-cluster-links --delete --link from-cloud-link"),
        "Cluster link 'from-cloud-link' deletion successfully completed.\n"
    );
}
