//! Close codes and end reasons: why a connection or a session ended (PROTOCOL.md, section 11).

use std::fmt;
use std::sync::Arc;

/// Why a connection ended. The peer reads the code in the `end` frame and as the WebSocket close
/// code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Code {
    /// This server has no such session: it never existed, or it ended too long ago.
    Unknown = 4100,
    /// The secret does not match the session.
    WrongSecret = 4101,
    /// The session has ended.
    Ended = 4102,
    /// Another document has taken over the session.
    Superseded = 4103,
    /// The document that carries the session is still alive on another connection.
    Duplicate = 4104,
    /// The Origin or host is not allowed, or the session belongs to another user.
    Forbidden = 4105,
    /// The client and the server have no protocol version in common.
    Version = 4106,
    /// The peer sent a frame that the protocol calls malformed.
    Malformed = 4107,
    /// The peer exceeded a size limit.
    TooLarge = 4108,
    /// The peer sent more than its credit allows.
    Flood = 4109,
    /// The server is shutting down.
    Draining = 4200,
    /// The server has reached its limit of sessions.
    Full = 4201,
    /// Another document is already waiting to take over the session, or too many connections have
    /// not sent their hello.
    Busy = 4202,
    /// The hello or the confirm did not arrive in time.
    HelloDeadline = 4300,
    /// The peer was silent for two heartbeats.
    Silent = 4301,
    /// The same document has opened a newer connection.
    Replaced = 4302,
    /// A sequence number was skipped, or a frame sent before a ping did not arrive.
    Gap = 4303,
    /// The hello is older than one that was already accepted.
    Stale = 4400,
}

/// What a client does after a close code. The class depends only on the hundreds of the code, so it
/// is defined for unknown codes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Never present this ticket again.
    Never,
    /// Try again after the time in the `end` frame.
    Later,
    /// Reconnect.
    Now,
    /// Do nothing, unless the connection was the current one.
    Ignore,
}

impl Class {
    /// Returns the class of a close code, whether or not the code is known.
    pub const fn of(code: u64) -> Self {
        match code {
            4100..=4199 => Self::Never,
            4200..=4299 => Self::Later,
            4400..=4499 => Self::Ignore,
            _ => Self::Now,
        }
    }
}

/// Why a session ended. Every session ends exactly once, for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The application's function returned.
    Finished,
    /// The application closed the session and gave this text.
    Closed(Arc<str>),
    /// The application aborted the session and gave this text.
    Aborted(Arc<str>),
    /// No browser connected in time, or the page gave its ticket back.
    NeverConnected,
    /// The session had no connection for too long, or a cleanup policy closed it.
    Expired,
    /// The connection was lost, and the cleanup policy does not keep disconnected sessions.
    Disconnected,
    /// The hub exceeded its memory limit.
    MemoryPressure,
    /// The server is shutting down.
    Draining,
    /// The application's function panicked.
    Panicked,
    /// The peer violated the protocol.
    Malformed,
    /// The peer exceeded a size limit.
    TooLarge,
    /// The peer sent more than its credit allows.
    Flood,
    /// The hub had no room for the session when it was opened.
    Full,
}

impl EndReason {
    /// Returns the reason's number on the wire, from 1.
    pub const fn number(&self) -> u64 {
        match self {
            Self::Finished => 1,
            Self::Closed(_) => 2,
            Self::Aborted(_) => 3,
            Self::NeverConnected => 4,
            Self::Expired => 5,
            Self::Disconnected => 6,
            Self::MemoryPressure => 7,
            Self::Draining => 8,
            Self::Panicked => 9,
            Self::Malformed => 10,
            Self::TooLarge => 11,
            Self::Flood => 12,
            Self::Full => 13,
        }
    }

    /// Returns the close code for the connection on which the session ends.
    pub const fn code(&self) -> Code {
        match self {
            Self::Draining => Code::Draining,
            Self::Malformed => Code::Malformed,
            Self::TooLarge => Code::TooLarge,
            Self::Flood => Code::Flood,
            Self::Full => Code::Full,
            _ => Code::Ended,
        }
    }

    /// Returns the close code for every other connection: those that arrive later, and those that
    /// are waiting for the session.
    pub const fn code_for_others(&self) -> Code {
        match self {
            Self::Draining => Code::Draining,
            Self::Full => Code::Full,
            _ => Code::Ended,
        }
    }

    /// Returns the text that the application gave when it closed or aborted the session; empty for
    /// all other reasons.
    pub fn text(&self) -> &str {
        match self {
            Self::Closed(text) | Self::Aborted(text) => text,
            _ => "",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "the application's function returned",
            Self::Closed(text) if text.is_empty() => "closed by the application",
            Self::Aborted(text) if text.is_empty() => "aborted by the application",
            Self::Closed(text) => return write!(f, "closed by the application: {text}"),
            Self::Aborted(text) => return write!(f, "aborted by the application: {text}"),
            Self::NeverConnected => "no browser connected in time",
            Self::Expired => "disconnected for too long",
            Self::Disconnected => "disconnected, and the cleanup policy does not keep disconnected sessions",
            Self::MemoryPressure => "the server exceeded its memory limit for sessions",
            Self::Draining => "the server is shutting down",
            Self::Panicked => "the application's function panicked",
            Self::Malformed => "the peer violated the protocol",
            Self::TooLarge => "the peer exceeded a size limit",
            Self::Flood => "the peer sent more than its credit allows",
            Self::Full => "the server had no room for the session",
        })
    }
}
