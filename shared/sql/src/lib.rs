//! The durable ports in SQL, as far as SQLite and PostgreSQL agree on it. A backend provides the [`Driver`].
//!
//! The tables have the same columns in both databases: times are milliseconds since the Unix epoch, hashes and ids are
//! text.

mod driver;
mod guards;
mod lookups;
mod requests;
mod rows;
mod statement;
mod statistics;
mod torrents;
mod transitions;
mod watchers;

pub use driver::{Columns, Driver, Durability, SqlError};
pub use guards::SqlGuards;
pub use requests::SqlRequests;
pub use statement::{Statement, Value};
pub use statistics::SqlStatistics;
pub use torrents::TorrentRecords;
pub use watchers::Watchers;
