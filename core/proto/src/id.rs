//! Random identifiers of sessions and documents, and the secrets of sessions.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The public identifier of a session: 16 random bytes, written as 22 characters of base64url.
///
/// The id appears in URLs, logs and metrics. It grants no access on its own: that takes the
/// [`Secret`]. A plain session is the exception: it has no secret, so anyone who knows its id has
/// access.
///
/// ```
/// use stillhere_proto::SessionId;
///
/// let id = SessionId::random();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Creates the id from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Generates an id from the operating system's random source.
    pub fn random() -> Self {
        Self(random_bytes())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// The error for text that is not a session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a session id: expected 22 characters of base64url")]
pub struct ParseIdError;

impl FromStr for SessionId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut bytes = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            _ => Err(ParseIdError),
        }
    }
}

/// The key to a session: 32 random bytes, which appear only in a ticket and in a hello.
///
/// `Debug` does not show the bytes, and comparison takes constant time.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Creates the secret from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes. Keep them out of URLs, logs and error messages.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Generates a secret from the operating system's random source.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// Returns the secret as 43 characters of base64url, the form used in tickets.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Identifies one page load in one tab: 16 random bytes chosen by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DocumentId(pub [u8; 16]);

/// Returns `N` bytes from the operating system's random source.
///
/// # Panics
/// Panics if the operating system has no random source, which does not happen in practice.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has a source of randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_parses_what_it_formats() {
        let id = SessionId::random();

        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 22);
    }

    #[test]
    fn invalid_ids_are_refused() {
        for text in [
            "",
            "AAAA",
            "AAECAwQFBgcICQoLDA0ODw==",
            "AAECAwQFBgcICQoLDA0OD!",
            "AAECAwQFBgcICQoLDA0ODwAA",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(ParseIdError), "{text:?}");
        }
    }

    #[test]
    fn debug_output_never_shows_a_secret() {
        assert_eq!(format!("{:?}", Secret::from_bytes([7; 32])), "Secret(..)");
        assert_eq!(Secret::from_bytes([7; 32]), Secret::from_bytes([7; 32]));
        let mut other = [7; 32];
        other[31] = 8;
        assert_ne!(Secret::from_bytes([7; 32]), Secret::from_bytes(other));
    }
}
