//! Giving up a step that never comes to an end: its wake-up was taken again and again, and whoever took it died.

use std::sync::Arc;
use std::time::Duration;

use domain::{Failure, FailureCode, RequestId, Step};
use ports::{Clock, Requests, StoreError, Wakeup, Wakeups};
use tracing::error;

use crate::{LEASE, Outcome, fetch, meter};

/// Ends requests whose wake-ups were given up by their queue.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct GiveUp {
    pub requests: Arc<dyn Requests>,
    pub wakeups: Arc<dyn Wakeups>,
    pub clock: Arc<dyn Clock>,
}

impl GiveUp {
    /// Marks the request of a fetch or package wake-up as failed. [`StoreError::Unavailable`] while a worker holds the
    /// row: to be tried again when its lease is over. Wake-ups of other kinds are left to the sweep.
    pub async fn run(&self, wakeup: Wakeup) -> Result<Outcome, StoreError> {
        let (id, step) = match wakeup {
            Wakeup::Fetch(id) => (id, Step::Fetch),
            Wakeup::Package(id) => (id, Step::Package),
            Wakeup::Seed(..) | Wakeup::Release(_) | Wakeup::Unseed(_) | Wakeup::Notify(_) | Wakeup::Connect(..) => {
                return Ok(Outcome::Nothing);
            }
        };
        let now = self.clock.now();
        let Some(claim) = self.requests.claim(id, step, now, LEASE).await? else {
            return self.held(id, step).await;
        };
        let mut row = claim.request.clone();
        let failure = Failure::new(FailureCode::Internal, "its work was begun again and again and never ended");
        error!(request.id = %id, ?step, "given up");
        meter::failed("give_up", failure.code, false);
        row.fail(failure, now);
        let waiting = self.requests.save(&claim, &row).await?;
        if row.spec.callback_url.is_some() {
            self.wakeups.wake(Wakeup::Notify(id), Duration::ZERO).await?;
        }
        fetch::wake(&*self.requests, &*self.wakeups, &waiting, now).await?;
        Ok(Outcome::Failed)
    }

    /// Whether the row cannot be claimed because it has gone on, or because it is held.
    async fn held(&self, id: RequestId, step: Step) -> Result<Outcome, StoreError> {
        let row = self.requests.get(id).await?;
        if row.is_some_and(|row| row.status.step() == step) {
            return Err(StoreError::unavailable("the row", "a worker holds it, or it waits for its next try"));
        }
        Ok(Outcome::Nothing)
    }
}
