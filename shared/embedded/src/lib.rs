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
pub use memory::windows::MemoryRateLimiter;
pub use sqlite::database::{Database, DatabaseOptions};
pub use sqlite::torrents::SqliteTorrents;

/// The table of requests in SQLite.
pub type SqliteRequests = sql::SqlRequests<Database>;

/// The statistics of the torrents in [`SqliteTorrents`].
pub type SqliteStatistics = sql::SqlStatistics<Database>;

/// The reservations in SQLite and the rate limits in memory.
pub type SqliteGuards = sql::SqlGuards<Database, MemoryRateLimiter>;
