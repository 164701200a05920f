//! The head of a record: everything that a store holds of a session except what it has sent.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::durable::durability::Durability;
use crate::options::{Renewal, SessionOptions};
use stillhere_proto::machine::{Saved, Timing};
use stillhere_proto::{EndReason, Lane, Limits, Secret};

/// The part of a record's head that never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fixed {
    /// The name of the session's kind.
    pub(crate) kind: String,
    pub(crate) durability: Durability,
    secret: SecretHash,
    principal: Option<String>,
    address: Option<IpAddr>,
    restore: Option<String>,
    renewal: StoredRenewal,
    compress_from: Option<u64>,
    limits: StoredLimits,
    timing: StoredTiming,
}

/// The part of a record's head that each commit replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changing {
    pub(crate) standing: Standing,
    pub(crate) state_version: u32,
    pub(crate) state: Bytes,
    pub(crate) saved: Saved,
    pub(crate) turn: Option<TurnId>,
    /// The newest document that has its state: from the session's restore function, or because the
    /// function knows the document.
    pub(crate) greeted: u64,
}

/// What the session in a record does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Its function runs.
    Live,
    /// A process holds it in memory and has not written it since.
    Lent,
    /// It closes: its last messages are being delivered.
    Closing(StoredReason),
    Ended(StoredReason),
}

/// Identifies the message with which a turn began. It is the same when the turn runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TurnId {
    /// The number of the document that sent the message, from 1.
    pub incarnation: u64,
    /// True if the message came on the bulk lane.
    pub bulk: bool,
    /// The sequence of the message's last fragment on its lane, from 1.
    pub sequence: u64,
}

impl TurnId {
    pub(crate) fn new(incarnation: u64, lane: Lane, sequence: u64) -> Self {
        Self {
            incarnation,
            bulk: lane == Lane::Bulk,
            sequence,
        }
    }
}

/// Formats the id as a key, such as `1-i-42`.
impl std::fmt::Display for TurnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lane = if self.bulk { 'b' } else { 'i' };
        write!(f, "{}-{lane}-{}", self.incarnation, self.sequence)
    }
}

