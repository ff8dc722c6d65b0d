//! `hawser serve` as a child process, and the `hawser` command pointed at it.
//!
//! A daemon keeps its ports and its folder over restarts, as one under a service manager would.

use crate::certificates::{Authority, IdentityFiles};
use crate::kafka::{Driver, Kafka};
use crate::ports::free_port;
use crate::process::{Process, Program};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The daemon's own super user.
pub const OPERATOR: &str = "admin";
/// Password of [`OPERATOR`].
pub const OPERATOR_PASSWORD: &str = "operator-secret";
/// The login of a link's source half at a destination: ALTER on the cluster and nothing else.
pub const LINK_LOGIN: &str = "link-login";
/// Password of [`LINK_LOGIN`].
pub const LINK_PASSWORD: &str = "link-secret";

/// What a SCRAM user's JAAS line begins with.
pub const SCRAM_MODULE: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// A daemon that is not running yet.
pub struct DaemonSpec {
    name: String,
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    metrics_port: u16,
    properties: Vec<(String, String)>,
    command_config: String,
    wrapper: Vec<String>,
    envs: Vec<(String, String)>,
    host: String,
    protocol: String,
}

/// A daemon, running or not.
pub struct Daemon {
    spec: DaemonSpec,
    process: Option<Process>,
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Exit code; −1 if it was ended by a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl DaemonSpec {
    /// A daemon `name` with its files under `folder`, listening as `listener` says (`SASL_SSL`, say), with a metrics port.
    pub fn new(binary: &Path, folder: &Path, name: &str, listener: &str) -> Self {
        let (port, metrics_port) = (free_port(), free_port());
        let folder = folder.join(name);
        let data = folder.join("data").display().to_string();
        Self {
            name: name.to_owned(),
            binary: binary.to_owned(),
            folder,
            port,
            metrics_port,
            properties: Vec::new(),
            command_config: String::new(),
            wrapper: Vec::new(),
            envs: Vec::new(),
            host: "localhost".to_owned(),
            protocol: listener.to_owned(),
        }
        .property("node.id", "1")
        .property("listeners", &format!("{listener}://127.0.0.1:{port}"))
        .property("advertised.listeners", &format!("{listener}://localhost:{port}"))
        .property("log.dirs", &data)
        .property("metrics.listener", &format!("127.0.0.1:{metrics_port}"))
        .property("super.users", &format!("User:{OPERATOR}"))
    }

    /// A destination as in scenario A: the embedded store behind SASL_SSL and PLAIN, where the link's login may alter the
    /// cluster and nothing else.
    ///
    /// # Errors
    /// File errors.
    pub fn destination(binary: &Path, folder: &Path, name: &str, authority: &Authority) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let authority_file = authority.write_pem(folder.join(format!("{name}-ca.pem")))?;
        let server = authority.server()?.write(folder, &format!("{name}-server"))?;
        Ok(Self::new(binary, folder, name, "SASL_SSL").sasl_ssl(&server, &authority_file))
    }

    /// A source's daemon beside `kafka`, as in scenario A: its own listener for commands asks for SCRAM-SHA-512; it reaches
    /// the cluster as `user`.
    ///
    /// # Errors
    /// File errors.
    pub fn source(binary: &Path, folder: &Path, name: &str, kafka: &Kafka, user: &str, password: &str) -> Result<Self> {
        let mut spec = Self::scram(binary, folder, name).property("local.bootstrap.servers", &kafka.secure_bootstrap());
        for line in kafka.client_properties(user, password, "SCRAM-SHA-512").lines() {
            if let Some((key, value)) = line.split_once('=') {
                spec = spec.property(&format!("local.{key}"), value);
            }
        }
        Ok(spec)
    }

    /// A daemon that asks for SCRAM-SHA-512 on SASL_PLAINTEXT, and knows its super user only.
    pub fn scram(binary: &Path, folder: &Path, name: &str) -> Self {
        let users = format!("{SCRAM_MODULE} required user_{OPERATOR}=\"{OPERATOR_PASSWORD}\";");
        let mut spec = Self::new(binary, folder, name, "SASL_PLAINTEXT")
            .property("sasl.enabled.mechanisms", "SCRAM-SHA-512")
            .property("listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config", &users);
        spec.command_config = scram_settings(OPERATOR, OPERATOR_PASSWORD);
        spec
    }

