//! Adapters of the ports for a single machine: rows in SQLite, contents in a folder, the rest in memory.
//!
//! **Invariant**: only one process uses a data folder, protected by a lock. Therefore leases found at startup belong
//! to a process that ended, and are released.

mod clock;
mod data_folder;
mod files;
mod folder;
mod memory;
mod sqlite;

pub use clock::SteadyClock;
pub use data_folder::{FolderLock, OpenError, load_or_create_secret};
pub use files::create_private_folder;
pub use folder::contents::FolderContents;
pub use folder::space::{SpaceLimits, default_min_free};
pub use memory::seeders::MemorySeeders;
pub use memory::swarm::MemorySwarm;
pub use memory::task_queue::{ChannelTaskQueue, Delivery, TaskReceiver, channel};
pub use sqlite::database::{Database, DatabaseOptions};
pub use sqlite::guards::SqliteGuards;
pub use sqlite::requests::SqliteRequests;
pub use sqlite::statistics::SqliteStatistics;
pub use sqlite::torrents::SqliteTorrents;
