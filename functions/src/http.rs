//! Functions behind an API Gateway HTTP API (payload format 2.0).

use std::net::SocketAddr;
use std::sync::Arc;

use api::endpoints::Endpoint;
use api::{Api, Deployment, HealthChecks};
use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};
use serde_json::{Value, json};
use settings::{ExposeSecret, Role};
use telemetry::emf;
use tower::Layer;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::{Backend, Error, port};

/// Serves an endpoint with these ports until the container ends.
pub async fn serve<const PORTS: u16>(endpoint: Endpoint) -> Result<(), Error> {
    let routes = routes(endpoint, &Backend::load::<PORTS>(Role::Api).await?)?;
    let measured = MapResponseLayer::new(|response: Response| {
        emf::flush();
        response
    });
    lambda_http::run(MapRequestLayer::new(with_address).layer(measured.layer(routes))).await
}

/// An endpoint on these stores.
pub fn routes(endpoint: Endpoint, backend: &Backend) -> Result<Router, Error> {
    Ok(endpoint.serve(Arc::new(api(backend)?)))
}

/// Sets the client's address, as API Gateway reports it.
fn with_address(mut request: Request) -> Request {
    if let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() {
        let address = context.http.source_ip.as_deref().and_then(|ip| ip.parse().ok());
        if let Some(address) = address {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 0)));
        }
    }
    request
}

fn api(backend: &Backend) -> Result<Api, Error> {
    let settings = &backend.settings;
    let secret = settings.tracker.secret.as_ref();
    let secret = secret.ok_or("TRACKER__SECRET is not set: all functions need the same")?;
    let public_url = settings.server.public_url.clone();
    let deployment = Deployment {
        public_url: public_url.ok_or("PUBLIC_URL is not set: it is the base of what is handed out")?,
        tracker_secret: secret.expose_secret().as_bytes().to_vec(),
        seeders: backend.seeders.clone(),
        // No function serves webseeds.
        webseed_base: settings.torrent.webseed_base(None).cloned(),
        jwt: None,
    };
    let api = Api::new(&backend.stores, backend.guards.clone(), backend.swarm.clone(), settings, deployment);
    // API Gateway itself reports the address of the client.
    Ok(Api { health: health_checks(backend), trusted_proxies: vec![], ..api })
}

/// The health of the ports that the function takes.
fn health_checks(backend: &Backend) -> HealthChecks {
    let says =
        |result: Result<(), ports::StoreError>, bad: &str| result.map(|()| json!({})).map_err(|_| bad.to_owned());
    let mut checks = HealthChecks::new();
    if backend.takes(port::REQUESTS) {
        let requests = backend.stores.requests.clone();
        checks = checks.with("database", move || {
            let requests = requests.clone();
            async move { says(requests.check().await, "the database does not answer") }
        });
    }
    if backend.takes(port::CONTENTS) {
        let contents = backend.stores.contents.clone();
        checks = checks.with("storage", move || {
            let contents = contents.clone();
            async move { says(contents.check().await, "the bucket does not answer") }
        });
    }
    if backend.takes(port::FETCH_QUEUE) {
        let tasks = backend.stores.tasks.clone();
        checks = checks.with("task_queue", move || {
            let tasks = tasks.clone();
            async move { says(tasks.check().await, "a queue does not answer") }
        });
    }
    // The seeder is another process, with its own health.
    checks.with("seeder", || async { Ok::<Value, String>(json!({ "status": "elsewhere" })) })
}
