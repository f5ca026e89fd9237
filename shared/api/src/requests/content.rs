//! `GET /v1/requests/{id}/content`: the content. `GET /webseed/{id}/{key}`: the content as a webseed (BEP 19).
//!
//! The webseed URL has no query: libtorrent does not use a webseed on loopback whose URL has one.

use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::{Content, ContentHash, Principal, RequestId, Status};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName as Name, Method, StatusCode};
use ports::{Contents, UploadLimiter};

use super::Id;
use super::links::disposition;
use crate::problem::{Problem, ReadyErrors};
use crate::state::Api;

/// Bytes per read from the content store.
const CHUNK: u64 = 256 * 1024;

/// The most bytes that a webseed sends at once under an upload limit.
const LIMITED_PART: usize = 16 * 1024;

const REPR_DIGEST: Name = HeaderName::from_static("repr-digest");

#[utoipa::path(
    get,
    path = "/requests/{id}/content",
    tag = "requests",
    summary = "Download the content",
    params(
        ("id" = String, Path, description = "The request's id"),
        ("Range" = Option<String>, Header, description = "One byte range (RFC 9110, 14.2); more return the whole"),
    ),
    responses(
        (status = 200, description = "The content", content_type = "*/*", body = Vec<u8>),
        (status = 206, description = "The requested range", content_type = "*/*", body = Vec<u8>),
        (status = 307, description = "A redirect to a download link that is valid for an hour (on AWS)"),
        (status = 304, description = "Not modified: the client has the content (If-None-Match)"),
        (status = 416, description = "The range is outside the content"),
        ReadyErrors
    )
)]
pub(crate) async fn content(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    Id(id): Id,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (row, _) = super::ready_torrent(&api, &principal, id).await?;
    let content = row.content.ok_or_else(Problem::not_found)?;
    serve(api.contents.clone(), &content, &method, &headers, |body| body).await
}

/// `GET /webseed/{id}/{key}`: the content for peers. The torrent contains the key, which is valid until the request
/// ends.
pub(crate) async fn webseed(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let not_found = || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no content at this path");
    let Path((id, key)) = path.map_err(|_| not_found())?;
    let id: RequestId = id.parse().map_err(|_| not_found())?;
    if !api.passkeys.opens_content(id, &key) {
        return Err(not_found());
    }
    let row = api.requests.get(id).await?.map(|row| row.as_of(api.clock.now()));
    let row = row.filter(|row| row.status == Status::Ready);
    let content = row.and_then(|row| row.content).ok_or_else(not_found)?;
    let limiter = api.upload_limiter.clone();
    serve(api.contents.clone(), &content, &method, &headers, |chunks| limited(chunks, limiter)).await
}

/// Waits before each part of a chunk until the upload limit allows it, and counts it.
fn limited(chunks: Chunks, limiter: Option<Arc<dyn UploadLimiter>>) -> Chunks {
    // Small parts, so that a low limit does not starve a client.
    let size = if limiter.is_some() { LIMITED_PART } else { usize::MAX };
    let parts = chunks.flat_map(move |chunk| {
        let mut rest = chunk.map_or_else(|error| (None, Some(error)), |bytes| (Some(bytes), None));
        futures::stream::iter(std::iter::from_fn(move || match &mut rest {
            (Some(bytes), _) if !bytes.is_empty() => Some(Ok(bytes.split_to(size.min(bytes.len())))),
            (_, error) => error.take().map(Err),
        }))
    });
    let parts = parts.then(move |part| {
        let limiter = limiter.clone();
        async move {
            let bytes = part.as_ref().map_or(0, Bytes::len) as u64;
            if let Some(limiter) = limiter {
                limiter.take(bytes).await;
            }
            metrics::counter!("proxytorrent_webseed_bytes_total").increment(bytes);
            part
        }
    });
    parts.boxed()
}

/// The requested part of the content.
#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    Whole,
    /// The offsets of the first and the last byte, both inclusive.
    Range(u64, u64),
    Unsatisfiable,
}

