//! Prometheus metrics: the handle that renders them, and the metrics of HTTP calls.

use std::fmt;
use std::time::Duration;

/// A handle that renders the current metrics. The program installs the recorder, which the `metrics` crate finds.
pub struct Metrics(Box<dyn Fn() -> String + Send + Sync>);

impl Metrics {
    /// Creates a handle that renders the metrics with `render`.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Box::new(render))
    }

    /// Returns the metrics in the Prometheus text format.
    pub(crate) fn render(&self) -> String {
        (self.0)()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Records an HTTP call. `route` is the pattern of the route, not the path: labels must have few values.
pub(crate) fn answered(method: &http::Method, route: Option<&str>, status: u16, took: Duration) {
    let method = match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        http::Method::PATCH => "PATCH",
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
