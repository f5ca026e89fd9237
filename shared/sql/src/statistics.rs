//! Statistics of torrents ([`Statistics`]): columns of the table of torrents.

use async_trait::async_trait;
use domain::InfoHash;
use ports::{Statistics, StoreError, Transferred};

use crate::rows::{number, signed};
use crate::{Driver, Durability, Statement};

/// The statistics of the torrents in a database.
#[derive(Debug, Clone)]
pub struct SqlStatistics<D>(D);

impl<D> SqlStatistics<D> {
    /// The statistics in this database.
    pub fn new(database: D) -> Self {
        Self(database)
    }
}

#[async_trait]
impl<D: Driver> Statistics for SqlStatistics<D> {
    async fn add(&self, infohash: InfoHash, more: Transferred) -> Result<(), StoreError> {
        let add = Statement::new(
            "UPDATE torrents SET uploaded_bytes = uploaded_bytes + $1, completed = completed + $2 WHERE infohash = $3",
        );
        let add = add.bind(signed(more.uploaded_bytes)).bind(signed(more.completed)).bind(infohash.to_string());
        self.0.execute(Durability::Written, add).await?;
        Ok(())
    }

    async fn transferred(&self, infohash: InfoHash) -> Result<Transferred, StoreError> {
        let find = Statement::new("SELECT uploaded_bytes, completed FROM torrents WHERE infohash = $1");
        let rows = self.0.query(find.bind(infohash.to_string())).await?;
        let Some(row) = rows.first() else { return Ok(Transferred::default()) };
        Ok(Transferred { uploaded_bytes: number(row, "uploaded_bytes")?, completed: number(row, "completed")? })
    }
}
