//! The fetch step: downloads the content of a request and stores it.

use std::sync::Arc;
use std::time::Duration;

use domain::{Content, Failure, FailureCode, FetchRequest, Progress, RequestId, Step, Timestamp, Transition, Update};
use fetcher::{Checkpoint, FetchError, Fetcher, Transfer, TransferProgress};
use ports::{Claim, Clock, Contents, Requests, Share, StagedUpload, StoreError, Stores, Task, TaskQueue, UploadToken};
use serde::{Deserialize, Serialize};
use settings::Settings;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::retry::{internal_failure, next_try, store_failure};
use crate::{LEASE, Outcome, SUSPENDED, StepError, lease};

/// The progress of a request when its content has been received, in percent.
const RECEIVED: u8 = 90;

/// The fetch step.
#[derive(Clone)]
#[expect(missing_docs, missing_debug_implementations, reason = "the ports it needs")]
pub struct Fetch {
    pub requests: Arc<dyn Requests>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub clock: Arc<dyn Clock>,
    pub fetcher: Fetcher,
    /// Whether identical requests share a content.
    pub reuse: bool,
    /// The most retries after the first try.
    pub max_retries: u32,
    /// Whether every run has a deadline, as in a Lambda function: then a fetch that is stopped and cannot be resumed has
    /// failed, since the next run has the same deadline. Otherwise it returns to the queue.
    pub has_deadline: bool,
}

/// The claim was lost: another worker holds it, or the request was cancelled.
struct Lost;

/// The checkpoint of a suspended fetch, as JSON in the row.
#[derive(Serialize, Deserialize)]
struct Suspended {
    begun_at: Timestamp,
    staged: UploadToken,
    transfer: Checkpoint,
}

impl Fetch {
    /// The step on these ports. `has_deadline` is whether every run has a deadline.
    pub fn new(stores: &Stores, fetcher: Fetcher, settings: &Settings, has_deadline: bool) -> Self {
        Self {
            requests: stores.requests.clone(),
            contents: stores.contents.clone(),
            tasks: stores.tasks.clone(),
            clock: stores.clock.clone(),
            fetcher,
            reuse: settings.cache.cache_enabled,
            max_retries: settings.fetcher.max_retries.get_u32(),
            has_deadline,
        }
    }

    /// Runs the step for this request. When `stopping` is cancelled, the request returns to the queue, with a checkpoint
    /// if the fetch can be resumed.
    pub async fn run(&self, id: RequestId, stopping: &CancellationToken) -> Result<Outcome, StepError> {
        if self.contents.check_room(0).is_err_and(|error| error.is_full()) {
            // The request stays due: the sweep finds it again.
            warn!(request.id = %id, "fetch postponed: no space left");
            return Ok(Outcome::Nothing);
        }
        let Some(claim) = self.requests.claim(id, Step::Fetch, self.clock.now(), LEASE).await? else {
            return Ok(Outcome::Nothing);
        };
        match self.work(&claim, stopping).await {
            Err(error) if error.is_claim_lost() => Ok(Outcome::Lost),
            result => result,
        }
    }

    async fn work(&self, claim: &Claim, stopping: &CancellationToken) -> Result<Outcome, StepError> {
        // A suspended fetch is resumed, whatever identical requests do.
        if self.reuse && !claim.request.spec.ttl.is_zero() && claim.request.checkpoint.is_none() {
            let identical = self.requests.find_identical(&claim.request.fingerprint).await?;
            if let Some(content) = self.reusable(&claim.request, identical.freshest).await? {
                info!(request.id = %claim.request.id, "reusing the content of an identical request");
                metrics::counter!("proxytorrent_reused_total", "what" => "request").increment(1);
                self.fetched(claim, content).await?;
                return Ok(Outcome::Done);
            }
            if let Some(first) = identical.first_in_flight.filter(|first| *first < claim.request.id) {
                let now = self.clock.now();
                let (row, _) = self.requests.save(claim, &Transition::requeue(now + LEASE), now).await?;
                // In this order: when the other request ends, this one must be queued.
                if !self.requests.add_waiter(row.id, first).await? {
                    wake(&*self.requests, &*self.tasks, &[row.id], now).await?;
                }
                return Ok(Outcome::Nothing);
            }
        }
        let (mut staged, suspended) = match self.stage(&claim.request).await {
            Ok(staged) => staged,
            Err(error) => return self.failed(claim, error.into()).await,
        };
        let from = suspended.as_ref().map(|suspended| &suspended.transfer);
        let fetched = match self.download(claim, &mut *staged, from, stopping).await {
            Ok(Ok(Transfer::Complete(fetched))) => fetched,
            Ok(Ok(Transfer::Paused(checkpoint))) => return self.paused(claim, staged, suspended, checkpoint).await,
            Ok(Ok(Transfer::Refused(error))) => return self.refused(claim, staged, suspended, error).await,
            Ok(Err(error)) => {
                // On a full disk the row can be written only after this space is free again.
                drop(staged);
                return self.failed(claim, error).await;
            }
            Err(Lost) => return Ok(Outcome::Lost),
        };
        // Not interrupted: a content that is in place must be recorded.
        let now = self.clock.now();
        let new = match self.holding(claim, staged.commit(fetched.hash, now)).await {
            Ok(new) => new,
            Err(error) => return self.failed(claim, error.into()).await,
        };
        match self.record(claim, fetched.stored_at(now), new).await {
            Err(StepError::Store(error)) => self.failed(claim, error.into()).await,
            recorded => recorded.map(|()| Outcome::Done),
        }
    }

