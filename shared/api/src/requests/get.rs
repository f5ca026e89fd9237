//! `GET /v1/requests/{id}`: the status of a request, with long polling (`?wait=`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::{
    ContentHash, FailureCode, FetchRequest, InfoHash, InfoHashV2, Method, Principal, RequestId, Status, Timestamp,
    TorrentFormat,
};
use http::StatusCode;
use http::header::LOCATION;
use ports::Transferred;
use serde::{Deserialize, Serialize};
use tracing::warn;
use url::Url;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::problem::{OwnErrors, Problem};
use crate::problem_code::codes_schema;
use crate::query::Query;
use crate::state::{Api, request_path};

/// The longest `wait` for a change, in seconds.
const MAX_WAIT: u32 = 25;

/// The status of a request.
#[derive(ToSchema)]
#[schema(as = Status, rename_all = "lowercase")]
#[expect(dead_code, reason = "documents domain::Status")]
pub(crate) enum StatusName {
    Queued,
    Fetching,
    Packaging,
    Seeding,
    Ready,
    Failed,
    Cancelled,
    Expired,
}

/// The HTTP method of a fetch.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schema(as = Method)]
pub(crate) enum MethodName {
    Get,
    Post,
    Put,
    Delete,
    Patch,
}

/// The format of a torrent: v1, which every client can read, or hybrid, which is v1 and v2 in one (BEP 52).
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TorrentFormat)]
pub(crate) enum FormatName {
    V1,
    Hybrid,
}

/// Why a request has failed, or its last try.
pub(crate) struct FailureName;

impl PartialSchema for FailureName {
    fn schema() -> RefOr<Schema> {
        codes_schema(FailureCode::ALL.iter().map(|code| code.as_str()), "Why a request has failed, or its last try.")
    }
}

impl ToSchema for FailureName {
    fn name() -> Cow<'static, str> {
        "FailureCode".into()
    }
}

/// A request as its owner sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Request, example = json!({
    "id": "01a205b6-340d-72db-85d4-e6fb979392a0",
    "status": "ready",
    "url": "https://example.org/report.pdf",
    "method": "GET",
    "header_names": [],
    "format": "v1",
    "ttl": 86400,
    "keep": 2_592_000,
    "webseed": true,
    "sha256": null,
    "callback_url": null,
    "progress": 100,
    "received_bytes": 48213,
    "total_bytes": 48213,
    "retry_count": 0,
    "created_at": "2026-11-24T05:48:09.432Z",
    "updated_at": "2026-11-24T05:48:11.017Z",
    "completed_at": "2026-11-24T05:48:11.017Z",
    "expires_at": "2026-12-24T05:48:11.017Z",
    "infohash": "a9e196bb79e15689d980c67d5b9f3785d31e7898",
    "infohash_v2": null,
    "content_hash": "a10591d36b01c4652c6ce0e3ffe4c425e1fe91e2bb9d78f9b2ef5b28d8b14c69",
    "content_size": 48213,
    "content_type": "application/pdf",
    "file_name": "report.pdf",
    "final_url": "https://example.org/report.pdf",
    "origin_status": 200,
    "error_code": null,
    "error_message": null,
    "waiting": null,
    "links": {
        "self": "/v1/requests/01a205b6-340d-72db-85d4-e6fb979392a0",
        "torrent": "/v1/requests/01a205b6-340d-72db-85d4-e6fb979392a0/torrent",
        "magnet": "/v1/requests/01a205b6-340d-72db-85d4-e6fb979392a0/magnet",
        "content": "/v1/requests/01a205b6-340d-72db-85d4-e6fb979392a0/content",
    },
    "swarm": { "seeders": 3, "leechers": 1, "completed": 2, "uploaded_bytes": 96426 },
}))]
pub(crate) struct RequestView {
    /// The id of the request, a UUIDv7.
    #[schema(value_type = String, format = Uuid)]
    id: RequestId,
    #[schema(value_type = StatusName)]
    status: Status,
    #[schema(value_type = String)]
    url: Url,
    #[schema(value_type = MethodName)]
    method: Method,
    /// The names of the headers for the origin. Their values may be secret.
    header_names: Vec<String>,
    #[schema(value_type = FormatName)]
    format: TorrentFormat,
    /// How long after `ready` identical requests may reuse the content, in seconds.
    ttl: u32,
    /// The retention: how long after `ready` the content is stored and seeded, in seconds; 0 is until cancelled.
    keep: u64,
    /// Whether the torrent may name a webseed.
    webseed: bool,
    /// The SHA-256 that the content must have, 64 hexadecimal digits.
    #[schema(value_type = Option<String>)]
    sha256: Option<ContentHash>,
    #[schema(value_type = Option<String>)]
    callback_url: Option<Url>,
    /// The progress over all steps, 0 to 100.
    #[schema(maximum = 100)]
    progress: u8,
    /// The bytes of content that the last fetch has received, at most some seconds old.
    received_bytes: u64,
    /// How many that will be; null until the origin has declared it.
    total_bytes: Option<u64>,
    /// The number of retries so far.
    retry_count: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When the request became ready, or ended without becoming ready.
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    /// When the retention of a ready request ends; null if it is kept until it is cancelled.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The v1 infohash, 40 hexadecimal digits.
    #[schema(value_type = Option<String>)]
    infohash: Option<InfoHash>,
    /// The v2 infohash of a hybrid torrent, 64 hexadecimal digits.
    #[schema(value_type = Option<String>)]
    infohash_v2: Option<InfoHashV2>,
    /// The SHA-256 of the content, 64 hexadecimal digits.
    #[schema(value_type = Option<String>)]
    content_hash: Option<ContentHash>,
    /// The size of the content in bytes.
    content_size: Option<u64>,
    content_type: Option<String>,
    file_name: Option<String>,
    /// The URL after all redirects.
    #[schema(value_type = Option<String>)]
    final_url: Option<Url>,
    /// The HTTP status of the origin's response.
    origin_status: Option<u16>,
    /// The code of the last error, for programs; stable.
    #[schema(value_type = Option<FailureName>)]
    error_code: Option<&'static str>,
    /// The text of the last error, for people.
    error_message: Option<String>,
    /// Why it waits; null unless it is queued.
    waiting: Option<WaitingView>,
    links: Links,
    /// The swarm of a ready request. Missing in lists and events, and if it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    swarm: Option<SwarmView>,
}

