//! The state machine of a request, as data.
//!
//! A [`Transition`] says from which statuses it starts, to which it leads and what it writes. [`Transition::apply`] performs
//! it on a row in memory; a store renders it into one conditional write. So the rules stand here once, and the contract
//! suite of the stores compares both for every transition and every status.

use std::time::Duration;

use crate::{
    Content, ContentHash, Failure, FailureCode, FetchRequest, InfoHash, InfoHashV2, LeaseToken, Method, Progress,
    Received, Status, Step, Timestamp,
};

/// What a transition does to an optional value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update<T> {
    /// It stays.
    Keep,
    /// It becomes this.
    Set(T),
    /// It becomes nothing.
    Clear,
}

impl<T: Clone> Update<T> {
    fn apply(&self, value: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Set(new) => *value = Some(new.clone()),
            Self::Clear => *value = None,
        }
    }
}

/// What a transition does to [`FetchRequest::due_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It stays.
    Keep,
    /// This time.
    At(Timestamp),
    /// The end of the retention, counted from now.
    AtExpiry,
    /// Nothing is left to do.
    Never,
}

/// What a transition does to [`FetchRequest::retry_count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// It stays.
    Keep,
    /// One more.
    Increment,
    /// None.
    Reset,
}

/// What a transition does to the lease of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It stays with its holder.
    Keep,
    /// It begins, with this token.
    Begin(LeaseToken),
    /// Nobody holds the row any more.
    End,
}

/// One declared move of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Its name in logs and in the diagram.
    pub name: &'static str,
    /// Statuses that it starts from.
    pub from: &'static [Status],
    /// The status that it leads to; `None`: the status stays.
    pub to: Option<Status>,
    /// The progress in percent.
    pub progress: Option<u8>,
    /// How much of the content was received.
    pub received: Update<Received>,
    /// The number of retries.
    pub retries: Retries,
    /// What the content must hash to.
    pub sha256: Update<ContentHash>,
    /// The content.
    pub content: Update<Content>,
    /// The checkpoint of a suspended fetch.
    pub checkpoint: Update<String>,
    /// The infohashes of the torrent.
    pub torrent: Update<(InfoHash, Option<InfoHashV2>)>,
    /// The last failure.
    pub failure: Update<Failure>,
    /// The retention.
    pub keep_for: Option<Duration>,
    /// When the request was completed; `Set` is what it is set to if it was not completed before.
    pub completed_at: Update<Completed>,
    /// Whether the retention begins anew now, or is over: [`FetchRequest::expires_at`].
    pub expires_at: Update<FromNow>,
    /// When the row is next due.
    pub due: Due,
    /// The lease.
    pub lease: Lease,
    /// Whether [`FetchRequest::updated_at`] becomes now.
    pub updates: bool,
    /// Whether it must survive a power cut, because a caller is told that it is done.
    pub durable: bool,
}

/// How [`FetchRequest::completed_at`] is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// To now.
    Now,
    /// To now, unless it is set already.
    NowUnlessSet,
}

/// Marks a time that is now plus the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromNow;

impl Transition {
    /// A transition that only moves the row to `to`, which is due at `due`.
    const fn new(name: &'static str, from: &'static [Status], to: Option<Status>, due: Due) -> Self {
        Self {
            name,
            from,
            to,
            progress: None,
            received: Update::Keep,
            retries: Retries::Keep,
            sha256: Update::Keep,
            content: Update::Keep,
            checkpoint: Update::Keep,
            torrent: Update::Keep,
            failure: Update::Keep,
            keep_for: None,
            completed_at: Update::Keep,
            expires_at: Update::Keep,
            due,
            lease: Lease::End,
            updates: true,
            durable: false,
        }
    }

    /// A worker takes the row for a step, until `lease_end`. A queued row becomes `fetching`.
    pub fn claim(step: Step, token: LeaseToken, lease_end: Timestamp) -> Self {
        let to = (step == Step::Fetch).then_some(Status::Fetching);
        Self { lease: Lease::Begin(token), ..Self::new("claim", step.statuses(), to, Due::At(lease_end)) }
    }

