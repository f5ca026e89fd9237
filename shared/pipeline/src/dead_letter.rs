//! Dead letters: fails the request of a task that was received again and again without a result, for instance because
//! every worker crashed on it.

use std::sync::Arc;
use std::time::Duration;

use domain::{Failure, FailureCode, RequestId, Step, Transition};
use ports::{Clock, Requests, Stores, Task, TaskQueue};
use tracing::error;

use crate::{LEASE, Outcome, StepError, fetch};

/// Fails requests whose tasks the queue moved to the dead letters.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct DeadLetter {
    pub requests: Arc<dyn Requests>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
}

impl DeadLetter {
    /// On these ports.
    pub fn new(stores: &Stores) -> Self {
        Self { requests: stores.requests.clone(), tasks: stores.tasks.clone(), clock: stores.clock.clone() }
    }

    /// Fails the request of a fetch or package task. [`StepError::Held`] while a worker holds the row: the caller
    /// must try again when its lease is over. The sweep takes care of other tasks.
    pub async fn run(&self, task: Task) -> Result<Outcome, StepError> {
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
        let failure = Failure::new(FailureCode::Internal, "its step was started again and again and never ended");
        error!(request.id = %id, ?step, "request failed by dead letter");
        crate::metrics::failed("dead_letter", failure.code, false);
        let failed = Transition::fail(&claim.request, failure, None, now);
        let (row, waiting) = self.requests.save(&claim, &failed, now).await?;
        if !row.receivers.is_empty() {
            self.tasks.enqueue(Task::Notify(id), Duration::ZERO).await?;
        }
        fetch::wake(&*self.requests, &*self.tasks, &waiting, now).await?;
        Ok(Outcome::Failed)
    }

    /// The result for a row that cannot be claimed: nothing if it has moved on, an error if it is held.
    async fn held(&self, id: RequestId, step: Step) -> Result<Outcome, StepError> {
        let row = self.requests.get(id).await?;
        if row.is_some_and(|row| row.status.step() == step) {
            return Err(StepError::Held(id));
        }
        Ok(Outcome::Nothing)
    }
}