    /// Returns the content of an identical request if it is fresh: fetched after this request was created, or ready for
    /// less than its own ttl.
    async fn reusable(
        &self,
        request: &FetchRequest,
        other: Option<FetchRequest>,
    ) -> Result<Option<Content>, StoreError> {
        let Some(other) = other else { return Ok(None) };
        let Some(content) = other.content else { return Ok(None) };
        let now = self.clock.now();
        let fresh =
            content.fetched_at >= request.created_at || other.completed_at.is_some_and(|at| at + other.spec.ttl > now);
        let wanted = request.spec.sha256.is_none_or(|hash| hash == content.hash);
        // A touched content is not removed before the row refers to it.
        let usable = fresh && wanted && self.contents.touch(content.hash, now).await?;
        Ok(usable.then_some(content))
    }

    /// Returns the staged upload for the content: the suspended one, if there is one and it still exists.
    async fn stage(&self, request: &FetchRequest) -> Result<(Box<dyn StagedUpload>, Option<Suspended>), StoreError> {
        let suspended = request.checkpoint.as_ref().and_then(|text| serde_json::from_str::<Suspended>(text).ok());
        if let Some(suspended) = suspended
            && let Some(staged) = self.contents.resume(request.id, &suspended.staged).await?
        {
            return Ok((staged, Some(suspended)));
        }
        Ok((self.contents.stage(request.id).await?, None))
    }

    /// Suspends a fetch that was stopped, if it has progressed and can be resumed.
    async fn paused(
        &self,
        claim: &Claim,
        staged: Box<dyn StagedUpload>,
        before: Option<Suspended>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Outcome, StepError> {
        let (id, now) = (claim.request.id, self.clock.now());
        let begun_at = before.as_ref().map_or(now, |before| before.begun_at);
        let had = before.as_ref().map_or(0, |before| before.transfer.received());
        // A run that received nothing until its deadline will receive nothing in the next one.
        let further = !self.has_deadline || checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.received() != had);
        if let Some(transfer) = checkpoint.filter(|_| further && now.since(begun_at) < SUSPENDED / 2) {
            info!(request.id = %id, received_bytes = transfer.received(), "fetch suspended");
            let staged = match self.holding(claim, staged.suspend()).await {
                Ok(staged) => staged,
                Err(error) => return self.failed(claim, error.into()).await,
            };
            let suspended = serde_json::to_string(&Suspended { begun_at, staged, transfer })?;
            let (row, _) = self.save(claim, &Transition::suspend(suspended, now), now).await?;
            self.tasks.enqueue_for(Share::from(&row), Task::Fetch(id), Duration::ZERO).await?;
            return Ok(Outcome::Suspended);
        }
        if self.has_deadline {
            let why = "the content did not come within the time that one run of the fetch may take, and could not \
                       be resumed in another: that takes an origin that serves ranges (Accept-Ranges) and a \
                       strong ETag or Last-Modified, and is done for six hours";
            return self.failed(claim, Failure::new(FailureCode::TimeLimit, why).into()).await;
        }
        self.requests.save(claim, &Transition::requeue(now), now).await?;
        Ok(Outcome::Nothing)
    }

    async fn download(
        &self,
        claim: &Claim,
        staged: &mut dyn StagedUpload,
        from: Option<&Checkpoint>,
        stopping: &CancellationToken,
    ) -> Result<Result<Transfer, FetchError>, Lost> {
        let transfer = TransferProgress::default();
        // On AWS each write costs: the bytes are written with the heartbeats that are needed anyway.
        let interval = if self.has_deadline { LEASE } else { lease::BYTES_INTERVAL };
        let progress = || {
            let percent = u16::from(transfer.percent()) * u16::from(RECEIVED) / 100;
            Progress { percent: u8::try_from(percent).unwrap_or(RECEIVED), received: transfer.received() }
        };
        tokio::select! {
            // A fetch that is complete is not discarded.
            biased;
            fetched = self.fetcher.fetch(&claim.request.owner, &claim.request.spec, staged, &transfer, from, stopping) => Ok(fetched),
            () = lease::keep(&*self.requests, &*self.clock, claim, interval, progress) => Err(Lost),
        }
    }

    /// Runs `work` while the lease is extended.
    async fn holding<T>(&self, claim: &Claim, work: impl Future<Output = T>) -> T {
        lease::during(&*self.requests, &*self.clock, claim, RECEIVED, work).await
    }

