//! The sweep: finds what is due, whatever became of its wake-up, ends what has outlived its time, forgets what ended
//! long ago, and tidies up behind fetches that were killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use domain::{RequestId, Step, Transition};
use ports::{Clock, Contents, Requests, StagingEntry, StoreError, Task, TaskQueue};
use tracing::{info, warn};

use crate::{LEASE, SUSPENDED, notify};

/// The longest that a step lets a row wait is a quarter of an hour.
const LATEST: Duration = Duration::from_secs(3600);

/// Sweeps; to be run every minute.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Sweep {
    pub requests: Arc<dyn Requests>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
    /// Rows that one sweep looks at, of each kind.
    pub limit: u32,
    /// When it ran last, in milliseconds since the epoch; 0 before its first run.
    pub last: Arc<AtomicI64>,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Wake-ups sent.
    pub woken: usize,
    /// Requests whose time was over.
    pub expired: usize,
    /// Rows that were deleted.
    pub forgotten: u64,
    /// Pieces of contents that were deleted.
    pub discarded: u64,
}

impl Sweep {
    /// Sweeps once.
    pub async fn run(&self) -> Result<Swept, StoreError> {
        let now = self.clock.now();
        let mut swept = Swept::default();
        // After a start, and when the clock has gone back: looking costs more the more requests there are.
        let before = self.last.swap(now.as_millis(), Ordering::Relaxed);
        if before == 0 || before > now.as_millis() {
            let clamped = self.requests.clamp_due_times(now, now + LATEST, now + notify::LONGEST_WAIT, LEASE).await?;
            if clamped > 0 {
                warn!(requests = clamped, "the clock was set back: requests made due");
            }
        }
        for id in self.requests.list_expired(now, self.limit).await? {
            swept.expired += usize::from(self.expire(id).await?);
        }
        for task in self.requests.due(now, self.limit).await? {
            self.tasks.enqueue(task, Duration::ZERO).await?;
            swept.woken += 1;
        }
        for id in self.requests.notifications(now, self.limit).await? {
            self.tasks.enqueue(Task::Notify(id), Duration::ZERO).await?;
            swept.woken += 1;
        }
        swept.forgotten = self.requests.purge_history(now, self.limit).await?;
        swept.discarded = self.tidy().await?;
        if swept != Swept::default() {
            let Swept { woken, expired, forgotten, discarded } = swept;
            info!(woken, expired, forgotten, discarded, "swept");
        }
        Ok(swept)
    }

    /// Deletes what came in for requests that are not being fetched any more; how much. Who was killed left it, or who
    /// has lost the claim.
    pub async fn tidy(&self) -> Result<u64, StoreError> {
        self.discard(|_| true).await
    }

    /// As [`Sweep::tidy`], and all that was not set aside. To be called before any fetch runs, where one process works on
    /// the store.
    pub async fn clear_staging(&self) -> Result<u64, StoreError> {
        self.discard(|staging| staging.set_aside).await
    }

    async fn discard(&self, may_be_needed: impl Fn(&StagingEntry) -> bool + Send + Sync) -> Result<u64, StoreError> {
        // Stores note times by the wall clock.
        let now = self.clock.wall();
        let mut discarded = 0;
        for staging in self.contents.staging().await? {
            let owner = match staging.request.filter(|_| may_be_needed(&staging)) {
                Some(id) => self.requests.get(id).await?,
                None => None,
            };
            let in_flight = owner.is_some_and(|row| row.status.step() == Step::Fetch);
            if !in_flight || now.since(staging.since) > SUSPENDED {
                self.contents.discard(&staging.handle).await?;
                discarded += 1;
            }
        }
        Ok(discarded)
    }

    async fn expire(&self, id: RequestId) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let Some(claim) = self.requests.claim(id, Step::Expire, now, LEASE).await? else { return Ok(false) };
        match self.requests.save(&claim, &Transition::expire(now), now).await {
            Err(StoreError::ClaimLost) => return Ok(false),
            result => drop(result?),
        }
        self.tasks.enqueue(Task::Release(id), Duration::ZERO).await?;
        Ok(true)
    }
}
