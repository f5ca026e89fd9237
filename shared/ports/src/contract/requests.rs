//! Contract tests of [`Requests`](crate::Requests).

use std::time::Duration;

use domain::{
    ContentHash, Failure, FailureCode, FetchRequest, InfoHash, Progress, Received, RequestId, Status, Step, Transition,
    UserId,
};
use futures::future::{join, join_all};

use super::{LEASE, NOW, content, request};
use crate::{Claim, Condition, ContentReference, IdenticalRequests, QuotaUsage, Requests, StoreError, Task};

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! requests_contract {
    ($make:path) => {
        $crate::contract_tests!(
            requests,
            $make,
            a_row_reads_back_as_it_was_written,
            a_duplicate_id_is_refused,
            an_owner_lists_their_own_rows_newest_first,
            quota_usage_counts_live_requests,
            a_waiter_returns_when_the_row_changes,
            of_concurrent_claims_one_succeeds,
            a_row_is_claimed_only_when_due_and_for_its_own_step,
            an_expired_lease_can_be_claimed_and_its_former_holder_cannot_write,
            a_heartbeat_keeps_the_claim_and_shows_the_progress,
            a_cancel_ends_a_claimed_request,
            only_the_owner_cancels,
            a_retention_can_be_changed_until_the_request_ends,
            an_ended_request_does_not_change,
            what_is_due_is_found_in_order,
            ready_rows_expire_and_are_not_due,
            a_row_is_kept_for_its_history,
            identical_requests_find_each_other,
            the_freshest_content_is_found,
            references_are_the_live_requests_of_a_content,
            the_ready_requests_of_a_content_are_found,
        );
    };
}

/// For a ready request it counts from now, for others from when they become ready. A request of another user is not
/// changed.
pub async fn a_retention_can_be_changed_until_the_request_ends<R: Requests>(store: &R) {
    let (alice, hash, infohash) = (UserId::new("alice"), ContentHash::new([1; 32]), InfoHash::new([1; 20]));
    let (long, later) = (Duration::from_secs(1_000_000), NOW + Duration::from_secs(10));
    let queued = request("alice", "http://h/queued");
    store.create(&queued).await.unwrap();
    let row = store.keep(queued.id, &alice, long, later).await.unwrap().expect("the row");
    assert_eq!((row.keep_for, row.expires_at, row.due_at), (long, None, queued.due_at));

    let seeding = seeding(store, "http://h/seeding", hash, infohash).await;
    store.keep(seeding, &alice, long, NOW).await.unwrap();
    let row = seeded(store, seeding, infohash).await;
    assert_eq!(row.expires_at, Some(NOW + long));
    let row = store.keep(seeding, &alice, long * 2, later).await.unwrap().expect("the row");
    assert_eq!((row.expires_at, row.due_at), (Some(later + long * 2), Some(later + long * 2)));
    assert_eq!(store.get(seeding).await.unwrap(), Some(row.clone()));
    assert!(store.list_expired(NOW + long, 10).await.unwrap().is_empty());

    assert_eq!(store.keep(seeding, &UserId::new("bob"), long, later).await.unwrap(), None);
    assert_eq!(store.keep(RequestId::new(), &alice, long, later).await.unwrap(), None);
    // Also while a worker holds a claim on the row.
    let packaging = packaging(store, "http://h/packaging", hash).await;
    let claim = claimed(store, packaging, Step::Package).await;
    store.keep(packaging, &alice, long, later).await.unwrap().expect("the row");
    let (row, _) = store.save(&claim, &Transition::packaged_and_seeded(infohash, None), NOW).await.unwrap();
    assert_eq!(row.expires_at, Some(NOW + long));
    store.cancel(seeding, &alice, later).await.unwrap();
    let ended = store.get(seeding).await.unwrap();
    assert_eq!(store.keep(seeding, &alice, long, later).await.unwrap(), ended);
}

