//! A session's membership of a room, and the task that keeps it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use stillhere::{Events, SendError as CoreSendError, SessionState};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::engine::{Departure, Happening, PublishError};
use super::member::{Member, member_id, now};
use super::page::PageRights;
use super::replica::Replica;
use super::room::{JoinError, Room, state_of};
use super::wire::{Action, Out, Reason, room_unit};
use crate::handle::{SendError, SessionHandle};
use crate::shared::Shared;

/// A session's membership of a room. Dropping it leaves the room.
#[derive(Debug)]
pub struct Membership {
    seated: Arc<Seated>,
    session: SessionHandle,
}

/// A member, on the server that has its session.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(super) replica: Arc<Replica>,
    pub(super) id: u64,
    pub(super) rights: PageRights,
    /// Notified when the outbox was full.
    fell_behind: Arc<Notify>,
    /// The page has asked who is in the room.
    asked: Notify,
    /// The task that keeps the membership, once the member has joined.
    keeper: Mutex<Option<AbortHandle>>,
    /// Why the membership has ended.
    departed: watch::Sender<Option<Departure>>,
}

impl Membership {
    pub(super) fn new(seated: Arc<Seated>, session: SessionHandle) -> Self {
        Self { seated, session }
    }

    /// Returns the member's id.
    pub fn id(&self) -> u64 {
        self.seated.id
    }

    /// Returns the room.
    pub fn room(&self) -> Room {
        Room::new(Arc::clone(&self.seated.replica))
    }

    /// Sends an event to the page of every other member, as from this one.
    ///
    /// # Errors
    /// Returns the errors of [`Room::emit`].
    pub fn emit<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), SendError> {
        self.room().emit_from(self.id(), Some(self.id()), name, value)
    }

    /// Changes what the member says of itself. States that are replaced before they can be sent are
    /// never sent.
    ///
    /// # Errors
    /// Returns [`JoinError::State`] if the state is too large, and [`JoinError::Refused`] if the
    /// other servers cannot be told.
    pub fn set_state<T: Serialize + ?Sized>(&self, state: &T) -> Result<(), JoinError> {
        let state = state_of(&self.seated.replica, state)?;
        Ok(self.seated.set_state(state, None)?)
    }

    /// Waits until the session is no longer a member, because its page has left or has not kept up
    /// or it has ended, and returns why. Cancel safe.
    pub async fn ended(&self) -> Departure {
        let mut departed = self.seated.departed.subscribe();
        let departed = departed.wait_for(Option::is_some).await;
        departed.ok().and_then(|why| *why).expect("the sender is kept here")
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.seated.leave(&self.session.shared);
    }
}

impl Seated {
    /// Makes a session a member of a room.
    pub(super) fn new(
        replica: &Arc<Replica>,
        session: &SessionHandle,
        state: serde_json::Value,
        rights: PageRights,
    ) -> Result<Arc<Self>, JoinError> {
        let id = member_id(session.id());
        let fell_behind = Arc::new(Notify::new());
        replica.seat(id, session.core.clone(), Arc::clone(&fell_behind), Handle::current())?;
        let seated = Arc::new(Self {
            replica: Arc::clone(replica),
            id,
            rights,
            fell_behind,
            asked: Notify::new(),
            keeper: Mutex::default(),
            departed: watch::Sender::default(),
        });
        if let Err(error) = seated.enter(session) {
            replica.unseat(id);
            return Err(error);
        }
        let events = session.core.events();
        let is_away = session.core.state().is_soft_closed();
        let joined = replica.publish(Happening::Joined(Member {
            id,
            principal: session.principal().map(str::to_owned),
            is_away,
            since: now(),
            state,
        }));
        if let Err(error) = joined {
            seated.forget(&session.shared);
            replica.unseat(id);
            return Err(error.into());
        }
        seated.keep(session, events, is_away);
        Ok(seated)
    }

    /// Starts the task that keeps the membership. It begins after the member has joined, so that
    /// the member cannot leave before.
    fn keep(self: &Arc<Self>, session: &SessionHandle, events: Events, is_away: bool) {
        let keeper = Keeper {
            seated: Arc::clone(self),
            core: session.core.clone(),
            shared: Arc::downgrade(&session.shared),
        };
        let task = tokio::spawn(keeper.run(events, is_away)).abort_handle();
        let departed = {
            let mut keeper = self.keeper();
            let departed = *self.departed.borrow();
            if departed.is_none() {
                *keeper = Some(task.clone());
            }
            departed
        };
        if let Some(why) = departed {
            // The page has left before the member had joined.
            task.abort();
            self.replica.publish_always(Happening::Left { id: self.id, why });
        }
    }

    fn keeper(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, session: &SessionHandle) -> Result<(), JoinError> {
        let mut state = session.shared.lock();
        if state.is_over {
            return Err(JoinError::Over);
        }
        if state.rooms.len() >= MOST_ROOMS {
            return Err(JoinError::Full);
        }
        state.rooms.insert(self.replica.name().into(), Arc::clone(self));
        Ok(())
    }

