//! Keeping a claim while long work goes on.

use std::pin::pin;
use std::time::{Duration, Instant};

use ports::{Claim, Clock, Requests, StoreError};
use tracing::warn;

use crate::LEASE;

/// How often progress is shown and a cancel looked for.
const TICK: Duration = Duration::from_secs(1);

/// Does `work` to its end, keeping the lease meanwhile; also if the claim is lost on the way.
pub(crate) async fn during<T>(
    requests: &dyn Requests,
    clock: &dyn Clock,
    claim: &Claim,
    progress: u8,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = keep(requests, clock, claim, || progress) => work.await,
    }
}

/// Keeps the lease and shows the progress (0 to 100); returns when the claim is lost: cancelled, or
/// another's.
pub(crate) async fn keep(requests: &dyn Requests, clock: &dyn Clock, claim: &Claim, progress: impl Fn() -> u8) {
    let mut shown = claim.request.progress;
    let mut written = Instant::now();
    loop {
        tokio::time::sleep(TICK).await;
        let now = clock.now();
        let percent = progress();
        // By the monotonic clock: the other one may be set.
        let lost = if percent != shown || written.elapsed() >= LEASE / 3 {
            (shown, written) = (percent, Instant::now());
            match requests.heartbeat(claim, percent, now, LEASE).await {
                Err(StoreError::ClaimLost) => true,
                Err(error) => {
                    warn!(%error, request.id = %claim.request.id, "the lease was not extended");
                    false
                }
                Ok(()) => false,
            }
        } else {
            let row = requests.get(claim.request.id).await;
            row.is_ok_and(|row| row.is_none_or(|row| row.status.is_final()))
        };
        if lost {
            return;
        }
    }
}
