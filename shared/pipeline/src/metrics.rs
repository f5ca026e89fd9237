//! Metrics of steps, and counters of requests by result. The program installs the recorder of the `metrics` crate.

use std::time::Instant;

use domain::FailureCode;

/// Runs a step, measures its duration, and counts it if it fails. Returns its result.
pub async fn measured<T, E>(step: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let started = Instant::now();
    let result = work.await;
    ::metrics::histogram!("proxytorrent_step_duration_seconds", "step" => step).record(started.elapsed());
    if result.is_err() {
        ::metrics::counter!("proxytorrent_step_errors_total", "step" => step).increment(1);
    }
    result
}

/// Counts a failed step, by whether it is retried.
pub(crate) fn failed(step: &'static str, code: FailureCode, retried: bool) {
    let name = if retried { "proxytorrent_retries_total" } else { "proxytorrent_requests_failed_total" };
    ::metrics::counter!(name, "step" => step, "code" => code.as_str()).increment(1);
}

/// Counts a request that became ready.
pub(crate) fn ready() {
    ::metrics::counter!("proxytorrent_requests_ready_total").increment(1);
}