async fn serve(
    contents: Arc<dyn Contents>,
    content: &Content,
    method: &Method,
    asked: &HeaderMap,
    limit: impl FnOnce(Chunks) -> Chunks,
) -> Result<Response, Problem> {
    // The link is signed for GET only.
    if method == Method::GET
        && let Some(link) = contents.link(content.hash, content.file_name.as_str(), content.media_type.as_str()).await?
    {
        let headers = [(LOCATION, link), (CACHE_CONTROL, "private, no-store".to_owned())];
        return Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response());
    }
    let missing = || {
        let detail = "the stored content cannot be read; it is fetched again if the origin still has it: retry later";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "content_unavailable", detail).retry_after(5)
    };
    let size = contents.size(content.hash).await?.ok_or_else(missing)?;
    // The hash identifies the bytes: a strong validator (RFC 9110, 8.8.1).
    let etag = format!("\"{}\"", content.hash);
    let known = asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().trim_start_matches("W/") == etag || one.trim() == "*"));
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(ETAG, &etag);
    set(ACCEPT_RANGES, "bytes");
    set(CACHE_CONTROL, "private, no-cache");
    // Untrusted bytes on this origin: browsers must save them, and must not render or run them.
    set(CONTENT_DISPOSITION, &disposition(content.file_name.as_str()));
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
    if known {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    set(CONTENT_TYPE, content.media_type.as_str());
    set(REPR_DIGEST, &repr_digest(content.hash));
    let range = asked.get(RANGE).and_then(|value| value.to_str().ok());
    // `If-Range` requires the strong comparison (RFC 9110, 13.1.5).
    let fresh = asked.get(IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let (status, first, last) = match range.filter(|_| fresh).map_or(ByteRange::Whole, |range| parse_range(range, size))
    {
        ByteRange::Whole => (StatusCode::OK, 0, size.saturating_sub(1)),
        ByteRange::Range(first, last) => {
            set(CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
            (StatusCode::PARTIAL_CONTENT, first, last)
        }
        ByteRange::Unsatisfiable => {
            let detail = format!("the range is outside the content, which has {size} bytes");
            let length = HeaderValue::from_str(&format!("bytes */{size}")).map(|value| vec![(CONTENT_RANGE, value)]);
            return Err(Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail)
                .with_headers(length.unwrap_or_default()));
        }
    };
    set(CONTENT_LENGTH, &(last + 1 - first).to_string());
    let body = Body::from_stream(limit(chunks(contents, content.hash, first, last + 1)));
    Ok((status, headers, body).into_response())
}

/// The bytes of a response body.
type Chunks = BoxStream<'static, io::Result<Bytes>>;

fn chunks(contents: Arc<dyn Contents>, hash: ContentHash, from: u64, end: u64) -> Chunks {
    let chunks = futures::stream::try_unfold(from, move |offset| {
        let contents = contents.clone();
        async move {
            if offset >= end {
                return Ok(None);
            }
            let mut chunk = vec![0; (end - offset).min(CHUNK) as usize];
            contents.read_at(hash, offset, &mut chunk).await.map_err(io::Error::other)?;
            let next = offset + chunk.len() as u64;
            Ok::<_, io::Error>(Some((Bytes::from(chunk), next)))
        }
    });
    chunks.boxed()
}

/// Returns the value of `Repr-Digest` (RFC 9530).
fn repr_digest(hash: ContentHash) -> String {
    use base64::Engine;
    format!("sha-256=:{}:", base64::engine::general_purpose::STANDARD.encode(hash.as_bytes()))
}

/// Parses a `Range` header (RFC 9110, 14.1.2). Several ranges, and a value that is not a byte range, return the whole
/// content, as the RFC allows.
fn parse_range(range: &str, size: u64) -> ByteRange {
    let unit = range.get(..6).filter(|unit| unit.eq_ignore_ascii_case("bytes="));
    let Some((first, last)) = unit.and_then(|_| range[6..].trim().split_once('-')) else {
        return ByteRange::Whole;
    };
    // Digits only: `parse` also accepts a sign. A number that is too large for `u64` is beyond the end as well.
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => ByteRange::Whole,
        (Some(first), Some(_)) if first >= size => ByteRange::Unsatisfiable,
        (Some(first), None) if first >= size && last.is_empty() => ByteRange::Unsatisfiable,
        (Some(first), Some(last)) => ByteRange::Range(first, last.min(size - 1)),
        (Some(first), None) if last.is_empty() => ByteRange::Range(first, size - 1),
        (None, Some(length)) if first.is_empty() && length.min(size) == 0 => ByteRange::Unsatisfiable,
        (None, Some(length)) if first.is_empty() => ByteRange::Range(size.saturating_sub(length), size - 1),
        _ => ByteRange::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_headers_are_parsed_as_in_rfc_9110() {
        for (range, expected) in [
            ("bytes=0-0", ByteRange::Range(0, 0)),
            ("bytes=2-5", ByteRange::Range(2, 5)),
            ("bytes=2-", ByteRange::Range(2, 9)),
            ("bytes=2-100", ByteRange::Range(2, 9)),
            ("bytes=-3", ByteRange::Range(7, 9)),
            ("bytes=-100", ByteRange::Range(0, 9)),
            ("bytes=10-", ByteRange::Unsatisfiable),
            ("bytes=10-12", ByteRange::Unsatisfiable),
            ("bytes=-0", ByteRange::Unsatisfiable),
            ("Bytes=0-0", ByteRange::Range(0, 0)),
            ("bytes=99999999999999999999-", ByteRange::Unsatisfiable),
            ("bytes=+5-+9", ByteRange::Whole),
            ("bytes=5-2", ByteRange::Whole),
            ("bytes=0-1,3-4", ByteRange::Whole),
            ("items=0-1", ByteRange::Whole),
            ("bytes=", ByteRange::Whole),
            ("bytes=-", ByteRange::Whole),
            ("bytes=a-b", ByteRange::Whole),
        ] {
            assert_eq!(parse_range(range, 10), expected, "{range}");
        }
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(parse_range(range, 0), ByteRange::Unsatisfiable, "{range} of an empty content");
        }
    }
}
