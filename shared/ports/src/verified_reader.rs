//! Reads of contents that are verified against their torrents.

use async_trait::async_trait;
use domain::{ContentHash, InfoHash};

use crate::StoreError;

/// Reads the contents of torrents, as peers get them.
#[async_trait]
pub trait VerifiedReader: Send + Sync {
    /// Fills `buffer` with the bytes of the torrent's content from `offset` on. They match the pieces of the torrent.
    async fn read_at(
        &self,
        infohash: InfoHash,
        content: ContentHash,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError>;
}
