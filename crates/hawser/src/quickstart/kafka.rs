//! Stock Apache Kafka for the demonstration: its jars by Maven, one node in KRaft mode, and its own tools.

use super::children::Children;
use super::folder::Folder;
use anyhow::{Context, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;

/// The pinned release; the pom holds the same.
const VERSION: &str = "4.3.1";
const POM: &str = include_str!("../../../testkit/kafka/pom.xml");
const JAVA_MIN: u32 = 17;
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// Iterations of the tutorial's SCRAM users.
const SCRAM_ITERATIONS: u32 = 8192;

/// Kafka's jars and a Java that runs them.
pub(super) struct Kafka {
    class_path: String,
}

/// What stock Kafka needs and this machine has not, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {remedy}")]
pub(super) struct Missing {
    what: String,
    remedy: &'static str,
}

/// The on-prem cluster: one node, SASL_PLAINTEXT with SCRAM-SHA-512.
pub(super) struct Node {
    /// `host:port` of its listener.
    pub(super) bootstrap: String,
    port: u16,
    controller_port: u16,
}

impl Kafka {
    /// Finds Java, and the jars: in `lib` if given, else in the folder, else by Maven. Where Java or Maven lack, there is no
    /// Kafka.
    ///
    /// # Errors
    /// A `lib` without jars, or what Maven says.
    pub(super) async fn prepare(folder: &Folder, lib: Option<&Path>) -> anyhow::Result<Result<Self, Missing>> {
        if let Err(missing) = check_java().await {
            return Ok(Err(missing));
        }
        let lib = match lib {
            Some(lib) => lib.to_owned(),
            None => match fetch(folder).await? {
                Ok(lib) => lib,
                Err(missing) => return Ok(Err(missing)),
            },
        };
        if !has_jars(&lib) {
            bail!("{} holds no kafka-clients jar", lib.display());
        }
        Ok(Ok(Self { class_path: format!("{}/*", lib.display()) }))
    }

    /// Formats the node's storage with its two SCRAM users.
    ///
    /// # Errors
    /// What Kafka's tool says.
    pub(super) async fn format(&self, config: &Path, cluster_id: &str, users: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut args = vec!["format".to_owned(), "--cluster-id".to_owned(), cluster_id.to_owned()];
        args.extend(["--config".to_owned(), config.display().to_string()]);
        for (name, password) in users {
            args.push("--add-scram".to_owned());
            args.push(format!("SCRAM-SHA-512=[name={name},password={password},iterations={SCRAM_ITERATIONS}]"));
        }
        self.run("kafka.tools.StorageTool", &args).await.map(drop)
    }

    /// Starts the node and waits until its listener answers.
    ///
    /// # Errors
    /// When it ends or takes too long.
    pub(super) async fn start(
        &self,
        node: &Node,
        config: &Path,
        folder: &Folder,
        children: &mut Children,
    ) -> anyhow::Result<()> {
        let log4j = folder.write("on-prem/log4j2.properties", LOG4J)?;
        let mut command = self.java(&["-Xms256m", "-Xmx512m"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display())).arg("kafka.Kafka").arg(config);
        children.start("Kafka", command, &folder.run().join("on-prem/kafka.log"))?;
        let port = node.port;
        let listening = async move || TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop);
        children.wait_until("starting Kafka", START_TIMEOUT, listening).await
    }

    /// A tool of Kafka's that goes on by itself.
    pub(super) fn tool(&self, class: &str, args: &[String]) -> Command {
        let mut command = self.java(&["-Xmx256m", "-XX:TieredStopAtLevel=1"]);
        command.arg(class).args(args);
        command
    }

    /// Runs a tool of Kafka's to its end; what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub(super) async fn run(&self, class: &str, args: &[String]) -> anyhow::Result<String> {
        let name = class.rsplit('.').next().unwrap_or(class);
        let output = self
            .tool(class, args)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("run Kafka's {name}"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
            bail!("Kafka's {name} failed ({}):\n{}", output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The line that a person would type for `class`.
    pub(super) fn shown(&self, class: &str) -> String {
        format!("java -cp '{}' {class}", self.class_path)
    }

    fn java(&self, options: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.args(options).arg("-cp").arg(&self.class_path);
        command
    }
}

impl Node {
    /// A node on free ports of the loopback interface.
    ///
    /// # Errors
    /// When there is no free port.
    pub(super) fn on_free_ports() -> anyhow::Result<Self> {
        // Both are held until both are known; Kafka binds them a moment later.
        let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [port, controller_port] = listeners.map(|l| l.local_addr().map(|a| a.port()));
        let (port, controller_port) = (port?, controller_port?);
        Ok(Self { bootstrap: format!("127.0.0.1:{port}"), port, controller_port })
    }

    /// Its `server.properties`.
    pub(super) fn config(&self, data: &Path, broker_password: &str) -> String {
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}\n\
             listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=SASL_PLAINTEXT\n\
             sasl.enabled.mechanisms=SCRAM-SHA-512\n\
             sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n\
             listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required username=\"kafka\" password=\"{broker_password}\";\n\
             log.dirs={data}\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n",
            controller = self.controller_port,
            port = self.port,
            data = data.display(),
        )
    }
}

