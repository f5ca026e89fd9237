//! The rows of requests: the truth about what is to be done.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, FetchRequest, Fingerprint, InfoHash, LeaseToken, RequestId, Status, Step, Timestamp, Transition,
    UserId,
};

use crate::{StoreError, Task};

/// A row that is worked on. Whoever holds the claim alone may [save](Requests::save) it, until its
/// lease ends and another claims it, or its owner cancels it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The row as it was claimed.
    pub request: FetchRequest,
    /// What proves the claim.
    pub token: LeaseToken,
    /// Who [waits behind](Requests::add_waiter) it.
    pub waiting: Vec<RequestId>,
}

/// A live request that refers to a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentReference {
    /// Its status: packaging, seeding or ready.
    pub status: Status,
    /// Its torrent, if it has one by now.
    pub infohash: Option<InfoHash>,
}

/// The identical requests of one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdenticalRequests {
    /// The oldest that is queued or fetching.
    pub first_in_flight: Option<RequestId>,
    /// The one, among those packaging, seeding or ready, whose content is the freshest.
    pub freshest: Option<FetchRequest>,
}

/// On which condition a transition is applied, beside the status of the row.
#[derive(Debug, Clone, Copy)]
pub enum Condition<'a> {
    /// None.
    Always,
    /// The row is due.
    Due,
    /// This claim is still held.
    Held(&'a Claim),
    /// The request is this user's.
    OwnedBy(&'a UserId),
    /// The row has this torrent.
    HasTorrent(InfoHash),
    /// Nobody holds the row, and it was not changed since it was read: compare-and-swap.
    Unchanged(&'a FetchRequest),
}

/// What became of a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The row as it is now, and who [waits](Requests::add_waiter) for it.
    Done(Box<FetchRequest>, Vec<RequestId>),
    /// The row is in another status, or the condition does not hold. The row as it is, if the store returns it with the
    /// refusal.
    Refused(Option<Box<FetchRequest>>),
}

impl Applied {
    /// The row as it is now, if the transition was applied.
    pub fn done(self) -> Option<FetchRequest> {
        match self {
            Self::Done(row, _) => Some(*row),
            Self::Refused(_) => None,
        }
    }
}

/// What an owner's requests take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaUsage {
    /// Requests that are queued, fetching, packaging or seeding.
    pub active: u64,
    /// Bytes of the contents of ready requests; a content counts for each of them.
    pub stored_bytes: u64,
}

/// The table of requests.
///
/// A row is *due* at a time for the [step](Status::step) of its status. Claiming it moves that time
/// to the end of a lease: a claimed row is simply one that is not due until then, so a worker that
/// dies costs no more than its lease.
#[async_trait]
pub trait Requests: Send + Sync {
    /// Stores a new request. When this returns, it survives a power cut.
    async fn create(&self, request: &FetchRequest) -> Result<(), StoreError>;

    /// The row of this id.
    async fn get(&self, id: RequestId) -> Result<Option<FetchRequest>, StoreError>;

