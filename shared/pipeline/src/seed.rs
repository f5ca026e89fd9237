//! The seed step: adds torrents to the seeder and removes retired ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::{Failure, FailureCode, InfoHash, RequestId, Status, Torrent, TorrentState, Transition};
use ports::{Clock, Condition, Requests, SeedError, Seeder, Share, Stores, Task, TaskQueue, Torrents};
use tracing::{error, info};

use crate::StepError;

/// The seed step: makes the seeder's session equal to the table of torrents.
///
/// Calls for one torrent must not run at the same time. Then the last one finds the table as it is, whatever the order of
/// the tasks.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Seed {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub seeder: Arc<dyn Seeder>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
}

impl Seed {
    /// The step on these ports.
    pub fn new(stores: &Stores, seeder: Arc<dyn Seeder>) -> Self {
        Self {
            seeder,
            requests: stores.requests.clone(),
            torrents: stores.torrents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
        }
    }

    /// Seeds a torrent, and makes `request` ready, which waits for it.
    pub async fn run(&self, infohash: InfoHash, request: Option<RequestId>) -> Result<(), StepError> {
        let now = self.clock.now();
        let transition = match self.seed(infohash).await {
            Ok(true) => Transition::seeded(),
            Ok(false) => Transition::repackage(now),
            Err(StepError::Seeder(SeedError::Refused(why))) => {
                error!(%infohash, why, "torrent refused by the seeder");
                let failure = Failure::new(FailureCode::SeedingFailed, "the seeder refused the torrent");
                Transition::seeding_failed(failure, now)
            }
            Err(error) => return Err(error),
        };
        let Some(id) = request else { return Ok(()) };
        let applied = self.requests.apply(id, Condition::HasTorrent(infohash), &transition, now).await?;
        let Some(row) = applied.done() else { return Ok(()) };
        match (row.status, &row.failure) {
            (Status::Packaging, _) => return Ok(self.tasks.enqueue(Task::Package(id), Duration::ZERO).await?),
            (Status::Failed, Some(failure)) => crate::metrics::failed("seed", failure.code, false),
            _ => crate::metrics::ready(),
        }
        info!(request.id = %id, %infohash, status = %row.status, "seeding ended");
        if row.spec.callback_url.is_some() {
            self.tasks.enqueue_for(Share::from(&row), Task::Notify(id), Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Adds a torrent to the session. Returns whether it could; if not, it must be packaged again.
    async fn seed(&self, infohash: InfoHash) -> Result<bool, StepError> {
        if !self.seeder.has(infohash) {
            let Some((metainfo, content)) = self.torrents.metainfo(infohash).await? else { return Ok(false) };
            self.seeder.add(infohash, content, &metainfo, &[]).await?;
        }
        if self.torrents.mark_seeding(infohash).await? {
            return Ok(true);
        }
        // Retired, or not recorded yet.
        self.seeder.remove(infohash).await?;
        Ok(false)
    }

    /// Removes a retired torrent from the session and deletes it.
    pub async fn unseed(&self, infohash: InfoHash) -> Result<(), StepError> {
        let torrent = self.torrents.get(infohash).await?;
        // A deleted record may have left files behind.
        if torrent.is_none_or(|torrent| torrent.state == TorrentState::Retired) {
            self.seeder.remove(infohash).await?;
            self.torrents.purge(infohash).await?;
        }
        Ok(())
    }

    /// Connects the seeder to a peer that downloads a torrent.
    pub async fn connect(&self, infohash: InfoHash, peer: SocketAddr) -> Result<(), StepError> {
        Ok(self.seeder.connect(infohash, peer).await?)
    }

    /// Adds every live torrent, at a start. Returns how many.
    pub async fn restore(&self) -> Result<u64, StepError> {
        let (mut restored, mut after) = (0, None);
        loop {
            let page = self.torrents.live(after, 500).await?;
            let Some(last) = page.last() else { return Ok(restored) };
            after = Some(last.infohash);
            for torrent in &page {
                match self.restore_one(torrent).await {
                    Ok(true) => restored += 1,
                    Ok(false) => error!(infohash = %torrent.infohash, "torrent file is missing"),
                    Err(StepError::Seeder(SeedError::Refused(why))) => {
                        error!(infohash = %torrent.infohash, why, "torrent refused by the seeder");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn restore_one(&self, torrent: &Torrent) -> Result<bool, StepError> {
        let infohash = torrent.infohash;
        let Some((metainfo, content)) = self.torrents.metainfo(infohash).await? else { return Ok(false) };
        let resume = self.torrents.resume(infohash).await?.unwrap_or_default();
        self.seeder.add(infohash, content, &metainfo, &resume).await?;
        Ok(true)
    }
}
