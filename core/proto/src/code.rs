//! Why a connection or a session is over: close codes and end reasons (PROTOCOL.md section 11).

use std::fmt;
use std::sync::Arc;

/// Why a connection ended, as the peer reads it in an `end` frame and as the WebSocket close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Code {
    /// No such session here: never opened, or ended too long ago.
    Unknown = 4100,
    /// The secret is not this session's.
    WrongSecret = 4101,
    /// The session is over.
    Ended = 4102,
    /// Another document has taken the session over.
    Superseded = 4103,
    /// The session's document is alive elsewhere.
    Duplicate = 4104,
    /// A foreign Origin, or not this session's user.
    Forbidden = 4105,
    /// No protocol version in common.
    Version = 4106,
    /// A frame that the protocol calls so.
    Malformed = 4107,
    /// Above a limit.
    TooLarge = 4108,
    /// Beyond the granted credit.
    Flood = 4109,
    /// The server is shutting down.
    Draining = 4200,
    /// Too many sessions.
    Full = 4201,
    /// Another newcomer is being decided, or too many connections wait for their hello.
    Busy = 4202,
    /// No hello or confirm in time.
    HelloDeadline = 4300,
    /// Two heartbeats without a sign of life.
    Silent = 4301,
    /// This document has a newer connection.
    Replaced = 4302,
    /// A sequence was skipped, or what came before a ping has not arrived.
    Gap = 4303,
    /// A hello older than one already accepted.
    Stale = 4400,
}

/// What a client does about a close code; decided by its hundreds, so that it holds for unknown codes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Do not present this ticket again.
    Never,
    /// Try again after the hint.
    Later,
    /// Reconnect.
    Now,
    /// Nothing, unless it was the current connection.
    Ignore,
}

impl Class {
    /// The class of a close code, known or not.
    pub const fn of(code: u64) -> Self {
        match code {
            4100..=4199 => Self::Never,
            4200..=4299 => Self::Later,
            4400..=4499 => Self::Ignore,
            _ => Self::Now,
        }
    }
}

/// Why a session ended. Every session ends exactly once, with one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// Its application function returned.
    Finished,
    /// The application closed it, saying this.
    Closed(Arc<str>),
    /// The application ended it at once, saying this.
    Aborted(Arc<str>),
    /// No browser came in time, or the page gave its ticket back.
    NeverConnected,
    /// It was without a connection for too long, or a policy said so.
    Expired,
    /// Its connection was lost and its policy does not keep sessions.
    Disconnected,
    /// The hub needed the memory.
    MemoryPressure,
    /// The server is shutting down.
    Draining,
    /// Its application function panicked.
    Panicked,
    /// The peer broke the protocol.
    Malformed,
    /// The peer sent something above a limit.
    TooLarge,
    /// The peer sent beyond its credit.
    Flood,
    /// There was no room for it when it was opened.
    Full,
}

impl EndReason {
    /// The number on the wire, from 1.
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

    /// The close code of the connection that it happens on.
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

    /// The close code of every connection that it does not happen on: those that come later, or wait for the session.
    pub const fn code_for_others(&self) -> Code {
        match self {
            Self::Draining => Code::Draining,
            Self::Full => Code::Full,
            _ => Code::Ended,
        }
    }

    /// What the application said, if it is the one that ended the session.
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
            Self::Finished => "its application function returned",
            Self::Closed(text) if text.is_empty() => "closed by the application",
            Self::Aborted(text) if text.is_empty() => "aborted by the application",
            Self::Closed(text) => return write!(f, "closed by the application: {text}"),
            Self::Aborted(text) => return write!(f, "aborted by the application: {text}"),
            Self::NeverConnected => "no browser connected in time",
            Self::Expired => "without a connection for too long",
            Self::Disconnected => "disconnected, and its policy keeps no disconnected sessions",
            Self::MemoryPressure => "the server needed the memory",
            Self::Draining => "the server is shutting down",
            Self::Panicked => "its application function panicked",
            Self::Malformed => "the peer broke the protocol",
            Self::TooLarge => "the peer sent something above a limit",
            Self::Flood => "the peer sent beyond its credit",
            Self::Full => "there was no room for it",
        })
    }
}
