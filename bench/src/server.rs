//! A server process and a local origin for the benchmarks.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Path as UrlPath;
use axum::routing::get;
use bytes::Bytes;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running `proxytorrent serve`. It is killed when it is dropped.
pub struct Server {
    _child: Child,
    pid: u32,
    pub url: String,
    pub folder: TempDir,
    pub http: Client,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = std::env::current_exe().expect("a path").with_file_name("proxytorrent");
        let mut child = Command::new(program)
            .args(["serve", "--dev"])
            .env_clear()
            .envs([
                ("STORAGE__BASE_PATH", folder.path().to_str().expect("text")),
                ("FETCHER__ALLOW_NETWORKS", "127.0.0.1/32"),
                ("RATE_LIMIT__RATE_LIMIT_ENABLED", "false"),
                ("TORRENT__WEBSEED", "false"),
                ("PORT", "0"),
                ("SEEDER__LISTEN", "127.0.0.1:0"),
                ("MONITORING__LOG_LEVEL", "WARNING"),
            ])
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let pid = child.id().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next_line().await.expect("text").expect("a line");
        let url = first.split(" serves ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a URL").to_owned();
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().no_proxy().build().expect("a client");
        Self { _child: child, pid, url, folder, http }
    }

    pub async fn create(&self, url: &str) -> String {
        let body = json!({ "url": url }).to_string();
        let request = self.http.post(format!("{}/v1/requests", self.url)).header("content-type", "application/json");
        let response = request.body(body).send().await.expect("a response");
        let bytes = response.bytes().await.expect("a body");
        let created: Value = serde_json::from_slice(&bytes).expect("JSON");
        created["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until the request is ready.
    pub async fn ready(&self, id: &str) {
        self.until(id, &["ready"]).await;
    }

    /// Waits until the request has one of these states.
    pub async fn until(&self, id: &str, states: &[&str]) {
        let url = format!("{}/v1/requests/{id}", self.url);
        loop {
            let bytes = self.http.get(&url).send().await.expect("a response").bytes().await.expect("a body");
            let row: Value = serde_json::from_slice(&bytes).expect("JSON");
            match row["status"].as_str() {
                Some("failed") => panic!("{row:#}"),
                Some(status) if states.contains(&status) => return,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Fetches a URL and returns the time from the POST to ready, in milliseconds.
    pub async fn fetch(&self, url: &str) -> f64 {
        let started = Instant::now();
        let id = self.create(url).await;
        self.ready(&id).await;
        started.elapsed().as_secs_f64() * 1000.0
    }

    /// Returns the CPU time used so far, in milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        let fields: Vec<f64> =
            stat.rsplit(')').next().expect("fields").split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // Of the numbers after the state letter, utime and stime are the 11th and 12th (proc(5)), in ticks of 10 ms.
        (fields[10] + fields[11]) * 10.0
    }

    /// Returns a value of /proc/PID/status in MB: `VmRSS` (current) or `VmHWM` (peak).
    pub fn memory_mb(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(what)).expect("the line");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1000.0
    }
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
