//! The routes, and what all of them share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use ports::{Clock, Contents, Guards, Requests, Swarm, TaskQueue, Torrents};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, debug, info_span};
use url::Url;
use utoipa::openapi::{OpenApi, Server};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::abuse::AbuseLimits;
use crate::auth::{self, Authenticator};
use crate::client_address::ClientAddress;
use crate::estimate::Estimate;
use crate::health::{self, HealthChecks};
use crate::limits::Limits;
use crate::metrics::{self, Metrics};
use crate::passkey::{self, Passkeys};
use crate::problem::Problem;
use crate::{browser, docs, requests, root, tracker};

/// The largest request body, in bytes: what a row of DynamoDB (400 KB) has room for beside everything else.
pub(crate) const MAX_BODY: usize = 256 * 1024;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the handlers work with.
#[expect(missing_docs, missing_debug_implementations, reason = "ports and settings document themselves")]
pub struct Api {
    pub requests: Arc<dyn Requests>,
    pub torrents: Arc<dyn Torrents>,
    pub contents: Arc<dyn Contents>,
    pub tasks: Arc<dyn TaskQueue>,
    pub guards: Arc<dyn Guards>,
    pub swarm: Arc<dyn Swarm>,
    pub clock: Arc<dyn Clock>,
    pub authenticator: Authenticator,
    pub passkeys: Passkeys,
    pub health: HealthChecks,
    /// `None`: they are off.
    pub metrics: Option<Metrics>,
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
    /// For how many seconds a ready request is kept that names no time; 0 is until it is cancelled.
    pub keep: u64,
    pub abuse: AbuseLimits,
    /// Whether the seeder connects to peers that announce themselves as downloading.
    pub connect_to_peers: bool,
    pub estimate: Estimate,
}

/// The endpoints that are described, without the prefix: those for known callers, and those for everybody.
fn endpoints() -> (OpenApiRouter<Arc<Api>>, OpenApiRouter<Arc<Api>>) {
    let known = OpenApiRouter::new()
        .routes(routes!(requests::list::list, requests::create::create))
        .routes(routes!(requests::get::get, requests::cancel::cancel, requests::update::update))
        .routes(routes!(requests::torrent::torrent))
        .routes(routes!(requests::magnet::magnet))
        .routes(routes!(requests::content::content))
        .routes(routes!(requests::events::events))
        .routes(routes!(passkey::revoke));
    // Whoever asks whether the service lives need not be known.
    (known, OpenApiRouter::new().routes(routes!(health::health)))
}

/// The prefix of the API's paths, without a slash at its end.
pub(crate) fn prefix(api: &Api) -> &str {
    api.server.api_prefix.trim_end_matches('/')
}

/// The path of PUBLIC_URL, without a slash at its end: a reverse proxy may serve the API below a path.
pub(crate) fn public_path(api: &Api) -> &str {
    api.public_url.path().trim_end_matches('/')
}

/// The description of the API.
pub(crate) fn describe(api: &Api) -> OpenApi {
    let (known, open) = endpoints();
    let mut document = docs::description(&api.server.app_name, &api.server.app_version);
    let endpoints = known.merge(open).into_openapi();
    if prefix(api).is_empty() {
        document.merge(endpoints);
    } else {
        document = document.nest(prefix(api), endpoints);
    }
    if !public_path(api).is_empty() {
        document.servers = Some(vec![Server::new(public_path(api))]);
    }
    docs::complete(&mut document, api.cache.max_ttl.get(), api.webhooks);
    if let Some(header) = api.authenticator.token_header() {
        docs::name_token_header(&mut document, header);
    }
    document
}

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    let (known, open) = endpoints();
    let authenticate = || middleware::from_fn_with_state(api.clone(), auth::authenticate);
    let endpoints = Router::from(known).layer(authenticate()).merge(Router::from(open));
    let routes = if prefix(&api).is_empty() { endpoints } else { Router::new().nest(prefix(&api), endpoints) };
    let routes = routes
        .route("/", get(root::root))
        .route("/docs", get(docs::docs))
        .route("/docs/", get(docs::index))
        .route("/docs/{file}", get(docs::file))
        .route("/openapi.json", get(docs::openapi))
        .route("/webseed/{id}/{key}", get(requests::content::webseed))
        // How much goes on here is not for everybody.
        .route("/metrics", get(metrics::metrics).layer(authenticate()))
        .route("/announce", get(tracker::announce))
        .route("/scrape", get(tracker::scrape));
    with_common_layers(routes, api)
}

/// What all answers have in common.
pub(crate) fn with_common_layers(routes: Router<Arc<Api>>, api: Arc<Api>) -> Router {
    let routes = routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(|_| {
            // What it was stands in the log: the panic's hook has written it.
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this service has made a mistake")
                .into_response()
        }));
    let routes = match browser::cors(&api.server.cors_origins, api.authenticator.token_header()) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(middleware::from_fn_with_state(api.clone(), request_middleware)).with_state(api)
}

/// Around every answer: its id, its log line, its problem's body.
async fn request_middleware(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let client = ClientAddress::of(request.extensions(), request.headers(), &api.trusted_proxies);
    request.extensions_mut().insert(client);
    // Not of the kind that requests have: strangers see it, and it is not to help them guess those.
    let id = Uuid::new_v4().to_string();
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    // Never the query: the tracker's holds a passkey. Nor a webseed's path, which is as good as one.
    let shown = if path.starts_with("/webseed/") { "/webseed/…" } else { &path };
    let span = info_span!("http", request_id = %id, method = %request.method(), path = shown);
    let started = Instant::now();
    let anybody = !api.authenticator.is_on();
    let served = if anybody { browser::check_host(request.headers(), &api.public_url) } else { Ok(()) };
    let mut response = match served {
        Ok(()) => next.run(request).instrument(span.clone()).await,
        Err(problem) => problem.into_response(),
    };
    browser::set_security_headers(response.headers_mut());
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.render(&mut response, &path);
    }
    let (status, took) = (response.status().as_u16(), started.elapsed());
    debug!(parent: &span, status, duration_ms = took.as_secs_f64() * 1000.0, "answered");
    metrics::answered(&method, route.as_ref().map(MatchedPath::as_str), status, took);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}
