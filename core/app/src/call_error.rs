//! Why a call to the page failed.

use crate::codec::EncodeError;
use crate::failure::FailureCode;
use crate::unit::BadName;
use crate::value::DecodeError;

/// Why a call to the page failed. Unless the error says otherwise, it is known at once and not
/// after a time-out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The page's handler threw an error.
    #[error("the page's handler failed: {0}")]
    Failed(String),
    /// The page's handler answered with an error.
    #[error("the page's handler rejected the call: {0}")]
    Rejected(String),
    /// The page has no handler of that name.
    #[error("the page has no handler of that name")]
    Missing,
    /// The page's handler could not decode the question.
    #[error("the page's handler cannot decode the question: {0}")]
    UndecodableQuestion(String),
    /// The page cancelled the call.
    #[error("the call was cancelled")]
    Cancelled,
    /// Too many calls wait in the page.
    #[error("too many calls wait in the page")]
    Busy,
    /// The page's handler answers with a stream, which a call does not take.
    #[error("the page's handler answers with a stream")]
    Streamed,
    /// The answer is of another type.
    #[error("the answer cannot be decoded")]
    UndecodableAnswer(#[from] DecodeError),
    /// The time set with [`Call::timeout`](crate::Call::timeout) is over. The page may have
    /// executed the call.
    #[error("the page did not answer in time")]
    TimedOut,
    /// The session has ended or is closing. The page may have executed the call.
    #[error("the session is over")]
    SessionOver,
    /// Another document took over the session, by a reload or a restored tab. The document before
    /// it may have executed the call.
    #[error("another document has taken over the session")]
    Replaced,
    /// The answer would wait behind unread messages, which nobody reads: see
    /// [`AppOptions::unread`](crate::AppOptions::unread). Read while calls wait. The page may have
    /// executed the call.
    #[error("the answer waits behind unread messages: read them with recv while the call waits")]
    Unread,
    /// The question cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The name is empty or too long.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The question is above the session's limit for messages.
    #[error("the question has {size} bytes, but the session's limit is {limit}")]
    TooLarge {
        /// Size of the unit in bytes, after compression.
        size: u64,
        /// Largest size in bytes that the session accepts.
        limit: u64,
    },
}

impl CallError {
    pub(crate) fn from_page(code: FailureCode, text: &str) -> Self {
        match code {
            FailureCode::Failed => Self::Failed(text.to_owned()),
            FailureCode::Rejected => Self::Rejected(text.to_owned()),
            FailureCode::Missing => Self::Missing,
            FailureCode::Undecodable => Self::UndecodableQuestion(text.to_owned()),
            FailureCode::Cancelled => Self::Cancelled,
            FailureCode::Busy => Self::Busy,
            FailureCode::Streamed => Self::Streamed,
        }
    }
}

impl From<stillhere::SendError> for CallError {
    fn from(error: stillhere::SendError) -> Self {
        match error {
            stillhere::SendError::TooLarge { size, limit, .. } => Self::TooLarge { size, limit },
            _ => Self::SessionOver,
        }
    }
}
