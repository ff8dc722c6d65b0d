//! A stock cluster, a source daemon beside it, a destination daemon, and the link, whose both connections are dialled by
//! the source.

use crate::binary;
use anyhow::{Context, Result, bail, ensure};
use hawser_testkit::certificates::Authority;
use hawser_testkit::compare::{self, Equal};
use hawser_testkit::daemon::{Daemon, DaemonSpec, LINK_LOGIN, LINK_PASSWORD, jaas};
use hawser_testkit::kafka::{Driver, Kafka, Tool, scratch_folder};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The link of every test.
pub const LINK: &str = "from-on-prem-link";
/// The link's login at the source cluster; it must never be seen on the link.
pub const SOURCE_LOGIN: &str = "cp-to-cloud-link";
/// Its password.
pub const SOURCE_PASSWORD: &str = "a-password-that-stays-on-premises";

const POLL: Duration = Duration::from_millis(50);

/// Both halves and what they stand on. Fields are dropped in this order.
pub struct Pair {
    /// The destination's clients.
    pub mirror: Driver,
    /// The source's clients.
    pub origin: Driver,
    /// The destination daemon.
    pub destination: Daemon,
    /// The source daemon.
    pub source: Daemon,
    /// The source cluster.
    pub kafka: Kafka,
    /// The destination's cluster id.
    pub destination_id: String,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Pair {
    /// Starts both daemons for `kafka` (with SCRAM) and makes the link.
    ///
    /// # Errors
    /// When anything of it fails.
    pub fn start(kafka: Kafka) -> Result<Self> {
        Self::start_with(kafka, |source| source, |destination, _| Ok(destination))
    }

    /// As [`start`](Self::start), with changes to the daemons' files.
    ///
    /// # Errors
    /// When anything of it fails.
    pub fn start_with(
        kafka: Kafka,
        change_source: impl FnOnce(DaemonSpec) -> DaemonSpec,
        change_destination: impl FnOnce(DaemonSpec, &Authority) -> Result<DaemonSpec>,
    ) -> Result<Self> {
        let pair = Self::unlinked(kafka, change_source, change_destination)?;
        let address = pair.destination.bootstrap();
        pair.link_through(&address)?;
        Ok(pair)
    }

    /// As [`start_with`](Self::start_with), without a link.
    ///
    /// # Errors
    /// When anything of it fails.
    pub fn unlinked(
        kafka: Kafka,
        change_source: impl FnOnce(DaemonSpec) -> DaemonSpec,
        change_destination: impl FnOnce(DaemonSpec, &Authority) -> Result<DaemonSpec>,
    ) -> Result<Self> {
        let binary = binary()?;
        let folder = scratch_folder("pair")?;
        let authority = Authority::new("cloud-ca")?;
        kafka.add_scram_user(SOURCE_LOGIN, SOURCE_PASSWORD)?;
        let destination = DaemonSpec::destination(&binary, folder.path(), "cloud", &authority)?;
        let destination = change_destination(destination, &authority)?.start()?;
        let source = DaemonSpec::source(&binary, folder.path(), "on-prem", &kafka, SOURCE_LOGIN, SOURCE_PASSWORD)?;
        let source = change_source(source).start()?;
        let (mut mirror, origin) = (destination.driver()?, kafka.driver()?);
        let destination_id = mirror.ask(&["topics", "cluster-id"])?.pop().context("no cluster id")?;
        Ok(Self { mirror, origin, destination, source, kafka, destination_id, authority, folder })
    }

    /// Makes both halves, the source's with `address` (`host:port`) as the way to the destination.
    ///
    /// # Errors
    /// When a half is refused.
    pub fn link_through(&self, address: &str) -> Result<()> {
        self.link_with(address, "")
    }

    /// As [`link_through`](Self::link_through), with further lines in the source half's file.
    ///
    /// # Errors
    /// When a half is refused.
    pub fn link_with(&self, address: &str, lines: &str) -> Result<()> {
        self.create_destination_half()?;
        let file = self.folder.path().join("clusterlink-CP-src.config");
        fs::write(&file, self.source_half(address) + lines)?;
        let words = ["link", "create", LINK, "--destination-cluster", &self.destination_id, "--config-file"];
        self.source.run(&[&words[..], &[&path(&file)]].concat()).map(drop)
    }

    /// Makes the destination half, from its file of scenario A.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_destination_half(&self) -> Result<()> {
        let file = self.folder.path().join("clusterlink-hybrid-dst.config");
        fs::write(&file, "link.mode=DESTINATION\nconnection.mode=INBOUND\n")?;
        let id = self.kafka.cluster_id();
        self.destination.run(&["link", "create", LINK, "--source-cluster", id, "--config-file", &path(&file)]).map(drop)
    }

