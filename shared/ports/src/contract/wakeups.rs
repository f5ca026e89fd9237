//! The contract of [`Wakeups`](crate::Wakeups).

use std::time::Duration;

use domain::RequestId;

use crate::{Wakeup, Wakeups};

/// Sends two wake-ups, the second of which is to arrive last; the backend's test receives them.
pub async fn send_a_late_and_an_early_one<W: Wakeups>(wakeups: &W) -> [Wakeup; 2] {
    let (late, early) = (Wakeup::Fetch(RequestId::new()), Wakeup::Package(RequestId::new()));
    wakeups.wake(late, Duration::from_secs(1)).await.unwrap();
    wakeups.wake(early, Duration::ZERO).await.unwrap();
    [early, late]
}
