//! `PATCH /v1/requests/{id}`: changes the retention of a request.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use domain::{FetchRequest, Principal};
use http::HeaderMap;
use serde::Deserialize;
use tracing::info;
use utoipa::ToSchema;

use super::Id;
use super::create::is_json;
use super::get::RequestView;
use super::validation;
use crate::problem::{Problem, UpdateErrors};
use crate::problem_code::ProblemCode;
use crate::state::Api;

/// The fields of a request to change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "keep": 7_776_000 }))]
#[expect(dead_code, reason = "documents what `validation::read_changes` reads")]
pub(crate) struct UpdateRequest {
    /// The retention in seconds, from now, or from `ready` if the request is not ready yet; 0 is until cancelled.
    #[schema(minimum = 0, maximum = 3_000_000_000_u64)]
    keep: u64,
}

#[utoipa::path(
    patch,
    path = "/requests/{id}",
    tag = "requests",
    summary = "Change the retention of a request",
    params(("id" = String, Path, description = "The request's id")),
    request_body = UpdateRequest,
    responses((status = 200, description = "The request", body = RequestView), UpdateErrors)
)]
pub(crate) async fn update(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<RequestView>, Problem> {
    if !is_json(&headers) {
        let detail = "the body must be application/json";
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    }
    let keep_for = validation::read_changes(&body)?;
    let now = api.clock.now();
    let gone = |row: &FetchRequest| {
        let detail = format!("the request is {}: its content is no longer kept", row.status);
        Problem::new(ProblemCode::RequestGone, detail)
    };
    // A ready row whose retention is over is shown as expired: it must not become ready again.
    let seen = super::find_owned(&api, &principal, id).await?;
    if seen.status.is_final() {
        return Err(gone(&seen));
    }
    let row = api.requests.keep(id, &principal.user, keep_for, now).await?.ok_or_else(Problem::not_found)?;
    if row.status.is_final() {
        return Err(gone(&row));
    }
    info!(request.id = %id, keep_seconds = keep_for.as_secs(), "retention changed");
    Ok(Json(RequestView::new(&api, row.as_of(now))))
}