    /// The source half's file of scenario A, with `address` as the way to the destination.
    pub fn source_half(&self, address: &str) -> String {
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule";
        let authority = self.folder.path().join("cloud-ca.pem");
        let local = self.kafka.client_properties(SOURCE_LOGIN, SOURCE_PASSWORD, "SCRAM-SHA-512");
        let local_tls: String =
            local.lines().filter(|l| l.starts_with("ssl.")).map(|l| format!("local.{l}\n")).collect();
        let to = self.destination.security_protocol();
        let protocol = local.lines().find_map(|l| l.strip_prefix("security.protocol=")).unwrap_or("PLAINTEXT");
        format!(
            "link.mode=SOURCE\n\
             connection.mode=OUTBOUND\n\
             \n\
             bootstrap.servers={address}\n\
             ssl.endpoint.identification.algorithm=https\n\
             security.protocol={to}\n\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={}\n\
             sasl.mechanism=PLAIN\n\
             sasl.jaas.config={}\n\
             \n\
             local.listener.name={protocol}\n\
             local.security.protocol={protocol}\n\
             local.sasl.mechanism=SCRAM-SHA-512\n\
             local.sasl.jaas.config={}\n{local_tls}",
            authority.display(),
            jaas(plain, LINK_LOGIN, LINK_PASSWORD).replace('"', "'"),
            jaas(scram, SOURCE_LOGIN, SOURCE_PASSWORD),
        )
    }

    /// The authority of the destination's certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Begins to mirror `topics`.
    ///
    /// # Errors
    /// When one is refused.
    pub fn create_mirrors(&self, topics: &[&str]) -> Result<()> {
        for topic in topics {
            self.destination.run(&["mirror", "create", topic, "--link", LINK])?;
        }
        Ok(())
    }

