//! `GET /v1/requests`: the caller's requests, newest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use domain::{Principal, RequestId, Status};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::get::RequestView;
use crate::problem::{OwnErrors, Problem};
use crate::query::Query;
use crate::state::Api;

/// The largest page.
const MAX_LIMIT: u32 = 100;

/// The size of a page without `limit`.
const DEFAULT_LIMIT: u32 = 20;

/// A page of requests.
#[derive(Serialize, ToSchema)]
pub(crate) struct RequestList {
    /// The requests, newest first.
    items: Vec<RequestView>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(value_type = Option<String>, format = Uuid)]
    next_cursor: Option<RequestId>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
pub(crate) struct ListParameters {
    /// The number of requests on the page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<String>, format = Uuid)]
    cursor: Option<RequestId>,
    /// Only requests with this status.
    status: Option<super::get::StatusName>,
}

#[utoipa::path(
    get,
    path = "/requests",
    tag = "requests",
    summary = "List your requests",
    params(ListParameters),
    responses((status = 200, description = "A page of requests, newest first", body = RequestList), OwnErrors)
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    RawQuery(query): RawQuery,
) -> Result<Json<RequestList>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let limit = query.number("limit", 1..=MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    let cursor = query.value::<RequestId>("cursor", "must be the next_cursor of a page");
    let statuses = "must be queued, fetching, packaging, seeding, ready, failed, cancelled or expired";
    let status = query.value::<Status>("status", statuses);
    query.finish()?;
    // One row more than the page shows whether there is a next page.
    let mut rows = api.requests.list(&principal.user, status, cursor, limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.id);
    let now = api.clock.now();
    let items = rows.into_iter().map(|row| RequestView::new(&api, row.as_of(now))).collect();
    Ok(Json(RequestList { items, next_cursor }))
}
