//! Range requests (RFC 9110, 14): strong validators and `Content-Range`.

use std::time::Duration;

use http::header::{ACCEPT_RANGES, DATE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};

/// Adds the headers that request the bytes from offset `from`, if the content is unchanged (RFC 9110, 13.1.5 and
/// 14.2).
pub(crate) fn ask_for_rest(headers: &mut HeaderMap, from: u64, validator: HeaderValue) {
    headers.insert(RANGE, HeaderValue::try_from(format!("bytes={from}-")).expect("digits are fine in a header"));
    headers.insert(IF_RANGE, validator);
}

/// Returns the validator for a later range request, if the origin serves ranges: a strong entity tag, or a strong
/// `Last-Modified` (RFC 9110, 8.8.2.2: at least a minute before `Date`).
pub(crate) fn strong_validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let serves_parts =
        headers.get_all(ACCEPT_RANGES).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes"));
    if !serves_parts {
        return None;
    }
    if let Some(tag) = headers.get(ETAG) {
        // A weak entity tag (W/) does not guarantee equal bytes.
        return tag.as_bytes().starts_with(b"\"").then(|| tag.clone());
    }
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let age = date(DATE)?.duration_since(date(LAST_MODIFIED)?).ok()?;
    (age >= Duration::from_secs(60)).then(|| headers[LAST_MODIFIED].clone())
}

/// Parses `bytes 5-9/10` or `bytes 5-9/*`. Returns the first byte, the last byte and the total size.
pub(crate) fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_validators_let_a_transfer_resume() {
        let ranges = ("accept-ranges", "bytes");
        let (date, old) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:48:37 GMT");
        for (headers, strong) in [
            (&[ranges, ("etag", "\"a\"")][..], true),
            (&[ranges, ("etag", "W/\"a\"")], false),
            (&[("etag", "\"a\"")], false),
            (&[("accept-ranges", "none"), ("etag", "\"a\"")], false),
            (&[ranges, ("date", date), ("last-modified", old)], true),
            (&[ranges, ("date", date), ("last-modified", date)], false),
            (&[ranges, ("last-modified", old)], false),
            (&[ranges, ("etag", "W/\"a\""), ("date", date), ("last-modified", old)], false),
            (&[ranges], false),
        ] {
            let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            assert_eq!(strong_validator(&map.collect()).is_some(), strong, "{headers:?}");
        }
    }

    #[test]
    fn content_ranges_are_parsed_strictly() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["bytes */10", "bytes 9-5/10", "bytes 5-10/10", "items 5-9/10", "bytes 5-9", "bytes -5-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
