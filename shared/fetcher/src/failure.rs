//! What the HTTP client's errors mean.

use std::error::Error;
use std::io;
use std::time::Duration;

use domain::{Failure, FailureCode};
use ports::StoreError;

use crate::client::LookupError;

/// Why a fetch did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The content was not to be had; whether trying again may help stands in the failure's code.
    #[error("{failure}")]
    Failed {
        /// What went wrong.
        failure: Failure,
        /// The origin's wish when to come again.
        retry_after: Option<Duration>,
    },
    /// It was to be had, and could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        Self::Failed { failure, retry_after: None }
    }
}

impl FetchError {
    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Failure::new(code, message).into()
    }
}

/// The first error of this type among an error and its sources.
fn source<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(found) = this.downcast_ref() {
            return Some(found);
        }
        error = this.source();
    }
    None
}

/// An error before or during the answer, as a failure. Its text never holds a URL.
pub(crate) fn classify(error: &reqwest::Error, through_proxy: bool) -> Failure {
    match source::<LookupError>(error) {
        Some(LookupError::Blocked(failure)) => return failure.clone(),
        Some(LookupError::NotFound) if !through_proxy => {
            return Failure::new(FailureCode::NameNotResolved, "the host name has no address");
        }
        _ => {}
    }
    if error.is_builder() || error.is_request() && source::<http::Error>(error).is_some() {
        return Failure::new(FailureCode::BadRequest, "the request cannot be sent as it is");
    }
    if source::<rustls::Error>(error).is_some() {
        let what = source::<rustls::Error>(error).map(ToString::to_string).unwrap_or_default();
        return Failure::new(FailureCode::TlsFailed, format!("the TLS connection failed: {what}"));
    }
    let kind = source::<io::Error>(error).map(io::Error::kind);
    match (error.is_connect(), through_proxy) {
        (true, true) => {
            let message = "the proxy could not be reached, or did not connect to the origin";
            Failure::new(FailureCode::ProxyUnreachable, message)
        }
        (true, false) if error.is_timeout() || kind == Some(io::ErrorKind::TimedOut) => {
            Failure::new(FailureCode::ConnectTimeout, "the origin did not accept the connection in time")
        }
        (true, false) => {
            let why = match kind {
                Some(io::ErrorKind::ConnectionRefused) => "the origin refused the connection",
                Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "the origin is unreachable",
                _ => "the connection to the origin failed",
            };
            Failure::new(FailureCode::ConnectionFailed, why)
        }
        (false, _) if error.is_timeout() => Failure::new(FailureCode::ReadTimeout, "the origin fell silent"),
        (false, _) => Failure::new(FailureCode::TransferBroken, "the origin broke the transfer off"),
    }
}
