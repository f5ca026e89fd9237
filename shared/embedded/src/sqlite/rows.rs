//! Conversion of SQLite rows into values.

use std::str::FromStr;
use std::time::Duration;

use domain::{
    Content, ContentHash, Failure, FetchRequest, FetchSpec, FileName, Received, RequestId, Timestamp, UserId,
};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Parses the text of a column.
pub(crate) fn text<T: FromStr<Err: ToString>>(row: &SqliteRow, column: &'static str) -> sqlx::Result<T> {
    parse(row.try_get(column)?, column)
}

/// Parses the text of a column, or returns `None` if it is NULL.
pub(crate) fn optional_text<T: FromStr<Err: ToString>>(
    row: &SqliteRow,
    column: &'static str,
) -> sqlx::Result<Option<T>> {
    row.try_get::<Option<&str>, _>(column)?.map(|text| parse(text, column)).transpose()
}

fn parse<T: FromStr<Err: ToString>>(text: &str, column: &'static str) -> sqlx::Result<T> {
    text.parse()
        .map_err(|error: T::Err| sqlx::Error::ColumnDecode { index: column.into(), source: error.to_string().into() })
}

fn time(row: &SqliteRow, column: &'static str) -> sqlx::Result<Timestamp> {
    row.try_get(column).map(Timestamp::from_millis)
}

fn optional_time(row: &SqliteRow, column: &'static str) -> sqlx::Result<Option<Timestamp>> {
    row.try_get::<Option<i64>, _>(column).map(|millis| millis.map(Timestamp::from_millis))
}

/// Whether the error means that the values of a row cannot be decoded.
pub(crate) fn is_unreadable(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
}

/// Returns the request of a row, or a failed request if the row cannot be read: one damaged row must not hide others.
pub(crate) fn read_or_failed(row: &SqliteRow) -> sqlx::Result<FetchRequest> {
    match read(row) {
        Err(error) if is_unreadable(&error) => {
            let (id, owner) = (text(row, "id")?, UserId::new(row.try_get::<String, _>("owner")?));
            report_unreadable(&RequestId::to_string(&id), &error);
            let created_at = time(row, "created_at").unwrap_or(Timestamp::from_millis(0));
            Ok(FetchRequest::unreadable(id, owner, created_at))
        }
        result => result,
    }
}

/// Logs and counts a row that cannot be read.
pub(crate) fn report_unreadable(id: &str, error: &sqlx::Error) {
    tracing::error!(request.id = id, %error, "unreadable request row");
    metrics::counter!("proxytorrent_unreadable_rows_total").increment(1);
}

/// Returns a number that is not negative.
pub(crate) fn unsigned(row: &SqliteRow, column: &str) -> sqlx::Result<u64> {
    let number = row.try_get::<i64, _>(column)?;
    u64::try_from(number).map_err(|error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() })
}

fn optional_unsigned(row: &SqliteRow, column: &str) -> sqlx::Result<Option<u64>> {
    if row.try_get::<Option<i64>, _>(column)?.is_some() { unsigned(row, column).map(Some) } else { Ok(None) }
}

/// Returns a number as SQLite stores it, at most [`i64::MAX`].
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns the waiters of a row.
pub(crate) fn waiting(row: &SqliteRow) -> sqlx::Result<Vec<RequestId>> {
    row.try_get::<&str, _>("waiting")?.split_whitespace().map(|id| parse(id, "waiting")).collect()
}

/// Returns the request of a row.
pub(crate) fn read(row: &SqliteRow) -> sqlx::Result<FetchRequest> {
    let content = match optional_text::<ContentHash>(row, "content_hash")? {
        None => None,
        Some(hash) => Some(Content {
            hash,
            size: unsigned(row, "content_size")?,
            media_type: text(row, "content_type")?,
            file_name: FileName::sanitize(row.try_get("file_name")?).unwrap_or_default(),
            final_url: text(row, "final_url")?,
            origin_status: row.try_get("origin_status")?,
            fetched_at: time(row, "fetched_at")?,
        }),
    };
    let failure = match optional_text(row, "error_code")? {
        None => None,
        Some(code) => Some(Failure { code, message: row.try_get("error_message")? }),
    };
    Ok(FetchRequest {
        id: text(row, "id")?,
        owner: UserId::new(row.try_get::<String, _>("owner")?),
        client_ip: optional_text(row, "client_ip")?,
        spec: FetchSpec {
            url: text(row, "url")?,
            method: text(row, "method")?,
            headers: serde_json::from_str(row.try_get("headers")?).map_err(|e| sqlx::Error::Decode(e.into()))?,
            body: row.try_get("body")?,
            sha256: optional_text(row, "sha256")?,
            format: text(row, "format")?,
            ttl: Duration::from_secs(unsigned(row, "ttl")?),
            callback_url: optional_text(row, "callback_url")?,
            webseed: row.try_get("webseed")?,
        },
        fingerprint: text(row, "fingerprint")?,
        keep_for: Duration::from_millis(unsigned(row, "keep_for")?),
        history: Duration::from_secs(unsigned(row, "history")?),
        receivers: text(row, "receivers")?,
        status: text(row, "status")?,
        progress: row.try_get("progress")?,
        received: match optional_unsigned(row, "received_bytes")? {
            Some(bytes) => Some(Received { bytes, total: optional_unsigned(row, "total_bytes")? }),
            None => None,
        },
        retry_count: row.try_get("retry_count")?,
        content,
        checkpoint: row.try_get("checkpoint")?,
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
