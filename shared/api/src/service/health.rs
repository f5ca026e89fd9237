//! `GET /v1/health`: whether the parts of the service work.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::health::Report;
use crate::state::Api;

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
    let Report { healthy, checks } = api.health.report().await;
    let body = json!({
        "status": if healthy { "healthy" } else { "unhealthy" },
        "version": api.server.app_version,
        "uptime": api.health.uptime().as_secs_f64(),
        "checks": checks,
    });
    (if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body))
}
