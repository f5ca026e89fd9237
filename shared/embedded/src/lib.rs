//! The ports on one machine: rows on SQLite, contents in a folder, the rest in memory.
//!
//! **Invariant**: one process at a time works on a data folder, which it holds a lock on. So leases that are found at the
//! start are of a process that ended, and are released.

mod clock;
mod data_folder;
mod files;
mod folder;
mod memory;
mod sqlite;

pub use clock::SteadyClock;
pub use data_folder::{FolderLock, OpenError, load_or_create_secret};
pub use folder::contents::FolderContents;
pub use folder::space::SpaceLimits;
pub use memory::swarm::MemorySwarm;
pub use memory::task_queue::{ChannelTaskQueue, Delivery, TaskReceiver, channel};
pub use sqlite::database::{Database, DatabaseOptions};
pub use sqlite::guards::SqliteGuards;
pub use sqlite::requests::SqliteRequests;
pub use sqlite::torrents::SqliteTorrents;
