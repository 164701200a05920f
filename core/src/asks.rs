//! Decides what a request under the mount asks for, in the same way for every framework.

use std::str::FromStr as _;

use crate::client;
use crate::http_answer::Answer;
use crate::request::SessionRequest;
use stillhere_proto::SessionId;

/// What a request under the mount asks for. Returned by [`SessionRequest::asks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asks<'a> {
    /// A WebSocket over HTTP/1.1 (RFC 6455, section 4.2.1).
    WebSocket {
        /// Value of the `Sec-WebSocket-Key` header.
        key: &'a str,
    },
    /// A WebSocket over HTTP/2 (RFC 8441), which has no key.
    ExtendedConnect,
    /// A request that [`Hub::answer`](crate::Hub::answer) handles: one of the client's files, or an
    /// address of the fallback, with any method.
    Answer,
    /// Nothing that the mount serves. [`Hub::answer`](crate::Hub::answer) answers it with 404; a
    /// router may try its other routes first.
    Nothing,
}

impl<'a> SessionRequest<'a> {
    /// Decides what a request with this method asks for. The headers `Connection` and `Upgrade`
    /// count only if all other parts of a WebSocket handshake are there, because proxies add them
    /// to every request.
    pub fn asks(&self, method: &str) -> Asks<'a> {
        let has_version = self.lists("sec-websocket-version", VERSION);
        match method {
            "GET" if self.names_web_socket() && has_version => {
                if let Some(key) = self.header("sec-websocket-key") {
                    return Asks::WebSocket { key };
                }
            }
            // A plain CONNECT has no path, so it reaches no route.
            "CONNECT" if has_version => return Asks::ExtendedConnect,
            _ => {}
        }
        if self.is_known() || method == "POST" && self.is_fallback() {
            Asks::Answer
        } else {
            Asks::Nothing
        }
    }

    /// Returns the answer to a GET that is an incomplete WebSocket handshake (RFC 6455, section
    /// 4.2.2) and names none of the client's files.
    pub(crate) fn handshake_error(&self) -> Option<Answer> {
        if !self.names_web_socket() {
            return None;
        }
        if self.lists("sec-websocket-version", VERSION) {
            return Some(Answer::text(400, "the WebSocket request has no Sec-WebSocket-Key"));
        }
        let mut answer = Answer::text(426, "the WebSocket version is not 13");
        answer.headers.push(("upgrade", "websocket".to_owned()));
        answer.headers.push(("sec-websocket-version", VERSION.to_owned()));
        Some(answer)
    }

    /// Returns true if the body belongs to the fallback, in any version.
    fn is_fallback(&self) -> bool {
        let kind = self.header("content-type");
        kind.is_some_and(|kind| kind.starts_with("application/stillhere."))
    }

    /// Returns true if the last part of the path is the id of a session, here or elsewhere, or the
    /// name of a file.
    fn is_known(&self) -> bool {
        SessionId::from_str(self.name()).is_ok() || client::is_file(self.name())
    }

    fn names_web_socket(&self) -> bool {
        self.lists("connection", "upgrade") && self.lists("upgrade", "websocket")
    }

    fn lists(&self, name: &str, expected: &str) -> bool {
        let values = self.all_headers(name).flat_map(|value| value.split(','));
        values.map(str::trim).any(|value| value.eq_ignore_ascii_case(expected))
    }
}

/// Version of the WebSocket protocol (RFC 6455, section 4.1).
const VERSION: &str = "13";

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ID: &str = "AAECAwQFBgcICQoLDA0ODw";

    fn asks<'a>(method: &str, name: &'a str, headers: &[(&'a str, &'a str)]) -> Asks<'a> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        SessionRequest::new(name, headers).asks(method)
    }

    #[test]
    fn a_web_socket_is_asked_for_by_all_of_its_headers() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let whole = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            KEY,
        ];
        assert_eq!(asks("GET", ID, &whole), Asks::WebSocket { key });
        for left_out in 0..whole.len() {
            let mut headers = whole.to_vec();
            headers.remove(left_out);
            assert_eq!(asks("GET", ID, &headers), Asks::Answer, "without {:?}", whole[left_out]);
            assert_eq!(asks("GET", "other", &headers), Asks::Nothing);
        }
        assert_eq!(asks("POST", ID, &whole), Asks::Answer);
    }

    #[test]
    fn over_http_2_a_web_socket_is_asked_for_by_its_version() {
        let version = [("sec-websocket-version", "13")];
        assert_eq!(asks("CONNECT", "any", &version), Asks::ExtendedConnect);
        assert_eq!(asks("CONNECT", "any", &[]), Asks::Nothing);
    }

    #[test]
    fn sessions_and_files_are_known_by_their_names_and_posts_by_their_type() {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "PUT"] {
            assert_eq!(asks(method, ID, &[]), Asks::Answer);
            assert_eq!(asks(method, "client.mjs", &[("upgrade", "h2c")]), Asks::Answer);
            assert_eq!(asks(method, "login", &[("content-type", "text/plain")]), Asks::Nothing);
        }
        let ours = [("content-type", "application/stillhere.v2")];
        assert_eq!(asks("POST", "no-id", &ours), Asks::Answer);
        assert_eq!(asks("PUT", "no-id", &ours), Asks::Nothing);
    }
}
