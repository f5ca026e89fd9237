//! Error responses as `application/problem+json` (RFC 9457).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use ports::StoreError;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;
use utoipa::{IntoResponses, ToSchema};

use crate::field_code::FieldCode;
use crate::problem_code::ProblemCode;

/// The most validation errors in one response.
const MOST_ERRORS: usize = 100;

/// The most characters of a field name in a response.
const LONGEST_FIELD: usize = 80;

/// A validation error of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The name of the field.
    pub field: String,
    /// The code of the error.
    pub code: FieldCode,
    /// The text of the error, for people.
    pub detail: String,
}

impl FieldError {
    /// An error of this field or parameter.
    pub fn new(field: impl Into<String>, code: FieldCode, detail: impl Into<String>) -> Self {
        Self { field: field.into(), code, detail: detail.into() }
    }
}

/// An error response (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:proxytorrent:problem:not_ready",
    "title": "Conflict",
    "status": 409,
    "detail": "the request is fetching: retry when it is ready",
    "code": "not_ready",
    "instance": "/v1/requests/01a205b6-340d-72db-85d4-e6fb979392a0/torrent",
}))]
#[expect(dead_code, reason = "documents what `Problem::render` writes")]
pub(crate) struct ProblemBody {
    /// A URN for the kind of error, derived from `code`.
    r#type: String,
    /// The reason phrase of the HTTP status.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The text of the error, for people.
    detail: String,
    code: ProblemCode,
    /// The path of the call.
    instance: String,
    /// The validation errors, field by field.
    errors: Option<Vec<FieldError>>,
}

/// Defines a set of error responses that endpoints share.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident { $($status:literal $variant:ident $what:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(IntoResponses)]
        #[expect(dead_code, reason = "documents the responses")]
        pub(crate) enum $name {
            $(
                #[doc = $what]
                #[response(status = $status, content_type = "application/problem+json")]
                $variant(ProblemBody),
            )+
        }
    )+};
}

errors! {
    /// Errors of endpoints for the caller's own data.
    OwnErrors {
        401 Unauthorized "The credentials are missing or not valid.",
        404 NotFound "You have no such request.",
        408 TooSlow "The body was not received in time.",
        413 TooLarge "The body is too large.",
        421 Misdirected "The host name is not that of this service (while authentication is off).",
        422 Invalid "A parameter is not valid.",
        429 TooMany "A limit is reached; retry after the time in Retry-After.",
        500 Internal "An internal error of the service.",
        503 Unavailable "A store of the service, or the issuer of your token, is unavailable; retry later.",
    }
    /// Errors of endpoints that need a ready request.
    ReadyErrors {
        401 Unauthorized "The credentials are missing or not valid.",
        404 NotFound "You have no such request.",
        408 TooSlow "The body was not received in time.",
        409 NotReady "The request is not ready yet (retry after Retry-After), or has failed.",
        410 Gone "The request was cancelled or has expired.",
        413 TooLarge "The body is too large.",
        421 Misdirected "The host name is not that of this service (while authentication is off).",
        429 TooMany "A limit is reached; retry after the time in Retry-After.",
        500 Internal "An internal error of the service.",
        503 Unavailable "A store of the service, or the issuer of your token, is unavailable; retry later.",
    }
    /// Errors of changing a request.
    UpdateErrors {
        400 Malformed "The body is not JSON.",
        401 Unauthorized "The credentials are missing or not valid.",
        404 NotFound "You have no such request.",
        408 TooSlow "The body was not received in time.",
        410 Gone "The request has ended.",
        413 TooLarge "The body is larger than 256 KiB.",
        415 NotJson "The body is not application/json.",
        421 Misdirected "The host name is not that of this service (while authentication is off).",
        422 Invalid "The body is not valid.",
        429 TooMany "A limit is reached; retry after the time in Retry-After.",
        500 Internal "An internal error of the service.",
        503 Unavailable "A store of the service, or the issuer of your token, is unavailable; retry later.",
    }
    /// Errors of creating a request.
    CreateErrors {
        400 Malformed "The body is not JSON, or the Idempotency-Key is not valid.",
        401 Unauthorized "The credentials are missing or not valid.",
        408 TooSlow "The body was not received in time.",
        409 InProgress "A call with this Idempotency-Key is in progress.",
        413 TooLarge "The body is larger than 256 KiB.",
        415 NotJson "The body has another media type.",
        421 Misdirected "The host name is not that of this service (while authentication is off).",
        422 Invalid "The body is not valid, or the Idempotency-Key was used with another body.",
        429 TooMany "A limit is reached; retry after the time in Retry-After.",
        500 Internal "An internal error of the service.",
        503 Unavailable "A store of the service, or the issuer of your token, is unavailable; retry later.",
        507 Full "The service has no storage space left.",
    }
}

