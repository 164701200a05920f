//! A request under the mount, from any framework.

use std::fmt;
use std::net::IpAddr;

/// A request under the hub's mount, as read by an adapter: its headers and the last segment of its
/// path. Pass it to [`Hub::accept`](crate::Hub::accept).
#[derive(Clone)]
pub struct SessionRequest<'a> {
    name: &'a str,
    authority: Option<&'a str>,
    /// `None` until [`SessionRequest::principal`] is called.
    principal: Option<Option<&'a str>>,
    peer: Option<IpAddr>,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> SessionRequest<'a> {
    /// Creates a request with these headers, whose path ends in `name`.
    pub fn new(name: &'a str, headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        Self {
            name,
            authority: None,
            principal: None,
            peer: None,
            headers: headers.into_iter().collect(),
        }
    }

    /// Sets the authority of the request's URI, which replaces a missing `Host` header (HTTP/2).
    #[must_use]
    pub fn authority(self, authority: Option<&'a str>) -> Self {
        Self { authority, ..self }
    }

    /// Sets the address of the other end of the TCP connection, which is the client or a proxy.
    /// With `None` (the default) it is unknown, and the request counts for no address
    /// ([`Share`](crate::Share)).
    #[must_use]
    pub fn peer_address(self, peer: Option<IpAddr>) -> Self {
        Self { peer, ..self }
    }

    /// Sets the user who makes the request; `None` means that nobody is logged in. The hub's
    /// [`principal`](crate::HubBuilder::principal) is then not called.
    #[must_use]
    pub fn principal(self, principal: Option<&'a str>) -> Self {
        Self {
            principal: Some(principal),
            ..self
        }
    }

    /// Returns the last segment of the path: a session's id or a file's name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Returns the address that [`SessionRequest::peer_address`] set.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Returns the first header with this name whose value is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.all_headers(name).next()
    }

    /// Returns the cookie with this name, without decoding it.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let pairs = self
            .raw_headers("cookie")
            .flat_map(|header| header.split(|byte| *byte == b';'));
        // A header that is not valid text does not hide the others.
        pairs
            .filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='))
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// The protocols it offers: as a WebSocket's subprotocols, or as the type of a POST's body.
    pub(crate) fn protocols(&self) -> impl Iterator<Item = &'a str> {
        let subprotocols = self
            .all_headers("sec-websocket-protocol")
            .flat_map(|header| header.split(','));
        let body = self
            .header("content-type")
            .and_then(|header| header.strip_prefix("application/"));
        subprotocols.chain(body).map(str::trim)
    }

    pub(crate) fn all_headers(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.raw_headers(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the values of a header, including those that are not valid text.
    pub(crate) fn raw_headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let of_name = self
            .headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| *value)
    }

    pub(crate) fn host(&self) -> Option<&'a str> {
        self.header("host").or(self.authority)
    }

    pub(crate) fn known_principal(&self) -> Option<Option<&'a str>> {
        self.principal
    }
}

/// Omits the values of headers, because cookies are secrets.
impl fmt::Debug for SessionRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("SessionRequest")
            .field("name", &self.name)
            .field("authority", &self.authority)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

/// Returns the name that a request with this path asks for: the last segment, as it was sent. A
/// trailing slash, which path normalisation may append, is ignored.
pub fn name_of(path: &str) -> &str {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_last_segment_of_a_path() {
        for (path, name) in [
            ("/live/abc", "abc"),
            ("/live/abc/", "abc"),
            ("abc", "abc"),
            ("/live//", ""),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(name_of(path), name, "{path}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = [("cookie", "a=1; login=ada=x"), ("Cookie", "b=2")];
        let request = SessionRequest::new("", headers.map(|(name, value)| (name, value.as_bytes())));
        assert_eq!(request.cookie("login"), Some("ada=x"));
        assert_eq!(request.cookie("b"), Some("2"));
        assert_eq!(request.cookie("ogin"), None);
    }

    #[test]
    fn a_cookie_that_is_not_text_does_not_hide_the_others() {
        let headers = [
            ("cookie", &b"a=1; \xff=\xfe; login=ada; b=\xff"[..]),
            ("cookie", b"\xff; c=3"),
        ];
        let request = SessionRequest::new("", headers);
        let cookies = ["a", "login", "c", "b"].map(|name| request.cookie(name));
        assert_eq!(cookies, [Some("1"), Some("ada"), Some("3"), None]);
    }

    #[test]
    fn its_debug_text_shows_no_cookies() {
        let request = SessionRequest::new("id", [("cookie", &b"login=ada"[..]), ("authorization", b"Bearer ada")])
            .principal(Some("ada"));
        let shown = format!("{request:?} {request:#?}");
        assert!(
            shown.contains("cookie") && !shown.contains("ada") && !shown.contains("97, 100, 97"),
            "{shown}"
        );
    }
}
