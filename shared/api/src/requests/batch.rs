//! `POST /v1/requests/batch`: creates several requests.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::{Principal, url_lines};
use http::HeaderMap;
use http::header::{HeaderValue, RETRY_AFTER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::create::{CreateRequest, Created, accept, count, media_type};
use super::validation;
use crate::abuse::TOO_MANY_READS;
use crate::client_address::ClientAddress;
use crate::field_code::FieldCode;
use crate::idempotency::IdempotencyKey;
use crate::problem::{CreateErrors, FieldError, Problem, ProblemBody};
use crate::problem_code::ProblemCode;
use crate::state::Api;

/// The most requests in one batch.
const MOST: usize = 100;

/// The most validation errors in one response.
const MOST_ERRORS: usize = 200;

/// Several requests to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents what `bodies` reads")]
pub(crate) struct CreateRequests {
    /// The requests, each as for `POST /requests`.
    #[schema(min_items = 1, max_items = 100)]
    requests: Vec<CreateRequest>,
}

/// A list of URLs, one on each line.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what `bodies` reads")]
#[schema(value_type = String, pattern = "(^|\\n)[ \\t]*[!-\"$-~]", example = "https://example.org/report.pdf\n")]
pub(crate) struct UrlList(String);

/// The results of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// One item for each request of the batch, in its order.
    items: Vec<BatchItem>,
}

/// The result for one request of a batch: it was created, or it was not and has a problem.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchItem {
    request: Option<Created>,
    #[schema(value_type = Option<ProblemBody>)]
    problem: Option<Value>,
}

#[utoipa::path(
    post,
    path = "/requests/batch",
    tag = "requests",
    summary = "Create several requests",
    description = "Creates 1 to 100 requests, each independently of the others: look at the result of each. A body of \
                   the type text/uri-list (RFC 2483) is a list of URLs, one on each line; lines that are empty or \
                   begin with # are skipped. With an `Idempotency-Key` the whole batch can be repeated: requests that \
                   exist are not created again, and do not count against the limits.",
    request_body(content((CreateRequests = "application/json"), (inline(UrlList) = "text/uri-list"))),
    responses(
        (
            status = 200,
            description = "The result of each request of the batch",
            body = BatchResult,
            headers(
                ("Retry-After" = String, description = "After how many seconds to repeat the batch, if that helps"),
                ("RateLimit" = String, description = "What is left of the limits, if there are any \
                                                      (draft-ietf-httpapi-ratelimit-headers)"),
                ("RateLimit-Policy" = String, description = "The limits, if there are any"),
            )
        ),
        CreateErrors
    )
)]
pub(crate) async fn batch(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    ClientAddress(client_ip): ClientAddress,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    api.abuse.count_read(&principal.user).map_err(|too_many| too_many.problem(TOO_MANY_READS))?;
    let key = IdempotencyKey::read(&headers)?;
    let (mut items, mut rate, mut retry_after) = (vec![], vec![], None);
    let bodies = bodies(&headers, &body)?;
    for (index, body) in bodies.iter().enumerate() {
        let key = key.as_ref().map(|key| key.of_item(index));
        let created = match count(&api, &principal.user, client_ip, key.as_ref()).await {
            Ok(counted) => {
                // A repeated item is not counted.
                rate = if counted.is_empty() { rate } else { counted };
                accept(&api, principal.user.clone(), client_ip, key.as_ref(), body.to_string().as_bytes()).await
            }
            Err(problem) => {
                rate = problem.headers().to_vec();
                Err(problem)
            }
        };
        items.push(match created {
            Ok(created) => BatchItem { request: Some(created), problem: None },
            Err(problem) => {
                retry_after = retry_after.max(problem.seconds_to_wait());
                // The response must not be much larger than the call.
                let problem = problem.with_most_errors(MOST_ERRORS / bodies.len());
                BatchItem { request: None, problem: Some(problem.body(uri.path())) }
            }
        });
    }
    let mut response = Json(BatchResult { items }).into_response();
    response.headers_mut().extend(rate);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// Returns the bodies of the requests of a batch, as for `POST /requests`.
fn bodies(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Value>, Problem> {
    let wrong = |field: &str, code, detail: &str| Err(Problem::invalid(vec![FieldError::new(field, code, detail)]));
    let bodies: Vec<_> = match media_type(headers).as_str() {
        "application/json" => validation::read_batch(body)?,
        "text/uri-list" => {
            let Ok(text) = std::str::from_utf8(body) else {
                return wrong("body", FieldCode::NotUtf8, "the list of URLs must be UTF-8");
            };
            url_lines(text).map(|url| json!({ "url": url })).collect()
        }
        _ => {
            // Not text/plain: pages of other origins may send that without a CORS preflight.
            let detail = "the body must be application/json, or text/uri-list with a URL on each line";
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
        }
    };
    if (1..=MOST).contains(&bodies.len()) {
        return Ok(bodies);
    }
    wrong("requests", FieldCode::OutOfRange, &format!("must have 1 to {MOST} requests, but has {}", bodies.len()))
}
