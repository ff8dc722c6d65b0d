#![forbid(unsafe_code)]
//! Kafka's bytes, without I/O: bounded frames, messages behind a guard, and zero-copy views of
//! record batches. Everything that comes from a socket or a disk is read through this crate; nothing
//! here panics on any input or allocates more than a small constant times the bytes it was given.

pub mod api;
pub mod batch;
mod decompress;
#[cfg(test)]
mod encoder;
pub mod frame;
#[cfg(test)]
mod fuzz;
mod guard;
pub mod records;
pub mod types;
mod writer;

pub use api::{ApiKey, Error as DecodeError, RequestFrame};
pub use batch::{Batch, BatchError, BatchHeader, Batches, Compression, ControlType};
pub use guard::{MEMORY_FLOOR_BYTES, MEMORY_PER_BYTE};
pub use kafka_protocol::error::ResponseError;
pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
pub use records::{Header, Headers, Record, RecordError, Records};
pub use types::{LeaderEpoch, NodeId, Offset, TopicPartition};
pub use uuid::Uuid;
pub use writer::BatchWriter;
