//! Checkpoint of a suspended fetch, from which another process resumes it.

use domain::MediaType;
use http::HeaderMap;
use http::header::HeaderValue;
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256};
use url::Url;

use super::digests::{DeclaredDigest, State};
use super::range::ask_for_rest;
use super::sniff::SniffBuffer;

/// The minimum length of an entity tag, quotes included, that is treated as an identifier of the bytes and not as a
/// version counter.
const MIN_STRONG_ETAG: usize = 16;

/// The state of a suspended fetch. It suffices to request the rest, to verify that the rest belongs to the same
/// content, and to compute the same hashes. It contains no request headers and no URL query, because they may hold
/// secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The origin and path of the content's URL.
    pub(crate) location: String,
    /// The SHA-256 of the URL's query.
    pub(crate) query: State,
    /// A strong entity tag or date of last modification (RFC 9110, 8.8).
    pub(crate) validator: String,
    /// Bytes received and stored.
    pub(crate) received: u64,
    /// The total size in bytes, if the origin declared it.
    pub(crate) total: Option<u64>,
    /// The unfinished state of the SHA-256.
    pub(crate) sha256: State,
    /// The digests that the origin declared.
    pub(crate) digests: Vec<DeclaredDigest>,
    /// The declared media type.
    pub(crate) media_type: Option<MediaType>,
    /// The `Content-Disposition`.
    pub(crate) disposition: Option<String>,
    /// The status of the first response.
    pub(crate) origin_status: u16,
    /// The sniffing state of the first bytes.
    pub(crate) beginning: SniffBuffer,
}

impl Checkpoint {
    /// Returns the number of bytes received and stored.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Adds the headers that request the rest. If the validator is damaged, adds nothing, so the whole is requested.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        if let Ok(validator) = HeaderValue::try_from(&self.validator) {
            ask_for_rest(headers, self.received, validator);
        }
    }

    /// Whether the content came from this URL. A redirect to a storage service often has a new signature in the
    /// query, so the query may differ if the size is known and the entity tag is long enough to identify the bytes.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        let telling =
            self.validator.starts_with('"') && self.validator.len() >= MIN_STRONG_ETAG && self.total.is_some();
        self.location == location(url) && (telling || self.query == query(url))
    }
}

/// Returns the SHA-256 of a URL's query. The query itself may contain secrets.
pub(crate) fn query(url: &Url) -> State {
    State(Sha256::digest(url.query().unwrap_or_default()).to_vec())
}

/// Returns the origin and path of a URL.
pub(crate) fn location(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Returns the serialized state of an unfinished SHA-256.
pub(crate) fn sha256_state(hasher: &Sha256) -> State {
    State(hasher.serialize().to_vec())
}

/// Restores a SHA-256 from its state. `None` if the state is invalid.
pub(crate) fn sha256_from(state: &State) -> Option<Sha256> {
    Sha256::deserialize(state.0.as_slice().try_into().ok()?).ok()
}
