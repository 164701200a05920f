#![doc = include_str!("../README.md")]

pub mod code;
mod id;
mod limits;
pub mod machine;
mod message;
pub mod wire;

pub use code::EndReason;
pub use id::{DocumentId, ParseIdError, Secret, SessionId};
pub use limits::{FRAME_CHARGE, Limits};
pub use message::{Lane, Message, PerLane, SharedBytes};
