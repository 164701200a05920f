//! Promise 1 under difficult conditions: all network faults, under load, through the fault proxy.

use std::sync::Arc;
use std::time::Duration;

use stillhere::machine::{DocumentEvent, Outcome};
use stillhere::{PerLane, SessionHandle, SessionOptions, SessionState};

use crate::browser::Browser;
use crate::fault_proxy::{ConnectionHandle, Direction};
use crate::load::Load;
use crate::patience::within;
use crate::random::Random;
use crate::server::{Server, wait_for_state};

/// A session under load in both directions and on both lanes, with its browser behind the proxy.
struct Setup {
    load: Arc<Load>,
    session: SessionHandle,
    browser: Arc<Browser>,
}

impl Setup {
    async fn start(server: &Server, options: SessionOptions, seed: u64) -> Self {
        let sizes = PerLane::new(options.limits.message / 8, options.limits.message);
        let load = Load::new(sizes, seed);
        let session = server.hub.open_with(options, load.application());
        let browser = Arc::new(server.browse_through_proxy(&session));
        load.drive(&browser);
        browser.wait_for_outcome(Outcome::Opened).await;
        Self { load, session, browser }
    }

    /// Waits until this many more messages have arrived on both sides.
    async fn wait_for_progress(&self, messages: u64) {
        let (at_server, at_browser) = (self.load.at_server.received(), self.load.at_browser.received());
        self.load
            .at_server
            .wait_for_any("more messages at the server", at_server + messages)
            .await;
        self.load
            .at_browser
            .wait_for_any("more messages at the browser", at_browser + messages)
            .await;
    }

    /// Asserts that the document never changed.
    fn assert_resumed_only(&self) {
        for event in self.browser.events() {
            assert!(
                matches!(
                    event,
                    DocumentEvent::Welcomed {
                        outcome: Outcome::Opened | Outcome::Resumed,
                        incarnation: 1
                    } | DocumentEvent::Disconnected { .. }
                        | DocumentEvent::Pong { .. }
                ),
                "{event:?}"
            );
        }
    }
}

/// Returns options with limits so small that every limit is reached often.
fn small(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.limits.fragment = 1024;
    options.limits.window = 16 * 1024;
    options.limits.bulk_window = 4 * (1024 + stillhere::FRAME_CHARGE);
    options.limits.message = 64 * 1024;
    options.limits.outbox = 64 * 1024;
    options
}

/// Promise 1: connections are closed in order, as by the idle timeout of a proxy.
pub async fn nothing_is_lost_when_connections_are_cut(server: &Server) {
    under_load(server, small(server), 11, 30, async |_, connection, _| connection.cut()).await;
}

/// Promise 1: connections are reset.
pub async fn nothing_is_lost_when_connections_are_reset(server: &Server) {
    under_load(server, small(server), 12, 30, async |_, connection, _| {
        connection.reset();
    })
    .await;
}

/// Promise 1: connections break in the middle of a frame, in either direction, and sometimes before
/// the welcome.
pub async fn nothing_is_lost_when_frames_are_truncated(server: &Server) {
    under_load(server, small(server), 13, 40, async |_, connection, random| {
        let direction = if random.one_in(2) {
            Direction::ToUpstream
        } else {
            Direction::ToClient
        };
        connection.cut_after(direction, random.within(1..30_000));
    })
    .await;
}

/// Promises 1 and 3: connections become silent, and the browser replaces them while the server
/// still relies on them. Data in transit arrives late.
pub async fn nothing_is_lost_when_half_open_connections_are_replaced(server: &Server) {
    under_load(server, small(server), 14, 30, async |setup, connection, random| {
        connection.silence();
        setup.browser.lose_connection();
        within("a resume", async {
            while setup.browser.outcome().await != Outcome::Resumed {}
        })
        .await;
        match random.within(0..3) {
            0 => connection.resume(),
            1 => connection.reset(),
            _ => connection.cut(),
        }
    })
    .await;
}

/// Promise 1: connections stall for a moment and then continue.
pub async fn nothing_is_lost_when_connections_stall(server: &Server) {
    let options = small(server);
    let seed = Random::announced(15).number();
    let mut random = Random::new(seed);
    let setup = Setup::start(server, options, seed).await;
    for _ in 0..30 {
        server
            .newest_connection(&setup.session)
            .await
            .stall(Duration::from_millis(random.within(1..40)));
        setup.wait_for_progress(5).await;
    }
    setup.load.finish().await;
    assert_eq!(setup.session.snapshot().reconnects, 0);
}

