//! Retries: exponential back-off with jitter.

use std::time::Duration;

use domain::{Failure, FailureCode, FetchRequest, Timestamp};
use ports::StoreError;

/// The most retries of a step that failed because of one of our stores.
const INTERNAL_RETRIES: u32 = 10;

/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Returns when a failed step is retried, or `None` if it is not: after an exponential back-off with jitter in its upper
/// half, so that many retries do not coincide, and no sooner than the origin asked for.
pub(crate) fn next_try(
    request: &FetchRequest,
    failure: &Failure,
    retry_after: Option<Duration>,
    max_retries: u32,
    now: Timestamp,
) -> Option<Timestamp> {
    let allowed = if failure.code == FailureCode::Internal { INTERNAL_RETRIES } else { max_retries };
    if !failure.code.is_retryable() || request.retry_count >= allowed {
        return None;
    }
    let wait = Duration::from_secs(1) * 2_u32.saturating_pow(request.retry_count.min(20));
    let wait = wait.min(LONGEST).mul_f64(rand::random_range(0.5..1.0));
    Some(now + wait.max(retry_after.unwrap_or_default().min(LONGEST)))
}

/// The error of a store as a failure of the request. The log has its text, the owner does not see it.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    if error.is_full() {
        return Failure::new(FailureCode::StorageFull, "the content does not fit on this service's disk");
    }
    tracing::error!(%error, "store failed");
    Failure::new(FailureCode::Internal, "a store of this service failed; see the log of the service")
}

/// Another error of this service as a failure of the request. The log has its text, the owner does not see it.
pub(crate) fn internal_failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    tracing::error!(error, "step failed");
    Failure::new(FailureCode::Internal, "this service failed; see its log")
}

#[cfg(test)]
mod tests {
    use domain::{FetchSpec, Method, TorrentFormat, UserId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn request(retry_count: u32) -> FetchRequest {
        let spec = FetchSpec {
            url: "http://example.org/".parse().unwrap(),
            method: Method::Get,
            headers: vec![],
            body: None,
            sha256: None,
            format: TorrentFormat::V1,
            ttl: Duration::from_secs(1),
            callback_url: None,
            webseed: true,
        };
        let request = FetchRequest::new(UserId::anonymous(), None, spec, Duration::from_secs(1), NOW);
        FetchRequest { retry_count, ..request }
    }

    fn wait(retry_count: u32, code: FailureCode, retry_after: Option<u64>) -> Option<Duration> {
        let retry_after = retry_after.map(Duration::from_secs);
        next_try(&request(retry_count), &Failure::new(code, ""), retry_after, 3, NOW).map(|at| at.since(NOW))
    }

    #[test]
    fn waits_double_and_end() {
        for retry in 0..3 {
            let whole = Duration::from_secs(1 << retry);
            let waited = wait(retry, FailureCode::ReadTimeout, None).unwrap();
            assert!(whole / 2 <= waited && waited <= whole, "{retry}: {waited:?}");
        }
        assert_eq!(wait(3, FailureCode::ReadTimeout, None), None);
        assert!(wait(3, FailureCode::Internal, None).is_some(), "our own failures are retried more often");
    }

    #[test]
    fn final_failures_are_not_tried_again() {
        assert_eq!(wait(0, FailureCode::TooLarge, None), None);
    }

    #[test]
    fn the_origins_wish_is_honoured_within_reason() {
        assert_eq!(wait(0, FailureCode::OriginUnavailable, Some(90)), Some(Duration::from_secs(90)));
        assert_eq!(wait(0, FailureCode::OriginUnavailable, Some(1 << 40)), Some(LONGEST));
    }
}
