//! The torrents: their records, metainfo files and resume data.

use async_trait::async_trait;
use domain::{ContentHash, InfoHash, Timestamp, Torrent, TorrentState};

use crate::StoreError;

/// The table of torrents with the files that belong to them.
#[async_trait]
pub trait Torrents: Send + Sync {
    /// Stores a torrent and its metainfo file for one more request, at its `created_at`: a new or retired one becomes
    /// [`TorrentState::Adding`], any other stays; the version counts up. Returns the state it has then.
    async fn store(&self, torrent: &Torrent, metainfo: &[u8]) -> Result<TorrentState, StoreError>;

    /// The record of this infohash.
    async fn get(&self, infohash: InfoHash) -> Result<Option<Torrent>, StoreError>;

    /// The metainfo file, without tracker and webseeds, and the content that it describes.
    async fn metainfo(&self, infohash: InfoHash) -> Result<Option<(Vec<u8>, ContentHash)>, StoreError>;

    /// Every torrent of this content.
    async fn of_content(&self, content: ContentHash) -> Result<Vec<Torrent>, StoreError>;

    /// Up to `limit` torrents that are not retired, in the order of infohashes, from the first after
    /// `after` on.
    async fn live(&self, after: Option<InfoHash>, limit: u32) -> Result<Vec<Torrent>, StoreError>;

    /// The torrents whose infohash begins with `part` and whose metainfo file was stored before `before`, also those
    /// whose record is gone; a request may have been added to them since.
    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<InfoHash>, StoreError>;

    /// Notes that the seeder has it; false if it is retired or unknown.
    async fn mark_seeding(&self, infohash: InfoHash) -> Result<bool, StoreError>;

    /// Retires it, if no request was added since `version`, nor after `since`; false otherwise.
    async fn retire(&self, infohash: InfoHash, version: u64, since: Timestamp) -> Result<bool, StoreError>;

    /// Deletes a retired torrent with its files, and files that have no record; false if it is not retired.
    async fn purge(&self, infohash: InfoHash) -> Result<bool, StoreError>;

    /// Keeps the seeder's resume data for it, if the torrent is still there.
    async fn save_resume(&self, infohash: InfoHash, data: &[u8]) -> Result<(), StoreError>;

    /// The resume data that was kept for it.
    async fn resume(&self, infohash: InfoHash) -> Result<Option<Vec<u8>>, StoreError>;
}
