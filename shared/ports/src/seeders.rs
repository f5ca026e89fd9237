//! The registry of running seeders.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use domain::Timestamp;

use crate::StoreError;

/// A running seeder, as it registers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSeeder {
    /// The id that it chose at its start.
    pub id: String,
    /// The addresses at which peers reach it.
    pub addresses: Vec<SocketAddr>,
    /// How many torrents it has.
    pub torrents: u64,
}

/// The registry of running seeders. Trackers and magnet links name those in it.
#[async_trait]
pub trait Seeders: Send + Sync {
    /// Registers a seeder until `keep` after `now`. Replaces its last record.
    async fn register(&self, seeder: &RunningSeeder, now: Timestamp, keep: Duration) -> Result<(), StoreError>;

    /// Removes the record of a seeder that stops.
    async fn deregister(&self, id: &str) -> Result<(), StoreError>;

    /// Returns the registered seeders, in the order of their ids.
    async fn running(&self, now: Timestamp) -> Result<Vec<RunningSeeder>, StoreError>;
}
