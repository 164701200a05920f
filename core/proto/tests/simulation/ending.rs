//! Ends a schedule and checks that the last messages arrive, that everybody is told, and that all
//! counts agree.

use stillhere_proto::EndReason;
use stillhere_proto::Lane;
use stillhere_proto::machine::Phase;

use crate::ledger;
use crate::page::{Verdict, Wanted};
use crate::plan::{MS, SECOND};
use crate::world::World;

impl World<'_> {
    /// Ends the session, if it has not ended, and checks the final state of the session and its
    /// pages.
    pub(crate) fn run_end(&mut self) {
        self.trace(|_| "==== end".to_owned());
        if self.is_session_over() {
            return self.check_accounts(false);
        }
        let has_time = self.plan.keep > 60 * SECOND && self.plan.timing.ending.as_secs() >= 20;
        let mut is_complete = self.say_last_words() && has_time;
        let cut = self
            .random
            .pick(&[Cut::Never, Cut::Never, Cut::Long, Cut::Before, Cut::After]);
        if matches!(cut, Cut::Long | Cut::Before) {
            self.cut_the_last_connection();
        }
        if cut == Cut::Long {
            let before = self.server.attached;
            while self.server.attached == before && self.step(self.now + SECOND) {}
        }
        // On a connection that is already dead, an ending session waits only for a limited time.
        is_complete &= !matches!(cut, Cut::Before | Cut::After);
        let closes = self.random.percent(70);
        if closes {
            self.close_session();
        } else {
            self.abort_session();
        }
        if cut == Cut::After {
            self.cut_the_last_connection();
        }
        let began = self.now;
        while !self.is_session_over() || self.has_willing_page() {
            assert!(
                self.now < began + 60 * SECOND,
                "the end did not arrive: {:?}",
                self.server.machine.phase()
            );
            self.run_until(self.now + 100 * MS);
        }
        let reason = if closes {
            EndReason::Finished
        } else {
            EndReason::Aborted("enough".into())
        };
        assert!(self.plan.keep < 60 * SECOND || self.server.machine.phase() == &Phase::Closed(reason));
        self.check_accounts(closes && is_complete);
    }

    /// Lets the application send one more message on both sides. Returns true if both found room.
    fn say_last_words(&mut self) -> bool {
        let page = (0..self.pages.len()).find(|page| self.pages[*page].is_alive && !self.pages[*page].is_over());
        let page = page.expect("a settled session has a page");
        let mut all_in = true;
        for lane in Lane::ALL {
            let size = self.plan.size(&mut self.random);
            all_in &= self.server_sends(Wanted { lane, size });
            let size = self.plan.size(&mut self.random);
            all_in &= self.page_sends(page, Wanted { lane, size });
        }
        self.server.application.wanted = None;
        self.pages[page].application.wanted = None;
        if self.random.percent(50) {
            self.run_until(self.now + 30 * MS);
        }
        all_in
    }

    fn cut_the_last_connection(&mut self) {
        if let Some(attached) = self.server.attached {
            self.connections[attached].cut(&self.plan, self.now, &mut self.random);
        }
    }

    fn check_accounts(&mut self, is_complete: bool) {
        self.read_the_rest();
        assert!(self.server.ended.is_some(), "every end is reported");
        assert!(
            self.server.machine.poll_timeout().is_none(),
            "nothing is due after the end"
        );
        assert!(!self.server.machine.has_connection());
        assert!(self.server.opened <= 1);
        for (index, page) in self.pages.iter().enumerate() {
            for lane in Lane::ALL {
                let (told, received) = (page.acknowledged_messages(lane), page.sent[lane].received());
                assert!(
                    told <= received,
                    "{told} messages of page {index} were acknowledged, but {received} were delivered"
                );
            }
        }
        for (index, page) in self.pages.iter().enumerate().filter(|(_, page)| page.is_alive) {
            assert!(
                page.verdict.is_some(),
                "page {index} was never told why the session ended"
            );
            assert_eq!(
                page.browser.next_timeout(),
                None,
                "page {index} has a timeout after the end"
            );
            if let Some(Verdict::Ended {
                unacknowledged,
                was_connected,
                reason,
            }) = page.verdict
            {
                let lost = ledger::missing(&page.sent);
                let is_exact = was_connected && page.incarnation.is_some();
                let is_right = if is_exact {
                    unacknowledged == lost
                } else {
                    unacknowledged >= lost
                };
                assert!(
                    is_right,
                    "page {index} was told that {unacknowledged} messages were not received, but {lost} were not"
                );
                assert!(
                    self.server.reasons.contains(&reason),
                    "page {index} was told a different reason"
                );
            }
        }
        self.check_what_the_server_knows(is_complete);
    }

    fn check_what_the_server_knows(&self, is_complete: bool) {
        let current = self.server.machine.incarnation() as usize;
        let Some(page) = self.server.pages[current].filter(|page| self.pages[*page].is_alive) else {
            return;
        };
        let lost = ledger::missing(&self.server.sent[current]);
        let told = self.server.machine.unacknowledged();
        assert!(
            lost <= told,
            "the server reports {told} unacknowledged messages, but page {page} lacks {lost}"
        );
        if is_complete {
            assert_eq!(told, 0, "a closed session delivers everything");
        }
    }

    fn read_the_rest(&mut self) {
        while self.server.machine.has_message() {
            self.server_reads();
        }
        for index in 0..self.pages.len() {
            while self.pages[index].is_alive && self.pages[index].holds_messages() {
                let before = self.missing(index);
                for lane in Lane::ALL {
                    self.pages[index].release_at[lane] = self.pages[index].release_at[lane].map(|_| self.now);
                }
                self.page_reads(index);
                if self.missing(index) == before
                    && Lane::ALL
                        .iter()
                        .all(|lane| self.pages[index].release_at[*lane].is_none())
                {
                    break;
                }
            }
        }
    }
}

/// When the last connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Never,
    /// Long before the end, so that the session is soft-closed when it ends.
    Long,
    Before,
    After,
}
