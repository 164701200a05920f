//! Tickets for clients of any kind: one for each feature of a session. The README describes what to
//! try with each.

use std::future::Future;
use std::time::Duration;

use stillhere::{Hub, HubBuilder, Limits, PlainCompression, PlainOptions, SendError, Session, SessionHandle};

use crate::ticket_sessions::{Room, run_echo, run_ending, run_flood, run_unread};

/// Opens the sessions of the tickets.
#[derive(Clone, Debug)]
pub(crate) struct Tickets {
    hub: Hub,
    /// A hub without room for sessions.
    full: Hub,
    room: Room,
}

impl Tickets {
    /// Creates tickets for sessions of this hub, which must be built with [`with_users`].
    pub(crate) fn new(hub: &Hub) -> Self {
        Self {
            hub: hub.clone(),
            full: Hub::builder().max_sessions(0).build(),
            room: Room::default(),
        }
    }

    /// Opens a session of this kind. Returns `None` if the kind does not exist.
    pub(crate) fn open(&self, name: &str) -> Option<SessionHandle> {
        let hub = self.hub.clone();
        let mut options = hub.session_options();
        let plain = |compression| {
            let mut plain = PlainOptions::default();
            plain.compression = compression;
            hub.open_plain(plain, echo)
        };
        Some(match name {
            "echo" => hub.open(echo),
            "flood" => hub.open({
                let hub = hub.clone();
                |session| until_over(run_flood(session, hub))
            }),
            "broadcast" => {
                let (room, hub) = (self.room.clone(), hub.clone());
                self.hub.open(|session| room.run_broadcast(session, hub))
            }
            "compressed" => {
                options.compress_from = Some(COMPRESS_FROM);
                hub.open_with(options, echo)
            }
            "small" => {
                options.limits = SMALL;
                hub.open_with(options, echo)
            }
            "unread" => {
                options.limits = SMALL;
                hub.open_with(options, run_unread)
            }
            "heartbeat" => {
                options.timing.heartbeat = SHORT_HEARTBEAT;
                hub.open_with(options, echo)
            }
            "takeover" => {
                options.timing.probe = None;
                hub.open_with(options, echo)
            }
            "user" => hub.open_for(USER, echo),
            "ending" => hub.open(|session| until_over(run_ending(session))),
            "plain" => plain(PlainCompression::None),
            "plain-zlib" => plain(PlainCompression::Zlib),
            "plain-gzip" => plain(PlainCompression::Gzip),
            "full" => self.full.open(echo),
            _ => return None,
        })
    }
}

/// Lets a hub determine its users in the simplest way: by the cookie `demo-user`, without a check.
pub(crate) fn with_users(hub: HubBuilder) -> HubBuilder {
    hub.principal(|request| request.cookie("demo-user").map(str::to_owned))
}

async fn echo(session: Session) {
    until_over(run_echo(session)).await;
}

/// Runs an application until its session ends. Noticing the end while sending is not an error.
pub(crate) async fn until_over(application: impl Future<Output = Result<(), SendError>>) {
    let _ = application.await;
}

/// The user of the sessions in the `user` ticket.
const USER: &str = "ada";

const COMPRESS_FROM: usize = 64;

const SHORT_HEARTBEAT: Duration = Duration::from_secs(1);

/// The limits of the transcripts in `core/vectors`.
const SMALL: Limits = Limits {
    fragment: 100,
    message: 1_000,
    inflated: 10_000,
    window: 2_000,
    bulk_window: 1_000,
    outbox: 10_000,
};
