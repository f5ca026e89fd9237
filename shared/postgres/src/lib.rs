//! Adapters of the ports for rows on PostgreSQL 15 and later, which several processes share.
//!
//! The leases of a process that ended are not released when another one starts: they end by themselves.

mod database;
mod driver;
mod rate_limiter;
mod seeders;
mod swarm;
mod torrents;

pub use database::{OpenError, PgDatabase, PgDatabaseOptions};
pub use rate_limiter::PgRateLimiter;
pub use seeders::PgSeeders;
pub use swarm::PgSwarm;
pub use torrents::PgTorrents;

/// The table of requests.
pub type PgRequests = sql::SqlRequests<PgDatabase>;

/// The statistics of the torrents in [`PgTorrents`].
pub type PgStatistics = sql::SqlStatistics<PgDatabase>;

/// The reservations and the rate limits.
pub type PgGuards = sql::SqlGuards<PgDatabase, PgRateLimiter>;
