//! The contract of [`Requests`](crate::Requests).

use std::time::Duration;

use domain::{
    ContentHash, Failure, FailureCode, FetchRequest, InfoHash, InfoHashV2, Method, RequestId, Status, Step, UserId,
};
use futures::future::{join, join_all};

use super::{LEASE, NOW, content, request};
use crate::{Claim, Holder, Load, Requests, Settlement, StoreError, Twins, Wakeup};

/// Runs the suite against what the function `$make` makes.
#[macro_export]
macro_rules! requests_contract {
    ($make:path) => {
        $crate::contract_tests!(
            requests,
            $make,
            a_row_reads_back_as_it_was_written,
            an_id_is_taken_once,
            an_owner_lists_their_own_rows_newest_first,
            a_load_is_what_an_owners_requests_take,
            who_waits_for_a_row_is_woken_by_its_change,
            the_end_of_a_request_is_told_to_who_wants_to_know,
            the_settling_of_a_request_is_told_to_who_wants_to_know,
            of_many_claimers_one_wins,
            a_row_is_claimed_only_when_due_and_for_its_own_step,
            a_lease_that_ran_out_is_claimed_anew_and_its_holder_can_write_no_more,
            a_heartbeat_keeps_the_claim_and_shows_the_progress,
            a_cancel_ends_a_claimed_request,
            only_the_owner_cancels,
            a_retention_can_be_changed_until_the_request_ends,
            an_ended_request_stays_as_it_ended,
            what_is_due_is_found_oldest_first,
            ready_rows_are_outlived_and_not_woken,
            a_row_is_kept_for_its_history,
            twins_find_each_other,
            the_freshest_content_is_found,
            settling_moves_the_request_that_waits_for_the_torrent,
            holders_are_the_live_requests_of_a_content,
            the_ready_requests_of_a_content_are_found,
            a_row_is_replaced_only_as_it_was_seen,
        );
    };
}

/// From now on for one that is ready, from when it becomes ready for others, and not for another's.
pub async fn a_retention_can_be_changed_until_the_request_ends<R: Requests>(store: &R) {
    let (alice, hash, infohash) = (UserId::new("alice"), ContentHash::new([1; 32]), InfoHash::new([1; 20]));
    let (long, later) = (Duration::from_secs(1_000_000), NOW + Duration::from_secs(10));
    let queued = request("alice", "http://h/queued");
    store.create(&queued).await.unwrap();
    let row = store.keep(queued.id, &alice, long, later).await.unwrap().expect("the row");
    assert_eq!((row.keep_for, row.expires_at, row.due_at), (long, None, queued.due_at));

    let seeding = seeding(store, "http://h/seeding", hash, infohash).await;
    store.keep(seeding, &alice, long, NOW).await.unwrap();
    let row = store.settle(seeding, infohash, Settlement::Ready, NOW).await.unwrap().expect("the row");
    assert_eq!(row.expires_at, Some(NOW + long));
    let row = store.keep(seeding, &alice, long * 2, later).await.unwrap().expect("the row");
    assert_eq!((row.expires_at, row.due_at), (Some(later + long * 2), Some(later + long * 2)));
    assert_eq!(store.get(seeding).await.unwrap(), Some(row.clone()));
    assert!(store.outlived(NOW + long, 10).await.unwrap().is_empty());

    assert_eq!(store.keep(seeding, &UserId::new("bob"), long, later).await.unwrap(), None);
    assert_eq!(store.keep(RequestId::new(), &alice, long, later).await.unwrap(), None);
    let packaging = packaging(store, "http://h/packaging", hash).await;
    let before = store.get(packaging).await.unwrap();
    assert_eq!(store.keep(packaging, &alice, long, later).await.unwrap(), before);
    store.cancel(seeding, &alice, later).await.unwrap();
    let ended = store.get(seeding).await.unwrap();
    assert_eq!(store.keep(seeding, &alice, long, later).await.unwrap(), ended);
}

