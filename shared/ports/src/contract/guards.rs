//! The contract of [`Guards`](crate::Guards).

use std::time::Duration;

use futures::future::join_all;

use super::NOW;
use crate::Guards;

/// Runs the suite against what the function `$make` makes.
#[macro_export]
macro_rules! guards_contract {
    ($make:path) => {
        $crate::contract_tests!(guards, $make, of_many_users_of_a_key_one_wins, a_key_is_free_again_after_its_time);
    };
}

/// Fifty at once.
pub async fn of_many_users_of_a_key_one_wins<G: Guards>(guards: &G) {
    let until = NOW + Duration::from_secs(600);
    let used = join_all((0..50).map(|_| guards.use_once("a", NOW, until))).await;
    assert_eq!(used.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    assert!(guards.use_once("b", NOW, until).await.unwrap());
}

/// And not before.
pub async fn a_key_is_free_again_after_its_time<G: Guards>(guards: &G) {
    let until = NOW + Duration::from_secs(600);
    assert!(guards.use_once("a", NOW, until).await.unwrap());
    assert!(!guards.use_once("a", until - Duration::from_millis(1), until).await.unwrap());
    assert!(guards.use_once("a", until, until + Duration::from_secs(1)).await.unwrap());
}
