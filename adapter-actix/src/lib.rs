#![doc = include_str!("../README.md")]

mod pipe;

use std::future::{Future, Ready, ready};
use std::net::IpAddr;
use std::{fmt, io};

use actix_web::body::MessageBody;
use actix_web::dev::Payload;
use actix_web::guard::fn_guard;
use actix_web::http::header::{
    CACHE_CONTROL, ContentType, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use actix_web::http::{ConnectionType, StatusCode, Version, uri::Authority};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, HttpResponseBuilder, Responder, Route};
use futures_util::TryStreamExt as _;
use stillhere::http_answer::Answer;
pub use stillhere::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::StreamReader;

use crate::pipe::pipe;

/// Returns the routes of `hub` under its mount, for [`App::configure`](actix_web::App::configure):
/// the client's files, the sessions' WebSockets, and the POSTs of the fallback.
///
/// Create the hub outside the closure that builds the `App`. Every worker calls the closure, and
/// all workers share one hub.
pub fn routes(hub: &Hub) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let of_routes = hub.clone();
    let handler = async |hub: web::Data<Hub>, request: HttpRequest, payload: web::Payload| {
        let uri = request.uri().clone();
        respond(&hub, name_of(uri.path()), request, payload, None::<Ready<_>>).await
    };
    move |config: &mut ServiceConfig| mount(&of_routes, web::to(handler), config)
}

/// Returns [`routes`] that determine the user with `principal`: a handler with any extractors,
/// called after your middleware has run. It is called whenever a page connects, over WebSockets and
/// over POSTs, in place of the hub's own [`principal`](HubBuilder::principal). `None`, or an
/// extractor that fails, means that nobody is logged in.
///
/// ```
/// # use actix_web::App;
/// # use stillhere_actix::{Hub, routes_for};
/// # /// Of a crate such as actix-session.
/// # struct Session;
/// # impl Session { fn get<T>(&self, _: &str) -> Result<Option<T>, std::io::Error> { Ok(None) } }
/// # impl actix_web::FromRequest for Session {
/// #     type Error = actix_web::Error;
/// #     type Future = std::future::Ready<Result<Self, Self::Error>>;
/// #     fn from_request(_: &actix_web::HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future { std::future::ready(Ok(Self)) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let hub = Hub::new();
/// let user = async |session: Session| session.get::<String>("user").ok().flatten();
/// let app = App::new().configure(routes_for(&hub, user));
/// # }
/// ```
pub fn routes_for<P, Args>(hub: &Hub, principal: P) -> impl FnOnce(&mut ServiceConfig) + use<P, Args>
where
    P: Handler<Args, Output = Option<String>>,
    Args: FromRequest + 'static,
{
    let of_routes = hub.clone();
    let handler = move |hub: web::Data<Hub>, request: HttpRequest, payload: web::Payload| {
        let principal = principal.clone();
        async move {
            let (uri, asked) = (request.uri().clone(), request.clone());
            let found = async move {
                match Args::from_request(&asked, &mut Payload::None).await {
                    Ok(extracted) => principal.call(extracted).await,
                    Err(error) => failed(&error.into()),
                }
            };
            respond(&hub, name_of(uri.path()), request, payload, Some(found)).await
        }
    };
    move |config: &mut ServiceConfig| mount(&of_routes, web::to(handler), config)
}

/// Serves `mount/name`, with or without a slash at the end.
///
/// A mount without special characters is a scope with a guard, because actix-web matches a path
/// with a parameter by a regular expression. That would take longer than all the rest of the
/// request.
fn mount(hub: &Hub, route: Route, config: &mut ServiceConfig) {
    let mount = hub.mount();
    let hub = web::Data::new(hub.clone());
    if mount.is_empty() || !mount.bytes().all(is_plain) {
        let path = format!("{mount}/{{name}}");
        config.service(web::resource([format!("{path}/"), path]).app_data(hub).route(route));
        return;
    }
    let scope = web::scope(mount).app_data(hub).default_service(route);
    let mount = mount.to_owned();
    config.service(scope.guard(fn_guard(move |context| {
        is_directly_under(&mount, context.head().uri.path())
    })));
}

/// Returns true for bytes that have no meaning in a path pattern, and the same form in each path.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)
}

/// Returns true if a path, which may have the prefix of other scopes before the mount, has one more
/// segment than the mount.
fn is_directly_under(mount: &str, path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.rsplit_once('/')
        .is_some_and(|(parent, name)| !name.is_empty() && parent.ends_with(mount))
}

/// Returns `None`: the visitor is not logged in, or middleware is missing.
fn failed(error: &actix_web::Error) -> Option<String> {
    if error.as_response_error().status_code().is_server_error() {
        tracing::error!(
            %error,
            "cannot determine the principal because its extractor failed: the middleware that it needs must wrap the routes"
        );
    }
    None
}

