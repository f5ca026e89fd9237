//! Torrent store ([`Torrents`]) on SQLite and two folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use domain::{ContentHash, InfoHash, Timestamp, Torrent, TorrentState};
use ports::{LiveTorrent, StoreError, Torrents};
use sql::TorrentRecords;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::database::Database;
use crate::data_folder::OpenError;
use crate::files;

/// The torrent store: records in SQLite, metainfo files in `torrents/`.
#[derive(Debug, Clone)]
pub struct SqliteTorrents {
    records: TorrentRecords<Database>,
    torrents: PathBuf,
    /// Locked while a record and its file change together: a purge must not delete the file of a torrent that is
    /// being stored again.
    purging: Arc<Mutex<()>>,
}

impl SqliteTorrents {
    /// Opens the store. Creates the folder and deletes leftover temporary files.
    pub fn open(database: Database, torrents: PathBuf) -> Result<Self, OpenError> {
        files::create_private_folder(&torrents).map_err(OpenError::io(&torrents))?;
        files::remove_temporary(&torrents).map_err(OpenError::io(&torrents))?;
        Ok(Self { records: TorrentRecords::new(database), torrents, purging: Arc::default() })
    }

    fn torrent_path(&self, infohash: InfoHash) -> PathBuf {
        self.torrents.join(format!("{infohash}.torrent"))
    }
}

/// Runs file work on a blocking thread.
async fn with_file<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(move || work(&path))
        .await
        .map_err(|error| StoreError::unavailable("the torrent folder", error))?
        .map_err(|error| files::store_error("the torrent folder", error))
}

#[async_trait]
impl Torrents for SqliteTorrents {
    async fn store(&self, torrent: &Torrent, metainfo: &[u8]) -> Result<TorrentState, StoreError> {
        let _purging = self.purging.lock().await;
        let bytes = metainfo.to_vec();
        with_file(self.torrent_path(torrent.infohash), move |path| {
            // The same infohash is the same torrent, so an existing file is correct.
            if path.exists() { Ok(()) } else { files::write_atomically(path, &bytes) }
        })
        .await?;
        self.records.store(torrent, None).await
    }

    async fn get(&self, infohash: InfoHash) -> Result<Option<Torrent>, StoreError> {
        self.records.get(infohash).await
    }

    async fn metainfo(&self, infohash: InfoHash) -> Result<Option<(Vec<u8>, ContentHash)>, StoreError> {
        let Some(torrent) = self.get(infohash).await? else { return Ok(None) };
        Ok(self.metainfo_file(infohash).await?.map(|bytes| (bytes, torrent.content_hash)))
    }

    async fn metainfo_file(&self, infohash: InfoHash) -> Result<Option<Vec<u8>>, StoreError> {
        with_file(self.torrent_path(infohash), files::read_if_there).await
    }

    async fn of_content(&self, content: ContentHash) -> Result<Vec<Torrent>, StoreError> {
        self.records.of_content(content).await
    }

    async fn live(&self, after: Option<InfoHash>, limit: u32) -> Result<Vec<LiveTorrent>, StoreError> {
        self.records.live(after, limit).await
    }

    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<InfoHash>, StoreError> {
        let torrents = self.torrents.clone();
        with_file(torrents, move |torrents| {
            let mut found = vec![];
            for file in std::fs::read_dir(torrents)? {
                let file = file?;
                let name = file.file_name();
                let infohash = name.to_str().and_then(|name| name.strip_suffix(".torrent")?.parse::<InfoHash>().ok());
                let Some(infohash) = infohash.filter(|infohash| infohash.as_bytes()[0] == part) else { continue };
                let Some(metadata) = files::absent_is_none(file.metadata())? else { continue };
                if metadata.modified()? < SystemTime::from(before) {
                    found.push(infohash);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn mark_seeding(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        self.records.mark_seeding(infohash).await
    }

    async fn retire(&self, infohash: InfoHash, version: u64, since: Timestamp) -> Result<bool, StoreError> {
        self.records.retire(infohash, version, since).await
    }

    async fn purge(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        let _purging = self.purging.lock().await;
        if !self.records.delete(infohash).await? {
            return Ok(false);
        }
        with_file(self.torrent_path(infohash), files::remove_if_there).await?;
        Ok(true)
    }
}
