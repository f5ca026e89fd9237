//! Classification of HTTP client errors as failures.

use std::error::Error;
use std::io;

use domain::{Failure, FailureCode};

use super::client::LookupError;

/// Returns an error and its chain of sources. `io::Error::source` skips the wrapped error itself, so I/O errors are
/// unwrapped with `get_ref`.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// Returns the first error of this type in the chain.
fn source<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Converts an error before or during the response into a failure. The text never contains a URL.
pub(crate) fn classify(error: &reqwest::Error, through_proxy: bool, is_https: bool) -> Failure {
    match source::<LookupError>(error) {
        Some(LookupError::Blocked(failure)) => return failure.clone(),
        Some(LookupError::NotFound) => {
            return Failure::new(FailureCode::NameNotResolved, "the host name has no address");
        }
        Some(LookupError::ProxyNotFound) => {
            return Failure::new(FailureCode::ProxyUnreachable, "the host name of the proxy has no address");
        }
        None => {}
    }
    if error.is_builder() || error.is_request() && source::<http::Error>(error).is_some() {
        return Failure::new(FailureCode::BadRequest, "the request is not valid HTTP");
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
        false if error.is_timeout() => Failure::new(FailureCode::ReadTimeout, "the origin stopped sending"),
        false => Failure::new(FailureCode::TransferBroken, "the origin closed the connection during the transfer"),
    }
}

/// Returns a permanent failure if the response is not HTTP: a retry would not help.
fn not_http(error: &hyper::Error) -> Option<Failure> {
    // hyper reports an invalid chunk size as invalid input or data. An error of an HTTP/2 stream has its own type.
    let bad_chunk = matches!(
        source::<io::Error>(error).map(io::Error::kind),
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    );
    let message = match (error.is_parse(), bad_chunk) {
        (true, _) => "the response of the origin is not HTTP, or has too many headers",
        (false, true) => "the chunked transfer coding of the origin is invalid",
        (false, false) => return None,
    };
    Some(Failure::new(FailureCode::BadResponse, message))
}

/// Texts of hyper-util's errors for a failed proxy handshake, with their failure codes. The error types are private,
/// so the texts are matched; tests with real proxies check each of them.
const PROXY_ERRORS: &[(&str, FailureCode, &str)] = &[
    ("credentials not accepted", FailureCode::ProxyAuthFailed, CREDENTIALS_REFUSED),
    ("proxy authorization required", FailureCode::ProxyAuthFailed, CREDENTIALS_REFUSED),
    ("user/pass authentication", FailureCode::ProxyAuthFailed, CREDENTIALS_REFUSED),
    ("connection not allowed", FailureCode::ProxyRefused, "the proxy's rules do not allow this origin"),
    ("connection refused", FailureCode::ConnectionFailed, "the origin refused the connection from the proxy"),
    ("host unreachable", FailureCode::ConnectionFailed, "the proxy cannot reach the origin"),
    ("network unreachable", FailureCode::ConnectionFailed, "the proxy cannot reach the origin's network"),
    ("ttl expired", FailureCode::ConnectionFailed, "the proxy cannot reach the origin"),
    ("general server failure", FailureCode::ProxyRefused, "the proxy could not connect to the origin"),
    ("not supported", FailureCode::ProxyRefused, "the proxy does not support the command or the address type"),
    ("tunnel error: unsuccessful", FailureCode::ProxyRefused, "the proxy refused the tunnel to the origin"),
    (
        "SOCKS error",
        FailureCode::ProxyUnreachable,
        "the proxy could not be reached, or closed the connection during the SOCKS5 handshake",
    ),
    (
        "tunnel error",
        FailureCode::ProxyUnreachable,
        "the proxy could not be reached, or closed the connection during the CONNECT request",
    ),
    ("tcp connect error", FailureCode::ProxyUnreachable, "the proxy could not be reached"),
];

pub(crate) const CREDENTIALS_REFUSED: &str =
    "the proxy did not accept the user name and password, or requires them and none are set";

/// Returns the failure of an error between this machine and the proxy, or of one that the proxy reported. `None` if
/// the error is not the proxy's.
fn proxy_failure(error: &reqwest::Error, is_https: bool) -> Option<Failure> {
    let texts: Vec<_> = chain(error).map(ToString::to_string).collect();
    let has = |part: &str| texts.iter().any(|text| text.contains(part));
    if !error.is_connect() {
        return None;
    }
    if self::source::<rustls::Error>(error).is_some() {
        // After the tunnel is open, a TLS error belongs to the origin. Before that, or for an http URL, TLS is only
        // used to the proxy.
        let message = "the TLS connection to the proxy failed";
        return (has("tunnel error") || !is_https).then(|| Failure::new(FailureCode::ProxyUnreachable, message));
    }
    if error.is_timeout() {
        return None;
    }
    let known = PROXY_ERRORS.iter().find(|(text, ..)| has(text));
    known.map(|(_, code, message)| Failure::new(*code, *message))
}
