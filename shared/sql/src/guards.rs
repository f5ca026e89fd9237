//! Reservations ([`Reservations`]) in SQL, beside rate limits of any kind.

use async_trait::async_trait;
use domain::Timestamp;
use ports::{Decision, Limit, RateLimiter, Reservations, StoreError};

use crate::rows::required;
use crate::{Columns, Driver, Durability, SqlError, Statement};

/// How often a reservation is tried, if the key is released each time that its value is read.
const TRIES: usize = 16;

/// The most expired keys that a reservation deletes, so that no caller waits for a large clean-up.
const CLEANED: i64 = 16;

/// The reservations in a database, and a rate limiter.
#[derive(Debug, Clone)]
pub struct SqlGuards<D, L> {
    database: D,
    limiter: L,
}

impl<D, L> SqlGuards<D, L> {
    /// The reservations in this database, and this rate limiter.
    pub fn new(database: D, limiter: L) -> Self {
        Self { database, limiter }
    }
}

impl<D: Driver, L: Send + Sync> SqlGuards<D, L> {
    async fn delete_expired(&self, now: Timestamp) -> Result<u64, SqlError> {
        let delete = format!(
            "DELETE FROM guards WHERE name IN (SELECT name FROM guards WHERE expires_at <= $1 LIMIT $2{})",
            D::SKIP_LOCKED
        );
        let delete = Statement::new(delete).bind(now.as_millis()).bind(CLEANED);
        self.database.execute(Durability::Written, delete).await
    }

    async fn read(&self, select: Statement) -> Result<Option<String>, SqlError> {
        let rows = self.database.query(select).await?;
        rows.first().map(|row| Ok(required(row.text("value")?, "value")?.to_owned())).transpose()
    }
}

#[async_trait]
impl<D: Driver, L: Send + Sync> Reservations for SqlGuards<D, L> {
    async fn reserve(
        &self,
        key: &str,
        value: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        for _ in 0..TRIES {
            let insert = Statement::new(
                "INSERT INTO guards (name, value, expires_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO UPDATE SET value = $2, expires_at = $3 WHERE guards.expires_at <= $4",
            );
            let insert = insert.bind(key).bind(value).bind(until.as_millis()).bind(now.as_millis());
            let insert = self.database.execute(Durability::Written, insert);
            // At the same time, so that a database that groups its writes needs no second transaction.
            let (inserted, deleted) = tokio::join!(insert, self.delete_expired(now));
            if let Err(error) = deleted {
                tracing::warn!(%error, "expired reservations not deleted");
            }
            if inserted? == 1 {
                return Ok(None);
            }
            let select = Statement::new("SELECT value FROM guards WHERE name = $1").bind(key);
            if let Some(value) = self.read(select).await? {
                return Ok(Some(value));
            }
        }
        Err(StoreError::unavailable("the database", "a key was released and reserved again too often"))
    }

    async fn replace(&self, key: &str, old: &str, new: &str, until: Timestamp) -> Result<bool, StoreError> {
        let update = Statement::new("UPDATE guards SET value = $1, expires_at = $2 WHERE name = $3 AND value = $4");
        let update = update.bind(new).bind(until.as_millis()).bind(key).bind(old);
        // For example a new generation of passkeys: the response says that the old one is revoked.
        Ok(self.database.execute(Durability::Flushed, update).await? == 1)
    }

    async fn value(&self, key: &str, now: Timestamp) -> Result<Option<String>, StoreError> {
        let select = Statement::new("SELECT value FROM guards WHERE name = $1 AND expires_at > $2");
        Ok(self.read(select.bind(key).bind(now.as_millis())).await?)
    }

    async fn release(&self, key: &str) -> Result<(), StoreError> {
        let delete = Statement::new("DELETE FROM guards WHERE name = $1").bind(key);
        self.database.execute(Durability::Written, delete).await?;
        Ok(())
    }
}

#[async_trait]
impl<D: Driver, L: RateLimiter> RateLimiter for SqlGuards<D, L> {
    async fn acquire(&self, limits: &[Limit], now: Timestamp) -> Result<Decision, StoreError> {
        self.limiter.acquire(limits, now).await
    }
}
