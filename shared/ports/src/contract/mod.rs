//! Contract tests: the behavior that every backend must have. A backend's tests call one macro per port:
//!
//! ```ignore
//! async fn requests() -> (impl Requests, impl Sized) { … }    // the second keeps the store alive
//! ports::requests_contract!(requests);
//! ```

pub mod contents;
pub mod guards;
pub mod notifications;
pub mod requests;
pub mod seeders;
pub mod statistics;
pub mod swarm;
pub mod task_queue;
pub mod torrents;
pub mod transitions;

use std::time::Duration;

use domain::{Content, ContentHash, FetchRequest, FetchSpec, Method, Timestamp, TorrentFormat, UserId};

/// The time at which the suites start.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// The length of the leases in the suites.
pub const LEASE: Duration = Duration::from_secs(60);

/// Returns a request of `owner` for `url` that is queued and due at [`NOW`].
pub fn request(owner: &str, url: &str) -> FetchRequest {
    let spec = FetchSpec {
        url: url.parse().expect("a URL"),
        method: Method::Post,
        headers: vec![("X-One".into(), "1".into()), ("X-Two".into(), "zwei ü".into())],
        body: Some("a body".into()),
        sha256: Some(ContentHash::new([9; 32])),
        format: TorrentFormat::Hybrid,
        ttl: Duration::from_secs(60),
        callback_url: None,
        webseed: false,
    };
    FetchRequest::new(UserId::new(owner), Some([127, 0, 0, 1].into()), spec, Duration::from_secs(3600), NOW)
}

/// Returns the description of a content with this hash.
pub fn content(hash: ContentHash, fetched_at: Timestamp) -> Content {
    Content {
        hash,
        size: 5,
        media_type: "text/plain".parse().unwrap(),
        file_name: domain::FileName::sanitize("ü.txt").unwrap(),
        final_url: "https://example.org/final".parse().expect("a URL"),
        origin_status: 200,
        fetched_at,
    }
}

/// Defines a test for each function of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($suite:ident, $make:path, $($test:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $test() {
                let (backend, _keep) = $make().await;
                $crate::contract::$suite::$test(&backend).await;
            }
        )+
    };
}