    fn sasl_ssl(mut self, server: &IdentityFiles, authority_file: &Path) -> Self {
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let users = format!(
            "{module} required user_{OPERATOR}=\"{OPERATOR_PASSWORD}\" user_{LINK_LOGIN}=\"{LINK_PASSWORD}\" user_nobody=\"nobody-secret\";"
        );
        self.command_config = client_settings(OPERATOR, OPERATOR_PASSWORD, authority_file);
        self.property("sasl.enabled.mechanisms", "PLAIN")
            .property("listener.name.sasl_ssl.plain.sasl.jaas.config", &users)
            .property("ssl.keystore.type", "PEM")
            .property("ssl.keystore.location", &server.key_store.display().to_string())
            .property("hawser.acls", &format!("User:{LINK_LOGIN} ALTER cluster"))
    }

    /// Sets a key of the daemon's file.
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.retain(|(k, _)| k != key);
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets an environment variable of the daemon.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.envs.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Turns a destination's SASL_SSL listener into SASL_PLAINTEXT, for tests that look at the bytes.
    pub fn plain_tcp(mut self) -> Self {
        for (key, value) in &mut self.properties {
            *key = key.replace("sasl_ssl", "sasl_plaintext");
            *value = value.replace("SASL_SSL://", "SASL_PLAINTEXT://");
        }
        self.properties.retain(|(key, _)| !key.starts_with("ssl."));
        self.protocol = "SASL_PLAINTEXT".to_owned();
        self.command_config = self.command_config.replace("=SASL_SSL", "=SASL_PLAINTEXT");
        self
    }

    /// The `listeners` that it was given so far.
    pub fn listener(&self) -> &str {
        self.properties.iter().find(|(k, _)| k == "listeners").map_or("", |(_, v)| v)
    }

    /// Runs it, and commands to it, under another program, such as `ip netns exec NAME`.
    pub fn under(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    /// Listens on `address` instead of loopback, with a certificate for it.
    ///
    /// # Errors
    /// File errors.
    pub fn at_address(mut self, address: &str, listener: &str, authority: &Authority) -> Result<Self> {
        let server = authority.server_for(&[address, "localhost", "127.0.0.1"])?;
        let folder = self.folder.parent().context("folder of the daemon")?;
        let files = server.write(folder, &format!("{}-at-address", self.name))?;
        self.host = address.to_owned();
        let at = format!("{listener}://{address}:{}", self.port);
        let store = files.key_store.display().to_string();
        Ok(self
            .property("listeners", &at)
            .property("advertised.listeners", &at)
            .property("ssl.keystore.location", &store))
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or takes too long, with the end of its log.
    pub fn start(self) -> Result<Daemon> {
        fs::create_dir_all(&self.folder)?;
        let mut daemon = Daemon { spec: self, process: None };
        daemon.write_files()?;
        daemon.start()?;
        Ok(daemon)
    }
}

impl Daemon {
    /// `host:port` of its listener.
    pub fn bootstrap(&self) -> String {
        format!("{}:{}", self.spec.host, self.spec.port)
    }

    /// Security protocol of its listener.
    pub fn security_protocol(&self) -> &str {
        &self.spec.protocol
    }

    /// Port of its listener.
    pub fn port(&self) -> u16 {
        self.spec.port
    }

    /// Port of its metrics endpoint.
    pub fn metrics_port(&self) -> u16 {
        self.spec.metrics_port
    }

    /// The folder with its partitions and its state.
    pub fn data_dir(&self) -> PathBuf {
        self.spec.folder.join("data")
    }

    /// Its own folder, for files of the test.
    pub fn folder(&self) -> &Path {
        &self.spec.folder
    }

    /// Client settings of its super user.
    pub fn command_config(&self) -> PathBuf {
        self.spec.folder.join("command.config")
    }

    /// Everything it has logged, over restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The process, when it runs.
    ///
    /// # Errors
    /// When it does not.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("daemon {} is not running", self.spec.name))
    }

    /// Starts it (again) and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or takes too long, with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        let ready = self.spec.folder.join("ready");
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let file = self.spec.folder.join("hawser.properties").display().to_string();
        let program = Program::new(&self.spec.binary)
            .args(["serve", &file, "--ready-file", &ready.display().to_string()])
            .under(self.spec.wrapper.clone())
            .env("RUST_BACKTRACE", "1");
        let program = self.spec.envs.iter().fold(program, |program, (key, value)| program.env(key, value));
        let mut process = program.spawn(&self.spec.name, &self.log_path())?;
        let deadline = Instant::now() + READY_LIMIT;
        while !fs::read_to_string(&ready).is_ok_and(|text| text.ends_with('\n')) {
            ensure!(process.is_running(), "{} ended:\n{}", self.spec.name, process.tail(40));
            ensure!(Instant::now() < deadline, "{} is not ready:\n{}", self.spec.name, process.tail(40));
            std::thread::sleep(POLL);
        }
        self.process = Some(process);
        Ok(())
    }

