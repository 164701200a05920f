//! The random numbers that name things: sessions, their secrets, documents.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The public name of a session: 16 random bytes, written as 22 characters of base64url.
///
/// It appears in URLs, logs and metrics. It gives no access: that takes the [`Secret`]. Only a plain session has no secret: whoever knows its id,
/// has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A new id, from the operating system's randomness.
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

/// The text is not the 22 characters of a session id.
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

/// What gives access to a session: 32 random bytes that travel only in a ticket and in a hello.
///
/// `Debug` does not show it and comparing takes the same time whatever differs.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes. Keep them out of URLs, logs and error messages.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A new secret, from the operating system's randomness.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// 43 characters of base64url, as a ticket carries them.
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

/// One page load in one tab: 16 bytes that the client draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DocumentId(pub [u8; 16]);

/// # Panics
/// Never in practice: only if the operating system has no source of randomness at all.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has a source of randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        let id = SessionId::random();

        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 22);
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
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
    fn a_secret_never_shows_itself() {
        assert_eq!(format!("{:?}", Secret::from_bytes([7; 32])), "Secret(..)");
        assert_eq!(Secret::from_bytes([7; 32]), Secret::from_bytes([7; 32]));
        let mut other = [7; 32];
        other[31] = 8;
        assert_ne!(Secret::from_bytes([7; 32]), Secret::from_bytes(other));
    }
}
