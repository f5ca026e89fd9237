//! Counters of requests by result. The program installs the recorder of the `metrics` crate.

use domain::FailureCode;

/// Counts a failed step, by whether it is retried.
pub(crate) fn failed(step: &'static str, code: FailureCode, retried: bool) {
    let name = if retried { "proxytorrent_retries_total" } else { "proxytorrent_requests_failed_total" };
    ::metrics::counter!(name, "step" => step, "code" => code.as_str()).increment(1);
}

/// Counts a request that became ready.
pub(crate) fn ready() {
    ::metrics::counter!("proxytorrent_requests_ready_total").increment(1);
}
