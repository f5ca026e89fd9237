//! What the head of an answer says (RFC 9110).

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

pub(crate) fn keeps_method(status: StatusCode) -> bool {
    matches!(status.as_u16(), 307 | 308)
}

pub(crate) fn redirect_target(from: &Url, response: &Response) -> Result<Url, FetchError> {
    let bad = |message| FetchError::new(FailureCode::BadRedirect, message);
    let location = response.headers().get(LOCATION).ok_or_else(|| bad("a redirect leads nowhere"))?;
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| bad("a redirect's target is not a URL"))?;
    let mut target = from.join(location).map_err(|_| bad("a redirect's target is not a URL"))?;
    if target.fragment().is_none() {
        target.set_fragment(from.fragment());
    }
    Ok(target)
}

/// A URL as it may be shown.
pub(crate) fn redacted(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    // Into the void if there are none, or none can be.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url
}

/// Whether an answer brings content; a failure if not.
pub(crate) fn check_status(response: &Response) -> Result<(), FetchError> {
    let status = response.status();
    match status.as_u16() {
        200..=203 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(FetchError::Failed {
            failure: Failure::new(FailureCode::OriginUnavailable, format!("the origin answered {status}")),
            retry_after: response.headers().get(RETRY_AFTER).and_then(retry_after),
        }),
        _ => Err(FetchError::new(FailureCode::OriginStatus, format!("the origin answered {status}"))),
    }
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}
