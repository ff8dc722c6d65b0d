//! What is answered when something is not done: `{"error_code": …, "message": …}` with its HTTP status.

use super::answer::Answer;
use crate::operations::{Refusal, RefusalCode};
use axum::http::StatusCode;
use serde::Serialize;

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) status: StatusCode,
    pub(super) code: u32,
    pub(super) message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error_code: u32,
    message: &'a str,
}

impl Error {
    fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The request cannot be read.
    pub(super) fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 400, message)
    }

    /// The request breaks a rule.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 40002, message)
    }

    /// Nobody has logged in.
    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 401, "Unauthorized: log in with HTTP Basic or a client certificate.")
    }

    /// Somebody has tried to.
    pub(super) fn bad_login() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 40101, "Authentication failed.")
    }

    /// A web page of another site has a browser send it.
    pub(super) fn other_site() -> Self {
        Self::new(StatusCode::FORBIDDEN, 40301, "Requests of web pages from another site are not taken.")
    }

    /// It does not say what server it is meant for.
    pub(super) fn no_host() -> Self {
        Self::unreadable("A request has one Host: a name or an address, and perhaps a port.")
    }

    /// It is meant for a server of another name.
    pub(super) fn misdirected() -> Self {
        let message = "This server has another name: over http:// ask for an IP address, localhost, or a host of listeners \
                       or advertised.listeners.";
        Self::new(StatusCode::MISDIRECTED_REQUEST, 421, message)
    }

    /// There is no such path, cluster, link or setting.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, 404, message)
    }

    /// The path has no such verb.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 405, "HTTP 405 Method Not Allowed")
    }

    /// The sender or the daemon took too long.
    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, 408, message)
    }

    /// The body is larger than any request of this API.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 413, format!("A body may have at most {bytes_max} bytes."))
    }

    /// The request line and headers are larger than those of any request of this API.
    pub(super) fn head_too_large(bytes_max: usize) -> Self {
        let message = format!("A request line and its headers may have at most {bytes_max} bytes.");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, 431, message)
    }

    /// As many requests as there may be are being done.
    pub(super) fn too_many(requests_max: usize) -> Self {
        let message = format!("{requests_max} requests are being done: try again a little later.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, 429, message)
    }

    /// The daemon failed.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 500, message)
    }

    /// As it is sent.
    pub(super) fn into_answer(self) -> Answer {
        let body = Body { error_code: self.code, message: &self.message };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        Answer { status: self.status, body: Some(bytes.into()), warnings: Vec::new() }
    }
}

/// The one table from refusals to status and code.
pub(super) fn status_and_code(refusal: RefusalCode) -> (StatusCode, u32) {
    match refusal {
        RefusalCode::NotAuthorized | RefusalCode::LinkHasMirrors => (StatusCode::FORBIDDEN, 40301),
        RefusalCode::InvalidRequest
        | RefusalCode::InvalidLinkConfig
        | RefusalCode::RemoteLinkNotFound
        | RefusalCode::RemoteRefused
        | RefusalCode::TopicExists
        | RefusalCode::InvalidReplicationFactor
        | RefusalCode::InvalidTopicConfig => (StatusCode::BAD_REQUEST, 40002),
        RefusalCode::Unsupported | RefusalCode::TopicRenamingUnsupported => (StatusCode::BAD_REQUEST, 40035),
        RefusalCode::MirrorStopped | RefusalCode::MirrorStopping | RefusalCode::MirrorFailed => {
            (StatusCode::BAD_REQUEST, 400)
        }
        RefusalCode::LinkExists => (StatusCode::CONFLICT, 40902),
        RefusalCode::LinkNotFound | RefusalCode::VerificationNotFound => (StatusCode::NOT_FOUND, 404),
        RefusalCode::SourceTopicNotFound | RefusalCode::MirrorNotFound => (StatusCode::NOT_FOUND, 40403),
        // Clients of this API try again on this code.
        RefusalCode::LinkUnavailable => (StatusCode::INTERNAL_SERVER_ERROR, 50003),
        RefusalCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, 50002),
    }
}

impl From<Refusal> for Error {
    fn from(Refusal { code, message }: Refusal) -> Self {
        let (status, code) = status_and_code(code);
        Self { status, code, message }
    }
}
