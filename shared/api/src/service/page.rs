//! `GET /`: the name and version of the service, and links to its documentation.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::state::{Api, prefix, public_path};

pub(crate) async fn page(State(api): State<Arc<Api>>) -> Json<Value> {
    let base = public_path(&api);
    Json(json!({
        "service": api.server.app_name,
        "version": api.server.app_version,
        "docs": format!("{base}/docs"),
        "openapi": format!("{base}/openapi.json"),
        "health": format!("{base}{}/health", prefix(&api)),
    }))
}