/// Page by page, also by status, each once.
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

/// Ended ones take nothing.
pub async fn a_load_is_what_an_owners_requests_take<R: Requests>(store: &R) {
    let (alice, hash) = (UserId::new("alice"), ContentHash::new([1; 32]));
    assert_eq!(store.load(&alice).await.unwrap(), Load::default());
    store.create(&request("alice", "http://h/queued")).await.unwrap();
    store.create(&request("bob", "http://h/queued")).await.unwrap();
    packaging(store, "http://h/packaging", hash).await;
    let infohash = InfoHash::new([1; 20]);
    let ready = seeding(store, "http://h/ready", hash, infohash).await;
    assert_eq!(store.load(&alice).await.unwrap(), Load { active: 3, stored_bytes: 0 });
    store.settle(ready, infohash, Settlement::Ready, NOW).await.unwrap();
    let size = store.get(ready).await.unwrap().unwrap().content.unwrap().size;
    assert_eq!(store.load(&alice).await.unwrap(), Load { active: 2, stored_bytes: size });
    store.cancel(ready, &alice, NOW).await.unwrap();
    assert_eq!(store.load(&alice).await.unwrap(), Load { active: 2, stored_bytes: 0 });
}

/// Whichever write it is; and who has patience for so long only is told how it is.
pub async fn who_waits_for_a_row_is_woken_by_its_change<R: Requests>(store: &R) {
    let patience = Duration::from_secs(30);
    let row = request("alice", "http://h/");
    store.create(&row).await.unwrap();
    let same = store.changed(&row, Duration::from_millis(20)).await.unwrap().expect("the row");
    assert_eq!(same.status, Status::Queued);

    let (waited, claim) = join(store.changed(&row, patience), claimed(store, row.id, Step::Fetch)).await;
    let waited = waited.unwrap().expect("the row");
    assert_eq!(waited.status, Status::Fetching);
    let (waited, beat) = join(store.changed(&waited, patience), store.heartbeat(&claim, 40, NOW, LEASE)).await;
    beat.unwrap();
    let waited = waited.unwrap().expect("the row");
    assert_eq!(waited.progress, 40);
    let alice = UserId::new("alice");
    let (ended, cancelled) = join(store.changed(&waited, patience), store.cancel(row.id, &alice, NOW)).await;
    cancelled.unwrap();
    assert_eq!(ended.unwrap().expect("the row").status, Status::Cancelled);
    // What has changed already is not waited for.
    assert_eq!(store.changed(&row, patience).await.unwrap().expect("the row").status, Status::Cancelled);
    assert!(store.changed(&request("alice", "http://h/"), Duration::ZERO).await.unwrap().is_none());
}

/// By one teller at a time, and until it is done.
pub async fn the_end_of_a_request_is_told_to_who_wants_to_know<R: Requests>(store: &R) {
    let mut wanted = request("alice", "http://h/wanted");
    wanted.spec.callback_url = Some("https://alice.example/hook".parse().unwrap());
    for row in [&request("alice", "http://h/not"), &wanted] {
        store.create(row).await.unwrap();
        assert!(store.notifications(NOW, 10).await.unwrap().is_empty(), "nothing has ended that is to be told");
        let claim = claimed(store, row.id, Step::Fetch).await;
        let mut failed = claim.request.clone();
        failed.fail(Failure::new(FailureCode::TooLarge, "too large"), NOW);
        store.save(&claim, &failed).await.unwrap();
    }
    assert_eq!(store.notifications(NOW, 10).await.unwrap(), [wanted.id]);
    let claims = join_all((0..10).map(|_| store.claim_notification(wanted.id, NOW, LEASE))).await;
    let claims: Vec<_> = claims.into_iter().filter_map(Result::unwrap).collect();
    let [(row, tries)] = &claims[..] else { panic!("{claims:?}") };
    assert_eq!((row.status, *tries, &row.spec.callback_url), (Status::Failed, 0, &wanted.spec.callback_url));
    assert!(store.notifications(NOW, 10).await.unwrap().is_empty());
    let (_, tries) = store.claim_notification(wanted.id, NOW + LEASE, LEASE).await.unwrap().expect("its lease ran out");
    assert_eq!(tries, 1);
    store.notified(wanted.id, Some(NOW + LEASE)).await.unwrap();
    assert_eq!(store.notifications(NOW + LEASE, 10).await.unwrap(), [wanted.id]);
    store.notified(wanted.id, None).await.unwrap();
    assert!(store.claim_notification(wanted.id, NOW + LEASE * 10, LEASE).await.unwrap().is_none());
}

