//! Contract tests of [`Requests::apply`](crate::Requests::apply): a store must change a row exactly like
//! [`Transition::apply`](domain::Transition::apply) does in memory.

use std::time::Duration;

use domain::{
    ContentHash, FetchRequest, InfoHash, LeaseToken, Progress, Received, Receiver, RequestId, Status, Step, Timestamp,
    Transition, UserId,
};

use super::{LEASE, NOW, content, request};
use crate::{Applied, Condition, Requests};

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! transitions_contract {
    ($make:path) => {
        $crate::contract_tests!(
            transitions,
            $make,
            every_transition_has_the_same_effect_in_the_store_as_in_memory,
            a_transition_makes_the_notification_of_its_request_due,
            a_failed_condition_changes_nothing,
        );
    };
}

const LATER: Timestamp = Timestamp::from_millis(NOW.as_millis() + 5_000);

/// Creates a row and brings it to this status in the store, by the shortest sequence of transitions.
async fn row_in<R: Requests>(store: &R, status: Status, has_receiver: bool) -> FetchRequest {
    let mut row = request("alice", "https://example.org/");
    row.receivers = has_receiver.then_some(Receiver::Webhook).into_iter().collect();
    store.create(&row).await.unwrap();
    let (infohash, content) = (InfoHash::new([2; 20]), content(ContentHash::new([1; 32]), NOW));
    let received = Some(Received { bytes: 50, total: Some(100) });
    let to_ready = [
        Transition::claim(Step::Fetch, LeaseToken::new(), NOW + LEASE),
        // So that a transition that clears the received bytes has some to clear.
        Transition::heartbeat(Progress { percent: 40, received }, NOW + LEASE),
        Transition::fetched(content, NOW),
        Transition::packaged(infohash, None, NOW + LEASE),
        Transition::seeded(),
    ];
    let way: Vec<_> = match status {
        Status::Queued => vec![],
        Status::Fetching => to_ready[..2].to_vec(),
        Status::Packaging => to_ready[..3].to_vec(),
        Status::Seeding => to_ready[..4].to_vec(),
        Status::Ready => to_ready.to_vec(),
        Status::Expired => [&to_ready[..], &[Transition::expire(NOW)]].concat(),
        Status::Cancelled => [&to_ready[..3], &[Transition::cancel(NOW)]].concat(),
        Status::Failed => {
            let failure = domain::Failure::new(domain::FailureCode::TooLarge, "too large");
            [&to_ready[..2], &[Transition::fail(&row, failure, None, NOW)]].concat()
        }
    };
    for transition in way {
        let applied = store.apply(row.id, Condition::Always, &transition, NOW).await.unwrap();
        row = applied.done().unwrap_or_else(|| panic!("{} to reach {status}", transition.name));
    }
    assert_eq!(row.status, status);
    row
}

/// Tries every transition on a row in every status, with and without a receiver.
pub async fn every_transition_has_the_same_effect_in_the_store_as_in_memory<R: Requests>(store: &R) {
    for &status in Status::ALL {
        for has_receiver in [false, true] {
            let sample = request("alice", "https://example.org/");
            let examples = Transition::examples(&sample, &content(ContentHash::new([9; 32]), LATER), LATER);
            for transition in examples {
                let before = row_in(store, status, has_receiver).await;
                let applied = store.apply(before.id, Condition::Always, &transition, LATER).await.unwrap();
                let mut expected = before.clone();
                if transition.starts_from(status) {
                    transition.apply(&mut expected, LATER);
                    let row = applied.done().unwrap_or_else(|| panic!("{} from {status}", transition.name));
                    assert_eq!(row, expected, "{} from {status}", transition.name);
                } else {
                    let refused = match applied {
                        Applied::Refused(row) => row.is_none_or(|row| *row == before),
                        Applied::Done(..) => false,
                    };
                    assert!(refused, "{} does not start from {status}", transition.name);
                }
                let stored = store.get(before.id).await.unwrap().expect("the row");
                assert_eq!(stored, expected, "{} from {status}", transition.name);
            }
        }
    }
}

/// Only transitions that end a request or make it ready do, and only if it has receivers.
pub async fn a_transition_makes_the_notification_of_its_request_due<R: Requests>(store: &R) {
    let sample = request("alice", "https://example.org/");
    for transition in Transition::examples(&sample, &content(ContentHash::new([9; 32]), LATER), LATER) {
        for has_receiver in [false, true] {
            let row = row_in(store, transition.from[0], has_receiver).await;
            // The transitions to this status may already have made the notification due.
            if let Some(earlier) = store.claim_notification(row.id, NOW, LEASE).await.unwrap() {
                store.finish_notification(&earlier, None).await.unwrap();
            }
            store.apply(row.id, Condition::Always, &transition, LATER).await.unwrap().done().expect("the row");
            let due = store.claim_notification(row.id, LATER, LEASE).await.unwrap().is_some();
            assert_eq!(due, has_receiver && transition.notifies(), "{}", transition.name);
        }
    }
}

/// Tries each condition on a row whose status allows the transition.
pub async fn a_failed_condition_changes_nothing<R: Requests>(store: &R) {
    let (bob, cancel) = (UserId::new("bob"), Transition::cancel(LATER));
    let seen = row_in(store, Status::Queued, false).await;
    let claim = store.claim(seen.id, Step::Fetch, NOW, LEASE).await.unwrap().expect("a claim");
    let mut lost = claim.clone();
    lost.token = LeaseToken::new();
    let claimed = store.get(seen.id).await.unwrap().expect("the row");
    for condition in [
        Condition::Due,
        Condition::Held(&lost),
        Condition::OwnedBy(&bob),
        Condition::HasTorrent(InfoHash::new([9; 20])),
        Condition::Unchanged(&seen),
        // Refused because the row is claimed.
        Condition::Unchanged(&claimed),
    ] {
        let applied = store.apply(seen.id, condition, &cancel, NOW).await.unwrap();
        assert!(applied.done().is_none(), "{condition:?}");
        assert_eq!(store.get(seen.id).await.unwrap().as_ref(), Some(&claimed), "{condition:?}");
    }
    let absent = store.apply(RequestId::new(), Condition::Always, &cancel, NOW).await.unwrap();
    assert_eq!(absent, Applied::Refused(None));

    let ready = row_in(store, Status::Ready, false).await;
    let unchanged = Condition::Unchanged(&ready);
    let extended = store.apply(ready.id, unchanged, &Transition::extend_retention(LEASE), LATER).await.unwrap();
    assert!(extended.done().is_some());
    let again = store.apply(ready.id, unchanged, &Transition::extend_retention(LEASE), LATER).await.unwrap();
    assert!(again.done().is_none(), "the row has changed since");
    let held = Condition::Held(&claim);
    assert!(store.apply(claim.request.id, held, &cancel, LATER).await.unwrap().done().is_some());
    let owner = Condition::OwnedBy(&ready.owner);
    let torrent = Condition::HasTorrent(ready.infohash.expect("a torrent"));
    for condition in [owner, torrent] {
        let extend = Transition::extend_retention(Duration::from_secs(7));
        assert!(store.apply(ready.id, condition, &extend, LATER).await.unwrap().done().is_some(), "{condition:?}");
    }
}
