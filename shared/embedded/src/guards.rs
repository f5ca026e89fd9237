//! [`Guards`] on SQLite.

use async_trait::async_trait;
use domain::Timestamp;
use futures::FutureExt;
use ports::{Guards, StoreError};

use crate::database::{Database, Durability, unavailable};

/// The table of guards in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteGuards {
    database: Database,
}

impl SqliteGuards {
    /// The table.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Guards for SqliteGuards {
    async fn use_once(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let key = key.to_owned();
        // What has run out goes a little at a time, so that no one waits for a great clean-up.
        self.database
            .write(Durability::Written, move |connection| {
                sqlx::query("DELETE FROM guards WHERE name IN (SELECT name FROM guards WHERE expires_at <= ? LIMIT 16)")
                    .bind(now.as_millis())
                    .execute(connection)
                    .boxed()
            })
            .await
            .map_err(unavailable)?;
        let done = self
            .database
            .write(Durability::Written, move |connection| {
                sqlx::query(
                    "INSERT INTO guards (name, expires_at) VALUES (?1, ?2) \
                     ON CONFLICT (name) DO UPDATE SET expires_at = ?2 WHERE guards.expires_at <= ?3",
                )
                .bind(key)
                .bind(until.as_millis())
                .bind(now.as_millis())
                .execute(connection)
                .boxed()
            })
            .await
            .map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }
}
