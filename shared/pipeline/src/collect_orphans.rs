//! Finds what a process that was killed, or a message that was lost, has left in the stores: contents and torrents that
//! no request has.

use std::sync::Arc;
use std::time::Duration;

use domain::{InfoHash, Timestamp, TorrentState};
use ports::{Clock, Contents, Requests, StoreError, Task, TaskQueue, Torrents};
use tracing::warn;

use crate::release::is_referenced;

/// How long nobody has had anything to do with what is looked at: far longer than any step takes between having
/// something and referring to it.
const IDLE: Duration = Duration::from_secs(3600);

/// Goes through the stores, a 256th at a time.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct CollectOrphans {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
}

impl CollectOrphans {
    /// Looks at this minute's part: to be run every minute, so that each part is looked at every four hours. How many
    /// contents and torrents nobody needed.
    pub async fn run(&self) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let (part, before) = ((now.as_millis() / 60_000) as u8, now - IDLE);
        let mut found = 0;
        for infohash in self.torrents.list_unmodified(part, before).await? {
            if self.is_unneeded(infohash, before).await? {
                warn!(%infohash, "a torrent was left that no request needs");
                self.tasks.enqueue(Task::Unseed(infohash), Duration::ZERO).await?;
                found += 1;
            }
        }
        for content in self.contents.list_unmodified(part, before).await? {
            if self.requests.references(content).await?.is_empty() {
                warn!(content.hash = %content, "a content was left that no request needs");
                self.contents.remove(content, before).await?;
                found += 1;
            }
        }
        Ok(found)
    }

    /// Whether a torrent is to go: one that has files and no record, that is retired already, or that is so now.
    async fn is_unneeded(&self, infohash: InfoHash, before: Timestamp) -> Result<bool, StoreError> {
        let Some(torrent) = self.torrents.get(infohash).await? else { return Ok(true) };
        if torrent.state == TorrentState::Retired {
            return Ok(true);
        }
        let references = self.requests.references(torrent.content_hash).await?;
        Ok(!is_referenced(&torrent, &references) && self.torrents.retire(infohash, torrent.version, before).await?)
    }
}
