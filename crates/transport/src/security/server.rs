//! How a listener lets clients in: its protocol, certificates, mechanisms, users and limits, under the broker's keys.

use super::jaas::{Jaas, PLAIN_MODULE, SCRAM_MODULE};
use super::{Reader, SecurityProtocol, tls};
use crate::sasl::{Mechanism, SaslServer, ScramUsers, Users};
use hawser_link::{ConfigErrors, Properties};
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a listener lets clients in. Cheap to clone; its `Debug` shows no secret.
#[derive(Clone)]
pub struct ServerSecurity {
    parts: Arc<ServerParts>,
    scram_users: Option<ScramUsers>,
}

/// What [`ServerSecurity`] holds.
pub(crate) struct ServerParts {
    pub(crate) protocol: SecurityProtocol,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) sasl: Option<Arc<SaslServer>>,
    pub(crate) limits: ListenerLimits,
}

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    /// `max.connections`: those that have logged in (the others are bounded on their own).
    pub(crate) connections: usize,
    /// `socket.request.max.bytes`.
    pub(crate) frame_bytes: usize,
    /// `connections.max.idle.ms`.
    pub(crate) idle: Duration,
    /// From accept to login, all in all.
    pub(crate) login: Duration,
    /// `connection.failed.authentication.delay.ms`.
    pub(crate) failed_login_delay: Duration,
    pub(crate) send_bytes: Option<usize>,
    pub(crate) receive_bytes: Option<usize>,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            frame_bytes: 100 * 1024 * 1024,
            idle: Duration::from_secs(600),
            login: Duration::from_secs(10),
            failed_login_delay: Duration::from_millis(100),
            send_bytes: None,
            receive_bytes: None,
        }
    }
}

impl ServerSecurity {
    /// Plain text, everybody is `User:ANONYMOUS`, default limits.
    pub fn plaintext() -> Self {
        Self::new(SecurityProtocol::Plaintext, None, None, ListenerLimits::default())
    }

    fn new(
        protocol: SecurityProtocol,
        tls: Option<Arc<ServerConfig>>,
        sasl: Option<Arc<SaslServer>>,
        limits: ListenerLimits,
    ) -> Self {
        Self { parts: Arc::new(ServerParts { protocol, tls, sasl, limits }), scram_users: None }
    }

    /// Reads the security of listener `listener_name`, with a broker's keys: `listener.name.<name>.ssl.*` before
    /// `ssl.*`, `sasl.enabled.mechanisms`, `listener.name.<name>.<mechanism>.sasl.jaas.config` (names in lower case),
    /// `connections.max.reauth.ms`, `max.connections`, `socket.request.max.bytes`, `connections.max.idle.ms`,
    /// `connection.failed.authentication.delay.ms`, `socket.{send,receive}.buffer.bytes`.
    ///
    /// Users stand in the JAAS line as `user_NAME="secret"`, for SCRAM too; a SCRAM secret may also be Kafka's stored form,
    /// `salt=…,stored_key=…,server_key=…,iterations=…`. Without a JAAS line SCRAM has the users of
    /// [`with_scram_users`](Self::with_scram_users) only.
    ///
    /// # Errors
    /// All errors at once.
    pub fn from_properties(
        properties: &Properties,
        listener_name: &str,
        protocol: SecurityProtocol,
    ) -> Result<Self, ConfigErrors> {
        let prefix = format!("listener.name.{}.", listener_name.to_ascii_lowercase());
        let mut reader = Reader::new(properties, prefix);
        let limits = limits(&mut reader);
        let classes = ["ssl.engine.factory.class", "sasl.server.callback.handler.class", "principal.builder.class"];
        reader.refuse(&classes, "names a Java class, which has no meaning here: remove it");
        if reader.value("ssl.principal.mapping.rules").is_some_and(|rules| rules != "DEFAULT") {
            reader.error("ssl.principal.mapping.rules", "only DEFAULT is supported: the certificate's whole subject");
        }
        let tls = if protocol.is_tls() { tls::server(&mut reader, protocol.is_sasl()) } else { None };
        let sasl = if protocol.is_sasl() { sasl(&mut reader) } else { None };
        let whole = protocol.is_tls() == tls.is_some() && protocol.is_sasl() == sasl.is_some();
        reader.finish(whole.then(|| Self::new(protocol, tls, sasl.map(Arc::new), limits)))
    }

    /// Lets `users` in too, under the SCRAM mechanisms that the listener enables.
    #[must_use]
    pub fn with_scram_users(self, users: ScramUsers) -> Self {
        Self { scram_users: Some(users), ..self }
    }

    pub(crate) fn scram_users(&self) -> Option<&ScramUsers> {
        self.scram_users.as_ref()
    }

