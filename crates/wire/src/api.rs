//! Requests and responses: heads, the guard in front of `kafka-protocol`, and Hawser's private keys.
//!
//! Frames come in without their length prefix (see [`crate::frame`]) and go out with it. Decoding copies no payload:
//! strings and records are slices of the frame.

use crate::guard::{self, Message, Refusal, Walk};
use bytes::{BufMut, Bytes, BytesMut};
pub use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, Message as _, Request};

/// Private API keys, well above every key of Apache Kafka.
pub mod private {
    /// `LinkOpen`: the first request on a connection that is about to be reversed.
    pub const LINK_OPEN: i16 = 18_519;
    /// `Operate`: one operation on links and mirrors, JSON in, JSON out.
    pub const OPERATE: i16 = 18_520;

    /// Whether `key` is one of Hawser's own: v1 request head, v0 response head, no versions in Kafka's tables.
    pub const fn contains(key: i16) -> bool {
        matches!(key, LINK_OPEN | OPERATE)
    }
}

/// Why bytes are not the message that they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The frame ends inside a field, or a count promises more than the frame holds.
    #[error("{what} at byte {at}: {reason}")]
    Malformed {
        /// Message and field.
        what: String,
        /// Byte position in the head for heads, in the body for bodies.
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
    /// `Malformed` when the head is not whole, `Unsupported` for a key that neither Kafka nor Hawser has: the form of
    /// its head is not known.
    pub fn parse(frame: Bytes) -> Result<Self, Error> {
        let malformed = |refusal| malformed("request head", refusal);
        let mut walk = Walk::new(&frame);
        let api_key = walk.int16().map_err(malformed)?;
        let api_version = walk.int16().map_err(malformed)?;
        let correlation_id = walk.int32().map_err(malformed)?;
        let flexible = is_request_head_flexible(api_key, api_version)?;
        let client_id = walk.nullable_string().map_err(malformed)?.map(str::to_owned);
        if flexible {
            walk.unknown_tags().map_err(malformed)?;
        }
        let body = frame.slice(walk.position()..);
        Ok(Self { api_key, api_version, correlation_id, client_id, body })
    }

    /// Decodes the body behind the guard.
    ///
    /// # Errors
    /// `Unsupported` when the frame holds another request or a version outside `M`'s range, `Malformed` for anything
    /// the guard refuses.
    pub fn decode<M: Request>(&self) -> Result<M, Error> {
        if self.api_key != M::KEY {
            return Err(Error::Unsupported { key: self.api_key, version: self.api_version });
        }
        decode_request::<M>(self.api_version, self.body.clone())
    }
}

/// The versions of `M` that can be decoded and encoded here, as (oldest, newest): what Kafka's schema and both types of
/// `kafka-protocol` have in common. (`ApiKey::valid_versions` promises more than its types can do.)
pub fn supported_versions<M: Request>() -> Option<(i16, i16)> {
    let schema = guard::request(M::KEY)?.versions;
    let codec = M::VERSIONS.intersect(&M::Response::VERSIONS);
    let (min, max) = (schema.min.max(codec.min), schema.max.min(codec.max));
    (min <= max).then_some((min, max))
}

/// Kafka's name of the API with this key, for what is shown and counted; `None` for private keys and those that Kafka does not
/// have.
pub fn name(key: i16) -> Option<&'static str> {
    guard::request(key)?.name.strip_suffix("Request")
}

/// Decodes a request body of `M` behind the guard. Bytes after the request are left alone, as Kafka's own broker does:
/// librdkafka's Metadata request for all topics carries three.
///
/// # Errors
/// As [`RequestFrame::decode`].
pub fn decode_request<M: Request>(version: i16, body: Bytes) -> Result<M, Error> {
    in_range::<M>(version)?;
    let schema = guard::request(M::KEY).ok_or(Error::Unsupported { key: M::KEY, version })?;
    let length = schema.measure(version, &body).map_err(|refusal| malformed(schema.name, refusal))?;
    decode(schema, version, body.slice(..length))
}

/// Decodes a response body (without its head) of request type `M` behind the guard.
///
/// # Errors
/// As [`RequestFrame::decode`].
pub fn decode_response<M: Request>(version: i16, body: Bytes) -> Result<M::Response, Error> {
    in_range::<M>(version)?;
    let schema = guard::response(M::KEY).ok_or(Error::Unsupported { key: M::KEY, version })?;
    schema.check(version, &body).map_err(|refusal| malformed(schema.name, refusal))?;
    decode(schema, version, body)
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
    in_range::<M>(version)?;
    let flexible = is_request_head_flexible(M::KEY, version)?;
    let length = i16::try_from(client_id.len()).map_err(|_| unencodable("client id is longer than 32767 bytes"))?;
    encode(message, version, 11 + client_id.len(), |frame| {
        frame.put_i16(M::KEY);
        frame.put_i16(version);
        frame.put_i32(correlation_id);
        frame.put_i16(length);
        frame.put_slice(client_id.as_bytes());
        if flexible {
            frame.put_u8(0);
        }
    })
}

/// A whole response frame, length prefix included. ApiVersions keeps its v0 head (KIP-511).
///
/// # Errors
/// As [`encode_request`].
pub fn encode_response<M: Request>(version: i16, correlation_id: i32, message: &M::Response) -> Result<Bytes, Error> {
    in_range::<M>(version)?;
    let flexible = is_response_head_flexible(M::KEY, version)?;
    encode(message, version, 5, |frame| {
        frame.put_i32(correlation_id);
        if flexible {
            frame.put_u8(0);
        }
    })
}

