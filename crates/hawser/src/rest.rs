//! The REST face: the v3 paths of links and mirrors, so that clients of that API work unchanged. It translates requests to
//! [operations](crate::operations) and outcomes to its own bodies; who may do what is decided where operations are done.
//!
//! It stands in the binary and not in a crate of its own, because operations and the service that does them do: a crate
//! below could only reach them through a second description of both.
//!
//! What strangers can cost is bounded in `server` (connections, time, sizes) and `login` (no operation before it); what web
//! pages can have a browser ask stands in `site`.

mod answer;
mod clusters;
mod configs;
mod error;
mod links;
mod login;
mod mirrors;
mod routes;
mod server;
mod site;

pub(crate) use login::{Authentication, Doors};
pub(crate) use server::serve;
pub(crate) use site::Names;

use crate::operations::{Operation, Outcome};
use crate::service::Service;
use bytes::Bytes;
use error::Error;
use hawser_transport::Principal;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request whose sender is known and whose cluster is ours.
pub(crate) struct Asked {
    service: Arc<Service>,
    principal: Principal,
    cluster_id: String,
    /// `http://host:port/v3`, before every path in a body.
    base: String,
    /// What the path's `{placeholders}` stand for.
    path: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    body: Bytes,
}

impl Asked {
    /// Has `operation` done in the sender's name.
    ///
    /// # Errors
    /// Its refusal.
    async fn operate(&self, operation: Operation) -> Result<Outcome, Error> {
        Ok(self.service.execute(&self.principal, operation).await?)
    }

    /// A placeholder of the path. Empty only if the route has none of that name.
    fn named(&self, placeholder: &str) -> String {
        self.path.get(placeholder).cloned().unwrap_or_default()
    }

    fn link(&self) -> String {
        self.named("link_name")
    }

    /// A switch of the query.
    ///
    /// # Errors
    /// When it is neither `true` nor `false`.
    fn flag(&self, name: &str, default: bool) -> Result<bool, Error> {
        match self.query.get(name).map(|value| value.trim().to_ascii_lowercase()).as_deref() {
            None | Some("") => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(Error::unreadable(format!("{name}: expected true or false"))),
        }
    }

    /// The body as JSON; an absent one counts as `{}`.
    ///
    /// # Errors
    /// When it is not of that shape. What it holds is not repeated: settings hold secrets.
    fn body<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let body = if self.body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &self.body[..] };
        serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Error::unreadable(format!("The body {} (line {line}, column {column}).", flaw(&error)))
        })
    }

    /// Where a resource is: the cluster's path and then `rest`, as `metadata.self` shows it.
    fn at(&self, rest: &str) -> String {
        format!("{}/clusters/{}{rest}", self.base, segment(&self.cluster_id))
    }
}

/// What is wrong with a body, in words of ours: the reader's own may repeat a value.
fn flaw(error: &serde_json::Error) -> String {
    if error.classify() != serde_json::error::Category::Data {
        return "is not JSON".to_owned();
    }
    let said = error.to_string();
    let lacking = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let wanted = ["a string", "a boolean", "a sequence"].into_iter().find(|kind| {
        said.strip_prefix("invalid type: ")
            .and_then(|s| s.rsplit_once(", expected "))
            .is_some_and(|(_, s)| s.strip_prefix(kind).is_some_and(|rest| rest.starts_with(" at line ")))
    });
    match (lacking, wanted) {
        (Some(field), _) => format!("lacks {field}"),
        (None, Some(kind)) => format!("has no {} where one is needed", kind.trim_start_matches("a ")),
        (None, None) => "does not have the fields of this request".to_owned(),
    }
}

/// The daemon answered something else than the operation's outcome.
fn unexpected() -> Error {
    Error::internal("the outcome does not fit the operation")
}

/// `text` as one segment of a path.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                use std::fmt::Write as _;
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