/// And not before it has settled for good.
pub async fn the_settling_of_a_request_is_told_to_who_wants_to_know<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let failure = Failure::new(FailureCode::SeedingFailed, "no");
    for settlement in [Settlement::Ready, Settlement::Failed(failure)] {
        let mut row = request("alice", "http://h/");
        row.spec.callback_url = Some("https://alice.example/hook".parse().unwrap());
        let id = fetched(store, row, hash).await;
        packaged(store, id, infohash).await;
        let again = store.settle(id, infohash, Settlement::Repackage, NOW).await.unwrap();
        assert_eq!(again.map(|row| row.status), Some(Status::Packaging));
        packaged(store, id, infohash).await;
        assert_eq!(store.notifications(NOW, 10).await.unwrap(), []);
        store.settle(id, infohash, settlement, NOW).await.unwrap().expect("the row");
        assert_eq!(store.notifications(NOW, 10).await.unwrap(), [id]);
        store.notified(id, None).await.unwrap();
    }
}

async fn claimed<R: Requests>(store: &R, id: RequestId, step: Step) -> Claim {
    store.claim(id, step, NOW, LEASE).await.unwrap().expect("a claim")
}

/// Takes a new request for `url` as far as packaging, with the content `hash`.
async fn packaging<R: Requests>(store: &R, url: &str, hash: ContentHash) -> RequestId {
    fetched(store, request("alice", url), hash).await
}

async fn fetched<R: Requests>(store: &R, row: FetchRequest, hash: ContentHash) -> RequestId {
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    let mut row = claim.request.clone();
    row.fetched(content(hash, NOW), NOW);
    store.save(&claim, &row).await.unwrap();
    row.id
}

/// Takes a new request as far as seeding.
async fn seeding<R: Requests>(store: &R, url: &str, hash: ContentHash, infohash: InfoHash) -> RequestId {
    let id = packaging(store, url, hash).await;
    packaged(store, id, infohash).await;
    id
}

async fn packaged<R: Requests>(store: &R, id: RequestId, infohash: InfoHash) {
    let claim = claimed(store, id, Step::Package).await;
    let mut row = claim.request.clone();
    row.packaged(infohash, None, NOW, NOW + LEASE);
    store.save(&claim, &row).await.unwrap();
}

/// Every field survives.
pub async fn a_row_reads_back_as_it_was_written<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/?a=ü");
    store.create(&row).await.unwrap();
    assert_eq!(store.get(row.id).await.unwrap().as_ref(), Some(&row));

    let claim = claimed(store, row.id, Step::Fetch).await;
    let mut full = claim.request.clone();
    full.retry(Failure::new(FailureCode::ReadTimeout, "slow"), NOW, NOW);
    store.save(&claim, &full).await.unwrap();
    assert_eq!(store.get(row.id).await.unwrap().as_ref(), Some(&full));

    let claim = claimed(store, row.id, Step::Fetch).await;
    full = claim.request.clone();
    full.fetched(content(ContentHash::new([1; 32]), NOW), NOW);
    store.save(&claim, &full).await.unwrap();
    let claim = claimed(store, row.id, Step::Package).await;
    full = claim.request.clone();
    full.seeded(InfoHash::new([2; 20]), Some(InfoHashV2::new([3; 32])), NOW);
    store.save(&claim, &full).await.unwrap();
    assert_eq!(store.get(row.id).await.unwrap(), Some(full));
    assert_eq!(store.get(RequestId::new()).await.unwrap(), None);
}

