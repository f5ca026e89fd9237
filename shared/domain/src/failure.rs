//! Why a request failed, as a stable code.

use std::fmt;
use std::str::FromStr;

/// A failure with its code and a sentence for people. Holds no secret: it is shown to the owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What went wrong, for programs.
    pub code: FailureCode,
    /// What went wrong, for people.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

macro_rules! failure_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $retryable:literal;)+) => {
        /// Every way a request can fail. The text is part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FailureCode {
            $($(#[$doc])* $name,)+
        }

        impl FailureCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As it is written in the API, the store, the logs and the metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Whether trying again later may help.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)+ }
            }
        }
    };
}

failure_codes! {
    /// The URL's scheme is neither http nor https.
    UnsupportedScheme = "unsupported_scheme", false;
    /// The host is not one that may be fetched from.
    BlockedHost = "blocked_host", false;
    /// The port is not one that may be fetched from.
    BlockedPort = "blocked_port", false;
    /// The host's address is not a public one.
    BlockedAddress = "blocked_address", false;
    /// The host's name has no address.
    NameNotResolved = "name_not_resolved", true;
    /// The origin refused the connection or could not be reached.
    ConnectionFailed = "connection_failed", true;
    /// The origin's certificate is not valid for it.
    TlsFailed = "tls_failed", false;
    /// The connection could not be made in time.
    ConnectTimeout = "connect_timeout", true;
    /// The origin fell silent.
    ReadTimeout = "read_timeout", true;
    /// The origin sends more slowly than `FETCHER__MIN_RATE` asks for.
    TooSlow = "too_slow", true;
    /// The content did not come within the time that a function may run, and cannot be gone on with in another run.
    TimeLimit = "time_limit", false;
    /// The origin broke the transfer off.
    TransferBroken = "transfer_broken", true;
    /// What the origin answered is not HTTP, or its headers are too many.
    BadResponse = "bad_response", false;
    /// The proxy could not be reached, or broke off before it had connected to the origin.
    ProxyUnreachable = "proxy_unreachable", true;
    /// The proxy did not answer in time.
    ProxyTimeout = "proxy_timeout", true;
    /// The proxy did not accept the user name and password.
    ProxyAuthFailed = "proxy_auth_failed", false;
    /// The proxy is there and refused to connect to the origin, or could not.
    ProxyRefused = "proxy_refused", true;
    /// Redirected too often, or in a circle.
    TooManyRedirects = "too_many_redirects", false;
    /// A redirect that cannot be followed.
    BadRedirect = "bad_redirect", false;
    /// The origin answered 408, 425, 429 or 5xx.
    OriginUnavailable = "origin_unavailable", true;
    /// The origin answered with another status than 200.
    OriginStatus = "origin_status", false;
    /// The content is larger than allowed.
    TooLarge = "too_large", false;
    /// There is no content to make a torrent of.
    EmptyContent = "empty_content", false;
    /// The content's type is not on the whitelist.
    MediaTypeNotAllowed = "media_type_not_allowed", false;
    /// The content came encoded, and its encoding is broken or unknown.
    BadEncoding = "bad_encoding", false;
    /// The content is not the one whose SHA-256 was asked for, or whose digest the origin declared.
    ChecksumMismatch = "checksum_mismatch", false;
    /// The request's headers or body cannot be sent.
    BadRequest = "bad_request", false;
    /// The seeder refused the torrent.
    SeedingFailed = "seeding_failed", false;
    /// The stored content was found damaged or gone after the request was ready.
    ContentCorrupt = "content_corrupt", false;
    /// The content does not fit on this service's disk.
    StorageFull = "storage_full", false;
    /// A store failed; the log knows more.
    Internal = "internal", true;
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FailureCode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|code| code.as_str() == s).ok_or_else(|| format!("'{s}' is no failure code"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for &code in FailureCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
        }
    }
}
