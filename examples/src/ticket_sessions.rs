//! Sessions for clients of any kind, for trying out and for load tests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stillhere::{Hub, Lane, Message, SendError, Session, SessionHandle, SessionId, TrySendError};

/// Most bytes that one flood request may ask for.
const LARGEST_FLOOD: u64 = 1 << 30;

/// When a drained client should reconnect.
const DRAIN_RETRY: Duration = Duration::from_secs(1);

/// Answers each message with itself, on its lane.
pub(crate) async fn run_echo(mut session: Session) -> Result<(), SendError> {
    while let Some(message) = session.recv().await {
        match message.lane() {
            Lane::Interactive => session.send(message).await?,
            Lane::Bulk => session.send_bulk(message).await?,
        }
    }
    Ok(())
}

/// Answers {count u32, size u32} with that many messages of that size.
pub(crate) async fn run_flood(mut session: Session, hub: Hub) -> Result<(), SendError> {
    while let Some(request) = session.recv().await {
        let Some((count, size)) = parse_flood(&request) else {
            session.abort("request a flood with {count u32, size u32}, little-endian");
            return Ok(());
        };
        let size = size.min(hub.session_options().limits.message);
        let count = LARGEST_FLOOD.checked_div(size).map_or(count, |most| count.min(most));
        let message = hub.share(vec![
            0;
            usize::try_from(size).expect("a message limit fits into memory")
        ]);
        for _ in 0..count {
            session.send(message.clone()).await?;
        }
    }
    Ok(())
}

fn parse_flood(request: &[u8]) -> Option<(u64, u64)> {
    let (count, size) = request.split_first_chunk()?;
    Some((
        u32::from_le_bytes(*count).into(),
        u32::from_le_bytes(size.try_into().ok()?).into(),
    ))
}

/// Never reads, so that its windows fill up.
pub(crate) async fn run_unread(session: Session) {
    session.ended().await;
}

/// Ends as requested, in each way in which a session may end.
pub(crate) async fn run_ending(mut session: Session) -> Result<(), SendError> {
    while let Some(message) = session.recv().await {
        match &message[..] {
            b"finish" => return session.send("bye").await,
            b"close" => session.close("closed because you asked"),
            b"abort" => session.abort("aborted because you asked"),
            b"drain" => session.drain(DRAIN_RETRY),
            b"soft-close" => session.soft_close(),
            b"panic" => panic!("a client asked for it"),
            _ => session.send("finish, close, abort, drain, soft-close or panic").await?,
        }
    }
    Ok(())
}

/// All sessions of the broadcast.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    members: Arc<Mutex<HashMap<SessionId, SessionHandle>>>,
}

impl Room {
    /// Forwards each of the session's messages to all sessions, including itself.
    pub(crate) async fn run_broadcast(self, mut session: Session, hub: Hub) {
        let _membership = self.join(session.handle());
        while let Some(message) = session.recv().await {
            self.broadcast(&hub.share(message));
        }
    }

    fn join(&self, handle: SessionHandle) -> Membership {
        let id = *handle.id();
        self.members().insert(id, handle);
        Membership { room: self.clone(), id }
    }

    /// Nobody waits for anybody: a session that has no room for the message is aborted.
    fn broadcast(&self, message: &Message) {
        let members: Vec<_> = self.members().values().cloned().collect();
        for member in members {
            if matches!(member.try_send(message.clone()), Err(TrySendError::Full(_))) {
                member.abort("too slow for this broadcast: the outbox was full");
            }
        }
    }

    fn members(&self) -> MutexGuard<'_, HashMap<SessionId, SessionHandle>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the room when it is dropped.
#[derive(Debug)]
struct Membership {
    room: Room,
    id: SessionId,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.members().remove(&self.id);
    }
}