    /// The protocol that is spoken.
    pub fn protocol(&self) -> SecurityProtocol {
        self.parts.protocol
    }

    pub(crate) fn parts(&self) -> &ServerParts {
        &self.parts
    }
}

fn limits(reader: &mut Reader<'_>) -> ListenerLimits {
    let default = ListenerLimits::default();
    let int_max = i64::from(i32::MAX);
    let size = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    let millis = |n: i64| Duration::from_millis(n.unsigned_abs());
    let idle = reader.number("connections.max.idle.ms", 600_000, -1..=i64::MAX / 1_000_000);
    let mut bytes = |key| usize::try_from(reader.number(key, -1, -1..=1 << 30)).ok().filter(|n| *n > 0);
    let (send_bytes, receive_bytes) = (bytes("socket.send.buffer.bytes"), bytes("socket.receive.buffer.bytes"));
    ListenerLimits {
        connections: size(reader.number("max.connections", 20_000, 1..=int_max)).min(1 << 20),
        frame_bytes: size(reader.number("socket.request.max.bytes", 16_777_216, 1024..=int_max)),
        // Negative: never, as in Kafka.
        idle: if idle < 0 { Duration::from_secs(u64::from(u32::MAX)) } else { millis(idle) },
        failed_login_delay: millis(reader.number("connection.failed.authentication.delay.ms", 100, 0..=60_000)),
        login: default.login,
        send_bytes,
        receive_bytes,
    }
}

fn sasl(reader: &mut Reader<'_>) -> Option<SaslServer> {
    let lifetime = reader.number("connections.max.reauth.ms", 0, 0..=i64::MAX / 1_000_000);
    let lifetime = (lifetime > 0).then(|| Duration::from_millis(lifetime.unsigned_abs()));
    let mut users = Users::default();
    let mut enabled = Vec::new();
    let names = reader.value("sasl.enabled.mechanisms");
    let mut readable = names.is_some();
    if names.is_none() {
        let message = "is not set, and Kafka's default, GSSAPI, is not supported: expected a list of PLAIN, \
                       SCRAM-SHA-256, SCRAM-SHA-512";
        reader.error("sasl.enabled.mechanisms", message);
    }
    for name in names.unwrap_or_default().split(',').map(str::trim).filter(|n| !n.is_empty()) {
        match name.parse::<Mechanism>() {
            Err(e) => {
                readable = false;
                reader.error("sasl.enabled.mechanisms", e.to_string());
            }
            Ok(mechanism) if enabled.contains(&mechanism) => {}
            Ok(mechanism) => {
                enabled.push(mechanism);
                read_users(reader, mechanism, &mut users);
            }
        }
    }
    if !readable {
        // Which mechanisms were meant is not known: a line that is there may be for one of them, and its errors are told
        // now and not only when the list is right.
        for mechanism in Mechanism::ALL.into_iter().filter(|mechanism| !enabled.contains(mechanism)) {
            if reader.value(&jaas_key(mechanism)).is_some() {
                read_users(reader, mechanism, &mut users);
            }
        }
        return None;
    }
    match SaslServer::new(enabled, users, lifetime) {
        Ok(server) => Some(server),
        Err(e) => {
            reader.error("sasl.enabled.mechanisms", e);
            None
        }
    }
}

fn jaas_key(mechanism: Mechanism) -> String {
    format!("{}.sasl.jaas.config", mechanism.to_string().to_ascii_lowercase())
}

fn read_users(reader: &mut Reader<'_>, mechanism: Mechanism, users: &mut Users) {
    let key = jaas_key(mechanism);
    let wanted = if mechanism == Mechanism::Plain { PLAIN_MODULE } else { SCRAM_MODULE };
    let Some(line) = reader.value(&key) else {
        if mechanism != Mechanism::Plain {
            // Its users may all be made with `kafka-configs`.
            return;
        }
        let whole = format!("{}{key}", reader.prefix);
        let message =
            format!("is missing although {mechanism} is enabled: expected {wanted} required user_NAME=\"SECRET\";");
        reader.error(&whole, message);
        return;
    };
    match Jaas::parse(line) {
        Err(e) => reader.error(&key, e),
        Ok(jaas) if jaas.module != wanted => {
            reader.error(&key, format!("names the login module {}, but {mechanism} needs {wanted}", jaas.module));
        }
        Ok(jaas) => {
            for (name, secret) in jaas.users() {
                if let Err(e) = users.add(mechanism, name, secret) {
                    reader.error(&key, format!("user_{name}: {e}"));
                }
            }
        }
    }
}

impl fmt::Debug for ServerSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSecurity").field("protocol", &self.parts.protocol).finish_non_exhaustive()
    }
}
