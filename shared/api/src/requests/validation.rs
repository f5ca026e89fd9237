//! Validation of request bodies. All errors are reported at once.

use std::time::Duration;

use domain::{ContentHash, FetchSpec, KEPT_UNTIL_CANCELLED, Method, TorrentFormat, UnknownText};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, HeaderValue,
    IF_RANGE, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use serde_json::{Map, Value};
use url::Url;

use crate::field_code::FieldCode;
use crate::limits::MAX_BODY;
use crate::problem::{FieldError, Problem};
use crate::problem_code::ProblemCode;

/// The longest URL and header value, in bytes.
const MAX_TEXT: usize = 8 * 1024;
/// The most headers of a request.
pub(crate) const MAX_HEADERS: usize = 64;
/// The most bytes of all header names and values together: about what common servers accept.
const MAX_ALL_HEADERS: usize = 16 * 1024;

/// Headers with personal credentials: allowed with `FETCHER__ALLOW_CREDENTIAL_HEADERS`.
const CREDENTIALS: [HeaderName; 2] = [AUTHORIZATION, COOKIE];

/// Headers that belong to the connection (RFC 9110, 7.6.1), to the fetch itself, or to this service. `Proxy-*`
/// headers, which belong to the proxy, are refused as well.
const REFUSED: [HeaderName; 19] = [
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    IF_RANGE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("cookie2"),
    HeaderName::from_static("trailers"),
    RANGE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("x-key-id"),
    HeaderName::from_static("x-nonce"),
    HeaderName::from_static("x-signature"),
    HeaderName::from_static("x-timestamp"),
];

/// The fields that are not read yet, and the errors found so far.
struct Fields {
    object: Map<String, Value>,
    errors: Vec<FieldError>,
}

/// A validation error of a value: a code and a sentence.
type Wrong = (FieldCode, String);

fn wrong<T>(code: FieldCode, detail: impl Into<String>) -> Result<T, Wrong> {
    Err((code, detail.into()))
}

impl Fields {
    /// Removes a field and parses its value with `parse`. Returns `None` if it is absent, null or invalid.
    fn take<T>(&mut self, name: &str, parse: impl FnOnce(Value) -> Result<T, Wrong>) -> Option<T> {
        let value = self.object.remove(name).filter(|value| !value.is_null())?;
        match parse(value) {
            Ok(value) => Some(value),
            Err((code, detail)) => {
                self.refuse(name, code, detail);
                None
            }
        }
    }

    /// Refuses the fields that were not taken.
    fn refuse_others(&mut self, detail: &str) {
        for (name, _) in std::mem::take(&mut self.object) {
            self.refuse(&name, FieldCode::UnknownField, detail.to_owned());
        }
    }

    fn refuse(&mut self, field: &str, code: FieldCode, detail: String) {
        self.errors.push(FieldError::new(field, code, detail));
    }
}

/// The defaults and limits of a new request.
pub(super) struct Limits {
    pub format: TorrentFormat,
    pub default_ttl: u64,
    pub max_ttl: u64,
    pub default_keep: u64,
    pub credentials: bool,
    pub webhooks: bool,
}

/// Validates the body of `POST /v1/requests`. Returns what to fetch, and the retention.
pub(super) fn read(body: &[u8], limits: &Limits) -> Result<(FetchSpec, Duration), Problem> {
    let mut fields = fields(body)?;
    let had_url = fields.object.get("url").is_some_and(|url| !url.is_null());
    let url = fields.take("url", |value| read_url(value, limits.credentials));
    if !had_url {
        fields.refuse("url", FieldCode::Required, "is required".into());
    }
    let method = fields.take("method", method).unwrap_or_default();
    let headers = headers(&mut fields, limits.credentials);
    let body = fields.take("body", |value| text(value, MAX_BODY));
    if body.is_some() && !method.takes_body() {
        fields.refuse(
            "body",
            FieldCode::NotAllowed,
            format!("{} must not have a body; allowed with POST, PUT and PATCH", method.as_str()),
        );
    }
    let ttl =
        fields.take("ttl", |value| ttl(&value, limits.max_ttl)).unwrap_or(Duration::from_secs(limits.default_ttl));
    let keep = fields.take("keep", |value| keep(&value)).unwrap_or(retention(limits.default_keep));
    let sha256 = fields.take("sha256", sha256);
    let format = fields.take("format", format).unwrap_or(limits.format);
    let webseed = fields.take("webseed", |value| boolean(&value)).unwrap_or(true);
    let callback_url = fields.take("callback_url", |value| {
        if limits.webhooks {
            read_url(value, false)
        } else {
            wrong(
                FieldCode::NotAvailable,
                "webhooks are off: an operator can turn them on with SECURITY__WEBHOOK_SECRET",
            )
        }
    });
    fields.refuse_others(
        "is not a field; allowed: url, method, headers, body, ttl, keep, sha256, format, webseed and callback_url",
    );
    match url {
        Some(url) if fields.errors.is_empty() => {
            Ok((FetchSpec { url, method, headers, body, sha256, format, ttl, callback_url, webseed }, keep))
        }
        _ => Err(Problem::invalid(fields.errors)),
    }
}

