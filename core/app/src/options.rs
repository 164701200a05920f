//! Options of the layer.

use crate::codec::Codec;

/// Options of a session's layer, for
/// [`HubBuilderExt::app_options`](crate::HubBuilderExt::app_options) or
/// [`app_with`](crate::app_with).
///
/// ```
/// use stillhere_app::{AppOptions, Codec};
///
/// let mut options = AppOptions::default();
/// options.codec = Codec::MessagePack;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppOptions {
    /// The format of values that the server sends. Default JSON.
    pub codec: Codec,
    /// How many bytes of bytes, texts, messages and events may wait for the function, besides the
    /// one that exceeds it. Beyond this nothing more is read from the page, which notices by
    /// back-pressure. Calls that wait for a handler may hold as much again. Default 1 MiB.
    pub unread: usize,
    /// How many handlers of calls run at the same time. Default 16, at least 1.
    pub running_calls: usize,
    /// How many calls of the page wait for a handler to end. Further calls fail as busy. Default
    /// 1,024.
    pub waiting_calls: usize,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            codec: Codec::Json,
            unread: 1024 * 1024,
            running_calls: 16,
            waiting_calls: 1024,
        }
    }
}
