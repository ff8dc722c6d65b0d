//! The one Kafka client: requests out in order, answers back in order, over any stream.
//!
//! One task drives a connection: it takes calls from a bounded queue, writes them, reads answers and hands each to its
//! caller, who decodes it in its own task. No lock, no second task, one wake-up per answer. The buffer of a large
//! answer is used again once the caller has dropped every slice of it.

mod driver;

use crate::frames::FrameReader;
use crate::security::TlsProblem;
use crate::stream::Stream;
use bytes::Bytes;
use driver::{Call, Driver};
use hawser_wire::api;
use hawser_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use hawser_wire::{DecodeError, Request, StrBytes};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Calls that wait for the driver: as many as may be in flight, so that it never runs dry.
const QUEUE: usize = driver::IN_FLIGHT_MAX;
/// Largest answer that a link takes from its source, in bytes, dialled or reversed. A fetch's own bounds are far below, but
/// a broker sends the first batch whole however large it is (KIP-74), and a site may have raised `message.max.bytes`.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;
/// Newest ApiVersions that is asked for; older brokers answer with what they have (KIP-511).
const API_VERSIONS: i16 = 3;
/// Largest answer to ApiVersions where nothing else is asked, in bytes: some hundred times what stock brokers answer.
const GREETING_BYTES_MAX: usize = 64 * 1024;
const UNSUPPORTED_VERSION: i16 = 35;

/// Why a request got no usable answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection is gone; lease another.
    #[error("connection closed: {0}")]
    Closed(String),
    /// No answer within the time-out; the connection is closed, as its order is lost.
    #[error("no answer to {api} within {after:?}")]
    Timeout {
        /// The request.
        api: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The peer does not speak any version that we do.
    #[error("peer does not support {api}")]
    Unsupported {
        /// The request.
        api: &'static str,
    },
    /// The answer is larger than this side accepts; the connection is closed.
    #[error("an answer of {length} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The answer's size, in bytes.
        length: usize,
        /// [`ClientOptions::response_bytes_max`].
        limit: usize,
    },
    /// The answer was not what it should be; the connection is closed.
    #[error("{0}")]
    Decode(Arc<DecodeError>),
    /// The peer ended the session and did not let us log in again; the connection is closed.
    #[error("re-authentication failed: {0}")]
    Reauthentication(String),
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(Arc::new(error))
    }
}

/// Bounds and names of a client connection.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `client.id` in every request.
    pub client_id: String,
    /// `request.timeout.ms`; a request may add its own wait (Fetch's `max_wait_ms`).
    pub request_timeout: Duration,
    /// Largest response frame that is accepted, in bytes.
    pub response_bytes_max: usize,
    /// `connections.max.idle.ms`: after so long without a request or an answer the connection is closed; `None`: never.
    pub idle_max: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_id: "hawser".to_owned(),
            request_timeout: Duration::from_secs(30),
            response_bytes_max: RESPONSE_BYTES_MAX,
            idle_max: None,
        }
    }
}

/// A Kafka connection that we send requests on: correlation, pipelining, time-outs and version
/// negotiation (ApiVersions is asked at start). Clones share the connection; it closes when the last
/// clone is dropped.
#[derive(Clone)]
pub struct KafkaClient {
    shared: Arc<Shared>,
}

struct Shared {
    calls: mpsc::Sender<Call>,
    closed: watch::Receiver<Option<ClientError>>,
    versions: BTreeMap<i16, (i16, i16)>,
    options: ClientOptions,
    next_id: AtomicI32,
}

impl KafkaClient {
    /// Takes a stream that is authenticated already (or needs no login) and asks for ApiVersions.
    /// The driver task ends with the last clone or the connection.
    ///
    /// # Errors
    /// When ApiVersions fails.
    pub async fn start(stream: Stream, options: ClientOptions) -> Result<Self, ClientError> {
        Self::start_until(stream, options, std::future::pending()).await
    }

