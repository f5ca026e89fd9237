//! `POST /v1/requests`: creates a request.

use std::collections::BTreeMap;
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
use ports::{Share, Task};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{info, warn};
use utoipa::ToSchema;

use super::get::{FormatName, MethodName, StatusName};
use super::validation::{self, Limits};
use crate::abuse::TOO_MANY_READS;
use crate::client_address::ClientAddress;
use crate::idempotency::{self, Earlier, IdempotencyKey, Key};
use crate::limits::RateHeaders;
use crate::problem::{CreateErrors, Problem};
use crate::problem_code::ProblemCode;
use crate::state::{Api, request_path};

/// A created request.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a205b6-340d-72db-85d4-e6fb979392a0",
    "status": "queued",
    "estimated_ready": 2,
    "created_at": "2026-11-24T05:48:09.432Z",
}))]
pub(crate) struct Created {
    /// The id of the request, a UUIDv7.
    #[schema(value_type = String, format = Uuid)]
    id: RequestId,
    #[schema(value_type = StatusName)]
    status: Status,
    /// The estimated number of seconds until the request is ready; null if there is no estimate yet.
    estimated_ready: Option<u64>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// The name of an HTTP header (RFC 9110, 5.1).
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
pub(crate) struct HeaderName(String);

/// The value of an HTTP header: printable ASCII characters, spaces and tabs.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "documents what `validation::read` reads")]
#[schema(value_type = String, pattern = "^[\\t -~]*$", max_length = 8192)]
pub(crate) struct HeaderValue(String);

/// The URL to fetch, with options for the fetch, the torrent and the retention.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "url": "https://example.org/report.pdf", "ttl": 86400 }))]
#[expect(dead_code, reason = "documents what `validation::read` reads")]
pub(crate) struct CreateRequest {
    /// The http or https URL to fetch.
    #[schema(format = Uri, max_length = 8192, pattern = "^https?://[^/?#@]+([/?#].*)?$")]
    url: String,
    #[schema(value_type = Option<MethodName>)]
    method: Option<MethodName>,
    /// Headers to send to the origin, at most 64. Connection headers, Host, Range and the signature headers of this
    /// service are refused; Authorization and Cookie need FETCHER__ALLOW_CREDENTIAL_HEADERS.
    headers: Option<BTreeMap<HeaderName, HeaderValue>>,
    /// The body to send to the origin; only with POST, PUT and PATCH.
    body: Option<String>,
    /// How long after `ready` identical requests may reuse the content, in seconds. By default CACHE__DEFAULT_TTL, at
    /// most CACHE__MAX_TTL; 0 disables the reuse.
    #[schema(minimum = 0)]
    ttl: Option<u32>,
    /// The retention: how long after `ready` the content is stored and seeded, in seconds. By default STORAGE__KEEP;
    /// 0 keeps it until the request is cancelled.
    #[schema(minimum = 0, maximum = 3_000_000_000_u64)]
    keep: Option<u64>,
    /// The expected SHA-256 of the content, 64 hexadecimal digits. If the content differs, the request fails.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    sha256: Option<String>,
    /// The format of the torrent. By default TORRENT__FORMAT.
    #[schema(value_type = Option<FormatName>)]
    format: Option<FormatName>,
    /// Whether the torrent may name a webseed (BEP 19), if the service has one (TORRENT__WEBSEED). By default true.
    webseed: Option<bool>,
    /// The URL that receives a signed webhook (standardwebhooks.com) when the request is ready or has failed.
    #[schema(format = Uri, max_length = 8192, pattern = "^https?://[^/?#@]+([/?#].*)?$")]
    callback_url: Option<String>,
}

#[utoipa::path(
    post,
    path = "/requests",
    tag = "requests",
    summary = "Create a request to fetch a URL",
    // Not a declared parameter: a key that is used with another body is refused. No schema can express that, and
    // tools that generate calls from the schema report it as a fault.
    description = "An `Idempotency-Key` header (1 to 255 printable ASCII characters) makes a retry safe. For 24 hours, \
                   the same key with the same body returns the same response; the same key with another body returns \
                   422. While the first call is in progress, the same key returns 409.",
    request_body = CreateRequest,
    responses(
        (
            status = 201,
            description = "The request was created",
            body = Created,
            headers(
                ("Location" = String, description = "The path of the request"),
                ("RateLimit" = String, description = "What is left of the limits, if there are any \
                                                      (draft-ietf-httpapi-ratelimit-headers)"),
                ("RateLimit-Policy" = String, description = "The limits, if there are any"),
            )
        ),
        CreateErrors
    )
)]
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    ClientAddress(client_ip): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let user = principal.user;
    let key = IdempotencyKey::read(&headers);
    let rate = count(&api, &user, client_ip, key.as_ref().ok().and_then(Option::as_ref)).await?;
    let created = async {
        if !is_json(&headers) {
            let detail = "the body must be application/json";
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
        }
        accept(&api, user, client_ip, key?.as_ref(), &body).await
    };
    let created = created.await.map_err(|problem| problem.with_headers(rate.clone()))?;
    let location = request_path(&api, created.id);
    let mut response = (StatusCode::CREATED, [(LOCATION, location)], Json(created)).into_response();
    response.headers_mut().extend(rate);
    Ok(response)
}

