//! The routes, and what all of them share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use ports::{Clock, Guards, Requests, Swarm, Torrents, Wakeups};
use tracing::{Instrument, debug, info_span};
use url::Url;
use uuid::Uuid;

use crate::auth::{self, Authenticator};
use crate::client_address::ClientAddress;
use crate::estimate::Estimate;
use crate::health::{self, HealthChecks};
use crate::limits::Limits;
use crate::passkey::Passkeys;
use crate::problem::Problem;
use crate::{requests, root, tracker};

/// The largest request body, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the handlers work with.
#[expect(missing_docs, missing_debug_implementations, reason = "ports and settings document themselves")]
pub struct Api {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub wakeups: Arc<dyn Wakeups>,
    pub guards: Arc<dyn Guards>,
    pub swarm: Arc<dyn Swarm>,
    pub clock: Arc<dyn Clock>,
    pub authenticator: Authenticator,
    pub passkeys: Passkeys,
    pub health: HealthChecks,
    pub server: settings::Server,
    pub torrent: settings::Torrent,
    pub cache: settings::Cache,
    pub tracker: settings::Tracker,
    /// Whether requests may carry credentials for origins.
    pub allow_credentials: bool,
    pub limits: Limits,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the end of requests can be told to callback URLs.
    pub webhooks: bool,
    /// How clients reach this API; the base of what is handed out.
    pub public_url: Url,
    /// How peers reach the seeder.
    pub seeder_addresses: Vec<SocketAddr>,
    pub estimate: Estimate,
}

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    let v1 = Router::new()
        .route("/requests", post(requests::create::create))
        .route("/requests/{id}", get(requests::get::get).delete(requests::cancel::cancel))
        .route("/requests/{id}/torrent", get(requests::torrent::torrent))
        .route("/requests/{id}/magnet", get(requests::magnet::magnet))
        .layer(middleware::from_fn_with_state(api.clone(), auth::authenticate))
        // Whoever asks whether the service lives need not be known.
        .route("/health", get(health::health));
    let prefix = api.server.api_prefix.trim_end_matches('/');
    let routes = if prefix.is_empty() { v1 } else { Router::new().nest(prefix, v1) };
    routes
        .route("/", get(root::root))
        .route("/announce", get(tracker::announce))
        .route("/scrape", get(tracker::scrape))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), around))
        .with_state(api)
}

/// Around every answer: its id, its log line, its problem's body.
async fn around(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let client = ClientAddress::of(request.extensions(), request.headers(), &api.trusted_proxies);
    request.extensions_mut().insert(client);
    let id = Uuid::now_v7().to_string();
    let path = request.uri().path().to_owned();
    // Never the query: the tracker's holds a passkey.
    let span = info_span!("http", request_id = %id, method = %request.method(), path);
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.render(&mut response, &path);
    }
    let status = response.status().as_u16();
    debug!(parent: &span, status, duration_ms = started.elapsed().as_secs_f64() * 1000.0, "answered");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}