/// Validates the body of `PATCH /v1/requests/{id}`. Returns the new retention.
pub(super) fn read_changes(body: &[u8]) -> Result<Duration, Problem> {
    let mut fields = fields(body)?;
    let had_keep = fields.object.get("keep").is_some_and(|keep| !keep.is_null());
    let keep = fields.take("keep", |value| keep(&value));
    if !had_keep {
        fields.refuse("keep", FieldCode::Required, "is required".into());
    }
    fields.refuse_others("is not a field that can be changed; allowed: keep");
    match keep {
        Some(keep) if fields.errors.is_empty() => Ok(keep),
        _ => Err(Problem::invalid(fields.errors)),
    }
}

/// Validates the JSON body of `POST /v1/requests/batch`. Returns the bodies of its requests, which are not validated.
pub(super) fn read_batch(body: &[u8]) -> Result<Vec<Value>, Problem> {
    let mut fields = fields(body)?;
    let requests = fields.object.remove("requests");
    fields.refuse_others("is not a field; allowed: requests");
    match requests {
        Some(Value::Array(requests)) if fields.errors.is_empty() => Ok(requests),
        Some(Value::Array(_)) => Err(Problem::invalid(fields.errors)),
        _ => {
            fields.refuse("requests", FieldCode::WrongType, "must be a list of requests".into());
            Err(Problem::invalid(fields.errors))
        }
    }
}

fn fields(body: &[u8]) -> Result<Fields, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(Fields { object, errors: vec![] }),
        Ok(_) => Err(malformed("the body must be a JSON object".into())),
        Err(error) => Err(malformed(format!("the body is not JSON: {error}"))),
    }
}

/// The longest retention (`keep`), in seconds: about 95 years.
pub(super) const MAX_KEEP: u64 = 3_000_000_000;

fn keep(value: &Value) -> Result<Duration, Wrong> {
    match whole(value) {
        Some(seconds) if seconds <= MAX_KEEP => Ok(retention(seconds)),
        _ => {
            let detail = format!("must be a whole number from 0 to {MAX_KEEP}, in seconds; 0 is until cancelled");
            wrong(FieldCode::OutOfRange, detail)
        }
    }
}

/// Returns the retention for a `keep` of this many seconds; 0 means until the request is cancelled.
fn retention(seconds: u64) -> Duration {
    if seconds == 0 { KEPT_UNTIL_CANCELLED } else { Duration::from_secs(seconds) }
}

fn malformed(detail: String) -> Problem {
    Problem::new(ProblemCode::MalformedJson, detail)
}

fn text(value: Value, max: usize) -> Result<String, Wrong> {
    match value {
        Value::String(text) if text.len() <= max => Ok(text),
        Value::String(_) => wrong(FieldCode::TooLong, format!("must have at most {max} bytes")),
        _ => wrong(FieldCode::WrongType, "must be a string"),
    }
}

