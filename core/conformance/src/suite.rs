//! Turns cases into tests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Mutex, Once, PoisonError};

use stillhere::Hub;
use tokio::runtime::Builder;

use crate::server::Server;

/// Runs a case against a server that `start` starts, with a hub with default settings.
///
/// The runtime has two threads, as servers have several, so that steps which must not interleave
/// have a chance to do so.
///
/// # Panics
/// Panics if the case fails, or if a task of the server panics.
pub fn run<F, R>(start: F, case: impl AsyncFnOnce(&Server))
where
    F: Fn(Hub) -> R + Send + Sync + 'static,
    R: Future<Output = SocketAddr> + Send + 'static,
{
    let panics = Panics::watch();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the runtime starts");
    runtime.block_on(async {
        let server = Server::start(Hub::new(), start).await;
        case(&server).await;
    });
    // The tasks that a case leaves behind must not delay the test.
    runtime.shutdown_background();
    panics.assert_none_but_ours();
}

/// Panics while a case runs, which includes those in tasks whose panics nobody observes. The cases'
/// own applications may panic, because some cases are about that.
struct Panics(&'static Mutex<Vec<String>>);

impl Panics {
    fn watch() -> Self {
        static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        static WATCHING: Once = Once::new();
        WATCHING.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                usual(panic);
                let is_ours = panic.location().is_some_and(|place| is_ours(place.file()));
                if !is_ours {
                    SEEN.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(panic.to_string());
                }
            }));
        });
        Self(&SEEN)
    }

    fn assert_none_but_ours(&self) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(seen.is_empty(), "the server panicked: {seen:?}");
    }
}

/// Returns true if this is a source file of the cases and their applications: a file of this crate.
fn is_ours(file: &str) -> bool {
    let sources = file!().trim_end_matches("suite.rs");
    file.starts_with(sources)
}

/// Creates one test for each case, over WebSockets. `$start` is an `async fn(Hub) -> SocketAddr` in
/// scope that starts a server of the adapter.
#[macro_export]
macro_rules! suite {
    ($start:ident) => {
        $crate::all_cases! { [$crate::tests] [any connection web_socket] $start }
    };
}

/// Creates one test for each case that applies to all kinds of connection, and not only to
/// WebSockets. `$start` is as for [`suite!`].
#[macro_export]
macro_rules! connection_suite {
    ($start:ident) => {
        $crate::all_cases! { [$crate::tests] [any connection] $start }
    };
}

/// Creates the tests of [`connection_suite!`] except those in which the server must notice the loss
/// of a connection at once. Between two polls there is no connection that could be lost.
#[macro_export]
macro_rules! polled_suite {
    ($start:ident) => {
        $crate::all_cases! { [$crate::tests] [any] $start }
    };
}

/// Creates the tests of a few cases over polling, for adapters other than the one on which
/// [`polled_suite!`] runs. They cover what frameworks do differently: how they drop a request.
#[macro_export]
macro_rules! polled_sample {
    ($start:ident) => {
        $crate::all_cases! { [$crate::tests] [sample] $start }
    };
}

/// Creates the modules `streamed` and `polled`, whose tests run over the fallback: all of
/// [`connection_suite!`] over streamed answers, and `$polled`, which is `polled_suite` or
/// `polled_sample`, by polling. `$serve` is as `$start` for [`suite!`].
#[macro_export]
macro_rules! fallback_suite {
    ($serve:ident, $polled:ident) => {
        mod streamed {
            async fn start(hub: $crate::Hub) -> ::std::net::SocketAddr {
                $crate::fallback_bridge::start(super::$serve(hub).await, None).await
            }

            $crate::connection_suite! { start }
        }

        mod polled {
            async fn start(hub: $crate::Hub) -> ::std::net::SocketAddr {
                let wait = ::std::time::Duration::from_millis(100);
                $crate::fallback_bridge::start(super::$serve(hub).await, Some(wait)).await
            }

            $crate::$polled! { start }
        }
    };
}

/// Creates a module for each theme that has cases for one of the places in `$places`.
#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    ($places:tt $start:ident $($place:ident $theme:ident $cases:tt)*) => { $(
        $crate::theme! { $places $place $theme $start $cases }
    )* };
}

/// Creates the module of one theme, if the suite with these places includes it.
#[doc(hidden)]
#[macro_export]
macro_rules! theme {
    ([sample] $place:ident $theme:ident $start:ident { $($case:ident $($sample:ident)?,)* }) => {
        mod $theme { $( $(
            $crate::case! { $sample $theme $case $start }
        )? )* }
    };
    ([any $($more:ident)*] any $theme:ident $start:ident $cases:tt) => {
        $crate::theme! { $theme $start $cases }
    };
    ([any connection $($more:ident)*] connection $theme:ident $start:ident $cases:tt) => {
        $crate::theme! { $theme $start $cases }
    };
    ([any connection web_socket] web_socket $theme:ident $start:ident $cases:tt) => {
        $crate::theme! { $theme $start $cases }
    };
    ([$($places:ident)*] $place:ident $theme:ident $start:ident $cases:tt) => {};
    ($theme:ident $start:ident { $($case:ident $($sample:ident)?,)* }) => {
        mod $theme { $(
            $crate::case! { test $theme $case $start }
        )* }
    };
}

/// Creates the test of one case.
#[doc(hidden)]
#[macro_export]
macro_rules! case {
    ($mark:ident $theme:ident $case:ident $start:ident) => {
        #[test]
        fn $case() {
            $crate::run(super::$start, $crate::cases::$theme::$case);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_this_crate_are_ours_and_no_others() {
        let case = file!().replace("suite.rs", "cases/order.rs");
        let other = format!("elsewhere/{}", file!());
        assert_eq!([file!(), &case, &other].map(is_ours), [true, true, false]);
    }
}
