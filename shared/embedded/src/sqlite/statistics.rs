//! Statistics of torrents ([`Statistics`]) on SQLite: columns of the table of torrents.

use async_trait::async_trait;
use domain::InfoHash;
use futures::FutureExt;
use ports::{Statistics, StoreError, Transferred};

use super::database::{Database, Durability, unavailable};
use super::rows::{signed, unsigned};

/// The statistics of the torrents in [`SqliteTorrents`](crate::SqliteTorrents).
#[derive(Debug, Clone)]
pub struct SqliteStatistics(Database);

impl SqliteStatistics {
    /// The statistics in this database.
    pub fn new(database: Database) -> Self {
        Self(database)
    }
}

#[async_trait]
impl Statistics for SqliteStatistics {
    async fn add(&self, infohash: InfoHash, more: Transferred) -> Result<(), StoreError> {
        self.0
            .write(Durability::Written, move |connection| {
                sqlx::query(
                    "UPDATE torrents SET uploaded_bytes = uploaded_bytes + ?, completed = completed + ? \
                     WHERE infohash = ?",
                )
                .bind(signed(more.uploaded_bytes))
                .bind(signed(more.completed))
                .bind(infohash.to_string())
                .execute(connection)
                .boxed()
            })
            .await
            .map_err(unavailable)?;
        Ok(())
    }

    async fn transferred(&self, infohash: InfoHash) -> Result<Transferred, StoreError> {
        let row = sqlx::query("SELECT uploaded_bytes, completed FROM torrents WHERE infohash = ?")
            .bind(infohash.to_string())
            .try_map(|row| {
                let (uploaded_bytes, completed) = (unsigned(&row, "uploaded_bytes")?, unsigned(&row, "completed")?);
                Ok(Transferred { uploaded_bytes, completed })
            })
            .fetch_optional(self.0.readers());
        Ok(row.await.map_err(unavailable)?.unwrap_or_default())
    }
}
