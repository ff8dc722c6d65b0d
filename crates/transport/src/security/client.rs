//! How to log in somewhere: `security.protocol`, `ssl.*`, `sasl.*` of a client.

use super::jaas::{Jaas, PLAIN_MODULE, SCRAM_MODULE};
use super::{Reader, SecurityProtocol, tls};
use crate::sasl::{Credentials, Mechanism};
use hawser_link::{ConfigErrors, Properties};
use rustls::ClientConfig;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How to log in somewhere. Cheap to clone; its `Debug` shows no secret.
#[derive(Clone)]
pub struct ClientSecurity {
    pub(crate) protocol: SecurityProtocol,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) credentials: Option<Arc<Credentials>>,
    pub(crate) client_id: Arc<str>,
    /// Time-out of one connection attempt (`socket.connection.setup.timeout.ms`).
    pub(crate) attempt: Duration,
    pub(crate) send_bytes: Option<usize>,
    pub(crate) receive_bytes: Option<usize>,
}

/// Keys that name Java classes or files of the JVM; they cannot have an effect here.
const JAVA_ONLY: [&str; 6] = [
    "ssl.engine.factory.class",
    "ssl.provider",
    "security.providers",
    "sasl.client.callback.handler.class",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
];

impl ClientSecurity {
    /// Plain text and no login.
    pub fn plaintext() -> Self {
        Self {
            protocol: SecurityProtocol::Plaintext,
            tls: None,
            credentials: None,
            client_id: Arc::from("hawser"),
            attempt: Duration::from_secs(10),
            send_bytes: None,
            receive_bytes: None,
        }
    }

    /// Reads `security.protocol`, `ssl.*`, `sasl.*`, `client.id`, `socket.connection.setup.timeout.ms`,
    /// `send.buffer.bytes` and `receive.buffer.bytes` (prefix already taken off by [`Properties::with_prefix`]);
    /// collects every error instead of stopping at the first. Files are read here, once. Keys of a protocol that is
    /// not used are not looked at, as in Kafka.
    ///
    /// # Errors
    /// All errors at once.
    pub fn from_properties(properties: &Properties) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(properties, String::new());
        let mut security = Self::plaintext();
        match reader.value("security.protocol").unwrap_or("PLAINTEXT").parse() {
            Ok(protocol) => security.protocol = protocol,
            Err(e) => reader.error("security.protocol", super::UnknownProtocol::to_string(&e)),
        }
        let protocol = security.protocol;
        reader.refuse(&JAVA_ONLY, "names a Java class, which has no meaning here: remove it");
        if protocol.is_tls() {
            security.tls = tls::client(&mut reader);
        }
        if protocol.is_sasl() {
            security.credentials = credentials(&mut reader).map(Arc::new);
        }
        if let Some(id) = reader.value("client.id") {
            security.client_id = Arc::from(id);
        }
        let attempt = reader.number("socket.connection.setup.timeout.ms", 10_000, 1..=3_600_000);
        security.attempt = Duration::from_millis(attempt.unsigned_abs());
        // -1, Kafka's "leave it to the system", is the default here: the kernel's own tuning serves long paths best.
        let mut bytes = |key| usize::try_from(reader.number(key, -1, -1..=1 << 30)).ok().filter(|n| *n > 0);
        security.send_bytes = bytes("send.buffer.bytes");
        security.receive_bytes = bytes("receive.buffer.bytes");
        reader.finish(Some(security))
    }

    /// The same with this TCP receive buffer, in bytes, in place of `receive.buffer.bytes`; `None` leaves it.
    pub fn with_receive_buffer(self, bytes: Option<usize>) -> Self {
        Self { receive_bytes: bytes.or(self.receive_bytes), ..self }
    }

    /// The protocol that is spoken.
    pub fn protocol(&self) -> SecurityProtocol {
        self.protocol
    }
}

fn credentials(reader: &mut Reader<'_>) -> Option<Credentials> {
    let mechanism = match reader.value("sasl.mechanism") {
        None => {
            let message = "is not set, and Kafka's default, GSSAPI, is not supported: set PLAIN, SCRAM-SHA-256 or \
                           SCRAM-SHA-512";
            reader.error("sasl.mechanism", message);
            None
        }
        Some(name) => match name.parse::<Mechanism>() {
            Ok(mechanism) => Some(mechanism),
            Err(e) => {
                reader.error("sasl.mechanism", e.to_string());
                None
            }
        },
    };
    let Some(line) = reader.value("sasl.jaas.config") else {
        let message = format!("is missing: expected {PLAIN_MODULE} required username=\"NAME\" password=\"SECRET\";");
        reader.error("sasl.jaas.config", message);
        return None;
    };
    let jaas = match Jaas::parse(line) {
        Ok(jaas) => jaas,
        Err(e) => {
            reader.error("sasl.jaas.config", e);
            return None;
        }
    };
    let wanted = if mechanism? == Mechanism::Plain { PLAIN_MODULE } else { SCRAM_MODULE };
    if jaas.module != wanted {
        let message = format!("names the login module {}, but {} needs {wanted}", jaas.module, mechanism?);
        reader.error("sasl.jaas.config", message);
        return None;
    }
    if jaas.option("tokenauth").is_some_and(|t| t.eq_ignore_ascii_case("true")) {
        reader.error("sasl.jaas.config", "asks for tokenauth: delegation tokens are not supported");
    }
    let mut option = |name| {
        let value = jaas.option(name).filter(|v| !v.is_empty());
        if value.is_none() {
            reader.error("sasl.jaas.config", format!("has no option {name}=\"…\""));
        }
        value
    };
    let (username, password) = (option("username"), option("password"));
    Some(Credentials::new(mechanism?, username?, password?))
}

impl fmt::Debug for ClientSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanism = self.credentials.as_ref().map(|c| c.mechanism());
        f.debug_struct("ClientSecurity")
            .field("protocol", &self.protocol)
            .field("mechanism", &mechanism)
            .finish_non_exhaustive()
    }
}
