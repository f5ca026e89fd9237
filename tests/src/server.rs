//! A server process.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::api_client::ApiClient;
use crate::process::{PATIENCE, cpu_ms, memory_mb};

/// Returns the path of the program under test: the `proxytorrent` that cargo built in the same profile as this test.
/// The setup script in `.config/nextest.toml` builds it before the tests run.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let program =
        test.ancestors().skip(1).take(2).map(|folder| folder.join("proxytorrent")).find(|path| path.is_file());
    program.expect("the program is built: run `cargo test --workspace --no-run`")
}

/// A running server with its own data folder, and a client of its API without credentials. It is killed when it is
/// dropped.
#[derive(Debug)]
pub struct TestServer {
    child: Child,
    client: ApiClient,
    /// The address at which it seeds.
    pub seeder: String,
    settings: Vec<(String, String)>,
    wrapper: Vec<String>,
    folder: Arc<TempDir>,
}

impl Deref for TestServer {
    type Target = ApiClient;

    fn deref(&self) -> &ApiClient {
        &self.client
    }
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
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
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

    async fn launch(folder: Arc<TempDir>, settings: Vec<(String, String)>, wrapper: &[String]) -> Self {
        let program = program().to_string_lossy().into_owned();
        let words = [wrapper, &[program, "serve".to_owned()]].concat();
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
        Self { child, client: ApiClient::new(url), seeder, settings, wrapper: wrapper.to_vec(), folder }
    }

    /// Returns the server with another polling interval of its client.
    #[must_use]
    pub fn polling_every(self, poll: std::time::Duration) -> Self {
        Self { client: self.client.polling_every(poll), ..self }
    }

    /// Returns the value of a setting of this test. Panics if it is not set.
    pub fn setting(&self, name: &str) -> &str {
        let found = self.settings.iter().rev().find(|(set, _)| set == name);
        &found.expect("the setting is set").1
    }

    /// Returns the data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the working directory of the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
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

    /// Returns a value of `/proc/PID/status` in MB: `VmRSS` (current) or `VmHWM` (peak).
    pub fn memory_mb(&self, what: &str) -> f64 {
        memory_mb(self.pid(), what)
    }

    /// Returns the CPU time used so far, in milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        cpu_ms(self.pid())
    }

    /// Kills the server (SIGKILL) and starts it again on the same data.
    pub async fn crash_and_restart(mut self) -> Self {
        self.child.kill().await.expect("killed");
        self.restart().await
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

    /// As [`TestServer::restart`], with additional settings.
    pub async fn restart_with(mut self, extra: &[(&str, &str)]) -> Self {
        self.settings.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.restart().await
    }

    /// Returns the number of torrents in the seeder's session, as the health check has it.
    pub async fn seeding(&self) -> u64 {
        let health = self.json(Method::GET, "/v1/health", None).await;
        health["checks"]["seeder"]["torrents"].as_u64().expect("a number")
    }

    /// Saves the `.torrent` file of a ready request and returns its path.
    pub async fn save_torrent(&self, id: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{id}.torrent"));
        std::fs::write(&path, self.torrent(id).await).expect("saved");
        path
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
