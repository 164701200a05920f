//! Sessions that outlive their process.

mod file_store;
mod memory_store;
mod store;

pub use file_store::{FileStore, FileStoreOptions, OpenStoreError};
pub use memory_store::MemoryStore;
pub use store::{Commit, Record, Store, StoreError, StoreFuture};
