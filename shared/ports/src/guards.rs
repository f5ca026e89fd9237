//! Things that may be done once.

use async_trait::async_trait;
use domain::Timestamp;

use crate::StoreError;

/// Remembers what was used, across processes.
#[async_trait]
pub trait Guards: Send + Sync {
    /// Uses `key` up until `until`; false if it was used before and has not run out `now`. Of callers
    /// at the same time, one wins.
    async fn use_once(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;
}
