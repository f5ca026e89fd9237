//! The seeder's own HTTP server (`SEEDER__HTTP`): health, metrics, and the listen port.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::listen::parse_port;
use crate::sessions::SeedSessions;

/// The most bytes in the body of a call: a few ports.
const MAX_BODY: usize = 1024;

/// What the process adds to the seeder's responses.
pub struct Process {
    /// Returns members of the response of `/health`, in addition to those of the sessions.
    pub health: Box<dyn Fn() -> Value + Send + Sync>,
    /// Returns the metrics in the text format of Prometheus; `None`: metrics are off.
    pub metrics: Option<Box<dyn Fn() -> String + Send + Sync>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

struct Server {
    sessions: Arc<SeedSessions>,
    process: Process,
}

/// Returns the routes of the server. They need the address of the client ([`ConnectInfo`]).
pub fn router(sessions: Arc<SeedSessions>, process: Process) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/listen-port", put(set_listen_port).post(set_listen_port))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(refuse_rebinding))
        .with_state(Arc::new(Server { sessions, process }))
}

/// Refuses calls from this machine under a host name other than `localhost`: a web page could use one that resolves to a
/// loopback address (DNS rebinding).
async fn refuse_rebinding(ConnectInfo(client): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_literal = host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_local = host.split(':').next() == Some("localhost");
    if client.ip().to_canonical().is_loopback() && !is_literal && !is_local {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "use an IP address or localhost");
    }
    next.run(request).await
}

/// `GET /health`. 503 if a session has no open listen socket.
async fn health(State(server): State<Arc<Server>>) -> Response {
    let sessions = &server.sessions;
    let is_listening = sessions.is_listening().await;
    let status = if is_listening { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut health = json!({
        "status": if is_listening { "healthy" } else { "unhealthy" },
        "torrents": sessions.seeding(),
        "peers": sessions.statistics().peers,
        "addresses": sessions.endpoints().borrow().addresses().collect::<Vec<_>>(),
    });
    if let (Value::Object(health), Value::Object(more)) = (&mut health, (server.process.health)()) {
        health.extend(more);
    }
    (status, Json(health)).into_response()
}

/// `GET /metrics`.
async fn metrics(State(server): State<Arc<Server>>) -> Response {
    match &server.process.metrics {
        Some(metrics) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics()).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "metrics are off (MONITORING__METRICS_ENABLED)"),
    }
}

/// `PUT /listen-port` and `POST /listen-port`, with the port as the body. gluetun can send a POST only.
async fn set_listen_port(
    State(server): State<Arc<Server>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: String,
) -> Response {
    // A browser sends `Origin`, and a reverse proxy the other ones.
    let is_direct = ["origin", "forwarded", "x-forwarded-for"].iter().all(|name| !headers.contains_key(*name));
    if !client.ip().to_canonical().is_loopback() || !is_direct {
        return refuse(StatusCode::FORBIDDEN, "only programs on this machine can change the listen port");
    }
    let Some(port) = parse_port(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "send the port as the body: a number from 1 to 65535");
    };
    // The change must go on if the client disconnects.
    let sessions = server.sessions.clone();
    let changed = tokio::spawn(async move { sessions.set_listen_port(port).await }).await;
    let Ok(changed) = changed else { return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the change failed") };
    match changed {
        Ok(()) => Json(json!({ "addresses": server.sessions.endpoints().borrow().addresses().collect::<Vec<_>>() }))
            .into_response(),
        Err(error) => refuse(StatusCode::CONFLICT, &error.to_string()),
    }
}

/// Returns an error in the format of RFC 9457.
fn refuse(status: StatusCode, detail: &str) -> Response {
    let problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    (status, [(CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}
