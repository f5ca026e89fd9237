//! HMAC-SHA256 request signatures over method, path, query and body.
//!
//! `X-Signature` is the lower-case hexadecimal HMAC-SHA256 over
//! `METHOD\npath?query\ntimestamp\nnonce\nhex(sha256(body))`, where the path is that of the call at `PUBLIC_URL`, or
//! the one that a reverse proxy passes on. `X-Timestamp` holds the timestamp (Unix seconds), `X-Nonce` the nonce, and
//! `X-Key-Id` the name of the key, if it has one. Each nonce is accepted once.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use axum::extract::OriginalUri;
use domain::{Timestamp, UserId};
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ports::{Clock, Reservations};
use settings::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

pub(super) const X_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const X_TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const X_NONCE: HeaderName = HeaderName::from_static("x-nonce");
const X_KEY_ID: HeaderName = HeaderName::from_static("x-key-id");

/// The largest accepted difference between `X-Timestamp` and the server's clock.
const SKEW: Duration = Duration::from_secs(300);

type Key = Hmac<Sha256>;

/// The keys of request signatures.
pub(super) struct SignatureKeys {
    named: HashMap<String, Key>,
    /// The key of calls without `X-Key-Id`. Their user is `hmac`.
    unnamed: Option<Key>,
    /// Replaces an unknown key, so that the response takes as long as for a known one (timing attack).
    dummy_key: Key,
    legacy: bool,
    /// The path of `PUBLIC_URL`, without `/` at the end. A reverse proxy removes it.
    public_path: String,
}

fn key(secret: &SecretString) -> Key {
    Key::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length")
}

/// Returns the SHA-256 of a body in hexadecimal.
fn digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// Returns the signed message for a body with this digest.
fn message(method: &Method, target: &str, timestamp: &str, nonce: &str, digest: &str) -> String {
    format!("{method}\n{target}\n{timestamp}\n{nonce}\n{digest}")
}

/// Returns the headers that sign a call with `secret`. `key_id` is the name of the key, if it has one; `target` is
/// the path with the query. `nonce` must have 8 to 128 characters and must be unique.
pub fn sign(
    secret: &SecretString,
    key_id: Option<&str>,
    (method, target, body): (&Method, &str, &[u8]),
    now: Timestamp,
    nonce: &str,
) -> Result<HeaderMap, http::Error> {
    let timestamp = (now.as_millis() / 1000).to_string();
    let mut mac = key(secret);
    mac.update(message(method, target, &timestamp, nonce, &digest(body)).as_bytes());
    let mut headers = HeaderMap::new();
    headers.insert(X_SIGNATURE, HeaderValue::try_from(hex::encode(mac.finalize().into_bytes()))?);
    headers.insert(X_TIMESTAMP, HeaderValue::try_from(timestamp)?);
    headers.insert(X_NONCE, HeaderValue::try_from(nonce)?);
    if let Some(id) = key_id {
        headers.insert(X_KEY_ID, HeaderValue::try_from(id)?);
    }
    Ok(headers)
}

fn unnamed_user() -> UserId {
    UserId::new("hmac")
}

impl SignatureKeys {
    pub fn new(settings: &settings::Security, public_path: &str) -> Self {
        Self {
            named: settings.hmac_keys.iter().map(|named| (named.name.clone(), key(&named.secret))).collect(),
            unnamed: settings.hmac_secret.as_ref().map(key),
            dummy_key: Key::new_from_slice(b"nobody's").expect("HMAC takes keys of any length"),
            legacy: settings.legacy_hmac,
            public_path: public_path.trim_end_matches('/').to_owned(),
        }
    }

    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.named.keys().map(UserId::new).chain(self.unnamed.as_ref().map(|_| unnamed_user()))
    }

    /// Returns the user who signed the call. The error is the same for an unknown key and for a wrong signature.
    pub async fn check(
        &self,
        parts: &Parts,
        body: &[u8],
        guards: &dyn Reservations,
        clock: &dyn Clock,
    ) -> Result<UserId, Problem> {
        let headers = &parts.headers;
        let signature = header(headers, &X_SIGNATURE)?;
        if self.legacy && !headers.contains_key(X_TIMESTAMP) && !headers.contains_key(X_NONCE) {
            return self.check_legacy(signature, body);
        }
        let (timestamp, nonce) = (header(headers, &X_TIMESTAMP)?, header(headers, &X_NONCE)?);
        let now = clock.wall();
        let told = timestamp.parse().ok().filter(|seconds: &i64| (0..1 << 40).contains(seconds));
        let told = told.map(|seconds| Timestamp::from_millis(seconds * 1000));
        let Some(told) = told.filter(|told| now.since(*told) <= SKEW && told.since(now) <= SKEW) else {
            let detail = format!("X-Timestamp must be Unix seconds within {} s of the server's time", SKEW.as_secs());
            return Err(Problem::unauthorized(&detail));
        };
        if !(8..=128).contains(&nonce.len()) {
            return Err(Problem::unauthorized("X-Nonce must have 8 to 128 characters"));
        }
        let (key, user) = if headers.contains_key(X_KEY_ID) {
            let id = header(headers, &X_KEY_ID)?;
            (self.named.get(id), UserId::new(id))
        } else {
            (self.unnamed.as_ref(), unnamed_user())
        };
        // axum removes the prefix of nested routes from the URI; the signature covers the full path. A client signs the
        // path that it calls, which a reverse proxy may have shortened.
        let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
        let target = uri.path_and_query().map_or(uri.path(), |target| target.as_str());
        let called = format!("{}{target}", self.public_path);
        let digest = digest(body);
        let is_signed = |target: &str| {
            let message = message(&parts.method, target, timestamp, nonce, &digest);
            fits(key.unwrap_or(&self.dummy_key), message.as_bytes(), signature)
        };
        // Both are computed in every case (timing attack).
        if !(is_signed(target) | is_signed(&called)) || key.is_none() {
            return Err(wrong());
        }
        // Reserved after the signature is verified: otherwise anyone could use up the nonces of other users.
        if guards.use_once(&format!("nonce:{user}:{nonce}"), now, told + SKEW * 2).await? {
            Ok(user)
        } else {
            Err(Problem::unauthorized("X-Nonce was used before: each call needs a new one"))
        }
    }

    /// Checks a signature over the body alone, as the original ProxyTorrent has it. It can be replayed.
    fn check_legacy(&self, signature: &str, body: &[u8]) -> Result<UserId, Problem> {
        let key = self.unnamed.as_ref().filter(|key| fits(key, body, signature));
        key.map(|_| unnamed_user()).ok_or_else(wrong)
    }
}

/// Returns a header as text.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Problem> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| Problem::unauthorized(&format!("the header {name} is missing or not text")))
}

fn wrong() -> Problem {
    Problem::unauthorized("the signature does not match the request, or its key is unknown")
}

/// Whether `signature` is the hexadecimal HMAC of `message`, compared in constant time.
fn fits(key: &Key, message: &[u8], signature: &str) -> bool {
    let mut mac = key.clone();
    mac.update(message);
    hex::decode(signature).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
}

impl fmt::Debug for SignatureKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignatureKeys(********)")
    }
}
