//! The `.torrent` files that BitTorrent clients are handed: those that the owner of a request downloads.

use std::sync::Arc;

use api::TorrentLinks;
use async_trait::async_trait;
use domain::FetchRequest;
use pipeline::TorrentFiles;
use ports::StoreError;

/// The maker of the files, which the API uses, too.
pub(super) struct OwnerTorrentFiles(pub Arc<TorrentLinks>);

#[async_trait]
impl TorrentFiles for OwnerTorrentFiles {
    async fn torrent_file(&self, request: &FetchRequest) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.torrent_file(request).await
    }
}
