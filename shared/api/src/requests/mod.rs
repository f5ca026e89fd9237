//! `/v1/requests`: one file per endpoint.

pub(crate) mod batch;
pub(crate) mod cancel;
pub(crate) mod content;
pub(crate) mod content_link;
pub(crate) mod create;
pub(crate) mod events;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod magnet;
pub(crate) mod torrent;
pub(crate) mod update;
mod validation;
pub(crate) mod webseed;

pub(crate) use get::FailureName;
pub(crate) use validation::MAX_HEADERS;

use axum::extract::{FromRequestParts, Path};
use domain::{FetchRequest, InfoHash, Principal, RequestId, Status, Torrent};
use http::request::Parts;

use crate::problem::Problem;
use crate::problem_code::ProblemCode;
use crate::state::Api;

/// The request id in the path. A text that is not an id gives 404, like an unknown id.
pub(crate) struct Id(RequestId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(id)| id.parse().ok());
        id.map(Self).ok_or_else(Problem::not_found)
    }
}

/// Returns the caller's request. The request of another user gives 404, as if it did not exist.
async fn find_owned(api: &Api, principal: &Principal, id: RequestId) -> Result<FetchRequest, Problem> {
    let row = api.requests.get(id).await?.filter(|row| row.owner == principal.user);
    row.map(|row| row.as_of(api.clock.now())).ok_or_else(Problem::not_found)
}

/// Returns the caller's request and its torrent if the request is ready, otherwise an error with the reason.
async fn ready_torrent(api: &Api, principal: &Principal, id: RequestId) -> Result<(FetchRequest, Torrent), Problem> {
    let row = find_owned(api, principal, id).await?;
    let infohash: Option<InfoHash> = match row.status {
        Status::Ready => row.infohash,
        Status::Cancelled | Status::Expired => {
            let detail = format!("the request is {}: its torrent is no longer available", row.status);
            return Err(Problem::new(ProblemCode::RequestGone, detail));
        }
        Status::Failed => {
            let why = row.failure.as_ref().map_or("", |failure| &failure.message);
            let detail = format!("the request has failed and has no torrent: {why}");
            return Err(Problem::new(ProblemCode::RequestFailed, detail));
        }
        Status::Queued | Status::Fetching | Status::Packaging | Status::Seeding => {
            let detail = format!("the request is {}: retry when it is ready", row.status);
            return Err(Problem::new(ProblemCode::NotReady, detail).retry_after(1));
        }
    };
    let torrent = match infohash {
        Some(infohash) => api.torrents.get(infohash).await?,
        None => None,
    };
    let gone = || Problem::new(ProblemCode::RequestGone, "the torrent no longer exists");
    torrent.map(|torrent| (row, torrent)).ok_or_else(gone)
}
