//! Sends a document that has taken over the session what it needs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use crate::codec::Codec;
use crate::handle::SendError;
use crate::unit::{self, Kind};

/// Sends to a document that has just taken over the session, ahead of all other senders. Its
/// methods do what those of [`SessionHandle`](crate::SessionHandle) do.
#[derive(Debug)]
pub struct Restoring {
    core: stillhere::Restoring,
    codec: Codec,
}

pub(crate) type RestoreFunction = Arc<dyn Fn(Restoring) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Restoring {
    pub(crate) fn new(core: stillhere::Restoring, codec: Codec) -> Self {
        Self { core, codec }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Returns [`SendError::Session`] if the session has ended or is closing, or the bytes exceed
    /// its limit.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Result<(), SendError> {
        Ok(self.core.send(unit::raw(Kind::Bytes, bytes.as_ref())).await?)
    }

    /// Sends text.
    ///
    /// # Errors
    /// Returns the errors of [`Restoring::send`].
    pub async fn send_text(&self, text: impl AsRef<str>) -> Result<(), SendError> {
        Ok(self.core.send(unit::raw(Kind::Text, text.as_ref().as_bytes())).await?)
    }

    /// Sends a value.
    ///
    /// # Errors
    /// Returns a [`SendError`] if the value cannot be encoded, and the errors of
    /// [`Restoring::send`].
    pub async fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        let unit = self.codec.write(value, unit::begin(Kind::Message))?;
        Ok(self.core.send(unit).await?)
    }

    /// Sends an event.
    ///
    /// # Errors
    /// Returns [`SendError::Name`] unless the name has 1 to 255 bytes, and the errors of
    /// [`Restoring::send_json`].
    pub async fn emit<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), SendError> {
        let mut unit = unit::begin(Kind::Event);
        unit::write_name(name, &mut unit)?;
        let unit = self.codec.write(value, unit)?;
        Ok(self.core.send(unit).await?)
    }
}
