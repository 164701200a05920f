//! The result of a search for a session.

use std::sync::Arc;

#[cfg(feature = "cluster")]
use tokio_util::sync::CancellationToken;

#[cfg(feature = "cluster")]
use crate::hub::BoxConnection;
use crate::session::Shared;
use stillhere_proto::code::Code;
use stillhere_proto::wire::End;

/// Where the session of a connection turned out to be.
pub(crate) enum Whereabouts {
    Here(Arc<Shared>),
    /// On another server.
    #[cfg(feature = "cluster")]
    There(Hop),
}

/// A connection to the server that has a session.
#[cfg(feature = "cluster")]
pub(crate) struct Hop {
    pub(crate) far: BoxConnection,
    /// Cancelled when this server shuts down.
    pub(crate) leaving: CancellationToken,
}

/// Returns what tells a peer that its session is not known.
pub(crate) fn unknown() -> End {
    let text = "this server has no such session: it ended some time ago, or the server restarted";
    End::connection(Code::Unknown, text)
}

#[cfg(feature = "durable")]
pub(super) fn busy(text: &str) -> End {
    End::connection(Code::Busy, text).retry_after(1000)
}
