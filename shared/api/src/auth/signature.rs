//! HMAC-SHA256 signatures over the whole request.
//!
//! `X-Signature` is the lower-case hexadecimal HMAC-SHA256 over
//! `METHOD\npath?query\ntimestamp\nnonce\nhex(sha256(body))`, with the timestamp (Unix seconds) in
//! `X-Timestamp` and the nonce in `X-Nonce`. A nonce is taken once.

use std::fmt;
use std::time::Duration;

use axum::extract::OriginalUri;
use domain::{Timestamp, UserId};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use http::request::Parts;
use ports::{Clock, Guards};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

pub(super) const X_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const X_TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const X_NONCE: HeaderName = HeaderName::from_static("x-nonce");

/// How far a timestamp may be off.
const SKEW: Duration = Duration::from_secs(300);

/// The user of the one key.
pub(super) fn user() -> UserId {
    UserId::new("hmac")
}

pub(super) struct SignatureKey(Hmac<Sha256>);

impl SignatureKey {
    pub fn new(secret: &str) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length"))
    }

    pub async fn check(
        &self,
        parts: &Parts,
        body: &[u8],
        guards: &dyn Guards,
        clock: &dyn Clock,
    ) -> Result<UserId, Problem> {
        let header = |name: &HeaderName| {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| Problem::unauthorized(&format!("the header {name} is missing or not text")))
        };
        let (signature, timestamp, nonce) = (header(&X_SIGNATURE)?, header(&X_TIMESTAMP)?, header(&X_NONCE)?);
        let now = clock.now();
        let told = timestamp.parse().ok().filter(|seconds: &i64| (0..1 << 40).contains(seconds));
        let told = told.map(|seconds| Timestamp::from_millis(seconds * 1000));
        let Some(told) = told.filter(|told| now.since(*told) <= SKEW && told.since(now) <= SKEW) else {
            let detail = format!("X-Timestamp is to be Unix seconds within {} s of now", SKEW.as_secs());
            return Err(Problem::unauthorized(&detail));
        };
        if !(8..=128).contains(&nonce.len()) {
            return Err(Problem::unauthorized("X-Nonce is to have 8 to 128 characters"));
        }
        // Nested routes see a path without its beginning.
        let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
        let target = uri.path_and_query().map_or(uri.path(), |target| target.as_str());
        let digest = hex::encode(Sha256::digest(body));
        let mut mac = self.0.clone();
        mac.update(format!("{}\n{target}\n{timestamp}\n{nonce}\n{digest}", parts.method).as_bytes());
        let wrong = || Problem::unauthorized("the signature does not fit the request");
        let given = hex::decode(signature).map_err(|_| wrong())?;
        // In constant time.
        mac.verify_slice(&given).map_err(|_| wrong())?;
        // Only now: else anybody could use others' nonces up.
        if guards.use_once(&format!("nonce:{nonce}"), now, told + SKEW * 2).await? {
            Ok(user())
        } else {
            Err(Problem::unauthorized("X-Nonce was used before"))
        }
    }
}

impl fmt::Debug for SignatureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignatureKey(********)")
    }
}
