//! Fetching: states and progress, error codes, retries, checksums, file names, cancels, HTTP/2, memory.

use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use proxytorrent_tests::{Origin, TestServer, content, eventually, read_json};
use reqwest::Method;
use serde_json::json;

use crate::raw::{Authority, Peer, Raw};

#[tokio::test]
async fn a_request_passes_through_its_states_and_shows_its_progress() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/gated/1000000/1") })).await;
    let half = server.until(&id, |row| row["progress"] == 45).await;
    assert_eq!(half["status"], "fetching");
    let early = server.call(Method::GET, &format!("/v1/requests/{id}/torrent"), None).await;
    assert_eq!(early.status(), 409);
    assert!(early.headers().contains_key("retry-after"));
    assert_eq!(read_json(early).await["code"], "not_ready");
    origin.open_gate();
    let row = server.ready(&id).await;
    assert_eq!((row["progress"].as_u64(), row["origin_status"].as_u64()), (Some(100), Some(200)));
    assert_eq!(row["content_type"], "text/plain");
    assert!(row["expires_at"].as_str() > row["completed_at"].as_str());
}

#[tokio::test]
async fn permanent_failures_are_not_retried_and_have_an_error_code() {
    let origin = Origin::start().await;
    let server = TestServer::with(&[("FETCHER__MAX_SIZE", "10000")]).await;
    for (url, code) in [
        (origin.file(0, 1, "empty.bin"), "empty_content"),
        (origin.file(10_001, 1, "large.bin"), "too_large"),
        (origin.url("/status/404"), "origin_status"),
        (origin.url("/status/204"), "origin_status"),
        (origin.url("/type/application/x-msdownload"), "media_type_not_allowed"),
        (origin.url("/elf"), "media_type_not_allowed"),
        (origin.url("/loop"), "too_many_redirects"),
        (origin.url("/redirect?file:///etc/passwd"), "unsupported_scheme"),
        (origin.url("/redirect?http://169.254.169.254/latest/meta-data/"), "blocked_address"),
        (origin.url("/redirect?http://[::1]:9/"), "blocked_address"),
        ("http://127.0.0.2/".to_owned(), "blocked_address"),
        ("http://0x7f000002/".to_owned(), "blocked_address"),
        ("http://10.0.0.1/".to_owned(), "blocked_address"),
        (server.url.clone(), "blocked_address"),
        (format!("http://{}/", server.seeder), "blocked_address"),
    ] {
        let id = server.create(json!({ "url": url })).await;
        let row = server.failed(&id).await;
        assert_eq!(row["error_code"], code, "{url}: {row:#}");
        assert_eq!(row["retry_count"], 0, "{url}");
        assert!(row["error_message"].as_str().is_some_and(|message| !message.is_empty()), "{url}");
        let torrent = server.call(Method::GET, &format!("/v1/requests/{id}/torrent"), None).await;
        assert_eq!((torrent.status().as_u16(), torrent.headers().contains_key("retry-after")), (409, false));
    }
    assert_eq!(server.files("content").len(), 0);
}

#[tokio::test]
async fn transient_failures_are_retried() {
    let origin = Origin::start().await;
    let server = TestServer::with(&[("FETCHER__MAX_RETRIES", "1"), ("FETCHER__READ_TIMEOUT", "1")]).await;
    let row = server.fetch(&origin.url("/once-failing/1")).await;
    assert_eq!(row["retry_count"], 1);

    for (path, code) in [("/status/503", "origin_unavailable"), ("/silent/1", "read_timeout")] {
        let before = origin.hits();
        let id = server.create(json!({ "url": origin.url(path) })).await;
        let row = server.failed(&id).await;
        assert_eq!((row["error_code"].as_str(), row["retry_count"].as_u64()), (Some(code), Some(1)), "{row:#}");
        assert_eq!(origin.hits() - before, 2);
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_a_failure() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let wrong = "0".repeat(64);
    let id = server.create(json!({ "url": origin.file(10, 1, "a"), "sha256": wrong })).await;
    assert_eq!(server.failed(&id).await["error_code"], "checksum_mismatch");
    let right = server.fetch(&origin.file(10, 1, "a")).await["content_hash"].clone();
    let id = server.create(json!({ "url": origin.file(10, 1, "a"), "sha256": right, "ttl": 0 })).await;
    server.ready(&id).await;
}

#[tokio::test]
async fn the_file_name_comes_from_the_origin() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    assert_eq!(server.fetch(&origin.url("/named")).await["file_name"], "résumé.txt");
    let redirected = origin.url(&format!("/redirect?{}", origin.file(10, 1, "end.bin")));
    let row = server.fetch(&redirected).await;
    assert_eq!(row["file_name"], "end.bin");
    assert_eq!(row["final_url"], origin.file(10, 1, "end.bin"));
}

