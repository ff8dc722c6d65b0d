//! `LinkOpen`, the request that turns a connection round, and its answer. Layouts: `docs/protocol.md` §3.

use super::codec::{Malformed, Reader, put_nullable, put_string};
use super::frame::{Node, put_nodes, read_nodes};
use super::{Incarnation, MemberId, PROTOCOL_VERSION, Refusal, RefusalCode, Ticket};
use crate::LinkName;
use bytes::Bytes;
use hawser_wire::NodeId;
use hawser_wire::api::private::LINK_OPEN;
use std::time::Duration;
use uuid::Uuid;

/// Longest cluster id that is read, in bytes (Kafka's own have 22).
pub(super) const CLUSTER_ID_BYTES_MAX: usize = 255;
/// Longest sentence for an operator, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 1024;

/// What a source half says first on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOpen {
    /// The link, by the name that both halves have.
    pub link: LinkName,
    /// The cluster that the source half stands beside.
    pub source_cluster_id: String,
    /// The cluster that the source half means to reach; `None` when it was never told.
    pub destination_cluster_id: Option<String>,
    /// Which daemon of the source half.
    pub member: MemberId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The member's control channel, with the brokers that it reaches.
    Control {
        /// Brokers of the source cluster.
        nodes: Vec<Node>,
    },
    /// A control channel that finds out whether the link would open: the destination does not bind the link to its cluster.
    Trial {
        /// Brokers of the source cluster.
        nodes: Vec<Node>,
    },
    /// One channel to one source broker.
    Channel {
        /// The broker; `None` where the member may choose.
        node: Option<NodeId>,
        /// From the `LinkDial` that asked for it.
        ticket: Ticket,
    },
}

/// The answer to a `LinkOpen`. The head of a refusal has the same layout in every version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenAnswer {
    /// The connection is turned round from here on.
    Accepted(Accepted),
    /// The connection is closed by the destination after this.
    Refused(Refusal),
}

/// What the source half learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The link's id, given by the destination.
    pub link_id: Uuid,
    /// The destination's cluster id.
    pub destination_cluster_id: String,
    /// How often both sides beat on the control channel.
    pub beat_interval: Duration,
    /// After how many intervals without a byte the connection counts as dead.
    pub beats_missed_max: u8,
}

impl LinkOpen {
    /// The whole request frame, length prefix included.
    pub fn encode(&self, correlation_id: i32, client_id: &str) -> Bytes {
        let mut out = vec![0; 4];
        out.extend_from_slice(&LINK_OPEN.to_be_bytes());
        out.extend_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        out.extend_from_slice(&correlation_id.to_be_bytes());
        put_string(&mut out, client_id, CLUSTER_ID_BYTES_MAX);
        self.put_body(&mut out);
        framed(out)
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        put_string(out, self.link.as_str(), LinkName::LENGTH_MAX);
        put_string(out, &self.source_cluster_id, CLUSTER_ID_BYTES_MAX);
        put_nullable(out, self.destination_cluster_id.as_deref(), CLUSTER_ID_BYTES_MAX);
        out.extend_from_slice(self.member.0.as_bytes());
        out.extend_from_slice(&self.incarnation.epoch.to_be_bytes());
        out.extend_from_slice(&self.incarnation.attempt.to_be_bytes());
        match &self.purpose {
            Purpose::Control { nodes } => {
                out.push(0);
                put_nodes(out, nodes);
            }
            Purpose::Channel { node, ticket } => {
                out.push(1);
                out.extend_from_slice(&node.map_or(-1, |n| n.0).to_be_bytes());
                out.extend_from_slice(&ticket.0);
            }
            Purpose::Trial { nodes } => {
                out.push(2);
                put_nodes(out, nodes);
            }
        }
    }

