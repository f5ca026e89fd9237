//! A request: the row that everything else moves along.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    ContentHash, Failure, FailureCode, Fingerprint, InfoHash, InfoHashV2, RequestId, Status, Timestamp, TorrentFormat,
    UserId,
};

/// The HTTP methods a fetch may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "RFC 9110 says what they are")]
pub enum Method {
    #[default]
    Get,
    Post,
    Put,
    Delete,
    Patch,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Delete, Self::Patch];

    /// As it is written in HTTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
        }
    }

    /// Whether a request body has a meaning (RFC 9110, 9.3).
    pub const fn takes_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|method| method.as_str() == s)
            .ok_or_else(|| format!("'{s}' is none of GET, POST, PUT, DELETE, PATCH"))
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

/// What to fetch, and what to make of it.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchSpec {
    /// Where the content is.
    pub url: Url,
    /// How to ask for it.
    pub method: Method,
    /// Sent along, in this order.
    pub headers: Vec<(String, String)>,
    /// Sent along.
    pub body: Option<String>,
    /// What the content must hash to.
    pub sha256: Option<ContentHash>,
    /// The torrent's format.
    pub format: TorrentFormat,
    /// For how long after `ready` identical requests may reuse the content, in seconds; with 0
    /// this request neither reuses nor is reused.
    pub ttl: u32,
    /// Who is to be told when it is ready or has failed.
    pub callback_url: Option<Url>,
}

impl FetchSpec {
    /// What makes this and another request of `owner` identical.
    pub fn fingerprint(&self, owner: &UserId) -> Fingerprint {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            // Lengths first: no two lists of fields may run together to the same bytes.
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

// URLs carry credentials and queries, headers and bodies carry secrets: none of them in a log.
impl std::fmt::Debug for FetchSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchSpec")
            .field("host", &self.url.host_str())
            .field("method", &self.method)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The SHA-256 of its bytes.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// The MIME type the origin declared, or the one its bytes show.
    pub media_type: String,
    /// Safe for every file system.
    pub file_name: String,
    /// Where the last redirect led.
    pub final_url: Url,
    /// The origin's HTTP status.
    pub origin_status: u16,
    /// When the last byte came.
    pub fetched_at: Timestamp,
}

/// A request and all that is known of it: one row of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// Its id.
    pub id: RequestId,
    /// Who asked.
    pub owner: UserId,
    /// Where from.
    pub client_ip: Option<IpAddr>,
    /// What for.
    pub spec: FetchSpec,
    /// Equal for identical requests of one owner.
    pub fingerprint: Fingerprint,
    /// For how long after `ready` the torrent is kept and seeded.
    pub keep_for: Duration,
    /// For how long after its end the row is kept, in whole seconds.
    pub history: Duration,
    /// Where it stands.
    pub status: Status,
    /// 0 to 100, over all steps.
    pub progress: u8,
    /// How often it was tried again.
    pub retry_count: u32,
    /// What was fetched.
    pub content: Option<Content>,
    /// Where a fetch was left off, to be gone on with; what it says is the fetch step's.
    pub checkpoint: Option<String>,
    /// The torrent's v1 infohash.
    pub infohash: Option<InfoHash>,
    /// A hybrid torrent's v2 infohash.
    pub infohash_v2: Option<InfoHashV2>,
    /// The last failure: of the last try, or final.
    pub failure: Option<Failure>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When the row last changed.
    pub updated_at: Timestamp,
    /// When it became ready, or failed or was cancelled before that.
    pub completed_at: Option<Timestamp>,
    /// When a ready request expires.
    pub expires_at: Option<Timestamp>,
    /// When its [step](Status::step) is next due; for a claimed row, when the lease ends. `None`:
    /// nothing is left to do.
    pub due_at: Option<Timestamp>,
}

/// The retention of a request that is kept until it is cancelled: 100 years.
pub const KEPT_UNTIL_CANCELLED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// For how long a request is remembered after its end, if nobody says otherwise: 30 days.
pub const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

impl FetchRequest {
    /// A new request, queued and due at once, to be remembered for [`HISTORY`].
    pub fn new(owner: UserId, client_ip: Option<IpAddr>, spec: FetchSpec, keep_for: Duration, now: Timestamp) -> Self {
        Self {
            id: RequestId::new(),
            fingerprint: spec.fingerprint(&owner),
            owner,
            client_ip,
            spec,
            keep_for,
            history: HISTORY,
            status: Status::Queued,
            progress: 0,
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
    pub const UNREADABLE: &str = "the stored request cannot be read; the service's log names what is wrong with it";

    /// Stands for a row that the store cannot read: failed, with nothing left to do.
    pub fn unreadable(id: RequestId, owner: UserId, created_at: Timestamp) -> Self {
        let spec = FetchSpec {
            url: Url::parse("about:invalid").expect("a URL"),
            method: Method::Get,
            headers: vec![],
            body: None,
            sha256: None,
            format: TorrentFormat::V1,
            ttl: 0,
            callback_url: None,
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
        (self.status, self.progress, self.retry_count) != (seen.status, seen.progress, seen.retry_count)
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
            ttl: 60,
            callback_url: None,
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
        other.ttl = 0;
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
