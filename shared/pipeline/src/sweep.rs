//! The sweep: finds what is due, whatever became of its wake-up, ends what has outlived its time, and forgets what
//! ended long ago.

use std::sync::Arc;
use std::time::Duration;

use domain::{RequestId, Step};
use ports::{Clock, Contents, Requests, StoreError, Wakeup, Wakeups};
use tracing::info;

use crate::LEASE;

/// Sweeps; to be run every minute.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Sweep {
    pub requests: Arc<dyn Requests>,
    pub contents: Arc<dyn Contents>,
    pub wakeups: Arc<dyn Wakeups>,
    pub clock: Arc<dyn Clock>,
    /// Rows that one sweep looks at, of each kind.
    pub limit: u32,
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
}

impl Sweep {
    /// Sweeps once.
    pub async fn run(&self) -> Result<Swept, StoreError> {
        let now = self.clock.now();
        let mut swept = Swept::default();
        for id in self.requests.outlived(now, self.limit).await? {
            swept.expired += usize::from(self.expire(id).await?);
        }
        for wakeup in self.requests.due(now, self.limit).await? {
            self.wakeups.wake(wakeup, Duration::ZERO).await?;
            swept.woken += 1;
        }
        for id in self.requests.notifications(now, self.limit).await? {
            self.wakeups.wake(Wakeup::Notify(id), Duration::ZERO).await?;
            swept.woken += 1;
        }
        swept.forgotten = self.requests.forget(now, self.limit).await?;
        if swept != Swept::default() {
            info!(woken = swept.woken, expired = swept.expired, forgotten = swept.forgotten, "swept");
        }
        Ok(swept)
    }

    /// Deletes what fetches of a process that was killed have left behind. To be called before any
    /// fetch runs, where one process works on the store.
    pub async fn clear_staging(&self) -> Result<u64, StoreError> {
        self.contents.sweep_staging(self.clock.now()).await
    }

    async fn expire(&self, id: RequestId) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let Some(claim) = self.requests.claim(id, Step::Expire, now, LEASE).await? else { return Ok(false) };
        let mut row = claim.request.clone();
        row.expire(now);
        match self.requests.save(&claim, &row).await {
            Err(StoreError::ClaimLost) => return Ok(false),
            result => drop(result?),
        }
        self.wakeups.wake(Wakeup::Release(id), Duration::ZERO).await?;
        Ok(true)
    }
}
