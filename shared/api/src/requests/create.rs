//! `POST /v1/requests`: takes a request on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::{FetchRequest, Principal, RequestId, Status, Timestamp, UserId};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use ports::Wakeup;
use serde::Serialize;
use tracing::{info, warn};

use super::validation::{self, Limits};
use crate::Api;
use crate::client_address::ClientAddress;
use crate::idempotency::{self, Earlier, Key};
use crate::problem::Problem;

#[derive(Serialize)]
pub(crate) struct Created {
    id: RequestId,
    status: Status,
    /// Seconds; null while nothing is known.
    estimated_ready: Option<u64>,
    created_at: Timestamp,
}

pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    ClientAddress(client_ip): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let user = principal.user;
    let rate = api.limits.count(&*api.guards, &user, client_ip, api.clock.now()).await?;
    let created = accept(&api, user, client_ip, &headers, &body).await.map_err(|p| p.with_headers(rate.clone()))?;
    let location = format!("{}/requests/{}", api.server.api_prefix.trim_end_matches('/'), created.id);
    let mut response = (StatusCode::CREATED, [(LOCATION, location)], Json(created)).into_response();
    response.headers_mut().extend(rate);
    Ok(response)
}

async fn accept(
    api: &Api,
    user: UserId,
    client_ip: Option<IpAddr>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Created, Problem> {
    if !is_json(headers) {
        let detail = "the body is to be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    let limits = Limits {
        format: api.torrent.format,
        default_ttl: api.cache.default_ttl.get(),
        max_ttl: api.cache.max_ttl.get(),
        credentials: api.allow_credentials,
        webhooks: api.webhooks,
    };
    let spec = validation::read(body, &limits)?;
    let keep_for = match spec.ttl {
        0 => limits.default_ttl,
        ttl => ttl.into(),
    };
    let row = FetchRequest::new(user, client_ip, spec, Duration::from_secs(keep_for), api.clock.now());
    let estimated_ready = api.estimate.seconds();
    let created = Created { id: row.id, status: row.status, estimated_ready, created_at: row.created_at };
    let key = idempotency::check(&*api.guards, &*api.requests, headers, body, &row, estimated_ready).await?;
    if let Key::Repeated(earlier) = key {
        let Earlier { id, created_at, estimated_ready } = earlier;
        return Ok(Created { id, estimated_ready, created_at, ..created });
    }
    let stored = match api.limits.check_amounts(&*api.requests, &row.owner).await {
        Ok(()) => api.requests.create(&row).await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    if let Err(problem) = stored {
        if let Key::New(name) = key {
            api.guards.release(&name).await?;
        }
        return Err(problem);
    }
    info!(request.id = %row.id, owner = %row.owner, spec = ?row.spec, "accepted");
    if let Err(error) = api.wakeups.wake(Wakeup::Fetch(row.id), Duration::ZERO).await {
        // The row is safe, and the sweep finds it.
        warn!(request.id = %row.id, %error, "no wake-up was sent");
    }
    Ok(created)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
