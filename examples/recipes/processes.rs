//! Several processes behind one proxy: each has a mount of its own, so that a session's path names the process that holds it.

use stillhere_axum::Hub;

pub(crate) fn hub(process: u16) -> Hub {
    Hub::builder().mount(&format!("/stillhere-{process}")).build()
}
