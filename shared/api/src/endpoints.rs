//! Single endpoints, for programs that serve one endpoint each: such a program needs only the permissions for it.

use std::sync::Arc;

use axum::routing::{delete, get, patch, post};
use axum::{Router, middleware};

use crate::middleware::{authenticate, with_common_layers};
use crate::state::{Api, prefix};
use crate::{docs, requests, service, tracker};

/// An endpoint, or a few that belong together.
#[derive(Debug)]
pub struct Endpoint {
    routes: Router<Arc<Api>>,
    /// Whether the routes are below the API's prefix.
    nested: bool,
    /// Whether callers must authenticate.
    known: bool,
}

impl Endpoint {
    /// Returns the routes with the same middleware as the whole API.
    pub fn serve(self, api: Arc<Api>) -> Router {
        let routes = if self.known {
            self.routes.layer(middleware::from_fn_with_state(api.clone(), authenticate))
        } else {
            self.routes
        };
        let nested = self.nested && !prefix(&api).is_empty();
        with_common_layers(if nested { Router::new().nest(prefix(&api), routes) } else { routes }, api)
    }
}

fn known(routes: Router<Arc<Api>>) -> Endpoint {
    Endpoint { routes, nested: true, known: true }
}

fn open(routes: Router<Arc<Api>>) -> Endpoint {
    Endpoint { routes, nested: false, known: false }
}

/// `POST /requests`.
pub fn create_request() -> Endpoint {
    known(Router::new().route("/requests", post(requests::create::create)))
}

/// `GET /requests`.
pub fn list_requests() -> Endpoint {
    known(Router::new().route("/requests", get(requests::list::list)))
}

/// `GET /requests/{id}`.
pub fn get_request() -> Endpoint {
    known(Router::new().route("/requests/{id}", get(requests::get::get)))
}

/// `PATCH /requests/{id}`.
pub fn update_request() -> Endpoint {
    known(Router::new().route("/requests/{id}", patch(requests::update::update)))
}

/// `DELETE /requests/{id}`.
pub fn cancel_request() -> Endpoint {
    known(Router::new().route("/requests/{id}", delete(requests::cancel::cancel)))
}

/// `DELETE /passkeys`.
pub fn revoke_passkeys() -> Endpoint {
    known(Router::new().route("/passkeys", delete(service::passkeys::revoke)))
}

/// `GET /requests/{id}/torrent`.
pub fn get_torrent() -> Endpoint {
    known(Router::new().route("/requests/{id}/torrent", get(requests::torrent::torrent)))
}

/// `GET /requests/{id}/magnet`.
pub fn get_magnet() -> Endpoint {
    known(Router::new().route("/requests/{id}/magnet", get(requests::magnet::magnet)))
}

/// `GET /requests/{id}/content`.
pub fn get_content() -> Endpoint {
    known(Router::new().route("/requests/{id}/content", get(requests::content::content)))
}

/// `GET /webseed/{id}/{key}`: the content for peers (webseed, BEP 19).
pub fn webseed() -> Endpoint {
    open(Router::new().route("/webseed/{id}/{key}", get(requests::content::webseed)))
}

/// `GET /health`.
pub fn health() -> Endpoint {
    Endpoint { nested: true, ..open(Router::new().route("/health", get(service::health::health))) }
}

/// `GET /announce` and `/scrape`.
pub fn tracker() -> Endpoint {
    open(Router::new().route("/announce", get(tracker::announce)).route("/scrape", get(tracker::scrape)))
}

/// `GET /docs/` and `/openapi.json`.
pub fn docs() -> Endpoint {
    let routes = Router::new().route("/docs", get(docs::docs)).route("/docs/", get(docs::index));
    open(routes.route("/docs/{file}", get(docs::file)).route("/openapi.json", get(docs::openapi)))
}

/// `GET /`.
pub fn page() -> Endpoint {
    open(Router::new().route("/", get(service::page::page)))
}
