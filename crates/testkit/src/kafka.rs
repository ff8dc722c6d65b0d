//! Stock Apache Kafka as child processes: one combined node, or a controller and several brokers.
//!
//! ```no_run
//! use hawser_testkit::kafka::{Kafka, Security};
//! let kafka = Kafka::three_brokers().security(Security::SaslSsl).start()?;
//! kafka.tool("org.apache.kafka.tools.TopicCommand").args(["--create", "--topic", "t"]).run()?;
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! Every broker has a PLAINTEXT door for the test itself (its user is a super user) and, when asked for, a second one with
//! a login. Data, configuration and output of every node lie in one temporary folder that goes away with the value;
//! `HAWSER_KEEP=1` keeps it.

mod console;
mod driver;
mod dump;
mod home;
mod node;
mod spec;
mod tool;

pub use console::read_by_console;
pub use driver::{Digest, Driver, Isolation, Offsets, PartitionState};
pub use dump::Dump;
pub use home::{Home, Jvm, Version, cache_dir};
pub use spec::{ADMIN, ADMIN_PASSWORD, ClusterSpec, PLAIN_USERS, Security};
pub use tool::{Tool, ToolOutput};

use crate::certificates::Authority;
use crate::process::Process;
use anyhow::{Context, Result, ensure};
use node::Node;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a node may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A running cluster. Brokers are named by their node ids, which begin at 1.
pub struct Kafka {
    spec: ClusterSpec,
    home: Home,
    cluster_id: String,
    controller: Option<Node>,
    brokers: Vec<Node>,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Kafka {
    /// Describes one combined broker and controller.
    pub fn one_node() -> ClusterSpec {
        ClusterSpec::new(1)
    }

    /// Describes a controller and three brokers.
    pub fn three_brokers() -> ClusterSpec {
        ClusterSpec::new(3)
    }

    /// Describes a controller and two brokers.
    pub fn two_brokers() -> ClusterSpec {
        ClusterSpec::new(2)
    }

    /// The process of a broker, to be looked at.
    ///
    /// # Errors
    /// When there is no such broker, or it does not run.
    pub fn broker_process(&self, id: i32) -> Result<&Process> {
        self.broker(id)?.process.as_ref().with_context(|| format!("broker {id} is not running"))
    }

    /// Node ids of the brokers.
    pub fn broker_ids(&self) -> Vec<i32> {
        self.brokers.iter().map(|n| n.id).collect()
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// `host:port,…` of the door without login.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(|n| format!("127.0.0.1:{}", n.ports.plain)).collect::<Vec<_>>().join(",")
    }

    /// `host:port,…` of the door with login, as [`Security`] says.
    pub fn secure_bootstrap(&self) -> String {
        self.brokers.iter().map(|n| format!("localhost:{}", n.ports.secure)).collect::<Vec<_>>().join(",")
    }

    /// Ports of one broker: without and with login.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn broker_ports(&self, id: i32) -> Result<(u16, u16)> {
        self.broker(id).map(|n| (n.ports.plain, n.ports.secure))
    }

