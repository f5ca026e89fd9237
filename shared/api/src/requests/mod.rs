//! `/v1/requests`: one file per endpoint.

pub(crate) mod cancel;
pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod magnet;
pub(crate) mod torrent;
mod validation;

use domain::{FetchRequest, InfoHash, Principal, Status, Torrent};
use http::StatusCode;

use crate::Api;
use crate::problem::Problem;

/// The caller's own request; another's does not exist.
async fn own(api: &Api, principal: &Principal, id: &str) -> Result<FetchRequest, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    let row = api.requests.get(id).await?.filter(|row| row.owner == principal.user);
    row.ok_or_else(Problem::not_found)
}

/// The torrent of the caller's own request, if it is ready; else why it is not to be had.
async fn ready_torrent(api: &Api, principal: &Principal, id: &str) -> Result<(FetchRequest, Torrent), Problem> {
    let row = own(api, principal, id).await?;
    let infohash: Option<InfoHash> = match row.status {
        Status::Ready => row.infohash,
        Status::Cancelled | Status::Expired => {
            let detail = format!("the request is {}: its torrent is gone", row.status);
            return Err(Problem::new(StatusCode::GONE, "request_gone", detail));
        }
        Status::Failed => {
            let why = row.failure.as_ref().map_or("", |failure| &failure.message);
            let detail = format!("the request has failed, and there will be no torrent: {why}");
            return Err(Problem::new(StatusCode::CONFLICT, "request_failed", detail));
        }
        Status::Queued | Status::Fetching | Status::Packaging | Status::Seeding => {
            let detail = format!("the request is {}: ask again when it is ready", row.status);
            return Err(Problem::new(StatusCode::CONFLICT, "not_ready", detail).retry_after(1));
        }
    };
    let torrent = match infohash {
        Some(infohash) => api.torrents.get(infohash).await?,
        None => None,
    };
    let gone = || Problem::new(StatusCode::GONE, "request_gone", "the torrent is gone");
    torrent.map(|torrent| (row, torrent)).ok_or_else(gone)
}