/// Why a queued request waits.
#[derive(Serialize, ToSchema)]
#[schema(as = Waiting)]
pub(crate) struct WaitingView {
    /// What it waits for: its `turn`, the next try (`retry`) after the error in `error_code`, or the fetch of an
    /// `identical_request`.
    reason: WaitingReason,
    /// When the next try begins; null if it waits for something else.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// How many requests that you created before it wait, too; null in lists and events, on AWS, and if it does not
    /// wait for its turn.
    ahead: Option<usize>,
}

/// What a queued request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitingReason {
    Turn,
    Retry,
    IdenticalRequest,
}

impl WaitingView {
    /// Returns why this row waits; `None` unless it is queued.
    fn new(row: &FetchRequest, now: Timestamp) -> Option<Self> {
        if row.status != Status::Queued {
            return None;
        }
        let until = row.due_at.filter(|due| *due > now);
        // A request whose content was lost has a failure, too, but no retry.
        let reason = match (until, row.retry_count) {
            (None, _) => WaitingReason::Turn,
            (Some(_), 1..) => WaitingReason::Retry,
            (Some(_), 0) => WaitingReason::IdenticalRequest,
        };
        Some(Self { reason, until: until.filter(|_| reason == WaitingReason::Retry), ahead: None })
    }
}

/// The swarm of a torrent, which identical contents of other requests may share.
#[derive(Serialize, ToSchema)]
#[schema(as = Swarm)]
pub(crate) struct SwarmView {
    /// The seeder of this service, and the peers that have the whole torrent.
    seeders: u32,
    /// The peers that download.
    leechers: u32,
    /// How many peers have announced that they completed the download.
    completed: u64,
    /// The bytes of content that the seeder has sent to peers, at most some minutes old.
    uploaded_bytes: u64,
}

/// Where a request and what it has are: paths on this host. Those of the torrent and the content are null unless the
/// request is ready.
#[derive(Serialize, ToSchema)]
pub(crate) struct Links {
    /// This request.
    #[serde(rename = "self")]
    this: String,
    /// The `.torrent` file.
    torrent: Option<String>,
    /// The magnet link, as JSON.
    magnet: Option<String>,
    /// The content.
    content: Option<String>,
}

impl Links {
    fn new(api: &Api, id: RequestId, status: Status) -> Self {
        let this = request_path(api, id);
        let below = |name: &str| (status == Status::Ready).then(|| format!("{this}/{name}"));
        Self { torrent: below("torrent"), magnet: below("magnet"), content: below("content"), this }
    }
}