/// The SHA-256 of a session's secret. Whoever reads a store cannot take over its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SecretHash([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredReason(u64, String);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum StoredRenewal {
    Page,
    Address(String),
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct StoredLimits {
    fragment: u64,
    message: u64,
    inflated: u64,
    window: u64,
    bulk_window: u64,
    outbox: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct StoredTiming {
    heartbeat: Duration,
    probe: Option<Duration>,
    hello: Duration,
    ending: Duration,
}

/// Why a head cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the record has format {0}, and this version of stillhere reads format {FORMAT}")]
    Format(u8),
    #[error("the record is empty")]
    Empty,
    #[error("the record is damaged")]
    Damaged(#[from] rmp_serde::decode::Error),
}

impl Fixed {
    pub(crate) fn new(kind: &str, durability: Durability, secret: &Secret, options: &SessionOptions) -> Self {
        let Limits {
            fragment,
            message,
            inflated,
            window,
            bulk_window,
            outbox,
        } = options.limits;
        let Timing {
            heartbeat,
            probe,
            hello,
            ending,
        } = options.timing;
        Self {
            kind: kind.to_owned(),
            durability,
            secret: SecretHash::of(secret),
            principal: options.principal.as_deref().map(str::to_owned),
            address: options.address,
            restore: options.restore.clone(),
            renewal: match &options.renewal {
                Renewal::Page => StoredRenewal::Page,
                Renewal::Address(address) => StoredRenewal::Address(address.clone()),
                Renewal::Off => StoredRenewal::Off,
            },
            compress_from: options.compress_from.map(|bytes| bytes as u64),
            limits: StoredLimits {
                fragment,
                message,
                inflated,
                window,
                bulk_window,
                outbox,
            },
            timing: StoredTiming {
                heartbeat,
                probe,
                hello,
                ending,
            },
        }
    }

    /// Takes constant time, as the comparison of secrets does.
    pub(crate) fn has_secret(&self, secret: &Secret) -> bool {
        let SecretHash(hash) = SecretHash::of(secret);
        Secret::from_bytes(hash) == Secret::from_bytes(self.secret.0)
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// Returns the options of the session.
    pub(crate) fn options(&self) -> SessionOptions {
        let StoredLimits {
            fragment,
            message,
            inflated,
            window,
            bulk_window,
            outbox,
        } = self.limits;
        let StoredTiming {
            heartbeat,
            probe,
            hello,
            ending,
        } = self.timing;
        let options = SessionOptions {
            limits: Limits {
                fragment,
                message,
                inflated,
                window,
                bulk_window,
                outbox,
            },
            timing: Timing {
                heartbeat,
                probe,
                hello,
                ending,
            },
            restore: self.restore.clone(),
            renewal: match &self.renewal {
                StoredRenewal::Page => Renewal::Page,
                StoredRenewal::Address(address) => Renewal::Address(address.clone()),
                StoredRenewal::Off => Renewal::Off,
            },
            compress_from: self.compress_from.and_then(|bytes| usize::try_from(bytes).ok()),
            principal: self.principal.as_deref().map(Into::into),
            address: self.address,
            plain: None,
        };
        options.normalised()
    }

    /// Returns the beginning of all heads of the session.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = vec![FORMAT];
        bytes.extend(rmp_serde::to_vec_named(self).expect("it has no maps with strange keys"));
        bytes.into()
    }
}

impl Changing {
    /// Returns a head that begins with `fixed`.
    pub(crate) fn encode(&self, fixed: &Bytes) -> Bytes {
        let mut bytes = fixed.to_vec();
        bytes.extend(rmp_serde::to_vec_named(self).expect("it has no maps with strange keys"));
        bytes.into()
    }
}

/// Reads a head.
pub(crate) fn decode(head: &[u8]) -> Result<(Fixed, Changing), HeadError> {
    let (format, mut rest) = head.split_first().ok_or(HeadError::Empty)?;
    if *format != FORMAT {
        return Err(HeadError::Format(*format));
    }
    let fixed = rmp_serde::from_read(&mut rest)?;
    let changing = rmp_serde::from_read(&mut rest)?;
    Ok((fixed, changing))
}

impl SecretHash {
    fn of(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }
}

impl From<&EndReason> for StoredReason {
    fn from(reason: &EndReason) -> Self {
        Self(reason.number(), reason.text().to_owned())
    }
}

impl From<&StoredReason> for EndReason {
    fn from(StoredReason(number, text): &StoredReason) -> Self {
        let text = || text.as_str().into();
        match number {
            1 => Self::Finished,
            2 => Self::Closed(text()),
            4 => Self::NeverConnected,
            5 => Self::Expired,
            6 => Self::Disconnected,
            7 => Self::MemoryPressure,
            8 => Self::Draining,
            9 => Self::Panicked,
            10 => Self::Malformed,
            11 => Self::TooLarge,
            12 => Self::Flood,
            13 => Self::Full,
            _ => Self::Aborted(text()),
        }
    }
}

/// The first byte of each head.
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(options: &SessionOptions) -> (Fixed, Changing) {
        let fixed = Fixed::new("counter", Durability::Crash, &Secret::from_bytes([1; 32]), options);
        let changing = Changing {
            standing: Standing::Closing((&EndReason::Closed("bye".into())).into()),
            state_version: 3,
            state: Bytes::from_static(&[200; 300]),
            saved: Saved {
                incarnation: 2,
                ..Saved::default()
            },
            turn: Some(TurnId::new(2, Lane::Bulk, 7)),
            greeted: 2,
        };
        (fixed, changing)
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let options = SessionOptions {
            restore: Some("editor".to_owned()),
            renewal: Renewal::Address("/ticket".to_owned()),
            compress_from: Some(1000),
            principal: Some("ada".into()),
            address: Some([127, 0, 0, 1].into()),
            ..SessionOptions::default()
        };
        let (fixed, changing) = head(&options);
        let bytes = changing.encode(&fixed.encode());
        let (read, then) = decode(&bytes).expect("it was written here");
        assert_eq!((&read, &then), (&fixed, &changing));
        assert_eq!(format!("{:?}", read.options()), format!("{:?}", options.normalised()));
        // The state is bytes, not a list of numbers.
        assert!(bytes.len() < 1500, "{}", bytes.len());
    }

    #[test]
    fn a_head_does_not_contain_the_secret() {
        let (fixed, changing) = head(&SessionOptions::default());
        let bytes = changing.encode(&fixed.encode());
        assert!(!bytes.windows(8).any(|window| window == [1; 8]));
        assert!(fixed.has_secret(&Secret::from_bytes([1; 32])));
        assert!(!fixed.has_secret(&Secret::from_bytes([2; 32])));
    }

    #[test]
    fn a_damaged_head_or_one_of_another_format_is_an_error() {
        let (fixed, changing) = head(&SessionOptions::default());
        let bytes = changing.encode(&fixed.encode());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(matches!(decode(&[9, 1, 2]), Err(HeadError::Format(9))));
    }

    #[test]
    fn every_reason_survives() {
        let texts = [EndReason::Closed("a".into()), EndReason::Aborted("b".into())];
        let others = [
            EndReason::Finished,
            EndReason::NeverConnected,
            EndReason::Expired,
            EndReason::Disconnected,
            EndReason::MemoryPressure,
            EndReason::Draining,
            EndReason::Panicked,
            EndReason::Malformed,
            EndReason::TooLarge,
            EndReason::Flood,
            EndReason::Full,
        ];
        for reason in texts.into_iter().chain(others) {
            assert_eq!(EndReason::from(&StoredReason::from(&reason)), reason);
        }
    }
}
