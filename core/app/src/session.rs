//! The session of a page, as its function gets it.

use std::ops::Deref;

use serde::de::DeserializeOwned;

use crate::handle::SessionHandle;
use crate::shared::Received;
use crate::value::DecodeError;

/// The session of a page, as the function given to [`app`](crate::app()) gets it. Only a `Session`
/// can read bytes, texts and messages. For everything else it derefs to a [`SessionHandle`].
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

    /// Returns a handle to use from handlers and other tasks.
    pub fn to_handle(&self) -> SessionHandle {
        self.handle.clone()
    }
}

impl Deref for Session {
    type Target = SessionHandle;

    fn deref(&self) -> &SessionHandle {
        &self.handle
    }
}
