//! `POST /v1/requests`: takes a request on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use domain::{FetchRequest, Principal, RequestId, Status, Timestamp};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, StatusCode};
use ports::Wakeup;
use serde::Serialize;
use tracing::{info, warn};

use super::validation::{self, Limits};
use crate::Api;
use crate::client_address::ClientAddress;
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
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Created>), Problem> {
    if !is_json(&headers) {
        let detail = "the body is to be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    let limits = Limits {
        format: api.torrent.format,
        default_ttl: api.cache.default_ttl.get(),
        max_ttl: api.cache.max_ttl.get(),
        credentials: api.allow_credentials,
    };
    let spec = validation::read(&body, &limits)?;
    let keep_for = match spec.ttl {
        0 => limits.default_ttl,
        ttl => ttl.into(),
    };
    let now = api.clock.now();
    let row = FetchRequest::new(principal.user, client_ip, spec, Duration::from_secs(keep_for), now);
    api.requests.create(&row).await?;
    info!(request.id = %row.id, owner = %row.owner, spec = ?row.spec, "accepted");
    if let Err(error) = api.wakeups.wake(Wakeup::Fetch(row.id), Duration::ZERO).await {
        // The row is safe, and the sweep finds it.
        warn!(request.id = %row.id, %error, "no wake-up was sent");
    }
    let location = format!("{}/requests/{}", api.server.api_prefix.trim_end_matches('/'), row.id);
    let created =
        Created { id: row.id, status: row.status, estimated_ready: api.estimate.seconds(), created_at: row.created_at };
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(created)))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
