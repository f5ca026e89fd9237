//! The metrics of this process, in the text format of Prometheus.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::Metrics;
use embedded::FolderContents;
use fetcher::Fetcher;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use metrics_process::Collector;
use rustix::fs::statvfs;
use seeder::SeedSession;

use super::workers::Queues;
use crate::error::CommandError;

/// Buckets of durations of HTTP requests, in seconds: from a look-up in memory to a long poll.
const HTTP_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0];

/// Buckets of durations of steps, in seconds: from a task that finds nothing to do to a transfer of hours.
const STEP_BUCKETS: [f64; 12] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// How often histograms drop what is too old, also if nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder. What is counted before is lost.
pub(super) fn start() -> Result<Recorder, CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Start(format!("cannot record metrics: {error}"));
    let http = Matcher::Full("proxytorrent_http_request_duration_seconds".into());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(http, &HTTP_BUCKETS).map_err(|e| failed(&e))?;
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &STEP_BUCKETS);
    let handle = builder.map_err(|e| failed(&e))?.install_recorder().map_err(|e| failed(&e))?;
    telemetry::metrics::describe(env!("CARGO_PKG_VERSION"));
    let process = Collector::default();
    process.describe();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Recorder { handle, process })
}

/// The installed recorder.
pub(super) struct Recorder {
    handle: metrics_exporter_prometheus::PrometheusHandle,
    process: Collector,
}

impl Recorder {
    /// The metrics that `/metrics` serves. Gauges are set when they are read.
    pub fn metrics(self, sources: Sources) -> Metrics {
        Metrics::new(move || {
            self.process.collect();
            sources.read();
            self.handle.render()
        })
    }
}

/// The parts of the process that gauges are read from.
pub(super) struct Sources {
    pub session: Arc<SeedSession>,
    pub queues: Queues,
    pub fetcher: Fetcher,
    pub contents: FolderContents,
    /// The folder of the contents.
    pub folder: PathBuf,
}

impl Sources {
    fn read(&self) {
        gauge!("proxytorrent_torrents_seeding").set(self.session.seeding() as f64);
        let seeder = self.session.statistics();
        gauge!("proxytorrent_peers").set(seeder.peers as f64);
        counter!("proxytorrent_uploaded_bytes_total").absolute(seeder.uploaded_bytes);
        for (step, queue) in self.queues.by_step() {
            gauge!("proxytorrent_tasks_waiting", "step" => step).set(queue.waiting() as f64);
            gauge!("proxytorrent_tasks_oldest_age_seconds", "step" => step).set(queue.oldest().as_secs_f64());
        }
        let proxies = self.fetcher.proxy_states();
        gauge!("proxytorrent_proxies", "state" => "available").set(proxies.available as f64);
        gauge!("proxytorrent_proxies", "state" => "cooling_down").set(proxies.cooling_down as f64);
        gauge!("proxytorrent_storage_used_bytes").set(self.contents.used_bytes() as f64);
        if let Ok(disk) = statvfs(&self.folder) {
            gauge!("proxytorrent_storage_free_bytes").set(disk.f_bavail.saturating_mul(disk.f_frsize) as f64);
        }
    }
}