/// Splits a response frame (without length prefix) into correlation id and body, by `key` and `version`.
///
/// # Errors
/// `Malformed` when the head is not whole, `Unsupported` for an unknown key.
pub fn split_response(key: i16, version: i16, frame: Bytes) -> Result<(i32, Bytes), Error> {
    let malformed = |refusal| malformed("response head", refusal);
    let mut walk = Walk::new(&frame);
    let correlation_id = walk.int32().map_err(malformed)?;
    if is_response_head_flexible(key, version)? {
        walk.unknown_tags().map_err(malformed)?;
    }
    let body = frame.slice(walk.position()..);
    Ok((correlation_id, body))
}

/// A request frame around a `body` that is encoded already, length prefix included. The head is what `key` and
/// `version` ask for: v2 (no tags in it) for flexible versions, v1 otherwise and for private keys.
///
/// # Errors
/// `Unsupported` for an unknown key, `Malformed` when head and body do not fit a frame.
pub fn encode_raw_request(
    key: i16,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    body: &[u8],
) -> Result<Bytes, Error> {
    let flexible = is_request_head_flexible(key, version)?;
    let length = i16::try_from(client_id.len()).map_err(|_| unencodable("client id is longer than 32767 bytes"))?;
    framed(11 + client_id.len() + body.len(), |frame| {
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(correlation_id);
        frame.put_i16(length);
        frame.put_slice(client_id.as_bytes());
        if flexible {
            frame.put_u8(0);
        }
        frame.put_slice(body);
        Ok(())
    })
}

/// A response frame around a `body` that is encoded already, length prefix included.
///
/// # Errors
/// As [`encode_raw_request`].
pub fn encode_raw_response(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Result<Bytes, Error> {
    let flexible = is_response_head_flexible(key, version)?;
    framed(5 + body.len(), |frame| {
        frame.put_i32(correlation_id);
        if flexible {
            frame.put_u8(0);
        }
        frame.put_slice(body);
        Ok(())
    })
}

/// Decodes a body that the guard has walked from end to end.
fn decode<D: Decodable>(schema: &'static Message, version: i16, mut body: Bytes) -> Result<D, Error> {
    let length = body.len();
    let message = D::decode(&mut body, version).map_err(|error| Error::Malformed {
        what: schema.name.to_owned(),
        at: length - body.len(),
        reason: error.to_string(),
    })?;
    // The guard and the codec agree on where the message ends; anything else is a bug of one of them.
    if body.is_empty() {
        return Ok(message);
    }
    Err(Error::Malformed {
        what: schema.name.to_owned(),
        at: length - body.len(),
        reason: "decoder stopped before the end".to_owned(),
    })
}

fn encode<E: Encodable>(
    message: &E,
    version: i16,
    head_bytes_max: usize,
    head: impl FnOnce(&mut BytesMut),
) -> Result<Bytes, Error> {
    let body_bytes = message.compute_size(version).map_err(|error| unencodable(&error.to_string()))?;
    framed(head_bytes_max + body_bytes, |frame| {
        head(frame);
        message.encode(frame, version).map_err(|error| unencodable(&error.to_string()))
    })
}

/// Puts the length prefix, which counts everything but itself, in front of what `fill` writes.
fn framed(bytes_max: usize, fill: impl FnOnce(&mut BytesMut) -> Result<(), Error>) -> Result<Bytes, Error> {
    let mut frame = BytesMut::with_capacity(crate::frame::PREFIX_BYTES + bytes_max);
    frame.put_i32(0);
    fill(&mut frame)?;
    let length = i32::try_from(frame.len() - crate::frame::PREFIX_BYTES);
    let length = length.map_err(|_| unencodable("message exceeds 2 GiB"))?;
    if let Some(prefix) = frame.first_chunk_mut() {
        *prefix = length.to_be_bytes();
    }
    Ok(frame.freeze())
}

fn is_request_head_flexible(key: i16, version: i16) -> Result<bool, Error> {
    if private::contains(key) {
        return Ok(false);
    }
    let api = ApiKey::try_from(key).map_err(|()| Error::Unsupported { key, version })?;
    Ok(api.request_header_version(version) >= 2)
}

fn is_response_head_flexible(key: i16, version: i16) -> Result<bool, Error> {
    if private::contains(key) {
        return Ok(false);
    }
    let api = ApiKey::try_from(key).map_err(|()| Error::Unsupported { key, version })?;
    Ok(api.response_header_version(version) >= 1)
}

fn in_range<M: Request>(version: i16) -> Result<(), Error> {
    match supported_versions::<M>() {
        Some((min, max)) if (min..=max).contains(&version) => Ok(()),
        _ => Err(Error::Unsupported { key: M::KEY, version }),
    }
}

#[cold]
fn malformed(what: &str, refusal: impl AsRef<Refusal>) -> Error {
    let refusal = refusal.as_ref();
    let path = refusal.path.iter().rev().fold(what.to_owned(), |path, name| path + "." + name);
    Error::Malformed { what: path, at: refusal.at, reason: refusal.reason.to_owned() }
}

#[cold]
fn unencodable(reason: &str) -> Error {
    Error::Malformed { what: "message to send".to_owned(), at: 0, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
