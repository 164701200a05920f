#![doc = include_str!("../README.md")]

mod builder;
mod client;
mod connection;
mod driver;
mod endpoint;
mod fallback;
mod network;
mod page;
mod posts;
mod random;
mod route;
mod shared;
mod status;
mod ticket;
mod websocket;

pub use builder::{ClientBuilder, ConnectError};
pub use client::{Client, SendError};
pub use connection::{Connection, ConnectionError, Connector, Opening, Packet};
pub use driver::Driver;
pub use endpoint::Endpoint;
pub use fallback::Fallback;
pub use page::PageError;
pub use route::Route;
pub use status::{Attempt, Status};
pub use ticket::{Ticket, TicketError};
pub use websocket::WebSocket;

pub use stillhere_proto::machine::{Outcome, SendRefused};
pub use stillhere_proto::{Lane, Limits, Message};
