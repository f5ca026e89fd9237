//! Orphan collection: removes contents and torrents that no request refers to, and uploads of fetches that do not run.
//! A killed process or a lost message leaves them behind.

use std::sync::Arc;
use std::time::Duration;

use domain::{InfoHash, Step, Timestamp, TorrentState};
use ports::{Clock, Contents, Requests, StagingEntry, Stores, Task, TaskQueue, Torrents};
use tracing::warn;

use crate::release::is_referenced;
use crate::{SUSPENDED, StepError};

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
    /// The minutes between two parts, at least 1.
    pub interval: i64,
}

impl CollectOrphans {
    /// The collection on these ports, every `interval` minutes.
    pub fn new(stores: &Stores, interval: i64) -> Self {
        Self {
            interval,
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
        }
    }

    /// Checks the part of this minute, if it has one, and all uploads. Must be called every minute. Each part is
    /// checked once in 256 intervals. Returns how many orphans were found.
    pub async fn run(&self) -> Result<u64, StepError> {
        let now = self.clock.now();
        let minute = now.as_millis() / 60_000;
        if minute % self.interval != 0 {
            return Ok(0);
        }
        let part = u8::try_from((minute / self.interval).rem_euclid(256)).expect("less than 256");
        let before = now - IDLE;
        let mut found = self.tidy().await?;
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

    /// Discards uploads of requests that are not being fetched: workers that were killed or lost their claim left them.
    /// Returns how many.
    pub async fn tidy(&self) -> Result<u64, StepError> {
        self.discard(|_| true).await
    }

    /// As [`CollectOrphans::tidy`], and every upload that is not suspended. Must be called before any fetch runs, by
    /// the only process that works on the store.
    pub async fn clear_staging(&self) -> Result<u64, StepError> {
        self.discard(|staging| staging.may_be_suspended).await
    }

    async fn discard(&self, may_be_needed: impl Fn(&StagingEntry) -> bool + Send + Sync) -> Result<u64, StepError> {
        // Stores record the time of the wall clock.
        let now = self.clock.wall();
        let mut discarded = 0;
        for staging in self.contents.staging().await? {
            let owner = match staging.request.filter(|_| may_be_needed(&staging)) {
                Some(id) => self.requests.get(id).await?,
                None => None,
            };
            let in_flight = owner.is_some_and(|row| row.status.step() == Step::Fetch);
            if !in_flight || now.since(staging.since) > SUSPENDED {
                self.contents.discard(&staging.token).await?;
                discarded += 1;
            }
        }
        Ok(discarded)
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
