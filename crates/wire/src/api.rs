//! Requests and responses: heads, the guard in front of `kafka-protocol`, and Hawser's private keys.
//!
//! SKELETON written by the lead; the wire helper owns it from here. Signatures are the seam.

use bytes::Bytes;
pub use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, Request};

/// Private API keys, well above every key of Apache Kafka.
pub mod private {
    /// `LinkOpen`: the first request on a connection that is about to be reversed.
    pub const LINK_OPEN: i16 = 18_519;
    /// `Operate`: one operation on links and mirrors, JSON in, JSON out.
    pub const OPERATE: i16 = 18_520;
}

/// Why bytes are not the message that they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The frame ends inside a field, or a count promises more than the frame holds.
    #[error("{what} at byte {at}: {reason}")]
    Malformed {
        /// Message and field.
        what: String,
        /// Byte position in the frame.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A key or a version that is not spoken here.
    #[error("api key {key} version {version} is not supported")]
    Unsupported {
        /// API key.
        key: i16,
        /// Its version.
        version: i16,
    },
}

/// One request as it came off a socket: head decoded, body untouched.
#[derive(Clone, Debug)]
pub struct RequestFrame {
    /// API key, also a private one.
    pub api_key: i16,
    /// Version that head and body are encoded in.
    pub api_version: i16,
    /// To be echoed in the response.
    pub correlation_id: i32,
    /// Who asks, in its own words.
    pub client_id: Option<String>,
    /// What follows the head.
    pub body: Bytes,
}

impl RequestFrame {
    /// Splits a frame (without its length prefix) into head and body. Private keys carry a v1 head
    /// (no tagged fields); an ApiVersions request of an unknown version is still understood (KIP-511).
    ///
    /// # Errors
    /// `Malformed` when the head is not whole.
    pub fn parse(frame: Bytes) -> Result<Self, Error> {
        let _ = frame;
        todo!("wire helper")
    }

    /// Decodes the body behind the guard.
    ///
    /// # Errors
    /// `Unsupported` for a version outside `M`'s range, `Malformed` for anything the guard refuses.
    pub fn decode<M: Request>(&self) -> Result<M, Error> {
        decode_request::<M>(self.api_version, self.body.clone())
    }
}

/// Decodes a request body of `M` behind the guard; trailing bytes are an error.
///
/// # Errors
/// As [`RequestFrame::decode`].
pub fn decode_request<M: Request>(version: i16, body: Bytes) -> Result<M, Error> {
    let _ = (version, body);
    todo!("wire helper")
}

/// Decodes a response body (without its head) of request type `M` behind the guard.
///
/// # Errors
/// As [`RequestFrame::decode`].
pub fn decode_response<M: Request>(version: i16, body: Bytes) -> Result<M::Response, Error> {
    let _ = (version, body);
    todo!("wire helper")
}

/// A whole request frame, length prefix included, ready for the socket.
///
/// # Errors
/// `Unsupported` or `Malformed` when `kafka-protocol` cannot encode the message at this version.
pub fn encode_request<M: Request>(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    message: &M,
) -> Result<Bytes, Error> {
    let _ = (version, correlation_id, client_id, message);
    todo!("wire helper")
}

/// A whole response frame, length prefix included. ApiVersions keeps its v0 head (KIP-511).
///
/// # Errors
/// As [`encode_request`].
pub fn encode_response<M: Request>(version: i16, correlation_id: i32, message: &M::Response) -> Result<Bytes, Error> {
    let _ = (version, correlation_id, message);
    todo!("wire helper")
}

/// Splits a response frame (without length prefix) into correlation id and body, by `key` and `version`.
///
/// # Errors
/// `Malformed` when the head is not whole.
pub fn split_response(key: i16, version: i16, frame: Bytes) -> Result<(i32, Bytes), Error> {
    let _ = (key, version, frame);
    todo!("wire helper")
}

fn _bounds<M: Decodable + Encodable>() {}
