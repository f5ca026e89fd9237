//! The rows of requests: the truth about what is to be done.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ContentHash, Failure, FetchRequest, Fingerprint, InfoHash, LeaseToken, RequestId, Status, Step, Timestamp, UserId,
};

use crate::{StoreError, Wakeup};

/// A row that is worked on. Whoever holds the claim alone may [save](Requests::save) it, until its
/// lease ends and another claims it, or its owner cancels it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The row as it was claimed.
    pub request: FetchRequest,
    /// What proves the claim.
    pub token: LeaseToken,
    /// Who [waits behind](Requests::wait_behind) it.
    pub waiting: Vec<RequestId>,
}

/// A live request that refers to a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its status: packaging, seeding or ready.
    pub status: Status,
    /// Its torrent, if it has one by now.
    pub infohash: Option<InfoHash>,
}

/// The identical requests of one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Twins {
    /// The oldest that is queued or fetching.
    pub first_in_flight: Option<RequestId>,
    /// The one, among those packaging, seeding or ready, whose content is the freshest.
    pub freshest: Option<FetchRequest>,
}

/// What becomes of a request that waits for a torrent to be seeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is seeded: the request is ready.
    Ready,
    /// Its file is gone: the request must be packaged again.
    Repackage,
    /// The seeder refuses it: the request has failed.
    Failed(Failure),
}

/// What an owner's requests take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
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
    async fn load(&self, owner: &UserId) -> Result<Load, StoreError>;

    /// The row as soon as its status, progress or number of retries is not as in `seen`, and after
    /// `patience` as it is.
    async fn changed(&self, seen: &FetchRequest, patience: Duration) -> Result<Option<FetchRequest>, StoreError>;

    /// Claims the row for `step` until `now + lease`, if that is its step and it is due: one
    /// conditional write, with one winner. A queued row becomes `fetching`.
    async fn claim(
        &self,
        id: RequestId,
        step: Step,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError>;

    /// Extends the lease to `now + lease` and writes the progress.
    async fn heartbeat(&self, claim: &Claim, progress: u8, now: Timestamp, lease: Duration) -> Result<(), StoreError>;

    /// Writes the row as it now stands and gives the claim up; [`StoreError::ClaimLost`] if it was
    /// not held any more. Names who waits behind it.
    async fn save(&self, claim: &Claim, row: &FetchRequest) -> Result<Vec<RequestId>, StoreError>;

    /// Cancels the owner's request, whoever has claimed it, unless it has ended: then it is returned
    /// as it is. `None`: the owner has no such request.
    async fn cancel(&self, id: RequestId, owner: &UserId, now: Timestamp) -> Result<Option<FetchRequest>, StoreError>;

    /// Sets the retention of the owner's request and, if it is ready, the time at which it expires to `now + keep_for`.
    /// The row as it is then, or unchanged if it is packaging or has ended. `None`: the owner has no such request.
    async fn keep(
        &self,
        id: RequestId,
        owner: &UserId,
        keep_for: Duration,
        now: Timestamp,
    ) -> Result<Option<FetchRequest>, StoreError>;

    /// Up to `limit` wake-ups for rows that are due, the longest due first.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Wakeup>, StoreError>;

    /// Makes rows due at `now` that wait for a time after `latest`, which no step sets: the clock was set back since.
    /// The lease of a claimed row ends at `now + lease`; ready rows keep their end. Likewise webhooks that wait for a time
    /// after `latest_webhook`. Returns how many rows were changed.
    async fn hasten(
        &self,
        now: Timestamp,
        latest: Timestamp,
        latest_webhook: Timestamp,
        lease: Duration,
    ) -> Result<u64, StoreError>;

    /// Up to `limit` rows that are ready and whose time is over.
    async fn outlived(&self, now: Timestamp, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// Deletes up to `limit` rows that have ended, hold nothing, and ended at least their
    /// [`history`](FetchRequest::history) before `now`; how many. A store that does so by itself, if later, does
    /// nothing here.
    async fn forget(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// The requests with this fingerprint.
    async fn twins(&self, fingerprint: &Fingerprint) -> Result<Twins, StoreError>;

    /// Has `id` wait for `first`: whoever ends the fetch of that is told. False if it is not queued or fetching (any
    /// more): then nobody is.
    async fn wait_behind(&self, id: RequestId, first: RequestId) -> Result<bool, StoreError>;

    /// Makes those of these requests that are queued due at once, and names them.
    async fn wake(&self, ids: &[RequestId], now: Timestamp) -> Result<Vec<RequestId>, StoreError>;

    /// Settles the request, if it is seeding this torrent: the row as it is then.
    async fn settle(
        &self,
        id: RequestId,
        infohash: InfoHash,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<Option<FetchRequest>, StoreError>;

    /// Which live requests refer to this content, in what way; alike ones are told once. What was written within
    /// [`lag`](Requests::lag) may be missing.
    async fn holders(&self, content: ContentHash) -> Result<Vec<Holder>, StoreError>;

    /// Up to `limit` ready requests that refer to this content.
    async fn ready_with(&self, content: ContentHash, limit: u32) -> Result<Vec<RequestId>, StoreError>;

    /// Compare-and-swap: writes `row` in place of `seen`, unless the row was changed or claimed since. Returns whether it
    /// did.
    async fn replace(&self, seen: &FetchRequest, row: &FetchRequest) -> Result<bool, StoreError>;

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
    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the store answers.
    async fn check(&self) -> Result<(), StoreError>;
}