/// In pages, optionally by status, each row once.
pub async fn an_owner_lists_their_own_rows_newest_first<R: Requests>(store: &R) {
    let mut ids = vec![];
    for n in 0..7 {
        let row = request("alice", &format!("http://h/{n}"));
        store.create(&row).await.unwrap();
        store.create(&request("bob", &format!("http://h/{n}"))).await.unwrap();
        ids.insert(0, row.id);
    }
    let alice = UserId::new("alice");
    for gone in &ids[2..4] {
        store.cancel(*gone, &alice, NOW).await.unwrap();
    }
    let list = async |status, before, limit| {
        let rows = store.list(&alice, status, before, limit).await.unwrap();
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 3).await, ids[..3]);
    assert_eq!(list(None, Some(ids[2]), 3).await, ids[3..6]);
    assert_eq!(list(None, Some(ids[5]), 3).await, ids[6..]);
    assert_eq!(list(None, Some(ids[6]), 3).await, []);
    assert_eq!(list(Some(Status::Cancelled), None, 10).await, ids[2..4]);
    assert_eq!(list(Some(Status::Queued), Some(ids[1]), 10).await, ids[4..]);
    assert_eq!(store.list(&UserId::new("carol"), None, None, 10).await.unwrap(), []);
}

/// Ended requests use no quota.
pub async fn quota_usage_counts_live_requests<R: Requests>(store: &R) {
    let (alice, hash) = (UserId::new("alice"), ContentHash::new([1; 32]));
    assert_eq!(store.quota_usage(&alice).await.unwrap(), QuotaUsage::default());
    store.create(&request("alice", "http://h/queued")).await.unwrap();
    store.create(&request("bob", "http://h/queued")).await.unwrap();
    packaging(store, "http://h/packaging", hash).await;
    let infohash = InfoHash::new([1; 20]);
    let ready = seeding(store, "http://h/ready", hash, infohash).await;
    assert_eq!(store.quota_usage(&alice).await.unwrap(), QuotaUsage { active: 3, stored_bytes: 0 });
    seeded(store, ready, infohash).await;
    let size = store.get(ready).await.unwrap().unwrap().content.unwrap().size;
    assert_eq!(store.quota_usage(&alice).await.unwrap(), QuotaUsage { active: 2, stored_bytes: size });
    store.cancel(ready, &alice, NOW).await.unwrap();
    assert_eq!(store.quota_usage(&alice).await.unwrap(), QuotaUsage { active: 2, stored_bytes: 0 });
}

/// After any write to the row. After the timeout it returns the row unchanged.
pub async fn a_waiter_returns_when_the_row_changes<R: Requests>(store: &R) {
    let timeout = Duration::from_secs(30);
    let row = request("alice", "http://h/");
    store.create(&row).await.unwrap();
    let same = store.wait_for_change(&row, Duration::from_millis(20)).await.unwrap().expect("the row");
    assert_eq!(same.status, Status::Queued);

    let (waited, claim) = join(store.wait_for_change(&row, timeout), claimed(store, row.id, Step::Fetch)).await;
    let waited = waited.unwrap().expect("the row");
    assert_eq!(waited.status, Status::Fetching);
    let (waited, beat) =
        join(store.wait_for_change(&waited, timeout), store.heartbeat(&claim, 40.into(), NOW, LEASE)).await;
    beat.unwrap();
    let waited = waited.unwrap().expect("the row");
    assert_eq!(waited.progress, 40);
    let alice = UserId::new("alice");
    let (ended, cancelled) = join(store.wait_for_change(&waited, timeout), store.cancel(row.id, &alice, NOW)).await;
    cancelled.unwrap();
    assert_eq!(ended.unwrap().expect("the row").status, Status::Cancelled);
    // It returns at once if the row has already changed.
    assert_eq!(store.wait_for_change(&row, timeout).await.unwrap().expect("the row").status, Status::Cancelled);
    assert!(store.wait_for_change(&request("alice", "http://h/"), Duration::ZERO).await.unwrap().is_none());
}

pub(super) async fn claimed<R: Requests>(store: &R, id: RequestId, step: Step) -> Claim {
    store.claim(id, step, NOW, LEASE).await.unwrap().expect("a claim")
}