    /// The holder of the lease extends it and reports its progress.
    pub fn heartbeat(progress: Progress, lease_end: Timestamp) -> Self {
        let from = &[Status::Fetching, Status::Packaging, Status::Seeding];
        let Progress { percent, received } = progress;
        Self {
            progress: Some(percent),
            received: received.map_or(Update::Keep, Update::Set),
            lease: Lease::Keep,
            ..Self::new("heartbeat", from, None, Due::At(lease_end))
        }
    }

    /// The content is stored.
    pub fn fetched(content: Content, now: Timestamp) -> Self {
        Self {
            progress: Some(90),
            content: Update::Set(content),
            checkpoint: Update::Clear,
            failure: Update::Clear,
            ..Self::new("fetched", &[Status::Fetching], Some(Status::Packaging), Due::At(now))
        }
    }

    /// The fetch is suspended, to be resumed at once.
    pub fn suspend(checkpoint: String, now: Timestamp) -> Self {
        let suspended = Self::new("suspend", &[Status::Fetching], Some(Status::Queued), Due::At(now));
        Self { checkpoint: Update::Set(checkpoint), ..suspended }
    }

    /// The row returns to the queue without having failed: it waits for an identical request, the worker is stopping, or
    /// the content is gone.
    pub fn requeue(due_at: Timestamp) -> Self {
        let from = &[Status::Fetching, Status::Packaging];
        Self {
            progress: Some(0),
            received: Update::Clear,
            content: Update::Clear,
            checkpoint: Update::Clear,
            ..Self::new("requeue", from, Some(Status::Queued), Due::At(due_at))
        }
    }

    /// The fetch failed and is tried again at `due_at`, from the checkpoint if there is one.
    pub fn retry_fetch(failure: Failure, checkpoint: Option<String>, due_at: Timestamp) -> Self {
        Self {
            received: if checkpoint.is_some() { Update::Keep } else { Update::Clear },
            retries: Retries::Increment,
            failure: Update::Set(failure),
            checkpoint: checkpoint.map_or(Update::Clear, Update::Set),
            ..Self::new("retry_fetch", &[Status::Fetching], Some(Status::Queued), Due::At(due_at))
        }
    }

    /// Packaging failed and is tried again at `due_at`.
    pub fn retry_package(failure: Failure, due_at: Timestamp) -> Self {
        Self {
            retries: Retries::Increment,
            failure: Update::Set(failure),
            ..Self::new("retry_package", &[Status::Packaging], Some(Status::Packaging), Due::At(due_at))
        }
    }

    /// The torrent is stored and the seeder is about to add it; the sweep looks again at `due_at`.
    pub fn packaged(infohash: InfoHash, infohash_v2: Option<InfoHashV2>, due_at: Timestamp) -> Self {
        Self {
            progress: Some(95),
            torrent: Update::Set((infohash, infohash_v2)),
            failure: Update::Clear,
            ..Self::new("packaged", &[Status::Packaging], Some(Status::Seeding), Due::At(due_at))
        }
    }

    /// The torrent of a packaged content is seeded already: the request is ready.
    pub fn packaged_and_seeded(infohash: InfoHash, infohash_v2: Option<InfoHashV2>) -> Self {
        let torrent = Update::Set((infohash, infohash_v2));
        Self { name: "packaged_and_seeded", from: &[Status::Packaging], torrent, ..Self::seeded() }
    }

    /// The torrent is seeded: the request is ready, and its retention begins.
    pub fn seeded() -> Self {
        Self {
            progress: Some(100),
            failure: Update::Clear,
            completed_at: Update::Set(Completed::Now),
            expires_at: Update::Set(FromNow),
            ..Self::new("seeded", &[Status::Seeding], Some(Status::Ready), Due::AtExpiry)
        }
    }

    /// The torrent's file is gone: the content must be packaged again. A ready request then begins its retention anew.
    pub fn repackage(now: Timestamp) -> Self {
        Self {
            progress: Some(90),
            retries: Retries::Reset,
            failure: Update::Clear,
            completed_at: Update::Clear,
            expires_at: Update::Clear,
            ..Self::new("repackage", &[Status::Seeding, Status::Ready], Some(Status::Packaging), Due::At(now))
        }
    }

