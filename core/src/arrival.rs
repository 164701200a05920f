//! A connection asks to be let in: what is decided before its first frame.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;

use crate::code::Code;
use crate::hub::{Hub, HubInner, PendingHello};
use crate::id::SessionId;
use crate::request::UpgradeRequest;
use crate::session::Shared;
use crate::wire::{End, SUBPROTOCOL};

/// The request names no `stillhere.*` protocol to a session that is not plain: answer it with HTTP 400 and this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is a stillhere session: connect with the WebSocket subprotocol {SUBPROTOCOL}, or by POSTs of application/{SUBPROTOCOL}"
)]
pub struct NotOurProtocol;

/// A connection that is to be carried by [`run_connection_loop`](crate::run_connection_loop), even if only to be told why not.
#[must_use]
pub struct Arrival {
    pub(crate) protocol: Option<String>,
    pub(crate) admitted: Result<Admitted, End>,
    pub(crate) hub: Arc<HubInner>,
}

pub(crate) struct Admitted {
    pub(crate) session: Arc<Shared>,
    pub(crate) pending: PendingHello,
}

impl Arrival {
    /// The subprotocol to select in the answer. `None` if the client of a plain session offered none of ours: then none is selected.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The most bytes one packet of this connection may have: the transport should refuse more.
    pub fn packet_limit(&self) -> usize {
        let limit = match &self.admitted {
            Ok(Admitted { session, .. }) if session.plain.is_some() => session.limits().message,
            Ok(Admitted { session, .. }) => session.limits().fragment + crate::wire::DATA_HEADER_MAX as u64,
            Err(_) => PACKET_MIN,
        };
        usize::try_from(limit.max(PACKET_MIN)).unwrap_or(usize::MAX)
    }

    /// The most bytes of one packet that goes out.
    #[cfg(feature = "websocket")]
    pub(crate) fn largest_sent(&self) -> usize {
        let limit = match &self.admitted {
            Ok(Admitted { session, .. }) if session.plain.is_some() => {
                crate::compression::most_deflated(session.options().session_limits().message)
            }
            _ => self.packet_limit() as u64,
        };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.admitted.as_ref().err();
        f.debug_struct("Arrival")
            .field("protocol", &self.protocol)
            .field("refused", &refused)
            .finish()
    }
}

impl Hub {
    /// Judges a request for a session: a WebSocket's, the first of the fallback, or what agrees on a connection of your own. Whatever is wrong
    /// beyond the protocol is told over the connection, because a browser cannot read the status of a failed WebSocket.
    ///
    /// # Errors
    /// [`NotOurProtocol`]: not to be carried. Requests that name none of our protocols are for plain sessions, or for sessions that are not here.
    pub fn arrive(&self, request: &UpgradeRequest<'_>) -> Result<Arrival, NotOurProtocol> {
        let offered = || request.protocols();
        let ours = offered().find(|protocol| *protocol == SUBPROTOCOL);
        let protocol = ours.or_else(|| offered().find(|protocol| protocol.starts_with("stillhere.")));
        if protocol.is_none() && self.is_durable(request.name()) {
            return Err(NotOurProtocol);
        }
        Ok(Arrival {
            protocol: protocol.map(str::to_owned),
            admitted: self.admit(request, protocol),
            hub: Arc::clone(&self.inner),
        })
    }

    /// Whether this is the id of a session that is here, and not plain.
    fn is_durable(&self, name: &str) -> bool {
        let session = SessionId::from_str(name).ok().and_then(|id| self.inner.find(&id));
        session.is_some_and(|session| session.plain.is_none())
    }

