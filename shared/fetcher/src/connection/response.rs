//! Response head: status, redirect target, `Retry-After` (RFC 9110).

use std::time::{Duration, SystemTime};

use domain::{Failure, FailureCode};
use http::StatusCode;
use http::header::{HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::Response;
use url::Url;

use crate::error::FetchError;

pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether the redirect preserves the method and the body (RFC 9110, 15.4.8 and 15.4.9).
pub(crate) fn keeps_method(status: StatusCode) -> bool {
    matches!(status.as_u16(), 307 | 308)
}

/// Returns the target of a redirect. It inherits the fragment of the URL if it has none (RFC 9110, 10.2.2).
pub(crate) fn redirect_target(from: &Url, response: &Response) -> Result<Url, FetchError> {
    let bad = |message| FetchError::new(FailureCode::BadRedirect, message);
    let location = response.headers().get(LOCATION).ok_or_else(|| bad("the redirect has no Location header"))?;
    let location =
        std::str::from_utf8(location.as_bytes()).map_err(|_| bad("the redirect target is not a valid URL"))?;
    let mut target = from.join(location).map_err(|_| bad("the redirect target is not a valid URL"))?;
    if target.fragment().is_none() {
        target.set_fragment(from.fragment());
    }
    Ok(target)
}

/// Returns the URL without credentials and fragment, for display.
pub(crate) fn redacted(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    // Errors are ignored: a URL without authority cannot carry credentials.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url
}

/// Checks that the response has content (status 200 to 203). Returns a retryable failure for 408, 425, 429 and 5xx.
pub(crate) fn check_status(response: &Response) -> Result<(), FetchError> {
    let status = response.status();
    match status.as_u16() {
        200..=203 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(FetchError::Failed {
            failure: Failure::new(FailureCode::OriginUnavailable, format!("the origin responded with {status}")),
            retry_after: response.headers().get(RETRY_AFTER).and_then(retry_after),
        }),
        _ => Err(FetchError::new(FailureCode::OriginStatus, format!("the origin responded with {status}"))),
    }
}

/// Parses `Retry-After` (RFC 9110, 10.2.3): seconds or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}
