//! Who sends a request: HTTP Basic with the users of the Kafka listeners, or the subject of a client certificate. Nothing
//! is done, and no path looked at, for somebody unknown.

use super::{Error, Names};
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hawser_transport::{Passwords, Principal};
use std::net::SocketAddr;

/// Without a login.
const ANONYMOUS: &str = "User:ANONYMOUS";
/// Longest `Authorization` that is looked at, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 16 * 1024;

/// `hawser.rest.authentication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// A request names its sender.
    Basic,
    /// A request that does not is `User:ANONYMOUS`'s.
    None,
}

/// Lets requests in.
pub(crate) struct Doors {
    authentication: Authentication,
    passwords: Passwords,
    /// What this server is called.
    pub(super) names: Names,
}

/// The other end of a connection.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) peer: SocketAddr,
    /// Of the client certificate, if there is one.
    pub(super) principal: Principal,
}

impl Doors {
    /// Lets in whom `passwords` knows and whose request is for one of `names`.
    pub(crate) fn new(authentication: Authentication, passwords: Passwords, names: Names) -> Self {
        Self { authentication, passwords, names }
    }

    /// Who sends this request. What a request says of itself counts before what its connection says.
    ///
    /// # Errors
    /// 401: nobody, or somebody with a wrong password.
    pub(super) async fn sender(&self, visitor: &Visitor, headers: &HeaderMap) -> Result<Principal, Error> {
        if let Some(authorization) = headers.get(header::AUTHORIZATION) {
            let (user, password) = basic(authorization.as_bytes()).ok_or_else(Error::bad_login)?;
            let known = self.passwords.authenticate(&user, &password, visitor.peer.ip()).await;
            return known.ok_or_else(Error::bad_login);
        }
        match (visitor.principal.as_str(), self.authentication) {
            (ANONYMOUS, Authentication::Basic) => Err(Error::unauthenticated()),
            (ANONYMOUS, Authentication::None) | (_, _) => Ok(visitor.principal.clone()),
        }
    }
}

/// Name and password of `Basic BASE64(name:password)` (RFC 7617).
fn basic(header: &[u8]) -> Option<(String, String)> {
    let header = std::str::from_utf8(header).ok().filter(|h| h.len() <= CREDENTIALS_BYTES_MAX)?;
    let (scheme, token) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_read_and_nothing_else() {
        let encoded = |text: &[u8]| format!("Basic {}", STANDARD.encode(text));
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(basic(encoded(b"ann:se:cret").as_bytes()), pair("ann", "se:cret"));
        assert_eq!(basic(format!("bASIC  {}", STANDARD.encode("a:")).as_bytes()), pair("a", ""));
        let long = encoded(&[b'a'; CREDENTIALS_BYTES_MAX]);
        for bad in [&b"Bearer abc"[..], b"Basic", b"Basic ", b"Basic %%%", b"\xff\xfe", long.as_bytes()] {
            assert_eq!(basic(bad), None, "{bad:?}");
        }
        for bad in [&b"no colon"[..], b"\xff:\xff"] {
            assert_eq!(basic(encoded(bad).as_bytes()), None, "{bad:?}");
        }
    }
}
