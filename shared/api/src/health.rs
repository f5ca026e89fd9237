//! Health checks for `GET /v1/health`: one per component, run in parallel, cached for a second.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The timeout of one check.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks one component. Returns details, or what is wrong. The endpoint is public: the result must contain no
/// secrets and no paths.
pub type HealthCheck = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>> + Send + Sync>;

/// How long a report is cached: however often clients poll, each check runs at most once a second.
const FRESH: Duration = Duration::from_secs(1);

/// The checks by name, and the cached report.
pub struct HealthChecks {
    checks: BTreeMap<&'static str, HealthCheck>,
    started: Instant,
    last: Mutex<Option<(Instant, Report)>>,
}

/// The overall result, and the result of each check.
#[derive(Clone)]
pub(crate) struct Report {
    pub healthy: bool,
    pub checks: Value,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self::new()
    }
}

impl HealthChecks {
    /// Returns an empty set of checks. The uptime starts now.
    pub fn new() -> Self {
        Self { checks: BTreeMap::new(), started: Instant::now(), last: Mutex::new(None) }
    }

    /// Returns the time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds a check.
    #[must_use]
    pub fn with<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Value, String>> + Send + 'static,
    {
        self.checks.insert(name, Box::new(move || Box::pin(check())));
        self
    }

    /// Returns a report that is at most a second old. Concurrent callers wait for the same run of the checks.
    pub(crate) async fn report(&self) -> Report {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        let results = join_all(self.checks.values().map(run)).await;
        let healthy = results.iter().all(|result| result["status"] != "unhealthy");
        let checks = self.checks.keys().zip(results).map(|(name, result)| ((*name).to_owned(), result)).collect();
        let report = Report { healthy, checks: Value::Object(checks) };
        *last = Some((Instant::now(), report.clone()));
        report
    }
}

async fn run(check: &HealthCheck) -> Value {
    let started = Instant::now();
    let mut entry = match timeout(PATIENCE, check()).await.unwrap_or_else(|_| Err("no response in time".into())) {
        Ok(Value::Object(details)) => json!(details),
        Ok(_) => json!({}),
        Err(detail) => json!({ "status": "unhealthy", "detail": detail }),
    };
    if entry.get("status").is_none() {
        entry["status"] = "healthy".into();
    }
    entry["latency_ms"] = domain::millis(started.elapsed()).into();
    entry
}

impl fmt::Debug for HealthChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.checks.keys()).finish()
    }
}
