//! The sweep: enqueues tasks for rows that are due, expires requests, and purges the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use domain::{RequestId, Step, Transition};
use ports::{Clock, Requests, StoreError, Stores, Task, TaskQueue};
use tracing::{info, warn};

use crate::{LEASE, StepError, notify};

/// No row waits longer: the longest back-off of a step is a quarter of an hour.
const LATEST: Duration = Duration::from_secs(3600);

/// The sweep, which runs every minute.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Sweep {
    pub requests: Arc<dyn Requests>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
    /// The most rows of each kind in one sweep.
    pub limit: u32,
    /// The time of the last run, in milliseconds since the epoch; 0 before the first run.
    pub last: Arc<AtomicI64>,
}

/// The result of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Tasks enqueued.
    pub woken: usize,
    /// Requests expired.
    pub expired: usize,
    /// Rows deleted.
    pub forgotten: u64,
}

impl Sweep {
    /// The sweep on these ports, over up to `limit` rows of each kind.
    pub fn new(stores: &Stores, limit: u32) -> Self {
        Self {
            requests: stores.requests.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            limit,
            last: Arc::default(),
        }
    }

    /// Runs once.
    pub async fn run(&self) -> Result<Swept, StepError> {
        let now = self.clock.now();
        let mut swept = Swept::default();
        // Only after a start and when the clock went back, since this reads every waiting row.
        let before = self.last.swap(now.as_millis(), Ordering::Relaxed);
        if before == 0 || before > now.as_millis() {
            let clamped = self.requests.clamp_due_times(now, now + LATEST, now + notify::LONGEST_WAIT, LEASE).await?;
            if clamped > 0 {
                warn!(requests = clamped, "clock was set back, requests made due");
            }
        }
        for id in self.requests.list_expired(now, self.limit).await? {
            swept.expired += usize::from(self.expire(id).await?);
        }
        for task in self.requests.due(now, self.limit).await? {
            self.tasks.enqueue(task, Duration::ZERO).await?;
            swept.woken += 1;
        }
        for id in self.requests.due_notifications(now, self.limit).await? {
            self.tasks.enqueue(Task::Notify(id), Duration::ZERO).await?;
            swept.woken += 1;
        }
        swept.forgotten = self.requests.purge_history(now, self.limit).await?;
        if swept != Swept::default() {
            let Swept { woken, expired, forgotten } = swept;
            info!(tasks = woken, expired, purged = forgotten, "sweep finished");
        }
        Ok(swept)
    }

    async fn expire(&self, id: RequestId) -> Result<bool, StepError> {
        let now = self.clock.now();
        let Some(claim) = self.requests.claim(id, Step::Expire, now, LEASE).await? else { return Ok(false) };
        match self.requests.save(&claim, &Transition::expire(now), now).await {
            Err(StoreError::ClaimLost(_)) => return Ok(false),
            result => drop(result?),
        }
        self.tasks.enqueue(Task::Release(id), Duration::ZERO).await?;
        Ok(true)
    }
}
