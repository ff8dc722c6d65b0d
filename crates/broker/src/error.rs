//! Why something that was asked for was not done.

use hawser_wire::ResponseError;
use std::fmt::Display;

/// A refusal: Kafka's code, and what is wrong in words that name it (`ApiError`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// As clients get it.
    pub code: ResponseError,
    /// As an operator reads it.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Where the code says it all.
    pub(crate) fn of(code: ResponseError) -> Self {
        let message = match code {
            ResponseError::UnknownTopicOrPartition => "This server does not host this topic-partition.",
            ResponseError::UnknownTopicId => "This server does not host this topic ID.",
            ResponseError::TopicAuthorizationFailed => "Topic authorization failed.",
            ResponseError::ClusterAuthorizationFailed => "Cluster authorization failed.",
            ResponseError::GroupAuthorizationFailed => "Group authorization failed.",
            _ => return Self::new(code, format!("{code:?}")),
        };
        Self::new(code, message)
    }

    pub(crate) fn storage(error: &dyn Display) -> Self {
        Self::new(ResponseError::KafkaStorageError, error.to_string())
    }

    pub(crate) fn unfinished(ended: &dyn Display) -> Self {
        Self::new(ResponseError::UnknownServerError, format!("the change was not finished: {ended}"))
    }
}
