//! The metrics: names, labels and meaning in one table, the source of the descriptions and the documentation.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Counts up since the start of the process.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name, with its unit.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The labels.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

/// All metrics of this workspace, sorted by name.
pub const METRICS: &[Metric] = &[
    metric("proxytorrent_authentication_failures_total", Kind::Counter, &["what"], "Failed authentications"),
    metric("proxytorrent_build_info", Kind::Gauge, &["version"], "Always 1; the version is in the label"),
    metric(
        "proxytorrent_chunk_loads_total",
        Kind::Counter,
        &["result"],
        "Chunks read from the content store by the seeder",
    ),
    metric("proxytorrent_content_corrupt_total", Kind::Counter, &[], "Contents found damaged or missing"),
    metric("proxytorrent_fetched_bytes_total", Kind::Counter, &[], "Bytes of contents fetched"),
    metric(
        "proxytorrent_http_connections_refused_total",
        Kind::Counter,
        &[],
        "HTTP connections closed because too many were open",
    ),
    metric(
        "proxytorrent_http_request_duration_seconds",
        Kind::Histogram,
        &["method", "route"],
        "Time until the head of an HTTP response",
    ),
    metric("proxytorrent_http_requests_total", Kind::Counter, &["method", "route", "status"], "HTTP requests answered"),
    metric("proxytorrent_limited_total", Kind::Counter, &["limit"], "Requests refused by a rate limit on creations"),
    metric(
        "proxytorrent_notifications_total",
        Kind::Counter,
        &["receiver", "result"],
        "Tries to notify receivers of requests",
    ),
    metric("proxytorrent_peers", Kind::Gauge, &[], "Peers connected to the seeder"),
    metric(
        "proxytorrent_peers_not_connected_total",
        Kind::Counter,
        &[],
        "Announcing peers that the seeder did not connect to, because too many were waiting",
    ),
    metric(
        "proxytorrent_proxies",
        Kind::Gauge,
        &["state"],
        "Configured proxies: `available`, or `cooling_down` after a failure",
    ),
    metric("proxytorrent_requests_created_total", Kind::Counter, &[], "Requests created"),
    metric("proxytorrent_requests_failed_total", Kind::Counter, &["step", "code"], "Requests failed for good"),
    metric("proxytorrent_requests_ready_total", Kind::Counter, &[], "Requests that became ready"),
    metric("proxytorrent_retries_total", Kind::Counter, &["step", "code"], "Steps that failed and are retried"),
    metric(
        "proxytorrent_reused_total",
        Kind::Counter,
        &["what"],
        "Work saved: `request`, content not fetched again; `content`, content not stored again",
    ),
    metric("proxytorrent_scrubbed_bytes_total", Kind::Counter, &[], "Bytes of contents verified by the scrub"),
    metric("proxytorrent_step_duration_seconds", Kind::Histogram, &["step"], "Duration of steps"),
    metric("proxytorrent_step_errors_total", Kind::Counter, &["step"], "Steps that could not run and are retried"),
    metric("proxytorrent_steps_running", Kind::Gauge, &["step"], "Steps that are running"),
    metric("proxytorrent_storage_free_bytes", Kind::Gauge, &[], "Free bytes on the disk of the contents"),
    metric("proxytorrent_storage_used_bytes", Kind::Gauge, &[], "Bytes of all contents and unfinished uploads"),
    metric(
        "proxytorrent_tasks_oldest_age_seconds",
        Kind::Gauge,
        &["step"],
        "How long the oldest request that waits for a worker has waited",
    ),
    metric("proxytorrent_tasks_waiting", Kind::Gauge, &["step"], "Requests that wait for a worker"),
    metric(
        "proxytorrent_torrents_not_seeded",
        Kind::Gauge,
        &[],
        "Torrents that the seeder must seed and could not add, or not yet, since its last comparison with the database",
    ),
    metric("proxytorrent_torrents_seeding", Kind::Gauge, &[], "Torrents that are seeded"),
    metric("proxytorrent_unreadable_rows_total", Kind::Counter, &[], "Rows that could not be read"),
    metric("proxytorrent_uploaded_bytes_total", Kind::Counter, &[], "Bytes of contents sent to peers"),
    metric("proxytorrent_webseed_bytes_total", Kind::Counter, &[], "Bytes of contents sent by webseeds"),
];

/// Registers the description of every metric with the installed recorder. Counters without labels start at 0.
pub fn describe(version: &str) {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => {
                describe_counter!(metric.name, metric.help);
                if metric.labels.is_empty() {
                    counter!(metric.name).increment(0);
                }
            }
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
    gauge!("proxytorrent_build_info", "version" => version.to_owned()).set(1.0);
}

/// Returns the metrics as a Markdown table.
pub fn table() -> String {
    let line = |metric: &Metric| {
        let Metric { name, kind, labels, help } = metric;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(" "))
    };
    let lines: String = METRICS.iter().map(line).collect();
    format!("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n{lines}")
}