/// The second of one id is refused.
pub async fn an_id_is_taken_once<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    assert!(matches!(store.create(&row).await, Err(StoreError::AlreadyExists)));
}

/// Fifty at once.
pub async fn of_many_claimers_one_wins<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claims = join_all((0..50).map(|_| store.claim(row.id, Step::Fetch, NOW, LEASE))).await;
    let winners: Vec<_> = claims.into_iter().filter_map(|claim| claim.unwrap()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(winners[0].request.status, Status::Fetching);
    assert_eq!(store.get(row.id).await.unwrap().unwrap().due_at, Some(NOW + LEASE));
}

/// Neither early nor for another step.
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

/// A worker that was thought dead is kept from writing.
pub async fn a_lease_that_ran_out_is_claimed_anew_and_its_holder_can_write_no_more<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let first = claimed(store, row.id, Step::Fetch).await;
    let later = NOW + LEASE;
    let second = store.claim(row.id, Step::Fetch, later, LEASE).await.unwrap().expect("the lease is over");

    let mut late = first.request.clone();
    late.fail(Failure::new(FailureCode::TooLarge, "x"), later);
    assert!(matches!(store.save(&first, &late).await, Err(StoreError::ClaimLost)));
    assert!(matches!(store.heartbeat(&first, 5, later, LEASE).await, Err(StoreError::ClaimLost)));

    let mut row = second.request.clone();
    row.fetched(content(ContentHash::new([1; 32]), later), later);
    store.save(&second, &row).await.unwrap();
    assert!(matches!(store.save(&second, &row).await, Err(StoreError::ClaimLost)), "a claim is given up by saving");
    assert_eq!(store.get(row.id).await.unwrap(), Some(row));
}

/// While it works on, nobody else gets it.
pub async fn a_heartbeat_keeps_the_claim_and_shows_the_progress<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    let middle = NOW + LEASE / 2;
    store.heartbeat(&claim, 42, middle, LEASE).await.unwrap();
    assert_eq!(store.get(row.id).await.unwrap().unwrap().progress, 42);
    assert!(store.claim(row.id, Step::Fetch, NOW + LEASE, LEASE).await.unwrap().is_none());
    assert!(store.claim(row.id, Step::Fetch, middle + LEASE, LEASE).await.unwrap().is_some());
}

/// The worker learns of it at its next write, and cannot undo it.
pub async fn a_cancel_ends_a_claimed_request<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    let cancelled = store.cancel(row.id, &row.owner, NOW).await.unwrap().unwrap();
    assert_eq!(cancelled.status, Status::Cancelled);
    assert_eq!(cancelled.completed_at, Some(NOW));
    assert!(matches!(store.heartbeat(&claim, 5, NOW, LEASE).await, Err(StoreError::ClaimLost)));
    let mut row = claim.request.clone();
    row.fetched(content(ContentHash::new([1; 32]), NOW), NOW);
    assert!(matches!(store.save(&claim, &row).await, Err(StoreError::ClaimLost)));
    assert_eq!(store.get(row.id).await.unwrap().unwrap().status, Status::Cancelled);
}

/// Another's request does not exist.
pub async fn only_the_owner_cancels<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    assert_eq!(store.cancel(row.id, &UserId::new("bob"), NOW).await.unwrap(), None);
    assert_eq!(store.cancel(RequestId::new(), &row.owner, NOW).await.unwrap(), None);
    assert_eq!(store.get(row.id).await.unwrap(), Some(row));
}

