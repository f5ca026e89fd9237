//! `GET /metrics`: how the service does, in Prometheus' text format, for known callers.

use std::fmt;
use std::time::Duration;

/// What the metrics are now. The recorder is the program's: the `metrics` crate finds it.
pub struct Metrics(Box<dyn Fn() -> String + Send + Sync>);

impl Metrics {
    /// Metrics that `render` writes.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Box::new(render))
    }

    /// The metrics as text.
    pub(crate) fn render(&self) -> String {
        (self.0)()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Notes an answer. `route` is the path as the router knows it, so that there are few.
pub(crate) fn answered(method: &http::Method, route: Option<&str>, status: u16, took: Duration) {
    let method = match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        http::Method::DELETE => "DELETE",
        _ => "other",
    };
    let route = route.unwrap_or("none").to_owned();
    metrics::counter!(
        "proxytorrent_http_requests_total", "method" => method, "route" => route.clone(), "status" => status.to_string()
    )
    .increment(1);
    metrics::histogram!("proxytorrent_http_request_duration_seconds", "method" => method, "route" => route)
        .record(took.as_secs_f64());
}
