//! From properties to ready-made security: protocols, certificates, logins. Everything is read and checked here, once,
//! so that connecting cannot fail on configuration.

mod client;
pub(crate) mod jaas;
pub(crate) mod pem;
mod server;
mod tls;
pub(crate) mod x500;

pub use client::ClientSecurity;
pub use server::ServerSecurity;
pub(crate) use server::{ListenerLimits, ServerParts};

pub use tls::TlsProblem;
pub(crate) use x500::subject;

use hawser_link::{ConfigError, ConfigErrors, Properties};
use std::fmt;
use std::str::FromStr;

/// `security.protocol`: whether TLS, and whether a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// Neither.
    Plaintext,
    /// TLS, perhaps with client certificates.
    Ssl,
    /// A login in the clear.
    SaslPlaintext,
    /// A login inside TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Whether TLS is spoken.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether a login is needed.
    pub fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    /// As in properties.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that is no security protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")]
pub struct UnknownProtocol(String);

impl FromStr for SecurityProtocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        let upper = text.trim().to_ascii_uppercase();
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|p| p.as_str() == upper)
            .ok_or_else(|| UnknownProtocol(text.to_owned()))
    }
}

/// Reads keys and collects what is wrong with them. On a listener, `listener.name.NAME.key` comes before `key`
/// (Kafka's `AbstractConfig.valuesWithPrefixOverride`).
pub(crate) struct Reader<'a> {
    properties: &'a Properties,
    prefix: String,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(properties: &'a Properties, prefix: String) -> Self {
        Self { properties, prefix, errors: Vec::new() }
    }

    /// The value, and the key that it really stands under. Blank text counts as not set, except by
    /// [`exact`](Self::exact).
    pub(crate) fn value(&self, key: &str) -> Option<&'a str> {
        self.exact(key).map(str::trim).filter(|v| !v.is_empty())
    }

    /// As [`value`](Self::value), but set-and-empty is `Some("")`.
    pub(crate) fn exact(&self, key: &str) -> Option<&'a str> {
        self.properties.value(&format!("{}{key}", self.prefix)).or_else(|| self.properties.value(key))
    }

    /// The value under the listener's own prefix only.
    pub(crate) fn own(&self, key: &str) -> Option<&'a str> {
        self.properties.value(&format!("{}{key}", self.prefix)).map(str::trim).filter(|v| !v.is_empty())
    }

    /// Notes an error about `key`, at the place where its value came from.
    pub(crate) fn error(&mut self, key: &str, message: impl Into<String>) {
        let own = format!("{}{key}", self.prefix);
        let key = if self.properties.value(&own).is_some() { own.as_str() } else { key };
        self.errors.push(self.properties.error(key, message));
    }

    /// A number within `range`, or `default`.
    pub(crate) fn number(&mut self, key: &str, default: i64, range: std::ops::RangeInclusive<i64>) -> i64 {
        let Some(text) = self.value(key) else { return default };
        match text.parse::<i64>() {
            Ok(n) if range.contains(&n) => n,
            _ => {
                self.error(key, format!("'{text}' is not a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// Refuses keys that name Java classes: they would be ignored without a word otherwise.
    pub(crate) fn refuse(&mut self, keys: &[&str], why: &str) {
        for key in keys {
            if self.value(key).is_some() {
                self.error(key, why);
            }
        }
    }

    /// `value`, if nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.errors)),
        }
    }
}
