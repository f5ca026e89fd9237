//! Responses with a content or a range of it (RFC 9110).

use std::io;
use std::ops::Range;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::{Content, ContentHash};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ports::StoreError;
use tracing::warn;

use crate::problem::Problem;
use crate::problem_code::ProblemCode;

const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The bytes of a response body.
pub(crate) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// The requested part of the content.
#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    Whole,
    /// The offsets of the first and the last byte, both inclusive.
    Range(u64, u64),
    Unsatisfiable,
}

/// Returns the response to a call that asks for the content, or a part of it, with this method and these headers. `body`
/// returns the bytes of a range; if they cannot be read, the response is an error. `send` wraps what is sent of them.
pub(crate) async fn respond(
    content: &Content,
    method: &Method,
    asked: &HeaderMap,
    body: impl FnOnce(Range<u64>) -> Chunks,
    send: impl FnOnce(Chunks) -> Chunks,
) -> Result<Response, Problem> {
    let size = content.size;
    // The hash identifies the bytes: a strong validator (RFC 9110, 8.8.1).
    let etag = format!("\"{}\"", content.hash);
    if is_loaded_as_code(asked) {
        let detail = "a page must not load a content as a script or a style";
        return Err(Problem::new(ProblemCode::NotCode, detail));
    }
    let known = is_known(asked, &etag);
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
    // Ranges are for GET only (RFC 9110, 14.2).
    let range = asked.get(RANGE).filter(|_| method == Method::GET).and_then(|value| value.to_str().ok());
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
            return Err(Problem::new(ProblemCode::RangeNotSatisfiable, detail).with_headers(length.unwrap_or_default()));
        }
    };
    set(CONTENT_LENGTH, &(last + 1 - first).to_string());
    if method == Method::HEAD {
        return Ok((status, headers).into_response());
    }
    let mut body = body(first..last + 1);
    // An error after the status can only break the connection.
    let start = body.next().await.transpose().map_err(|error| {
        warn!(content.hash = %content.hash, %error, "content not read");
        Problem::content_unavailable()
    })?;
    let body = futures::stream::iter(start.map(Ok)).chain(body).boxed();
    Ok((status, headers, Body::from_stream(send(body))).into_response())
}

/// Whether the client has what has this ETag (RFC 9110, 13.1.2).
pub(crate) fn is_known(asked: &HeaderMap, etag: &str) -> bool {
    let values = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag.trim_start_matches("W/") == etag || tag == "*")
}

/// Whether a browser asks for a content in order to run it or to apply it to a page (W3C Fetch Metadata). The policy of
/// the web page allows scripts of this origin.
fn is_loaded_as_code(asked: &HeaderMap) -> bool {
    const CODE: [&str; 7] =
        ["audioworklet", "paintworklet", "script", "serviceworker", "sharedworker", "style", "worker"];
    let destination = asked.get("sec-fetch-dest").and_then(|value| value.to_str().ok());
    destination.is_some_and(|destination| CODE.contains(&destination))
}

/// Returns the bytes of a range in chunks of at most `chunk` bytes. `read` fills a chunk with the bytes from an offset on.
pub(crate) fn chunks<F>(range: Range<u64>, chunk: usize, read: impl Fn(u64, Vec<u8>) -> F + Send + 'static) -> Chunks
where
    F: Future<Output = Result<Vec<u8>, StoreError>> + Send + 'static,
{
    let chunks = futures::stream::try_unfold(range.start, move |offset| {
        let left = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let chunk = (left > 0).then(|| read(offset, vec![0; left.min(chunk)]));
        async move {
            let Some(chunk) = chunk else { return Ok(None) };
            let bytes = Bytes::from(chunk.await.map_err(io::Error::other)?);
            let next = offset + bytes.len() as u64;
            Ok::<_, io::Error>(Some((bytes, next)))
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

/// Returns a `Content-Disposition` value with this file name (RFC 6266), and an ASCII name for old clients.
pub(crate) fn disposition(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' }).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
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

    #[test]
    fn a_download_has_an_ascii_name_and_a_utf8_name() {
        assert_eq!(
            disposition("a \"ü\".torrent"),
            "attachment; filename=\"a ___.torrent\"; filename*=UTF-8''a%20%22%C3%BC%22%2Etorrent"
        );
    }
}