#[tokio::test]
async fn a_cancel_stops_the_transfer_and_leaves_no_staged_upload() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/gated/4000000/1") })).await;
    eventually("a staged upload exists", async || (!server.files("content/staging").is_empty()).then_some(())).await;
    let started = Instant::now();
    let path = format!("/v1/requests/{id}");
    assert_eq!(server.call(Method::DELETE, &path, None).await.status(), 204);
    eventually("the staged upload is removed", async || server.files("content/staging").is_empty().then_some(())).await;
    assert!(started.elapsed() < Duration::from_secs(10), "the cancel does not wait for the origin");
    origin.open_gate();
    assert_eq!(server.call(Method::DELETE, &path, None).await.status(), 204, "a second cancel succeeds too");
    assert_eq!(server.get(&id).await["status"], "cancelled");
    let torrent = server.call(Method::GET, &format!("{path}/torrent"), None).await;
    assert_eq!(torrent.status(), 410);
}

#[tokio::test]
async fn a_hundred_silent_origins_do_not_delay_a_normal_request() {
    // All these URLs have the same host.
    let (server, origin) = (TestServer::with(&[("FETCHER__MAX_PER_HOST", "200")]).await, Origin::start().await);
    for n in 0..100 {
        server.create(json!({ "url": origin.url(&format!("/silent/{n}")) })).await;
    }
    eventually("all fetches are running", async || (origin.hits() == 100).then_some(())).await;
    // Their timeout is 30 s: a request that waits for one of them cannot be ready earlier.
    let started = Instant::now();
    server.fetch(&origin.file(10_000, 1, "a.bin")).await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn http_2_is_used_where_the_origin_supports_it() {
    let authority = Authority::new();
    let pem = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(pem.path(), authority.pem()).expect("written");
    let mut tls = authority.server("127.0.0.1", |_| {});
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let origin = Raw::with(Some(tls), async |peer: Peer| {
        let router = axum::Router::new().fallback(async |request: axum::extract::Request| {
            assert_eq!(request.version(), http::Version::HTTP_2);
            vec![b'x'; 3_000_000]
        });
        let io = TokioIo::new(peer.into_stream());
        let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http2_only();
        let _ = server.serve_connection(io, TowerToHyperService::new(router)).await;
    })
    .await;
    let server = TestServer::with(&[("SSL_CERT_FILE", pem.path().to_str().expect("a path"))]).await;
    let row = server.fetch(&format!("https://{}/", origin.address)).await;
    assert_eq!(row["content_size"], 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_content_takes_little_memory() {
    const SIZE: usize = 400_000_000;
    let origin = Raw::start(async |mut peer: Peer| {
        peer.request().await;
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let block = content(1_000_000, 1);
        for _ in 0..SIZE / block.len() {
            peer.send(&block).await;
        }
    })
    .await;
    let server = TestServer::with(&[("FETCHER__MAX_SIZE", "1000000000")]).await;
    assert_eq!(server.fetch(&origin.url("/large.bin")).await["content_size"], SIZE);
    assert!(server.memory_mb("VmHWM") < 150.0, "{} MB", server.memory_mb("VmHWM"));
}