    /// The request failed for good. `row` says whether there is something to release.
    pub fn fail(row: &FetchRequest, failure: Failure, checkpoint: Option<String>, now: Timestamp) -> Self {
        let holds = row.content.is_some() || row.checkpoint.is_some() || checkpoint.is_some();
        Self {
            failure: Update::Set(failure),
            checkpoint: checkpoint.map_or(Update::Keep, Update::Set),
            completed_at: Update::Set(Completed::Now),
            ..Self::new(
                "fail",
                &[Status::Fetching, Status::Packaging, Status::Seeding],
                Some(Status::Failed),
                if holds { Due::At(now) } else { Due::Never },
            )
        }
    }

    /// The seeder refused the torrent: the request failed, and its content must be released.
    pub fn seeding_failed(failure: Failure, now: Timestamp) -> Self {
        Self {
            failure: Update::Set(failure),
            completed_at: Update::Set(Completed::Now),
            ..Self::new("seeding_failed", &[Status::Seeding], Some(Status::Failed), Due::At(now))
        }
    }

    /// The stored content of a ready request is damaged or gone. A GET is sent again, and must bring the same bytes, since
    /// the torrent is of these; any other method fails, because sending a POST again may do harm.
    pub fn lose_content(row: &FetchRequest, now: Timestamp) -> Self {
        let failure = |why: String| Update::Set(Failure::new(FailureCode::ContentCorrupt, why));
        if row.spec.method != Method::Get {
            return Self {
                failure: failure(format!(
                    "the stored content was damaged, and a {} is not repeated",
                    row.spec.method.as_str()
                )),
                completed_at: Update::Set(Completed::Now),
                ..Self::new("lose_content_for_good", &[Status::Ready], Some(Status::Failed), Due::At(now))
            };
        }
        Self {
            progress: Some(0),
            received: Update::Clear,
            retries: Retries::Reset,
            sha256: row.content.as_ref().map_or(Update::Keep, |content| Update::Set(content.hash)),
            content: Update::Clear,
            torrent: Update::Clear,
            failure: failure("the stored content was damaged and is fetched again".to_owned()),
            completed_at: Update::Clear,
            expires_at: Update::Clear,
            ..Self::new("lose_content", &[Status::Ready], Some(Status::Queued), Due::At(now))
        }
    }

    /// The owner cancels the request, whatever works on it.
    pub fn cancel(now: Timestamp) -> Self {
        const LIVE: &[Status] = &[Status::Queued, Status::Fetching, Status::Packaging, Status::Seeding, Status::Ready];
        Self {
            completed_at: Update::Set(Completed::NowUnlessSet),
            durable: true,
            ..Self::new("cancel", LIVE, Some(Status::Cancelled), Due::At(now))
        }
    }

    /// The retention of a ready request is over.
    pub fn expire(now: Timestamp) -> Self {
        Self::new("expire", &[Status::Ready], Some(Status::Expired), Due::At(now))
    }

    /// An ended request holds nothing any more, or is looked at again at `due_at`.
    pub fn release(due_at: Option<Timestamp>) -> Self {
        Self {
            checkpoint: Update::Clear,
            // The history is counted from the end of the request.
            updates: false,
            ..Self::new("release", Step::Release.statuses(), None, due_at.map_or(Due::Never, Due::At))
        }
    }

    /// The owner sets the retention of a request that is not ready yet.
    pub fn set_retention(keep_for: Duration) -> Self {
        let from = &[Status::Queued, Status::Fetching, Status::Packaging, Status::Seeding];
        Self {
            keep_for: Some(keep_for),
            lease: Lease::Keep,
            durable: true,
            ..Self::new("set_retention", from, None, Due::Keep)
        }
    }

    /// The owner sets the retention of a ready request, counted from now.
    pub fn extend_retention(keep_for: Duration) -> Self {
        Self {
            keep_for: Some(keep_for),
            expires_at: Update::Set(FromNow),
            durable: true,
            ..Self::new("extend_retention", &[Status::Ready], None, Due::AtExpiry)
        }
    }

