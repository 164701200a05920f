//! The machines in virtual time. The tests of the document carry the names of their TypeScript
//! twins.

mod data;
mod document;
mod harness;
mod host;
mod pair;
mod server;
