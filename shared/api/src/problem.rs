//! Errors as `application/problem+json` (RFC 9457).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use ports::StoreError;
use serde::Serialize;
use serde_json::json;
use tracing::error;
use utoipa::{IntoResponses, ToSchema};

/// Errors told at once, and the characters that are shown of a field's name.
const MOST_ERRORS: usize = 100;
const LONGEST_FIELD: usize = 80;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    pub field: String,
    #[schema(value_type = String)]
    pub code: &'static str,
    pub detail: String,
}

/// An error (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:proxytorrent:problem:not_ready",
    "title": "Conflict",
    "status": 409,
    "detail": "the request is fetching: ask again when it is ready",
    "code": "not_ready",
    "instance": "/v1/requests/01a205b6-340d-72db-85d4-e6fb979392a0/torrent",
}))]
#[expect(dead_code, reason = "documents what `Problem::render` writes")]
pub(crate) struct ProblemBody {
    /// The kind of error, a URN made of the code.
    r#type: String,
    /// The status in words.
    title: String,
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// What is wrong, for programs. Stable.
    code: String,
    /// The path that was asked for.
    instance: String,
    /// What is wrong field by field.
    errors: Option<Vec<FieldError>>,
}

/// A set of error answers that endpoints share.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident { $($status:literal $variant:ident $what:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(IntoResponses)]
        #[expect(dead_code, reason = "documents the answers")]
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
    /// Of what belongs to a caller.
    OwnErrors {
        401 Unauthorized "You are not known.",
        404 NotFound "You have no such request.",
        408 TooSlow "The body did not come in time.",
        413 TooLarge "The body is too large.",
        422 Invalid "A parameter is not valid.",
        429 TooMany "A limit is reached; come again after Retry-After.",
        500 Internal "The service has made a mistake.",
        503 Unavailable "A store does not answer; try again.",
    }
    /// Of what a ready request has.
    ReadyErrors {
        401 Unauthorized "You are not known.",
        404 NotFound "You have no such request.",
        408 TooSlow "The body did not come in time.",
        409 NotReady "The request is not ready yet (with Retry-After), or has failed.",
        410 Gone "The request was cancelled or has expired.",
        413 TooLarge "The body is too large.",
        429 TooMany "A limit is reached; come again after Retry-After.",
        500 Internal "The service has made a mistake.",
        503 Unavailable "A store does not answer; try again.",
    }
    /// Of changing a request.
    UpdateErrors {
        400 Malformed "The body is not JSON.",
        401 Unauthorized "You are not known.",
        404 NotFound "You have no such request.",
        408 TooSlow "The body did not come in time.",
        410 Gone "The request has ended.",
        413 TooLarge "The body has more than 256 KiB.",
        415 NotJson "The body is not application/json.",
        422 Invalid "The body is not valid.",
        429 TooMany "A limit is reached; come again after Retry-After.",
        500 Internal "The service has made a mistake.",
        503 Unavailable "A store does not answer; try again.",
    }
    /// Of creating a request.
    CreateErrors {
        400 Malformed "The body is not JSON, or the Idempotency-Key is no key.",
        401 Unauthorized "You are not known.",
        408 TooSlow "The body did not come in time.",
        409 InProgress "A request with this Idempotency-Key is under way.",
        413 TooLarge "The body has more than 256 KiB.",
        415 NotJson "The body is not application/json.",
        422 Invalid "The body is not valid, or the Idempotency-Key was used with another body.",
        429 TooMany "A limit is reached; come again after Retry-After.",
        500 Internal "The service has made a mistake.",
        503 Unavailable "A store does not answer; try again.",
        507 Full "The service has no space left for more content.",
    }
}

/// An error answer. Its body is [rendered](Problem::render) where the path is known.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<u32>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: vec![], retry_after: None, headers: vec![] }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "request_not_found", "you have no request with this id")
    }

    pub fn storage_full() -> Self {
        let detail = "the service has no space left for more content; try again later";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", detail).retry_after(60)
    }

    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// The caller sent neither a token nor a signature.
    pub fn missing_credentials() -> Self {
        Self::unauthorized("authentication is required: send a bearer token, or sign the request")
    }

    /// The token or the key is not known.
    pub fn wrong_credentials() -> Self {
        Self::unauthorized("the token or the signature is not valid")
    }

    /// All that is wrong at once, as far as anybody reads: whoever sends nonsense does not get more back.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(MOST_ERRORS);
        errors.truncate(MOST_ERRORS);
        for error in &mut errors {
            error.field = error.field.chars().take(LONGEST_FIELD).collect();
        }
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let detail = format!("not valid: {}{more}", fields.join(", "));
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail) }
    }

    /// Come again in so many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Sent along.
    pub fn with_headers(self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { headers, ..self }
    }

    /// What is wrong field by field.
    #[cfg(test)]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Makes `response`, which came from this problem, its final answer.
    pub fn render(self, response: &mut Response, path: &str) {
        let mut body = json!({
            "type": format!("urn:proxytorrent:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "instance": path,
        });
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        *response.body_mut() = Body::from(body.to_string());
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
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
        if matches!(error, StoreError::Full) {
            return Self::storage_full();
        }
        error!(%error, "a store failed");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "a store of this service did not answer")
            .retry_after(5)
    }
}
