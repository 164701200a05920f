//! The record of an ended session: enough to repeat the checks of a live session, and to report why
//! it ended.

use std::sync::Arc;

use crate::session::{REFUSED_RETRY, Shared};
use stillhere_proto::EndReason;
use stillhere_proto::Secret;
use stillhere_proto::code::Class;
use stillhere_proto::wire::{End, millis};

/// An ended session. A request for it must pass the same checks as for a live session before it
/// learns anything.
#[derive(Debug, Clone)]
pub(crate) struct EndedSession {
    secret: Secret,
    principal: Option<Arc<str>>,
    is_plain: bool,
    reason: EndReason,
}

impl EndedSession {
    pub(super) fn new(session: &Shared, reason: &EndReason) -> Self {
        Self {
            secret: session.secret().clone(),
            principal: session.options().principal.clone(),
            is_plain: session.plain.is_some(),
            reason: reason.clone(),
        }
    }

    pub(crate) fn has_secret(&self, secret: &Secret) -> bool {
        self.secret == *secret
    }

    pub(crate) fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    pub(super) fn reason(&self) -> &EndReason {
        &self.reason
    }

    /// Returns what to tell a client that has passed the checks.
    pub(crate) fn end(&self) -> End {
        let end = End::of(&self.reason);
        let retry_after = match Class::of(end.code) {
            Class::Later => millis(REFUSED_RETRY),
            Class::Never | Class::Now | Class::Ignore => 0,
        };
        end.retry_after(retry_after)
    }
}
