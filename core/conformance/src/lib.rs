#![doc = include_str!("../README.md")]

pub mod application;
pub mod browser;
pub mod carried;
pub mod cases;
pub mod fallback_bridge;
pub mod fault_proxy;
pub mod http;
pub mod load;
pub mod logins;
pub mod logs;
pub mod memory;
pub mod neighbour;
pub mod patience;
pub mod plain_client;
pub mod program;
pub mod random;
pub mod rate;
pub mod raw_connection;
pub mod raw_posts;
pub mod server;
pub mod shutdown;
pub mod socket;
mod suite;
mod tap;

#[doc(hidden)]
pub use stillhere::Hub;
pub use suite::run;

/// What a page needs to connect to its session.
pub mod credentials {
    pub use stillhere_client::Ticket as Credentials;
}
