//! Giving up a step that never comes to an end: its wake-up was taken again and again, and whoever took it died.

use std::sync::Arc;
use std::time::Duration;

use domain::{Failure, FailureCode, RequestId, Step, Transition};
use ports::{Clock, Requests, StoreError, Task, TaskQueue};
use tracing::error;

use crate::{LEASE, Outcome, fetch};

/// Ends requests whose wake-ups were given up by their queue.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct DeadLetter {
    pub requests: Arc<dyn Requests>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
}

impl DeadLetter {
    /// Marks the request of a fetch or package wake-up as failed. [`StoreError::Unavailable`] while a worker holds the
    /// row: to be tried again when its lease is over. Wake-ups of other kinds are left to the sweep.
    pub async fn run(&self, task: Task) -> Result<Outcome, StoreError> {
        let (id, step) = match task {
            Task::Fetch(id) => (id, Step::Fetch),
            Task::Package(id) => (id, Step::Package),
            Task::Seed(..) | Task::Release(_) | Task::Unseed(_) | Task::Notify(_) | Task::Connect(..) => {
                return Ok(Outcome::Nothing);
            }
        };
        let now = self.clock.now();
        let Some(claim) = self.requests.claim(id, step, now, LEASE).await? else {
            return self.held(id, step).await;
        };
        let failure = Failure::new(FailureCode::Internal, "its work was begun again and again and never ended");
        error!(request.id = %id, ?step, "given up");
        crate::metrics::failed("dead_letter", failure.code, false);
        let failed = Transition::fail(&claim.request, failure, None, now);
        let (row, waiting) = self.requests.save(&claim, &failed, now).await?;
        if row.spec.callback_url.is_some() {
            self.tasks.enqueue(Task::Notify(id), Duration::ZERO).await?;
        }
        fetch::wake(&*self.requests, &*self.tasks, &waiting, now).await?;
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
