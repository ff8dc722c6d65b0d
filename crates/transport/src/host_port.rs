//! `host:port` as operators write it, with or without a protocol in front.

use std::fmt;
use std::str::FromStr;

/// A host and a port, as in `bootstrap.servers`; a `PROTOCOL://` in front is accepted and dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name or address; an IPv6 address stands here without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why text is not a [`HostPort`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    /// No `:port` at the end, or one that is not 1 to 65535.
    #[error("'{0}' has no port; expected HOST:PORT, for example broker1:9092")]
    Port(String),
    /// Nothing in front of the port, or characters that no host name has.
    #[error("'{0}' has no usable host; expected HOST:PORT, IPv6 addresses as [::1]:9092")]
    Host(String),
}

impl HostPort {
    /// Names `port` on `host`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads a comma-separated list (`bootstrap.servers`); blanks around the commas do not matter.
    ///
    /// # Errors
    /// The first entry that does not parse; an empty list is a [`HostPortError::Host`].
    pub fn list(text: &str) -> Result<Vec<Self>, HostPortError> {
        let all: Vec<Self> =
            text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        if all.is_empty() { Err(HostPortError::Host(text.to_owned())) } else { Ok(all) }
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = bare.rsplit_once(':').ok_or_else(|| HostPortError::Port(text.to_owned()))?;
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(HostPortError::Port(text.to_owned())),
        };
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match inner {
            Some(v6) if v6.split('%').next().is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()) => v6,
            Some(_) => return Err(HostPortError::Host(text.to_owned())),
            None => host,
        };
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if inner.is_none() && (host.is_empty() || !host.chars().all(usable)) {
            return Err(HostPortError::Host(text.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_operators_write() {
        for (text, host, port, shown) in [
            ("localhost:9092", "localhost", 9092, "localhost:9092"),
            ("SASL_SSL://broker_1.example.com:9093", "broker_1.example.com", 9093, "broker_1.example.com:9093"),
            ("127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"),
            ("[::1]:9092", "::1", 9092, "[::1]:9092"),
            ("SSL://[fe80::1%eth0]:65535", "fe80::1%eth0", 65535, "[fe80::1%eth0]:65535"),
        ] {
            let read: HostPort = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port, read.to_string().as_str()), (host, port, shown), "{text}");
        }
    }

    #[test]
    fn refuses_what_leads_nowhere() {
        for text in ["", "localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:x"] {
            assert!(matches!(text.parse::<HostPort>(), Err(HostPortError::Port(_))), "{text}");
        }
        for text in [":9092", "::1:9092", "[]:1", "[nonsense]:1", "a b:1", "http://a/b:1"] {
            assert!(matches!(text.parse::<HostPort>(), Err(HostPortError::Host(_))), "{text}");
        }
    }

    #[test]
    fn reads_lists() {
        assert_eq!(HostPort::list("a:1, b:2,").unwrap(), [HostPort::new("a", 1), HostPort::new("b", 2)]);
        assert!(HostPort::list(" , ").is_err());
        assert!(HostPort::list("a:1,b").is_err());
    }
}
