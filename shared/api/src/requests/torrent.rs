//! `GET /v1/requests/{id}/torrent`: the metainfo file, with the caller's own tracker URL in it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::{FetchRequest, Principal, Torrent};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use metainfo::MetainfoExtras;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ports::StoreError;

use super::Id;
use crate::Api;
use crate::problem::{Problem, ReadyErrors};

#[utoipa::path(
    get,
    path = "/requests/{id}/torrent",
    tag = "requests",
    summary = "Download the .torrent",
    description = "Its tracker URL has a passkey for this request: people who get the file can download this torrent, until \
                   the request ends or you revoke your passkeys.",
    params(("id" = String, Path, description = "The request's id")),
    responses(
        (status = 200, description = "The metainfo file", content_type = "application/x-bittorrent", body = Vec<u8>),
        ReadyErrors
    )
)]
pub(crate) async fn torrent(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let (row, torrent) = super::ready_torrent(&api, &principal, id).await?;
    let gone = || Problem::new(StatusCode::GONE, "request_gone", "the torrent is gone");
    let (metainfo, _) = api.torrents.metainfo(torrent.infohash).await?.ok_or_else(gone)?;
    let handout = MetainfoExtras {
        trackers: trackers(&api, &row, &torrent).await?,
        webseeds: super::content::webseeds(&api, row.id),
        ..MetainfoExtras::default()
    };
    let bytes = handout.apply(&metainfo).map_err(|error| StoreError::unavailable("the torrent store", error))?;
    let headers = [
        (CONTENT_TYPE, "application/x-bittorrent".to_owned()),
        (CONTENT_DISPOSITION, disposition(&format!("{}.torrent", torrent.name))),
        // It holds the caller's passkey.
        (CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    Ok((headers, bytes).into_response())
}

/// The trackers of a request's torrent: ours, with a passkey for this request alone, and the configured one.
pub(super) async fn trackers(api: &Api, row: &FetchRequest, torrent: &Torrent) -> Result<Vec<String>, StoreError> {
    let base = api.public_url.as_str().trim_end_matches('/');
    let passkey = api.passkeys.of(&*api.guards, api.clock.now(), row, torrent.infohash).await?;
    let own = format!("{base}/announce?passkey={passkey}");
    Ok(std::iter::once(own).chain(api.torrent.announce_url.as_ref().map(ToString::to_string)).collect())
}

/// RFC 6266, with a plain name for old clients.
pub(super) fn disposition(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' }).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_to_old_and_new_clients() {
        assert_eq!(
            disposition("a \"ü\".torrent"),
            "attachment; filename=\"a ___.torrent\"; filename*=UTF-8''a%20%22%C3%BC%22%2Etorrent"
        );
    }
}
