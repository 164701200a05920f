//! The document's side of a session.

mod connecting;
mod end;
mod time;

use std::time::Duration;

use crate::machine::tests::harness::{KEEP, LIMITS, Page, ms, welcome};
use crate::machine::{DocumentEvent, DocumentPhase, Outcome};
use crate::wire::Welcome;

const SUSPICION: Duration = Duration::from_secs(35);
const PATIENCE: Duration = Duration::from_secs(5);

fn outcome(page: &mut Page) -> Outcome {
    match page.events().pop() {
        Some(DocumentEvent::Welcomed { outcome, .. }) => outcome,
        other => panic!("expected a welcome, got {other:?}"),
    }
}

/// Returns a page whose connection is old enough to reset the backoff.
fn settled() -> Page {
    settled_with(KEEP.as_millis() as u64)
}

fn settled_with(keep: u64) -> Page {
    let mut page = Page::connected_with(LIMITS, Welcome { keep, ..welcome() });
    page.advance(ms(1000));
    page
}

/// Fails this many attempts as soon as they start. Returns the delay after each one.
fn delays(page: &mut Page, count: usize) -> Vec<Duration> {
    let fail = || {
        let from = page.now;
        page.lose();
        page.now - from
    };
    std::iter::repeat_with(fail).take(count).collect()
}

/// Returns the longest delay that many pages draw for each attempt, which is close to the upper
/// bound.
fn longest_delays(make: impl Fn(u64) -> Page, count: usize) -> Vec<u128> {
    let drawn = (0..300).map(|seed| delays(&mut make(seed), count)).collect::<Vec<_>>();
    (0..count)
        .map(|turn| {
            drawn
                .iter()
                .map(|delays| delays[turn])
                .max()
                .unwrap_or_default()
                .as_millis()
        })
        .collect()
}

fn assert_near(longest: &[u128], bounds: &[u128]) {
    for (longest, bound) in longest.iter().zip(bounds) {
        assert!(
            longest <= bound && *longest >= bound * 9 / 10,
            "{longest} is not near {bound}"
        );
    }
    assert_eq!(longest.len(), bounds.len());
}

fn assert_over(page: &mut Page) {
    page.forget();
    let now = page.now;
    page.machine.handle_wake(now);
    page.machine.handle_close(page.connection, 1006, now);
    page.machine.handle_hidden(true, now);
    page.machine.handle_hidden(false, now);
    page.machine.handle_leave();
    page.machine.handle_wake(now);
    page.machine.handle_bad_payload(false);
    page.advance(Duration::from_secs(1_000_000));
    page.assert_quiet();
    assert_eq!(page.machine.poll_timeout(), None);
    assert_eq!(page.phase(), DocumentPhase::Over);
}
