//! Torrent store ([`Torrents`]): records with their metainfo files.

use async_trait::async_trait;
use domain::{ContentHash, InfoHash, Timestamp, Torrent, TorrentState};
use ports::{LiveTorrent, StoreError, Torrents};
use sql::{Columns, Driver, SqlError, Statement, TorrentRecords};

use crate::PgDatabase;

/// The torrent store. A metainfo file is a column of its record, so that both are stored and deleted together.
#[derive(Debug, Clone)]
pub struct PgTorrents {
    database: PgDatabase,
    records: TorrentRecords<PgDatabase>,
}

impl PgTorrents {
    /// The table of torrents in this database.
    pub fn new(database: PgDatabase) -> Self {
        Self { records: TorrentRecords::new(database.clone()), database }
    }
}

#[async_trait]
impl Torrents for PgTorrents {
    async fn store(&self, torrent: &Torrent, metainfo: &[u8]) -> Result<TorrentState, StoreError> {
        self.records.store(torrent, Some(metainfo)).await
    }

    async fn get(&self, infohash: InfoHash) -> Result<Option<Torrent>, StoreError> {
        self.records.get(infohash).await
    }

    async fn metainfo(&self, infohash: InfoHash) -> Result<Option<(Vec<u8>, ContentHash)>, StoreError> {
        let Some(torrent) = self.get(infohash).await? else { return Ok(None) };
        Ok(self.metainfo_file(infohash).await?.map(|bytes| (bytes, torrent.content_hash)))
    }

    async fn metainfo_file(&self, infohash: InfoHash) -> Result<Option<Vec<u8>>, StoreError> {
        let select = Statement::new("SELECT metainfo FROM torrents WHERE infohash = $1").bind(infohash.to_string());
        let rows = self.database.query(select).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(row.bytes("metainfo")?.map(<[u8]>::to_vec))
    }

    async fn of_content(&self, content: ContentHash) -> Result<Vec<Torrent>, StoreError> {
        self.records.of_content(content).await
    }

    async fn live(&self, after: Option<InfoHash>, limit: u32) -> Result<Vec<LiveTorrent>, StoreError> {
        self.records.live(after, limit).await
    }

    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<InfoHash>, StoreError> {
        let select =
            Statement::new("SELECT infohash FROM torrents WHERE infohash >= $1 AND infohash < $2 AND written_at < $3");
        // `g` sorts after every hexadecimal digit.
        let select = select.bind(format!("{part:02x}")).bind(format!("{part:02x}g")).bind(before.as_millis());
        let rows = self.database.query(select).await?;
        let infohash = |row: &<PgDatabase as Driver>::Row| {
            let text = row.text("infohash")?.unwrap_or_default();
            text.parse().map_err(|error| SqlError::unreadable("infohash", error))
        };
        Ok(rows.iter().map(infohash).collect::<Result<_, _>>()?)
    }

    async fn mark_seeding(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        self.records.mark_seeding(infohash).await
    }

    async fn retire(&self, infohash: InfoHash, version: u64, since: Timestamp) -> Result<bool, StoreError> {
        self.records.retire(infohash, version, since).await
    }

    async fn purge(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        self.records.delete(infohash).await
    }
}
