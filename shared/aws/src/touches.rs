//! Touch records of contents in DynamoDB: the last touch, and whether a removal is in progress. S3 cannot store this.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use domain::{ContentHash, Timestamp};
use ports::StoreError;

use crate::dynamo::{Change, Item, Table, Written, key, time};

/// The maximum duration of a removal, much longer than its call can be delayed. If a removal takes longer, its
/// process was killed.
const REMOVAL: Duration = Duration::from_secs(120);

/// The table of touch records.
#[derive(Debug, Clone)]
pub(crate) struct Touches(Table);

impl Touches {
    /// Creates a handle of the table with this name.
    pub fn new(client: Client, name: String) -> Self {
        Self(Table { client, name })
    }

    /// Records that a content, whose object is in place, is committed. Returns false while it is being removed.
    pub async fn commit(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        // Not during a removal, unless the process that removed it was killed.
        let change = Change::when("attribute_not_exists(#removed_at) OR #removed_at < :killed")
            .value("killed", time(wall_clock() - REMOVAL))
            .set("touched_at", time(now))
            .set("removed_at", None);
        Ok(matches!(self.0.change(record(content), change).await?, Written::Done(_)))
    }

    /// Records a touch. Returns false if the content does not exist or is being removed.
    pub async fn touch(&self, content: ContentHash, now: Timestamp) -> Result<bool, StoreError> {
        let change = Change::when("attribute_exists(#content_hash) AND attribute_not_exists(#removed_at)");
        Ok(matches!(self.0.change(record(content), change.set("touched_at", time(now))).await?, Written::Done(_)))
    }

    /// Begins a removal. Returns false if the content was touched at or after `since`.
    pub async fn begin_removal(&self, content: ContentHash, since: Timestamp) -> Result<bool, StoreError> {
        let change =
            Change::when("attribute_not_exists(#touched_at) OR #touched_at < :since").value("since", time(since));
        let change = change.set("removed_at", time(wall_clock()));
        Ok(matches!(self.0.change(record(content), change).await?, Written::Done(_)))
    }

    /// Begins a removal regardless of the last touch.
    pub async fn begin_quarantine(&self, content: ContentHash) -> Result<(), StoreError> {
        let change = Change::default().set("removed_at", time(wall_clock()));
        self.0.change(record(content), change).await.map(drop)
    }

    /// Ends a removal: the object is deleted.
    pub async fn end_removal(&self, content: ContentHash) -> Result<(), StoreError> {
        self.0.delete(record(content), Change::when("attribute_exists(#removed_at)")).await.map(drop)
    }
}

fn record(content: ContentHash) -> Item {
    key("content_hash", content)
}

/// Returns the system time. The duration of a removal is real time, so it must not depend on the clock port.
fn wall_clock() -> Timestamp {
    SystemTime::now().into()
}
