//! The records of torrents, without their metainfo files.

use domain::{ContentHash, InfoHash, Timestamp, Torrent, TorrentState};
use ports::{LiveTorrent, StoreError};

use crate::rows::{number, signed, text, torrent};
use crate::{Driver, Durability, SqlError, Statement};

/// The table of torrents in a database, as a store of [`Torrents`](ports::Torrents) uses it.
#[derive(Debug, Clone)]
pub struct TorrentRecords<D>(D);

/// The columns of a record.
const COLUMNS: &str = "infohash, infohash_v2, content_hash, name, size, piece_length, state, version, created_at";

impl<D: Driver> TorrentRecords<D> {
    /// The table in this database.
    pub fn new(database: D) -> Self {
        Self(database)
    }

    /// Inserts a record, or counts one more request on it. Returns the state. `metainfo` is the metainfo file, if the table
    /// has it: the same infohash is the same file.
    pub async fn store(&self, torrent: &Torrent, metainfo: Option<&[u8]>) -> Result<TorrentState, StoreError> {
        let (column, parameter) = if metainfo.is_some() { (", metainfo", ", $8") } else { ("", "") };
        let insert = format!(
            "INSERT INTO torrents (infohash, infohash_v2, content_hash, name, size, piece_length, state, version, \
             created_at, stored_at{column}) VALUES ($1, $2, $3, $4, $5, $6, 'adding', 1, $7, $7{parameter}) \
             ON CONFLICT (infohash) DO UPDATE SET version = torrents.version + 1, stored_at = $7, \
             state = CASE torrents.state WHEN 'retired' THEN 'adding' ELSE torrents.state END RETURNING state"
        );
        let mut insert = Statement::new(insert)
            .bind(torrent.infohash.to_string())
            .bind(torrent.infohash_v2.map(|hash| hash.to_string()))
            .bind(torrent.content_hash.to_string())
            .bind(torrent.name.as_str())
            .bind(signed(torrent.size))
            .bind(torrent.piece_length)
            .bind(torrent.created_at.as_millis());
        if let Some(metainfo) = metainfo {
            insert = insert.bind(metainfo);
        }
        let rows = self.0.fetch(Durability::Written, insert).await?;
        let row = rows.first().ok_or_else(|| SqlError::Failed("the insert returned no row".into()))?;
        Ok(text(row, "state")?)
    }

    /// Returns the record of this infohash.
    pub async fn get(&self, infohash: InfoHash) -> Result<Option<Torrent>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM torrents WHERE infohash = $1");
        let rows = self.0.query(Statement::new(select).bind(infohash.to_string())).await?;
        Ok(rows.first().map(torrent).transpose()?)
    }

    /// Returns the records of this content.
    pub async fn of_content(&self, content: ContentHash) -> Result<Vec<Torrent>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM torrents WHERE content_hash = $1");
        let rows = self.0.query(Statement::new(select).bind(content.to_string())).await?;
        Ok(rows.iter().map(torrent).collect::<Result<_, _>>()?)
    }

    /// Returns up to `limit` torrents that are not retired, in the order of infohashes, starting behind `after`.
    pub async fn live(&self, after: Option<InfoHash>, limit: u32) -> Result<Vec<LiveTorrent>, StoreError> {
        let select = Statement::new(
            "SELECT infohash, content_hash, size FROM torrents WHERE infohash > $1 AND state <> 'retired' \
             ORDER BY infohash LIMIT $2",
        );
        let after = after.map(|hash| hash.to_string()).unwrap_or_default();
        let rows = self.0.query(select.bind(after).bind(limit)).await?;
        let live = rows.iter().map(|row| {
            let (infohash, content_hash) = (text(row, "infohash")?, text(row, "content_hash")?);
            Ok(LiveTorrent { infohash, content_hash, size: number(row, "size")? })
        });
        Ok(live.collect::<Result<_, SqlError>>()?)
    }

    /// Records that the seeder has the torrent. Returns false if it is retired or unknown.
    pub async fn mark_seeding(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        let update = Statement::new("UPDATE torrents SET state = 'seeding' WHERE infohash = $1 AND state <> 'retired'");
        Ok(self.0.execute(Durability::Written, update.bind(infohash.to_string())).await? == 1)
    }

    /// Retires the torrent, if its version is `version` and no request was added after `since`. Returns whether it did.
    pub async fn retire(&self, infohash: InfoHash, version: u64, since: Timestamp) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE torrents SET state = 'retired' \
             WHERE infohash = $1 AND version = $2 AND stored_at <= $3 AND state <> 'retired'",
        );
        let update = update.bind(infohash.to_string()).bind(signed(version)).bind(since.as_millis());
        Ok(self.0.execute(Durability::Written, update).await? == 1)
    }

    /// Deletes the record of a retired torrent. Returns false if there is one that is not retired.
    pub async fn delete(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        let delete = Statement::new("DELETE FROM torrents WHERE infohash = $1 AND state = 'retired'");
        let deleted = self.0.execute(Durability::Written, delete.bind(infohash.to_string())).await?;
        Ok(deleted == 1 || self.get(infohash).await?.is_none())
    }
}
