//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same request twice is one.

use std::time::Duration;

use domain::{FetchRequest, RequestId, Timestamp, UserId};
use http::{HeaderMap, HeaderName, StatusCode};
use ports::{Requests, Reservations};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long a key is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// How long a request may take from the noting of its key to its row: after that it never came to one.
const IN_PROGRESS: Duration = Duration::from_secs(60);

/// What is noted under a key, before the request's row is written: all that its answer says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Noted {
    /// The hash of the body.
    body: String,
    id: RequestId,
    created_at: i64,
    estimated_ready: Option<u64>,
}

/// The answer that was given to an earlier request with the same key.
pub(crate) struct Earlier {
    pub id: RequestId,
    pub created_at: Timestamp,
    pub estimated_ready: Option<u64>,
}

/// What a key means for a request.
pub(crate) enum Key {
    /// There is none.
    DeniedPort,
    /// It is the first with it. The name is to be released if the request fails.
    New(String),
    /// Another was before it, and this is what it was told.
    Repeated(Earlier),
}

/// Looks the request's key up, and notes it for this row if it is new.
pub(crate) async fn check(
    guards: &dyn Reservations,
    requests: &dyn Requests,
    headers: &HeaderMap,
    body: &[u8],
    row: &FetchRequest,
    estimated_ready: Option<u64>,
) -> Result<Key, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(Key::DeniedPort) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let Some(key) = key else {
        let detail = "Idempotency-Key is to have 1 to 255 printable ASCII characters";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_idempotency_key", detail));
    };
    let name = name(&row.owner, key);
    let now = row.created_at;
    let noted =
        Noted { body: hex::encode(Sha256::digest(body)), id: row.id, created_at: now.as_millis(), estimated_ready };
    let value = serde_json::to_string(&noted).map_err(|error| ports::StoreError::unavailable("idempotency", error))?;
    let Some(there) = guards.reserve(&name, &value, now, now + REMEMBERED).await? else { return Ok(Key::New(name)) };
    let earlier: Noted =
        serde_json::from_str(&there).map_err(|error| ports::StoreError::unavailable("idempotency", error))?;
    if earlier.body != noted.body {
        let detail = "this Idempotency-Key was used with another body";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail));
    }
    let created_at = Timestamp::from_millis(earlier.created_at);
    if requests.get(earlier.id).await?.is_some() {
        let estimated_ready = earlier.estimated_ready;
        return Ok(Key::Repeated(Earlier { id: earlier.id, created_at, estimated_ready }));
    }
    // Whoever noted it may have died before the row was written: one of those who come later takes its place.
    let died = now.since(created_at) > IN_PROGRESS;
    if died && guards.replace(&name, &there, &value, now + REMEMBERED).await? {
        return Ok(Key::New(name));
    }
    let detail = "a request with this Idempotency-Key is under way";
    Err(Problem::new(StatusCode::CONFLICT, "idempotency_key_in_use", detail).retry_after(1))
}

/// A hash, since a key may be as long as it likes and no other user's.
fn name(user: &UserId, key: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update((user.as_str().len() as u64).to_be_bytes());
    hasher.update(user.as_str());
    hasher.update(key);
    format!("idempotency:{}", hex::encode(hasher.finalize()))
}
