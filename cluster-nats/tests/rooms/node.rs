//! One of several servers within the test, and sessions on it.

use std::time::Duration;

use serde_json::json;
use stillhere::Hub;
use stillhere_app::testing::Page;
use stillhere_app::{
    HubBuilderExt as _, HubExt as _, Member, Membership, PageRights, Room, RoomOptions, Session, SessionHandle,
};
use stillhere_nats::{NatsRooms, NatsRoomsOptions, Servers, ServersOptions};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::NatsServer;

/// A server with a client of NATS of its own.
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) room: Room,
}

impl Node {
    pub(crate) async fn start(nats: &NatsServer) -> Self {
        Self::start_with(nats, NatsRoomsOptions::default(), RoomOptions::default()).await
    }

    pub(crate) async fn start_three(nats: &NatsServer) -> [Self; 3] {
        [
            Self::start(nats).await,
            Self::start(nats).await,
            Self::start(nats).await,
        ]
    }

    /// Starts a server that is connected to the NATS of this URL.
    pub(crate) async fn connect(url: &str) -> Self {
        Self::connect_with(url, NatsRoomsOptions::default(), RoomOptions::default()).await
    }

    pub(crate) async fn start_with(nats: &NatsServer, options: NatsRoomsOptions, rooms: RoomOptions) -> Self {
        Self::connect_with(&nats.url(), options, rooms).await
    }

    pub(crate) async fn connect_with(url: &str, options: NatsRoomsOptions, rooms: RoomOptions) -> Self {
        let client = async_nats::connect(url).await.expect("NATS runs");
        let joining = Servers::join(client, ServersOptions::default()).await;
        let servers = joining.expect("the client is open");
        let engine = NatsRooms::start(&servers, options).await.expect("NATS has JetStream");
        let hub = Hub::builder().room_options(rooms).room_engine(engine).build();
        let room = hub.room("board").expect("there are few");
        Self { hub, room }
    }

    /// Returns the members' ids and states, as this server knows them.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.room.members().to_vec()
    }
}

/// A session, its page and its membership.
pub(crate) struct Guest {
    pub(crate) page: Page,
    pub(crate) handle: SessionHandle,
    pub(crate) membership: Option<Membership>,
}

impl Guest {
    /// Opens a session that is in no room.
    pub(crate) async fn open(node: &Node) -> Self {
        let (sender, handle) = oneshot::channel();
        let page = Page::open(&node.hub, async move |session: Session| {
            assert!(sender.send(session.to_handle()).is_ok(), "the test waits");
            session.ended().await;
        });
        let handle = soon("the function starts", handle).await.expect("it runs");
        Self {
            page,
            handle,
            membership: None,
        }
    }

    pub(crate) async fn join(node: &Node, state: &str) -> Self {
        Self::join_room(node, "board", state).await
    }

    /// Joins, and waits until this server knows it.
    pub(crate) async fn join_room(node: &Node, room: &str, state: &str) -> Self {
        let mut guest = Self::open(node).await;
        let room = node.hub.room(room).expect("there are few");
        let joined = room.join_with(&guest.handle, &json!(state), rights());
        let id = joined.as_ref().expect("there is room").id();
        guest.membership = Some(joined.expect("there is room"));
        let is_in = |all: &[Member]| all.iter().any(|member| member.id == id);
        soon("the member is in", room.present().wait_for(is_in)).await;
        guest
    }

    /// Leaves, and joins again at once.
    pub(crate) fn rejoin(&mut self, node: &Node, state: &str) {
        drop(self.membership.take());
        let joined = node.room.join_with(&self.handle, &json!(state), rights());
        self.membership = Some(joined.expect("it has left"));
    }

    pub(crate) fn id(&self) -> u64 {
        self.membership.as_ref().expect("it has joined").id()
    }

    /// Returns the member, as its own server knows it.
    pub(crate) fn member(&self) -> Member {
        let room = self.membership.as_ref().expect("it has joined").room();
        let members = room.members();
        members
            .iter()
            .find(|member| member.id == self.id())
            .expect("it is in")
            .clone()
    }
}

fn rights() -> PageRights {
    PageRights::default().event("draw").state()
}

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Fails instead of waiting for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waiting = timeout(PATIENCE, future).await;
    waiting.unwrap_or_else(|_| panic!("this never happened: {what}"))
}