    /// Changes settings of the destination half, given as lines of a file.
    ///
    /// # Errors
    /// When one is refused.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let file = self.folder.path().join("settings.config");
        fs::write(&file, lines)?;
        self.destination.run(&["link", "configuration", "update", LINK, "--config", &path(&file)]).map(drop)
    }

    /// One of Kafka's tools, at the destination.
    pub fn tool_at_destination(&self, class: &str) -> Tool {
        let (config, bootstrap) = (path(&self.destination.command_config()), self.destination.bootstrap());
        self.kafka.home().tool(class).args(["--bootstrap-server", &bootstrap, "--command-config", &config])
    }

    /// How `task` of the link stands.
    ///
    /// # Errors
    /// When there is none.
    pub fn task(&self, task: &str) -> Result<serde_json::Value> {
        let link = self.destination.run(&["link", "describe", LINK, "--output", "json"])?;
        let link: serde_json::Value = serde_json::from_str(&link)?;
        let tasks = link["tasks"].as_array().context("no tasks")?;
        tasks.iter().find(|row| row["task_name"] == task).cloned().with_context(|| format!("no {task} in {link}"))
    }

    /// Waits until `task` has ended `passes` passes since its settings changed last, and gives how it stands.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn await_passes(&self, task: &str, passes: u64, limit: Duration) -> Result<serde_json::Value> {
        let began = Instant::now();
        loop {
            let now = self.task(task)?;
            if now["runs"].as_u64().context("no runs")? >= passes {
                return Ok(now);
            }
            ensure!(began.elapsed() < limit, "no pass of {task}: {now}");
            std::thread::sleep(POLL);
        }
    }

    /// Waits until a pass of `task` has begun and ended after now, and gives how it stands.
    ///
    /// # Errors
    /// When none has within `limit`.
    pub fn next_pass(&self, task: &str, limit: Duration) -> Result<serde_json::Value> {
        // The pass under way may have asked before now.
        let wanted = self.task(task)?["runs"].as_u64().context("no runs")? + 2;
        self.await_passes(task, wanted, limit)
    }

    /// Whether mirror `topic` is an ordinary topic now.
    ///
    /// # Errors
    /// When it is none of the link's.
    pub fn is_stopped(&self, topic: &str) -> Result<bool> {
        let list = self.destination.run(&["mirror", "list"])?;
        let row = list.lines().find(|row| row.split_whitespace().any(|word| word == topic));
        let row = row.with_context(|| format!("no {topic} in {list}"))?;
        Ok(row.split_whitespace().any(|word| word == "STOPPED"))
    }

    /// Waits until mirrors `topics` are ordinary topics.
    ///
    /// # Errors
    /// When one is not within `limit`, with what it waits for.
    pub fn await_stopped(&self, topics: &[&str], limit: Duration) -> Result<()> {
        let began = Instant::now();
        for topic in topics {
            while !self.is_stopped(topic)? {
                if began.elapsed() > limit {
                    bail!("{topic} is not stopped: {}", self.destination.run(&["mirror", "describe", topic])?);
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// Waits until the mirrors end where the source ends now. Returns how long that took.
    ///
    /// # Errors
    /// When they do not within `limit`, with what lacks.
    pub fn await_caught_up(&mut self, topics: &[&str], limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        let wanted = ends(&mut self.origin, topics)?;
        loop {
            let reached = ends(&mut self.mirror, topics);
            let lacking: Vec<String> = match &reached {
                Ok(reached) => wanted
                    .iter()
                    .filter(|(partition, end)| reached.get(*partition).is_none_or(|r| r < *end))
                    .map(|(partition, end)| format!("{partition}: {:?} of {end}", reached.get(partition)))
                    .collect(),
                Err(reason) => vec![format!("{reason:#}")],
            };
            if lacking.is_empty() {
                return Ok(began.elapsed());
            }
            if began.elapsed() > limit {
                let shown = &lacking[..lacking.len().min(10)];
                let status = self.destination.run(&["mirror", "list"]).unwrap_or_else(|e| format!("{e:#}"));
                bail!("not caught up after {limit:?}: {} partitions lack, {shown:?}\n{status}", lacking.len());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Compares every partition of `topics` on disk with its leader's log. The destination must be stopped, so that its
    /// checkpoints are written; the source must be at rest.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare_on_disk(&mut self, topics: &[&str]) -> Result<Equal> {
        let offsets = self.origin.offsets(topics)?;
        let folders = self.folders(topics)?;
        ensure!(!folders.is_empty() && folders.len() == offsets.len(), "the source has no such topics");
        let mut total = Equal::default();
        for ((name, theirs, ours), offsets) in folders.iter().zip(&offsets) {
            ensure!(*name == format!("{}-{}", offsets.topic, offsets.partition), "order of partitions");
            let equal = compare::partitions(theirs, ours, offsets.earliest).with_context(|| name.clone())?;
            ensure!(equal.end == offsets.latest, "{name} ends at {}, the source at {}", equal.end, offsets.latest);
            total.batches += equal.batches;
            total.bytes += equal.bytes;
            total.emptied += equal.emptied;
            total.gaps += equal.gaps;
        }
        Ok(total)
    }

    /// Every partition of `topics`: the name of its folder, the folder at its leader, the one at the destination.
    ///
    /// # Errors
    /// When the source does not answer, or a partition has no leader.
    pub fn folders(&mut self, topics: &[&str]) -> Result<Vec<(String, PathBuf, PathBuf)>> {
        let partitions = self.origin.describe(topics)?;
        let folders = partitions.into_iter().map(|partition| {
            let name = format!("{}-{}", partition.topic, partition.partition);
            let theirs = self.kafka.data_dir(partition.leader)?.join(&name);
            let ours = self.destination.data_dir().join(&name);
            Ok((name, theirs, ours))
        });
        folders.collect()
    }
}

fn ends(driver: &mut Driver, topics: &[&str]) -> Result<BTreeMap<String, i64>> {
    let offsets = driver.ends(topics)?;
    Ok(offsets.into_iter().map(|o| (format!("{}-{}", o.topic, o.partition), o.latest)).collect())
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