    /// Reads the body (what follows the request head) of version 0.
    ///
    /// # Errors
    /// [`Malformed`] for anything that is not exactly one.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(body);
        let name = from.string("link name", LinkName::LENGTH_MAX)?;
        let link = LinkName::new(name).map_err(|_| from.malformed("link name", "not a link name"))?;
        let source_cluster_id = from.string("source cluster id", CLUSTER_ID_BYTES_MAX)?.to_owned();
        let destination_cluster_id = from.nullable("destination cluster id", CLUSTER_ID_BYTES_MAX)?.map(str::to_owned);
        let member = MemberId(Uuid::from_bytes(from.array("member id")?));
        let incarnation = Incarnation { epoch: from.i64("member epoch")?, attempt: from.i64("attempt")? };
        let purpose = match from.i8("purpose")? {
            0 => Purpose::Control { nodes: read_nodes(&mut from)? },
            1 => Purpose::Channel { node: read_node(&mut from)?, ticket: Ticket(from.array("ticket")?) },
            2 => Purpose::Trial { nodes: read_nodes(&mut from)? },
            _ => return Err(from.malformed("purpose", "not control (0), channel (1) or trial (2)")),
        };
        from.end()?;
        Ok(Self { link, source_cluster_id, destination_cluster_id, member, incarnation, purpose })
    }
}

impl OpenAnswer {
    /// The whole response frame, length prefix included.
    pub fn encode(&self, correlation_id: i32) -> Bytes {
        let mut out = vec![0; 4];
        out.extend_from_slice(&correlation_id.to_be_bytes());
        match self {
            Self::Refused(refusal) => {
                out.extend_from_slice(&refusal.code.code().to_be_bytes());
                put_string(&mut out, &refusal.text, TEXT_BYTES_MAX);
            }
            Self::Accepted(accepted) => {
                out.extend_from_slice(&0_i16.to_be_bytes());
                put_string(&mut out, "", TEXT_BYTES_MAX);
                out.extend_from_slice(accepted.link_id.as_bytes());
                put_string(&mut out, &accepted.destination_cluster_id, CLUSTER_ID_BYTES_MAX);
                let interval_ms = i32::try_from(accepted.beat_interval.as_millis()).unwrap_or(i32::MAX);
                out.extend_from_slice(&interval_ms.to_be_bytes());
                out.push(accepted.beats_missed_max);
            }
        }
        framed(out)
    }

    /// Reads the body (what follows the correlation id).
    ///
    /// # Errors
    /// [`Malformed`] for anything that is not exactly one. A refusal may carry more than we know.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(body);
        let code = from.i16("code")?;
        let text = from.string("text", TEXT_BYTES_MAX)?.to_owned();
        if let Some(code) = RefusalCode::from_code(code) {
            return Ok(Self::Refused(Refusal { code, text }));
        }
        let link_id = Uuid::from_bytes(from.array("link id")?);
        let destination_cluster_id = from.string("destination cluster id", CLUSTER_ID_BYTES_MAX)?.to_owned();
        let interval_ms = from.i32("beat interval")?;
        let [beats_missed_max] = from.array("beats missed")?;
        let interval_ms = u64::try_from(interval_ms).ok().filter(|ms| *ms > 0);
        let interval_ms = interval_ms.ok_or_else(|| from.malformed("beat interval", "not above 0"))?;
        if beats_missed_max == 0 {
            return Err(from.malformed("beats missed", "not above 0"));
        }
        from.end()?;
        let beat_interval = Duration::from_millis(interval_ms);
        Ok(Self::Accepted(Accepted { link_id, destination_cluster_id, beat_interval, beats_missed_max }))
    }
}

/// A node id as channels name it: -1 for any.
pub(super) fn read_node(from: &mut Reader<'_>) -> Result<Option<NodeId>, Malformed> {
    match from.i32("node id")? {
        -1 => Ok(None),
        id if id >= 0 => Ok(Some(NodeId(id))),
        _ => Err(from.malformed("node id", "below -1")),
    }
}

/// Fills in the length prefix that `out` has left open.
pub(super) fn framed(mut out: Vec<u8>) -> Bytes {
    let length = u32::try_from(out.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(prefix) = out.first_chunk_mut::<4>() {
        *prefix = length.to_be_bytes();
    }
    out.into()
}