    /// A queued request that waited for another one is due at once.
    pub fn wake(now: Timestamp) -> Self {
        Self { lease: Lease::Keep, updates: false, ..Self::new("wake", &[Status::Queued], None, Due::At(now)) }
    }

    /// One of each transition, with example values: for tests and the diagram.
    pub fn examples(row: &FetchRequest, content: &Content, now: Timestamp) -> Vec<Self> {
        let (infohash, later) = (InfoHash::new([7; 20]), now + Duration::from_secs(60));
        let failure = || Failure::new(FailureCode::Internal, "example");
        let with = |method| {
            let mut row = row.clone();
            row.spec.method = method;
            row.content = Some(content.clone());
            row
        };
        let mut all: Vec<_> = Step::ALL.iter().map(|step| Self::claim(*step, LeaseToken::new(), later)).collect();
        all.extend([
            Self::heartbeat(5.into(), later),
            Self::heartbeat(Progress { percent: 6, received: Some(Received { bytes: 60, total: None }) }, later),
            Self::heartbeat(Progress { percent: 7, received: Some(Received { bytes: 70, total: Some(900) }) }, later),
            Self::fetched(content.clone(), now),
            Self::suspend("{}".into(), now),
            Self::requeue(later),
            Self::retry_fetch(failure(), None, later),
            Self::retry_package(failure(), later),
            Self::packaged(infohash, None, later),
            Self::packaged_and_seeded(infohash, Some(InfoHashV2::new([8; 32]))),
            Self::seeded(),
            Self::repackage(now),
            Self::fail(row, failure(), Some("{}".into()), now),
            Self::seeding_failed(failure(), now),
            Self::lose_content(&with(Method::Get), now),
            Self::lose_content(&with(Method::Post), now),
            Self::cancel(now),
            Self::expire(now),
            Self::release(None),
            Self::release(Some(later)),
            Self::set_retention(Duration::from_secs(99)),
            Self::extend_retention(Duration::from_secs(99)),
            Self::wake(now),
        ]);
        all
    }

    /// Whether a row in this status can make the transition.
    pub fn starts_from(&self, status: Status) -> bool {
        self.from.contains(&status)
    }

    /// Whether it makes the request ready or failed: the notification of its receivers is due then.
    pub fn notifies(&self) -> bool {
        matches!(self.to, Some(Status::Ready | Status::Failed))
    }

