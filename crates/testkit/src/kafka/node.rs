//! One node of a cluster: its folder, its properties file and its process.

use super::home::LogLevel;
use super::spec::{ADMIN, ADMIN_PASSWORD};
use super::{ClusterSpec, Home, Jvm};
use crate::ports::free_port;
use crate::process::Process;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Logged by broker and controller once every listener is open.
const READY: &str = "Kafka Server started";
/// Node id of a controller that is no broker; brokers count from 1.
const CONTROLLER_ID: i32 = 100;

pub(super) struct Node {
    pub(super) id: i32,
    pub(super) is_controller: bool,
    pub(super) ports: Ports,
    pub(super) data_dir: PathBuf,
    properties: PathBuf,
    log: PathBuf,
    pub(super) process: Option<Process>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) secure: u16,
}

/// Writes the properties of every node: a combined one, or a controller and its brokers.
pub(super) fn lay_out(spec: &ClusterSpec, folder: &Path, key_store: &Path) -> Result<(Option<Node>, Vec<Node>)> {
    let controller_port = free_port();
    let common = spec.common_properties(key_store, &folder.join("ca.pem"));
    let quorum = format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}\n{common}");
    let combined = spec.brokers == 1;
    let controller_listener = format!("CONTROLLER://127.0.0.1:{controller_port}");

    let mut brokers = Vec::new();
    for id in 1..=i32::from(spec.brokers) {
        let ports = Ports { plain: free_port(), secure: free_port() };
        let second = spec.secure_listener();
        let own = format!("PLAINTEXT://127.0.0.1:{},{second}://localhost:{}", ports.plain, ports.secure);
        let (roles, listeners) = match combined {
            true => ("broker,controller", format!("{own},{controller_listener}")),
            false => ("broker", own.clone()),
        };
        let lines = format!("process.roles={roles}\nlisteners={listeners}\nadvertised.listeners={own}\n{quorum}");
        // A combined node may not advertise its controller listener with less than it listens on.
        let lines = match combined {
            true => lines.replace(
                &format!("advertised.listeners={own}"),
                &format!("advertised.listeners={own},{controller_listener}"),
            ),
            false => lines,
        };
        brokers.push(Node::new(id, combined, ports, folder, &lines)?);
    }
    if combined {
        return Ok((None, brokers));
    }
    let lines = format!("process.roles=controller\nlisteners={controller_listener}\n{quorum}");
    let ports = Ports { plain: controller_port, secure: controller_port };
    let lines = lines.replace("inter.broker.listener.name=PLAINTEXT\n", "");
    Ok((Some(Node::new(CONTROLLER_ID, true, ports, folder, &lines)?), brokers))
}

impl Node {
    fn new(id: i32, is_controller: bool, ports: Ports, folder: &Path, lines: &str) -> Result<Self> {
        let own = folder.join(format!("node-{id}"));
        let data_dir = own.join("data");
        fs::create_dir_all(&own)?;
        let properties = own.join("server.properties");
        fs::write(&properties, format!("node.id={id}\nlog.dirs={}\n{lines}", data_dir.display()))?;
        Ok(Self { id, is_controller, ports, data_dir, properties, log: own.join("kafka.log"), process: None })
    }

    pub(super) fn format(&self, home: &Home, cluster_id: &str, is_controller: bool) -> Result<()> {
        let mut tool = home.tool("kafka.tools.StorageTool").args(["format", "-t", cluster_id, "-c"]);
        tool = tool.arg(self.properties.display().to_string());
        tool = match is_controller {
            true => tool.arg("--standalone"),
            false => tool.arg("--no-initial-controllers"),
        };
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let user = format!("{mechanism}=[name={ADMIN},iterations=8192,password={ADMIN_PASSWORD}]");
            tool = tool.args(["--add-scram", &user]);
        }
        tool.run().map(drop)
    }

    pub(super) fn spawn(&mut self, home: &Home, jvm: Jvm) -> Result<()> {
        let name = format!("kafka node {}", self.id);
        let program =
            home.java(jvm, LogLevel::Info, None).arg("kafka.Kafka").arg(self.properties.display().to_string());
        self.process = Some(program.spawn(&name, &self.log)?);
        Ok(())
    }

    pub(super) fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        self.running()?.wait_for_line(READY, limit).map(drop)
    }

    pub(super) fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("node {} is not running", self.id))
    }

    pub(super) fn stop(&mut self, limit: Duration) -> Result<()> {
        self.running()?.stop(limit)?;
        self.process = None;
        Ok(())
    }

    pub(super) fn kill9(&mut self) -> Result<()> {
        self.running()?.kill9()?;
        self.process = None;
        Ok(())
    }

    pub(super) fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }
}
