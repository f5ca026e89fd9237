//! `GET /metrics`: metrics in the Prometheus text format, for authenticated callers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use crate::problem::Problem;
use crate::problem_code::ProblemCode;
use crate::state::Api;

pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    if let Some(metrics) = &api.metrics {
        return ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response();
    }
    let detail = "metrics are off: MONITORING__METRICS_ENABLED turns them on";
    Problem::new(ProblemCode::MetricsOff, detail).into_response()
}