    /// Performs the transition on a row in memory.
    ///
    /// # Panics
    /// Panics if it does not start from the row's status: whoever applies a transition holds a claim for a step, so that
    /// is a mistake in the code.
    pub fn apply(&self, row: &mut FetchRequest, now: Timestamp) {
        assert!(self.starts_from(row.status), "{} does not start from {}", self.name, row.status);
        row.status = self.to.unwrap_or(row.status);
        row.progress = self.progress.unwrap_or(row.progress);
        self.received.apply(&mut row.received);
        row.retry_count = match self.retries {
            Retries::Keep => row.retry_count,
            Retries::Increment => row.retry_count + 1,
            Retries::Reset => 0,
        };
        self.sha256.apply(&mut row.spec.sha256);
        self.content.apply(&mut row.content);
        self.checkpoint.apply(&mut row.checkpoint);
        match self.torrent {
            Update::Keep => {}
            Update::Set((infohash, infohash_v2)) => (row.infohash, row.infohash_v2) = (Some(infohash), infohash_v2),
            Update::Clear => (row.infohash, row.infohash_v2) = (None, None),
        }
        self.failure.apply(&mut row.failure);
        row.keep_for = self.keep_for.unwrap_or(row.keep_for);
        row.completed_at = match self.completed_at {
            Update::Keep => row.completed_at,
            Update::Set(Completed::Now) => Some(now),
            Update::Set(Completed::NowUnlessSet) => row.completed_at.or(Some(now)),
            Update::Clear => None,
        };
        row.expires_at = match self.expires_at {
            Update::Keep => row.expires_at,
            Update::Set(FromNow) => Some(now + row.keep_for),
            Update::Clear => None,
        };
        row.due_at = match self.due {
            Due::Keep => row.due_at,
            Due::At(at) => Some(at),
            Due::AtExpiry => Some(now + row.keep_for),
            Due::Never => None,
        };
        if self.updates {
            row.updated_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FetchSpec, TorrentFormat, UserId};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn row() -> FetchRequest {
        let spec = FetchSpec {
            url: "https://example.org/a".parse().unwrap(),
            method: Method::Get,
            headers: vec![],
            body: None,
            sha256: None,
            format: TorrentFormat::V1,
            ttl: Duration::from_secs(60),
            callback_url: None,
            webseed: true,
        };
        FetchRequest::new(UserId::anonymous(), None, spec, Duration::from_secs(60), NOW)
    }

    fn content() -> Content {
        Content {
            hash: ContentHash::new([7; 32]),
            size: 1,
            media_type: "text/plain".parse().unwrap(),
            file_name: crate::FileName::sanitize("a").unwrap(),
            final_url: "https://example.org/a".parse().unwrap(),
            origin_status: 200,
            fetched_at: NOW,
        }
    }

    fn examples() -> Vec<Transition> {
        Transition::examples(&row(), &content(), NOW)
    }

    #[test]
    fn no_status_follows_an_end() {
        for &end in Status::ALL.iter().filter(|status| status.is_final()) {
            for transition in examples().iter().filter(|transition| transition.starts_from(end)) {
                assert_eq!(transition.to.unwrap_or(end), end, "{}", transition.name);
            }
        }
    }

    #[test]
    fn everything_before_an_end_can_be_cancelled() {
        for &status in Status::ALL {
            assert_eq!(Transition::cancel(NOW).starts_from(status), !status.is_final(), "{status}");
        }
    }

    #[test]
    fn every_status_can_be_reached_and_left() {
        for &status in Status::ALL {
            let reached = status == Status::Queued || examples().iter().any(|transition| transition.to == Some(status));
            let left = examples().iter().any(|transition| transition.starts_from(status));
            assert!(reached && left, "{status}");
        }
    }

    #[test]
    fn a_row_is_due_exactly_while_something_is_left_to_do() {
        for transition in examples() {
            let ends = transition.to.is_some_and(Status::is_final) || transition.from == Step::Release.statuses();
            assert!(ends || transition.due != Due::Never, "{}", transition.name);
        }
    }

    #[test]
    fn a_ready_request_has_a_torrent_and_an_end() {
        let mut row = row();
        for transition in [
            Transition::claim(Step::Fetch, LeaseToken::new(), NOW),
            Transition::fetched(content(), NOW),
            Transition::packaged(InfoHash::new([1; 20]), None, NOW),
            Transition::seeded(),
        ] {
            transition.apply(&mut row, NOW);
        }
        assert_eq!((row.status, row.progress, row.completed_at), (Status::Ready, 100, Some(NOW)));
        assert_eq!((row.expires_at, row.due_at), (Some(NOW + row.keep_for), Some(NOW + row.keep_for)));
        assert!(row.content.is_some() && row.infohash.is_some());
    }

    #[test]
    fn a_lost_content_is_fetched_again_only_by_a_get_and_must_be_the_same() {
        let ready = |method| {
            let mut row = row();
            row.spec.method = method;
            (row.status, row.content, row.retry_count) = (Status::Ready, Some(content()), 3);
            Transition::lose_content(&row, NOW).apply(&mut row, NOW);
            row
        };
        let again = ready(Method::Get);
        assert_eq!((again.status, again.spec.sha256, again.due_at), (Status::Queued, Some(content().hash), Some(NOW)));
        assert_eq!((again.content, again.infohash, again.expires_at, again.retry_count), (None, None, None, 0));
        let failed = ready(Method::Post);
        assert_eq!(failed.failure.map(|failure| failure.code), Some(FailureCode::ContentCorrupt));
        assert_eq!((failed.status, failed.due_at), (Status::Failed, Some(NOW)));
        assert!(failed.content.is_some(), "what it held is released");
    }

    #[test]
    #[should_panic(expected = "seeded does not start from queued")]
    fn a_transition_starts_from_its_statuses_only() {
        Transition::seeded().apply(&mut row(), NOW);
    }
}
