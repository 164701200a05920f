//! What this layer adds to a hub: rooms by name, and the settings of all its sessions.

use stillhere::{Hub, HubBuilder};

use crate::codec::Codec;
use crate::layer::Layer;
use crate::options::AppOptions;
use crate::rooms::{Room, RoomEngine, RoomError, RoomOptions};

/// Adds rooms to a [`Hub`].
pub trait HubExt {
    /// Returns the room of this name, and creates it if it does not exist. In a session's function,
    /// [`session.room`](crate::SessionHandle::room) returns the same; in the page,
    /// `stillhere.session.room(name)` is this room too.
    ///
    /// A room exists while it has a member, or a [`Room`], [`Present`](crate::Present) or
    /// [`RoomEvents`](crate::RoomEvents) is kept. Sessions join with a state, and each page sees
    /// the members and gets the room's events. A membership survives that the page is away.
    ///
    /// In a room of fewer than 50 members, the pages are told of each change at once. In a larger
    /// one they are told of several together, after 20 us for each member: after at most 100 ms if
    /// there are 5,000, and at most 250 ms in any room. Whoever gets an event knows of all changes
    /// before it. [`Present`](crate::Present) and [`RoomEvents`](crate::RoomEvents) are told of
    /// each change at once.
    ///
    /// ```
    /// use serde_json::json;
    /// use stillhere::Hub;
    /// use stillhere_app::{HubExt as _, PageRights, Session, app};
    ///
    /// async fn board(session: Session) {
    ///     let Ok(board) = session.room("board") else { return };
    ///     let rights = PageRights::default().event("draw").state();
    ///     let _membership = board.join_with(&session, &json!({}), rights);
    ///     session.ended().await;
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = Hub::new();
    /// let tag = hub.open(app(board)).app_script_tag();
    /// // Later, from anywhere:
    /// hub.room("board")?.emit("cleared", &())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns a [`RoomError`] if the name is empty or too long, or there are too many rooms.
    fn room(&self, name: &str) -> Result<Room, RoomError>;

    /// Returns the options of sessions that have none of their own
    /// ([`app_with`](crate::app_with)).
    fn app_options(&self) -> AppOptions;
}

impl HubExt for Hub {
    fn room(&self, name: &str) -> Result<Room, RoomError> {
        self.extension::<Layer>().room(name)
    }

    fn app_options(&self) -> AppOptions {
        self.extension::<Layer>().options()
    }
}

/// Adds the settings of this layer to a [`HubBuilder`].
///
/// ```
/// use stillhere::Hub;
/// use stillhere_app::{Codec, HubBuilderExt as _, Lag, RoomOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut rooms = RoomOptions::default();
/// rooms.lag = Lag::Skip;
/// let hub = Hub::builder().codec(Codec::MessagePack).room_options(rooms).build();
/// # }
/// ```
pub trait HubBuilderExt {
    /// Sets the format in which all sessions and rooms of the hub send values. Everything that is
    /// received may have either format. Default JSON.
    #[must_use]
    fn codec(self, codec: Codec) -> Self;

    /// Sets the options of sessions that have none of their own ([`app_with`](crate::app_with)). A
    /// [`codec`](HubBuilderExt::codec) applies on top of these, whether it is set before or after.
    #[must_use]
    fn app_options(self, options: AppOptions) -> Self;

    /// Sets the options of all rooms.
    #[must_use]
    fn room_options(self, options: RoomOptions) -> Self;

    /// Sets what carries the happenings of rooms. Default [`InProcess`](crate::InProcess): each
    /// process has rooms of its own.
    #[must_use]
    fn room_engine(self, engine: impl RoomEngine) -> Self;
}

impl HubBuilderExt for HubBuilder {
    fn codec(self, codec: Codec) -> Self {
        self.extension(|layer: &mut Layer| layer.set_codec(codec))
    }

    fn app_options(self, options: AppOptions) -> Self {
        self.extension(|layer: &mut Layer| layer.set_options(options))
    }

    fn room_options(self, options: RoomOptions) -> Self {
        self.extension(|layer: &mut Layer| layer.set_room_options(options))
    }

    fn room_engine(self, engine: impl RoomEngine) -> Self {
        self.extension(|layer: &mut Layer| layer.set_room_engine(engine))
    }
}