/// A cancel after the end changes nothing.
pub async fn an_ended_request_stays_as_it_ended<R: Requests>(store: &R) {
    let row = request("alice", "https://example.org/");
    store.create(&row).await.unwrap();
    let claim = claimed(store, row.id, Step::Fetch).await;
    let mut failed = claim.request.clone();
    failed.fail(Failure::new(FailureCode::BlockedAddress, "no"), NOW);
    store.save(&claim, &failed).await.unwrap();
    let seen = store.cancel(row.id, &row.owner, NOW + LEASE).await.unwrap();
    assert_eq!(seen.as_ref(), Some(&failed));
    assert_eq!(store.get(row.id).await.unwrap(), Some(failed));
}

/// Each with the wake-up for its step.
pub async fn what_is_due_is_found_oldest_first<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let packaging = packaging(store, "https://example.org/p", hash).await;
    let mut oldest = request("alice", "https://example.org/f");
    oldest.due_at = Some(NOW - LEASE);
    store.create(&oldest).await.unwrap();
    let mut later = request("alice", "https://example.org/l");
    later.due_at = Some(NOW + LEASE);
    store.create(&later).await.unwrap();
    let seeding = seeding(store, "https://example.org/s", hash, infohash).await;

    assert_eq!(store.due(NOW, 10).await.unwrap(), [Wakeup::Fetch(oldest.id), Wakeup::Package(packaging)]);
    assert_eq!(store.due(NOW, 1).await.unwrap(), [Wakeup::Fetch(oldest.id)]);
    let all = store.due(NOW + LEASE, 10).await.unwrap();
    assert_eq!(all.len(), 4);
    assert!(all.contains(&Wakeup::Seed(infohash, Some(seeding))) && all.contains(&Wakeup::Fetch(later.id)));

    store.cancel(seeding, &oldest.owner, NOW).await.unwrap();
    assert!(store.due(NOW, 10).await.unwrap().contains(&Wakeup::Release(seeding)));
}

/// They end without a wake-up: the sweep sees to them.
pub async fn ready_rows_are_outlived_and_not_woken<R: Requests>(store: &R) {
    let infohash = InfoHash::new([2; 20]);
    let id = seeding(store, "https://example.org/", ContentHash::new([1; 32]), infohash).await;
    store.settle(id, infohash, Settlement::Ready, NOW).await.unwrap();
    let end = store.get(id).await.unwrap().unwrap().expires_at.expect("an end");
    assert_eq!(end, NOW + Duration::from_secs(3600));
    assert_eq!(store.outlived(end - Duration::from_millis(1), 10).await.unwrap(), []);
    assert_eq!(store.outlived(end, 10).await.unwrap(), [id]);
    assert_eq!(store.due(end, 10).await.unwrap(), []);
    let claim = store.claim(id, Step::Expire, end, LEASE).await.unwrap().expect("a claim");
    let mut row = claim.request.clone();
    row.expire(end);
    store.save(&claim, &row).await.unwrap();
    assert_eq!(store.outlived(end, 10).await.unwrap(), []);
    assert_eq!(store.due(end, 10).await.unwrap(), [Wakeup::Release(id)]);
}

/// Not a moment earlier, and not while something is to be done for it.
pub async fn a_row_is_kept_for_its_history<R: Requests>(store: &R) {
    let history = Duration::from_secs(100);
    let ended = FetchRequest { history, ..request("alice", "http://h/ended") };
    let live = FetchRequest { history, ..request("alice", "http://h/live") };
    for row in [&ended, &live] {
        store.create(row).await.unwrap();
    }
    let claim = claimed(store, ended.id, Step::Fetch).await;
    let mut failed = claim.request.clone();
    assert_eq!(failed.history, history);
    failed.fail(Failure::new(FailureCode::TooLarge, "too large"), NOW);
    store.save(&claim, &failed).await.unwrap();
    store.forget(NOW + history - Duration::from_millis(1), 10).await.unwrap();
    assert_eq!(store.get(ended.id).await.unwrap(), Some(failed));

    store.cancel(live.id, &live.owner, NOW).await.unwrap();
    store.forget(NOW + history * 2, 10).await.unwrap();
    let row = store.get(live.id).await.unwrap().expect("it is still to be released");
    assert_eq!((row.status, row.due_at), (Status::Cancelled, Some(NOW)));
}