    /// SIGTERM, and waits for its end, which must be a clean one.
    ///
    /// # Errors
    /// When it does not stop, or not with success.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process()?.stop(STOP_LIMIT)?;
        ensure!(status.success(), "{} stopped with {status}:\n{}", self.spec.name, self.tail());
        self.process = None;
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> Result<()> {
        self.process()?.kill9()?;
        self.process = None;
        Ok(())
    }

    /// Runs `hawser ARGS…` with its address and login, whatever comes of it.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn command(&self, args: &[&str]) -> Result<Said> {
        let output = Program::new(&self.spec.binary)
            .under(self.spec.wrapper.clone())
            .args(args.iter().copied())
            .args(["--bootstrap-server", &self.bootstrap(), "--command-config"])
            .arg(self.command_config().display().to_string())
            .command()
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run hawser {args:?}"))?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `hawser ARGS…` and returns its standard output.
    ///
    /// # Errors
    /// When it does not exit with 0.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let Said { code, stdout, stderr } = self.command(args)?;
        ensure!(code == 0, "hawser {args:?}: exit code {code}\n{stdout}{stderr}\n--- log ---\n{}", self.tail());
        Ok(stdout)
    }

    /// Kafka's Java clients at its listener, as its super user.
    ///
    /// # Errors
    /// When they do not start.
    pub fn driver(&self) -> Result<Driver> {
        Driver::connect_under(&self.spec.wrapper, &self.bootstrap(), Some(&self.command_config()))
    }

    /// What its metrics endpoint says now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Result<String> {
        http_get(self.spec.metrics_port, "/metrics")
    }

    /// The JSON that its status page shows: links and mirrors.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<String> {
        http_get(self.spec.metrics_port, "/status")
    }

    fn tail(&self) -> String {
        self.process.as_ref().map(|p| p.tail(40)).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.spec.folder.join("hawser.log")
    }

    fn write_files(&self) -> Result<()> {
        let lines: String = self.spec.properties.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        fs::write(self.spec.folder.join("hawser.properties"), lines)?;
        fs::write(self.command_config(), &self.spec.command_config)?;
        Ok(())
    }
}

/// Client settings for SASL_SSL and PLAIN.
pub fn client_settings(user: &str, password: &str, authority_file: &Path) -> String {
    format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config={}\n\
         ssl.truststore.type=PEM\nssl.truststore.location={}\n",
        jaas("org.apache.kafka.common.security.plain.PlainLoginModule", user, password),
        authority_file.display()
    )
}

/// Client settings for SASL_PLAINTEXT and SCRAM-SHA-512.
pub fn scram_settings(user: &str, password: &str) -> String {
    format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={}\n",
        jaas(SCRAM_MODULE, user, password)
    )
}

/// A JAAS line.
pub fn jaas(module: &str, user: &str, password: &str) -> String {
    format!("{module} required username=\"{user}\" password=\"{password}\";")
}

fn http_get(port: u16, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the HTTP head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    Ok(body.to_owned())
}
