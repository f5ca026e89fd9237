//! The table of endpoints. The whole API serves all of them; a Lambda function serves one, and so needs only its
//! permissions.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, patch, post};
use axum::{Router, middleware};

use crate::middleware::{authenticate, with_common_layers};
use crate::state::{Api, prefix};
use crate::{docs, requests, service, tracker};

/// An endpoint, or a few that belong together.
#[derive(Debug)]
pub struct Endpoint {
    routes: Router<Arc<Api>>,
    /// Each route as `METHOD /path`.
    operations: Vec<&'static str>,
    /// Whether the routes are below the API's prefix.
    prefixed: bool,
    /// Whether callers must authenticate.
    authenticated: bool,
}

/// Every endpoint that a function can serve alone.
const ALONE: [fn() -> Endpoint; 13] = [
    list_requests,
    create_request,
    get_request,
    cancel_request,
    update_request,
    revoke_passkeys,
    get_torrent,
    get_magnet,
    get_content,
    health,
    tracker,
    docs,
    page,
];

/// Endpoints of a long-running process: a function cannot stream, and does not live long enough to count.
const OF_A_PROCESS: [fn() -> Endpoint; 4] = [events, metrics, webseed, download];

/// Returns every endpoint.
pub(crate) fn all() -> impl Iterator<Item = Endpoint> {
    ALONE.iter().chain(&OF_A_PROCESS).map(|endpoint| endpoint())
}

impl Endpoint {
    /// An endpoint of the API, for authenticated callers.
    fn of_api() -> Self {
        Self { routes: Router::new(), operations: vec![], prefixed: true, authenticated: true }
    }

    /// An endpoint for everybody, without the prefix of the API.
    fn public() -> Self {
        Self { prefixed: false, authenticated: false, ..Self::of_api() }
    }

    /// Adds a route, which is given as `METHOD /path`.
    fn route(mut self, operation: &'static str, handler: MethodRouter<Arc<Api>>) -> Self {
        let (_, path) = operation.split_once(' ').expect("a method and a path");
        self.routes = self.routes.route(path, handler);
        self.operations.push(operation);
        self
    }

    /// Returns the routes where the API has them, with authentication.
    pub(crate) fn routes(self, api: &Arc<Api>) -> Router<Arc<Api>> {
        let routes = if self.authenticated {
            self.routes.route_layer(middleware::from_fn_with_state(api.clone(), authenticate))
        } else {
            self.routes
        };
        let prefixed = self.prefixed && !prefix(api).is_empty();
        if prefixed { Router::new().nest(prefix(api), routes) } else { routes }
    }

    /// Returns the routes with the same middleware as the whole API.
    pub fn serve(self, api: Arc<Api>) -> Router {
        with_common_layers(self.routes(&api), api)
    }
}

/// `POST /requests` and `POST /requests/batch`.
pub fn create_request() -> Endpoint {
    Endpoint::of_api()
        .route("POST /requests", post(requests::create::create))
        .route("POST /requests/batch", post(requests::batch::batch))
}

/// `GET /requests`.
pub fn list_requests() -> Endpoint {
    Endpoint::of_api().route("GET /requests", get(requests::list::list))
}

/// `GET /requests/{id}`.
pub fn get_request() -> Endpoint {
    Endpoint::of_api().route("GET /requests/{id}", get(requests::get::get))
}

/// `PATCH /requests/{id}`.
pub fn update_request() -> Endpoint {
    Endpoint::of_api().route("PATCH /requests/{id}", patch(requests::update::update))
}

/// `DELETE /requests/{id}`.
pub fn cancel_request() -> Endpoint {
    Endpoint::of_api().route("DELETE /requests/{id}", delete(requests::cancel::cancel))
}

/// `DELETE /passkeys`.
pub fn revoke_passkeys() -> Endpoint {
    Endpoint::of_api().route("DELETE /passkeys", delete(service::passkeys::revoke))
}

/// `GET /requests/{id}/torrent`.
pub fn get_torrent() -> Endpoint {
    Endpoint::of_api().route("GET /requests/{id}/torrent", get(requests::torrent::torrent))
}

/// `GET /requests/{id}/magnet`.
pub fn get_magnet() -> Endpoint {
    Endpoint::of_api().route("GET /requests/{id}/magnet", get(requests::magnet::magnet))
}

/// `GET /requests/{id}/content` and `GET /requests/{id}/content-link`.
pub fn get_content() -> Endpoint {
    Endpoint::of_api()
        .route("GET /requests/{id}/content", get(requests::content::content))
        .route("GET /requests/{id}/content-link", get(requests::content_link::content_link))
}

/// `GET /requests/{id}/events` and `GET /requests/events`.
fn events() -> Endpoint {
    Endpoint::of_api()
        .route("GET /requests/{id}/events", get(requests::events::events))
        .route("GET /requests/events", get(requests::events::events_of_several))
}

/// `GET /download/{id}/{expires_at}/{key}`: the content, for a browser.
fn download() -> Endpoint {
    Endpoint::public().route("GET /download/{id}/{expires_at}/{key}", get(requests::content_link::download))
}

/// `GET /webseed/{id}/{key}`: the content, for peers.
fn webseed() -> Endpoint {
    Endpoint::public().route("GET /webseed/{id}/{key}", get(requests::webseed::webseed))
}

/// `GET /health`. Load balancers and monitors check it without credentials.
pub fn health() -> Endpoint {
    Endpoint { authenticated: false, ..Endpoint::of_api() }.route("GET /health", get(service::health::health))
}

/// `GET /metrics`. They reveal the load of the service, so callers must authenticate.
fn metrics() -> Endpoint {
    Endpoint { authenticated: true, ..Endpoint::public() }.route("GET /metrics", get(service::metrics::metrics))
}

/// `GET /announce` and `/scrape`.
pub fn tracker() -> Endpoint {
    Endpoint::public().route("GET /announce", get(tracker::announce)).route("GET /scrape", get(tracker::scrape))
}

/// `GET /docs/` and `/openapi.json`.
pub fn docs() -> Endpoint {
    Endpoint::public()
        .route("GET /docs", get(docs::docs))
        .route("GET /docs/", get(docs::index))
        .route("GET /docs/{file}", get(docs::file))
        .route("GET /openapi.json", get(docs::openapi))
}

/// `GET /` and `/page/{file}`: the web page.
pub fn page() -> Endpoint {
    Endpoint::public().route("GET /", get(service::page::page)).route("GET /page/{file}", get(service::page::file))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::openapi;

    #[test]
    fn the_description_has_every_endpoint_of_the_api() {
        let document = openapi::endpoints().into_openapi();
        let described: BTreeSet<_> = document
            .paths
            .paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = [
                    ("GET", &item.get),
                    ("POST", &item.post),
                    ("PUT", &item.put),
                    ("PATCH", &item.patch),
                    ("DELETE", &item.delete),
                ];
                methods
                    .into_iter()
                    .filter(|(_, operation)| operation.is_some())
                    .map(move |(method, _)| format!("{method} {path}"))
            })
            .collect();
        let of_api = all().filter(|endpoint| endpoint.prefixed);
        let served: BTreeSet<_> = of_api.flat_map(|endpoint| endpoint.operations).map(str::to_owned).collect();
        assert_eq!(described, served);
    }
}
