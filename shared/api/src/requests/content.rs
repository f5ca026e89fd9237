//! `GET /v1/requests/{id}/content`: the content.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::{Content, Principal};
use http::header::{CACHE_CONTROL, HeaderMap, LOCATION};
use http::{Method, StatusCode};

use utoipa::ToSchema;

use super::Id;
use crate::download;
use crate::problem::{Problem, ProblemBody, ReadyErrors};
use crate::state::Api;

/// Bytes per read from the content store.
const CHUNK: usize = 256 * 1024;

/// The bytes of a body.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "documents bodies")]
pub(crate) struct Binary(Vec<u8>);

#[utoipa::path(
    get,
    path = "/requests/{id}/content",
    tag = "requests",
    summary = "Download the content",
    params(
        ("id" = String, Path, description = "The request's id"),
        ("Range" = Option<String>, Header, description = "One byte range (RFC 9110, 14.2); more return the whole"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the content that the client has"),
        ("If-Range" = Option<String>, Header, description = "The ETag for which Range is meant"),
    ),
    responses(
        (
            status = 200,
            description = "The content",
            content_type = "*/*",
            body = inline(Binary),
            headers(("ETag" = String, description = "The strong validator of the content"))
        ),
        (
            status = 206,
            description = "The requested range",
            content_type = "*/*",
            body = inline(Binary),
            headers(
                ("ETag" = String, description = "The strong validator of the content"),
                ("Content-Range" = String, description = "The range (RFC 9110, 14.4)"),
            )
        ),
        (
            status = 307,
            description = "A redirect to a download link that is valid for an hour (on AWS)",
            headers(("Location" = String, description = "The link"))
        ),
        (status = 304, description = "Not modified: the client has the content (If-None-Match)"),
        (
            status = 403,
            description = "A page loads the content as a script, a style or a worker (Sec-Fetch-Dest)",
            body = ProblemBody,
            content_type = "application/problem+json"
        ),
        (
            status = 416,
            description = "The range is outside the content",
            body = ProblemBody,
            content_type = "application/problem+json"
        ),
        ReadyErrors
    )
)]
pub(crate) async fn content(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (row, _) = super::ready_torrent(&api, &principal, id).await?;
    let content = row.content.ok_or_else(Problem::not_found)?;
    // The link is signed for GET only.
    if method == Method::GET
        && let Some(url) =
            api.contents.link(content.hash, content.file_name.as_str(), content.media_type.as_str()).await?
    {
        let headers = [(LOCATION, url), (CACHE_CONTROL, "private, no-store".to_owned())];
        return Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response());
    }
    stored(&api, &content, &method, &headers).await
}

/// Returns the response with a content from the store.
pub(super) async fn stored(
    api: &Api,
    content: &Content,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    // Finds a removed file, which a read does not while it is open.
    if api.contents.size(content.hash).await?.is_none() {
        return Err(Problem::content_unavailable());
    }
    let (contents, hash) = (api.contents.clone(), content.hash);
    let body = move |range| {
        download::chunks(range, CHUNK, move |offset, mut chunk| {
            let contents = contents.clone();
            async move {
                contents.read_at(hash, offset, &mut chunk).await?;
                Ok(chunk)
            }
        })
    };
    download::respond(content, method, headers, body, |chunks| chunks).await
}
