//! The reversal protocol: how a connection that the source half dialled is turned round, so that the
//! destination sends the requests. Specified in `docs/protocol.md`; here are its messages and, as pure
//! machines, its two ends: [`SourceControl`] and [`DestinationLink`]. Neither reads a clock or draws a
//! random number: both are passed in. The shells are the crates `outbound` and `inbound`.

mod backoff;
mod codec;
mod destination;
mod frame;
mod liveness;
mod open;
mod refusal;
mod source;

pub use backoff::Backoff;
pub use codec::Malformed;
pub use destination::{
    ConnId, DestinationAction, DestinationEvent, DestinationLink, DestinationSettings, LeaseFailure, LeaseId,
    MemberStatus,
};
pub use frame::{CONTROL_FRAME_BYTES_MAX, ControlFrame, Node};
pub use liveness::Liveness;
pub use open::{Accepted, LinkOpen, OpenAnswer, Purpose};
pub use refusal::{Refusal, RefusalClass, RefusalCode};
pub use source::{ChannelFailure, SourceAction, SourceControl, SourceEvent, SourcePhase, SourceSettings};

use std::fmt;
use uuid::Uuid;

/// The version of the protocol that is spoken here: the API version of `LinkOpen`.
pub const PROTOCOL_VERSION: i16 = 0;

/// A daemon of a source half. Made at its first start and kept in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub Uuid);

/// Which life of a member this is: its daemon's number of starts, and the number of the dial in that life.
/// Of two connections with one member id the greater incarnation is the living one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Number of starts of the daemon.
    pub epoch: i64,
    /// Number of the control dial since that start, from 1.
    pub attempt: i64,
}

/// The right to open one channel: 128 random bits, single use. Secret: its `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub [u8; 16]);

/// Where random bytes come from: the operating system in a daemon, a seed in a test.
pub trait Entropy {
    /// Fills `bytes`; for tickets they must be unpredictable.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl Ticket {
    /// Draws a ticket.
    pub fn draw(entropy: &mut dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.attempt)
    }
}

#[cfg(test)]
mod tests;
