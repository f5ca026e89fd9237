//! `GET /`: who this is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::Api;

pub(crate) async fn root(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({
        "service": api.server.app_name,
        "version": api.server.app_version,
        "docs": "/docs",
        "openapi": "/openapi.json",
        "health": format!("{}/health", api.server.api_prefix.trim_end_matches('/')),
    }))
}
