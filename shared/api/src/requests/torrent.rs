//! `GET /v1/requests/{id}/torrent`: the metainfo file, with a tracker URL that contains the caller's passkey.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::Principal;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};

use super::Id;
use super::content::Binary;
use crate::download::disposition;
use crate::problem::{Problem, ReadyErrors};
use crate::problem_code::ProblemCode;
use crate::state::Api;

#[utoipa::path(
    get,
    path = "/requests/{id}/torrent",
    tag = "requests",
    summary = "Download the .torrent",
    description = "The tracker URL in the file contains a passkey for this request: anyone who has the file can \
                   download this torrent, until the request ends or you revoke your passkeys.",
    params(("id" = String, Path, description = "The request's id")),
    responses(
        (
            status = 200,
            description = "The metainfo file",
            content_type = "application/x-bittorrent",
            body = inline(Binary)
        ),
        ReadyErrors
    )
)]
pub(crate) async fn torrent(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let (row, torrent) = super::ready_torrent(&api, &principal, id).await?;
    let gone = || Problem::new(ProblemCode::RequestGone, "the torrent no longer exists");
    let bytes = api.links.torrent_file(&row).await?.ok_or_else(gone)?;
    let headers = [
        (CONTENT_TYPE, "application/x-bittorrent".to_owned()),
        (CONTENT_DISPOSITION, disposition(&format!("{}.torrent", torrent.name))),
        // The file contains the caller's passkey.
        (CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    Ok((headers, bytes).into_response())
}
