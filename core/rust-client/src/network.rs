//! The default connector: opens WebSockets, and falls back to HTTP where they are blocked.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{Sink, Stream};
use stillhere_proto::wire::{Frame, Sender};
use tokio::time::{Sleep, sleep_until, timeout};

use crate::connection::{Connection, ConnectionError, Connector, Opening, Packet};
use crate::endpoint::Endpoint;
use crate::fallback::Fallback;
use crate::route::{Route, Routes};
use crate::shared::now;
use crate::websocket::WebSocket;

pub(crate) struct Network {
    endpoint: Endpoint,
    routes: Shared,
}

type Shared = Arc<Mutex<Routes>>;

impl Network {
    pub(crate) fn new(endpoint: Endpoint, route: Route) -> Self {
        let routes = Arc::new(Mutex::new(Routes::new(route)));
        Self { endpoint, routes }
    }
}

impl Connector for Network {
    fn connect(&mut self) -> Opening {
        let endpoint = self.endpoint.clone();
        let routes = Arc::clone(&self.routes);
        Box::pin(async move {
            let wait = lock(&routes).wait_until();
            if let Some(at) = wait {
                sleep_until(at.into()).await;
            }
            let (route, patience) = {
                let routes = lock(&routes);
                (routes.current(), routes.patience())
            };
            let mut judged = Judge {
                routes,
                route,
                heard_at: None,
                is_judged: false,
            };
            let opened = match patience {
                None => open(&endpoint, route).await,
                Some(patience) => timeout(patience, open(&endpoint, route))
                    .await
                    .unwrap_or(Err(ConnectionError::Silent)),
            };
            let inner = opened.inspect_err(|error| judged.fail(Some(error)))?;
            let patience = patience.map(|patience| Box::pin(tokio::time::sleep(patience)));
            let judged: Box<dyn Connection> = Box::new(Judged {
                inner,
                judge: judged,
                patience,
            });
            Ok(judged)
        })
    }
}

async fn open(endpoint: &Endpoint, route: Route) -> Result<Box<dyn Connection>, ConnectionError> {
    Ok(match route {
        Route::Any | Route::WebSocket => Box::new(WebSocket::open(endpoint).await?),
        Route::Streamed => Box::new(Fallback::new(endpoint, None)),
        Route::Polled => Box::new(Fallback::new(endpoint, Some(POLL_WAIT))),
    })
}

fn lock(routes: &Shared) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reports to the routes, once, how an attempt ended.
struct Judge {
    routes: Shared,
    route: Route,
    heard_at: Option<Instant>,
    is_judged: bool,
}

impl Judge {
    fn fail(&mut self, error: Option<&ConnectionError>) {
        if !self.is_judged {
            self.is_judged = true;
            lock(&self.routes).fail(self.route, error, now());
        }
    }

    fn hear(&mut self) {
        self.heard_at = Some(now());
        lock(&self.routes).succeed();
    }
}

/// A connection that reports whether the server answers on it.
struct Judged {
    inner: Box<dyn Connection>,
    judge: Judge,
    /// Fires when the server should have answered.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Connection for Judged {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

impl Stream for Judged {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.inner).poll_next(context);
        if self.judge.heard_at.is_some() {
            return next;
        }
        match &next {
            Poll::Ready(Some(Ok(Packet::Frame(frame)))) if is_answer(frame) => self.judge.hear(),
            Poll::Ready(Some(Err(error))) => self.judge.fail(Some(error)),
            Poll::Ready(_) => {}
            Poll::Pending => {
                let patience = self.patience.as_mut();
                if patience.is_some_and(|patience| patience.as_mut().poll(context).is_ready()) {
                    self.judge.fail(Some(&ConnectionError::Silent));
                    return Poll::Ready(Some(Err(ConnectionError::Silent)));
                }
            }
        }
        next
    }
}

impl Sink<Packet> for Judged {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        Pin::new(&mut self.inner).start_send(packet)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        let is_held_back =
            |heard: Instant| self.judge.route == Route::Streamed && now().saturating_duration_since(heard) < HELD_BACK;
        if self.judge.heard_at.is_none_or(is_held_back) {
            self.judge.fail(None);
        }
    }
}

/// Returns true for frames that a server sends only after it has read the hello.
fn is_answer(frame: &bytes::Bytes) -> bool {
    let frame = Frame::decode(frame.clone(), Sender::Server);
    matches!(frame, Ok(Frame::Offer | Frame::Welcome(_) | Frame::End(_)))
}

/// How long the answer to a poll may take. Messages that the client sends meanwhile wait as long.
const POLL_WAIT: Duration = Duration::from_millis(300);

/// A streamed answer that ends this soon after its first packet was buffered by a proxy.
const HELD_BACK: Duration = Duration::from_millis(100);
