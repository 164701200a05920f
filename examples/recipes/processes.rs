//! Several processes behind one proxy. Each has a mount of its own, so that the path of a session
//! names the process that holds it.

use stillhere_axum::Hub;

pub(crate) fn hub(process: u16) -> Hub {
    Hub::builder().mount(&format!("/stillhere-{process}")).build()
}