/// The oldest in flight leads; the others can be woken.
pub async fn twins_find_each_other<R: Requests>(store: &R) {
    let (first, second) = (request("alice", "https://example.org/"), request("alice", "https://example.org/"));
    let stranger = request("bob", "https://example.org/");
    for row in [&second, &first, &stranger] {
        store.create(row).await.unwrap();
    }
    assert_eq!(store.twins(&first.fingerprint).await.unwrap().first_in_flight, Some(first.id));
    let claim = claimed(store, first.id, Step::Fetch).await;
    assert_eq!(store.twins(&first.fingerprint).await.unwrap().first_in_flight, Some(first.id));

    let waiting = claimed(store, second.id, Step::Fetch).await;
    let mut row = waiting.request.clone();
    row.requeue(NOW, NOW + LEASE);
    store.save(&waiting, &row).await.unwrap();
    assert!(store.wait_behind(second.id, first.id).await.unwrap());

    let mut row = claim.request.clone();
    row.fetched(content(ContentHash::new([1; 32]), NOW), NOW);
    assert_eq!(store.save(&claim, &row).await.unwrap(), [second.id]);
    assert_eq!(claimed(store, first.id, Step::Package).await.waiting, [second.id], "whoever comes later knows it, too");
    assert!(!store.wait_behind(second.id, first.id).await.unwrap(), "it is in flight no longer");
    assert!(!store.wait_behind(second.id, RequestId::new()).await.unwrap());
    assert_eq!(store.twins(&first.fingerprint).await.unwrap().first_in_flight, Some(second.id));
    assert_eq!(store.wake(&[second.id, first.id], NOW).await.unwrap(), [second.id]);
    claimed(store, second.id, Step::Fetch).await;
    assert_eq!(store.wake(&[second.id], NOW).await.unwrap(), [], "a claimed one is not disturbed");
}

/// By when it was fetched, not by when it was asked for.
pub async fn the_freshest_content_is_found<R: Requests>(store: &R) {
    let rows: Vec<_> = (0..3).map(|_| request("alice", "https://example.org/")).collect();
    for (row, age) in rows.iter().zip([1_u32, 0, 2]) {
        store.create(row).await.unwrap();
        let claim = claimed(store, row.id, Step::Fetch).await;
        let mut row = claim.request.clone();
        row.fetched(content(ContentHash::new([age as u8; 32]), NOW - LEASE * age), NOW);
        store.save(&claim, &row).await.unwrap();
    }
    let fingerprint = rows[0].fingerprint;
    assert_eq!(store.twins(&fingerprint).await.unwrap().freshest.map(|row| row.id), Some(rows[1].id));
    store.cancel(rows[1].id, &rows[1].owner, NOW).await.unwrap();
    assert_eq!(store.twins(&fingerprint).await.unwrap().freshest.map(|row| row.id), Some(rows[0].id));
    assert_eq!(store.twins(&request("bob", "https://example.org/").fingerprint).await.unwrap(), Twins::default());
}

/// Only while it is seeding that torrent.
pub async fn settling_moves_the_request_that_waits_for_the_torrent<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let id = seeding(store, "https://example.org/1", hash, infohash).await;
    let other = seeding(store, "https://example.org/2", hash, infohash).await;
    let settle = async |id, settlement| store.settle(id, infohash, settlement, NOW).await.unwrap();

    let strange = store.settle(id, InfoHash::new([3; 20]), Settlement::Ready, NOW).await.unwrap();
    assert_eq!((strange, settle(RequestId::new(), Settlement::Ready).await), (None, None));
    assert_eq!(settle(id, Settlement::Repackage).await.map(|row| row.id), Some(id));
    assert_eq!(settle(id, Settlement::Ready).await, None, "it is packaging");
    packaged(store, id, infohash).await;

    let row = settle(id, Settlement::Ready).await.expect("the row");
    assert_eq!((row.status, row.progress, row.completed_at), (Status::Ready, 100, Some(NOW)));
    assert_eq!(row.due_at, row.expires_at);
    assert_eq!(store.get(id).await.unwrap(), Some(row));
    assert_eq!(settle(id, Settlement::Ready).await, None, "once");

    let failure = Failure::new(FailureCode::SeedingFailed, "no");
    let row = settle(other, Settlement::Failed(failure.clone())).await.expect("the row");
    assert_eq!((row.status, &row.failure, row.due_at), (Status::Failed, &Some(failure), Some(NOW)));
    assert_eq!(store.get(other).await.unwrap(), Some(row));
}

