//! A server process for a test.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The timeout for every condition that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_proxytorrent");

/// A running server with its own data folder. It is killed when it is dropped.
pub struct TestServer {
    child: Child,
    pub url: String,
    pub seeder: String,
    settings: Vec<(String, String)>,
    wrapper: Vec<String>,
    folder: std::sync::Arc<TempDir>,
    http: reqwest::Client,
}

impl TestServer {
    /// Starts a server in the development profile that may fetch from 127.0.0.1.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// As [`TestServer::start`], with additional settings.
    pub async fn with(extra: &[(&str, &str)]) -> Self {
        Self::inside(&[], extra).await
    }

    /// As [`TestServer::with`], started by a wrapper command such as `unshare`.
    pub async fn inside(wrapper: &[String], extra: &[(&str, &str)]) -> Self {
        let folder = std::sync::Arc::new(tempfile::tempdir().expect("a folder"));
        let base = [
            ("PROFILE", "development"),
            ("FETCHER__ALLOW_NETWORKS", "127.0.0.1/32"),
            ("RATE_LIMIT__RATE_LIMIT_ENABLED", "false"),
            // With a webseed, clients would download from it, and tests of the seeder would prove nothing.
            ("TORRENT__WEBSEED", "false"),
            // One in 256 encrypted handshakes fails in libtorrent 2.0.8 (arvidn/libtorrent#8434). The client
            // announces again after the minimum interval, here 10 s, and then succeeds.
            ("TRACKER__INTERVAL", "10"),
        ];
        let settings = base.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self::launch(folder, settings, wrapper).await
    }

    async fn launch(folder: std::sync::Arc<TempDir>, settings: Vec<(String, String)>, wrapper: &[String]) -> Self {
        let words = [wrapper, &[PROGRAM.to_owned(), "serve".to_owned()]].concat();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("STORAGE__BASE_PATH", folder.path().join("data"))
            .env("PORT", "0")
            .env("SEEDER__LISTEN", "127.0.0.1:0")
            .envs(settings.iter().cloned())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text");
        let first = first.expect("the first line of output");
        // The line is "ProxyTorrent 0.1.0 serves URL and seeds on ADDRESS."
        let url = first.split_once(" serves ").and_then(|(_, rest)| rest.split(' ').next()).expect("a URL").to_owned();
        let seeder = first.rsplit(' ').next().expect("an address").trim_end_matches('.').to_owned();
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { child, url, seeder, settings, wrapper: wrapper.to_vec(), folder, http }
    }

    /// Returns the data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Creates a folder for the test's files and returns its path.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// Returns the server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Returns the peak resident memory so far, in MB.
    pub fn peak_memory_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1000
    }

    /// Kills the server (SIGKILL) and starts it again on the same data.
    pub async fn crash_and_restart(mut self) -> Self {
        self.child.kill().await.expect("killed");
        Self::launch(self.folder.clone(), self.settings.clone(), &self.wrapper).await
    }

    /// Stops the server with SIGTERM and returns its exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("a pid");
        kill_process(pid, Signal::TERM).expect("signalled");
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("it ends")
    }

    /// Starts the server again after [`TestServer::terminate`].
    pub async fn restart(self) -> Self {
        Self::launch(self.folder.clone(), self.settings.clone(), &self.wrapper).await
    }

    /// Calls the API without credentials and returns the response.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.expect("a response")
    }

    /// Returns the HTTP client, for other kinds of calls.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Creates a request and returns its id.
    pub async fn create(&self, body: Value) -> String {
        let response = self.call(Method::POST, "/v1/requests", Some(body)).await;
        assert_eq!(response.status(), 201);
        let created = read_json(response).await;
        created["id"].as_str().expect("an id").to_owned()
    }

    /// Returns the request as the API shows it.
    pub async fn get(&self, id: &str) -> Value {
        let response = self.call(Method::GET, &format!("/v1/requests/{id}"), None).await;
        assert_eq!(response.status(), 200);
        read_json(response).await
    }

    /// Waits until the request is ready and returns it. Panics if it ended otherwise.
    pub async fn ready(&self, id: &str) -> Value {
        let row = self.ended_or_ready(id).await;
        assert_eq!(row["status"], "ready", "{row:#}");
        row
    }

    /// Waits until the request has failed and returns it. Panics if it ended otherwise.
    pub async fn failed(&self, id: &str) -> Value {
        let row = self.ended_or_ready(id).await;
        assert_eq!(row["status"], "failed", "{row:#}");
        row
    }

    async fn ended_or_ready(&self, id: &str) -> Value {
        self.until(id, |row| matches!(row["status"].as_str(), Some("ready" | "failed" | "cancelled" | "expired"))).await
    }

    /// Waits until `wanted` is true for the request, and returns the request.
    pub async fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually("the request has the expected state", async || {
            let row = self.get(id).await;
            wanted(&row).then_some(row)
        })
        .await
    }

    /// Creates a request for a URL, waits until it is ready, and returns it.
    pub async fn fetch(&self, url: &str) -> Value {
        let id = self.create(json!({ "url": url })).await;
        self.ready(&id).await
    }

    /// Saves the `.torrent` file of a ready request and returns its path.
    pub async fn save_torrent(&self, id: &str) -> PathBuf {
        let response = self.call(Method::GET, &format!("/v1/requests/{id}/torrent"), None).await;
        assert_eq!(response.status(), 200);
        let path = self.folder.path().join(format!("{id}.torrent"));
        std::fs::write(&path, response.bytes().await.expect("a torrent")).expect("saved");
        path
    }

    /// Returns the magnet link of a ready request.
    pub async fn magnet(&self, id: &str) -> String {
        let response = self.call(Method::GET, &format!("/v1/requests/{id}/magnet"), None).await;
        assert_eq!(response.status(), 200);
        read_json(response).await["magnet_link"].as_str().expect("a link").to_owned()
    }

    /// Returns the files in a subfolder of the data folder, recursively.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let (mut files, mut folders) = (vec![], vec![self.data().join(folder)]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }
}

/// Waits until `check` returns `Some`, and returns the value. Panics after [`PATIENCE`].
pub async fn eventually<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "timed out waiting for: {what}");
        // The polling interval.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the body of a response as JSON.
pub async fn read_json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}

/// Runs a program and returns its standard output. Panics if it fails or takes longer than [`PATIENCE`].
pub async fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {arguments:?} timed out")).expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}
