//! What is sent back, and the parts that all resources of this API have in common.

use super::Error;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

/// Carries a warning each. A header, because what warns has no body that clients of this API would look into.
const WARNING: HeaderName = HeaderName::from_static("hawser-warning");
/// Warnings of one answer; the daemon's log has all.
const WARNINGS_MAX: usize = 16;
/// One of them, in bytes.
const WARNING_BYTES_MAX: usize = 512;

/// Status, body and warnings.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// JSON.
    pub(super) body: Option<Bytes>,
    /// What was accepted although it has no effect.
    pub(super) warnings: Vec<String>,
}

/// A resource's place.
#[derive(Serialize)]
pub(super) struct Metadata {
    #[serde(rename = "self")]
    at: String,
    resource_name: Option<String>,
}

/// A list's place; lists are never cut into pages.
#[derive(Serialize)]
pub(super) struct ListMetadata {
    #[serde(rename = "self")]
    at: String,
    next: Option<String>,
}

/// One resource.
#[derive(Serialize)]
pub(super) struct Resource<T> {
    kind: &'static str,
    metadata: Metadata,
    #[serde(flatten)]
    data: T,
}

/// A list of resources.
#[derive(Serialize)]
pub(super) struct List<T> {
    kind: &'static str,
    metadata: ListMetadata,
    data: Vec<Resource<T>>,
}

impl<T> Resource<T> {
    /// `data` of that kind, found at `at`.
    pub(super) fn new(kind: &'static str, at: String, data: T) -> Self {
        Self { kind, metadata: Metadata { at, resource_name: None }, data }
    }
}

impl<T> List<T> {
    /// `data`, found at `at`.
    pub(super) fn new(kind: &'static str, at: String, data: Vec<Resource<T>>) -> Self {
        Self { kind, metadata: ListMetadata { at, next: None }, data }
    }
}

impl Answer {
    /// 200 with a body.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(super) fn json(body: &impl Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { status: StatusCode::OK, body: Some(bytes.into()), warnings: Vec::new() })
    }

    /// 204: done, and nothing to say.
    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None, warnings: Vec::new() }
    }

    /// 200 without a body.
    pub(super) fn empty() -> Self {
        Self { status: StatusCode::OK, body: None, warnings: Vec::new() }
    }

    /// The same with `warnings`.
    pub(super) fn warned(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let is_json = self.body.is_some();
        let mut response = Response::new(self.body.map_or_else(Body::empty, Body::from));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if is_json {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"hawser\""));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        for warning in self.warnings.iter().take(WARNINGS_MAX) {
            headers.append(WARNING, in_a_header(warning));
        }
        // Settings and states are nobody's to keep.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// `text` on one line of ASCII.
fn in_a_header(text: &str) -> HeaderValue {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let plain: String = text.chars().map(plain).take(WARNING_BYTES_MAX).collect();
    // Visible ASCII is what a header may hold.
    HeaderValue::from_str(&plain).unwrap_or_else(|_| HeaderValue::from_static("see the log of the daemon"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_stand_in_headers_and_have_bounds() {
        let warnings = (0..WARNINGS_MAX + 5).map(|n| format!("key {n}: ü\r\nSet-Cookie: a\0{}", "x".repeat(1000)));
        let response = Answer::no_content().warned(warnings.collect()).into_response();
        let shown: Vec<_> = response.headers().get_all(WARNING).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(shown.len(), WARNINGS_MAX);
        assert!(shown[1].starts_with("key 1: ???Set-Cookie: a?xxx"), "{}", shown[1]);
        assert!(shown.iter().all(|warning| warning.len() == WARNING_BYTES_MAX));
        assert!(response.headers().get("set-cookie").is_none());
    }
}
