//! Failures of requests, with stable codes.

use crate::text_enum::text_enum;

/// A failure: its code, and a sentence for people. It has no secrets, since the owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code, for programs.
    pub code: FailureCode,
    /// The message, for people.
    pub message: String,
}

impl Failure {
    /// A failure with this code and message.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

text_enum! {
    /// The reasons for which a request can fail. The text is part of the API.
    pub enum FailureCode ("failure code") {
        /// The scheme of the URL is neither http nor https.
        UnsupportedScheme = "unsupported_scheme",
        /// The host is blocked by the settings.
        BlockedHost = "blocked_host",
        /// The port is blocked.
        BlockedPort = "blocked_port",
        /// The address of the host is not public.
        BlockedAddress = "blocked_address",
        /// The name of the host has no address.
        NameNotResolved = "name_not_resolved",
        /// The origin refused the connection or could not be reached.
        ConnectionFailed = "connection_failed",
        /// The origin's certificate is not valid for it.
        TlsFailed = "tls_failed",
        /// The connection was not established in time.
        ConnectTimeout = "connect_timeout",
        /// The origin sent nothing for `FETCHER__READ_TIMEOUT`.
        ReadTimeout = "read_timeout",
        /// The origin sends more slowly than `FETCHER__MIN_RATE` asks for.
        TooSlow = "too_slow",
        /// The content was not received before the deadline of the function, and the fetch cannot be resumed.
        TimeLimit = "time_limit",
        /// The origin closed the connection during the transfer.
        TransferBroken = "transfer_broken",
        /// The response of the origin is not HTTP, or has too many headers.
        BadResponse = "bad_response",
        /// The proxy could not be reached, or closed the connection before it had connected to the origin.
        ProxyUnreachable = "proxy_unreachable",
        /// The proxy did not respond in time.
        ProxyTimeout = "proxy_timeout",
        /// The proxy did not accept the user name and password.
        ProxyAuthFailed = "proxy_auth_failed",
        /// The proxy refused to connect to the origin, or could not.
        ProxyRefused = "proxy_refused",
        /// Too many redirects, or a redirect loop.
        TooManyRedirects = "too_many_redirects",
        /// A redirect that cannot be followed.
        BadRedirect = "bad_redirect",
        /// The origin responded with 408, 425, 429 or 5xx.
        OriginUnavailable = "origin_unavailable",
        /// The origin responded with another status than 200 to 203.
        OriginStatus = "origin_status",
        /// The content is larger than allowed.
        TooLarge = "too_large",
        /// The content is empty: a torrent needs at least one byte.
        EmptyContent = "empty_content",
        /// The media type of the content is not on the whitelist.
        MediaTypeNotAllowed = "media_type_not_allowed",
        /// The content coding of the response is broken or unknown.
        BadEncoding = "bad_encoding",
        /// The SHA-256 of the content is not the requested one, or its digest is not the one that the origin declared.
        ChecksumMismatch = "checksum_mismatch",
        /// The request's headers or body cannot be sent.
        BadRequest = "bad_request",
        /// The seeder refused the torrent.
        SeedingFailed = "seeding_failed",
        /// The stored content was found damaged or gone after the request was ready.
        ContentCorrupt = "content_corrupt",
        /// The content does not fit on this service's disk.
        StorageFull = "storage_full",
        /// A store failed; the log has the error.
        Internal = "internal",
    }
}

impl FailureCode {
    /// Whether a retry may succeed.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::NameNotResolved
                | Self::ConnectionFailed
                | Self::ConnectTimeout
                | Self::ReadTimeout
                | Self::TooSlow
                | Self::TransferBroken
                | Self::ProxyUnreachable
                | Self::ProxyTimeout
                | Self::ProxyRefused
                | Self::OriginUnavailable
                | Self::Internal
        )
    }
}
