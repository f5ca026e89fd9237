//! Torrent store ([`Torrents`]) on SQLite and two folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use domain::{ContentHash, FileName, InfoHash, Timestamp, Torrent, TorrentState};
use futures::FutureExt;
use ports::{LiveTorrent, StoreError, Torrents};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::database::{Database, Durability, unavailable};
use super::rows::{optional_text, signed, text, unsigned};
use crate::data_folder::OpenError;
use crate::files;

/// The torrent store: records in SQLite, metainfo files in `torrents/`.
#[derive(Debug, Clone)]
pub struct SqliteTorrents {
    database: Database,
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
        Ok(Self { database, torrents, purging: Arc::default() })
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
        let torrent = torrent.clone();
        self.database
            .write(Durability::Written, move |connection| {
                async move {
                    sqlx::query(
                        "INSERT INTO torrents (infohash, infohash_v2, content_hash, name, size, piece_length, state, \
                         version, created_at, stored_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'adding', 1, ?7, ?7) \
                         ON CONFLICT (infohash) DO UPDATE SET version = torrents.version + 1, stored_at = ?7, \
                         state = CASE torrents.state WHEN 'retired' THEN 'adding' ELSE torrents.state END \
                         RETURNING state",
                    )
                    .bind(torrent.infohash.to_string())
                    .bind(torrent.infohash_v2.map(|hash| hash.to_string()))
                    .bind(torrent.content_hash.to_string())
                    .bind(torrent.name.as_str())
                    .bind(signed(torrent.size))
                    .bind(torrent.piece_length)
                    .bind(torrent.created_at.as_millis())
                    .try_map(|row: SqliteRow| text(&row, "state"))
                    .fetch_one(connection)
                    .await
                }
                .boxed()
            })
            .await
            .map_err(unavailable)
    }

    async fn get(&self, infohash: InfoHash) -> Result<Option<Torrent>, StoreError> {
        sqlx::query("SELECT * FROM torrents WHERE infohash = ?")
            .bind(infohash.to_string())
            .try_map(|row| read(&row))
            .fetch_optional(self.database.readers())
            .await
            .map_err(unavailable)
    }

    async fn metainfo(&self, infohash: InfoHash) -> Result<Option<(Vec<u8>, ContentHash)>, StoreError> {
        let Some(torrent) = self.get(infohash).await? else { return Ok(None) };
        Ok(self.metainfo_file(infohash).await?.map(|bytes| (bytes, torrent.content_hash)))
    }

    async fn metainfo_file(&self, infohash: InfoHash) -> Result<Option<Vec<u8>>, StoreError> {
        with_file(self.torrent_path(infohash), files::read_if_there).await
    }

    async fn of_content(&self, content: ContentHash) -> Result<Vec<Torrent>, StoreError> {
        sqlx::query("SELECT * FROM torrents WHERE content_hash = ?")
            .bind(content.to_string())
            .try_map(|row| read(&row))
            .fetch_all(self.database.readers())
            .await
            .map_err(unavailable)
    }

    async fn live(&self, after: Option<InfoHash>, limit: u32) -> Result<Vec<LiveTorrent>, StoreError> {
        sqlx::query(
            "SELECT infohash, content_hash, size FROM torrents WHERE infohash > ? AND state <> 'retired' \
             ORDER BY infohash LIMIT ?",
        )
        .bind(after.map(|hash| hash.to_string()).unwrap_or_default())
        .bind(limit)
        .try_map(|row: SqliteRow| {
            Ok(LiveTorrent {
                infohash: text(&row, "infohash")?,
                content_hash: text(&row, "content_hash")?,
                size: unsigned(&row, "size")?,
            })
        })
        .fetch_all(self.database.readers())
        .await
        .map_err(unavailable)
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
        let done = self
            .database
            .write(Durability::Written, move |connection| {
                sqlx::query("UPDATE torrents SET state = 'seeding' WHERE infohash = ? AND state <> 'retired'")
                    .bind(infohash.to_string())
                    .execute(connection)
                    .boxed()
            })
            .await
            .map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }

    async fn retire(&self, infohash: InfoHash, version: u64, since: Timestamp) -> Result<bool, StoreError> {
        let done = self
            .database
            .write(Durability::Written, move |connection| {
                sqlx::query(
                    "UPDATE torrents SET state = 'retired' \
                     WHERE infohash = ? AND version = ? AND stored_at <= ? AND state <> 'retired'",
                )
                .bind(infohash.to_string())
                .bind(signed(version))
                .bind(since.as_millis())
                .execute(connection)
                .boxed()
            })
            .await
            .map_err(unavailable)?;
        Ok(done.rows_affected() == 1)
    }

    async fn purge(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        let _purging = self.purging.lock().await;
        let done = self
            .database
            .write(Durability::Written, move |connection| {
                sqlx::query("DELETE FROM torrents WHERE infohash = ? AND state = 'retired'")
                    .bind(infohash.to_string())
                    .execute(connection)
                    .boxed()
            })
            .await
            .map_err(unavailable)?;
        if done.rows_affected() == 0 && self.get(infohash).await?.is_some() {
            return Ok(false);
        }
        with_file(self.torrent_path(infohash), files::remove_if_there).await?;
        Ok(true)
    }
}

fn read(row: &SqliteRow) -> sqlx::Result<Torrent> {
    Ok(Torrent {
        infohash: text(row, "infohash")?,
        infohash_v2: optional_text(row, "infohash_v2")?,
        content_hash: text(row, "content_hash")?,
        name: FileName::sanitize(row.try_get("name")?).unwrap_or_default(),
        size: unsigned(row, "size")?,
        piece_length: row.try_get("piece_length")?,
        state: text(row, "state")?,
        version: unsigned(row, "version")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
    })
}
