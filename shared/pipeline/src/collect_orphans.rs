//! Orphan collection: removes contents and torrents that no request refers to. A killed process or a lost message leaves
//! them behind.

use std::sync::Arc;
use std::time::Duration;

use domain::{InfoHash, Timestamp, TorrentState};
use ports::{Clock, Contents, Requests, Stores, Task, TaskQueue, Torrents};
use tracing::warn;

use crate::StepError;
use crate::release::is_referenced;

/// How long an orphan must be unmodified: far longer than any step takes between storing something and referring to it.
const IDLE: Duration = Duration::from_secs(3600);

/// Orphan collection, over a 256th of the stores at a time.
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
    /// The collection on these ports.
    pub fn new(stores: &Stores) -> Self {
        Self {
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
        }
    }

    /// Checks the part of this minute. Runs every minute, so that each part is checked every four hours. Returns how many
    /// orphans were found.
    pub async fn run(&self) -> Result<u64, StepError> {
        let now = self.clock.now();
        let part = u8::try_from((now.as_millis() / 60_000).rem_euclid(256)).expect("less than 256");
        let before = now - IDLE;
        let mut found = 0;
        for infohash in self.torrents.list_unmodified(part, before).await? {
            if self.is_unneeded(infohash, before).await? {
                warn!(%infohash, "orphaned torrent");
                self.tasks.enqueue(Task::Unseed(infohash), Duration::ZERO).await?;
                found += 1;
            }
        }
        for content in self.contents.list_unmodified(part, before).await? {
            if self.requests.references(content).await?.is_empty() {
                warn!(content.hash = %content, "orphaned content removed");
                self.contents.remove(content, before).await?;
                found += 1;
            }
        }
        Ok(found)
    }

    /// Whether a torrent must be removed: it has files and no record, it is retired already, or it is an orphan and was
    /// retired now.
    async fn is_unneeded(&self, infohash: InfoHash, before: Timestamp) -> Result<bool, StepError> {
        let Some(torrent) = self.torrents.get(infohash).await? else { return Ok(true) };
        if torrent.state == TorrentState::Retired {
            return Ok(true);
        }
        let references = self.requests.references(torrent.content_hash).await?;
        Ok(!is_referenced(&torrent, &references) && self.torrents.retire(infohash, torrent.version, before).await?)
    }
}
