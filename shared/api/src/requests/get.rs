//! `GET /v1/requests/{id}`: where a request stands.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use domain::{
    ContentHash, FetchRequest, InfoHash, InfoHashV2, Method, Principal, RequestId, Status, Timestamp, TorrentFormat,
};
use serde::Serialize;
use url::Url;

use super::Id;
use crate::Api;
use crate::problem::Problem;

/// A request as its owner sees it.
#[derive(Serialize)]
pub(crate) struct RequestView {
    id: RequestId,
    status: Status,
    url: Url,
    method: Method,
    format: TorrentFormat,
    ttl: u32,
    progress: u8,
    retry_count: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
    completed_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    infohash: Option<InfoHash>,
    infohash_v2: Option<InfoHashV2>,
    content_hash: Option<ContentHash>,
    content_size: Option<u64>,
    content_type: Option<String>,
    file_name: Option<String>,
    final_url: Option<Url>,
    origin_status: Option<u16>,
    error_code: Option<&'static str>,
    error_message: Option<String>,
}

impl From<FetchRequest> for RequestView {
    fn from(row: FetchRequest) -> Self {
        let content = row.content.as_ref();
        Self {
            id: row.id,
            status: row.status,
            method: row.spec.method,
            format: row.spec.format,
            ttl: row.spec.ttl,
            progress: row.progress,
            retry_count: row.retry_count,
            created_at: row.created_at,
            updated_at: row.updated_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            infohash: row.infohash,
            infohash_v2: row.infohash_v2,
            content_hash: content.map(|content| content.hash),
            content_size: content.map(|content| content.size),
            content_type: content.map(|content| content.media_type.clone()),
            file_name: content.map(|content| content.file_name.clone()),
            final_url: content.map(|content| content.final_url.clone()),
            origin_status: content.map(|content| content.origin_status),
            error_code: row.failure.as_ref().map(|failure| failure.code.as_str()),
            error_message: row.failure.map(|failure| failure.message),
            url: row.spec.url,
        }
    }
}

pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
) -> Result<Json<RequestView>, Problem> {
    let row = super::own(&api, &principal, id).await?;
    if let (Status::Ready, Some(at)) = (row.status, row.completed_at) {
        api.estimate.note(at.since(row.created_at));
    }
    Ok(Json(row.into()))
}
