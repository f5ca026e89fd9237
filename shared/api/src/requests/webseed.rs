//! `GET /webseed/{id}/{key}`: the content of a request's torrent, for peers.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, Method};

use crate::client_address::ClientAddress;
use crate::problem::Problem;
use crate::state::Api;
use crate::webseed::not_found;

pub(crate) async fn webseed(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    client: ClientAddress,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.webseed.as_ref().ok_or_else(not_found)?.respond(path, client, &method, &headers).await
}
