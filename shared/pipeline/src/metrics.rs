//! Counters of what becomes of requests. The recorder is the program's: the `metrics` crate finds it.

use domain::FailureCode;

/// A step failed; finally, or to be tried again.
pub(crate) fn failed(step: &'static str, code: FailureCode, retried: bool) {
    let name = if retried { "proxytorrent_retries_total" } else { "proxytorrent_requests_failed_total" };
    ::metrics::counter!(name, "step" => step, "code" => code.as_str()).increment(1);
}

/// A request became ready.
pub(crate) fn ready() {
    ::metrics::counter!("proxytorrent_requests_ready_total").increment(1);
}
