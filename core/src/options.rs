//! What one session may differ in from its hub's defaults.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stillhere_proto::Limits;
use stillhere_proto::machine::Timing;

/// What one session may differ in from its hub's defaults.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Sizes. See [`Limits`] for the defaults.
    pub limits: Limits,
    /// Waits. See [`Timing`] for the defaults.
    pub timing: Timing,
    /// Keep the session over a reload of its page, under this label. `None` (the default): a reload gets a fresh session.
    pub restore: Option<String>,
    /// Where the page gets a new ticket if its own is not accepted. Default: from the page itself,
    /// fetched again.
    pub renewal: Renewal,
    /// Compress messages of at least this many bytes, if that makes them smaller, and accept
    /// compressed messages. `None` (the default): neither. A session that receives a compressed
    /// message then ends as [`EndReason::Malformed`](crate::EndReason::Malformed).
    pub compress_from: Option<usize>,
    /// Whose session it is. Only connections of this user are let in, each time anew; see [`HubBuilder::principal`](crate::HubBuilder::principal).
    /// `None` (the default): whoever has the ticket.
    pub principal: Option<Arc<str>>,
    /// The address of the client that asked for the session's page, from
    /// [`Hub::client_address`](crate::Hub::client_address). It limits how many sessions of one address wait for their first
    /// browser; see [`Share`](crate::Share). `None` (the default): the session counts for no address.
    pub address: Option<IpAddr>,
    /// For clients with a protocol of their own: see [`PlainOptions`]. `None` (the default): the session is for our client.
    pub plain: Option<PlainOptions>,
}

/// Where a page gets a new ticket if its own is not accepted, because it came from a cache, or
/// because the server has restarted or had no room.
/// [`SessionHandle::script_tag`](crate::SessionHandle::script_tag) writes this into the tag. A page
/// that calls `connect` passes it there, as `from`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewal {
    /// The page, fetched again. It must answer a `GET` with a new ticket, as a page handler does.
    /// This does not work for a page that is the response to a form, nor under
    /// `require-trusted-types-for 'script'`, where a script may not read a page.
    #[default]
    Page,
    /// An address that answers a `POST` with a ticket as JSON.
    Address(String),
    /// Nowhere: the page gets `refused` or `ended`, and has to show it.
    Off,
}

impl Renewal {
    /// The attribute of the client's element, without its quotes.
    pub(crate) fn attribute(&self) -> Option<&str> {
        match self {
            Self::Page => None,
            // The same address, which means something else by itself.
            Self::Address(address) if address == "none" => Some("./none"),
            Self::Address(address) => Some(address),
            Self::Off => Some("none"),
        }
    }
}

/// Makes a session *plain*: one WebSocket message is one application message, binary, nothing added. For clients with a protocol of their own,
/// such as a robot, or a page that brings its own JavaScript.
///
/// Such a client connects to [`SessionHandle::url`](crate::SessionHandle::url) without a subprotocol. **The session's id is all it needs: whoever
/// knows the URL has the session.** Origin and, if the session has one, the principal are checked as always.
///
/// - *What is kept*: messages sent while no client is connected wait in the outbox and are handed to the next client, in order, before anything newer.
/// - *What is not*: nothing acknowledges messages, so what was on its way when a connection broke, in either direction, may be lost; nothing
///   arrives twice. A message is taken for delivered once it has been given to the connection.
/// - *Takeover*: the newest client has the session. The one before is closed with [`Code::Superseded`](crate::Code::Superseded) and must not come
///   back by itself.
/// - *Back-pressure* is the connection's own: while the application does not read, nothing is read from the client.
/// - *Signs of life*: a client that has been quiet for a heartbeat is sent a WebSocket ping, which every WebSocket answers by itself; one that is
///   quiet for two is given up with [`Code::Silent`](crate::Code::Silent). That a slow client takes what was sent counts as a sign.
/// - *Refusals* cost the connection and not the session, which waits for the next client: [`Code::Malformed`](crate::Code::Malformed) for text (see
///   [`PlainText`]) and for what cannot be inflated, [`Code::TooLarge`](crate::Code::TooLarge) for what is above a limit.
/// - *Limits*: [`Limits::message`] is what a message may have on the wire and, without compression, altogether. With compression a message itself
///   may have [`Limits::inflated`], in either direction.
/// - [`SessionOptions::restore`] and [`SessionOptions::compress_from`] have no meaning here. Both lanes come out of the one connection; what the
///   client sends comes on the interactive one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlainOptions {
    /// What becomes of text messages. Default: refused.
    pub text: PlainText,
    /// Whether messages are compressed, each as a whole. Default: not.
    pub compression: PlainCompression,
}

/// What becomes of a plain client's text messages. What the session sends is always binary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainText {
    /// The connection is closed with [`Code::Malformed`](crate::Code::Malformed).
    #[default]
    Refuse,
    /// The application gets its bytes, which are UTF-8. They are never inflated.
    AsBytes,
}

/// How each message of a plain session is compressed, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainCompression {
    /// Not at all.
    #[default]
    None,
    /// As one zlib stream (RFC 1950).
    Zlib,
    /// As one gzip member (RFC 1952).
    Gzip,
}

impl SessionOptions {
    /// The same options with what would lead to overflow or to a busy loop brought back to sense.
    pub(crate) fn normalised(mut self) -> Self {
        self.limits = self.limits.normalised();
        let Timing {
            heartbeat,
            probe,
            hello,
            ending,
        } = self.timing;
        self.timing = Timing {
            heartbeat: heartbeat.clamp(SHORTEST_HEARTBEAT, LONGEST_WAIT),
            probe: probe.map(|probe| probe.min(LONGEST_WAIT)),
            hello: hello.min(LONGEST_WAIT),
            ending: ending.min(LONGEST_WAIT),
        };
        if self.plain.is_some() {
            self.restore = None;
            self.compress_from = None;
        }
        self
    }

    /// The limits of the session's messages as they are between the session and its document: a plain session's are compressed, if at all, only
    /// on their way to the client.
    pub(crate) fn session_limits(&self) -> Limits {
        let is_compressed = |plain: PlainOptions| plain.compression != PlainCompression::None;
        let message = if self.plain.is_some_and(is_compressed) {
            self.limits.inflated
        } else {
            self.limits.message
        };
        Limits { message, ..self.limits }
    }
}

/// As good as for ever, and can be added to any time without overflow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(1);