/// An error response. The middleware [renders](Problem::render) its body, since it knows the path.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: ProblemCode,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<u64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: vec![], retry_after: None, headers: vec![] }
    }

    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    pub fn not_found() -> Self {
        Self::new(ProblemCode::RequestNotFound, "you have no request with this id")
    }

    pub fn content_unavailable() -> Self {
        let detail = "the stored content cannot be read; it is fetched again if the origin still has it: retry later";
        Self::new(ProblemCode::ContentUnavailable, detail).retry_after(5)
    }

    pub fn storage_full() -> Self {
        let detail = "the service has no storage space left; retry later";
        Self::new(ProblemCode::StorageFull, detail).retry_after(60)
    }

    pub fn unauthorized(detail: &str) -> Self {
        Self::new(ProblemCode::Unauthorized, detail)
    }

    /// A 401 for a call with neither a token nor a signature.
    pub fn missing_credentials() -> Self {
        Self::unauthorized("authentication is required: send a bearer token, or sign the call")
    }

    /// A 401 for a call whose token or signature is not valid.
    pub fn wrong_credentials() -> Self {
        Self::unauthorized("the token or the signature is not valid")
    }

    /// A 422 with all validation errors, up to a limit: bad input must not produce a larger response.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(MOST_ERRORS);
        errors.truncate(MOST_ERRORS);
        for error in &mut errors {
            error.field = error.field.chars().take(LONGEST_FIELD).collect();
        }
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let detail = format!("not valid: {}{more}", fields.join(", "));
        Self { errors, ..Self::new(ProblemCode::ValidationFailed, detail) }
    }

    /// Limits the number of validation errors.
    pub fn with_most_errors(mut self, most: usize) -> Self {
        self.errors.truncate(most);
        self
    }

    /// Sets `Retry-After`, in seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Sets additional headers of the response.
    pub fn with_headers(self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { headers, ..self }
    }

    /// Returns the validation errors.
    #[cfg(test)]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Returns the additional headers of the response.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Returns the seconds after which a retry may help, if it may.
    pub fn seconds_to_wait(&self) -> Option<u64> {
        self.retry_after
    }

    /// Returns the detail, with that of each validation error.
    pub fn explained(&self) -> String {
        let errors: Vec<_> = self.errors.iter().map(|error| format!("{} {}", error.field, error.detail)).collect();
        if errors.is_empty() { self.detail.clone() } else { errors.join("; ") }
    }

    /// Writes the problem into the body of `response`, which was made from it.
    pub fn render(self, response: &mut Response, path: &str) {
        *response.body_mut() = Body::from(self.body(path).to_string());
    }

    /// Returns the problem as JSON. `path` is that of the call.
    pub fn body(&self, path: &str) -> Value {
        let mut body = json!({
            "type": format!("urn:proxytorrent:problem:{}", self.code.as_str()),
            "title": self.status().canonical_reason().unwrap_or_default(),
            "status": self.status().as_u16(),
            "detail": self.detail,
            "code": self.code.as_str(),
            "instance": path,
        });
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"proxytorrent\""));
        }
        headers.extend(self.headers.iter().cloned());
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_full() {
            return Self::storage_full();
        }
        error!(%error, "store failed");
        Self::new(ProblemCode::StoreUnavailable, "a store of this service is unavailable").retry_after(5)
    }
}