/// Creates a request for `url` and brings it to packaging, with the content `hash`. Returns its id.
async fn packaging<R: Requests>(store: &R, url: &str, hash: ContentHash) -> RequestId {
    fetched(store, request("alice", url), hash).await
}

pub(super) async fn fetched<R: Requests>(store: &R, row: FetchRequest, hash: ContentHash) -> RequestId {
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    store.save(&claim, &Transition::fetched(content(hash, NOW), NOW), NOW).await.unwrap();
    row.id
}

/// Creates a request and brings it to seeding. Returns its id.
async fn seeding<R: Requests>(store: &R, url: &str, hash: ContentHash, infohash: InfoHash) -> RequestId {
    let id = packaging(store, url, hash).await;
    packaged(store, id, infohash).await;
    id
}

pub(super) async fn packaged<R: Requests>(store: &R, id: RequestId, infohash: InfoHash) {
    let claim = claimed(store, id, Step::Package).await;
    store.save(&claim, &Transition::packaged(infohash, None, NOW + LEASE), NOW).await.unwrap();
}

/// Brings a request from seeding to ready. Returns the row.
pub(super) async fn seeded<R: Requests>(store: &R, id: RequestId, infohash: InfoHash) -> FetchRequest {
    let applied = store.apply(id, Condition::HasTorrent(infohash), &Transition::seeded(), NOW).await.unwrap();
    applied.done().expect("the row")
}

/// Fails a claimed request that refers to no content. Returns the row.
pub(super) async fn failed<R: Requests>(store: &R, claim: &Claim) -> FetchRequest {
    let failure = Failure::new(FailureCode::TooLarge, "too large");
    store.save(claim, &Transition::fail(&claim.request, failure, None, NOW), NOW).await.unwrap().0
}

/// All fields.
pub async fn a_row_reads_back_as_it_was_written<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/?a=ü");
    store.create(&row).await.unwrap();
    assert_eq!(store.get(row.id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(store.get(RequestId::new()).await.unwrap(), None);
}

/// The second row with the same id.
pub async fn a_duplicate_id_is_refused<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let again = store.create(&row).await;
    assert!(matches!(&again, Err(StoreError::AlreadyExists { key, .. }) if *key == row.id.to_string()), "{again:?}");
}

/// Fifty concurrent claims.
pub async fn of_concurrent_claims_one_succeeds<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claims = join_all((0..50).map(|_| store.claim(row.id, Step::Fetch, NOW, LEASE))).await;
    let winners: Vec<_> = claims.into_iter().filter_map(|claim| claim.unwrap()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(winners[0].request.status, Status::Fetching);
    assert_eq!(store.get(row.id).await.unwrap().unwrap().due_at, Some(NOW + LEASE));
}

/// Not before its due time, and not for another step.
pub async fn a_row_is_claimed_only_when_due_and_for_its_own_step<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let early = NOW - Duration::from_millis(1);
    assert!(store.claim(row.id, Step::Fetch, early, LEASE).await.unwrap().is_none());
    for step in [Step::Package, Step::Seed, Step::Expire, Step::Release] {
        assert!(store.claim(row.id, step, NOW, LEASE).await.unwrap().is_none(), "{step:?}");
    }
    assert!(store.claim(RequestId::new(), Step::Fetch, NOW, LEASE).await.unwrap().is_none());
    claimed(store, row.id, Step::Fetch).await;
}

/// A slow worker whose lease expired must not overwrite the work of the next one.
pub async fn an_expired_lease_can_be_claimed_and_its_former_holder_cannot_write<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let first = claimed(store, row.id, Step::Fetch).await;
    let later = NOW + LEASE;
    let second = store.claim(row.id, Step::Fetch, later, LEASE).await.unwrap().expect("the lease has expired");

    let fetched = Transition::fetched(content(ContentHash::new([1; 32]), later), later);
    assert!(matches!(store.save(&first, &fetched, later).await, Err(StoreError::ClaimLost(_))));
    assert!(matches!(store.heartbeat(&first, 5.into(), later, LEASE).await, Err(StoreError::ClaimLost(_))));

    let (saved, _) = store.save(&second, &fetched, later).await.unwrap();
    let again = store.save(&second, &fetched, later).await;
    assert!(matches!(again, Err(StoreError::ClaimLost(_))), "saving ends the claim");
    assert_eq!(store.get(row.id).await.unwrap(), Some(saved));
}

