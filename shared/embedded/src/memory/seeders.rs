//! Registry of seeders ([`Seeders`]) in memory: they are in this process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::Timestamp;
use ports::{RunningSeeder, Seeders, StoreError};

/// The seeders of this process by id, each with the end of its registration.
#[derive(Debug, Default)]
pub struct MemorySeeders(Mutex<BTreeMap<String, (RunningSeeder, Timestamp)>>);

#[async_trait]
impl Seeders for MemorySeeders {
    async fn register(&self, seeder: &RunningSeeder, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        let mut seeders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seeders.insert(seeder.id.clone(), (seeder.clone(), now + keep));
        Ok(())
    }

    async fn deregister(&self, id: &str) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    async fn running(&self, now: Timestamp) -> Result<Vec<RunningSeeder>, StoreError> {
        let seeders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seeders.values().filter(|(_, until)| *until > now).map(|(seeder, _)| seeder.clone()).collect())
    }
}
