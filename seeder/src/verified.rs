//! Verified reads for webseeds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::{ContentHash, InfoHash};
use foyer::{Cache, CacheBuilder};
use libtorrent_sys::Pieces;
use ports::{StoreError, Torrents, VerifiedReader};

use crate::lock::lock;
use crate::reader::{ReadError, Reader};

/// The memory for the piece hashes of torrents, in bytes.
const PIECES: usize = 32 << 20;

/// The store in error messages.
const STORE: &str = "the content store";

/// Reads contents through the reader of the session, of torrents that the session need not have.
pub struct TorrentReader {
    reader: Arc<Reader>,
    torrents: Arc<dyn Torrents>,
    pieces: Cache<InfoHash, Pieces>,
    /// The torrents that were read, whose contents are in the cache.
    read: Arc<Mutex<HashMap<InfoHash, ContentHash>>>,
}

impl std::fmt::Debug for TorrentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorrentReader").finish_non_exhaustive()
    }
}

impl TorrentReader {
    /// A reader of the torrents in this store.
    pub(crate) fn new(
        reader: Arc<Reader>,
        torrents: Arc<dyn Torrents>,
        read: Arc<Mutex<HashMap<InfoHash, ContentHash>>>,
    ) -> Self {
        let weight = |_: &InfoHash, pieces: &Pieces| {
            let hashes = 20 * pieces.size().div_ceil(u64::from(pieces.length()).max(1));
            usize::try_from(hashes).unwrap_or(usize::MAX).saturating_add(1024)
        };
        let pieces = CacheBuilder::new(PIECES).with_shards(1).with_weighter(weight).build();
        Self { reader, torrents, pieces, read }
    }

    /// Returns the pieces of a torrent. They are read once for all concurrent callers.
    async fn pieces(&self, infohash: InfoHash) -> Result<Pieces, StoreError> {
        let torrents = self.torrents.clone();
        let load = || async move {
            let metainfo = torrents.metainfo_file(infohash).await?;
            let metainfo = metainfo.ok_or_else(|| StoreError::not_found("the torrent store", infohash))?;
            Pieces::parse(&metainfo).map_err(|error| StoreError::unavailable("the torrent store", error))
        };
        let cached = self.pieces.get_or_fetch(&infohash, load).await;
        Ok(cached.map_err(|error| StoreError::unavailable("the torrent store", error))?.value().clone())
    }
}

#[async_trait]
impl VerifiedReader for TorrentReader {
    async fn read_at(
        &self,
        infohash: InfoHash,
        content: ContentHash,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let pieces = self.pieces(infohash).await?;
        lock(&self.read).insert(infohash, content);
        self.reader.read_ahead(content, offset, &pieces);
        let (mut offset, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            // A read must not leave its piece.
            let left = u64::from(pieces.length()) - offset % u64::from(pieces.length());
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (part, after) = rest.split_at_mut(length);
            self.reader.read(content, offset, &pieces, part).await.map_err(store_error)?;
            (offset, rest) = (offset + length as u64, after);
        }
        Ok(())
    }
}

fn store_error(error: ReadError) -> StoreError {
    match error {
        ReadError::NotFound => StoreError::not_found(STORE, "the content"),
        error => StoreError::unavailable(STORE, error),
    }
}