    /// The authority that signed the brokers' certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// PEM file of the authority.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A folder for the test's own files; goes away with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The jars that this cluster runs.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Data folder of a broker, with one sub-folder a partition.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn data_dir(&self, id: i32) -> Result<PathBuf> {
        self.broker(id).map(|n| n.data_dir.clone())
    }

    /// What a broker has logged since its last start.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn broker_log(&self, id: i32) -> Result<String> {
        self.broker(id).map(Node::output)
    }

    /// Client settings for `user` at the door with login, in a file: the JAAS line fits `mechanism`.
    ///
    /// # Errors
    /// File errors.
    pub fn client_file(&self, user: &str, password: &str, mechanism: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("client-{user}-{mechanism}.properties"));
        fs::write(&path, self.client_properties(user, password, mechanism))?;
        Ok(path)
    }

    /// The text of [`client_file`](Self::client_file).
    pub fn client_properties(&self, user: &str, password: &str, mechanism: &str) -> String {
        self.spec.client_properties(user, password, mechanism, &self.authority_file())
    }

    /// Client settings of the super user at the door with login.
    ///
    /// # Errors
    /// File errors.
    pub fn admin_file(&self) -> Result<PathBuf> {
        self.client_file(ADMIN, ADMIN_PASSWORD, "SCRAM-SHA-512")
    }

    /// One of Kafka's own command-line tools, pointed at the door without login.
    pub fn tool(&self, class: &str) -> Tool {
        self.home.tool(class).arg("--bootstrap-server").arg(self.bootstrap())
    }

    /// Kafka's Java clients at the door without login.
    ///
    /// # Errors
    /// When they do not start.
    pub fn driver(&self) -> Result<Driver> {
        Driver::connect_under(&self.spec.wrapper, &self.bootstrap(), None)
    }

    /// Adds a SCRAM-SHA-512 user, as scenario A does for the link's login.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn add_scram_user(&self, user: &str, password: &str) -> Result<()> {
        let credential = format!("SCRAM-SHA-512=[iterations=8192,password={password}]");
        self.tool("kafka.admin.ConfigCommand")
            .args(["--alter", "--add-config", &credential, "--entity-type", "users", "--entity-name", user])
            .run()
            .map(drop)
    }

    /// Creates a topic; `configs` as `key=value`.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn create_topic(&self, topic: &str, partitions: u32, replicas: u32, configs: &[&str]) -> Result<()> {
        let mut tool = self.tool("org.apache.kafka.tools.TopicCommand").args(["--create", "--topic", topic]).args([
            "--partitions",
            &partitions.to_string(),
            "--replication-factor",
            &replicas.to_string(),
        ]);
        for config in configs {
            tool = tool.args(["--config", config]);
        }
        tool.run().map(drop)
    }

    /// Stops a broker with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop_broker(&mut self, id: i32) -> Result<()> {
        self.broker_mut(id)?.stop(STOP_LIMIT)
    }

    /// Kills a broker with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_broker(&mut self, id: i32) -> Result<()> {
        self.broker_mut(id)?.kill9()
    }

    /// Stops a broker's clock with SIGSTOP.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause_broker(&mut self, id: i32) -> Result<()> {
        self.broker_mut(id)?.running()?.pause()
    }

    /// Lets a paused broker go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume_broker(&mut self, id: i32) -> Result<()> {
        self.broker_mut(id)?.running()?.resume()
    }

    /// Starts a stopped broker again on its old data, and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_broker(&mut self, id: i32) -> Result<()> {
        let home = self.home.clone();
        let jvm = self.spec.jvm;
        let node = self.broker_mut(id)?;
        node.spawn(&home, jvm)?;
        node.wait_ready(START_LIMIT)
    }

    fn broker(&self, id: i32) -> Result<&Node> {
        self.brokers.iter().find(|n| n.id == id).with_context(|| format!("no broker {id}"))
    }

    fn broker_mut(&mut self, id: i32) -> Result<&mut Node> {
        self.brokers.iter_mut().find(|n| n.id == id).with_context(|| format!("no broker {id}"))
    }
}

impl ClusterSpec {
    /// Formats the data folders, starts every node and waits until all serve.
    ///
    /// # Errors
    /// When stock Kafka has not been fetched (`cargo xtask kafka`), or a node does not come up.
    pub fn start(self) -> Result<Kafka> {
        let home = Home::find(self.version)?.under(&self.wrapper);
        let folder = scratch_folder("kafka")?;
        let authority = Authority::new("test-ca")?;
        authority.write_pem(folder.path().join("ca.pem"))?;
        let server = authority.server()?.write(folder.path(), "server")?;
        let cluster_id = random_cluster_id();

        let (controller, brokers) = node::lay_out(&self, folder.path(), &server.key_store)?;
        let mut kafka = Kafka { spec: self, home, cluster_id, controller, brokers, authority, folder };
        kafka.format()?;
        let jvm = kafka.spec.jvm;
        for node in kafka.controller.iter_mut().chain(&mut kafka.brokers) {
            node.spawn(&kafka.home, jvm)?;
        }
        for node in kafka.controller.iter_mut().chain(&mut kafka.brokers) {
            node.wait_ready(START_LIMIT)?;
        }
        Ok(kafka)
    }
}

impl Kafka {
    /// `StorageTool format` on every node at once: each costs the start of a JVM.
    fn format(&self) -> Result<()> {
        let (home, cluster_id) = (&self.home, &self.cluster_id);
        let single = self.controller.is_none();
        std::thread::scope(|scope| {
            let nodes = self.controller.iter().chain(&self.brokers);
            let jobs: Vec<_> = nodes
                .map(|node| {
                    let is_controller = single || node.is_controller;
                    scope.spawn(move || node.format(home, cluster_id, is_controller))
                })
                .collect();
            for job in jobs {
                let done = job.join();
                ensure!(done.is_ok(), "formatting a node panicked");
                done.unwrap_or(Ok(()))?;
            }
            Ok(())
        })
    }
}

/// A temporary folder that is kept when `HAWSER_KEEP` is set.
///
/// # Errors
/// File errors.
pub fn scratch_folder(prefix: &str) -> Result<tempfile::TempDir> {
    let mut folder = tempfile::Builder::new().prefix(&format!("hawser-{prefix}-")).tempdir()?;
    if std::env::var_os("HAWSER_KEEP").is_some() {
        folder.disable_cleanup(true);
        eprintln!("keeping {}", folder.path().display());
    }
    Ok(folder)
}

/// 16 random bytes in Kafka's form: URL-safe base64 without padding, not beginning with a dash.
fn random_cluster_id() -> String {
    use base64::Engine;
    loop {
        let id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}
