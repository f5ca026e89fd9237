//! The router of the whole API, for a single process.

use std::sync::Arc;

use axum::Router;

use crate::endpoints;
use crate::middleware::with_common_layers;
use crate::state::Api;

/// Returns the router with all endpoints.
pub fn router(api: Arc<Api>) -> Router {
    let routes = endpoints::all().fold(Router::new(), |routes, endpoint| routes.merge(endpoint.routes(&api)));
    with_common_layers(routes, api)
}