/// Ended ones hold nothing.
pub async fn holders_are_the_live_requests_of_a_content<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    assert_eq!(store.holders(hash).await.unwrap(), []);
    let packaging = packaging(store, "https://example.org/1", hash).await;
    let seeding_one = seeding(store, "https://example.org/2", hash, infohash).await;
    let _alike = seeding(store, "https://example.org/3", hash, infohash).await;
    let holders = store.holders(hash).await.unwrap();
    assert_eq!(holders.len(), 2);
    assert!(holders.contains(&Holder { status: Status::Packaging, infohash: None }));
    assert!(holders.contains(&Holder { status: Status::Seeding, infohash: Some(infohash) }));
    store.cancel(packaging, &UserId::new("alice"), NOW).await.unwrap();
    store.cancel(seeding_one, &UserId::new("alice"), NOW).await.unwrap();
    assert_eq!(store.holders(hash).await.unwrap().len(), 1);
}

/// Neither those before nor those after, and no more than asked for.
pub async fn the_ready_requests_of_a_content_are_found<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let mut ready = vec![];
    for url in ["http://h/1", "http://h/2"] {
        let id = seeding(store, url, hash, infohash).await;
        store.settle(id, infohash, Settlement::Ready, NOW).await.unwrap();
        ready.push(id);
    }
    seeding(store, "http://h/seeding", hash, infohash).await;
    let cancelled = seeding(store, "http://h/cancelled", hash, infohash).await;
    store.settle(cancelled, infohash, Settlement::Ready, NOW).await.unwrap();
    store.cancel(cancelled, &UserId::new("alice"), NOW).await.unwrap();
    let mut found = store.ready_with(hash, 10).await.unwrap();
    found.sort();
    assert_eq!(found, ready);
    assert_eq!(store.ready_with(hash, 1).await.unwrap().len(), 1);
    assert_eq!(store.ready_with(ContentHash::new([9; 32]), 10).await.unwrap(), []);
}

/// Every field is written; a row that was changed or claimed since stays as it is.
pub async fn a_row_is_replaced_only_as_it_was_seen<R: Requests>(store: &R) {
    let (alice, hash, infohash) = (UserId::new("alice"), ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let id = seeding(store, "http://h/", hash, infohash).await;
    let seen = store.settle(id, infohash, Settlement::Ready, NOW).await.unwrap().expect("the row");
    let later = NOW + Duration::from_secs(5);
    let mut row = seen.clone();
    row.spec.method = Method::Get;
    row.lose_content(later);
    // The method of a request never changes.
    row.spec.method = seen.spec.method;
    assert!(store.replace(&seen, &row).await.unwrap());
    assert_eq!(store.get(id).await.unwrap().as_ref(), Some(&row));
    assert!(!store.replace(&seen, &row).await.unwrap(), "changed since");
    assert_eq!(store.twins(&row.fingerprint).await.unwrap().first_in_flight, Some(id));

    let seen = row;
    store.claim(id, Step::Fetch, later, LEASE).await.unwrap().expect("it is due");
    assert!(!store.replace(&seen, &seen).await.unwrap(), "claimed since");
    let cancelled = store.cancel(id, &alice, later).await.unwrap();
    assert!(!store.replace(&seen, &seen).await.unwrap(), "ended since");
    assert_eq!(store.get(id).await.unwrap(), cancelled);
}
