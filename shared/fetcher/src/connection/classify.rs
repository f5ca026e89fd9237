//! Classification of errors of the HTTP client as failures.

use std::error::Error;
use std::io;

use domain::{Failure, FailureCode};

use super::client::LookupError;

/// An error and what lies beneath it. An I/O error passes over the error it was made of when it is asked
/// for its source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// The first error of this type in the chain.
fn source<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// An error before or during the answer, as a failure. Its text never holds a URL.
pub(crate) fn classify(error: &reqwest::Error, through_proxy: bool, is_https: bool) -> Failure {
    match source::<LookupError>(error) {
        Some(LookupError::Blocked(failure)) => return failure.clone(),
        Some(LookupError::NotFound) => {
            return Failure::new(FailureCode::NameNotResolved, "the host name has no address");
        }
        Some(LookupError::ProxyNotFound) => {
            return Failure::new(FailureCode::ProxyUnreachable, "the proxy's name has no address");
        }
        None => {}
    }
    if error.is_builder() || error.is_request() && source::<http::Error>(error).is_some() {
        return Failure::new(FailureCode::BadRequest, "the request cannot be sent as it is");
    }
    if through_proxy && let Some(failure) = proxy_failure(error, is_https) {
        return failure;
    }
    if let Some(tls) = source::<rustls::Error>(error) {
        return Failure::new(FailureCode::TlsFailed, format!("the TLS connection failed: {tls}"));
    }
    if let Some(failure) = source::<hyper::Error>(error).and_then(not_http) {
        return failure;
    }
    let kind = source::<io::Error>(error).map(io::Error::kind);
    match error.is_connect() {
        true if error.is_timeout() || kind == Some(io::ErrorKind::TimedOut) => {
            Failure::new(FailureCode::ConnectTimeout, "the origin did not accept the connection in time")
        }
        true => {
            let why = match kind {
                Some(io::ErrorKind::ConnectionRefused) => "the origin refused the connection",
                Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "the origin is unreachable",
                _ => "the connection to the origin failed",
            };
            Failure::new(FailureCode::ConnectionFailed, why)
        }
        false if error.is_timeout() => Failure::new(FailureCode::ReadTimeout, "the origin fell silent"),
        false => Failure::new(FailureCode::TransferBroken, "the origin broke the transfer off"),
    }
}

/// What is not HTTP at all, and is no better the next time.
fn not_http(error: &hyper::Error) -> Option<Failure> {
    // A chunk's size that is no number comes as an invalid input, a stream of HTTP/2 as its own error.
    let bad_chunk = matches!(
        source::<io::Error>(error).map(io::Error::kind),
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    );
    let message = match (error.is_parse(), bad_chunk) {
        (true, _) => "the origin's answer is not HTTP, or has too many headers",
        (false, true) => "the origin's chunked coding is broken",
        (false, false) => return None,
    };
    Some(Failure::new(FailureCode::BadResponse, message))
}

/// What hyper-util's errors say when a proxy's handshake fails. Their types are hidden, so their texts have
/// to tell; tests with real proxies hold each of them to it.
const PROXY_ERRORS: &[(&str, FailureCode, &str)] = &[
    ("credentials not accepted", FailureCode::ProxyAuthFailed, CREDENTIALS_REFUSED),
    ("proxy authorization required", FailureCode::ProxyAuthFailed, CREDENTIALS_REFUSED),
    ("user/pass authentication", FailureCode::ProxyAuthFailed, CREDENTIALS_REFUSED),
    ("connection not allowed", FailureCode::ProxyRefused, "the proxy's rules do not allow this origin"),
    ("connection refused", FailureCode::ConnectionFailed, "the origin refused the proxy's connection"),
    ("host unreachable", FailureCode::ConnectionFailed, "the proxy cannot reach the origin"),
    ("network unreachable", FailureCode::ConnectionFailed, "the proxy cannot reach the origin's network"),
    ("ttl expired", FailureCode::ConnectionFailed, "the proxy cannot reach the origin"),
    ("general server failure", FailureCode::ProxyRefused, "the proxy could not connect to the origin"),
    ("not supported", FailureCode::ProxyRefused, "the proxy cannot do what it was asked"),
    (
        "tunnel error: unsuccessful",
        FailureCode::ProxyRefused,
        "the proxy would not, or could not, connect to the origin",
    ),
    ("SOCKS error", FailureCode::ProxyUnreachable, "the proxy could not be reached, or broke off while it was greeted"),
    ("tunnel error", FailureCode::ProxyUnreachable, "the proxy could not be reached, or broke off while it was asked"),
    ("tcp connect error", FailureCode::ProxyUnreachable, "the proxy could not be reached"),
];

pub(crate) const CREDENTIALS_REFUSED: &str =
    "the proxy did not accept the user name and password, or wants some and none are set";

/// An error that lies between this machine and the proxy, or that the proxy tells of.
fn proxy_failure(error: &reqwest::Error, is_https: bool) -> Option<Failure> {
    let texts: Vec<_> = chain(error).map(ToString::to_string).collect();
    let has = |part: &str| texts.iter().any(|text| text.contains(part));
    if !error.is_connect() {
        return None;
    }
    if self::source::<rustls::Error>(error).is_some() {
        // Inside a tunnel it is the origin's; without one there is no other TLS than the proxy's.
        let message = "the TLS connection to the proxy failed";
        return (has("tunnel error") || !is_https).then(|| Failure::new(FailureCode::ProxyUnreachable, message));
    }
    if error.is_timeout() {
        return None;
    }
    let known = PROXY_ERRORS.iter().find(|(text, ..)| has(text));
    known.map(|(_, code, message)| Failure::new(*code, *message))
}
