//! Contract tests of [`NotificationQueue`](crate::NotificationQueue).

use domain::{ContentHash, Failure, FailureCode, InfoHash, Receiver, Receivers, Status, Step, Transition};
use futures::future::join_all;

use super::requests::{claimed, failed, fetched, packaged, seeded};
use super::{LEASE, NOW, request};
use crate::{Condition, DueNotification, Requests};

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! notifications_contract {
    ($make:path) => {
        $crate::contract_tests!(
            notifications,
            $make,
            the_notification_of_a_failed_request_is_due,
            the_notification_of_a_seeded_request_is_due,
            every_end_of_a_request_notifies_all_its_receivers,
            a_lost_claim_of_a_notification_changes_nothing,
        );
    };
}

/// One worker at a time claims it, until it is finished. A later try is for the receivers that are left.
pub async fn the_notification_of_a_failed_request_is_due<R: Requests>(store: &R) {
    let mut wanted = request("alice", "http://h/wanted");
    wanted.receivers = [Receiver::Webhook, Receiver::Service].into_iter().collect();
    for row in [&request("alice", "http://h/not"), &wanted] {
        store.create(row).await.unwrap();
        assert!(store.due_notifications(NOW, 10).await.unwrap().is_empty(), "no request with a receiver has ended");
        let claim = claimed(store, row.id, Step::Fetch).await;
        failed(store, &claim).await;
    }
    assert_eq!(store.due_notifications(NOW, 10).await.unwrap(), [wanted.id]);
    let claims = join_all((0..10).map(|_| store.claim_notification(wanted.id, NOW, LEASE))).await;
    let claims: Vec<_> = claims.into_iter().filter_map(Result::unwrap).collect();
    let [DueNotification { request, receivers, tries, .. }] = &claims[..] else { panic!("{claims:?}") };
    assert_eq!((request.status, *receivers, *tries), (Status::Failed, wanted.receivers, 0));
    assert!(store.due_notifications(NOW, 10).await.unwrap().is_empty());
    let again = async || store.claim_notification(wanted.id, NOW + LEASE, LEASE).await.unwrap().expect("it is due");
    let claimed = again().await;
    assert_eq!((claimed.receivers, claimed.tries), (wanted.receivers, 1), "the first claim was not finished");
    let left: Receivers = [Receiver::Service].into_iter().collect();
    store.finish_notification(&claimed, Some((NOW + LEASE, left))).await.unwrap();
    assert_eq!(store.due_notifications(NOW + LEASE, 10).await.unwrap(), [wanted.id]);
    let claimed = again().await;
    assert_eq!((claimed.receivers, claimed.tries, claimed.request.receivers), (left, 2, wanted.receivers));
    store.finish_notification(&claimed, None).await.unwrap();
    assert!(store.claim_notification(wanted.id, NOW + LEASE * 10, LEASE).await.unwrap().is_none());
}

/// Not before the request is ready or has failed.
pub async fn the_notification_of_a_seeded_request_is_due<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let failure = Failure::new(FailureCode::SeedingFailed, "no");
    for end in [Transition::seeded(), Transition::seeding_failed(failure, NOW)] {
        let mut row = request("alice", "http://h/");
        row.receivers = [Receiver::Webhook].into_iter().collect();
        let id = fetched(store, row, hash).await;
        let apply = async |transition: &Transition| {
            let applied = store.apply(id, Condition::HasTorrent(infohash), transition, NOW).await;
            applied.unwrap().done().expect("the row").status
        };
        packaged(store, id, infohash).await;
        assert_eq!(apply(&Transition::repackage(NOW)).await, Status::Packaging);
        packaged(store, id, infohash).await;
        assert_eq!(store.due_notifications(NOW, 10).await.unwrap(), []);
        apply(&end).await;
        assert_eq!(store.due_notifications(NOW, 10).await.unwrap(), [id]);
        let claimed = store.claim_notification(id, NOW, LEASE).await.unwrap().expect("it is due");
        store.finish_notification(&claimed, None).await.unwrap();
    }
}

/// A request that is ready again after its content was lost is announced to all receivers, and with all tries.
pub async fn every_end_of_a_request_notifies_all_its_receivers<R: Requests>(store: &R) {
    let (hash, infohash) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]));
    let mut row = request("alice", "http://h/");
    row.receivers = [Receiver::Webhook, Receiver::Folder].into_iter().collect();
    let receivers = row.receivers;
    let id = fetched(store, row, hash).await;
    for _ in 0..2 {
        packaged(store, id, infohash).await;
        seeded(store, id, infohash).await;
        let first = store.claim_notification(id, NOW, LEASE).await.unwrap().expect("it is due");
        assert_eq!((first.receivers, first.tries), (receivers, 0));
        let left = [Receiver::Folder].into_iter().collect();
        store.finish_notification(&first, Some((NOW + LEASE, left))).await.unwrap();
        let repackaged = store.apply(id, Condition::HasTorrent(infohash), &Transition::repackage(NOW), NOW).await;
        repackaged.unwrap().done().expect("the row");
    }
}

/// Neither after its time, when another worker has claimed the notification, nor after a transition that makes it due
/// again.
pub async fn a_lost_claim_of_a_notification_changes_nothing<R: Requests>(store: &R) {
    let (hash, infohash, later) = (ContentHash::new([1; 32]), InfoHash::new([2; 20]), NOW + LEASE);
    let mut row = request("alice", "http://h/");
    row.receivers = [Receiver::Webhook, Receiver::Folder].into_iter().collect();
    let receivers = row.receivers;
    let id = fetched(store, row, hash).await;
    packaged(store, id, infohash).await;
    seeded(store, id, infohash).await;
    let left = Some((NOW + LEASE * 9, [Receiver::Folder].into_iter().collect()));

    let lost = store.claim_notification(id, NOW, LEASE).await.unwrap().expect("it is due");
    let held = store.claim_notification(id, later, LEASE).await.unwrap().expect("the lease has expired");
    store.finish_notification(&lost, left).await.unwrap();
    assert_eq!(store.claim_notification(id, later, LEASE).await.unwrap(), None);

    let repackaged = store.apply(id, Condition::HasTorrent(infohash), &Transition::repackage(NOW), NOW).await;
    repackaged.unwrap().done().expect("the row");
    packaged(store, id, infohash).await;
    seeded(store, id, infohash).await;
    store.finish_notification(&held, left).await.unwrap();
    let again = store.claim_notification(id, NOW, LEASE).await.unwrap().expect("it is due again");
    assert_eq!((again.receivers, again.tries), (receivers, 0));
}
