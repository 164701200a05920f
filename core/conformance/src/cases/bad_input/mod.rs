//! Promise 6: nothing a peer sends makes the server panic, hang or allocate without bound. Each
//! violation gets its own code, and a neighbouring session notices nothing.

mod admission;
mod counts;
mod frames;

use stillhere::{EndReason, SessionHandle};

use crate::raw_connection::RawConnection;
use crate::server::end_of;

pub use admission::*;
pub use counts::*;
pub use frames::*;

/// Asserts that the session ends with `reason`, and that the browser is told so by frame and by
/// close.
async fn assert_ends(session: &SessionHandle, mut raw: RawConnection, reason: EndReason) {
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (reason.code() as u64, reason.number()));
    assert_eq!(end_of(session).await, reason);
}
