//! Statistics of torrents ([`Statistics`]) on DynamoDB: attributes of the items of torrents.

use async_trait::async_trait;
use domain::InfoHash;
use ports::{Statistics, StoreError, Transferred};

use crate::dynamo::{Change, Table, key, number, optional};

/// The statistics of the torrents in [`DynamoTorrents`](crate::DynamoTorrents).
#[derive(Debug, Clone)]
pub struct DynamoStatistics {
    table: Table,
}

impl DynamoStatistics {
    /// Creates a handle of the table of torrents with this name.
    pub fn new(client: aws_sdk_dynamodb::Client, name: impl Into<String>) -> Self {
        Self { table: Table { client, name: name.into() } }
    }
}

#[async_trait]
impl Statistics for DynamoStatistics {
    async fn add(&self, infohash: InfoHash, more: Transferred) -> Result<(), StoreError> {
        let amount = |value| i64::try_from(value).unwrap_or(i64::MAX);
        // The SDK repeats a call whose response was lost. It must not count twice.
        let change = Change::when("attribute_exists(#infohash)")
            .and("attribute_not_exists(#written_by) OR #written_by <> :set_written_by")
            .add("uploaded_bytes", amount(more.uploaded_bytes))
            .add("completed", amount(more.completed));
        self.table.change(key("infohash", infohash), change).await?;
        Ok(())
    }

    async fn transferred(&self, infohash: InfoHash) -> Result<Transferred, StoreError> {
        let Some(item) = self.table.get(key("infohash", infohash)).await? else { return Ok(Transferred::default()) };
        let count = |name| Ok::<_, StoreError>(optional(&item, name, number)?.unwrap_or_default());
        Ok(Transferred { uploaded_bytes: count("uploaded_bytes")?, completed: count("completed")? })
    }
}