    /// Up to `limit` of the owner's rows, the newest first: those with this status, if one is given, and
    /// made before `before`.
    async fn list(
        &self,
        owner: &UserId,
        status: Option<Status>,
        before: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<FetchRequest>, StoreError>;

    /// What the owner's requests take.
    async fn quota_usage(&self, owner: &UserId) -> Result<QuotaUsage, StoreError>;

    /// The row as soon as its status, progress or number of retries is not as in `seen`, and after
    /// `timeout` as it is.
    async fn wait_for_change(&self, seen: &FetchRequest, timeout: Duration)
    -> Result<Option<FetchRequest>, StoreError>;

    /// Applies a transition to the row in one conditional write: if its status is one that the transition
    /// [starts from](Transition::starts_from), and the condition holds. Afterwards the row is as [`Transition::apply`] makes it.
    /// A transition that [notifies](Transition::notifies) makes the webhook of a request with a callback URL due.
    async fn apply(
        &self,
        id: RequestId,
        condition: Condition<'_>,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<Applied, StoreError>;

    /// Claims the row for `step` until `now + lease`, if that is its step and it is due. Of several callers one gets it.
    async fn claim(
        &self,
        id: RequestId,
        step: Step,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let token = LeaseToken::new();
        let claimed = self.apply(id, Condition::Due, &Transition::claim(step, token, now + lease), now).await?;
        Ok(match claimed {
            Applied::Done(request, waiting) => Some(Claim { request: *request, token, waiting }),
            Applied::Refused(_) => None,
        })
    }

    /// Extends the lease to `now + lease` and writes the progress; [`StoreError::ClaimLost`] if it is not held any more.
    async fn heartbeat(&self, claim: &Claim, progress: u8, now: Timestamp, lease: Duration) -> Result<(), StoreError> {
        self.save(claim, &Transition::heartbeat(progress, now + lease), now).await.map(drop)
    }

    /// Applies a transition as the holder of the claim. Returns the row and who waits for it;
    /// [`StoreError::ClaimLost`] if the claim is not held any more.
    async fn save(
        &self,
        claim: &Claim,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<(FetchRequest, Vec<RequestId>), StoreError> {
        match self.apply(claim.request.id, Condition::Held(claim), transition, now).await? {
            Applied::Done(row, waiting) => Ok((*row, waiting)),
            Applied::Refused(_) => Err(StoreError::ClaimLost),
        }
    }

    /// Cancels the owner's request, whoever has claimed it, unless it has ended: then it is returned as it is. `None`:
    /// the owner has no such request.
    async fn cancel(&self, id: RequestId, owner: &UserId, now: Timestamp) -> Result<Option<FetchRequest>, StoreError> {
        let row = match self.apply(id, Condition::OwnedBy(owner), &Transition::cancel(now), now).await? {
            Applied::Done(row, _) | Applied::Refused(Some(row)) => Some(*row),
            Applied::Refused(None) => self.get(id).await?,
        };
        Ok(row.filter(|row| row.owner == *owner))
    }

    /// Sets the retention of the owner's request and, if it is ready, the time at which it expires to `now + keep_for`.
    /// Returns the row as it is then, unchanged if it has ended. `None`: the owner has no such request.
    async fn keep(
        &self,
        id: RequestId,
        owner: &UserId,
        keep_for: Duration,
        now: Timestamp,
    ) -> Result<Option<FetchRequest>, StoreError> {
        let mut row = None;
        for transition in [Transition::extend_retention(keep_for), Transition::set_retention(keep_for)] {
            match self.apply(id, Condition::OwnedBy(owner), &transition, now).await? {
                Applied::Done(kept, _) => return Ok(Some(*kept)),
                Applied::Refused(seen) => row = seen,
            }
        }
        let row = match row {
            Some(row) => Some(*row),
            None => self.get(id).await?,
        };
        Ok(row.filter(|row| row.owner == *owner))
    }

    /// Up to `limit` wake-ups for rows that are due, the longest due first.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, StoreError>;

    /// Makes rows due at `now` that wait for a time after `latest`, which no step sets: the clock was set back since.
    /// The lease of a claimed row ends at `now + lease`; ready rows keep their end. Likewise webhooks that wait for a time
    /// after `latest_webhook`. Returns how many rows were changed.
    async fn clamp_due_times(
        &self,
        now: Timestamp,
        latest: Timestamp,
        latest_webhook: Timestamp,
        lease: Duration,
    ) -> Result<u64, StoreError>;

    /// Up to `limit` rows that are ready and whose time is over.
    async fn list_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// Deletes up to `limit` rows that have ended, hold nothing, and ended at least their
    /// [`history`](FetchRequest::history) before `now`; how many. A store that does so by itself, if later, does
    /// nothing here.
    async fn purge_history(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// The requests with this fingerprint.
    async fn find_identical(&self, fingerprint: &Fingerprint) -> Result<IdenticalRequests, StoreError>;

    /// Has `id` wait for `first`: whoever ends the fetch of that is told. False if it is not queued or fetching (any
    /// more): then nobody is.
    async fn add_waiter(&self, id: RequestId, first: RequestId) -> Result<bool, StoreError>;

    /// Makes those of these requests that are queued due at once, and returns them.
    async fn wake(&self, ids: &[RequestId], now: Timestamp) -> Result<Vec<RequestId>, StoreError> {
        let mut woken = vec![];
        for id in ids {
            let applied = self.apply(*id, Condition::Always, &Transition::wake(now), now).await?;
            woken.extend(applied.done().map(|row| row.id));
        }
        Ok(woken)
    }

    /// Which live requests refer to this content, in what way; alike ones are told once. What was written within
    /// [`lag`](Requests::max_staleness) may be missing.
    async fn references(&self, content: ContentHash) -> Result<Vec<ContentReference>, StoreError>;

    /// Up to `limit` ready requests that refer to this content.
    async fn ready_requests_of(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// Up to `limit` requests that have become ready or failed, have a
    /// [callback URL](domain::FetchSpec::callback_url) and are due to be told of, the longest due first.
    async fn notifications(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// Claims the telling of a request until `now + lease`, if it is due: the row, and how often it was
    /// tried before.
    async fn claim_notification(
        &self,
        id: RequestId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<(FetchRequest, u32)>, StoreError>;

    /// Notes that a telling is done, or is to be tried again at `next`.
    async fn notified(&self, id: RequestId, next: Option<Timestamp>) -> Result<(), StoreError>;

    /// How far what is looked up otherwise than by id may be behind.
    fn max_staleness(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the store answers.
    async fn check(&self) -> Result<(), StoreError>;
}
