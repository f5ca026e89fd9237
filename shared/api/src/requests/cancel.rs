//! `DELETE /v1/requests/{id}`: cancels a request. Seeding stops if no other request refers to the torrent.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use domain::{Principal, Status};
use http::StatusCode;
use ports::{Share, Task};
use tracing::{info, warn};

use super::Id;
use crate::problem::{OwnErrors, Problem};
use crate::state::Api;

#[utoipa::path(
    delete,
    path = "/requests/{id}",
    tag = "requests",
    summary = "Cancel a request",
    description = "Stops the work. Seeding stops if no other request refers to the torrent. A repeated call has no \
                   effect.",
    params(("id" = String, Path, description = "The request's id")),
    responses((status = 204, description = "The request is cancelled, or had already ended"), OwnErrors)
)]
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    let row = api.requests.cancel(id, &principal.user, api.clock.now()).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    if row.status == Status::Cancelled {
        info!(request.id = %id, "request cancelled");
        if let Err(error) = api.tasks.enqueue_for(Share::from(&row), Task::Release(id), Duration::ZERO).await {
            // The sweep finds the row.
            warn!(request.id = %id, %error, "task not enqueued");
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
