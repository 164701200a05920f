//! The protocol of stillhere as pure state machines: no IO, no clock, no tasks.
//!
//! Most applications need the `stillhere` crate and an adapter, which are built on this one.
//! This crate is for those who write a client or a transport of their own: [`wire`] encodes and
//! decodes frames, [`machine`] decides what follows from them. `PROTOCOL.md` of the `stillhere`
//! crate describes both in words and bytes.

mod code;
mod id;
mod limits;
pub mod machine;
mod message;
pub mod wire;

pub use code::{Class, Code, EndReason};
pub use id::{DocumentId, ParseIdError, Secret, SessionId};
pub use limits::{FRAME_CHARGE, Limits};
pub use message::{Lane, Message, PerLane, SharedBytes};
