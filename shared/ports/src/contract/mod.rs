//! What every backend must do, as tests. A backend's own tests call one macro per port:
//!
//! ```ignore
//! async fn requests() -> (impl Requests, impl Sized) { … }    // the second keeps the store alive
//! ports::requests_contract!(requests);
//! ```

pub mod contents;
pub mod guards;
pub mod requests;
pub mod swarm;
pub mod task_queue;
pub mod torrents;
pub mod transitions;

use std::time::Duration;

use domain::{Content, ContentHash, FetchRequest, FetchSpec, Method, Timestamp, TorrentFormat, UserId};

/// The point in time at which the suites begin.
pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A lease that the suites take.
pub const LEASE: Duration = Duration::from_secs(60);

/// A request of `owner` for `url`, queued and due [`NOW`].
pub fn request(owner: &str, url: &str) -> FetchRequest {
    let spec = FetchSpec {
        url: url.parse().expect("a URL"),
        method: Method::Post,
        headers: vec![("X-One".into(), "1".into()), ("X-Two".into(), "zwei ü".into())],
        body: Some("a body".into()),
        sha256: Some(ContentHash::new([9; 32])),
        format: TorrentFormat::Hybrid,
        ttl: 60,
        callback_url: None,
    };
    FetchRequest::new(UserId::new(owner), Some([127, 0, 0, 1].into()), spec, Duration::from_secs(3600), NOW)
}

/// A content with this hash.
pub fn content(hash: ContentHash, fetched_at: Timestamp) -> Content {
    Content {
        hash,
        size: 5,
        media_type: "text/plain".into(),
        file_name: "ü.txt".into(),
        final_url: "https://example.org/final".parse().expect("a URL"),
        origin_status: 200,
        fetched_at,
    }
}

/// Makes a test of each function of a suite.
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
