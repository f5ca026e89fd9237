//! What peers have received of each torrent.

use async_trait::async_trait;
use domain::InfoHash;

use crate::StoreError;

/// What peers have received of a torrent since it was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// The bytes of content that seeders of this service have sent.
    pub uploaded_bytes: u64,
    /// How many peers have announced that they completed the download.
    pub completed: u64,
}

/// The statistics of the torrents in [`Torrents`](crate::Torrents). They end with their torrent.
#[async_trait]
pub trait Statistics: Send + Sync {
    /// Adds to the statistics of a torrent, if it exists.
    async fn add(&self, infohash: InfoHash, more: Transferred) -> Result<(), StoreError>;

    /// Returns the statistics of a torrent; zeros if it does not exist.
    async fn transferred(&self, infohash: InfoHash) -> Result<Transferred, StoreError>;
}
