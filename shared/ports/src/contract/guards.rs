//! Contract tests of [`Guards`](crate::Guards).

use std::time::Duration;

use futures::future::join_all;

use super::NOW;
use crate::{Guards, Limit};

/// Runs the suite against the backend that the function `$make` returns.
#[macro_export]
macro_rules! guards_contract {
    ($make:path) => {
        $crate::contract_tests!(
            guards,
            $make,
            of_concurrent_uses_of_a_key_one_succeeds,
            a_key_can_be_used_again_after_it_expires,
            a_reserved_value_is_returned_to_later_callers,
            of_concurrent_uses_exactly_the_limit_passes,
            the_window_slides,
            a_use_refused_by_one_limit_counts_for_none,
            windows_of_one_key_slide_independently,
        );
    };
}

const MINUTE: Duration = Duration::from_secs(60);

fn limit(key: &str, max: u32, window: Duration) -> Limit {
    Limit { key: key.into(), max, window }
}

/// Fifty concurrent calls.
pub async fn of_concurrent_uses_of_a_key_one_succeeds<G: Guards>(guards: &G) {
    let until = NOW + Duration::from_secs(600);
    let used = join_all((0..50).map(|_| guards.use_once("a", NOW, until))).await;
    assert_eq!(used.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    assert!(guards.use_once("b", NOW, until).await.unwrap());
}

/// Not earlier than `until`.
pub async fn a_key_can_be_used_again_after_it_expires<G: Guards>(guards: &G) {
    let until = NOW + Duration::from_secs(600);
    assert!(guards.use_once("a", NOW, until).await.unwrap());
    assert!(!guards.use_once("a", until - Duration::from_millis(1), until).await.unwrap());
    assert!(guards.use_once("a", until, until + Duration::from_secs(1)).await.unwrap());
}

/// Until the value is replaced, released or expired.
pub async fn a_reserved_value_is_returned_to_later_callers<G: Guards>(guards: &G) {
    let until = NOW + MINUTE;
    assert_eq!(guards.reserve("a", "one", NOW, until).await.unwrap(), None);
    assert_eq!(guards.reserve("a", "two", NOW, until).await.unwrap().as_deref(), Some("one"));
    let replaced = join_all((0..10).map(|_| guards.replace("a", "one", "three", until + MINUTE))).await;
    assert_eq!(replaced.into_iter().filter(|replaced| *replaced.as_ref().unwrap()).count(), 1);
    assert!(!guards.replace("b", "one", "three", until).await.unwrap(), "the key has no value");
    assert_eq!(guards.reserve("a", "four", until, until + MINUTE).await.unwrap().as_deref(), Some("three"));
    guards.release("a").await.unwrap();
    assert_eq!(guards.reserve("a", "five", NOW, until).await.unwrap(), None);
    assert_eq!(guards.value("a", NOW).await.unwrap().as_deref(), Some("five"));
    assert_eq!(guards.value("a", until).await.unwrap(), None, "it has expired");
    assert_eq!(guards.value("never", NOW).await.unwrap(), None);
}

/// Two hundred concurrent calls.
pub async fn of_concurrent_uses_exactly_the_limit_passes<G: Guards>(guards: &G) {
    let limits = [limit("a", 60, MINUTE)];
    let taken = join_all((0..200).map(|_| guards.acquire(&limits, NOW))).await;
    let allowed: Vec<_> = taken.into_iter().map(Result::unwrap).filter(|taken| taken.allowed).collect();
    assert_eq!(allowed.len(), 60);
    let mut used: Vec<_> = allowed.iter().map(|taken| taken.usage[0].used).collect();
    used.sort_unstable();
    assert_eq!(used, (1..=60).collect::<Vec<_>>());
    assert!(
        guards.acquire(&[limit("b", 60, MINUTE)], NOW).await.unwrap().allowed,
        "limits of different keys are independent"
    );
}

/// A use counts until the window has passed since it: windows are not aligned to the minute.
pub async fn the_window_slides<G: Guards>(guards: &G) {
    let limits = [limit("a", 2, MINUTE)];
    let take = async |at| guards.acquire(&limits, NOW + Duration::from_secs(at)).await.unwrap();
    assert!(take(0).await.allowed);
    assert!(take(50).await.allowed);
    let refused = take(59).await;
    assert_eq!((refused.allowed, refused.usage[0].used), (false, 2));
    assert!((1..=2).contains(&refused.usage[0].retry_after.as_secs()), "{refused:?}");
    assert!(take(62).await.allowed);
    assert!(!take(109).await.allowed);
    assert!(take(112).await.allowed);
}

/// A use counts for all limits or for none.
pub async fn a_use_refused_by_one_limit_counts_for_none<G: Guards>(guards: &G) {
    let (wide, narrow) = (limit("wide", 10, MINUTE), limit("narrow", 1, MINUTE));
    let both = [wide.clone(), narrow];
    assert!(guards.acquire(&both, NOW).await.unwrap().allowed);
    for _ in 0..20 {
        let refused = guards.acquire(&both, NOW).await.unwrap();
        assert_eq!((refused.allowed, refused.usage[0].used, refused.usage[1].used), (false, 1, 1));
    }
    for used in 2..=10 {
        let taken = guards.acquire(std::slice::from_ref(&wide), NOW).await.unwrap();
        assert_eq!((taken.allowed, taken.usage[0].used), (true, used));
    }
    assert!(!guards.acquire(&[wide], NOW).await.unwrap().allowed);
}

/// With windows of a minute and an hour.
pub async fn windows_of_one_key_slide_independently<G: Guards>(guards: &G) {
    let limits = [limit("a", 2, MINUTE), limit("a", 3, MINUTE * 60)];
    let take = async |at| {
        let taken = guards.acquire(&limits, NOW + Duration::from_secs(at)).await.unwrap();
        (taken.allowed, taken.usage[0].used, taken.usage[1].used)
    };
    assert_eq!(take(0).await, (true, 1, 1));
    assert_eq!(take(1).await, (true, 2, 2));
    assert_eq!(take(2).await, (false, 2, 2));
    assert_eq!(take(70).await, (true, 1, 3));
    assert_eq!(take(140).await, (false, 0, 3));
    assert_eq!(take(3_650).await, (true, 1, 2));
}
