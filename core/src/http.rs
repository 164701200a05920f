//! Answers the HTTP requests under the mount: the client's files, preflights, and the POSTs of the
//! fallback.

use std::future::{Future, Ready};
use std::sync::Once;

use bytes::{Buf, Bytes};
use futures_util::Stream;

use crate::asks::Asks;
use crate::client;
use crate::fallback::answer_post;
use crate::http_answer::{Answer, AnswerBody};
use crate::hub::Hub;
use crate::origin::check_origin;
use crate::request::SessionRequest;

impl Hub {
    /// Answers a request with any method under the mount that does not [ask](SessionRequest::asks)
    /// for a WebSocket: for one of the client's files, or for the fallback.
    ///
    /// At most 1 MiB of the request's `body` is read, for at most 10 s. The status of the answer
    /// (400, 404, 405, 408, 410, 413, 426 or 429) reports a problem with the request. A problem
    /// with the session or the user is reported by an `end` frame in an answer with status 200.
    ///
    /// The future of a polled answer waits until there is something to send, for as long as the
    /// request allows and at most 20 s. Drop it when the browser disconnects. The connection is
    /// then lost, as when an [`AnswerBody::Stream`] is dropped.
    pub async fn answer<C, B, E>(&self, method: &str, request: &SessionRequest<'_>, body: C) -> Answer
    where
        C: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        self.respond(method, request, body, None::<Ready<_>>).await
    }

    /// Does the same as [`Hub::answer`], for applications that determine the user asynchronously.
    /// `principal` is polled only if the request opens a connection, and replaces the hub's
    /// [`principal`](crate::HubBuilder::principal). `None` means that nobody is logged in.
    pub async fn answer_for<C, B, E>(
        &self,
        method: &str,
        request: &SessionRequest<'_>,
        body: C,
        principal: impl Future<Output = Option<String>>,
    ) -> Answer
    where
        C: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        self.respond(method, request, body, Some(principal)).await
    }

    async fn respond<C, B, E>(
        &self,
        method: &str,
        request: &SessionRequest<'_>,
        body: C,
        principal: Option<impl Future<Output = Option<String>>>,
    ) -> Answer
    where
        C: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        match request.asks(method) {
            Asks::Answer => {}
            Asks::Nothing => return Answer::not_found(),
            Asks::WebSocket { .. } | Asks::ExtendedConnect => return cannot_upgrade(),
        }
        let mut answer = match method {
            "POST" => answer_post(self, request, body, principal).await,
            "OPTIONS" => preflight(),
            "GET" | "HEAD" => return client::answer(request),
            _ => return not_allowed(),
        };
        answer.headers.extend(self.cross_origin(request));
        answer
    }

    /// Returns the headers that let a page of an allowed origin read the answer.
    fn cross_origin(&self, request: &SessionRequest<'_>) -> Vec<(&'static str, String)> {
        let mut headers = vec![("vary", "origin".to_owned())];
        let allowed = check_origin(request, &self.inner.config.origins).is_ok();
        if let Some(origin) = request.header("origin").filter(|_| allowed) {
            headers.push(("access-control-allow-origin", origin.to_owned()));
            headers.push(("access-control-allow-credentials", "true".to_owned()));
            headers.push(("access-control-expose-headers", "retry-after".to_owned()));
        }
        headers
    }
}

fn preflight() -> Answer {
    let headers = [
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-max-age", "600"),
    ];
    Answer {
        status: 204,
        headers: headers.map(|(name, value)| (name, value.to_owned())).into(),
        body: AnswerBody::Whole(Bytes::new()),
    }
}

/// Answers a request for a WebSocket that the adapter could not upgrade. Warns only once, because
/// peers can repeat the request at any rate.
fn cannot_upgrade() -> Answer {
    static WARNED: Once = Once::new();
    let text = "this connection cannot be upgraded to a WebSocket: a proxy speaks HTTP/1.0 to this server \
        (as nginx does without `proxy_http_version 1.1`), or a layer around the routes replaces the request";
    WARNED.call_once(|| tracing::warn!("{text}"));
    Answer::text(426, text)
}

fn not_allowed() -> Answer {
    let mut answer = Answer::text(405, "use GET, or POST for the fallback");
    answer.headers.push(("allow", "GET, HEAD, OPTIONS, POST".to_owned()));
    answer
}