    fn admit(&self, request: &UpgradeRequest<'_>, protocol: Option<&str>) -> Result<Admitted, End> {
        if let Err(text) = check_origin(request, &self.inner.config.origins) {
            tracing::warn!(%text, "connection refused");
            return Err(refusal(Code::Forbidden, text));
        }
        if protocol.is_some_and(|protocol| protocol != SUBPROTOCOL) {
            return Err(refusal(
                Code::Version,
                format!("this server speaks {SUBPROTOCOL}: reload the page"),
            ));
        }
        let id = SessionId::from_str(request.name()).map_err(|error| refusal(Code::Unknown, error.to_string()))?;
        let Some(session) = self.inner.find(&id) else {
            return Err(self.inner.epitaph(&id));
        };
        if session.plain.is_some() && protocol.is_some() {
            let text = "this is a plain session: connect without a subprotocol";
            return Err(refusal(Code::Version, text.to_owned()));
        }
        if let Some(owner) = session.principal()
            && !self.inner.is_principal(&id, owner, request)
        {
            tracing::warn!(session = %id, "connection refused: not the user the session was opened for");
            let text = "this session belongs to another user: log in as the one who opened the page, or reload it";
            return Err(refusal(Code::Forbidden, text.to_owned()));
        }
        let Some(pending) = self.inner.admit_hello() else {
            return Err(End {
                retry_after: 1000,
                ..refusal(Code::Busy, "too many connections are waiting".to_owned())
            });
        };
        Ok(Admitted { session, pending })
    }
}

pub(crate) fn refusal(code: Code, text: String) -> End {
    End {
        code: code as u64,
        reason: 0,
        retry_after: 0,
        text,
    }
}

/// Same host, or one of those allowed. No Origin at all is no browser.
pub(crate) fn check_origin(request: &UpgradeRequest<'_>, allowed: &[String]) -> Result<(), String> {
    let Some(origin) = request.header("origin") else {
        return Ok(());
    };
    let origin = origin.to_ascii_lowercase();
    let host = request.host().unwrap_or_default().to_ascii_lowercase();
    let same_host = origin.split_once("://").is_some_and(|(scheme, authority)| {
        without_default_port(authority, scheme) == without_default_port(&host, scheme)
    });
    if same_host || allowed.contains(&origin) {
        return Ok(());
    }
    Err(format!(
        "a page of {origin} may not connect to {host}: if a proxy changed the Host header let it keep it, else allow the origin on the hub"
    ))
}

fn without_default_port<'a>(authority: &'a str, scheme: &str) -> &'a str {
    let default = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(default).unwrap_or(authority)
}

/// What even a connection without a session may send.
const PACKET_MIN: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(origin: Option<&'a str>, host: &'a str) -> UpgradeRequest<'a> {
        let headers = [("Origin", origin), ("Host", Some(host))];
        let headers = headers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?.as_bytes())));
        UpgradeRequest::new("", headers)
    }

    #[test]
    fn the_authority_stands_for_a_missing_host() {
        let without = UpgradeRequest::new("", [("origin", &b"https://example.com"[..])]);
        assert!(check_origin(&without, &[]).is_err());
        assert_eq!(check_origin(&without.authority(Some("example.com")), &[]), Ok(()));
    }

    #[test]
    fn a_page_of_the_same_host_may_connect() {
        for (origin, host) in [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("http://Example.com:8080", "example.com:8080"),
            ("http://[::1]:3000", "[::1]:3000"),
        ] {
            assert_eq!(
                check_origin(&request(Some(origin), host), &[]),
                Ok(()),
                "{origin} {host}"
            );
        }
        assert_eq!(check_origin(&request(None, "example.com"), &[]), Ok(()));
    }

    #[test]
    fn a_foreign_page_may_not_connect_unless_allowed() {
        for origin in [
            "http://evil.com",
            "http://example.com:81",
            "null",
            "",
            "http://example.com.evil.com",
        ] {
            assert!(
                check_origin(&request(Some(origin), "example.com"), &[]).is_err(),
                "{origin}"
            );
        }
        let allowed = ["https://app.example.com".to_owned()];
        assert_eq!(
            check_origin(&request(Some("https://app.example.com"), "example.com"), &allowed),
            Ok(())
        );
    }
}
