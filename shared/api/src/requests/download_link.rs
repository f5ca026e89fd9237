//! `GET /download/{id}/{expires_at}/{key}`: the content of a request, without credentials. Its owner gets the link from
//! `GET /v1/requests/{id}/content?link=true`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::{RequestId, Status, Timestamp};
use http::{HeaderMap, Method, StatusCode};

use super::content;
use crate::problem::Problem;
use crate::state::{Api, public_path};

/// The validity of a link.
const VALID: Duration = Duration::from_secs(3600);

/// Returns the path of a link to the content of this request, as clients reach it.
pub(super) fn path(api: &Api, id: RequestId) -> String {
    let expires_at = api.clock.now() + VALID;
    let key = api.passkeys.of_download(id, expires_at);
    format!("{}/download/{id}/{}/{key}", public_path(api), expires_at.as_millis())
}

pub(crate) async fn download(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, i64, String)>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let not_found = || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no content at this path");
    let Path((id, expires_at, key)) = path.map_err(|_| not_found())?;
    let (id, expires_at) = (id.parse::<RequestId>().map_err(|_| not_found())?, Timestamp::from_millis(expires_at));
    if !api.passkeys.opens_download(id, expires_at, &key) {
        return Err(not_found());
    }
    if api.clock.now() > expires_at {
        let detail = "the link has expired: get a new one with GET /requests/{id}/content?link=true";
        return Err(Problem::new(StatusCode::GONE, "link_expired", detail));
    }
    let row = api.requests.get(id).await?.map(|row| row.as_of(api.clock.now()));
    let content = row.filter(|row| row.status == Status::Ready).and_then(|row| row.content).ok_or_else(not_found)?;
    content::stored(&api, &content, &method, &headers).await
}
