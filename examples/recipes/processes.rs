//! Several processes behind one proxy. Each has its own mount, so the path of a session names the
//! process that holds it.

use stillhere_axum::Hub;

pub(crate) fn hub(process: u16) -> Hub {
    Hub::builder().mount(&format!("/stillhere-{process}")).build()
}
