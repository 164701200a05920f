//! What went wrong with something that the page sent: for a hook of the application, and the log.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::failure::shortened;
use crate::rooms::PublishError;
use crate::unit::UnitError;
use crate::value::DecodeError;

/// Something that the page sent and that no function or handler got, or an error in the page
/// itself. It never ends the session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// A message that is not one of this layer was skipped.
    #[error("skipped a malformed message: {0}")]
    Malformed(#[from] UnitError),
    /// An event whose value its handler cannot decode.
    #[error("skipped the event {name:?}: {error}")]
    Event {
        /// Name of the event.
        name: String,
        /// Why it cannot be decoded.
        error: DecodeError,
    },
    /// A set of an observable whose value cannot be decoded.
    #[error("skipped a set of the observable {name:?}: {error}")]
    Set {
        /// Name of the observable.
        name: String,
        /// Why it cannot be decoded.
        error: DecodeError,
    },
    /// An event for a room that cannot be sent to the other servers.
    #[error("dropped the event {name:?} for a room: {error}")]
    RoomEvent {
        /// Name of the event.
        name: String,
        /// Why it cannot be sent.
        error: PublishError,
    },
    /// The handler of an event panicked.
    #[error("the handler of the event {0:?} panicked")]
    EventPanicked(String),
    /// A call with the id of another one that is not answered yet was skipped.
    #[error("skipped a call whose id is in use")]
    DuplicateCall,
    /// An error in the page's own code.
    #[error("an error in the page: {0}")]
    Page(PageError),
}

/// An error that nothing in the page caught. All of it comes from the page: escape it before you
/// show it as HTML.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[non_exhaustive]
#[error("{message:?}")]
pub struct PageError {
    /// What the error says.
    pub message: String,
    /// Where it happened, as the browser describes it.
    #[serde(default)]
    pub stack: Option<String>,
    /// File, line and column.
    #[serde(default, rename = "source")]
    pub place: Option<String>,
}

impl PageError {
    /// Cuts what a page says to the sizes that it may have, which are 4 KiB together.
    pub(crate) fn clip(&mut self) {
        let clip = |text: &mut String, limit| text.truncate(text.floor_char_boundary(limit));
        clip(&mut self.message, 1024);
        self.stack.iter_mut().for_each(|stack| clip(stack, 2560));
        self.place.iter_mut().for_each(|place| clip(place, 512));
    }
}

/// Lets ten errors of the page through in a minute. A page limits itself too, unless it is hostile.
#[derive(Debug, Default)]
pub(crate) struct PageErrorLimit {
    since: Option<Instant>,
    count: u32,
}

impl PageErrorLimit {
    /// Returns false if the next error is too many or has too many bytes.
    pub(crate) fn takes(&mut self, size: usize) -> bool {
        if self.since.is_none_or(|since| since.elapsed() >= INTERVAL) {
            self.since = Some(Instant::now());
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= MOST_PAGE_ERRORS && size <= MOST_ENCODED
    }
}

/// Errors of a page in a minute.
const MOST_PAGE_ERRORS: u32 = 10;

/// Bytes of an error as it travels: 4 KiB, of which JSON may write each as six.
const MOST_ENCODED: usize = 32 * 1024;

/// Logs the first trouble in a minute, with how many there were since the last line.
#[derive(Debug, Default)]
pub(crate) struct TroubleLog {
    last_line: Option<Instant>,
    count: u64,
}

impl TroubleLog {
    pub(crate) fn log(&mut self, session: &stillhere::SessionId, trouble: &Trouble) {
        self.count += 1;
        if self.last_line.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.last_line = Some(Instant::now());
            let count = std::mem::take(&mut self.count);
            let trouble = trouble.to_string();
            tracing::warn!(%session, count, "{}", shortened(&trouble));
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(60);
