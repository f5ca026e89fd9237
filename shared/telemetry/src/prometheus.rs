//! The recorder of metrics, in the text format of Prometheus.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// Buckets of durations of HTTP requests, in seconds: from a look-up in memory to a long poll.
const HTTP_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0];

/// Buckets of durations of steps, in seconds: from a task that finds nothing to do to a transfer of hours.
const STEP_BUCKETS: [f64; 12] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// How often histograms drop what is too old, also if nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// The installed recorder.
pub struct Recorder {
    handle: PrometheusHandle,
    process: Collector,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Installs the recorder of this process, a program of this version. What is counted before is lost. Must be called in
    /// a Tokio runtime.
    pub fn install(version: &str) -> Result<Self, BuildError> {
        let http = Matcher::Full("proxytorrent_http_request_duration_seconds".into());
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(http, &HTTP_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &STEP_BUCKETS)?
            .install_recorder()?;
        crate::metrics::describe(version);
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
        Ok(Self { handle, process })
    }

    /// Returns the metrics.
    pub fn render(&self) -> String {
        self.process.collect();
        self.handle.render()
    }
}
