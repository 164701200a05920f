//! Runs the conformance suite over in-process connections, and checks that the suite detects faulty
//! adapters.

mod faulty;
mod liar;
mod server;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use server::{Fault, start, start_with};
use stillhere::{Hub, PerLane, SessionOptions};
use stillhere_conformance::load::Load;
use stillhere_conformance::random::Random;
use stillhere_conformance::server::Server;
use stillhere_conformance::{application, cases, run};

stillhere_conformance::suite!(start);

/// Runs a case against a server with this fault. Returns true if the case passes.
fn passes<F, R>(start: F, case: impl AsyncFnOnce(&Server)) -> bool
where
    F: Fn(Hub) -> R + Send + Sync + 'static,
    R: Future<Output = SocketAddr> + Send + 'static,
{
    catch_unwind(AssertUnwindSafe(|| run(start, case))).is_ok()
}

/// Creates one test for each mistake that an adapter makes easily: the case that detects it passes
/// without the fault and fails with it.
macro_rules! notices {
    ($($test:ident: $fault:ident by $theme:ident::$case:ident;)*) => { $(
        #[test]
        fn $test() {
            assert!(passes(start, cases::$theme::$case));
            assert!(!passes(|hub| start_with(hub, Some(Fault::$fault)), cases::$theme::$case));
        }
    )* };
}

notices! {
    pings_that_are_not_answered_are_noticed: NoPong by web_socket::a_ping_is_answered;
    a_lost_close_code_is_noticed: LostCloseCode by bad_input::an_unknown_id_is_refused;
    a_frame_limit_of_the_frameworks_own_is_noticed: DefaultFrameLimit by web_socket::a_fragment_above_the_frameworks_defaults_arrives;
    packets_that_the_kernel_holds_back_are_noticed: Nagle by order::a_small_message_does_not_wait_for_the_one_before;
}

/// The sequence numbers reveal a connection that loses, repeats or reorders frames before the
/// application receives anything wrong, and the session resumes.
#[test]
fn a_lying_connection_costs_time_and_nothing_else() {
    async fn nothing_wrong_is_delivered(server: &Server) {
        let load = Load::new(PerLane::new(100_000, 400_000), Random::announced(1).number());
        let session = server.hub.open_with(impatient(server), load.application());
        let browser = std::sync::Arc::new(server.browse(&session));
        load.drive(&browser);
        let enough = PerLane::new(300, 50);
        load.at_browser.wait_for("messages from the server", enough).await;
        load.at_server.wait_for("messages from the browser", enough).await;
        load.finish().await;
        assert!(session.snapshot().reconnects > 3, "the distortions were detected");
    }
    run(|hub| start_with(hub, Some(Fault::Lies)), nothing_wrong_is_delivered);
}

/// PROTOCOL 9.2: a loss that no gap reveals, because nothing follows it, is detected within two
/// heartbeats in either direction.
#[test]
fn the_loss_of_the_last_packet_is_detected() {
    async fn the_last_message_arrives(server: &Server) {
        let session = server.hub.open_with(impatient(server), application::echo);
        let browser = server.browse(&session);
        browser
            .send("lost on its way there and back")
            .expect("the session is open");
        assert_eq!(browser.recv().await.payload, "lost on its way there and back");
        assert_eq!(session.snapshot().reconnects, 2, "one for each loss");
    }
    run(|hub| start_with(hub, Some(Fault::Swallows)), the_last_message_arrives);
}

/// Returns options with a short heartbeat.
fn impatient(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.timing.heartbeat = Duration::from_millis(300);
    options
}
