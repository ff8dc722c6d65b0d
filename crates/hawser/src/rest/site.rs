//! Which site a request is meant for, and which it comes from. Pages of any site can have a browser send requests to this
//! server, from inside the network and as whoever it takes the browser for. A page from elsewhere is known by `Origin`; one
//! whose own name was made to lead here (DNS rebinding) has an origin that fits, and is known by its name in `Host`.

use super::Error;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Version, header};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What this server is called.
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// `hosts` (names and addresses alike), and `localhost`.
    pub(crate) fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(hosts.into_iter().chain(["localhost"]).map(plain).collect())
    }

    /// Lets through what is meant for this server and comes from no page of another.
    ///
    /// # Errors
    /// 400 without one good `Host` (RFC 9112, 3.2); 421 when it is another's (RFC 9110, 7.4); 403 for another's page. Over TLS
    /// any host is ours: the certificate has shown the client who we are, before it sent its request.
    pub(super) fn admit(&self, request: &Request, is_tls: bool) -> Result<(), Error> {
        let host = host(request)?;
        if !is_tls && host.as_ref().is_some_and(|host| !self.are_of(host.host())) {
            return Err(Error::misdirected());
        }
        if is_of_another_site(request.headers(), host.as_ref()) {
            return Err(Error::other_site());
        }
        Ok(())
    }

    /// Addresses need not be known: nobody can make an address lead elsewhere.
    fn are_of(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok() || self.0.contains(&plain(host))
    }
}

/// Names are the same in upper and lower case, and with the dot of the root at their end.
fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// What the request says that it is meant for; HTTP/1.0 need not say it.
fn host(request: &Request) -> Result<Option<Authority>, Error> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(None),
        (Some(host), None) => {
            let host = host.to_str().ok().filter(|host| !host.contains('@')).and_then(|host| host.parse().ok());
            host.map(Some).ok_or_else(Error::no_host)
        }
        (None, _) | (Some(_), Some(_)) => Err(Error::no_host()),
    }
}

/// Browsers say where a request comes from that is not a mere look (Fetch standard, `Origin`); no other client does.
fn is_of_another_site(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    site.map(|(_, authority)| authority) != host.map(Authority::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    /// The status that a request with these headers is refused with, over TLS or not.
    fn refused(headers: &[(&str, &str)], is_tls: bool) -> Option<u16> {
        let names = Names::new(["Hub.example", "0.0.0.0"]);
        let request =
            headers.iter().fold(axum::http::Request::get("/v3/clusters"), |r, (name, value)| r.header(*name, *value));
        names.admit(&request.body(Body::empty()).unwrap(), is_tls).err().map(|error| error.status.as_u16())
    }

    #[test]
    fn requests_are_taken_under_our_names_and_any_address() {
        for (host, expected) in [
            ("localhost", None),
            ("LOCALHOST:8090", None),
            ("localhost.:8090", None),
            ("hub.example:8090", None),
            ("hub.EXAMPLE", None),
            ("127.0.0.1:8090", None),
            ("192.0.2.7", None),
            ("[::1]:8090", None),
            ("[2001:db8::7]", None),
            ("evil.example", Some(421)),
            ("evil.example:8090", Some(421)),
            ("hub.example.evil.example", Some(421)),
            ("localhost.evil.example", Some(421)),
            ("127.0.0.1.evil.example", Some(421)),
            ("hub", Some(421)),
            ("", Some(400)),
            ("a b", Some(400)),
            ("localhost/", Some(400)),
            ("evil@localhost", Some(400)),
            ("[::1", Some(400)),
        ] {
            assert_eq!(refused(&[("host", host)], false), expected, "{host}");
            let over_tls = expected.filter(|status| *status != 421);
            assert_eq!(refused(&[("host", host)], true), over_tls, "{host} over TLS");
        }
        assert_eq!(refused(&[], false), Some(400));
        assert_eq!(refused(&[("host", "localhost"), ("host", "localhost")], false), Some(400));
        let old = axum::http::Request::get("/").version(Version::HTTP_10).body(Body::empty()).unwrap();
        assert!(Names::new([]).admit(&old, false).is_ok());
    }

    #[test]
    fn pages_from_elsewhere_are_told_by_their_origin() {
        let from = |origin| refused(&[("host", "hub.example:8090"), ("origin", origin)], false);
        assert_eq!(from("http://hub.example:8090"), None);
        for origin in ["null", "", "http://evil.example", "http://hub.example", "http://hub.example:8090.evil.example"]
        {
            assert_eq!(from(origin), Some(403), "{origin}");
        }
    }
}
