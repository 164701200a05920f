//! What a hub has of this layer.

use crate::codec::Codec;
use crate::followed::FollowedWatches;
use crate::options::AppOptions;
use crate::rooms::{Room, RoomEngine, RoomError, RoomOptions, Rooms};

/// What the layer keeps with a hub, for all its sessions.
#[derive(Default)]
pub(crate) struct Layer {
    options: AppOptions,
    /// The format that was set by itself, on top of the options.
    codec: Option<Codec>,
    rooms: Rooms,
    pub(crate) followed: FollowedWatches,
}

impl Layer {
    /// Returns the options of sessions that have none of their own.
    pub(crate) fn options(&self) -> AppOptions {
        AppOptions {
            codec: self.codec(),
            ..self.options.clone()
        }
    }

    fn codec(&self) -> Codec {
        self.codec.unwrap_or(self.options.codec)
    }

    pub(crate) fn room(&self, name: &str) -> Result<Room, RoomError> {
        self.rooms.room(name, self.codec())
    }

    pub(crate) fn set_options(&mut self, options: AppOptions) {
        self.options = options;
    }

    pub(crate) fn set_codec(&mut self, codec: Codec) {
        self.codec = Some(codec);
    }

    pub(crate) fn set_room_options(&mut self, options: RoomOptions) {
        self.rooms.set_options(options);
    }

    pub(crate) fn set_room_engine(&mut self, engine: impl RoomEngine) {
        self.rooms.set_engine(engine);
    }
}
