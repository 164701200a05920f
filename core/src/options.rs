//! Options of a single session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stillhere_proto::Limits;
use stillhere_proto::machine::Timing;

/// Options of a single session, which override its hub's defaults.
///
/// ```
/// use stillhere::{Renewal, SessionOptions};
///
/// let mut options = SessionOptions::default();
/// options.restore = Some("editor".to_owned());
/// options.renewal = Renewal::Off;
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Size limits; [`Limits`] lists the defaults.
    pub limits: Limits,
    /// Time limits; [`Timing`] lists the defaults.
    pub timing: Timing,
    /// Keeps the session when its page is reloaded, under this label. Default `None`: a reload gets
    /// a new session.
    pub restore: Option<String>,
    /// Where the page gets a new ticket if its own is not accepted. Default: from the page itself,
    /// which is fetched again.
    pub renewal: Renewal,
    /// Compresses messages of at least this many bytes, if that makes them smaller, and accepts
    /// compressed messages. Default `None`: neither. A session that receives a compressed message
    /// then ends with [`EndReason::Malformed`](crate::EndReason::Malformed).
    pub compress_from: Option<usize>,
    /// The user to whom the session belongs. Every connection must come from this user; see
    /// [`HubBuilder::principal`](crate::HubBuilder::principal). Default `None`: anyone who has the
    /// ticket may connect.
    pub principal: Option<Arc<str>>,
    /// Address of the client that requested the session's page, from
    /// [`Hub::client_address`](crate::Hub::client_address). It limits how many sessions of one
    /// address wait for their first browser; see [`Share`](crate::Share). Default `None`: the
    /// session counts for no address.
    pub address: Option<IpAddr>,
    /// Makes the session plain, for clients with a protocol of their own; see [`PlainOptions`].
    /// Default `None`: the session is for the stillhere client.
    pub plain: Option<PlainOptions>,
}

/// Where a page gets a new ticket if its own is not accepted, because it came from a cache, or
/// because the server has restarted or had no room.
/// [`SessionHandle::script_tag`](crate::SessionHandle::script_tag) writes this into the tag. A page
/// that calls `connect` passes it there, as `from`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewal {
    /// The client fetches the page again. The page must answer a `GET` with a new ticket, as a page
    /// handler does. This does not work for a page that is the response to a form, nor under
    /// `require-trusted-types-for 'script'`, where a script may not read a page.
    #[default]
    Page,
    /// The client sends a `POST` to this address, which answers with a ticket as JSON.
    Address(String),
    /// There are no new tickets. The client reports `refused` or `ended`, and the page must show
    /// that.
    Off,
}

impl Renewal {
    /// Returns the value of the attribute on the client's element, not yet quoted.
    pub(crate) fn attribute(&self) -> Option<&str> {
        match self {
            Self::Page => None,
            // The attribute value `none` has another meaning, so this writes the same address
            // differently.
            Self::Address(address) if address == "none" => Some("./none"),
            Self::Address(address) => Some(address),
            Self::Off => Some("none"),
        }
    }
}

/// Makes a session *plain*: one binary WebSocket message is one application message, with nothing
/// added. This is for clients with a protocol of their own, such as a robot, or a page that brings
/// its own JavaScript.
///
/// A plain client connects to [`SessionHandle::url`](crate::SessionHandle::url) without a
/// subprotocol. **It needs only the id of the session: anyone who knows the URL has access.** The
/// Origin and, if the session has one, the principal are checked as always.
///
/// - *What is kept*: messages sent while no client is connected wait in the outbox. The next client
///   gets them in order, before newer messages.
/// - *What may be lost*: messages are not acknowledged, so those that are in transit in either
///   direction when a connection breaks may be lost. No message arrives twice. A message counts as
///   delivered once it has been handed to the connection.
/// - *Takeover*: the newest client gets the session. The previous one is closed with
///   [`Code::Superseded`](crate::code::Code::Superseded) and must not reconnect on its own.
/// - *Back-pressure* is that of the connection: while the application does not read, the server
///   does not read from the client.
/// - *Keep-alive*: a client that is silent for one heartbeat is sent a WebSocket ping, which every
///   WebSocket implementation answers. A client that is silent for two heartbeats is closed with
///   [`Code::Silent`](crate::code::Code::Silent). A slow client that still reads what was sent is
///   not silent.
/// - *Violations* end the connection and not the session, which waits for the next client:
///   [`Code::Malformed`](crate::code::Code::Malformed) for text (see [`PlainText`]) and for data
///   that cannot be inflated, [`Code::TooLarge`](crate::code::Code::TooLarge) for a message above a
///   limit.
/// - *Limits*: [`Limits::message`] bounds a message on the wire, and without compression the
///   message itself. With compression [`Limits::inflated`] bounds the message itself, in both
///   directions.
/// - [`SessionOptions::restore`] and [`SessionOptions::compress_from`] have no effect. Both lanes
///   are sent on the one connection; messages from the client arrive on the interactive lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlainOptions {
    /// How text messages are handled. Default: refused.
    pub text: PlainText,
    /// How each message is compressed. Default: not at all.
    pub compression: PlainCompression,
}

/// How text messages from a plain client are handled. Messages from the session are always binary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainText {
    /// Closes the connection with [`Code::Malformed`](crate::code::Code::Malformed).
    #[default]
    Refuse,
    /// Passes the bytes of the text, which are UTF-8, to the application. Text is never inflated.
    AsBytes,
}

/// How each message of a plain session is compressed, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainCompression {
    /// Messages are not compressed.
    #[default]
    None,
    /// One zlib stream (RFC 1950) for each message.
    Zlib,
    /// One gzip member (RFC 1952) for each message.
    Gzip,
}

impl SessionOptions {
    /// Returns the options, clamped to values that cause neither overflows nor busy loops.
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

    /// Returns the limits that apply between the session and its document. The messages of a plain
    /// session are compressed only on the way to the client.
    pub(crate) fn session_limits(&self) -> Limits {
        Limits {
            message: self.session_message_limit(),
            ..self.limits
        }
    }

    /// Returns the largest message of [`SessionOptions::session_limits`].
    #[inline]
    pub(crate) fn session_message_limit(&self) -> u64 {
        let is_compressed = |plain: PlainOptions| plain.compression != PlainCompression::None;
        if self.plain.is_some_and(is_compressed) {
            self.limits.inflated
        } else {
            self.limits.message
        }
    }
}

/// One year: effectively unlimited, and safe to add to any time.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(1);
