#![doc = include_str!("../README.md")]

use std::{fmt, io};

use actix_web::body::MessageBody;
use actix_web::http::header::{
    CACHE_CONTROL, ContentType, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use actix_web::http::{ConnectionType, StatusCode, Version, uri::Authority};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder, Responder};
use futures_util::TryStreamExt as _;
pub use stillhere::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{ReaderStream, StreamReader};

/// The routes of `hub` under its mount: the client's files, and the sessions' WebSockets with the POSTs that stand in for them. For
/// [`App::configure`](actix_web::App::configure).
///
/// Build the hub outside the closure that makes the `App`: every worker calls that, and all of them share one hub.
pub fn routes(hub: &Hub) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let hub = web::Data::new(hub.clone());
    let handler = async |hub: web::Data<Hub>, request: HttpRequest, payload: web::Payload| {
        // As it was sent: `Path` would answer what cannot be decoded with a status that a browser's WebSocket cannot read.
        let uri = request.uri().clone();
        let name = name_of(uri.path());
        let asked = UpgradeRequest::new(name, pairs(request.headers())).authority(authority(&request));
        let asks_for_web_socket = matches!(asked.asks(request.method().as_str()), Asks::WebSocket { .. });
        if asks_for_web_socket && is_upgradable(&request) {
            return Upgrade::new(request, payload).serve(&hub, name);
        }
        let mut response = response(hub.answer(request.method().as_str(), &asked, payload).await);
        if request.head().upgrade() {
            // Not `Connection: upgrade`, as actix-web would repeat it.
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    };
    move |config: &mut ServiceConfig| {
        let path = format!("{}/{{name}}", hub.mount());
        let resource = web::resource([format!("{path}/"), path]);
        config.service(resource.app_data(hub).to(handler));
    }
}

/// One of the client's files, for people who own the route.
pub fn serve_file(name: &str, headers: &HeaderMap) -> HttpResponse {
    response(client::answer(&UpgradeRequest::new(name, pairs(headers))))
}

fn response(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).expect("the core's answers are valid HTTP");
    let mut response = HttpResponseBuilder::new(status);
    for header in answer.headers {
        response.insert_header(header);
    }
    match answer.body {
        AnswerBody::Whole(bytes) => response.body(bytes),
        AnswerBody::Stream(chunks) => response.streaming(chunks),
    }
}

/// Extracts a WebSocket request for a session, for people who own the route: put your own extractors beside it, then [`Upgrade::serve`].
///
/// ```
/// # use actix_web::{HttpResponse, web};
/// # use stillhere_actix::{Hub, Upgrade};
/// # struct User { name: String }
/// # impl actix_web::FromRequest for User {
/// #     type Error = actix_web::Error;
/// #     type Future = std::future::Ready<Result<Self, Self::Error>>;
/// #     fn from_request(_: &actix_web::HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future { std::future::ready(Ok(Self { name: String::new() })) }
/// # }
/// async fn socket(user: User, id: web::Path<String>, hub: web::Data<Hub>, upgrade: Upgrade) -> HttpResponse {
///     upgrade.principal(&user.name).serve(&hub, &id)
/// }
/// # actix_web::App::new().route("/live/{id}", web::get().to(socket));
/// ```
pub struct Upgrade {
    request: HttpRequest,
    payload: web::Payload,
    principal: Option<String>,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("uri", self.request.uri())
            .finish_non_exhaustive()
    }
}

impl FromRequest for Upgrade {
    type Error = actix_web::Error;
    type Future = std::future::Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut actix_web::dev::Payload) -> Self::Future {
        let upgrade = |payload| Self::new(request.clone(), payload);
        std::future::ready(web::Payload::from_request(request, payload).into_inner().map(upgrade))
    }
}

impl Upgrade {
    fn new(request: HttpRequest, payload: web::Payload) -> Self {
        Self {
            request,
            payload,
            principal: None,
        }
    }

    /// Who makes the request, as your extractors found: the hub's [`principal`](HubBuilder::principal) is then not asked.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self {
            principal: Some(principal.to_owned()),
            ..self
        }
    }

    /// Carries the session with this id over the WebSocket, or tells the browser why not. The answer to the request.
    pub fn serve(self, hub: &Hub, id: &str) -> HttpResponse {
        let Self {
            request,
            payload,
            principal,
        } = self;
        let asked = UpgradeRequest::new(id, pairs(request.headers()))
            .authority(authority(&request))
            .principal(principal.as_deref());
        let Asks::WebSocket { key } = asked.asks(request.method().as_str()) else {
            return HttpResponse::UpgradeRequired().body("not a WebSocket request");
        };
        let arrival = match hub.arrive(&asked) {
            Ok(arrival) => arrival,
            Err(error) => return HttpResponse::BadRequest().body(error.to_string()),
        };
        let mut response = HttpResponse::SwitchingProtocols();
        response.upgrade("websocket");
        response.insert_header((SEC_WEBSOCKET_ACCEPT, websocket::accept_key(key)));
        if let Some(protocol) = arrival.protocol() {
            response.insert_header((SEC_WEBSOCKET_PROTOCOL, protocol));
        }
        let (body, writer) = tokio::io::duplex(WRITE_BUFFER);
        let reader = StreamReader::new(payload.map_err(io::Error::other));
        // On this worker: actix's streams may not leave their thread. The session itself lives on the hub's runtime.
        actix_web::rt::spawn(carry(arrival, tokio::io::join(reader, writer)));
        response.streaming(ReaderStream::new(body))
    }
}

async fn carry(arrival: Arrival, io: impl AsyncRead + AsyncWrite + Unpin) {
    let connection = websocket::connection(io, Vec::new(), websocket::config(&arrival)).await;
    run_connection_loop(arrival, connection).await;
}

/// Whether actix-web hands over what follows the request: over HTTP/2 and to a list of protocols it
/// does not, and a proxy that speaks HTTP/1.0 carries no WebSocket.
fn is_upgradable(request: &HttpRequest) -> bool {
    let mut protocols = request.headers().get_all(UPGRADE);
    request.version() == Version::HTTP_11
        && protocols.any(|protocol| protocol.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

fn authority(request: &HttpRequest) -> Option<&str> {
    request.uri().authority().map(Authority::as_str)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// An HTML page that carries a ticket: `Cache-Control: private, no-cache`, so that no cache hands one user's session to another.
#[derive(Debug, Clone)]
pub struct Page<T>(pub T);

impl<T: MessageBody + 'static> Responder for Page<T> {
    type Body = T;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse<T> {
        let mut response = HttpResponse::Ok();
        response.content_type(ContentType::html());
        response.insert_header((CACHE_CONTROL, client::PAGE_CACHE_CONTROL));
        response.message_body(self.0).expect("the headers are valid")
    }
}

/// How much may wait for the browser's socket to take it.
const WRITE_BUFFER: usize = 16 * 1024;
