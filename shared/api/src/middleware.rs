//! The middleware around handlers: authentication, call ids, security headers, error bodies, access log, metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use domain::Principal;
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::LengthLimitError;
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, info, info_span};
use uuid::Uuid;

use crate::abuse::TOO_MANY_READS;
use crate::client_address::ClientAddress;
use crate::limits::MAX_BODY;
use crate::problem::Problem;
use crate::problem_code::ProblemCode;
use crate::state::Api;
use crate::{auth, browser, metrics};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Adds the middleware and fallbacks that all endpoints share.
pub(crate) fn with_common_layers(routes: Router<Arc<Api>>, api: Arc<Api>) -> Router {
    let routes = routes
        .fallback(async || Problem::new(ProblemCode::NotFound, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(ProblemCode::MethodNotAllowed, "this path does not support this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(|_| {
            // The panic hook has logged the cause.
            Problem::new(ProblemCode::Internal, "internal error of this service").into_response()
        }));
    let routes = match browser::cors(&api.server.cors_origins, api.authenticator.token_header()) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(middleware::from_fn_with_state(api.clone(), request_middleware)).with_state(api)
}

/// Wraps every call: sets its id and the security headers, renders errors, writes the access log and the metrics.
async fn request_middleware(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let client = ClientAddress::of(request.extensions(), request.headers(), &api.trusted_proxies);
    request.extensions_mut().insert(client);
    // A UUIDv4, not a UUIDv7 as requests have: strangers see it, and it must not help them guess request ids.
    let id = Uuid::new_v4().to_string();
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    // Never log the query, which contains the passkey in tracker URLs, or a path that contains a key.
    let shown = without_key(&path);
    let span = info_span!("http", request_id = %id, method = %request.method(), path = shown);
    let started = Instant::now();
    let anybody = !api.authenticator.is_on();
    let served = if anybody { browser::check_host(request.headers(), &api.public_url) } else { Ok(()) };
    let mut response = match served {
        Ok(()) => next.run(request).instrument(span).await,
        Err(problem) => problem.into_response(),
    };
    browser::set_security_headers(response.headers_mut());
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.render(&mut response, &path);
    }
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let route = route.as_ref().map(MatchedPath::as_str);
    if api.access_log {
        let user = response.extensions_mut().remove::<Principal>().map(|principal| principal.user);
        info!(
            %method,
            route = route.unwrap_or(shown),
            status,
            duration_ms = took.as_secs_f64() * 1000.0,
            request_id = id,
            user = user.as_ref().map(tracing::field::display),
            client = client.0.map(tracing::field::display),
            "call completed"
        );
    }
    // On AWS, API Gateway counts calls.
    if api.metrics.is_some() {
        metrics::answered(&method, route, status, took);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

/// Returns the path for the log: without the key in the paths of webseeds and download links.
fn without_key(path: &str) -> &str {
    let secret = ["/webseed/", "/download/"].into_iter().find(|start| path.starts_with(start));
    secret.unwrap_or(path)
}

/// Authenticates the caller, and puts the [`Principal`] into the extensions of the call.
pub(crate) async fn authenticate(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let client = parts.extensions.get().copied().unwrap_or(ClientAddress(None)).0;
    if api.authenticator.is_on()
        && let Err(too_many) = api.abuse.check_failures(client)
    {
        let detail = "too many failed authentications from your address; try again later";
        return too_many.problem(detail).into_response();
    }
    if api.authenticator.is_nobody(&parts) {
        // A call without a token is not a guess: it does not count as a failure.
        if !api.authenticator.shows_token(&parts.headers) {
            return Problem::missing_credentials().into_response();
        }
        api.abuse.count_failure(client, "token");
        return Problem::wrong_credentials().into_response();
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY as u64) {
        return too_large().into_response();
    }
    // The signature covers the body: it is read before the check.
    let patience = Duration::from_secs(api.server.client_timeout.get());
    let Ok(body) = timeout(patience, axum::body::to_bytes(body, MAX_BODY)).await else {
        let detail = "the body was not received in time (CLIENT_TIMEOUT)";
        return Problem::new(ProblemCode::BodyTimeout, detail).into_response();
    };
    let body = match body {
        Ok(body) => body,
        Err(error) if is_length_limit(&error) => return too_large().into_response(),
        Err(_) => {
            let detail = "the body could not be read: it ended too early, or its chunks are malformed";
            return Problem::new(ProblemCode::MalformedBody, detail).into_response();
        }
    };
    match api.authenticator.check(&parts, &body, &*api.guards, &*api.clock).await {
        Err(problem) => {
            if problem.status() == StatusCode::UNAUTHORIZED {
                api.abuse.count_failure(client, if auth::is_signed(&parts.headers) { "signature" } else { "token" });
            }
            problem.into_response()
        }
        Ok(principal) => {
            if parts.method != Method::POST
                && let Err(too_many) = api.abuse.count_read(&principal.user)
            {
                return too_many.problem(TOO_MANY_READS).into_response();
            }
            parts.extensions.insert(principal.clone());
            let mut response = next.run(Request::from_parts(parts, Body::from(body))).await;
            // The access log shows the user.
            response.extensions_mut().insert(principal);
            response
        }
    }
}

fn too_large() -> Problem {
    let detail = format!("the body must have at most {MAX_BODY} bytes");
    Problem::new(ProblemCode::BodyTooLarge, detail)
}

/// Whether reading a body failed because it is larger than the limit.
fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<LengthLimitError>)
}
