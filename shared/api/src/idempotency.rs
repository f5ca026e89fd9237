//! Idempotency keys (`Idempotency-Key`, draft-ietf-httpapi-idempotency-key-header): a retry creates no second
//! request.

use std::time::Duration;

use domain::{FetchRequest, RequestId, Timestamp, UserId};
use http::{HeaderMap, HeaderName};
use ports::{Requests, Reservations};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::problem_code::ProblemCode;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long a key is stored.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The longest time between storing the key and creating the row. After that the first call counts as crashed.
const IN_PROGRESS: Duration = Duration::from_secs(60);

/// The value stored under a key before the row is created: everything that the response contains.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Noted {
    /// The SHA-256 of the body, in hexadecimal.
    body: String,
    id: RequestId,
    created_at: i64,
    estimated_ready: Option<u64>,
}

/// The response to an earlier call with the same key.
pub(crate) struct Earlier {
    pub id: RequestId,
    pub created_at: Timestamp,
    pub estimated_ready: Option<u64>,
}

/// The result of checking the key of a call.
pub(crate) enum Key {
    /// The call has no key.
    Absent,
    /// The key is new. Its name must be released if the call fails.
    New(String),
    /// An earlier call used the key, and got this response.
    Repeated(Earlier),
}

/// An idempotency key: one that a caller chose, or an internal one.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key of this program, whose texts no caller can choose: they contain a line feed.
    pub fn internal(purpose: &str, text: &str) -> Self {
        Self(format!("{purpose}\n{text}"))
    }

    /// Reads the key of a call, if it has one.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        match key.to_str() {
            Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(Self(key.to_owned()))),
            _ => {
                let detail = "Idempotency-Key must have 1 to 255 printable ASCII characters";
                Err(Problem::new(ProblemCode::InvalidIdempotencyKey, detail))
            }
        }
    }

    /// Returns the key of an item of a batch with this key.
    pub(crate) fn of_item(&self, index: usize) -> Self {
        Self::internal(&format!("item {index}"), &self.0)
    }
}

/// Whether an earlier call of this user had this key.
pub(crate) async fn is_known(
    guards: &dyn Reservations,
    user: &UserId,
    key: &IdempotencyKey,
    now: Timestamp,
) -> Result<bool, Problem> {
    Ok(guards.value(&name(user, &key.0), now).await?.is_some())
}

/// Checks the key of a call, and reserves it for this row if it is new.
pub(crate) async fn check(
    guards: &dyn Reservations,
    requests: &dyn Requests,
    key: Option<&IdempotencyKey>,
    body: &[u8],
    row: &FetchRequest,
    estimated_ready: Option<u64>,
) -> Result<Key, Problem> {
    let Some(IdempotencyKey(key)) = key else { return Ok(Key::Absent) };
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
        return Err(Problem::new(ProblemCode::IdempotencyKeyReused, detail));
    }
    let created_at = Timestamp::from_millis(earlier.created_at);
    if requests.get(earlier.id).await?.is_some() {
        let estimated_ready = earlier.estimated_ready;
        return Ok(Key::Repeated(Earlier { id: earlier.id, created_at, estimated_ready }));
    }
    // The first caller may have crashed before it created the row; one later caller takes over the key
    // (compare-and-swap).
    let died = now.since(created_at) > IN_PROGRESS;
    if died && guards.replace(&name, &there, &value, now + REMEMBERED).await? {
        return Ok(Key::New(name));
    }
    let detail = "a call with this Idempotency-Key is in progress";
    Err(Problem::new(ProblemCode::IdempotencyKeyInUse, detail).retry_after(1))
}

/// Returns the name under which a key is stored: a hash, which bounds its length and separates the users.
fn name(user: &UserId, key: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update((user.as_str().len() as u64).to_be_bytes());
    hasher.update(user.as_str());
    hasher.update(key);
    format!("idempotency:{}", hex::encode(hasher.finalize()))
}