    /// Returns the units that tell a new document who is in the room.
    pub(crate) fn view(&self) -> Vec<stillhere::Message> {
        self.replica.view(self.id)
    }

    /// Called when everything that is read from now on comes from a new document.
    pub(crate) fn begin_document(&self) {
        self.replica.begin_document(self.id);
    }

    pub(super) fn set_state(&self, state: serde_json::Value, number: Option<u64>) -> Result<(), PublishError> {
        let id = self.id;
        self.replica.publish(Happening::State { id, state, number })
    }

    /// Tells the page who is in the room, at most once in 200 ms.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Leaves the room, and tells the page so, unless the room has been left: the session may have
    /// joined again since then.
    pub(super) fn leave(&self, shared: &Shared) {
        self.end(Some(shared), Departure::Left);
    }

    /// Ends the membership, unless it has ended before.
    fn end(&self, shared: Option<&Shared>, why: Departure) {
        let (keeper, is_first) = {
            let mut keeper = self.keeper();
            let is_first = self.departed.borrow().is_none();
            if is_first {
                self.departed.send_replace(Some(why));
            }
            (keeper.take(), is_first)
        };
        if !is_first {
            return;
        }
        if let Some(shared) = shared {
            self.forget(shared);
        }
        let out = (why == Departure::Left).then(|| out(&self.replica, Reason::Left, "").into());
        self.replica.begin_leaving(self.id, out);
        // A member that has not joined yet leaves once it has.
        if let Some(keeper) = keeper {
            self.replica.publish_always(Happening::Left { id: self.id, why });
            keeper.abort();
        }
    }

    /// Removes this membership from those of the session.
    fn forget(&self, shared: &Shared) {
        let rooms = &mut shared.lock().rooms;
        let seated = rooms.get(self.replica.name());
        if seated.is_some_and(|seated| std::ptr::eq(&**seated, self)) {
            rooms.remove(self.replica.name());
        }
    }
}

/// Returns the unit that tells a page that it is not a member.
pub(super) fn out(replica: &Replica, reason: Reason, text: &str) -> Vec<u8> {
    let out = Out { reason, text };
    room_unit(replica.codec, replica.name(), Action::Out, &out).expect("texts can be encoded")
}

/// Keeps a membership: tells the room whether the page is away, and the page what it has missed.
struct Keeper {
    seated: Arc<Seated>,
    core: stillhere::SessionHandle,
    shared: Weak<Shared>,
}

impl Keeper {
    async fn run(self, events: Events, is_away: bool) {
        let why = tokio::select! {
            () = self.watch(events, is_away) => Departure::Ended,
            () = self.keep_up() => Departure::Lagged,
            never = self.show() => match never {},
        };
        self.seated.end(self.shared.upgrade().as_deref(), why);
    }

    /// Tells the page who is in the room when it asks. Asking often costs no more.
    async fn show(&self) -> Infallible {
        loop {
            self.seated.asked.notified().await;
            self.seated.replica.show(self.seated.id);
            sleep(SHOW_INTERVAL).await;
        }
    }

    /// Tells the room when the page goes away and comes back. Returns when the session has ended.
    async fn watch(&self, mut events: Events, mut was_away: bool) {
        while events.next().await.is_some() {
            let state = self.core.state();
            let is_away = state.is_soft_closed();
            if is_away != was_away && state != SessionState::Closed {
                was_away = is_away;
                self.seated.replica.publish_always(Happening::Away {
                    id: self.seated.id,
                    is_away,
                    since: now(),
                });
            }
        }
    }

    /// Whenever the outbox was full, waits for room and sends what the page has missed. Returns
    /// when the membership has to end.
    async fn keep_up(&self) {
        let replica = &self.seated.replica;
        loop {
            self.seated.fell_behind.notified().await;
            while let Some((behind, members)) = replica.take_behind(self.seated.id) {
                if behind.is_out {
                    let _ = self.core.send(out(replica, Reason::Lagged, "")).await;
                    return;
                }
                for unit in self.missed(behind.missed).into_iter().chain(members) {
                    self.send(unit).await;
                }
                for event in behind.kept {
                    if !self.send(event).await
                        && let Some(missed) = self.missed(1)
                    {
                        self.send(missed).await;
                    }
                }
            }
        }
    }

    /// Sends a unit when there is room. Returns false if it can never be sent.
    async fn send(&self, unit: stillhere::Message) -> bool {
        match self.core.send(unit).await {
            Err(error @ CoreSendError::TooLarge { .. }) => {
                tracing::error!(room = self.seated.replica.name(), %error, "a member was not told of something");
                false
            }
            Ok(()) | Err(_) => true,
        }
    }

    /// Returns the unit that tells the page how many events it has missed.
    fn missed(&self, events: u64) -> Option<stillhere::Message> {
        let replica = &self.seated.replica;
        let unit = (events > 0).then(|| room_unit(replica.codec, replica.name(), Action::Missed, &events));
        unit?.ok().map(stillhere::Message::from)
    }
}

/// Time between two lists of the members for a page that asks for them.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);

/// Rooms that a session is in at a time.
const MOST_ROOMS: usize = 64;
