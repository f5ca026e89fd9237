//! Heartbeats: extends the lease of a claim during long work.

use std::pin::pin;
use std::time::{Duration, Instant};

use domain::Progress;
use ports::{Claim, Clock, Requests, StoreError};
use tracing::warn;

use crate::LEASE;

/// How often the progress is reported and a cancel noticed.
const TICK: Duration = Duration::from_secs(1);

/// How often the received bytes are reported while the percentage stays the same, as it does for a content of unknown
/// size.
pub(crate) const BYTES_INTERVAL: Duration = Duration::from_secs(3);

/// Runs `work` to its end while the lease is extended, also if the claim is lost meanwhile.
pub(crate) async fn during<T>(
    requests: &dyn Requests,
    clock: &dyn Clock,
    claim: &Claim,
    percent: u8,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = keep(requests, clock, claim, BYTES_INTERVAL, || percent.into()) => work.await,
    }
}

/// Extends the lease and reports the progress; received bytes at this interval. Returns when the claim is lost: the
/// request was cancelled, or another worker claimed it.
pub(crate) async fn keep(
    requests: &dyn Requests,
    clock: &dyn Clock,
    claim: &Claim,
    bytes_interval: Duration,
    progress: impl Fn() -> Progress,
) {
    let mut shown = Progress { percent: claim.request.progress, received: claim.request.received };
    let mut written = Instant::now();
    loop {
        // The interval of the checks.
        tokio::time::sleep(TICK).await;
        let now = clock.now();
        let current = progress();
        // The monotonic clock, since the wall clock may be set.
        let since = written.elapsed();
        let more_bytes = current.received.is_some_and(|received| Some(received) != shown.received);
        let due = current.percent != shown.percent || more_bytes && since >= bytes_interval || since >= LEASE / 3;
        let lost = if due {
            (shown, written) = (current, Instant::now());
            match requests.heartbeat(claim, current, now, LEASE).await {
                Err(StoreError::ClaimLost(_)) => true,
                Err(error) => {
                    warn!(%error, request.id = %claim.request.id, "lease not extended");
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
