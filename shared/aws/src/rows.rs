//! Conversion between requests and DynamoDB items.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    Content, ContentHash, Failure, FetchRequest, FetchSpec, FileName, Received, RequestId, Status, Timestamp, UserId,
};
use ports::StoreError;

use crate::dynamo::{Item, n, number, optional, parsed, s, text, time, timestamp};

/// The number of shards of the indices by time, so that no single partition receives all writes.
pub(crate) const SHARDS: u32 = 8;

/// Returns the shard number of a row, from the random end of its id.
pub(crate) fn shard(id: RequestId) -> u32 {
    let text = id.to_string();
    u32::from_str_radix(&text[text.len() - 4..], 16).unwrap_or_default() % SHARDS
}

/// Returns the attributes that never change.
pub(crate) fn constants(row: &FetchRequest) -> Vec<(&'static str, Option<AttributeValue>)> {
    let spec = &row.spec;
    vec![
        ("owner", Some(s(&row.owner))),
        ("client_ip", row.client_ip.map(s)),
        ("url", Some(s(&spec.url))),
        ("method", Some(s(spec.method.as_str()))),
        ("headers", Some(s(serde_json::json!(spec.headers)))),
        ("body", spec.body.as_ref().map(s)),
        ("format", Some(s(spec.format))),
        ("ttl", Some(n(spec.ttl.as_secs()))),
        ("callback_url", spec.callback_url.as_ref().map(s)),
        ("receivers", Some(row.receivers).filter(|receivers| !receivers.is_empty()).map(s)),
        ("no_webseed", (!spec.webseed).then_some(AttributeValue::Bool(true))),
        ("fingerprint", Some(s(row.fingerprint))),
        ("keep_for", Some(n(row.keep_for.as_millis()))),
        ("history", Some(n(row.history.as_secs()))),
        ("created_at", Some(time(row.created_at))),
    ]
}

/// Returns the attributes that a step may change, including the key attributes of the indices. A key attribute is
/// only present while its index must contain the row (sparse index).
pub(crate) fn state(row: &FetchRequest) -> Vec<(&'static str, Option<AttributeValue>)> {
    let (content, failure) = (row.content.as_ref(), row.failure.as_ref());
    let mut attributes = vec![
        ("status", Some(s(row.status))),
        ("progress", Some(n(row.progress))),
        ("received_bytes", row.received.map(|received| n(received.bytes))),
        ("total_bytes", row.received.and_then(|received| received.total).map(n)),
        ("retry_count", Some(n(row.retry_count))),
        ("sha256", row.spec.sha256.map(s)),
        ("content_hash", content.map(|c| s(c.hash))),
        ("content_size", content.map(|c| n(c.size))),
        ("content_type", content.map(|c| s(&c.media_type))),
        ("file_name", content.map(|c| s(&c.file_name))),
        ("final_url", content.map(|c| s(&c.final_url))),
        ("origin_status", content.map(|c| n(c.origin_status))),
        ("fetched_at", content.map(|c| time(c.fetched_at))),
        ("checkpoint", row.checkpoint.as_ref().map(s)),
        ("infohash", row.infohash.map(s)),
        ("infohash_v2", row.infohash_v2.map(s)),
        ("error_code", failure.map(|f| s(f.code))),
        ("error_message", failure.map(|f| s(&f.message))),
        ("updated_at", Some(time(row.updated_at))),
        ("completed_at", row.completed_at.map(time)),
        ("expires_at", row.expires_at.map(time)),
        ("due_at", row.due_at.map(time)),
        ("work_shard", row.due_at.filter(|_| row.status != Status::Ready).map(|_| s(shard(row.id)))),
    ];
    attributes.extend(indexed(row));
    attributes
}

/// The names of the attributes from [`indexed`]. An ended row has none of them.
pub(crate) const INDEXED: [&str; 6] =
    ["live_owner", "live_fingerprint", "live_content", "live_torrent", "stored_size", "expiry_shard"];