/// Answers a request to a route of your own, whose path ends in `name`: a session's WebSocket, the
/// POSTs that replace it, or one of the client's files. `principal` is the user who makes the
/// request; `None` means that nobody is logged in.
///
/// ```
/// # use actix_web::{HttpRequest, HttpResponse, web};
/// # use stillhere_actix::{Hub, answer};
/// # struct User { name: String }
/// # impl actix_web::FromRequest for User {
/// #     type Error = actix_web::Error;
/// #     type Future = std::future::Ready<Result<Self, Self::Error>>;
/// #     fn from_request(_: &actix_web::HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future { std::future::ready(Ok(Self { name: String::new() })) }
/// # }
/// async fn live(user: User, name: web::Path<String>, hub: web::Data<Hub>, request: HttpRequest, body: web::Payload) -> HttpResponse {
///     answer(&hub, &name, request, body, Some(&user.name)).await
/// }
/// # actix_web::App::new().route("/live/{name}", web::to(live));
/// ```
pub async fn answer(
    hub: &Hub,
    name: &str,
    request: HttpRequest,
    payload: web::Payload,
    principal: Option<&str>,
) -> HttpResponse {
    let principal = ready(principal.map(str::to_owned));
    respond(hub, name, request, payload, Some(principal)).await
}

async fn respond(
    hub: &Hub,
    name: &str,
    request: HttpRequest,
    payload: web::Payload,
    principal: Option<impl Future<Output = Option<String>>>,
) -> HttpResponse {
    let asked = SessionRequest::new(name, pairs(request.headers()))
        .authority(authority(&request))
        .peer_address(peer(&request));
    let asks_for_web_socket = matches!(asked.asks(request.method().as_str()), Asks::WebSocket { .. });
    if asks_for_web_socket && is_upgradable(&request) {
        let principal = match principal {
            Some(principal) => Some(guarded_principal(principal).await),
            None => None,
        };
        let upgrade = Upgrade::new(request, payload);
        return Upgrade { principal, ..upgrade }.serve(hub, name);
    }
    let method = request.method().as_str();
    let answer = match principal {
        Some(principal) => hub.answer_for(method, &asked, payload, principal).await,
        None => hub.answer(method, &asked, payload).await,
    };
    let mut response = response(answer);
    if request.head().upgrade() {
        // Not `Connection: upgrade`, because actix-web would repeat the header.
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// Returns one of the client's files, for applications that define the route themselves.
pub fn serve_file(name: &str, headers: &HeaderMap) -> HttpResponse {
    response(client::answer(&SessionRequest::new(name, pairs(headers))))
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

/// Extracts a WebSocket request for a session, for applications that define the route themselves.
/// Put your own extractors beside it, then call [`Upgrade::serve`].
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
    /// `None` until the application has called [`Upgrade::principal`].
    principal: Option<Option<String>>,
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
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let upgrade = |payload| Self::new(request.clone(), payload);
        ready(web::Payload::from_request(request, payload).into_inner().map(upgrade))
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

    /// Sets the user who makes the request, as your extractors determined it. The hub's own
    /// [`principal`](HubBuilder::principal) is then not called.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self {
            principal: Some(Some(principal.to_owned())),
            ..self
        }
    }

    /// Returns the response to the request. Then carries the session with this id over the
    /// WebSocket, or tells the browser over it why the session is refused.
    pub fn serve(self, hub: &Hub, id: &str) -> HttpResponse {
        let Self {
            request,
            payload,
            principal,
        } = self;
        let mut asked = SessionRequest::new(id, pairs(request.headers()))
            .authority(authority(&request))
            .peer_address(peer(&request));
        if let Some(principal) = &principal {
            asked = asked.principal(principal.as_deref());
        }
        let Asks::WebSocket { key } = asked.asks(request.method().as_str()) else {
            return HttpResponse::UpgradeRequired().body("the request does not ask for a WebSocket");
        };
        let accepted = match hub.accept(&asked) {
            Ok(accepted) => accepted,
            Err(error) => return HttpResponse::BadRequest().body(error.to_string()),
        };
        let mut response = HttpResponse::SwitchingProtocols();
        response.upgrade("websocket");
        response.insert_header((SEC_WEBSOCKET_ACCEPT, websocket::accept_key(key)));
        if let Some(protocol) = accepted.protocol() {
            response.insert_header((SEC_WEBSOCKET_PROTOCOL, protocol));
        }
        let (writer, body) = pipe();
        let reader = StreamReader::new(payload.map_err(io::Error::other));
        // The task runs on this worker, because actix's streams cannot leave their thread. A
        // session that starts here runs there too.
        actix_web::rt::spawn(carry(accepted.on_local_set(), tokio::io::join(reader, writer)));
        response.streaming(body)
    }
}

async fn carry(accepted: Accepted, io: impl AsyncRead + AsyncWrite + Unpin) {
    let connection = websocket::connection(io, Vec::new(), accepted.packet_limit());
    run_connection_loop(accepted, connection).await;
}

/// Returns true if actix-web passes on the bytes that follow the request. It does not over HTTP/2,
/// or if the request lists several protocols. A proxy that speaks HTTP/1.0 cannot carry a
/// WebSocket.
fn is_upgradable(request: &HttpRequest) -> bool {
    let mut protocols = request.headers().get_all(UPGRADE);
    request.version() == Version::HTTP_11
        && protocols.any(|protocol| protocol.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

fn peer(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip())
}

fn authority(request: &HttpRequest) -> Option<&str> {
    request.uri().authority().map(Authority::as_str)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// An HTML page that contains a ticket. It is sent with `Cache-Control: private, no-cache`, so that
/// no shared cache gives one user's session to another.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_what_is_one_segment_below_it() {
        for path in ["/live/abc", "/live/abc/", "/app/live/abc", "/live/%41"] {
            assert!(is_directly_under("/live", path), "{path}");
        }
        for path in ["/live", "/live/", "/live//", "/live/abc/d", "/live/abc//", "/alive/x/y"] {
            assert!(!is_directly_under("/live", path), "{path}");
        }
    }
}