fn read_url(value: Value, credentials: bool) -> Result<Url, Wrong> {
    let text = text(value, MAX_TEXT)?;
    let mut url = match Url::parse(&text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            return wrong(FieldCode::InvalidUrl, "has no scheme: begin it with http:// or https://");
        }
        Err(error) => return wrong(FieldCode::InvalidUrl, format!("is not a URL: {error}")),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong(
            FieldCode::UnsupportedScheme,
            format!("the scheme {} cannot be fetched; allowed: http, https", url.scheme()),
        );
    }
    if !credentials && (!url.username().is_empty() || url.password().is_some()) {
        return wrong(
            FieldCode::CredentialsNotAllowed,
            "must not contain a user name or password; an operator can allow it with FETCHER__ALLOW_CREDENTIAL_HEADERS",
        );
    }
    // The fragment is not sent to the origin; without it, more requests are identical.
    url.set_fragment(None);
    Ok(url)
}

fn method(value: Value) -> Result<Method, Wrong> {
    let text = text(value, 16)?;
    text.parse().or_else(|error: UnknownText| wrong(FieldCode::InvalidMethod, error.to_string()))
}

/// Returns the valid headers. Reports an error for each invalid one.
fn headers(fields: &mut Fields, credentials: bool) -> Vec<(String, String)> {
    let object = fields.take("headers", |value| match value {
        Value::Object(object) if object.len() <= MAX_HEADERS => Ok(object),
        Value::Object(_) => wrong(FieldCode::TooMany, format!("must have at most {MAX_HEADERS} headers")),
        _ => wrong(FieldCode::WrongType, "must be an object of header names and values"),
    });
    let mut headers = vec![];
    for (name, value) in object.unwrap_or_default() {
        match header(&name, value, credentials) {
            Ok((same, _)) if headers.iter().any(|(earlier, _)| *earlier == same) => {
                fields.refuse(
                    &format!("headers.{same}"),
                    FieldCode::DuplicateHeader,
                    "is given twice: header names are case-insensitive".into(),
                );
            }
            Ok(header) => headers.push(header),
            Err((code, detail)) => {
                let shown: String = name.chars().take(64).collect();
                fields.refuse(&format!("headers.{shown}"), code, detail);
            }
        }
    }
    if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_ALL_HEADERS {
        let detail = format!("must have at most {MAX_ALL_HEADERS} bytes, names and values together");
        fields.refuse("headers", FieldCode::TooLong, detail);
    }
    headers
}

fn header(name: &str, value: Value, credentials: bool) -> Result<(String, String), Wrong> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return wrong(FieldCode::InvalidHeader, "is not a valid header name");
    };
    if !credentials && CREDENTIALS.contains(&name) {
        let detail = "cannot be set; an operator can allow it with FETCHER__ALLOW_CREDENTIAL_HEADERS";
        return wrong(FieldCode::HeaderNotAllowed, detail);
    }
    if REFUSED.contains(&name) || name.as_str().starts_with("proxy-") {
        return wrong(
            FieldCode::HeaderNotAllowed,
            "cannot be set: it belongs to the connection, the fetch or this service",
        );
    }
    let value = text(value, MAX_TEXT)?;
    let printable = value.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte));
    if !printable || HeaderValue::from_str(&value).is_err() {
        return wrong(FieldCode::InvalidHeader, "must contain only printable ASCII characters, spaces and tabs");
    }
    Ok((name.to_string(), value))
}

/// Returns a whole number that is not negative. JSON has one number type: 60.0 is 60.
fn whole(value: &Value) -> Option<u64> {
    let fraction = || value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; the cast saturates")]
    let float = || fraction().map(|number| number as u64);
    value.as_u64().or_else(float)
}

fn ttl(value: &Value, max: u64) -> Result<Duration, Wrong> {
    match whole(value) {
        Some(ttl) if ttl <= max => Ok(Duration::from_secs(ttl)),
        _ => wrong(FieldCode::OutOfRange, format!("must be a whole number from 0 to {max}, in seconds")),
    }
}

fn boolean(value: &Value) -> Result<bool, Wrong> {
    value.as_bool().ok_or(()).or_else(|()| wrong(FieldCode::WrongType, "must be true or false"))
}

fn sha256(value: Value) -> Result<ContentHash, Wrong> {
    text(value, 64)?.parse().or_else(|_| wrong(FieldCode::InvalidHash, "must be a SHA-256 of 64 hexadecimal digits"))
}