    /// As [`start`](Self::start), and closes the connection under its users when `given_up` resolves, with the reason:
    /// also while ApiVersions is asked.
    ///
    /// # Errors
    /// When ApiVersions fails, or [`ClientError::Closed`] when it is given up before.
    pub async fn start_until(
        mut stream: Stream,
        options: ClientOptions,
        given_up: impl Future<Output = String> + Send + 'static,
    ) -> Result<Self, ClientError> {
        let mut frames = FrameReader::dialled(options.response_bytes_max);
        let timeout = options.request_timeout;
        let mut given_up = Box::pin(given_up);
        let asked = tokio::select! {
            asked = tokio::time::timeout(timeout, api_versions(&mut stream, &mut frames, &options.client_id)) => asked,
            reason = &mut given_up => return Err(ClientError::Closed(reason)),
        };
        let versions = asked.map_err(|_| ClientError::Timeout { api: "ApiVersions", after: timeout })??;
        let (calls, queue) = mpsc::channel(QUEUE);
        let (closing, closed) = watch::channel(None);
        tokio::spawn(Driver::new(stream, frames, queue, closing, &options).run(given_up));
        Ok(Self { shared: Arc::new(Shared { calls, closed, versions, options, next_id: AtomicI32::new(1) }) })
    }

    /// Sends `request` at the highest version both sides speak, not above `version_max`, and waits for the
    /// answer for `request_timeout + extra_wait`, and longer while it is coming. Returns the version used and the response.
    /// Cancel-safe: a dropped call's answer is read and thrown away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call<M: Request>(
        &self,
        request: &M,
        version_max: i16,
        extra_wait: Duration,
    ) -> Result<(i16, M::Response), ClientError> {
        self.call_within(request, version_max, self.shared.options.request_timeout.saturating_add(extra_wait)).await
    }

    /// As [`call`](Self::call), with a time-out of its own; it cannot end before that of a call that was made earlier.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call_within<M: Request>(
        &self,
        request: &M,
        version_max: i16,
        timeout: Duration,
    ) -> Result<(i16, M::Response), ClientError> {
        let api = api::name(M::KEY).unwrap_or("request");
        let version = self.version::<M>(version_max).ok_or(ClientError::Unsupported { api })?;
        let id = self.next_id();
        let frame = api::encode_request(version, id, &self.shared.options.client_id, request)?;
        let answer = self.send(api, id, frame, timeout).await?;
        let (_, body) = api::split_response(M::KEY, version, answer)?;
        Ok((version, api::decode_response::<M>(version, body)?))
    }

    /// As [`call`](Self::call) with the body already encoded (private keys, forwarded frames).
    /// The answer is what follows the response head (v0 head for private keys).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call_raw(
        &self,
        api_key: i16,
        api_version: i16,
        body: Bytes,
        extra_wait: Duration,
    ) -> Result<Bytes, ClientError> {
        let id = self.next_id();
        let frame = api::encode_raw_request(api_key, api_version, id, &self.shared.options.client_id, &body)?;
        let timeout = self.shared.options.request_timeout.saturating_add(extra_wait);
        let answer = self.send("forwarded request", id, frame, timeout).await?;
        let (_, body) = api::split_response(api_key, api_version, answer)?;
        Ok(body)
    }

    /// The version range that the peer offers for `api_key`.
    pub fn versions(&self, api_key: i16) -> Option<(i16, i16)> {
        self.shared.versions.get(&api_key).copied()
    }

    /// The version that [`call`](Self::call) would use.
    pub fn version<M: Request>(&self, version_max: i16) -> Option<i16> {
        let (min, max) = self.versions(M::KEY)?;
        let (ours_min, ours_max) = api::supported_versions::<M>()?;
        let version = max.min(ours_max).min(version_max);
        (version >= min.max(ours_min)).then_some(version)
    }

    /// Whether the connection is gone already.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.borrow().is_some() || self.shared.calls.is_closed()
    }

    /// Resolves when the connection is gone, with the reason. Does not keep the connection open.
    pub fn closed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut closed = self.shared.closed.clone();
        async move {
            match closed.wait_for(Option::is_some).await.map(|e| e.clone()) {
                Ok(Some(ClientError::Closed(reason))) => reason,
                Ok(Some(error)) => error.to_string(),
                _ => "given up by this side".to_owned(),
            }
        }
    }

    fn next_id(&self) -> i32 {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    async fn send(&self, api: &'static str, id: i32, frame: Bytes, after: Duration) -> Result<Bytes, ClientError> {
        let (answer, answered) = oneshot::channel();
        let call = Call { api, id, frame, after, deadline: Instant::now() + after, answer };
        if self.shared.calls.send(call).await.is_err() {
            return Err(self.why_closed());
        }
        answered.await.unwrap_or_else(|_| Err(self.why_closed()))
    }

    fn why_closed(&self) -> ClientError {
        let why = self.shared.closed.borrow().clone();
        match why {
            Some(closed @ ClientError::Closed(_)) => closed,
            Some(other) => ClientError::Closed(other.to_string()),
            None => ClientError::Closed("its task was stopped".to_owned()),
        }
    }
}

