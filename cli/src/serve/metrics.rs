//! The metrics of this process, in Prometheus' text format.

use std::sync::Arc;
use std::time::Duration;

use api::Metrics;
use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use seeder::SeedSession;

use crate::error::CommandError;

/// Seconds: from a quick answer to a long transfer.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// How often histograms are cleared of what was measured, also where nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Begins to count. What is counted before is lost.
pub(super) fn start(session: Arc<SeedSession>) -> Result<Metrics, CommandError> {
    let failed = |why: &dyn std::fmt::Display| CommandError::Start(format!("cannot count metrics: {why}"));
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS);
    let handle = builder.map_err(|e| failed(&e))?.install_recorder().map_err(|e| failed(&e))?;
    describe();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics::new(move || {
        gauge!("proxytorrent_torrents_seeding").set(session.seeding() as f64);
        handle.render()
    }))
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("proxytorrent_requests_created_total", "Requests taken on");
    describe_counter!("proxytorrent_requests_ready_total", "Requests that became ready");
    describe_counter!("proxytorrent_requests_failed_total", "Requests that failed, by step and error code");
    describe_counter!("proxytorrent_retries_total", "Steps to be tried again, by step and error code");
    describe_counter!("proxytorrent_fetched_bytes_total", "Bytes of content fetched");
    describe_counter!(
        "proxytorrent_reused_total",
        "What was there already: a request's content, not fetched; a content, not stored"
    );
    describe_counter!("proxytorrent_limited_total", "Requests refused for their rate, by limit");
    describe_counter!("proxytorrent_http_requests_total", "HTTP requests answered, by method, route and status");
    describe_histogram!("proxytorrent_http_request_duration_seconds", "Time to the head of the answer");
    describe_histogram!("proxytorrent_step_duration_seconds", "Time that a step took");
    describe_counter!("proxytorrent_step_errors_total", "Steps that could not run, and are tried again");
    describe_gauge!("proxytorrent_steps_running", "Steps that are running");
    describe_gauge!("proxytorrent_torrents_seeding", "Torrents that are seeded");
}
