//! Torrent store ([`Torrents`]) on DynamoDB and S3.

use async_trait::async_trait;
use domain::{ContentHash, FileName, InfoHash, Timestamp, Torrent, TorrentState};
use futures::future::try_join_all;
use ports::{LiveTorrent, StoreError, Torrents};

use crate::bucket::Bucket;
use crate::dynamo::{Change, Item, Query, Table, Written, key, n, number, optional, parsed, s, text, time, timestamp};

/// The torrent store: records in DynamoDB, metainfo files in S3.
#[derive(Debug, Clone)]
pub struct DynamoTorrents {
    table: Table,
    bucket: Bucket,
}

/// The name of the S3 metadata entry of a metainfo file that contains the content hash. It saves a reader the call to
/// DynamoDB.
const CONTENT_HASH: &str = "content-hash";

/// The maximum number of tries to store a torrent that others retire, purge and store concurrently.
const TRIES: usize = 10;

impl DynamoTorrents {
    /// Creates the store from the name of the table and the bucket of the files.
    pub fn new(client: aws_sdk_dynamodb::Client, name: impl Into<String>, bucket: Bucket) -> Self {
        Self { table: Table { client, name: name.into() }, bucket }
    }
}

fn torrent_key(infohash: InfoHash) -> String {
    format!("torrents/{infohash}.torrent")
}

/// Returns the infohash in the key of a metainfo file, or `None` for other keys.
pub(crate) fn infohash_of(key: &str) -> Option<InfoHash> {
    key.strip_prefix("torrents/")?.strip_suffix(".torrent")?.parse().ok()
}

/// Returns the part of the index of live torrents for an infohash. The parts are in the order of the infohashes.
fn live_part(infohash: InfoHash) -> String {
    infohash.to_string()[..1].to_owned()
}

#[async_trait]
impl Torrents for DynamoTorrents {
    async fn store(&self, torrent: &Torrent, metainfo: &[u8]) -> Result<TorrentState, StoreError> {
        let infohash = torrent.infohash;
        // The same infohash is the same torrent, so an existing file is correct.
        let describes = (CONTENT_HASH, torrent.content_hash.to_string());
        self.bucket.put_if_absent(&torrent_key(infohash), metainfo.to_vec().into(), Some(describes)).await?;
        for _ in 0..TRIES {
            let fresh = Change::when("attribute_not_exists(#infohash) OR #state = :retired")
                .value("retired", s(TorrentState::Retired.as_str()))
                .set("infohash_v2", torrent.infohash_v2.map(s))
                .set("content_hash", s(torrent.content_hash))
                .set("name", s(&torrent.name))
                .set("size", n(torrent.size))
                .set("piece_length", n(torrent.piece_length))
                .set("created_at", time(torrent.created_at))
                .set("stored_at", time(torrent.created_at))
                .set("state", s(TorrentState::Adding.as_str()))
                .set("live", s(live_part(infohash)))
                .add("version", 1);
            if let Written::Done(_) = self.table.change(key("infohash", infohash), fresh).await? {
                return Ok(TorrentState::Adding);
            }
            let again = Change::when("attribute_exists(#infohash) AND #state <> :retired")
                .value("retired", s(TorrentState::Retired.as_str()))
                .set("stored_at", time(torrent.created_at))
                .add("version", 1);
            if let Written::Done(item) = self.table.change(key("infohash", infohash), again).await? {
                return parsed(&item, "state");
            }
        }
        Err(StoreError::unavailable("DynamoDB", "too many concurrent changes of a torrent"))
    }

    async fn get(&self, infohash: InfoHash) -> Result<Option<Torrent>, StoreError> {
        self.table.get(key("infohash", infohash)).await?.map(|item| read(&item)).transpose()
    }

    async fn metainfo(&self, infohash: InfoHash) -> Result<Option<(Vec<u8>, ContentHash)>, StoreError> {
        let key = torrent_key(infohash);
        let Some(object) = self.bucket.get(&key).await? else { return Ok(None) };
        if let Some(content) = object.metadata.get(CONTENT_HASH).and_then(|hash| hash.parse().ok()) {
            return Ok(Some((object.bytes, content)));
        }
        // The file has no such metadata, so it was not stored by this function.
        Ok(self.get(infohash).await?.map(|torrent| (object.bytes, torrent.content_hash)))
    }

