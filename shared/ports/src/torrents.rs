//! The store of torrents: records, and metainfo files.

use async_trait::async_trait;
use domain::{ContentHash, InfoHash, Timestamp, Torrent, TorrentState};

use crate::StoreError;

/// A torrent that is not retired, as the list of them has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveTorrent {
    /// Its v1 infohash.
    pub infohash: InfoHash,
    /// Its content.
    pub content_hash: ContentHash,
    /// The size of the content in bytes.
    pub size: u64,
}

/// The table of torrents, with their files.
#[async_trait]
pub trait Torrents: Send + Sync {
    /// Stores a torrent and its metainfo file for one more request, at its `created_at`. A new or retired torrent becomes
    /// [`TorrentState::Adding`]; the state of any other stays. The version is incremented. Returns the state.
    async fn store(&self, torrent: &Torrent, metainfo: &[u8]) -> Result<TorrentState, StoreError>;

    /// Returns the record of this infohash.
    async fn get(&self, infohash: InfoHash) -> Result<Option<Torrent>, StoreError>;

    /// Returns the metainfo file, without tracker and webseeds, and the content that it describes.
    async fn metainfo(&self, infohash: InfoHash) -> Result<Option<(Vec<u8>, ContentHash)>, StoreError>;

    /// Returns the metainfo file alone, for a caller that knows the record.
    async fn metainfo_file(&self, infohash: InfoHash) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns every torrent of this content.
    async fn of_content(&self, content: ContentHash) -> Result<Vec<Torrent>, StoreError>;

    /// Returns up to `limit` torrents that are not retired, in the order of infohashes, starting behind `after`.
    async fn live(&self, after: Option<InfoHash>, limit: u32) -> Result<Vec<LiveTorrent>, StoreError>;

    /// Returns the torrents whose infohash begins with the byte `part` and whose metainfo file was stored before `before`, also
    /// those without a record. A request may have been added to them since.
    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<InfoHash>, StoreError>;

    /// Records that the seeder has the torrent. Returns false if it is retired or unknown.
    async fn mark_seeding(&self, infohash: InfoHash) -> Result<bool, StoreError>;

    /// Retires the torrent, if its version is `version` and no request was added after `since`. Returns whether it did.
    async fn retire(&self, infohash: InfoHash, version: u64, since: Timestamp) -> Result<bool, StoreError>;

    /// Deletes a retired torrent with its files, and files without a record. Returns false if it is not retired.
    async fn purge(&self, infohash: InfoHash) -> Result<bool, StoreError>;
}