const LOG4J: &str = "rootLogger.level=INFO\n\
    rootLogger.appenderRef.console.ref=console\n\
    appender.console.type=Console\n\
    appender.console.name=console\n\
    appender.console.layout.type=PatternLayout\n\
    appender.console.layout.pattern=[%d] %p %m (%c)%n\n";

async fn check_java() -> Result<(), Missing> {
    const REMEDY: &str = "install JDK 17 or later (Debian, Ubuntu: apt install openjdk-17-jdk-headless; \
                          Fedora: dnf install java-21-openjdk-headless; macOS: brew install openjdk)";
    let missing = |what: &str| Missing { what: what.to_owned(), remedy: REMEDY };
    let output = Command::new("java").arg("-version").output().await;
    let output = output.ok().filter(|o| o.status.success()).ok_or_else(|| missing("Java was not found"))?;
    match java_major(&String::from_utf8_lossy(&output.stderr)) {
        Some(major) if major >= JAVA_MIN => Ok(()),
        Some(major) => Err(missing(&format!("Java {major} is too old"))),
        None => Err(missing("java -version could not be read")),
    }
}

/// `openjdk version "17.0.15" …` → 17, `java version "1.8.0_402"` → 8.
fn java_major(said: &str) -> Option<u32> {
    let version = said.split('"').nth(1)?;
    let mut parts = version.split(['.', '-', '+', '_']);
    let first = parts.next()?.parse().ok()?;
    if first == 1 { parts.next()?.parse().ok() } else { Some(first) }
}

async fn fetch(folder: &Folder) -> anyhow::Result<Result<PathBuf, Missing>> {
    const REMEDY: &str = "install it (Debian, Ubuntu: apt install maven; Fedora: dnf install maven; \
                          macOS: brew install maven), or name a folder with Kafka's jars by --kafka-lib";
    let dir = folder.make("kafka")?;
    let lib = dir.join(format!("kafka-{VERSION}/lib"));
    let whole = dir.join(format!("kafka-{VERSION}/whole"));
    if whole.exists() && has_jars(&lib) {
        return Ok(Ok(lib));
    }
    if !Command::new("mvn").arg("--version").output().await.is_ok_and(|o| o.status.success()) {
        let what = format!("Maven was not found, which fetches Kafka {VERSION}");
        return Ok(Err(Missing { what, remedy: REMEDY }));
    }
    println!("Fetching Kafka {VERSION} with Maven into {} …", dir.display());
    let pom = dir.join("pom.xml");
    std::fs::write(&pom, POM).with_context(|| format!("write {}", pom.display()))?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies@jars")
        .process_group(0)
        .kill_on_drop(true)
        .output()
        .await
        .context("run mvn")?;
    if !output.status.success() {
        bail!("Maven could not fetch Kafka:\n{}", String::from_utf8_lossy(&output.stdout).trim());
    }
    std::fs::write(&whole, VERSION).with_context(|| format!("write {}", whole.display()))?;
    Ok(Ok(lib))
}

fn has_jars(lib: &Path) -> bool {
    let Ok(entries) = lib.read_dir() else { return false };
    entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with("kafka-clients-"))
}

#[cfg(test)]
mod tests;
