//! The ticket and the script tag, which connect a page with its session.

use std::sync::Arc;
use std::time::Duration;

use crate::kind::{ConnectionSetup, Kind};
use crate::script_tag::{client_tag, plain_tag};
use crate::session::SessionHandle;
use crate::session::shared::Shared;
use crate::ticket::Ticket;
use stillhere_proto::EndReason;
use stillhere_proto::code::Code;

impl Shared {
    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        self.ticket_for(&self.connection_setup())
    }

    /// Returns the script elements of the page. `script` is the name of the client's file.
    pub(crate) fn script_tag(self: &Arc<Self>, script: &str, nonce: Option<&str>) -> String {
        let attributes = &nonce.map_or_else(String::new, nonce_attribute);
        let setup = self.connection_setup();
        let src = format!("{}/{script}", setup.base(&self.common.base));
        let mut tag = client_tag(&src, attributes, &self.options.renewal, &self.ticket_for(&setup));
        if let Some(script) = &setup.script {
            tag.push_str(&plain_tag(script, attributes));
        }
        tag
    }

    /// Returns the address of the session below `base`, which is where the page finds the mount.
    pub(crate) fn url(&self, base: &str) -> String {
        format!("{base}/{}", self.id)
    }

    fn connection_setup(self: &Arc<Self>) -> ConnectionSetup {
        let session = SessionHandle::new(Arc::clone(self));
        self.common
            .host
            .upgrade()
            .map_or_else(ConnectionSetup::web_socket, |host| host.connection_setup(&session))
    }

    fn ticket_for(&self, setup: &ConnectionSetup) -> Ticket {
        if setup.kind == Kind::None {
            return Ticket::without_server();
        }
        let refused = |code, reason: &EndReason| Ticket::refused(code, REFUSED_RETRY, reason.to_string());
        match self.end_reason() {
            Some(reason @ EndReason::Full) => return refused(Code::Full, &reason),
            Some(reason @ EndReason::Draining) => return refused(Code::Draining, &reason),
            _ => {}
        }
        let url = self.url(setup.base(&self.common.base));
        let (limits, restore) = (self.options.limits.normalised(), self.options.restore.clone());
        Ticket::access(url, &self.id, self.secret(), limits, restore).with_connection(setup.name())
    }
}

fn nonce_attribute(nonce: &str) -> String {
    let is_base64 = nonce.chars().all(|c| c.is_ascii_alphanumeric() || "+/=-_".contains(c));
    if is_base64 {
        format!(" nonce=\"{nonce}\"")
    } else {
        String::new()
    }
}

/// How long a refused page should wait before it tries again.
pub(crate) const REFUSED_RETRY: Duration = Duration::from_secs(5);
