//! Registry of seeders ([`Seeders`]) in memory: they are in this process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::Timestamp;
use ports::{RunningSeeder, Seeders, StoreError, Task};

/// The seeders of this process, and the tasks that were sent to them.
#[derive(Debug, Default)]
pub struct MemorySeeders(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    /// By id, each with the end of its registration.
    seeders: BTreeMap<String, (RunningSeeder, Timestamp)>,
    /// By the id of the seeder, each with the end of its life.
    tasks: HashMap<String, Vec<(Task, Timestamp)>>,
}

impl MemorySeeders {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Seeders for MemorySeeders {
    async fn register(&self, seeder: &RunningSeeder, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        self.lock().seeders.insert(seeder.id.clone(), (seeder.clone(), now + keep));
        Ok(())
    }

    async fn deregister(&self, id: &str) -> Result<(), StoreError> {
        self.lock().seeders.remove(id);
        Ok(())
    }

    async fn running(&self, now: Timestamp) -> Result<Vec<RunningSeeder>, StoreError> {
        let registry = self.lock();
        Ok(registry.seeders.values().filter(|(_, until)| *until > now).map(|(seeder, _)| seeder.clone()).collect())
    }

    async fn send(&self, id: &str, task: Task, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        let mut registry = self.lock();
        for tasks in registry.tasks.values_mut() {
            tasks.retain(|(_, until)| *until > now);
        }
        registry.tasks.retain(|_, tasks| !tasks.is_empty());
        registry.tasks.entry(id.to_owned()).or_default().push((task, now + keep));
        Ok(())
    }

    async fn take_tasks(&self, id: &str, limit: u32) -> Result<Vec<Task>, StoreError> {
        let mut registry = self.lock();
        let Some(tasks) = registry.tasks.get_mut(id) else { return Ok(vec![]) };
        let count = tasks.len().min(limit as usize);
        Ok(tasks.drain(..count).map(|(task, _)| task).collect())
    }
}
