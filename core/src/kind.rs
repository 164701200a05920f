//! The kind of connection that a page uses.

use crate::base_url::base_url;

/// How a page reaches its session: the kind of connection and the address. The functions given to
/// [`Hub::register_connection`](crate::Hub::register_connection) return it.
///
/// A kind of your own has three parts:
///
/// 1. In the page, a script of yours that calls `stillhere.registerConnection(name, open)`. The
///    client calls `open` whenever it needs a connection. [`ConnectionSetup::script`] adds the
///    script to [`SessionHandle::script_tag`](crate::SessionHandle::script_tag).
/// 2. On the server, a function that decides which pages use the kind, given to
///    [`Hub::register_connection`](crate::Hub::register_connection).
/// 3. Also on the server, a route or socket of yours on which the connections arrive. It builds a
///    [`SessionRequest`](crate::SessionRequest) for the session's id, asks
///    [`Hub::accept`](crate::Hub::accept), and gives what it returns, with any `Stream + Sink` of
///    [`Packet`](crate::connection::Packet)s, to
///    [`run_connection_loop`](crate::run_connection_loop). The connection must be ordered and
///    reliable until it fails. For a transport that is not a `Stream + Sink`, use a
///    [`connection_pair`](crate::connection_pair) as a bridge.
///
/// In this example the pages of users who are logged in use WebRTC and all others WebSockets. To
/// the server, a data channel is two queues of byte strings:
///
/// ```
/// use futures_util::{SinkExt as _, StreamExt as _};
/// use stillhere::wire::SUBPROTOCOL;
/// use stillhere::connection::Packet;
/// use stillhere::{ConnectionSetup, Hub, NotOurProtocol, SessionRequest, connection_pair, run_connection_loop};
/// use tokio::sync::mpsc::{Receiver, Sender};
///
/// struct DataChannel {
///     /// Headers of the request that negotiated the channel: the hub checks the origin and the
///     /// user by them, as for a WebSocket.
///     headers: Vec<(&'static str, Vec<u8>)>,
///     from_page: Receiver<Vec<u8>>,
///     to_page: Sender<Vec<u8>>,
/// }
///
/// /// Carries the session with this id until the channel or the session is over.
/// async fn carry(hub: &Hub, id: &str, mut channel: DataChannel) -> Result<(), NotOurProtocol> {
///     let headers = channel.headers.iter().map(|(name, value)| (*name, &value[..]));
///     let protocol = ("sec-websocket-protocol", SUBPROTOCOL.as_bytes());
///     let accepted = hub.accept(&SessionRequest::new(id, headers.chain([protocol])))?;
///     let (ours, mut theirs) = connection_pair(16);
///     let bridge = async move {
///         loop {
///             tokio::select! {
///                 bytes = channel.from_page.recv() => {
///                     // Returning drops `theirs`, so the connection is lost.
///                     let Some(bytes) = bytes else { return };
///                     // If the session accepts no more, it may still send its last frames.
///                     let _ = theirs.send(Packet::Binary(bytes.into())).await;
///                 }
///                 packet = theirs.next() => match packet {
///                     Some(Ok(Packet::Binary(bytes))) => drop(channel.to_page.send(bytes.into()).await),
///                     Some(Ok(_)) => {} // a close code, which the last frame contains too
///                     Some(Err(_)) | None => return,
///                 },
///             }
///         }
///     };
///     tokio::join!(run_connection_loop(accepted, ours), bridge);
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hub = Hub::new();
/// hub.register_connection(|session| {
///     session.principal()?;
///     Some(ConnectionSetup::named("webrtc").script("/webrtc.js"))
/// });
///
/// let ada = hub.open_for("ada", |session| async move { drop(session) });
/// assert!(ada.ticket_json().contains(r#""connection":"webrtc""#));
/// assert!(ada.script_tag().ends_with(r#"<script src="/webrtc.js"></script>"#));
/// let anybody = hub.open(|session| async move { drop(session) });
/// assert!(!anybody.ticket_json().contains("connection"));
/// # let headers = [("origin", "https://example.com"), ("host", "example.com")];
/// # let headers = headers.map(|(name, value)| (name, value.as_bytes().to_vec())).to_vec();
/// # let (from_browser, from_page) = tokio::sync::mpsc::channel(4);
/// # let (to_page, mut to_browser) = tokio::sync::mpsc::channel(4);
/// # from_browser.send(b"no hello".to_vec()).await.expect("there is room");
/// # let (id, channel) = (anybody.id().to_string(), DataChannel { headers, from_page, to_page });
/// # let (carried, told) = tokio::join!(carry(&hub, &id, channel), async {
/// #     let told: Vec<u8> = to_browser.recv().await.expect("it is told why not");
/// #     drop(from_browser);
/// #     told
/// # });
/// # carried.expect("our protocol was offered");
/// # use stillhere::wire::{End, Frame, Sender as From};
/// # let malformed = stillhere::code::Code::Malformed as u64;
/// # assert!(matches!(Frame::decode(told.into(), From::Server), Ok(Frame::End(End { code, .. })) if code == malformed));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ConnectionSetup {
    pub(crate) kind: Kind,
    url: Option<String>,
    pub(crate) script: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    WebSocket,
    Named(String),
    /// No connection: the page has no server.
    None,
}

impl ConnectionSetup {
    /// Uses a WebSocket, the default. For another address, see [`ConnectionSetup::url`].
    pub fn web_socket() -> Self {
        Self::of(Kind::WebSocket)
    }

    /// Uses the kind that a script of the page registers under this name with
    /// `stillhere.registerConnection`.
    ///
    /// # Panics
    /// Panics if the name is empty, `none` or `websocket`, which are reserved.
    pub fn named(name: &str) -> Self {
        assert!(
            !["", "none", "websocket"].contains(&name),
            "the name {name:?} of a connection kind is reserved"
        );
        Self::of(Kind::Named(name.to_owned()))
    }

    /// Uses no connection: the page has no server, as in a static export. Its ticket has no secret,
    /// and the client reports `refused` as `NoServer`.
    ///
    /// The page does not use its session: [`abort`](crate::SessionHandle::abort) it once the page
    /// is rendered, or it stays until its cleanup policy ends it. For a page without a session, use
    /// [`static_script_tag`](crate::static_script_tag).
    pub fn none() -> Self {
        Self::of(Kind::None)
    }

    /// Sets where this page finds the mount, instead of at the hub's
    /// [`public_url`](crate::HubBuilder::public_url), whose rules apply. The session is at
    /// `<url>/<session id>`, and the client's file is loaded from there too.
    ///
    /// # Panics
    /// Panics if [`public_url`](crate::HubBuilder::public_url) would.
    #[track_caller]
    pub fn url(self, base: &str) -> Self {
        let url = Some(base_url(base).to_owned());
        Self { url, ..self }
    }

    /// Sets the URL of a script that calls `stillhere.registerConnection`.
    /// [`SessionHandle::script_tag`](crate::SessionHandle::script_tag) contains an element for it
    /// after the client's. A page that does not use the tag loads the script itself.
    pub fn script(self, src: &str) -> Self {
        let script = Some(src.to_owned());
        Self { script, ..self }
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            url: None,
            script: None,
        }
    }

    /// Returns where the page finds the mount. The hub's is at `base`.
    pub(crate) fn base<'a>(&'a self, base: &'a str) -> &'a str {
        self.url.as_deref().unwrap_or(base)
    }

    /// Returns the name for the ticket, which has none for WebSockets.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::WebSocket => None,
            Kind::Named(name) => Some(name),
            Kind::None => Some("none"),
        }
    }
}
