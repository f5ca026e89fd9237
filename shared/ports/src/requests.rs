//! The table of requests: the source of truth about the work that is left.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, FetchRequest, Fingerprint, InfoHash, LeaseToken, Progress, Receivers, RequestId, Status, Step,
    Timestamp, Transition, UserId,
};

use crate::{Check, StoreError, Task};

/// A claimed row. Only the holder of the claim can [save](Requests::save) it, until the lease ends and another worker claims
/// the row, or its owner cancels it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The row as it was claimed.
    pub request: FetchRequest,
    /// The token of the lease.
    pub token: LeaseToken,
    /// The [waiters](Deduplication::add_waiter) of the request.
    pub waiting: Vec<RequestId>,
}

/// What a live request refers to of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentReference {
    /// The request is packaging: it may be about to refer to any torrent of the content.
    Packaging,
    /// The request is seeding or ready, with this torrent.
    Torrent(InfoHash),
}

/// The identical requests of one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdenticalRequests {
    /// The oldest one that is queued or fetching.
    pub first_in_flight: Option<RequestId>,
    /// The one with the freshest content among those that are packaging, seeding or ready.
    pub freshest: Option<FetchRequest>,
}

/// The condition of a transition, beside the status of the row.
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

/// The result of a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The row as it is now, and its [waiters](Deduplication::add_waiter).
    Done(Box<FetchRequest>, Vec<RequestId>),
    /// The transition does not start from the status of the row, or the condition does not hold. The row as it is, if the
    /// store returns it with the refusal.
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

/// The usage of a user's quotas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaUsage {
    /// Requests that are queued, fetching, packaging or seeding.
    pub active: u64,
    /// Bytes of the contents of ready requests; a content counts for each of them.
    pub stored_bytes: u64,
}

/// The table of requests.
///
/// A row is *due* at a time, for the [step](Status::step) of its status. A claim moves that time to the end of a lease: a
/// claimed row is a row that is not due until then. So a worker that crashes costs no more than its lease.
#[async_trait]
pub trait Requests: Check + Deduplication + NotificationQueue {
    /// Stores a new request, which survives a power cut when this returns; [`StoreError::AlreadyExists`] if the id is taken.
    async fn create(&self, request: &FetchRequest) -> Result<(), StoreError>;

    /// Returns the row of this id.
    async fn get(&self, id: RequestId) -> Result<Option<FetchRequest>, StoreError>;

    /// Returns up to `limit` rows of the owner, newest first: those with this status, if one is given, and created before
    /// `before`.
    async fn list(
        &self,
        owner: &UserId,
        status: Option<Status>,
        before: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<FetchRequest>, StoreError>;

    /// Returns the usage of the owner's quotas.
    async fn quota_usage(&self, owner: &UserId) -> Result<QuotaUsage, StoreError>;

    /// Waits until the row [has progressed](FetchRequest::has_progressed_since) since `seen`, for `timeout` at most, and returns
    /// it.
    async fn wait_for_change(&self, seen: &FetchRequest, timeout: Duration)
    -> Result<Option<FetchRequest>, StoreError>;

    /// Applies a transition to the row in one conditional write: if its status is one that the transition [starts
    /// from](Transition::starts_from), and the condition holds. Afterwards the row is as [`Transition::apply`] makes
    /// it. A transition that [notifies](Transition::notifies) makes the notification of all
    /// [receivers](FetchRequest::receivers) due.
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
    async fn heartbeat(
        &self,
        claim: &Claim,
        progress: Progress,
        now: Timestamp,
        lease: Duration,
    ) -> Result<(), StoreError> {
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
            Applied::Refused(_) => Err(StoreError::ClaimLost(claim.request.id)),
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

    /// Returns up to `limit` tasks for rows that are due, in the order of their due times. If more are due, a store may choose
    /// the longest due ones or those of the oldest requests. Ready rows are not among them.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, StoreError>;

    /// Makes rows due at `now` whose due time is after `latest`. No step sets such a time: the clock was set back since. The
    /// lease of a claimed row ends at `now + lease`; ready rows keep their expiry. Notifications whose next try is
    /// after `latest_notification` become due, too. Returns how many rows were changed.
    async fn clamp_due_times(
        &self,
        now: Timestamp,
        latest: Timestamp,
        latest_notification: Timestamp,
        lease: Duration,
    ) -> Result<u64, StoreError>;

    /// Returns up to `limit` ready rows whose retention is over.
    async fn list_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// Deletes up to `limit` rows that ended at least their [`history`](FetchRequest::history) before `now` and have nothing
    /// left to do. Returns how many. A store with a time to live of its own does nothing here.
    async fn purge_history(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// Makes those of these requests that are queued due at once, and returns them.
    async fn wake(&self, ids: &[RequestId], now: Timestamp) -> Result<Vec<RequestId>, StoreError> {
        let mut woken = vec![];
        for id in ids {
            let applied = self.apply(*id, Condition::Always, &Transition::wake(now), now).await?;
            woken.extend(applied.done().map(|row| row.id));
        }
        Ok(woken)
    }

    /// Returns what live requests refer to of this content, each distinct reference once. What was written within
    /// [`max_staleness`](Requests::max_staleness) may be missing.
    async fn references(&self, content: ContentHash) -> Result<Vec<ContentReference>, StoreError>;

    /// Returns up to `limit` ready requests that refer to this content.
    async fn ready_requests_of(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// How far look-ups other than by id may be behind the rows.
    fn max_staleness(&self) -> Duration {
        Duration::ZERO
    }
}

/// Finds identical requests, so that one fetch serves all of them.
#[async_trait]
pub trait Deduplication: Send + Sync {
    /// Returns the requests with this fingerprint.
    async fn find_identical(&self, fingerprint: &Fingerprint) -> Result<IdenticalRequests, StoreError>;

    /// Adds `waiter` to the waiters of `first`: the end of its fetch makes them due. Returns false, and adds nothing, if
    /// `first` is not queued or fetching any more.
    async fn add_waiter(&self, waiter: RequestId, first: RequestId) -> Result<bool, StoreError>;
}

/// A claimed notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueNotification {
    /// The request that is ready or has failed.
    pub request: FetchRequest,
    /// The receivers that have not been notified yet.
    pub receivers: Receivers,
    /// The number of earlier tries.
    pub tries: u32,
    /// When the claim ends.
    pub until: Timestamp,
}

/// The notifications of requests that are ready or have failed and have [receivers](FetchRequest::receivers).
#[async_trait]
pub trait NotificationQueue: Send + Sync {
    /// Returns up to `limit` requests whose notification is due, the longest due first.
    async fn due_notifications(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// Claims the notification of a request until `now + lease`, if it is due.
    async fn claim_notification(
        &self,
        id: RequestId,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<DueNotification>, StoreError>;

    /// Ends a claim: all receivers are notified, or the next try is due at `next.0` for the receivers `next.1`. Does
    /// nothing if the claim is lost: its time was over, or the request is ready or has failed once more.
    async fn finish_notification(
        &self,
        claimed: &DueNotification,
        next: Option<(Timestamp, Receivers)>,
    ) -> Result<(), StoreError>;
}