/// Other workers cannot claim the row while heartbeats arrive.
pub async fn a_heartbeat_keeps_the_claim_and_shows_the_progress<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    let middle = NOW + LEASE / 2;
    let received = Some(Received { bytes: 100, total: Some(240) });
    store.heartbeat(&claim, Progress { percent: 42, received }, middle, LEASE).await.unwrap();
    let shown = store.get(row.id).await.unwrap().unwrap();
    assert_eq!((shown.progress, shown.received), (42, received));
    let received = Some(Received { bytes: 300, total: None });
    store.heartbeat(&claim, Progress { percent: 42, received }, middle, LEASE).await.unwrap();
    store.heartbeat(&claim, 90.into(), middle, LEASE).await.unwrap();
    let shown = store.get(row.id).await.unwrap().unwrap();
    assert_eq!((shown.progress, shown.received), (90, received), "a heartbeat without bytes leaves those before");
    assert!(store.claim(row.id, Step::Fetch, NOW + LEASE, LEASE).await.unwrap().is_none());
    assert!(store.claim(row.id, Step::Fetch, middle + LEASE, LEASE).await.unwrap().is_some());
}

/// The worker's next write fails with `ClaimLost`, so it cannot undo the cancel.
pub async fn a_cancel_ends_a_claimed_request<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    let cancelled = store.cancel(row.id, &row.owner, NOW).await.unwrap().unwrap();
    assert_eq!(cancelled.status, Status::Cancelled);
    assert_eq!(cancelled.completed_at, Some(NOW));
    assert!(matches!(store.heartbeat(&claim, 5.into(), NOW, LEASE).await, Err(StoreError::ClaimLost(_))));
    let fetched = Transition::fetched(content(ContentHash::new([1; 32]), NOW), NOW);
    assert!(matches!(store.save(&claim, &fetched, NOW).await, Err(StoreError::ClaimLost(_))));
    assert_eq!(store.get(row.id).await.unwrap().unwrap().status, Status::Cancelled);
}

/// For other users the request does not exist.
pub async fn only_the_owner_cancels<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    assert_eq!(store.cancel(row.id, &UserId::new("bob"), NOW).await.unwrap(), None);
    assert_eq!(store.cancel(RequestId::new(), &row.owner, NOW).await.unwrap(), None);
    assert_eq!(store.get(row.id).await.unwrap(), Some(row));
}

/// A cancel after the end changes nothing.
pub async fn an_ended_request_does_not_change<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    let failed = failed(store, &claim).await;
    let seen = store.cancel(row.id, &row.owner, NOW + LEASE).await.unwrap();
    assert_eq!(seen.as_ref(), Some(&failed));
    assert_eq!(store.get(row.id).await.unwrap(), Some(failed));
}

/// Each with the task for its step.
pub async fn what_is_due_is_found_in_order<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let packaging = packaging(store, "https://example.org/p", hash).await;
    let mut oldest = request("alice", "https://example.org/f");
    oldest.due_at = Some(NOW - LEASE);
    store.create(&oldest).await.unwrap();
    let mut later = request("alice", "https://example.org/l");
    later.due_at = Some(NOW + LEASE);
    store.create(&later).await.unwrap();
    let seeding = seeding(store, "https://example.org/s", hash, infohash).await;

    let due = store.due(NOW, 10).await.unwrap();
    assert_eq!(due, [Task::Fetch(oldest.id), Task::Package(packaging)]);
    let one = store.due(NOW, 1).await.unwrap();
    assert!(one.len() == 1 && due.contains(&one[0]), "{one:?}");
    let all = store.due(NOW + LEASE, 10).await.unwrap();
    assert_eq!(all.len(), 4);
    assert!(all.contains(&Task::Seed(infohash, Some(seeding))) && all.contains(&Task::Fetch(later.id)));

    store.cancel(seeding, &oldest.owner, NOW).await.unwrap();
    assert!(store.due(NOW, 10).await.unwrap().contains(&Task::Release(seeding)));
}