    /// Records a content that was fetched. `new`: it was not stored before.
    async fn record(&self, claim: &Claim, content: Content, new: bool) -> Result<(), StepError> {
        let (hash, fetched_at) = (content.hash, content.fetched_at);
        info!(
            request.id = %claim.request.id,
            content.hash = %hash,
            content.size_bytes = content.size,
            deduplicated = !new,
            "fetched"
        );
        metrics::counter!("proxytorrent_fetched_bytes_total").increment(content.size);
        if !new {
            metrics::counter!("proxytorrent_reused_total", "what" => "content").increment(1);
        }
        let saved = self.fetched(claim, content).await;
        if new
            && saved.as_ref().is_err_and(StepError::is_claim_lost)
            && self.requests.references(hash).await?.is_empty()
        {
            // Cancelled meanwhile: the content has no reference, unless another request has touched it since.
            self.contents.remove(hash, fetched_at + Duration::from_millis(1)).await?;
        }
        saved
    }

    async fn fetched(&self, claim: &Claim, content: Content) -> Result<(), StepError> {
        let now = self.clock.now();
        let (row, waiting) = self.requests.save(claim, &Transition::fetched(content, now), now).await?;
        self.tasks.enqueue_for(Share::from(&row), Task::Package(row.id), Duration::ZERO).await?;
        wake(&*self.requests, &*self.tasks, &waiting, self.clock.now()).await
    }

    /// Applies a transition that may set a checkpoint. What that refers to is discarded if the claim was lost.
    async fn save(
        &self,
        claim: &Claim,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<(FetchRequest, Vec<RequestId>), StepError> {
        let saved = self.requests.save(claim, transition, now).await;
        if matches!(saved, Err(StoreError::ClaimLost(_)))
            && let Update::Set(checkpoint) = &transition.checkpoint
            && let Some(suspended) = suspended_upload(checkpoint)
        {
            self.contents.discard(&suspended).await?;
        }
        Ok(saved?)
    }

    /// Handles a resumption that the origin refused: keeps the checkpoint for the next try.
    async fn refused(
        &self,
        claim: &Claim,
        staged: Box<dyn StagedUpload>,
        suspended: Option<Suspended>,
        error: FetchError,
    ) -> Result<Outcome, StepError> {
        let Some(mut suspended) = suspended else { return self.failed(claim, error).await };
        let checkpoint = match self.holding(claim, staged.suspend()).await {
            Ok(staged) => {
                suspended.staged = staged;
                serde_json::to_string(&suspended).ok()
            }
            Err(error) => return self.failed(claim, error.into()).await,
        };
        self.failed_with(claim, error, checkpoint).await
    }

    async fn failed(&self, claim: &Claim, error: FetchError) -> Result<Outcome, StepError> {
        self.failed_with(claim, error, None).await
    }

    /// Ends a failed try: retries it later, from the checkpoint if there is one, or fails the request.
    async fn failed_with(
        &self,
        claim: &Claim,
        error: FetchError,
        checkpoint: Option<String>,
    ) -> Result<Outcome, StepError> {
        let (failure, retry_after) = match error {
            FetchError::Failed { failure, retry_after } => (failure, retry_after),
            FetchError::Store(error @ StoreError::ClaimLost(_)) => return Err(error.into()),
            FetchError::Store(error) => (store_failure(&error), None),
            FetchError::Hashing(error) => (internal_failure(&error), None),
        };
        let (row, now) = (&claim.request, self.clock.now());
        let next = next_try(row, &failure, retry_after, self.max_retries, now);
        info!(
            request.id = %row.id,
            error.code = %failure.code,
            error.message = failure.message,
            retry_count = row.retry_count,
            will_retry = next.is_some(),
            "fetch failed"
        );
        crate::metrics::failed("fetch", failure.code, next.is_some());
        // The checkpoint of a request that has failed is discarded when it is released.
        let transition = match next {
            Some(at) => Transition::retry_fetch(failure, checkpoint, at),
            None => Transition::fail(row, failure, checkpoint, now),
        };
        let (row, waiting) = self.save(claim, &transition, now).await?;
        if let Some(at) = next {
            self.tasks.enqueue_for(Share::from(&row), Task::Fetch(row.id), at.since(now)).await?;
            return Ok(Outcome::Retried);
        }
        if !row.receivers.is_empty() {
            self.tasks.enqueue_for(Share::from(&row), Task::Notify(row.id), Duration::ZERO).await?;
        }
        wake(&*self.requests, &*self.tasks, &waiting, now).await?;
        Ok(Outcome::Failed)
    }
}

/// The token of the suspended upload in a checkpoint.
pub(crate) fn suspended_upload(checkpoint: &str) -> Option<UploadToken> {
    serde_json::from_str(checkpoint).ok().map(|suspended: Suspended| suspended.staged)
}

/// Makes the requests that waited for another one due.
pub(crate) async fn wake(
    requests: &dyn Requests,
    tasks: &dyn TaskQueue,
    waiting: &[RequestId],
    now: Timestamp,
) -> Result<(), StepError> {
    for id in requests.wake(waiting, now).await? {
        tasks.enqueue(Task::Fetch(id), Duration::ZERO).await?;
    }
    Ok(())
}
