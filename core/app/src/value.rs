//! Values: what applications exchange, in the format in which they arrived.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::array::{ArrayDeserializer, NumberFormat};
use crate::codec::{JSON, MESSAGEPACK};
use crate::messagepack;

/// A value that has been received and not been decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    unit: Bytes,
    /// Where the format is. Arrays are aligned to the start of the unit.
    start: usize,
}

/// Why a value cannot be decoded as the wanted type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The format is none that the protocol has.
    #[error("the value has unknown format {0}")]
    UnknownFormat(u8),
    /// The value is not JSON, or JSON of another type.
    #[error("the value cannot be decoded from JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The value is malformed MessagePack, uses an extension, nests more than 127 deep, or promises
    /// more than it holds.
    #[error("the value is not MessagePack that this protocol allows")]
    MalformedMessagePack,
    /// The value is MessagePack of another type.
    #[error("the value cannot be decoded from MessagePack: {0}")]
    MessagePack(#[from] rmp_serde::decode::Error),
    /// The array's padding or length is wrong, or another type was expected.
    #[error("the value cannot be decoded from an array of numbers: {0}")]
    Array(#[from] serde::de::value::Error),
}

impl Value {
    pub(crate) fn new(unit: Bytes, start: usize) -> Self {
        Self { unit, start }
    }

    /// Returns the unit that the value is part of.
    pub(crate) fn unit(&self) -> &Bytes {
        &self.unit
    }

    /// Returns the size of the value in bytes, as it arrived.
    pub fn size(&self) -> usize {
        self.unit.len() - self.start
    }

    /// Decodes the value, whichever format it has. An empty value is null.
    ///
    /// # Errors
    /// Returns a [`DecodeError`] if the value is malformed or of another type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let Some(format) = self.unit.get(self.start) else {
            return Ok(serde_json::from_slice(b"null")?);
        };
        let content = &self.unit[self.start + 1..];
        match *format {
            JSON => Ok(serde_json::from_slice(content)?),
            MESSAGEPACK => messagepack::decode(content),
            other => {
                let format = NumberFormat::from_byte(other).ok_or(DecodeError::UnknownFormat(other))?;
                Ok(T::deserialize(ArrayDeserializer::new(
                    format,
                    content,
                    self.start + 1,
                )?)?)
            }
        }
    }
}
