//! Health checks of stores.

use async_trait::async_trait;

use crate::StoreError;

/// A store that can be asked whether it works.
#[async_trait]
pub trait Check: Send + Sync {
    /// Checks that the store takes reads and, where this costs little, writes.
    async fn check(&self) -> Result<(), StoreError>;
}