/// They have no task: the sweep expires them.
pub async fn ready_rows_expire_and_are_not_due<R: Requests>(store: &R) {
    let infohash = InfoHash::new([2; 20]);
    let id = seeding(store, "https://example.org/", ContentHash::new([1; 32]), infohash).await;
    seeded(store, id, infohash).await;
    let end = store.get(id).await.unwrap().unwrap().expires_at.expect("an expiry time");
    assert_eq!(end, NOW + Duration::from_secs(3600));
    assert_eq!(store.list_expired(end - Duration::from_millis(1), 10).await.unwrap(), []);
    assert_eq!(store.list_expired(end, 10).await.unwrap(), [id]);
    assert_eq!(store.due(end, 10).await.unwrap(), []);
    let claim = store.claim(id, Step::Expire, end, LEASE).await.unwrap().expect("a claim");
    store.save(&claim, &Transition::expire(end), end).await.unwrap();
    assert_eq!(store.list_expired(end, 10).await.unwrap(), []);
    assert_eq!(store.due(end, 10).await.unwrap(), [Task::Release(id)]);
}

/// Not purged earlier, and not while the row is still due.
pub async fn a_row_is_kept_for_its_history<R: Requests>(store: &R) {
    let history = Duration::from_secs(100);
    let ended = FetchRequest { history, ..request("alice", "http://h/ended") };
    let live = FetchRequest { history, ..request("alice", "http://h/live") };
    for row in [&ended, &live] {
        store.create(row).await.unwrap();
    }
    let claim = claimed(store, ended.id, Step::Fetch).await;
    assert_eq!(claim.request.history, history);
    let failed = failed(store, &claim).await;
    store.purge_history(NOW + history - Duration::from_millis(1), 10).await.unwrap();
    assert_eq!(store.get(ended.id).await.unwrap(), Some(failed));

    store.cancel(live.id, &live.owner, NOW).await.unwrap();
    store.purge_history(NOW + history * 2, 10).await.unwrap();
    let row = store.get(live.id).await.unwrap().expect("a row that is not yet released");
    assert_eq!((row.status, row.due_at), (Status::Cancelled, Some(NOW)));
}

/// The oldest request in flight is fetched. The waiters can be woken.
pub async fn identical_requests_find_each_other<R: Requests>(store: &R) {
    let (first, second) = (request("alice", "https://example.org/"), request("alice", "https://example.org/"));
    let stranger = request("bob", "https://example.org/");
    for row in [&second, &first, &stranger] {
        store.create(row).await.unwrap();
    }
    assert_eq!(store.find_identical(&first.fingerprint).await.unwrap().first_in_flight, Some(first.id));
    let claim = claimed(store, first.id, Step::Fetch).await;
    assert_eq!(store.find_identical(&first.fingerprint).await.unwrap().first_in_flight, Some(first.id));

    let waiting = claimed(store, second.id, Step::Fetch).await;
    store.save(&waiting, &Transition::requeue(NOW + LEASE), NOW).await.unwrap();
    assert!(store.add_waiter(second.id, first.id).await.unwrap());

    let fetched = Transition::fetched(content(ContentHash::new([1; 32]), NOW), NOW);
    assert_eq!(store.save(&claim, &fetched, NOW).await.unwrap().1, [second.id]);
    assert_eq!(
        claimed(store, first.id, Step::Package).await.waiting,
        [second.id],
        "later claims have the list of waiters too"
    );
    assert!(!store.add_waiter(second.id, first.id).await.unwrap(), "the request is no longer in flight");
    assert!(!store.add_waiter(second.id, RequestId::new()).await.unwrap());
    assert_eq!(store.find_identical(&first.fingerprint).await.unwrap().first_in_flight, Some(second.id));
    assert_eq!(store.wake(&[second.id, first.id], NOW).await.unwrap(), [second.id]);
    claimed(store, second.id, Step::Fetch).await;
    assert_eq!(store.wake(&[second.id], NOW).await.unwrap(), [], "a claimed row is not changed");
}

