#![forbid(unsafe_code)]
//! Sockets: TLS and SASL on both sides, listeners, dialling, and the one Kafka client that everything
//! above speaks through, whoever dialled.
//!
//! ```text
//! ClientSecurity::dial ──► Stream ──► KafkaClient          requests out, answers in
//! Listener::accept ──► ServerConnection ──► into_stream    requests in, answers out, then perhaps reversed
//! ```
//! Configuration is read once and whole (`security`); logins are machines without I/O (`sasl`); frames keep their place
//! when a wait is cancelled (`frames`). Nothing a peer sends can panic this crate or make it hold more than it sent.

mod candidates;
mod client;
mod connector;
mod dial;
mod frames;
#[cfg(test)]
mod fuzz;
mod host_port;
mod listener;
mod panics;
mod sasl;
mod security;
mod stream;

pub use candidates::{Candidates, Round};
pub use client::{ClientError, ClientOptions, KafkaClient, RESPONSE_BYTES_MAX};
pub use connector::{Connector, Direct, LeaseError, Target};
pub use dial::{DialError, Obstacle};
pub use frames::{FRAMES_BYTES_MAX, FrameError, FrameReader};
pub use host_port::{HostPort, HostPortError};
pub use listener::{ARRIVING_MAX, Counts, Listener, Principal, ServerConnection, answer_api_versions};
pub use panics::{Panicked, RESTART_AFTER_MAX, caught, restart_after};
pub use sasl::{Passwords, Reauthentication, ScramCredential, ScramMechanism, ScramUsers};
pub use security::{ClientSecurity, SecurityProtocol, ServerSecurity, TlsProblem, UnknownProtocol};
pub use stream::{ReadHalf, Stream, WriteHalf};
