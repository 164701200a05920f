//! The body of a POST.

use std::time::Duration;

use bytes::{Buf as _, Bytes};

use crate::exchange::Token;

/// A decoded POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) operation: Operation,
    pub(crate) token: Token,
    /// How long the answer may wait for packets. `None` if it is streamed or empty.
    pub(crate) wait: Option<Duration>,
    /// The packets, each preceded by its length.
    pub(crate) packets: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Send {
        /// Number of this POST within its connection, from 1.
        number: u32,
    },
    /// Gives back a session to which no page has connected. Its secret takes the place of packets.
    Discard,
}

impl Post {
    /// Returns the token, as soon as that part of the body has arrived.
    pub(crate) fn token(body: &[u8]) -> Option<Token> {
        body.get(1..)?.first_chunk().copied()
    }

    /// Returns true if the body, as far as it has arrived, sends on a connection.
    pub(crate) fn sends(body: &[u8]) -> bool {
        body.first() == Some(&SENDS)
    }

    pub(crate) fn parse(mut body: Bytes) -> Option<Self> {
        let operation = body.try_get_u8().ok()?;
        let mut token = [0; 16];
        body.try_copy_to_slice(&mut token).ok()?;
        let wait = u64::from(body.try_get_u32_le().ok()?);
        let operation = match operation {
            1 => Operation::Open,
            SENDS => Operation::Send {
                number: body.try_get_u32_le().ok()?,
            },
            3 => Operation::Discard,
            _ => return None,
        };
        Some(Self {
            operation,
            token,
            wait: (wait > 0).then(|| Duration::from_millis(wait).min(LONGEST_WAIT)),
            packets: body,
        })
    }
}

/// Operation of a POST that sends packets.
const SENDS: u8 = 2;

/// Maximum wait of a poll, shorter than the time-out of any common proxy.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_decoded_as_it_was_encoded() {
        let mut body = vec![2];
        body.extend([7; 16]);
        body.extend(500u32.to_le_bytes());
        body.extend(3u32.to_le_bytes());
        body.extend(b"rest");
        let post = Post {
            operation: Operation::Send { number: 3 },
            token: [7; 16],
            wait: Some(Duration::from_millis(500)),
            packets: Bytes::from_static(b"rest"),
        };
        assert_eq!(Post::parse(body.clone().into()), Some(post));
        for length in 0..25 {
            assert_eq!(Post::parse(body[..length].to_vec().into()), None, "{length}");
        }
        body[0] = 4;
        assert_eq!(Post::parse(body.into()), None);
    }
}
