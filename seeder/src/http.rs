//! The seeder's own HTTP server (`SEEDER__HTTP`): health, metrics, and the listen port.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tracing::error;

use crate::listen::parse_port;
use crate::session::SeedSession;

/// The most bytes in the body of a call: a few ports.
const MAX_BODY: usize = 1024;

/// What the process adds to the seeder's responses.
pub struct Process {
    /// Returns members of the response of `/health`, in addition to those of the session.
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
    session: Arc<SeedSession>,
    process: Process,
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    session: Arc<SeedSession>,
    process: Process,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/listen-port", put(set_listen_port).post(set_listen_port))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Server { session, process }))
        .into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        error!(%error, "HTTP server of the seeder ended (SEEDER__HTTP)");
    }
}

/// `GET /health`.
async fn health(State(server): State<Arc<Server>>) -> Json<Value> {
    let session = &server.session;
    let mut health = json!({
        "status": "healthy",
        "torrents": session.seeding(),
        "peers": session.statistics().peers,
        "addresses": *session.addresses().borrow(),
    });
    if let (Value::Object(health), Value::Object(more)) = (&mut health, (server.process.health)()) {
        health.extend(more);
    }
    Json(health)
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
    // A browser sends `Origin`: no web page may change the port.
    if !client.ip().to_canonical().is_loopback() || headers.contains_key(ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "only programs on this machine can change the listen port");
    }
    let Some(port) = parse_port(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "send the port as the body: a number from 1 to 65535");
    };
    match server.session.set_listen_port(port).await {
        Ok(()) => Json(json!({ "addresses": *server.session.addresses().borrow() })).into_response(),
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
