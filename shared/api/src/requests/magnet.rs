//! `GET /v1/requests/{id}/magnet`: the magnet link.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use domain::{InfoHash, InfoHashV2, Principal, RequestId};
use metainfo::Magnet;
use serde::Serialize;
use utoipa::ToSchema;

use super::Id;
use crate::problem::{Problem, ReadyErrors};
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

#[utoipa::path(
    get,
    path = "/requests/{id}/magnet",
    tag = "requests",
    summary = "Get the magnet link",
    params(("id" = String, Path, description = "The request's id")),
    responses((status = 200, description = "The magnet link", body = MagnetView), ReadyErrors)
)]
pub(crate) async fn magnet(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<Json<MagnetView>, Problem> {
    let (row, torrent) = super::ready_torrent(&api, &principal, id).await?;
    // No `x.pe` for hybrids: libtorrent 2.1 announces a hybrid torrent under both infohashes, and drops a connection
    // that it opened by `x.pe` if the second announce response lists the same peer during the handshake.
    let peers = if torrent.infohash_v2.is_some() {
        vec![]
    } else {
        api.fleet.get(api.clock.now()).await.addresses(torrent.infohash)
    };
    let trackers = super::links::trackers(&api, &row, &torrent).await?;
    let magnet = Magnet {
        infohash: torrent.infohash,
        infohash_v2: torrent.infohash_v2,
        name: torrent.name.to_string(),
        size: torrent.size,
        trackers,
        peers,
        webseeds: super::links::webseeds(&api, &row),
    };
    Ok(Json(MagnetView {
        id: row.id,
        magnet_link: magnet.to_string(),
        infohash: magnet.infohash,
        infohash_v2: magnet.infohash_v2,
    }))
}