/// By the time of the fetch, not by the time of the request.
pub async fn the_freshest_content_is_found<R: Requests>(store: &R) {
    let rows: Vec<_> = (0..3).map(|_| request("alice", "https://example.org/")).collect();
    for (row, age) in rows.iter().zip([1_u32, 0, 2]) {
        store.create(row).await.unwrap();
        let claim = claimed(store, row.id, Step::Fetch).await;
        let content = content(ContentHash::new([u8::try_from(age).unwrap(); 32]), NOW - LEASE * age);
        store.save(&claim, &Transition::fetched(content, NOW), NOW).await.unwrap();
    }
    let fingerprint = rows[0].fingerprint;
    assert_eq!(store.find_identical(&fingerprint).await.unwrap().freshest.map(|row| row.id), Some(rows[1].id));
    store.cancel(rows[1].id, &rows[1].owner, NOW).await.unwrap();
    assert_eq!(store.find_identical(&fingerprint).await.unwrap().freshest.map(|row| row.id), Some(rows[0].id));
    assert_eq!(
        store.find_identical(&request("bob", "https://example.org/").fingerprint).await.unwrap(),
        IdenticalRequests::default()
    );
}

/// Ended requests hold no reference.
pub async fn references_are_the_live_requests_of_a_content<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    assert_eq!(store.references(hash).await.unwrap(), []);
    let packaging = packaging(store, "https://example.org/1", hash).await;
    let seeding_one = seeding(store, "https://example.org/2", hash, infohash).await;
    let alike = seeding(store, "https://example.org/3", hash, infohash).await;
    let references = store.references(hash).await.unwrap();
    assert_eq!(references.len(), 2);
    assert!(references.contains(&ContentReference::Packaging));
    assert!(references.contains(&ContentReference::Torrent(infohash)));
    store.cancel(packaging, &UserId::new("alice"), NOW).await.unwrap();
    store.cancel(seeding_one, &UserId::new("alice"), NOW).await.unwrap();
    assert_eq!(store.references(hash).await.unwrap(), [ContentReference::Torrent(infohash)]);
    // Its next torrent may be another one.
    let repackage = Transition::repackage(NOW);
    let repackaged =
        async || store.apply(alike, Condition::HasTorrent(infohash), &repackage, NOW).await.unwrap().done();
    repackaged().await.expect("it is seeding");
    assert_eq!(store.references(hash).await.unwrap(), [ContentReference::Packaging]);
    packaged(store, alike, infohash).await;
    seeded(store, alike, infohash).await;
    assert_eq!(store.references(hash).await.unwrap(), [ContentReference::Torrent(infohash)]);
    repackaged().await.expect("it is ready");
    assert_eq!(store.references(hash).await.unwrap(), [ContentReference::Packaging]);
}

/// Only requests that are ready now, and at most `limit` of them.
pub async fn the_ready_requests_of_a_content_are_found<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let mut ready = vec![];
    for url in ["http://h/1", "http://h/2"] {
        let id = seeding(store, url, hash, infohash).await;
        seeded(store, id, infohash).await;
        ready.push(id);
    }
    seeding(store, "http://h/seeding", hash, infohash).await;
    let cancelled = seeding(store, "http://h/cancelled", hash, infohash).await;
    seeded(store, cancelled, infohash).await;
    store.cancel(cancelled, &UserId::new("alice"), NOW).await.unwrap();
    let mut found = store.ready_requests_of(hash, 10).await.unwrap();
    found.sort();
    assert_eq!(found, ready);
    assert_eq!(store.ready_requests_of(hash, 1).await.unwrap().len(), 1);
    assert_eq!(store.ready_requests_of(ContentHash::new([9; 32]), 10).await.unwrap(), []);
}