/// Counts a new request against the rate limits. Returns headers for the response. A call that repeats an earlier one
/// counts as a read: a batch that a limit has interrupted could not be repeated otherwise.
pub(super) async fn count(
    api: &Api,
    user: &UserId,
    client_ip: Option<IpAddr>,
    key: Option<&IdempotencyKey>,
) -> Result<RateHeaders, Problem> {
    let now = api.clock.now();
    match key {
        Some(key) if idempotency::is_known(&*api.guards, user, key, now).await? => {
            api.abuse.count_read(user).map(|()| vec![]).map_err(|too_many| too_many.problem(TOO_MANY_READS))
        }
        _ => api.limits.count(&*api.guards, user, client_ip, now).await,
    }
}

/// Creates the request that a body describes. An earlier call with the same key has the same result.
pub(super) async fn accept(
    api: &Api,
    user: UserId,
    client_ip: Option<IpAddr>,
    key: Option<&IdempotencyKey>,
    body: &[u8],
) -> Result<Created, Problem> {
    let limits = Limits {
        format: api.torrent.format,
        default_ttl: api.cache.default_ttl.get(),
        max_ttl: api.cache.max_ttl.get(),
        default_keep: api.keep,
        credentials: api.allow_credentials,
        webhooks: api.webhooks,
    };
    let (spec, keep_for) = validation::read(body, &limits)?;
    let mut row = FetchRequest::new(user, client_ip, spec, keep_for, api.clock.now());
    row.history = Duration::from_secs(api.cache.history.get());
    api.receivers.iter().for_each(|receiver| row.receivers.insert(receiver));
    let estimated_ready = api.estimate.seconds(&row.owner);
    let created = Created { id: row.id, status: row.status, estimated_ready, created_at: row.created_at };
    let key = idempotency::check(&*api.guards, &*api.requests, key, body, &row, estimated_ready).await?;
    if let Key::Repeated(earlier) = key {
        let Earlier { id, created_at, estimated_ready } = earlier;
        return Ok(Created { id, estimated_ready, created_at, ..created });
    }
    let stored = match api.contents.check_room(0) {
        Ok(()) => store(api, &row).await,
        Err(error) => Err(error.into()),
    };
    if let Err(problem) = stored {
        if let Key::New(name) = key {
            api.guards.release(&name).await?;
        }
        return Err(problem);
    }
    let (spec, ttl_seconds) = (&row.spec, row.spec.ttl.as_secs());
    info!(
        request.id = %row.id, owner = %row.owner, host = spec.url.host_str(), method = %spec.method, ttl_seconds,
        "request created"
    );
    metrics::counter!("proxytorrent_requests_created_total").increment(1);
    if let Err(error) = api.tasks.enqueue_for(Share::from(&row), Task::Fetch(row.id), Duration::ZERO).await {
        // The row is stored: the sweep finds it and enqueues the task.
        warn!(request.id = %row.id, %error, "task not enqueued");
    }
    Ok(created)
}

/// The refusal of a request that this program wants to create for a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// What is wrong.
    pub detail: String,
    /// After how long it may be created; `None`: never.
    pub retry_after: Option<Duration>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { retry_after: problem.seconds_to_wait().map(Duration::from_secs), detail: problem.explained() }
    }
}

/// Creates a request of this user for a URL, with the same validation and limits as `POST /v1/requests`. An earlier
/// call with the same key has the same result.
pub async fn create_for(api: &Api, user: UserId, key: &IdempotencyKey, url: &str) -> Result<RequestId, Refused> {
    count(api, &user, None, Some(key)).await?;
    let body = json!({ "url": url }).to_string();
    Ok(accept(api, user, None, Some(key), body.as_bytes()).await?.id)
}

/// Creates the row, unless a quota of its owner is reached.
async fn store(api: &Api, row: &FetchRequest) -> Result<(), Problem> {
    let turn = api.limits.take_turn(&*api.guards, &*api.clock, &row.owner).await?;
    let stored = match api.limits.check_amounts(&*api.requests, &row.owner).await {
        Ok(()) => api.requests.create(row).await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    if let Some(turn) = turn
        && let Err(error) = api.guards.release(&turn.name).await
    {
        // The lock expires after a few seconds.
        warn!(%error, "creation lock not released");
    }
    stored
}

/// Whether the body of a call is declared as JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers) == "application/json"
}

/// Returns the declared media type of a body, in lower case and without parameters; empty if there is none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
