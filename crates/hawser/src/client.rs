//! The command line's way to a daemon: its Kafka listener, with the login of `--command-config`, carrying operations.

use crate::cli::Login;
use crate::operations::{Operation, Outcome, Reply};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use hawser_link::Properties;
use hawser_transport::{ClientOptions, ClientSecurity, HostPort, KafkaClient};
use hawser_wire::api::private;
use std::path::Path;
use std::time::Duration;

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// A link create waits for the other side; everything else answers at once.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Descriptions of many thousand partitions are the largest answers.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// A connection to a daemon.
pub(crate) struct DaemonClient {
    kafka: KafkaClient,
}

/// A command line that makes no sense, although each flag by itself does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) &'static str);

impl DaemonClient {
    /// Dials `--bootstrap-server` with the login of `--command-config`.
    ///
    /// # Errors
    /// Missing flags, wrong settings, and whatever keeps a Kafka client from logging in.
    pub(crate) async fn connect(login: &Login) -> anyhow::Result<Self> {
        let Some(servers) = &login.bootstrap_server else {
            return Err(Usage("--bootstrap-server is required (or HAWSER_BOOTSTRAP_SERVER)").into());
        };
        let properties = match &login.command_config {
            Some(file) => read_properties(file)?,
            None => Properties::default(),
        };
        Self::dial(servers, &properties).await
    }

    /// Dials the first of `servers` that answers.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); the last server's error.
    pub(crate) async fn dial(servers: &str, properties: &Properties) -> anyhow::Result<Self> {
        let security = ClientSecurity::from_properties(properties)?;
        let mut last = anyhow!("no server in {servers:?}");
        for server in servers.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            match Self::dial_one(server, &security).await {
                Ok(kafka) => return Ok(Self { kafka }),
                Err(error) => last = error.context(format!("connect to {server}")),
            }
        }
        Err(last)
    }

    async fn dial_one(server: &str, security: &ClientSecurity) -> anyhow::Result<KafkaClient> {
        let to: HostPort = server.parse()?;
        let stream = security.dial(&to, DIAL_TIMEOUT).await?;
        let options = ClientOptions {
            client_id: "hawser-cli".to_owned(),
            request_timeout: OPERATION_TIMEOUT,
            response_bytes_max: RESPONSE_BYTES_MAX,
            idle_max: None,
        };
        Ok(KafkaClient::start(stream, options).await?)
    }

    /// The connection itself, for what is no operation of Hawser's.
    pub(crate) fn kafka(&self) -> &KafkaClient {
        &self.kafka
    }

    /// Asks for `operation`.
    ///
    /// # Errors
    /// The daemon's refusal, or the connection's failure.
    pub(crate) async fn operate(&self, operation: &Operation) -> anyhow::Result<Outcome> {
        let body = serde_json::to_vec(operation).context("encode the operation")?;
        let answer = self
            .kafka
            .call_raw(private::OPERATE, 0, Bytes::from(body), Duration::ZERO)
            .await
            .context("the server did not answer (is it a Hawser daemon?)")?;
        match serde_json::from_slice(&answer).context("read the daemon's answer")? {
            Reply::Done(outcome) => Ok(*outcome),
            Reply::Refused(refusal) => Err(refusal.into()),
        }
    }
}

/// Reads a `.properties` file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_properties(file: &Path) -> anyhow::Result<Properties> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    Ok(Properties::parse(&file.display().to_string(), &text))
}
