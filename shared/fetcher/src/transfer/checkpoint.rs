//! A transfer that was left off on purpose, to be gone on with by another process.

use http::HeaderMap;
use http::header::HeaderValue;
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256};
use url::Url;

use super::digests::{DeclaredDigest, State};
use super::range::ask_for_rest;
use super::sniff::SniffBuffer;

/// The length from which on an entity tag, quotes and all, is taken to name the bytes and not just a version.
const MIN_STRONG_ETAG: usize = 16;

/// Where a transfer was left off: enough to ask for the rest, to know that it is the rest of the same content, and to
/// end with the same hashes. It holds no request header and no query of a URL.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The origin and path that the content came from.
    pub(crate) location: String,
    /// The SHA-256 of the query.
    pub(crate) query: State,
    /// A strong entity tag or date of last modification (RFC 9110, 8.8).
    pub(crate) validator: String,
    /// Bytes received and stored.
    pub(crate) received: u64,
    /// Bytes of the whole, if the origin said.
    pub(crate) total: Option<u64>,
    /// The state of the SHA-256.
    pub(crate) sha256: State,
    /// Digests that the origin declared.
    pub(crate) digests: Vec<DeclaredDigest>,
    /// The declared media type.
    pub(crate) media_type: Option<String>,
    /// The `Content-Disposition`.
    pub(crate) disposition: Option<String>,
    /// The status of the first answer.
    pub(crate) origin_status: u16,
    /// What the first bytes have shown.
    pub(crate) beginning: SniffBuffer,
}

impl Checkpoint {
    /// Bytes that were received and stored.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Asks for the rest; for the whole, if the checkpoint is damaged.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        if let Ok(validator) = HeaderValue::try_from(&self.validator) {
            ask_for_rest(headers, self.received, validator);
        }
    }

    /// Whether this is where the content came from. A redirect to a storage service often leads to a link that is
    /// signed anew, so the query may be another, if the tag is long enough to be more than a counter.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        let telling =
            self.validator.starts_with('"') && self.validator.len() >= MIN_STRONG_ETAG && self.total.is_some();
        self.location == location(url) && (telling || self.query == query(url))
    }
}

/// The SHA-256 of a URL's query, which may hold secrets.
pub(crate) fn query(url: &Url) -> State {
    State(Sha256::digest(url.query().unwrap_or_default()).to_vec())
}

/// A URL's origin and path.
pub(crate) fn location(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// The state of a SHA-256 that is not finished.
pub(crate) fn sha256_state(hasher: &Sha256) -> State {
    State(hasher.serialize().to_vec())
}

/// The SHA-256 that has this state; `None` if it is none.
pub(crate) fn sha256_from(state: &State) -> Option<Sha256> {
    Sha256::deserialize(state.0.as_slice().try_into().ok()?).ok()
}
