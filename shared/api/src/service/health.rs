//! `GET /v1/health`: the health of the service and its components.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::health::Report;
use crate::state::Api;

/// The health of the service.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `health` returns")]
pub(crate) struct Health {
    /// `healthy` or `unhealthy`.
    status: String,
    version: String,
    /// The uptime in seconds.
    uptime: f64,
    /// The `status`, `latency_ms` and details of each component: database, proxy, seeder, storage, task_queue.
    #[schema(value_type = Object)]
    checks: BTreeMap<String, Value>,
}

#[utoipa::path(
    get,
    path = "/health",
    tag = "service",
    summary = "Check the health of the service",
    security(()),
    responses(
        (status = 200, description = "Every component is healthy", body = Health),
        (status = 503, description = "At least one component is unhealthy", body = Health)
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