impl fmt::Debug for KafkaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaClient").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// Asks ApiVersions on a stream that others are to speak on, and leaves the stream as it was.
pub(crate) async fn greet(stream: &mut Stream, client_id: &str) -> Result<(), ClientError> {
    let mut frames = FrameReader::dialled(GREETING_BYTES_MAX);
    api_versions(stream, &mut frames, client_id).await?;
    stream.unread(frames.into_ahead());
    Ok(())
}

async fn api_versions(
    stream: &mut Stream,
    frames: &mut FrameReader,
    client_id: &str,
) -> Result<BTreeMap<i16, (i16, i16)>, ClientError> {
    let mut version = API_VERSIONS;
    loop {
        let mut request = ApiVersionsRequest::default();
        request.client_software_name = StrBytes::from_static_str("hawser");
        request.client_software_version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
        let frame = api::encode_request(version, 0, client_id, &request)?;
        let sent = async {
            stream.write_all(&frame).await?;
            stream.flush().await
        };
        sent.await.map_err(|e| closed_by(e.into()))?;
        let Some(answer) = frames.frame(stream).await.map_err(closed_by)? else {
            return Err(ClientError::Closed("the peer closed it instead of answering ApiVersions".to_owned()));
        };
        let (_, body) = api::split_response(ApiVersionsRequest::KEY, version, answer)?;
        // A broker that does not know this version answers as version 0 does, whatever was asked.
        let unsupported = body.first_chunk::<2>().map(|b| i16::from_be_bytes(*b)) == Some(UNSUPPORTED_VERSION);
        if unsupported && version > 0 {
            let offered = api::decode_response::<ApiVersionsRequest>(0, body)
                .ok()
                .and_then(|r| r.api_keys.iter().find(|k| k.api_key == ApiVersionsRequest::KEY).map(|k| k.max_version));
            version = offered.unwrap_or(0).clamp(0, version - 1);
            continue;
        }
        let response: ApiVersionsResponse = api::decode_response::<ApiVersionsRequest>(version, body)?;
        if response.error_code != 0 {
            return Err(ClientError::Closed(format!("ApiVersions failed with error {}", response.error_code)));
        }
        return Ok(response.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect());
    }
}

/// What a failed read or write means for the calls on a connection.
fn closed_by(error: crate::frames::FrameError) -> ClientError {
    use crate::frames::FrameError;
    match error {
        FrameError::TooLarge { length, limit } => ClientError::TooLarge { length, limit },
        FrameError::Tls => ClientError::Closed(crate::DialError::PeerIsTls.to_string()),
        FrameError::Io(e) => ClientError::Closed(TlsProblem::of(&e, "").map_or(e.to_string(), |p| p.to_string())),
        other => ClientError::Closed(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
