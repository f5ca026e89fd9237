//! Registry of seeders ([`Seeders`]), and the tasks that were sent to them.

use std::time::Duration;

use async_trait::async_trait;
use domain::Timestamp;
use ports::{RunningSeeder, Seeders, StoreError, Task};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sql::{Columns, Driver, Durability, SqlError, Statement};

use crate::PgDatabase;
use crate::driver::PgColumns;

/// The registry in a database.
#[derive(Debug, Clone)]
pub struct PgSeeders(PgDatabase);

impl PgSeeders {
    /// The registry in this database.
    pub fn new(database: PgDatabase) -> Self {
        Self(database)
    }

    async fn write(&self, statement: Statement) -> Result<(), StoreError> {
        self.0.execute(Durability::Written, statement).await?;
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::unavailable("the database", error))
}

/// Returns the values in the columns `value`.
fn values<T: DeserializeOwned>(rows: &[PgColumns]) -> Result<Vec<T>, StoreError> {
    let value = |row: &PgColumns| {
        let text = row.text("value")?.unwrap_or_default();
        serde_json::from_str(text).map_err(|error| SqlError::unreadable("value", error))
    };
    Ok(rows.iter().map(value).collect::<Result<_, SqlError>>()?)
}

#[async_trait]
impl Seeders for PgSeeders {
    async fn register(&self, seeder: &RunningSeeder, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        let insert = Statement::new(
            "INSERT INTO seeders (id, value, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET value = $2, expires_at = $3",
        );
        self.write(insert.bind(seeder.id.as_str()).bind(json(seeder)?).bind((now + keep).as_millis())).await
    }

    async fn deregister(&self, id: &str) -> Result<(), StoreError> {
        self.write(Statement::new("DELETE FROM seeders WHERE id = $1").bind(id)).await
    }

    async fn running(&self, now: Timestamp) -> Result<Vec<RunningSeeder>, StoreError> {
        let select = Statement::new("SELECT value FROM seeders WHERE expires_at > $1 ORDER BY id");
        values(&self.0.query(select.bind(now.as_millis())).await?)
    }

    async fn send(&self, id: &str, task: Task, now: Timestamp, keep: Duration) -> Result<(), StoreError> {
        let insert = Statement::new("INSERT INTO seeder_tasks (seeder, value, expires_at) VALUES ($1, $2, $3)");
        self.write(insert.bind(id).bind(json(&task)?).bind((now + keep).as_millis())).await?;
        for table in ["seeder_tasks", "seeders"] {
            self.0.delete_expired(table, now).await?;
        }
        Ok(())
    }

    async fn take_tasks(&self, id: &str, limit: u32) -> Result<Vec<Task>, StoreError> {
        let delete = Statement::new(
            "WITH taken AS (DELETE FROM seeder_tasks WHERE number IN (SELECT number FROM seeder_tasks \
             WHERE seeder = $1 ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING number, value) \
             SELECT value FROM taken ORDER BY number",
        );
        values(&self.0.fetch(Durability::Written, delete.bind(id).bind(limit)).await?)
    }
}