impl RequestView {
    /// The request in this row.
    pub fn new(api: &Api, row: FetchRequest) -> Self {
        let (content, received) = (row.content.as_ref(), row.received);
        let kept_until_cancelled = row.is_kept_until_cancelled();
        Self {
            waiting: WaitingView::new(&row, api.clock.now()),
            id: row.id,
            status: row.status,
            method: row.spec.method,
            header_names: row.spec.headers.iter().map(|(name, _)| name.clone()).collect(),
            format: row.spec.format,
            ttl: u32::try_from(row.spec.ttl.as_secs()).unwrap_or(u32::MAX),
            keep: if kept_until_cancelled { 0 } else { row.keep_for.as_secs() },
            webseed: row.spec.webseed,
            sha256: row.spec.sha256,
            callback_url: row.spec.callback_url,
            progress: row.progress,
            received_bytes: content.map(|content| content.size).or(received.map(|r| r.bytes)).unwrap_or_default(),
            total_bytes: content.map(|content| content.size).or(received.and_then(|received| received.total)),
            retry_count: row.retry_count,
            created_at: row.created_at,
            updated_at: row.updated_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at.filter(|_| !kept_until_cancelled),
            infohash: row.infohash,
            infohash_v2: row.infohash_v2,
            content_hash: content.map(|content| content.hash),
            content_size: content.map(|content| content.size),
            content_type: content.map(|content| content.media_type.to_string()),
            file_name: content.map(|content| content.file_name.to_string()),
            final_url: content.map(|content| content.final_url.clone()),
            origin_status: content.map(|content| content.origin_status),
            error_code: row.failure.as_ref().map(|failure| failure.code.as_str()),
            error_message: row.failure.map(|failure| failure.message),
            swarm: None,
            links: Links::new(api, row.id, row.status),
            url: row.spec.url,
        }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
pub(crate) struct GetParameters {
    /// Seconds to wait for a change of the status (long polling). A request that is ready or has ended returns at
    /// once.
    #[param(minimum = 0, maximum = 25, default = 0)]
    wait: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/requests/{id}",
    tag = "requests",
    summary = "Get the status of a request",
    description = "`/requests/{id}.torrent` and `/requests/{id}.magnet` redirect (308) to the `.torrent` file and to the \
                   magnet link as text.",
    params(("id" = String, Path, description = "The request's id"), GetParameters),
    responses(
        (status = 200, description = "The request", body = RequestView),
        (
            status = 308,
            description = "A redirect, for an id with a suffix",
            headers(("Location" = String, description = "Where it is, relative to this path"))
        ),
        OwnErrors
    )
)]
pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let Path(name) = path.map_err(|_| Problem::not_found())?;
    if let Some(location) = location_of_suffix(&name) {
        return Ok((StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response());
    }
    let id = name.parse().map_err(|_| Problem::not_found())?;
    let mut query = Query::parse(query.as_deref());
    let wait = query.number("wait", 0..=MAX_WAIT).unwrap_or(0);
    query.finish()?;
    let row = super::find_owned(&api, &principal, id).await?;
    let row = wait_for_change(&api, row, Duration::from_secs(wait.into())).await?;
    if let (Status::Ready, Some(at)) = (row.status, row.completed_at) {
        api.estimate.note(at, at.since(row.created_at));
    }
    let swarm = swarm(&api, &row).await;
    let ahead = api.estimate.ahead(&row.owner, row.id);
    let mut view = RequestView { swarm, ..RequestView::new(&api, row) };
    if let Some(waiting) = view.waiting.as_mut().filter(|waiting| waiting.reason == WaitingReason::Turn) {
        waiting.ahead = ahead;
    }
    Ok(Json(view).into_response())
}

/// Returns where `{id}.torrent` or `{id}.magnet` is. It is relative to the path of the call (RFC 9110, 10.2.2), so that it
/// works below any path.
fn location_of_suffix(name: &str) -> Option<String> {
    let (id, suffix) = name.split_once('.')?;
    let id: RequestId = id.parse().ok()?;
    match suffix {
        "torrent" => Some(format!("{id}/torrent")),
        "magnet" => Some(format!("{id}/magnet?format=text")),
        _ => None,
    }
}

/// Returns the swarm of a ready request. A failure must not hide the request.
async fn swarm(api: &Api, row: &FetchRequest) -> Option<SwarmView> {
    let infohash = row.infohash.filter(|_| row.status == Status::Ready)?;
    let now = api.clock.now();
    let (counts, fleet) = (api.swarm.counts(infohash, now), api.fleet.get(now).await);
    match tokio::try_join!(counts, api.statistics.transferred(infohash)) {
        Ok((counts, Transferred { uploaded_bytes, completed })) => {
            let counts = fleet.added_to(counts);
            Some(SwarmView { seeders: counts.seeds, leechers: counts.leechers, completed, uploaded_bytes })
        }
        Err(error) => {
            warn!(request.id = %row.id, %error, "swarm not read");
            None
        }
    }
}

/// Returns the row when its status has changed or the wait is over.
async fn wait_for_change(api: &Api, row: FetchRequest, wait: Duration) -> Result<FetchRequest, Problem> {
    let (before, deadline) = (row.status, Instant::now() + wait);
    let mut row = row;
    while row.status == before && row.status != Status::Ready && !row.status.is_final() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        row = api.requests.wait_for_change(&row, left).await?.ok_or_else(Problem::not_found)?;
    }
    Ok(row)
}
