//! `GET /v1/requests/{id}/magnet`: the magnet link.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::{InfoHash, InfoHashV2, Principal, RequestId};
use http::header::CONTENT_TYPE;
use metainfo::Magnet;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Id;
use crate::problem::{Problem, ProblemBody, ReadyErrors};
use crate::query::Query;
use crate::state::Api;

/// A magnet link (BEP 9).
#[derive(Serialize, ToSchema)]
#[schema(as = Magnet)]
pub(crate) struct MagnetView {
    #[schema(value_type = String, format = Uuid)]
    id: RequestId,
    magnet_link: String,
    /// The v1 infohash, 40 hexadecimal digits.
    #[schema(value_type = String)]
    infohash: InfoHash,
    /// The v2 infohash, 64 hexadecimal digits; null unless the torrent is a hybrid.
    #[schema(value_type = Option<String>)]
    infohash_v2: Option<InfoHashV2>,
}

/// The format of the response.
#[derive(ToSchema)]
#[schema(as = MagnetFormat, rename_all = "lowercase")]
pub(crate) enum Format {
    Json,
    Text,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(()),
        }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
pub(crate) struct MagnetParameters {
    /// The format of the response: `json` (default), or `text`, the link alone.
    #[param(inline)]
    format: Option<Format>,
}

#[utoipa::path(
    get,
    path = "/requests/{id}/magnet",
    tag = "requests",
    summary = "Get the magnet link",
    params(("id" = String, Path, description = "The request's id"), MagnetParameters),
    responses(
        (
            status = 200,
            description = "The magnet link; as text/plain with `format=text`",
            content((MagnetView = "application/json"), (String = "text/plain"))
        ),
        (
            status = 422,
            description = "A parameter is not valid.",
            body = ProblemBody,
            content_type = "application/problem+json"
        ),
        ReadyErrors
    )
)]
pub(crate) async fn magnet(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::parse(query.as_deref());
    let format = query.value::<Format>("format", "must be json or text").unwrap_or(Format::Json);
    query.finish()?;
    let (row, torrent) = super::ready_torrent(&api, &principal, id).await?;
    // No `x.pe` for hybrids: libtorrent 2.1 announces a hybrid torrent under both infohashes, and drops a connection
    // that it opened by `x.pe` if the second announce response lists the same peer during the handshake.
    let peers = if torrent.infohash_v2.is_some() {
        vec![]
    } else {
        api.fleet.get(api.clock.now()).await.addresses(torrent.infohash, None)
    };
    let trackers = api.links.trackers(&row, torrent.infohash).await?;
    let magnet = Magnet {
        infohash: torrent.infohash,
        infohash_v2: torrent.infohash_v2,
        name: torrent.name.to_string(),
        size: torrent.size,
        trackers,
        peers,
        webseeds: api.links.webseeds(&row),
    };
    let magnet_link = magnet.to_string();
    Ok(match format {
        // With the line feed that a shell expects.
        Format::Text => ([(CONTENT_TYPE, "text/plain; charset=utf-8")], magnet_link + "\n").into_response(),
        Format::Json => {
            let Magnet { infohash, infohash_v2, .. } = magnet;
            Json(MagnetView { id: row.id, magnet_link, infohash, infohash_v2 }).into_response()
        }
    })
}
