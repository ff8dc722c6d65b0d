//! What is sent back, and the parts that all resources of this API have in common.

use super::Error;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

/// Status and body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// JSON.
    pub(super) body: Option<Bytes>,
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
        Ok(Self { status: StatusCode::OK, body: Some(bytes.into()) })
    }

    /// 204: done, and nothing to say.
    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }

    /// 200 without a body.
    pub(super) fn empty() -> Self {
        Self { status: StatusCode::OK, body: None }
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
        // Settings and states are nobody's to keep.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
