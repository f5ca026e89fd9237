//! Rate limits and reservations ([`Guards`](ports::Guards)): reservations in SQLite, rate limits in memory.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use domain::Timestamp;
use futures::FutureExt;
use ports::{Decision, Limit, RateLimiter, Reservations, StoreError};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::database::{Database, Durability, unavailable};
use crate::memory::windows::Windows;

/// The reservations in SQLite and the rate limits in memory.
#[derive(Debug, Clone)]
pub struct SqliteGuards {
    database: Database,
    windows: Arc<Mutex<Windows>>,
}

impl SqliteGuards {
    /// Creates the store with empty rate limits.
    pub fn new(database: Database) -> Self {
        Self { database, windows: Arc::default() }
    }
}

#[async_trait]
impl Reservations for SqliteGuards {
    async fn reserve(
        &self,
        key: &str,
        value: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.database
            .write(Durability::Written, move |connection| {
                async move {
                    // Expired rows are deleted in small batches, so that no caller waits for a large clean-up.
                    sqlx::query(
                        "DELETE FROM guards WHERE name IN (SELECT name FROM guards WHERE expires_at <= ? LIMIT 16)",
                    )
                    .bind(now.as_millis())
                    .execute(&mut *connection)
                    .await?;
                    let done = sqlx::query(
                        "INSERT INTO guards (name, value, expires_at) VALUES (?1, ?2, ?3) \
                         ON CONFLICT (name) DO UPDATE SET value = ?2, expires_at = ?3 WHERE guards.expires_at <= ?4",
                    )
                    .bind(&key)
                    .bind(value)
                    .bind(until.as_millis())
                    .bind(now.as_millis())
                    .execute(&mut *connection)
                    .await?;
                    if done.rows_affected() == 1 {
                        return Ok(None);
                    }
                    sqlx::query("SELECT value FROM guards WHERE name = ?")
                        .bind(key)
                        .try_map(|row: SqliteRow| row.try_get("value"))
                        .fetch_optional(connection)
                        .await
                }
                .boxed()
            })
            .await
            .map_err(unavailable)
    }

    async fn replace(&self, key: &str, old: &str, new: &str, until: Timestamp) -> Result<bool, StoreError> {
        let (key, old, new) = (key.to_owned(), old.to_owned(), new.to_owned());
        let done = self.database.write(Durability::Written, move |connection| {
            sqlx::query("UPDATE guards SET value = ?, expires_at = ? WHERE name = ? AND value = ?")
                .bind(new)
                .bind(until.as_millis())
                .bind(key)
                .bind(old)
                .execute(connection)
                .boxed()
        });
        Ok(done.await.map_err(unavailable)?.rows_affected() == 1)
    }

    async fn value(&self, key: &str, now: Timestamp) -> Result<Option<String>, StoreError> {
        sqlx::query("SELECT value FROM guards WHERE name = ? AND expires_at > ?")
            .bind(key)
            .bind(now.as_millis())
            .try_map(|row: SqliteRow| row.try_get("value"))
            .fetch_optional(self.database.readers())
            .await
            .map_err(unavailable)
    }

    async fn release(&self, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.database
            .write(Durability::Written, move |connection| {
                sqlx::query("DELETE FROM guards WHERE name = ?").bind(key).execute(connection).boxed()
            })
            .await
            .map(drop)
            .map_err(unavailable)
    }
}

#[async_trait]
impl RateLimiter for SqliteGuards {
    async fn acquire(&self, limits: &[Limit], now: Timestamp) -> Result<Decision, StoreError> {
        Ok(self.windows.lock().unwrap_or_else(PoisonError::into_inner).acquire(limits, now))
    }
}
