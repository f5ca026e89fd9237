//! Requests: what a user asked for, and one row of the store for each.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use url::Url;

use crate::text_enum::text_enum;
use crate::{
    ContentHash, Failure, FailureCode, FileName, Fingerprint, InfoHash, InfoHashV2, MediaType, Receiver, Receivers,
    RequestId, Status, Timestamp, TorrentFormat, UserId,
};

text_enum! {
    /// The HTTP methods of a fetch.
    #[derive(Default)]
    #[expect(missing_docs, reason = "RFC 9110 defines them")]
    pub enum Method ("method") {
        #[default]
        Get = "GET",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Patch = "PATCH",
    }
}

impl Method {
    /// Whether a request body has a meaning (RFC 9110, 9.3).
    pub const fn takes_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Delete => Self::DELETE,
            Method::Patch => Self::PATCH,
        }
    }
}

/// The specification of a fetch, as its owner gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchSpec {
    /// The URL of the content.
    pub url: Url,
    /// The HTTP method.
    pub method: Method,
    /// Request headers, in this order.
    pub headers: Vec<(String, String)>,
    /// The request body.
    pub body: Option<String>,
    /// The SHA-256 that the content must have.
    pub sha256: Option<ContentHash>,
    /// The format of the torrent.
    pub format: TorrentFormat,
    /// The time after `ready` for which identical requests reuse the content, in whole seconds; with 0 this request
    /// neither reuses another nor is reused.
    pub ttl: Duration,
    /// The receiver of the webhook when the request is ready or has failed.
    pub callback_url: Option<Url>,
    /// Whether its torrent may name a webseed.
    pub webseed: bool,
}

impl FetchSpec {
    /// Returns the fingerprint, which is equal for identical requests of one owner.
    pub fn fingerprint(&self, owner: &UserId) -> Fingerprint {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            // Lengths first, so that no two lists of fields are the same bytes.
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        field(owner.as_str().as_bytes());
        field(self.method.as_str().as_bytes());
        field(self.url.as_str().as_bytes());
        field(&(self.headers.len() as u64).to_be_bytes());
        for (name, value) in &self.headers {
            field(name.to_ascii_lowercase().as_bytes());
            field(value.as_bytes());
        }
        field(&[u8::from(self.body.is_some())]);
        field(self.body.as_deref().unwrap_or_default().as_bytes());
        Fingerprint::new(hasher.finalize().into())
    }
}

// URLs, headers and bodies may contain secrets, so the log has none of them.
impl std::fmt::Debug for FetchSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchSpec")
            .field("host", &self.url.host_str())
            .field("method", &self.method)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// A fetched content and its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The SHA-256 of its bytes.
    pub hash: ContentHash,
    /// The size in bytes.
    pub size: u64,
    /// The MIME type that the origin declared, or that the first bytes show.
    pub media_type: MediaType,
    /// The file name.
    pub file_name: FileName,
    /// The URL after the last redirect.
    pub final_url: Url,
    /// The HTTP status of the origin's response.
    pub origin_status: u16,
    /// When the last byte was received.
    pub fetched_at: Timestamp,
}

/// How much of a content the fetch has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The bytes so far.
    pub bytes: u64,
    /// The bytes in all; `None`: the origin has not declared them.
    pub total: Option<u64>,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The progress over all steps, 0 to 100.
    pub percent: u8,
    /// How much of the content was received; `None`: as before.
    pub received: Option<Received>,
}

impl From<u8> for Progress {
    fn from(percent: u8) -> Self {
        Self { percent, received: None }
    }
}

/// A request: one row of the store. [`Transition`](crate::Transition) declares how it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The id.
    pub id: RequestId,
    /// The user who created it.
    pub owner: UserId,
    /// The address of the client that created it.
    pub client_ip: Option<IpAddr>,
    /// What to fetch.
    pub spec: FetchSpec,
    /// Equal for identical requests of one owner.
    pub fingerprint: Fingerprint,
    /// The retention: for how long after `ready` the content is stored and seeded.
    pub keep_for: Duration,
    /// The history: for how long after its end the row is kept, in whole seconds.
    pub history: Duration,
    /// Who is notified when it is ready or has failed.
    pub receivers: Receivers,
    /// The status.
    pub status: Status,
    /// The progress over all steps, 0 to 100.
    pub progress: u8,
    /// How much of the content the last fetch has received; `None` until its first heartbeat.
    pub received: Option<Received>,
    /// The number of retries.
    pub retry_count: u32,
    /// The content, once it is fetched.
    pub content: Option<Content>,
    /// The checkpoint of a suspended fetch, in the format of the fetch step.
    pub checkpoint: Option<String>,
    /// The v1 infohash of the torrent.
    pub infohash: Option<InfoHash>,
    /// The v2 infohash of a hybrid torrent.
    pub infohash_v2: Option<InfoHashV2>,
    /// The failure of the last try, or the final one.
    pub failure: Option<Failure>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the row last changed.
    pub updated_at: Timestamp,
    /// When it became ready, or failed or was cancelled before that.
    pub completed_at: Option<Timestamp>,
    /// When a ready request expires.
    pub expires_at: Option<Timestamp>,
    /// When its [step](Status::step) is next due. For a claimed row, when the lease ends. `None`: nothing is left to do.
    pub due_at: Option<Timestamp>,
}

