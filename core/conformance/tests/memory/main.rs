//! Everything an adapter must do, over a connection within the process; and whether the suite would notice if it did not.

mod faulty;
mod server;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use server::{Fault, start, start_with};
use stillhere::Hub;
use stillhere_conformance::server::Server;
use stillhere_conformance::{cases, run};

stillhere_conformance::suite!(start);

/// Runs a case against a server with this fault. Whether it passes.
fn passes<F, R>(start: F, case: impl AsyncFnOnce(&Server)) -> bool
where
    F: Fn(Hub) -> R + Send + Sync + 'static,
    R: Future<Output = SocketAddr> + Send + 'static,
{
    catch_unwind(AssertUnwindSafe(|| run(start, case))).is_ok()
}

/// One test for each thing that an adapter gets wrong easily: the case that finds it passes without it and fails with it.
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