fn indexed(row: &FetchRequest) -> [(&'static str, Option<AttributeValue>); INDEXED.len()] {
    let live = !row.status.is_final();
    let has_content = matches!(row.status, Status::Packaging | Status::Seeding | Status::Ready);
    let has_torrent = matches!(row.status, Status::Seeding | Status::Ready);
    let is_ready = row.status == Status::Ready;
    let content = row.content.as_ref().filter(|_| has_content);
    [
        ("live_owner", live.then(|| s(&row.owner))),
        ("live_fingerprint", live.then(|| s(row.fingerprint))),
        ("live_content", content.map(|content| s(content.hash))),
        ("live_torrent", row.infohash.filter(|_| has_torrent).map(s)),
        ("stored_size", content.filter(|_| is_ready).map(|content| n(content.size))),
        ("expiry_shard", is_ready.then(|| s(shard(row.id)))),
    ]
}

/// Whether an item has exactly the index attributes of its row.
pub(crate) fn is_indexed_as(item: &Item, row: &FetchRequest) -> bool {
    let expected = state(row).into_iter().filter(|(name, _)| INDEXED.contains(name) || *name == "work_shard");
    expected.into_iter().all(|(name, value)| item.get(name) == value.as_ref())
}

/// Returns the waiters of a row.
pub(crate) fn waiting(item: &Item) -> Result<Vec<RequestId>, StoreError> {
    let Some(ids) = item.get("waiting").and_then(|value| value.as_ss().ok()) else { return Ok(vec![]) };
    let read = |id: &String| {
        id.parse().map_err(|_| StoreError::unavailable("DynamoDB", "the attribute waiting of an item cannot be read"))
    };
    ids.iter().map(read).collect()
}

/// Returns the row of an item, or a failed row if the item cannot be read: one damaged item must not hide others.
pub(crate) fn read_or_failed(item: &Item) -> Result<FetchRequest, StoreError> {
    read(item).or_else(|error| {
        let (id, owner) = (parsed(item, "id")?, UserId::new(text(item, "owner")?));
        report_unreadable(item, &error);
        let created_at = timestamp(item, "created_at").unwrap_or(Timestamp::from_millis(0));
        Ok(FetchRequest::unreadable(id, owner, created_at))
    })
}

/// Logs an item that cannot be read.
pub(crate) fn report_unreadable(item: &Item, error: &StoreError) {
    tracing::error!(request.id = text(item, "id").unwrap_or_default(), %error, "unreadable request item");
}

/// Returns the row of an item.
pub(crate) fn read(item: &Item) -> Result<FetchRequest, StoreError> {
    let content = match optional(item, "content_hash", parsed::<ContentHash>)? {
        None => None,
        Some(hash) => Some(Content {
            hash,
            size: number(item, "content_size")?,
            media_type: parsed(item, "content_type")?,
            file_name: FileName::sanitize(text(item, "file_name")?).unwrap_or_default(),
            final_url: parsed(item, "final_url")?,
            origin_status: number(item, "origin_status")?,
            fetched_at: timestamp(item, "fetched_at")?,
        }),
    };
    let failure = match optional(item, "error_code", parsed)? {
        None => None,
        Some(code) => Some(Failure { code, message: text(item, "error_message")?.to_owned() }),
    };
    let headers = serde_json::from_str(text(item, "headers")?);
    Ok(FetchRequest {
        id: parsed(item, "id")?,
        owner: UserId::new(text(item, "owner")?),
        client_ip: optional(item, "client_ip", parsed)?,
        spec: FetchSpec {
            url: parsed(item, "url")?,
            method: parsed(item, "method")?,
            headers: headers.map_err(|error| StoreError::unavailable("DynamoDB", error))?,
            body: optional(item, "body", |item, name| text(item, name).map(str::to_owned))?,
            sha256: optional(item, "sha256", parsed)?,
            format: parsed(item, "format")?,
            ttl: Duration::from_secs(number(item, "ttl")?),
            callback_url: optional(item, "callback_url", parsed)?,
            webseed: !item.contains_key("no_webseed"),
        },
        fingerprint: parsed(item, "fingerprint")?,
        keep_for: Duration::from_millis(number(item, "keep_for")?),
        history: Duration::from_secs(number(item, "history")?),
        receivers: optional(item, "receivers", parsed)?.unwrap_or_default(),
        status: parsed(item, "status")?,
        progress: number(item, "progress")?,
        received: match optional(item, "received_bytes", number)? {
            Some(bytes) => Some(Received { bytes, total: optional(item, "total_bytes", number)? }),
            None => None,
        },
        retry_count: number(item, "retry_count")?,
        content,
        checkpoint: optional(item, "checkpoint", |item, name| text(item, name).map(str::to_owned))?,
        infohash: optional(item, "infohash", parsed)?,
        infohash_v2: optional(item, "infohash_v2", parsed)?,
        failure,
        created_at: timestamp(item, "created_at")?,
        updated_at: timestamp(item, "updated_at")?,
        completed_at: optional(item, "completed_at", timestamp)?,
        expires_at: optional(item, "expires_at", timestamp)?,
        due_at: optional(item, "due_at", timestamp)?,
    })
}
