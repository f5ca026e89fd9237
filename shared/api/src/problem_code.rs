//! The codes of error responses.

use std::borrow::Cow;

use http::StatusCode;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Defines the codes with their texts and statuses.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal $status:ident,)+) => {
        /// The code of an error response, for programs. The text is part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ProblemCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the text in responses.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Returns the status of responses with this code.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
        }
    };
}

codes! {
    /// The call does not have one Host header.
    BadHost = "bad_host" BAD_REQUEST,
    /// The Idempotency-Key is not valid.
    InvalidIdempotencyKey = "invalid_idempotency_key" BAD_REQUEST,
    /// The body could not be read.
    MalformedBody = "malformed_body" BAD_REQUEST,
    /// The body is not a JSON object.
    MalformedJson = "malformed_json" BAD_REQUEST,
    /// The credentials are missing or not valid.
    Unauthorized = "unauthorized" UNAUTHORIZED,
    /// A page must not load a content as a script, a style or a worker.
    NotCode = "not_code" FORBIDDEN,
    /// There is nothing at this path.
    NotFound = "not_found" NOT_FOUND,
    /// The caller has no request with this id.
    RequestNotFound = "request_not_found" NOT_FOUND,
    /// Metrics are off.
    MetricsOff = "metrics_off" NOT_FOUND,
    /// The path does not support this method.
    MethodNotAllowed = "method_not_allowed" METHOD_NOT_ALLOWED,
    /// The body was not received in time.
    BodyTimeout = "body_timeout" REQUEST_TIMEOUT,
    /// A call with this Idempotency-Key is in progress.
    IdempotencyKeyInUse = "idempotency_key_in_use" CONFLICT,
    /// The request is not ready yet.
    NotReady = "not_ready" CONFLICT,
    /// The request has failed.
    RequestFailed = "request_failed" CONFLICT,
    /// The request was cancelled or has expired.
    RequestGone = "request_gone" GONE,
    /// The download link has expired.
    LinkExpired = "link_expired" GONE,
    /// The body is too large.
    BodyTooLarge = "body_too_large" PAYLOAD_TOO_LARGE,
    /// The body is not application/json.
    UnsupportedMediaType = "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE,
    /// The range is outside the content.
    RangeNotSatisfiable = "range_not_satisfiable" RANGE_NOT_SATISFIABLE,
    /// The call was made with a host name that is not that of this service.
    UnknownHost = "unknown_host" MISDIRECTED_REQUEST,
    /// The Idempotency-Key was used with another body.
    IdempotencyKeyReused = "idempotency_key_reused" UNPROCESSABLE_ENTITY,
    /// The parameters or fields in `errors` are not valid.
    ValidationFailed = "validation_failed" UNPROCESSABLE_ENTITY,
    /// A limit of stored or active requests is reached.
    QuotaExceeded = "quota_exceeded" TOO_MANY_REQUESTS,
    /// A rate limit is reached.
    RateLimited = "rate_limited" TOO_MANY_REQUESTS,
    /// An internal error of the service.
    Internal = "internal" INTERNAL_SERVER_ERROR,
    /// The stored content cannot be read.
    ContentUnavailable = "content_unavailable" SERVICE_UNAVAILABLE,
    /// A store of the service is unavailable.
    StoreUnavailable = "store_unavailable" SERVICE_UNAVAILABLE,
    /// The keys of the issuer of JSON Web Tokens cannot be read.
    IssuerUnavailable = "issuer_unavailable" SERVICE_UNAVAILABLE,
    /// Too many downloads are running.
    TooManyDownloads = "too_many_downloads" SERVICE_UNAVAILABLE,
    /// The service has no storage space left.
    StorageFull = "storage_full" INSUFFICIENT_STORAGE,
}

/// Returns the schema of stable codes.
pub(crate) fn codes_schema(codes: impl Iterator<Item = &'static str>, what: &str) -> RefOr<Schema> {
    let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    RefOr::T(schema.description(Some(what)).into())
}

impl PartialSchema for ProblemCode {
    fn schema() -> RefOr<Schema> {
        codes_schema(Self::ALL.iter().map(|code| code.as_str()), "The code of an error, for programs; stable.")
    }
}

impl ToSchema for ProblemCode {
    fn name() -> Cow<'static, str> {
        "ProblemCode".into()
    }
}

#[cfg(test)]
mod tests {
    use domain::FailureCode;

    use super::*;

    #[test]
    fn the_manual_has_every_code() {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-api.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        let (_, codes) = manual.split_once("## Problem details").unwrap();
        for code in ProblemCode::ALL {
            let row = format!("| {} | `{}` |", code.status().as_u16(), code.as_str());
            assert!(codes.contains(&row), "docs/http-api.md has no row {row}");
        }
        let (_, codes) = manual.split_once("## Error codes").unwrap();
        for code in FailureCode::ALL {
            assert!(codes.contains(&format!("`{code}`")), "docs/http-api.md has no {code}");
        }
        let advice = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/troubleshooting.md");
        let advice = std::fs::read_to_string(advice).unwrap();
        let (of_requests, of_calls) = advice.split_once("## A call is refused").unwrap();
        for code in FailureCode::ALL {
            assert!(of_requests.contains(&format!("| `{code}` |")), "docs/troubleshooting.md has no {code}");
        }
        for code in ProblemCode::ALL {
            assert!(of_calls.contains(&format!("`{}`", code.as_str())), "docs/troubleshooting.md has no {code:?}");
        }
    }
}
