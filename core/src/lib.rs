#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod asks;
mod base_url;
mod carrier;
pub mod cleanup;
pub mod client;
mod clock;
#[cfg(feature = "cluster")]
pub mod cluster {
    //! Several servers as one; see [`Cluster`].

    pub use crate::hub::{
        BoxConnection, Cluster, ClusterError, ClusterFuture, PostOutcome, UserSession, Visitor, WeakHub,
    };
}
mod compression;
pub mod connection;
mod connection_loop;
mod connection_waker;
mod drain;
#[cfg(feature = "durable")]
pub mod durable {
    //! Sessions that outlive their process; see [`Hub::durable`](crate::Hub::durable).

    pub(crate) mod durability;
    pub(crate) mod file_record;
    pub(crate) mod file_store;
    pub(crate) mod head;
    pub(crate) mod memory_store;
    pub(crate) mod overdue;
    pub(crate) mod state;
    pub(crate) mod store;

    pub use self::durability::Durability;
    pub use self::file_store::{FileStore, FileStoreOptions, OpenStoreError};
    pub use self::head::TurnId;
    pub use self::memory_store::MemoryStore;
    pub use self::state::State;
    pub use self::store::{Commit, Record, Store, StoreError, StoreFuture};
    pub use crate::hub::DurableKind;
}
mod exchange;
mod extensions;
mod fallback;
mod gate;
mod guard;
mod hello;
mod http;
pub mod http_answer;
mod hub;
mod kind;
mod latest;
mod lock;
mod memory;
mod options;
mod origin;
mod pair;
mod peer;
mod plain;
mod rate_limited_log;
#[cfg(feature = "cluster")]
mod relay;
mod request;
mod script_tag;
mod session;
mod stop;
mod ticket;
#[cfg(feature = "upgrade")]
pub mod upgrade;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use admission::{Accepted, NotOurProtocol};
pub use asks::Asks;
pub use cleanup::{
    CleanupPolicy, DefaultCleanupPolicy, MemoryBudget, PrincipalCap, SessionSnapshot, SessionState, WhileAuthenticated,
};
pub use connection::{Connection, ConnectionError};
pub use connection_loop::run_connection_loop;
pub use drain::DrainReport;
pub use guard::guarded_principal;
pub use http_answer::{AnswerBody, Chunks};
pub use hub::{Hub, HubBuilder, Stats};
pub use kind::ConnectionSetup;
pub use options::{PlainCompression, PlainOptions, PlainText, Renewal, SessionOptions};
pub use pair::{PairEnd, connection_pair};
pub use peer::Share;
pub use request::{SessionRequest, name_of};
pub use script_tag::static_script_tag;
pub use session::{Events, Incoming, Restoring, SendError, SendLatestError, Session, SessionHandle, TrySendError};
pub use stillhere_proto::EndReason;
pub use stillhere_proto::machine::Cause;
pub use stillhere_proto::{DocumentId, ParseIdError, Secret, SessionId};
pub use stillhere_proto::{FRAME_CHARGE, Limits};
pub use stillhere_proto::{Lane, Message, PerLane};
pub use stillhere_proto::{code, machine, wire};
pub use stop::stop_signal;
pub use ticket::Ticket;
