//! `GET /v1/health`: whether the parts of the service answer.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::Api;

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the service is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `health` answers")]
pub(crate) struct Health {
    /// `healthy` or `unhealthy`.
    status: String,
    version: String,
    /// Seconds since the start.
    uptime: f64,
    /// Each part's `status`, `latency_ms` and details: database, proxy, seeder, storage, task_queue.
    #[schema(value_type = Object)]
    checks: BTreeMap<String, Value>,
}

/// Asks one part of the service whether it works: `Ok` with details, or what is wrong, for people who
/// need not be known: no secrets, no paths.
pub type HealthCheck = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>> + Send + Sync>;

/// The checks by name.
#[derive(Default)]
pub struct HealthChecks {
    checks: BTreeMap<&'static str, HealthCheck>,
    started: Option<Instant>,
}

impl HealthChecks {
    /// No checks, and an uptime that begins now.
    pub fn new() -> Self {
        Self { checks: BTreeMap::new(), started: Some(Instant::now()) }
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
}

impl fmt::Debug for HealthChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.checks.keys()).finish()
    }
}

#[utoipa::path(
    get,
    path = "/health",
    tag = "service",
    summary = "Ask whether the service works",
    security(()),
    responses(
        (status = 200, description = "Every part answers", body = Health),
        (status = 503, description = "Some part does not", body = Health)
    )
)]
pub(crate) async fn health(State(api): State<Arc<Api>>) -> (StatusCode, Json<Value>) {
    let mut checks = serde_json::Map::new();
    let mut healthy = true;
    for (name, check) in &api.health.checks {
        let started = Instant::now();
        let result = tokio::time::timeout(PATIENCE, check()).await.unwrap_or_else(|_| Err("no answer in time".into()));
        let latency_ms = started.elapsed().as_millis() as u64;
        let mut entry = match result {
            Ok(Value::Object(details)) => json!(details),
            Ok(_) => json!({}),
            Err(detail) => {
                healthy = false;
                json!({ "status": "unhealthy", "detail": detail })
            }
        };
        if entry.get("status").is_none() {
            entry["status"] = "healthy".into();
        }
        entry["latency_ms"] = latency_ms.into();
        checks.insert((*name).to_owned(), entry);
    }
    let body = json!({
        "status": if healthy { "healthy" } else { "unhealthy" },
        "version": api.server.app_version,
        "uptime": api.health.started.map_or(0.0, |started| started.elapsed().as_secs_f64()),
        "checks": checks,
    });
    (if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body))
}
