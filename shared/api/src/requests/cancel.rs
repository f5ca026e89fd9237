//! `DELETE /v1/requests/{id}`: stops the work, and the seeding when no one else needs it.

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
    description = "Stops the work, and the seeding when no one else needs it. A second time does no harm.",
    params(("id" = String, Path, description = "The request's id")),
    responses((status = 204, description = "It is cancelled, or had ended"), OwnErrors)
)]
pub(crate) async fn cancel(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    let row = api.requests.cancel(id, &principal.user, api.clock.now()).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    if row.status == Status::Cancelled {
        info!(request.id = %id, "cancelled");
        if let Err(error) = api.tasks.enqueue_for(Share::from(&row), Task::Release(id), Duration::ZERO).await {
            // The sweep finds it.
            warn!(request.id = %id, %error, "no wake-up was sent");
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
