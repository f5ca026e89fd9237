//! A server process and a local origin for the benchmarks.

use std::path::Path;

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Path as UrlPath;
use axum::routing::get;
use bytes::Bytes;

use tests::TestServer;
use tokio::process::Command;

/// Starts a server that logs warnings only, with additional settings.
pub async fn server(settings: &[(&str, &str)]) -> TestServer {
    let settings = [&[("MONITORING__LOG_LEVEL", "WARNING")], settings].concat();
    TestServer::with(&settings).await.polling_every(Duration::from_millis(1))
}

/// Fetches a URL and returns the time from the POST to ready, in milliseconds.
pub async fn time_to_ready(server: &TestServer, url: &str) -> f64 {
    let started = Instant::now();
    server.fetch(url).await;
    started.elapsed().as_secs_f64() * 1000.0
}

/// Starts an origin that serves `/SIZE/SEED`, and returns its URL.
pub async fn origin() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().route("/{size}/{seed}", get(content));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

type Headers = [(http::HeaderName, String); 2];

async fn content(UrlPath((size, seed)): UrlPath<(usize, usize)>) -> (Headers, Body) {
    const BLOCK_SIZE: usize = 64 << 20;
    // One large block, created once. The seed selects the offset in it, so that contents differ.
    static BLOCK: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| {
        (0..BLOCK_SIZE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect::<Vec<_>>().into()
    });
    let headers = [
        (http::header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (http::header::CONTENT_LENGTH, size.to_string()),
    ];
    let first = (seed * 7919) % (BLOCK_SIZE / 2);
    let mut left = size;
    let blocks = std::iter::from_fn(move || {
        let block = BLOCK.slice(first..BLOCK_SIZE.min(first + left));
        left -= block.len();
        (!block.is_empty()).then_some(Ok::<_, std::convert::Infallible>(block))
    });
    (headers, Body::from_stream(futures::stream::iter(blocks)))
}

/// Runs `curl -o FILE URL` with additional arguments and returns the time in milliseconds.
pub async fn curl(url: &str, folder: &Path, more: &[&str]) -> f64 {
    let started = Instant::now();
    let mut command = Command::new("curl");
    let status = command.args(more).args(["-s", "-o"]).arg(folder.join("curl.out")).arg(url).status().await;
    assert!(status.expect("curl runs").success());
    started.elapsed().as_secs_f64() * 1000.0
}
