//! `DELETE /v1/passkeys`: revokes the tracker passkeys of the caller.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use domain::Principal;
use http::StatusCode;
use tracing::info;

use crate::problem::{OwnErrors, Problem};
use crate::state::Api;

#[utoipa::path(
    delete,
    path = "/passkeys",
    tag = "requests",
    summary = "Revoke your tracker passkeys",
    description = "Invalidates the passkeys in all your `.torrent` files and magnet links, which the tracker then \
                   refuses, and all your links to contents. Download them again to get new ones.",
    responses((status = 204, description = "The passkeys are revoked"), OwnErrors)
)]
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
) -> Result<StatusCode, Problem> {
    api.passkeys.revoke(&*api.guards, &principal.user, api.clock.now()).await?;
    info!(user = %principal.user, "passkeys revoked");
    Ok(StatusCode::NO_CONTENT)
}
