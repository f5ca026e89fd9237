//! The router of the whole API, for a single process.

use std::sync::Arc;

use axum::routing::get;
use axum::{Router, middleware};

use crate::middleware::{authenticate, with_common_layers};
use crate::state::{Api, prefix};
use crate::{docs, openapi, requests, service, tracker};

/// Returns the router with all endpoints.
pub fn router(api: Arc<Api>) -> Router {
    let (known, open) = openapi::endpoints();
    let authenticated = || middleware::from_fn_with_state(api.clone(), authenticate);
    let endpoints = Router::from(known).layer(authenticated()).merge(Router::from(open));
    let routes = if prefix(&api).is_empty() { endpoints } else { Router::new().nest(prefix(&api), endpoints) };
    let routes = routes
        .route("/", get(service::page::page))
        .route("/docs", get(docs::docs))
        .route("/docs/", get(docs::index))
        .route("/docs/{file}", get(docs::file))
        .route("/openapi.json", get(docs::openapi))
        .route("/webseed/{id}/{key}", get(requests::content::webseed))
        // Metrics reveal the load of the service: authenticated callers only.
        .route("/metrics", get(service::metrics::metrics).layer(authenticated()))
        .route("/announce", get(tracker::announce))
        .route("/scrape", get(tracker::scrape));
    with_common_layers(routes, api)
}
