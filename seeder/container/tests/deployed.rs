//! End-to-end test on AWS: template.yaml deployed to an emulator, with its functions and the seeder. The functions
//! are either started as by `make run-aws`, or built by `sam build` and deployed by `sam deploy`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::{Method, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// The timeout of every step.
const PATIENCE: Duration = Duration::from_secs(90);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The deployed stack. Dropping it stops its processes.
struct Stack {
    child: Child,
    url: String,
    names: Value,
    http: reqwest::Client,
    folder: TempDir,
}

impl Stack {
    /// Deploys the stack: from the SAM build in the folder `built`, else from the binaries next to the seeder's.
    async fn deploy(built: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let python = root().join(".tools/python/bin/python");
        assert!(python.exists(), "{} is missing: run `make setup`", python.display());
        let binaries = Path::new(env!("CARGO_BIN_EXE_seeder-container")).parent().unwrap();
        let mut child = Command::new(python)
            .arg(root().join("infra/emulated/run.py"))
            .arg("--binaries")
            .arg(binaries)
            .args(["--port", "0", "--setting", "FETCHER__ALLOW_NETWORKS=127.0.0.1/32"])
            .args(["--setting", "TORRENT__WEBSEED=false"])
            // One in 256 encrypted handshakes fails. The client retries after the minimum interval.
            .args(["--setting", "TRACKER__INTERVAL=10"])
            .args(built.map(|folder| format!("--built={}", folder.display())))
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = async || {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap();
            line.expect("it is deployed")
        };
        let first = next().await;
        let url = first.split(" serves ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
        next().await;
        let names = serde_json::from_str(&next().await).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redirect = reqwest::redirect::Policy::none();
        let http = reqwest::Client::builder().no_proxy().redirect(redirect).build().unwrap();
        Self { child, url, names, http, folder }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth("emulated");
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.unwrap()
    }

    async fn json(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let response = self.call(method, path, body).await;
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn create(&self, url: &str) -> String {
        let created = self.json(Method::POST, "/v1/requests", Some(json!({ "url": url }))).await;
        format!("/v1/requests/{}", created["id"].as_str().unwrap())
    }

    /// Waits until the request is ready, by long polls.
    async fn ready(&self, path: &str) -> Value {
        let started = Instant::now();
        loop {
            let row = self.json(Method::GET, &format!("{path}?wait=10"), None).await;
            match row["status"].as_str() {
                Some("ready") => return row,
                Some("failed" | "cancelled" | "expired") => panic!("{row:#}"),
                _ => assert!(started.elapsed() < PATIENCE, "{row:#}"),
            }
        }
    }

    /// Downloads with the download.py tool of the end-to-end tests. Returns the SHA-256 of the file.
    async fn download(&self, source: &str, name: &str) -> String {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let output = Command::new(root().join(".tools/python/bin/python"))
            .arg(root().join("cli/tests/tools/download.py"))
            .arg(source)
            .arg(&folder)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("in time").unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = String::from_utf8(output.stdout).unwrap();
        hex::encode(Sha256::digest(std::fs::read(path.trim()).unwrap()))
    }

    /// Downloads with aria2, with required encryption. Returns the SHA-256 of the file.
    async fn aria2(&self, source: &str, name: &str) -> String {
        let folder = self.folder.path().join(name);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let output = Command::new("aria2c")
            .args(["--no-conf", "--quiet", "--enable-dht=false", "--bt-enable-lpd=false", "--seed-time=0"])
            .args(["--bt-require-crypto=true", "--bt-min-crypto-level=arc4", "--file-allocation=none"])
            .args([format!("--listen-port={port}"), format!("--dir={}", folder.display())])
            .arg(source)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("in time").unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        hex::encode(Sha256::digest(std::fs::read(folder.join("a file.bin")).unwrap()))
    }

    async fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // Only a failed test reaches this with a running process. SIGTERM lets it stop its own children.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 + i / 253).to_le_bytes()[0]).collect()
}

/// Starts an origin that serves `/SIZE/…`. Returns its URL.
async fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let route = axum::routing::get(async |axum::extract::Path((size, _)): axum::extract::Path<(usize, String)>| {
        ([("content-type", "application/octet-stream")], content(size))
    });
    let router = axum::Router::new().route("/{size}/{name}", route);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_request_is_fetched_packaged_and_seeded_on_aws() {
    main_job(None).await;
}

#[tokio::test]
#[ignore = "needs the output of `sam build`: run `make test-deploy`"]
async fn a_request_is_fetched_packaged_and_seeded_after_sam_deploy() {
    main_job(Some(&root().join(".aws-sam/build"))).await;
}

async fn main_job(built: Option<&Path>) {
    let (stack, origin) = (Stack::deploy(built).await, origin().await);
    assert_eq!(stack.http.get(format!("{}/v1/requests", stack.url)).send().await.unwrap().status(), 401);
    assert_eq!(stack.json(Method::GET, "/v1/health", None).await["status"], "healthy");

    // A small content is uploaded from memory, a large one in parts through staging/.
    for size in [100_000, 40_000_000] {
        let expected = hex::encode(Sha256::digest(content(size)));
        let path = stack.create(&format!("{origin}/{size}/a file.bin")).await;
        let row = stack.ready(&path).await;
        assert_eq!((&row["content_hash"], &row["content_size"]), (&json!(expected), &json!(size)));

        let torrent = stack.call(Method::GET, &format!("{path}/torrent"), None).await;
        assert_eq!(torrent.headers()["content-type"], "application/x-bittorrent");
        let file = stack.folder.path().join(format!("{size}.torrent"));
        std::fs::write(&file, torrent.bytes().await.unwrap()).unwrap();
        let magnet = stack.json(Method::GET, &format!("{path}/magnet"), None).await;
        let link = magnet["magnet_link"].as_str().unwrap();
        for (source, from) in [(file.to_str().unwrap(), "torrent"), (link, "magnet")] {
            assert_eq!(stack.download(source, &format!("{size}-{from}")).await, expected);
            assert_eq!(stack.aria2(source, &format!("{size}-{from}-aria2")).await, expected);
        }

        let redirect = stack.call(Method::GET, &format!("{path}/content"), None).await;
        assert_eq!(redirect.status(), StatusCode::TEMPORARY_REDIRECT);
        let link = redirect.headers()["location"].to_str().unwrap();
        let bytes = stack.http.get(link).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(hex::encode(Sha256::digest(bytes)), expected);
    }

    // Identical requests share a torrent. Deleting one request does not affect the other.
    let url = format!("{origin}/100000/a file.bin");
    let (one, two) = (stack.create(&url).await, stack.create(&url).await);
    assert_eq!(stack.ready(&one).await["infohash"], stack.ready(&two).await["infohash"]);
    assert_eq!(stack.call(Method::DELETE, &one, None).await.status(), 204);
    assert_eq!(stack.call(Method::GET, &format!("{one}/torrent"), None).await.status(), 410);
    assert_eq!(stack.call(Method::GET, &format!("{two}/torrent"), None).await.status(), 200);

    let missing = stack.create("http://127.0.0.1:1/blocked").await;
    let started = Instant::now();
    loop {
        let row = stack.json(Method::GET, &format!("{missing}?wait=10"), None).await;
        if row["status"] == "failed" {
            assert_eq!(row["error_code"], "blocked_port");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{row:#}");
    }
    let listed = stack.json(Method::GET, "/v1/requests?limit=3", None).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    assert!(listed["next_cursor"].is_string() && stack.names["Bucket"].is_string());
    stack.stop().await;
}
