//! Connections of other kinds: which one a page is told to make.

use crate::base_url::base_url;

/// How one page reaches its session: by which kind of connection, and where. What a kind's condition answers, see
/// [`Hub::register_connection`](crate::Hub::register_connection).
///
/// A kind of one's own has three parts:
///
/// 1. In the page, a script of the application's that calls `stillhere.registerConnection(name, open)`. The client calls `open` whenever it wants a
///    connection. [`ConnectionSetup::script`] puts the script into [`SessionHandle::script_tag`](crate::SessionHandle::script_tag).
/// 2. On the server, the condition under which pages use the kind: a function given to [`Hub::register_connection`](crate::Hub::register_connection).
/// 3. Also on the server, where connections come in: a route or socket of the application's. It builds an
///    [`UpgradeRequest`](crate::UpgradeRequest) for the session's id, asks [`Hub::arrive`](crate::Hub::arrive), and gives the arrival, with any
///    `Stream + Sink` of [`Packet`](crate::Packet)s, to [`run_connection_loop`](crate::run_connection_loop). The connection must be ordered and
///    reliable while it lives. A transport that is no `Stream + Sink` is bridged by a [`connection_pair`](crate::connection_pair).
///
/// Here the pages of users talk over WebRTC, all others over WebSockets. To the server a data channel is two queues of byte strings:
///
/// ```
/// use futures_util::{SinkExt as _, StreamExt as _};
/// use stillhere::wire::SUBPROTOCOL;
/// use stillhere::{ConnectionSetup, Hub, NotOurProtocol, Packet, UpgradeRequest, connection_pair, run_connection_loop};
/// use tokio::sync::mpsc::{Receiver, Sender};
///
/// struct DataChannel {
///     /// Of the request that negotiated it, so that the page's origin is checked, and its user by their cookie, as for a WebSocket.
///     headers: Vec<(&'static str, Vec<u8>)>,
///     from_page: Receiver<Vec<u8>>,
///     to_page: Sender<Vec<u8>>,
/// }
///
/// /// Carries the session with this id until the channel or the session is over.
/// async fn carry(hub: &Hub, id: &str, mut channel: DataChannel) -> Result<(), NotOurProtocol> {
///     let headers = channel.headers.iter().map(|(name, value)| (*name, &value[..]));
///     let protocol = ("sec-websocket-protocol", SUBPROTOCOL.as_bytes());
///     let arrival = hub.arrive(&UpgradeRequest::new(id, headers.chain([protocol])))?;
///     let (ours, mut theirs) = connection_pair(16);
///     let bridge = async move {
///         loop {
///             tokio::select! {
///                 bytes = channel.from_page.recv() => {
///                     // To drop `theirs` is to lose the connection.
///                     let Some(bytes) = bytes else { return };
///                     // A session that takes no more may still have something to say.
///                     let _ = theirs.send(Packet::Binary(bytes.into())).await;
///                 }
///                 packet = theirs.next() => match packet {
///                     Some(Ok(Packet::Binary(bytes))) => drop(channel.to_page.send(bytes.into()).await),
///                     Some(Ok(_)) => {} // a close code, which the last frame tells too
///                     Some(Err(_)) | None => return,
///                 },
///             }
///         }
///     };
///     tokio::join!(run_connection_loop(arrival, ours), bridge);
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
/// # let malformed = stillhere::Code::Malformed as u64;
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
    /// A page without a server behind it.
    None,
}

impl ConnectionSetup {
    /// A WebSocket: what a page gets if nothing else is registered. For another address, see [`ConnectionSetup::url`].
    pub fn web_socket() -> Self {
        Self::of(Kind::WebSocket)
    }

    /// The kind that the page's scripts registered under this name with `stillhere.registerConnection`.
    ///
    /// # Panics
    /// If the name is empty, `none` or `websocket`: those are taken.
    pub fn named(name: &str) -> Self {
        assert!(
            !["", "none", "websocket"].contains(&name),
            "a connection kind cannot be named {name:?}"
        );
        Self::of(Kind::Named(name.to_owned()))
    }

    /// No connection: the page is rendered to be kept, as a static export is, and will have no server. Its ticket has no secret, and the client
    /// reports `refused` as `NoServer`.
    ///
    /// The page's session is of no use then: [`abort`](crate::SessionHandle::abort) it once the page is rendered, or it waits in vain until its cleanup
    /// policy frees it. Where none is opened in the first place, use [`static_script_tag`](crate::static_script_tag).
    pub fn none() -> Self {
        Self::of(Kind::None)
    }

    /// Where this page finds the mount, instead of the hub's [`public_url`](crate::HubBuilder::public_url), which says what may
    /// stand here. The session is at `<url>/<session id>`; the client's file is loaded from there too.
    ///
    /// # Panics
    /// As [`public_url`](crate::HubBuilder::public_url) does.
    #[track_caller]
    pub fn url(self, base: &str) -> Self {
        let url = Some(base_url(base).to_owned());
        Self { url, ..self }
    }

    /// The URL of a script of the application's that calls `stillhere.registerConnection`. [`SessionHandle::script_tag`](crate::SessionHandle::script_tag) has an element for it right
    /// behind the client's; a page that does not use the tag loads it itself.
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

    /// Where the page finds the mount, which the hub says is at `base`.
    pub(crate) fn base<'a>(&'a self, base: &'a str) -> &'a str {
        self.url.as_deref().unwrap_or(base)
    }

    /// The name as the ticket has it: that of WebSockets is left out.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::WebSocket => None,
            Kind::Named(name) => Some(name),
            Kind::None => Some("none"),
        }
    }
}
