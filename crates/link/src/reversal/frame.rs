//! The frames of an open control channel, the same kinds both ways. Layouts: `docs/protocol.md` §4.

use super::codec::{Malformed, Reader, put_count, put_string};
use super::open::{TEXT_BYTES_MAX, framed, read_node};
use super::{Refusal, RefusalCode, Ticket};
use bytes::Bytes;
use hawser_wire::NodeId;

/// Largest control frame, in bytes without the length prefix. A reader closes the connection above it.
pub const CONTROL_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Most brokers that a member announces: Kafka clusters stay well below.
const NODES_MAX: usize = 2048;
/// Most channels that one `LinkDial` asks for.
const TICKETS_MAX: usize = 64;

/// A source broker that a member reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The broker.
    pub id: NodeId,
    /// Whether the member stands beside it, so that it should be asked first.
    pub near: bool,
}

/// One frame of a control channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlFrame {
    /// Destination → source: open one channel a ticket to `node`.
    LinkDial {
        /// For logs on both sides.
        request_id: i64,
        /// The broker; `None` where the member may choose.
        node: Option<NodeId>,
        /// One a channel.
        tickets: Vec<Ticket>,
    },
    /// Source → destination: this channel will not come.
    DialFailed {
        /// Of the channel.
        ticket: Ticket,
        /// Why.
        refusal: Refusal,
    },
    /// Both ways, every beat interval.
    Beat {
        /// Counts up.
        sequence: i64,
    },
    /// Both ways: answers a beat at once, so that the round trip can be measured.
    BeatAck {
        /// Of the beat.
        sequence: i64,
    },
    /// Source → destination: all brokers that the member reaches now.
    Nodes(Vec<Node>),
    /// Both ways: the last frame before the connection is closed, with the reason.
    Goodbye(Refusal),
}

impl ControlFrame {
    /// The whole frame, length prefix included.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![0; 4];
        match self {
            Self::LinkDial { request_id, node, tickets } => {
                out.push(1);
                out.extend_from_slice(&request_id.to_be_bytes());
                out.extend_from_slice(&node.map_or(-1, |n| n.0).to_be_bytes());
                put_count(&mut out, tickets.len().min(TICKETS_MAX));
                tickets.iter().take(TICKETS_MAX).for_each(|t| out.extend_from_slice(&t.0));
            }
            Self::DialFailed { ticket, refusal } => {
                out.push(2);
                out.extend_from_slice(&ticket.0);
                put_refusal(&mut out, refusal);
            }
            Self::Beat { sequence } => {
                out.push(3);
                out.extend_from_slice(&sequence.to_be_bytes());
            }
            Self::BeatAck { sequence } => {
                out.push(4);
                out.extend_from_slice(&sequence.to_be_bytes());
            }
            Self::Nodes(nodes) => {
                out.push(5);
                put_nodes(&mut out, nodes);
            }
            Self::Goodbye(refusal) => {
                out.push(6);
                put_refusal(&mut out, refusal);
            }
        }
        framed(out)
    }

    /// Reads a frame without its length prefix.
    ///
    /// # Errors
    /// [`Malformed`] for anything that is not exactly one frame.
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(frame);
        let decoded = match from.i8("kind")? {
            1 => {
                let request_id = from.i64("request id")?;
                let node = read_node(&mut from)?;
                let count = from.count("tickets", TICKETS_MAX, 16)?;
                let tickets = (0..count).map(|_| from.array("ticket").map(Ticket)).collect::<Result<_, _>>()?;
                Self::LinkDial { request_id, node, tickets }
            }
            2 => Self::DialFailed { ticket: Ticket(from.array("ticket")?), refusal: read_refusal(&mut from)? },
            3 => Self::Beat { sequence: from.i64("sequence")? },
            4 => Self::BeatAck { sequence: from.i64("sequence")? },
            5 => Self::Nodes(read_nodes(&mut from)?),
            6 => Self::Goodbye(read_refusal(&mut from)?),
            _ => return Err(from.malformed("kind", "not a control frame of this version")),
        };
        from.end()?;
        Ok(decoded)
    }
}

pub(super) fn put_nodes(out: &mut Vec<u8>, nodes: &[Node]) {
    put_count(out, nodes.len().min(NODES_MAX));
    for node in nodes.iter().take(NODES_MAX) {
        out.extend_from_slice(&node.id.0.to_be_bytes());
        out.push(u8::from(node.near));
    }
}

pub(super) fn read_nodes(from: &mut Reader<'_>) -> Result<Vec<Node>, Malformed> {
    let count = from.count("nodes", NODES_MAX, 5)?;
    let node = |_| Ok(Node { id: NodeId(from.i32("node id")?), near: from.bool("near")? });
    (0..count).map(node).collect()
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    out.extend_from_slice(&refusal.code.code().to_be_bytes());
    put_string(out, &refusal.text, TEXT_BYTES_MAX);
}

fn read_refusal(from: &mut Reader<'_>) -> Result<Refusal, Malformed> {
    let code = RefusalCode::from_code(from.i16("code")?).ok_or_else(|| from.malformed("code", "0"))?;
    Ok(Refusal { code, text: from.string("text", TEXT_BYTES_MAX)?.to_owned() })
}