/// The retention of a request that is kept until it is cancelled: 100 years.
pub const KEPT_UNTIL_CANCELLED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The default history: how long the row of an ended request is kept, 30 days.
pub const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

impl FetchRequest {
    /// A new request: queued, due at once, with the default [`HISTORY`]. Its only receiver is its callback URL, if it
    /// has one.
    pub fn new(owner: UserId, client_ip: Option<IpAddr>, spec: FetchSpec, keep_for: Duration, now: Timestamp) -> Self {
        Self {
            id: RequestId::new(),
            fingerprint: spec.fingerprint(&owner),
            receivers: spec.callback_url.iter().map(|_| Receiver::Webhook).collect(),
            owner,
            client_ip,
            spec,
            keep_for,
            history: HISTORY,
            status: Status::Queued,
            progress: 0,
            received: None,
            retry_count: 0,
            content: None,
            checkpoint: None,
            infohash: None,
            infohash_v2: None,
            failure: None,
            created_at: now,
            updated_at: now,
            completed_at: None,
            expires_at: None,
            due_at: Some(now),
        }
    }
}

impl FetchRequest {
    /// The message of a request whose row cannot be read.
    pub const UNREADABLE: &str = "the stored request cannot be read; the log of the service has the reason";

    /// A failed request in the place of a row that the store cannot read.
    pub fn unreadable(id: RequestId, owner: UserId, created_at: Timestamp) -> Self {
        let spec = FetchSpec {
            url: Url::parse("about:invalid").expect("a URL"),
            method: Method::Get,
            headers: vec![],
            body: None,
            sha256: None,
            format: TorrentFormat::V1,
            ttl: Duration::ZERO,
            callback_url: None,
            webseed: true,
        };
        let mut row = Self { id, ..Self::new(owner, None, spec, Duration::ZERO, created_at) };
        row.status = Status::Failed;
        row.failure = Some(Failure::new(FailureCode::Internal, Self::UNREADABLE));
        row.completed_at = Some(created_at);
        row.due_at = None;
        row
    }
}

impl FetchRequest {
    /// Whether it is kept until it is cancelled.
    pub fn is_kept_until_cancelled(&self) -> bool {
        self.keep_for >= KEPT_UNTIL_CANCELLED
    }

    /// The row as it must be shown at this time: a ready request whose retention is over has expired, whether the sweep
    /// has found it or not.
    #[must_use]
    pub fn as_of(mut self, now: Timestamp) -> Self {
        if self.status == Status::Ready && self.expires_at.is_some_and(|at| at <= now) {
            self.status = Status::Expired;
        }
        self
    }

    /// Whether its owner sees a difference from `seen`: another status, progress or number of retries.
    pub fn has_progressed_since(&self, seen: &Self) -> bool {
        let seen = (seen.status, seen.progress, seen.received, seen.retry_count);
        (self.status, self.progress, self.received, self.retry_count) != seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> FetchSpec {
        FetchSpec {
            url: "https://user:pw@example.org/a?secret=1".parse().unwrap(),
            method: Method::Post,
            headers: vec![("X-A".into(), "1".into())],
            body: Some("b".into()),
            sha256: None,
            format: TorrentFormat::V1,
            ttl: Duration::from_secs(60),
            callback_url: None,
            webseed: true,
        }
    }

    #[test]
    fn a_fingerprint_tells_owner_method_url_headers_and_body_apart() {
        let alice = UserId::new("alice");
        let base = spec();
        let changes: [fn(&mut FetchSpec); 6] = [
            |s| s.method = Method::Put,
            |s| s.url.set_path("/b"),
            |s| s.headers[0].1 = "2".into(),
            |s| s.headers.clear(),
            |s| s.body = None,
            |s| s.body = Some(String::new()),
        ];
        let mut seen = vec![base.fingerprint(&alice), base.fingerprint(&UserId::new("bob"))];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            seen.push(other.fingerprint(&alice));
        }
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn ttl_format_checksum_and_header_case_do_not_make_a_request_another() {
        let mut other = spec();
        other.ttl = Duration::ZERO;
        other.format = TorrentFormat::Hybrid;
        other.sha256 = Some(ContentHash::new([1; 32]));
        other.headers[0].0 = "x-a".into();
        assert_eq!(other.fingerprint(&UserId::anonymous()), spec().fingerprint(&UserId::anonymous()));
    }

    #[test]
    fn a_ready_request_is_seen_as_expired_from_its_very_end_on() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut row = FetchRequest::new(UserId::anonymous(), None, spec(), Duration::from_secs(60), now);
        let end = now + Duration::from_secs(60);
        assert_eq!(row.clone().as_of(end).status, Status::Queued);
        (row.status, row.expires_at) = (Status::Ready, Some(end));
        assert_eq!(row.clone().as_of(end - Duration::from_millis(1)).status, Status::Ready);
        assert_eq!(row.as_of(end).status, Status::Expired);
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", spec());
        assert!(!text.contains("pw") && !text.contains("secret") && !text.contains("X-A"), "{text}");
    }
}
