#![allow(dead_code)] // shared by several benchmarks
//! Both halves of a link as processes of their own, over TLS and SASL, in front of whatever serves as the source.

use anyhow::Result;
use hawser_testkit::certificates::Authority;
use hawser_testkit::daemon::{Daemon, DaemonSpec, LINK_LOGIN, LINK_PASSWORD, jaas};
use hawser_testkit::kafka::scratch_folder;
use std::path::PathBuf;

/// Name of the link.
pub(crate) const LINK: &str = "bench";
/// What is measured unless `HAWSER_BIN` names another build.
const BINARY: &str = env!("CARGO_BIN_EXE_hawser");

/// The two daemons and their folder, linked.
pub(crate) struct Halves {
    pub(crate) source: Daemon,
    pub(crate) destination: Daemon,
    folder: tempfile::TempDir,
}

impl Halves {
    /// Starts both and links them. `source_bootstrap` is an open (PLAINTEXT) listener of the source cluster.
    /// `consumers` is the port of one more listener of the destination, without login, if consumers are to be measured.
    pub(crate) fn start(source_bootstrap: &str, consumers: Option<u16>) -> Result<Self> {
        let folder = scratch_folder("bench")?;
        let authority = Authority::new("bench-ca")?;
        let binary = std::env::var_os("HAWSER_BIN").map_or_else(|| PathBuf::from(BINARY), PathBuf::from);
        let binary = binary.as_path();
        let destination = DaemonSpec::destination(binary, folder.path(), "cloud", &authority)?;
        let listeners = match consumers {
            Some(port) => format!("{},PLAINTEXT://127.0.0.1:{port}", destination.listener()),
            None => destination.listener().to_owned(),
        };
        let destination = destination
            .property("listeners", &listeners)
            .property("advertised.listeners", &listeners)
            .property("super.users", "User:admin;User:ANONYMOUS")
            .start()?;
        let source = DaemonSpec::new(binary, folder.path(), "on-prem", "PLAINTEXT")
            .property("super.users", "User:ANONYMOUS")
            .property("local.bootstrap.servers", source_bootstrap)
            .start()?;
        let halves = Self { source, destination, folder };
        halves.link()?;
        Ok(halves)
    }

    fn link(&self) -> Result<()> {
        let at = |name: &str| self.folder.path().join(name);
        std::fs::write(at("destination.config"), "link.mode=DESTINATION\nconnection.mode=INBOUND\n")?;
        let login = jaas("org.apache.kafka.common.security.plain.PlainLoginModule", LINK_LOGIN, LINK_PASSWORD);
        std::fs::write(
            at("source.config"),
            format!(
                "link.mode=SOURCE\nconnection.mode=OUTBOUND\nbootstrap.servers={}\nsecurity.protocol=SASL_SSL\n\
                 sasl.mechanism=PLAIN\nsasl.jaas.config={login}\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
                self.destination.bootstrap(),
                at("cloud-ca.pem").display()
            ),
        )?;
        let file = |name| at(name).display().to_string();
        self.destination.run(&["link", "create", LINK, "--config-file", &file("destination.config")])?;
        self.source.run(&["link", "create", LINK, "--config-file", &file("source.config")])?;
        Ok(())
    }

    /// Begins to mirror `topic`.
    pub(crate) fn mirror(&self, topic: &str) -> Result<()> {
        self.destination.run(&["mirror", "create", topic, "--link", LINK]).map(drop)
    }

    /// Changes settings of the destination's half: lines `key=value`.
    pub(crate) fn configure(&self, properties: &str) -> Result<()> {
        let file = self.folder.path().join("change.config");
        std::fs::write(&file, properties)?;
        let file = file.display().to_string();
        self.destination.run(&["link", "configuration", "update", LINK, "--config", &file]).map(drop)
    }

    /// Where the mirrors' segments are.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.destination.data_dir()
    }

    /// Process ids of the source's and the destination's daemon.
    pub(crate) fn pids(&mut self) -> Result<[u32; 2]> {
        Ok([self.source.process()?.pid(), self.destination.process()?.pid()])
    }
}