/// Promise 1: high latency, with cuts.
pub async fn nothing_is_lost_over_a_long_way(server: &Server) {
    server.proxy.set_delay(Duration::from_millis(15));
    under_load(
        server,
        server.hub.session_options(),
        16,
        10,
        async |_, connection, random| {
            if random.one_in(2) {
                connection.cut();
            } else {
                connection.reset();
            }
        },
    )
    .await;
}

/// PROTOCOL 9.3: a browser with a half-open connection notices that when it is woken, and loses
/// nothing.
pub async fn a_browser_that_wakes_detects_that_its_connection_is_half_open(server: &Server) {
    let seed = Random::announced(17).number();
    let mut options = server.hub.session_options();
    options.timing.heartbeat = Duration::from_millis(500);
    let setup = Setup::start(server, options, seed).await;
    setup.wait_for_progress(10).await;
    server.newest_connection(&setup.session).await.silence();
    // Once the server has noticed the loss, no frame is in transit that would make the browser
    // believe that the server is alive.
    wait_for_state(&setup.session, SessionState::SoftClosed).await;
    setup.browser.wake();
    setup.browser.wait_for_outcome(Outcome::Resumed).await;
    setup.load.finish().await;
    setup.assert_resumed_only();
}

/// Promise 1: the server is unreachable for a while. The browser keeps trying and loses nothing.
pub async fn nothing_is_lost_while_the_server_cannot_be_reached(server: &Server) {
    let seed = Random::announced(18).number();
    let setup = Setup::start(server, small(server), seed).await;
    for _ in 0..3 {
        setup.wait_for_progress(20).await;
        server.proxy.refuse_new(true);
        let failed = setup.browser.close_codes().len();
        server.newest_connection(&setup.session).await.reset();
        setup.browser.wait_for_close_codes(failed + 3).await;
        server.proxy.refuse_new(false);
        setup.browser.wake();
        setup.browser.wait_for_outcome(Outcome::Resumed).await;
    }
    setup.load.finish().await;
    setup.assert_resumed_only();
}

/// Promise 1, the same property as in the simulation, over real sockets: four sessions each lose 55
/// connections to a mix of all faults, often with a second fault during the replay after the first.
pub async fn nothing_is_lost_in_a_storm_of_all_faults(server: &Server) {
    let seed = Random::announced(19).number();
    let storms = (0..4).map(|number| {
        // Two sessions have limits that are reached often, and two have the defaults.
        let options = if number % 2 == 0 {
            small(server)
        } else {
            server.hub.session_options()
        };
        storm(server, options, seed.wrapping_add(number))
    });
    futures_util::future::join_all(storms).await;
}

async fn storm(server: &Server, options: SessionOptions, seed: u64) {
    let mut random = Random::new(seed);
    let setup = Setup::start(server, options, seed).await;
    while setup.session.snapshot().reconnects < 55 {
        // Without waiting for progress, the fault hits the replay of the previous one, or even its
        // hello.
        if !random.one_in(3) {
            setup.wait_for_progress(random.within(1..20)).await;
        }
        let connection = server.newest_connection(&setup.session).await;
        match random.within(0..7) {
            0 => connection.cut(),
            1 => connection.reset(),
            2 => connection.cut_after(Direction::ToUpstream, random.within(1_000..100_000)),
            3 => connection.cut_after(Direction::ToClient, random.within(1_000..100_000)),
            4 => {
                connection.silence();
                setup.browser.lose_connection();
                setup.browser.disconnection().await;
                if random.one_in(2) {
                    connection.resume();
                } else {
                    connection.reset();
                }
            }
            5 => {
                connection.stall(Duration::from_millis(random.within(1..30)));
                setup.wait_for_progress(1).await;
                connection.reset();
            }
            _ => {
                setup.session.soft_close();
            }
        }
    }
    setup.load.finish().await;
    setup.assert_resumed_only();
}

async fn under_load(
    server: &Server,
    options: SessionOptions,
    seed: u64,
    faults: usize,
    mut fault: impl AsyncFnMut(&Setup, &ConnectionHandle, &mut Random),
) {
    let seed = Random::announced(seed).number();
    let mut random = Random::new(seed);
    let setup = Setup::start(server, options, seed).await;
    for _ in 0..faults {
        setup.wait_for_progress(5).await;
        let connection = server.newest_connection(&setup.session).await;
        fault(&setup, &connection, &mut random).await;
    }
    setup.load.finish().await;
    setup.assert_resumed_only();
    assert!(setup.session.snapshot().reconnects > 0);
}
