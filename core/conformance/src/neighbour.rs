//! A session beside the one of the case, which must not be affected.

use stillhere::machine::{DocumentEvent, Outcome};
use stillhere::{SessionHandle, SessionState};

use crate::application::echo;
use crate::browser::Browser;
use crate::server::Server;

/// A connected echo session.
#[derive(Debug)]
pub struct Neighbour {
    session: SessionHandle,
    browser: Browser,
}

impl Neighbour {
    /// Opens the session and connects its browser.
    pub async fn move_in(server: &Server) -> Self {
        let session = server.hub.open(echo);
        let browser = server.browse(&session);
        browser.wait_for_outcome(Outcome::Opened).await;
        let neighbour = Self { session, browser };
        neighbour.talk().await;
        neighbour
    }

    /// Asserts that the session still has its first connection, which carries messages in both
    /// directions.
    ///
    /// # Panics
    /// Panics if that does not hold.
    pub async fn assert_untouched(&self) {
        self.talk().await;
        assert_eq!(self.session.state(), SessionState::Open);
        let expected = DocumentEvent::Welcomed {
            outcome: Outcome::Opened,
            incarnation: 1,
        };
        assert_eq!(
            self.browser.events(),
            [expected],
            "the neighbour's browser got no other event"
        );
    }

    async fn talk(&self) {
        self.browser
            .send("hello, neighbour")
            .expect("the neighbour's session is open");
        assert_eq!(self.browser.recv().await.payload, "hello, neighbour");
    }
}