fn format(value: Value) -> Result<TorrentFormat, Wrong> {
    text(value, 16)?.parse().or_else(|error: UnknownText| wrong(FieldCode::InvalidFormat, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        format: TorrentFormat::V1,
        default_ttl: 60,
        max_ttl: 100,
        default_keep: 1000,
        credentials: false,
        webhooks: false,
    };

    fn errors(body: &str) -> Vec<(String, FieldCode)> {
        let problem = read(body.as_bytes(), &LIMITS).expect_err(body);
        problem.errors().iter().map(|error| (error.field.clone(), error.code)).collect()
    }

    #[test]
    fn a_url_is_enough() {
        let (spec, keep) = read(br#"{"url": "http://example.org/a#b"}"#, &LIMITS).unwrap();
        assert_eq!((spec.url.as_str(), spec.method, spec.ttl.as_secs()), ("http://example.org/a", Method::Get, 60));
        assert_eq!(keep, Duration::from_secs(1000));
    }

    #[test]
    fn credentials_are_accepted_where_they_are_allowed() {
        let limits = Limits { credentials: true, ..LIMITS };
        let body = br#"{"url": "http://u:p@h/", "headers": {"Authorization": "a", "Cookie": "b"}}"#;
        assert_eq!(read(body, &limits).unwrap().0.headers.len(), 2);
        let host = br#"{"url": "http://h/", "headers": {"Proxy-Authorization": "a"}}"#;
        assert!(read(host, &limits).is_err(), "proxy headers are always refused");
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let body = r#"{"url": "ftp://x/", "method": "get", "ttl": 101, "sha256": "ab", "format": 2, "x": 1, "webseed": "no",
                       "headers": {"Cookie": "a", "X-Good": "b", "a b": "c"}, "body": "b"}"#;
        let expected = [
            ("url", FieldCode::UnsupportedScheme),
            ("method", FieldCode::InvalidMethod),
            ("headers.Cookie", FieldCode::HeaderNotAllowed),
            ("headers.a b", FieldCode::InvalidHeader),
            ("body", FieldCode::NotAllowed),
            ("ttl", FieldCode::OutOfRange),
            ("sha256", FieldCode::InvalidHash),
            ("format", FieldCode::WrongType),
            ("webseed", FieldCode::WrongType),
            ("x", FieldCode::UnknownField),
        ];
        assert_eq!(errors(body), expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[test]
    fn invalid_values_are_refused() {
        for (body, code) in [
            ("{}", FieldCode::Required),
            (r#"{"url": null}"#, FieldCode::Required),
            (r#"{"url": 5}"#, FieldCode::WrongType),
            (r#"{"url": "http://"}"#, FieldCode::InvalidUrl),
            (r#"{"url": "http://h/", "ttl": -1}"#, FieldCode::OutOfRange),
            (r#"{"url": "http://h/", "ttl": 1.5}"#, FieldCode::OutOfRange),
            (r#"{"url": "http://h/", "headers": {"a b": "c"}}"#, FieldCode::InvalidHeader),
            (r#"{"url": "http://h/", "headers": {"a": "b\r\nc: d"}}"#, FieldCode::InvalidHeader),
            (r#"{"url": "http://h/", "headers": {"a": 1}}"#, FieldCode::WrongType),
            (r#"{"url": "http://h/", "headers": {"hOsT": "x"}}"#, FieldCode::HeaderNotAllowed),
            (r#"{"url": "http://h/", "headers": {"Range": "bytes=0-"}}"#, FieldCode::HeaderNotAllowed),
            (r#"{"url": "http://u:p@h/"}"#, FieldCode::CredentialsNotAllowed),
        ] {
            assert_eq!(errors(body).first().map(|(_, code)| *code), Some(code), "{body}");
        }
        let long = "v".repeat(6_000);
        let long = format!(r#"{{"url": "http://h/", "headers": {{"a": "{long}", "b": "{long}", "c": "{long}"}}}}"#);
        assert_eq!(errors(&long), [("headers".to_owned(), FieldCode::TooLong)]);
        for body in ["", "[]", "5", "{", "{\"url\": \"http://h/\"} x"] {
            assert_eq!(errors(body), [], "malformed: {body}");
        }
    }
}
