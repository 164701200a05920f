//! Why a call of a test's page failed.

use crate::failure::FailureCode;

/// Why the server did not answer a call of a [`Page`](crate::testing::Page).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageCallError {
    /// The handler panicked.
    #[error("the handler panicked")]
    Failed,
    /// The handler answered with this error.
    #[error("the handler rejected the call: {0}")]
    Rejected(String),
    /// There is no handler of that name.
    #[error("there is no handler of that name")]
    Missing,
    /// The handler cannot decode the question.
    #[error("the handler cannot decode the question: {0}")]
    Undecodable(String),
    /// The call was cancelled.
    #[error("the call was cancelled")]
    Cancelled,
    /// Too many calls wait for a handler.
    #[error("too many calls wait for a handler")]
    Busy,
    /// The handler answers with a stream: see [`Page::items`](crate::testing::Page::items).
    #[error("the handler answers with a stream")]
    Streamed,
    /// The session ended before there was an answer.
    #[error("the session is over")]
    SessionOver,
}

impl PageCallError {
    pub(super) fn new(code: FailureCode, text: &str) -> Self {
        match code {
            FailureCode::Failed => Self::Failed,
            FailureCode::Rejected => Self::Rejected(text.to_owned()),
            FailureCode::Missing => Self::Missing,
            FailureCode::Undecodable => Self::Undecodable(text.to_owned()),
            FailureCode::Cancelled => Self::Cancelled,
            FailureCode::Busy => Self::Busy,
            FailureCode::Streamed => Self::Streamed,
        }
    }
}
