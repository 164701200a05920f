#![doc = include_str!("../README.md")]

mod app;
mod array;
mod call;
mod call_error;
mod codec;
mod event_queue;
mod failure;
mod followed;
mod handle;
mod handler;
mod hub_ext;
mod incoming_calls;
mod items;
mod layer;
mod messagepack;
mod newest;
mod observable;
mod options;
mod page_stream;
mod pump;
mod restoring;
mod rooms;
mod session;
mod shared;
mod shared_observable;
#[cfg(feature = "testing")]
pub mod testing;
mod trouble;
mod unit;
mod value;
mod varint;
#[cfg(test)]
mod vectors;

pub use app::{Running, app, app_with};
pub use array::{Array, Number};
pub use call::Call;
pub use call_error::CallError;
pub use codec::{Codec, EncodeError};
pub use handle::{SendError, SessionHandle};
pub use hub_ext::{HubBuilderExt, HubExt};
pub use items::Items;
pub use observable::Observable;
pub use options::AppOptions;
pub use page_stream::PageStream;
pub use restoring::Restoring;
pub use rooms::{
    Announced, Announcement, Departure, Happening, InProcess, JoinError, Lag, Member, Membership, PageRights, Present,
    PublishError, Replica, Room, RoomEngine, RoomError, RoomEvent, RoomEvents, RoomLink, RoomOptions, ServerId,
    Snapshot,
};
pub use session::Session;
pub use shared::Received;
pub use shared_observable::SharedObservable;
pub use trouble::{PageError, Trouble};
pub use unit::{BadName, UnitError};
pub use value::{DecodeError, Value};
