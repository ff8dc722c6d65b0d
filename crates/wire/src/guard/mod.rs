//! The guard: walks a message's bytes by Kafka's own schema before `kafka-protocol` may decode them.
//!
//! `kafka-protocol` believes array counts (`Vec::with_capacity(n)`): 20 bytes from a socket can abort the process. The
//! guard believes nothing. It walks every element of every array, so a count stands only when its elements are
//! there; it checks lengths, nulls, varints, UTF-8 and tagged fields, refuses trailing bytes, and adds up the memory
//! that decoding will take, which may not exceed [`MEMORY_PER_BYTE`] times the message plus [`MEMORY_FLOOR_BYTES`].
//!
//! *Invariant: no bytes from outside reach a `Decodable::decode` that [`Message::check`] has not accepted.*

#[cfg(test)]
pub(crate) mod every_api;
#[cfg(test)]
pub(crate) mod sample;
mod schema;
#[rustfmt::skip] // generated, see its head
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use schema::{Message, request, response};
pub(crate) use walk::{Refusal, Walk};

/// Decoding may take this many bytes of memory for each byte of the message, beyond the message itself. Real messages
/// take 3 to 10: the dearest are arrays of short strings, 32 bytes (`size_of::<Bytes>()`) for each.
pub const MEMORY_PER_BYTE: usize = 16;

/// What decoding may take however small the message is; makes room for short lists of one-letter names.
pub const MEMORY_FLOOR_BYTES: usize = 64 * 1024;
