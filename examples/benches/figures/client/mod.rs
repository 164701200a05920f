//! The load: pages that speak a server's protocol and check all that they receive. They do as
//! little as they can besides, so that the server is what limits the load.

mod document;
mod page;
mod socket;

pub(crate) use document::Document;
pub(crate) use page::{ACKNOWLEDGEMENT, Page, payload};