    async fn metainfo_file(&self, infohash: InfoHash) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.bucket.get(&torrent_key(infohash)).await?.map(|object| object.bytes))
    }

    async fn of_content(&self, content: ContentHash) -> Result<Vec<Torrent>, StoreError> {
        // The index contains only keys, so that it is written only once per torrent.
        let keys = self.table.query_all(Query::of("content_hash", s(content)).index("by_content")).await?;
        let infohashes = keys.iter().map(|item| parsed(item, "infohash")).collect::<Result<Vec<InfoHash>, _>>()?;
        let torrents = try_join_all(infohashes.into_iter().map(|infohash| self.get(infohash))).await?;
        Ok(torrents.into_iter().flatten().collect())
    }

    async fn live(&self, after: Option<InfoHash>, limit: u32) -> Result<Vec<LiveTorrent>, StoreError> {
        let first = after.map_or('0', |hash| live_part(hash).chars().next().unwrap_or('0'));
        let mut found = vec![];
        for part in ('0'..='9').chain('a'..='f').filter(|part| *part >= first) {
            let left = limit - u32::try_from(found.len()).unwrap_or(limit);
            let mut query = Query::of("live", s(part)).index("by_infohash").limit(left);
            if let Some(after) = after.filter(|_| part == first) {
                query = query.and("infohash", ">", s(after));
            }
            found.extend(self.table.query_all(query).await?);
            if found.len() >= limit as usize {
                break;
            }
        }
        let read = |item: &Item| {
            Ok(LiveTorrent {
                infohash: parsed(item, "infohash")?,
                content_hash: parsed(item, "content_hash")?,
                size: number(item, "size")?,
            })
        };
        found.iter().take(limit as usize).map(read).collect()
    }

    async fn list_unmodified(&self, part: u8, before: Timestamp) -> Result<Vec<InfoHash>, StoreError> {
        let keys = self.bucket.older(&format!("torrents/{part:02x}"), before).await?;
        Ok(keys.iter().filter_map(|key| infohash_of(key)).collect())
    }

    async fn mark_seeding(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        let change = Change::when("#state = :adding")
            .value("adding", s(TorrentState::Adding.as_str()))
            .set("state", s(TorrentState::Seeding.as_str()));
        match self.table.change(key("infohash", infohash), change).await? {
            Written::Done(_) => Ok(true),
            Written::Refused(Some(item)) => Ok(parsed::<TorrentState>(&item, "state")? == TorrentState::Seeding),
            Written::Refused(None) => Ok(false),
        }
    }

    async fn retire(&self, infohash: InfoHash, version: u64, since: Timestamp) -> Result<bool, StoreError> {
        let change = Change::when("#version = :version AND #state <> :retired AND #stored_at <= :since")
            .value("since", time(since))
            .value("version", n(version))
            .value("retired", s(TorrentState::Retired.as_str()))
            .set("state", s(TorrentState::Retired.as_str()))
            .set("live", None);
        Ok(matches!(self.table.change(key("infohash", infohash), change).await?, Written::Done(_)))
    }

    async fn purge(&self, infohash: InfoHash) -> Result<bool, StoreError> {
        let retired = Change::when("attribute_not_exists(#infohash) OR #state = :retired");
        let retired = retired.value("retired", s(TorrentState::Retired.as_str()));
        if !self.table.delete(key("infohash", infohash), retired).await? {
            return Ok(false);
        }
        // Race: if the torrent is stored again now, its request finds the file missing when it is seeded, and builds
        // it again.
        self.bucket.delete(&torrent_key(infohash)).await?;
        Ok(true)
    }
}

fn read(item: &Item) -> Result<Torrent, StoreError> {
    Ok(Torrent {
        infohash: parsed(item, "infohash")?,
        infohash_v2: optional(item, "infohash_v2", parsed)?,
        content_hash: parsed(item, "content_hash")?,
        name: FileName::sanitize(text(item, "name")?).unwrap_or_default(),
        size: number(item, "size")?,
        piece_length: number(item, "piece_length")?,
        state: parsed(item, "state")?,
        version: number(item, "version")?,
        created_at: timestamp(item, "created_at")?,
    })
}
