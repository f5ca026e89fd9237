//! The registry of running seeders, and the tasks that they send to each other.

use std::time::Duration;

use async_trait::async_trait;
use domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Endpoints, StoreError, Task};

/// A running seeder, as it registers itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningSeeder {
    /// The id that it chose at its start.
    pub id: String,
    /// Where peers reach it.
    pub endpoints: Endpoints,
    /// How many torrents it has.
    pub torrents: u64,
    /// Its share of the torrents, relative to the weights of the other seeders; at least 1.
    pub weight: u32,
    /// By how many seeders it wants each torrent to be seeded; at least 1.
    pub replicas: u32,
    /// Whether it has added its share since it started.
    pub is_complete: bool,
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

    /// Sends a task to the seeder with this id, whether it runs or not. It is forgotten some time after `keep`, if nobody
    /// takes it.
    async fn send(&self, id: &str, task: Task, now: Timestamp, keep: Duration) -> Result<(), StoreError>;

    /// Takes up to `limit` tasks that were sent to the seeder with this id, the oldest first. A task is returned again if the
    /// store could not remove it.
    async fn take_tasks(&self, id: &str, limit: u32) -> Result<Vec<Task>, StoreError>;
}
