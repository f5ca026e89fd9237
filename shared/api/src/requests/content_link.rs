//! `GET /v1/requests/{id}/content-link`: a link to the content that needs no credentials, since a browser cannot send a
//! token with a download. `GET /download/{id}/{expires_at}/{key}`: the content behind such a link.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use domain::{Principal, RequestId, Status, Timestamp};
use http::{HeaderMap, Method};
use ports::LINK_VALIDITY;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Id, content};
use crate::problem::{Problem, ReadyErrors};
use crate::problem_code::ProblemCode;
use crate::state::{Api, public_path};

/// A link to a content.
#[derive(Serialize, ToSchema)]
pub(crate) struct ContentLink {
    /// An absolute URL, or a path on this host.
    url: String,
}

#[utoipa::path(
    get,
    path = "/requests/{id}/content-link",
    tag = "requests",
    summary = "Get a link to the content",
    description = "The link is valid for an hour and needs no credentials. Everybody who has it can download the content.",
    params(("id" = String, Path, description = "The request's id")),
    responses((status = 200, description = "The link", body = ContentLink), ReadyErrors)
)]
pub(crate) async fn content_link(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<Json<ContentLink>, Problem> {
    let (row, _) = super::ready_torrent(&api, &principal, id).await?;
    let content = row.content.as_ref().ok_or_else(Problem::not_found)?;
    // A browser would save an error as the file.
    if api.contents.size(content.hash).await?.is_none() {
        return Err(Problem::content_unavailable());
    }
    let link = api.contents.link(content.hash, content.file_name.as_str(), content.media_type.as_str()).await?;
    if let Some(url) = link {
        return Ok(Json(ContentLink { url }));
    }
    let now = api.clock.now();
    let expires_at = now + LINK_VALIDITY;
    let key = api.passkeys.of_download(&*api.guards, now, &row, expires_at).await?;
    let url = format!("{}/download/{id}/{}/{key}", public_path(&api), expires_at.as_millis());
    Ok(Json(ContentLink { url }))
}

pub(crate) async fn download(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, i64, String)>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let not_found = || Problem::new(ProblemCode::NotFound, "there is no content at this path");
    let Path((id, expires_at, key)) = path.map_err(|_| not_found())?;
    let (id, expires_at) = (id.parse::<RequestId>().map_err(|_| not_found())?, Timestamp::from_millis(expires_at));
    let now = api.clock.now();
    let row = api.requests.get(id).await?.map(|row| row.as_of(now)).ok_or_else(not_found)?;
    if !api.passkeys.opens_download(&*api.guards, now, &row, expires_at, &key).await? {
        return Err(not_found());
    }
    if now > expires_at {
        let detail = "the link has expired: get a new one with GET /v1/requests/{id}/content-link";
        return Err(Problem::new(ProblemCode::LinkExpired, detail));
    }
    let content = row.content.filter(|_| row.status == Status::Ready).ok_or_else(not_found)?;
    content::stored(&api, &content, &method, &headers).await
}
