//! SASL as Kafka carries it: `SaslHandshake`, then `SaslAuthenticate` until both sides agree. Both sides are machines
//! without I/O; [`scram`] holds the cryptography.

mod client;
mod passwords;
mod scram;
mod server;
mod stored;

pub use client::Reauthentication;
pub(crate) use client::{Credentials, Login, Next, log_in};
pub use passwords::Passwords;
pub use scram::{ScramCredential, ScramMechanism};
pub(crate) use server::{SaslServer, ServerLogin, Users, Verdict, answer_versions};
pub use stored::ScramUsers;

use std::fmt;
use std::str::FromStr;

/// `SaslAuthenticate` and `SaslHandshake` carry Kafka's errors by number.
pub(crate) mod code {
    pub(crate) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    pub(crate) const ILLEGAL_SASL_STATE: i16 = 34;
    pub(crate) const UNSUPPORTED_VERSION: i16 = 35;
    pub(crate) const SASL_AUTHENTICATION_FAILED: i16 = 58;
}

/// A SASL mechanism that both sides of this crate speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// RFC 5802 with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A mechanism that is not spoken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnknownMechanism {
    /// Kerberos.
    #[error(
        "GSSAPI (Kerberos) is not supported: use SCRAM-SHA-512; a Kafka cluster can offer it beside GSSAPI on the same \
         listener (sasl.enabled.mechanisms=GSSAPI,SCRAM-SHA-512)"
    )]
    Gssapi,
    /// OAuth.
    #[error("OAUTHBEARER is not supported yet: use SCRAM-SHA-512 or PLAIN (API keys)")]
    OauthBearer,
    /// Something else.
    #[error("'{0}' is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512")]
    Other(String),
}

impl FromStr for Mechanism {
    type Err = UnknownMechanism;

    fn from_str(text: &str) -> Result<Self, UnknownMechanism> {
        match text {
            "PLAIN" => Ok(Self::Plain),
            "SCRAM-SHA-256" => Ok(Self::ScramSha256),
            "SCRAM-SHA-512" => Ok(Self::ScramSha512),
            "GSSAPI" => Err(UnknownMechanism::Gssapi),
            "OAUTHBEARER" => Err(UnknownMechanism::OauthBearer),
            other => Err(UnknownMechanism::Other(other.to_owned())),
        }
    }
}
