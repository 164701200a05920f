//! Tests of the machines in virtual time. Each test of the document has the name of its TypeScript
//! twin.

mod data;
mod document;
mod harness;
mod host;
mod pair;
mod server;
