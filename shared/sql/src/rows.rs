//! Conversion of rows into values.

use std::str::FromStr;
use std::time::Duration;

use domain::{
    Content, ContentHash, Failure, FetchRequest, FetchSpec, FileName, Received, RequestId, Timestamp, Torrent, UserId,
};

use crate::{Columns, SqlError};

/// The columns of a request. Statements name them: a prepared `SELECT *` fails on PostgreSQL once a newer version of the
/// program has added a column.
macro_rules! request_columns {
    () => {
        "id, owner, client_ip, url, method, headers, body, sha256, format, ttl, keep_for, fingerprint, callback_url, \
         webseed, history, receivers, status, progress, received_bytes, total_bytes, retry_count, content_hash, \
         content_size, content_type, file_name, final_url, origin_status, fetched_at, checkpoint, infohash, \
         infohash_v2, error_code, error_message, created_at, updated_at, completed_at, expires_at, due_at, waiting, \
         notify_tries, notify_left"
    };
}
pub(crate) use request_columns;

/// Returns the value of a column that must not be NULL.
pub(crate) fn required<T>(value: Option<T>, column: &str) -> Result<T, SqlError> {
    value.ok_or_else(|| SqlError::unreadable(column, "it is NULL"))
}

/// Parses the text of a column.
pub(crate) fn text<T: FromStr<Err: ToString>>(row: &impl Columns, column: &str) -> Result<T, SqlError> {
    required(optional_text(row, column)?, column)
}

/// Parses the text of a column, or returns `None` if it is NULL.
pub(crate) fn optional_text<T: FromStr<Err: ToString>>(
    row: &impl Columns,
    column: &str,
) -> Result<Option<T>, SqlError> {
    row.text(column)?.map(|text| parse(text, column)).transpose()
}

fn parse<T: FromStr<Err: ToString>>(text: &str, column: &str) -> Result<T, SqlError> {
    text.parse().map_err(|error: T::Err| SqlError::unreadable(column, error.to_string()))
}

/// Returns a number that fits its type.
pub(crate) fn number<T: TryFrom<i64>>(row: &impl Columns, column: &str) -> Result<T, SqlError> {
    required(optional_number(row, column)?, column)
}

fn optional_number<T: TryFrom<i64>>(row: &impl Columns, column: &str) -> Result<Option<T>, SqlError> {
    let fitting = |number| T::try_from(number).map_err(|_| SqlError::unreadable(column, "the number is out of range"));
    row.integer(column)?.map(fitting).transpose()
}

fn time(row: &impl Columns, column: &str) -> Result<Timestamp, SqlError> {
    number(row, column).map(Timestamp::from_millis)
}

fn optional_time(row: &impl Columns, column: &str) -> Result<Option<Timestamp>, SqlError> {
    Ok(row.integer(column)?.map(Timestamp::from_millis))
}

fn owner(row: &impl Columns) -> Result<UserId, SqlError> {
    Ok(UserId::new(required(row.text("owner")?, "owner")?))
}

fn file_name(row: &impl Columns, column: &str) -> Result<FileName, SqlError> {
    Ok(FileName::sanitize(required(row.text(column)?, column)?).unwrap_or_default())
}

/// Returns the request of a row, or a failed request if the row cannot be read: one damaged row must not hide others.
pub(crate) fn read_or_failed(row: &impl Columns) -> Result<FetchRequest, SqlError> {
    match read(row) {
        Err(error @ SqlError::Unreadable { .. }) => {
            let (id, owner) = (text(row, "id")?, owner(row)?);
            report_unreadable(&RequestId::to_string(&id), &error);
            let created_at = time(row, "created_at").unwrap_or(Timestamp::from_millis(0));
            Ok(FetchRequest::unreadable(id, owner, created_at))
        }
        result => result,
    }
}

/// Logs and counts a row that cannot be read.
pub(crate) fn report_unreadable(id: &str, error: &SqlError) {
    tracing::error!(request.id = id, %error, "unreadable request row");
    metrics::counter!("proxytorrent_unreadable_rows_total").increment(1);
}

/// Returns a number as databases store it, at most [`i64::MAX`].
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns the waiters of a row.
pub(crate) fn waiting(row: &impl Columns) -> Result<Vec<RequestId>, SqlError> {
    let waiting = required(row.text("waiting")?, "waiting")?;
    waiting.split_whitespace().map(|id| parse(id, "waiting")).collect()
}

/// Returns the request of a row.
pub(crate) fn read(row: &impl Columns) -> Result<FetchRequest, SqlError> {
    let content = match optional_text::<ContentHash>(row, "content_hash")? {
        None => None,
        Some(hash) => Some(Content {
            hash,
            size: number(row, "content_size")?,
            media_type: text(row, "content_type")?,
            file_name: file_name(row, "file_name")?,
            final_url: text(row, "final_url")?,
            origin_status: number(row, "origin_status")?,
            fetched_at: time(row, "fetched_at")?,
        }),
    };
    let failure = match optional_text(row, "error_code")? {
        None => None,
        Some(code) => Some(Failure { code, message: text(row, "error_message")? }),
    };
    let headers = required(row.text("headers")?, "headers")?;
    Ok(FetchRequest {
        id: text(row, "id")?,
        owner: owner(row)?,
        client_ip: optional_text(row, "client_ip")?,
        spec: FetchSpec {
            url: text(row, "url")?,
            method: text(row, "method")?,
            headers: serde_json::from_str(headers).map_err(|error| SqlError::unreadable("headers", error))?,
            body: row.text_with_nul("body")?.map(str::to_owned),
            sha256: optional_text(row, "sha256")?,
            format: text(row, "format")?,
            ttl: Duration::from_secs(number(row, "ttl")?),
            callback_url: optional_text(row, "callback_url")?,
            webseed: required(row.boolean("webseed")?, "webseed")?,
        },
        fingerprint: text(row, "fingerprint")?,
        keep_for: Duration::from_millis(number(row, "keep_for")?),
        history: Duration::from_secs(number(row, "history")?),
        receivers: text(row, "receivers")?,
        status: text(row, "status")?,
        progress: number(row, "progress")?,
        received: match optional_number(row, "received_bytes")? {
            Some(bytes) => Some(Received { bytes, total: optional_number(row, "total_bytes")? }),
            None => None,
        },
        retry_count: number(row, "retry_count")?,
        content,
        checkpoint: row.text("checkpoint")?.map(str::to_owned),
        infohash: optional_text(row, "infohash")?,
        infohash_v2: optional_text(row, "infohash_v2")?,
        failure,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        completed_at: optional_time(row, "completed_at")?,
        expires_at: optional_time(row, "expires_at")?,
        due_at: optional_time(row, "due_at")?,
    })
}

/// Returns the torrent of a row.
pub(crate) fn torrent(row: &impl Columns) -> Result<Torrent, SqlError> {
    Ok(Torrent {
        infohash: text(row, "infohash")?,
        infohash_v2: optional_text(row, "infohash_v2")?,
        content_hash: text(row, "content_hash")?,
        name: file_name(row, "name")?,
        size: number(row, "size")?,
        piece_length: number(row, "piece_length")?,
        state: text(row, "state")?,
        version: number(row, "version")?,
        created_at: time(row, "created_at")?,
    })
}
