//! The session of a page, as its function gets it.

use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::handle::SessionHandle;
use crate::restoring::{RestoreFunction, Restoring};
use crate::shared::Received;
use crate::value::DecodeError;

/// The session of a page, as the function given to [`app`](crate::app()) gets it. Only a `Session`
/// can read bytes, texts and messages. For everything else it derefs to a [`SessionHandle`].
///
/// A function that reads none of them should drop the `Session` and keep a handle
/// ([`Session::to_handle`]). Otherwise what the page sends is kept for it, and once that reaches
/// [`AppOptions::unread`](crate::AppOptions::unread), nothing more is read.
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
}

impl Session {
    pub(crate) fn new(handle: SessionHandle) -> Self {
        Self { handle }
    }

    /// Waits for the next bytes, text or message, in order. Returns `None` once the session has
    /// ended and everything received has been read. Cancel safe.
    pub async fn recv(&mut self) -> Option<Received> {
        loop {
            if let Some(received) = self.handle.shared.take() {
                return Some(received);
            }
            if self.handle.shared.lock().is_over {
                return None;
            }
            self.handle.shared.arrived.notified().await;
        }
    }

    /// Waits for the next message and decodes it. Bytes and texts before it are read as the JSON
    /// that they contain. Returns `None` as [`Session::recv`] does. Cancel safe.
    pub async fn recv_json<T: DeserializeOwned>(&mut self) -> Option<Result<T, DecodeError>> {
        Some(match self.recv().await? {
            Received::Value(value) => value.decode(),
            Received::Bytes(bytes) => serde_json::from_slice(&bytes).map_err(DecodeError::from),
            Received::Text(text) => serde_json::from_str(&text).map_err(DecodeError::from),
        })
    }

    /// Sets the function that sends a new document its state, as
    /// [`on_restore`](stillhere::Session::on_restore) of the session below does. Call this before
    /// the function's first `.await`. Calling it again replaces the function.
    pub fn on_restore<F, R>(&self, restore: F)
    where
        F: Fn(Restoring) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let restore: RestoreFunction = Arc::new(move |restoring| Box::pin(restore(restoring)));
        let replaced = {
            let mut state = self.handle.shared.lock();
            if state.is_over {
                Some(restore)
            } else {
                state.restore.replace(restore)
            }
        };
        drop(replaced);
    }

    /// Returns a handle to use from handlers and other tasks.
    pub fn to_handle(&self) -> SessionHandle {
        self.handle.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.shared.reader_is_gone();
    }
}

impl Deref for Session {
    type Target = SessionHandle;

    fn deref(&self) -> &SessionHandle {
        &self.handle
    }
}
