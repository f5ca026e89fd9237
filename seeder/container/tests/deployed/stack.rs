//! The stack under test.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tests::{ApiClient, python, root};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The timeout of every step.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A lease (60 s), the interval of the sweep (60 s), and the rest of the fetch.
pub const LEASE_AND_SWEEP: Duration = Duration::from_secs(150);

/// The deployed stack. Dropping it stops its processes.
pub struct Stack {
    child: Child,
    client: ApiClient,
    /// The outputs of the stack, the endpoint of the emulator, and the seeders.
    pub names: Value,
    pub folder: TempDir,
}

impl Deref for Stack {
    type Target = ApiClient;

    fn deref(&self) -> &ApiClient {
        &self.client
    }
}

impl Stack {
    /// Deploys the stack from the binaries next to the seeder's, with more arguments of `infra/emulated/run.py`.
    pub async fn deploy(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binaries = Path::new(env!("CARGO_BIN_EXE_seeder-container")).parent().unwrap();
        let mut child = Command::new(python())
            .arg(root().join("infra/emulated/run.py"))
            .arg("--binaries")
            .arg(binaries)
            .args(["--port", "0", "--setting", "FETCHER__ALLOW_NETWORKS=127.0.0.1/32"])
            // With a webseed, clients would download from it, and tests of the seeder would prove nothing.
            .args(["--setting", "TORRENT__WEBSEED=false"])
            // One in 256 encrypted handshakes fails. The client retries after the minimum interval.
            .args(["--setting", "TRACKER__INTERVAL=10"])
            .args(arguments)
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
        let client = ApiClient::new(url).with_token("emulated").with_long_polls();
        Self { child, client, names, folder }
    }

    pub fn seeders(&self) -> &[Value] {
        self.names["Seeders"].as_array().unwrap()
    }

    pub async fn health(&self, seeder: &Value) -> Value {
        let url = format!("http://{}/health", seeder["http"].as_str().unwrap());
        tests::read_json(self.http.get(url).send().await.unwrap()).await
    }

    /// Waits until the seeders after the first `skipped` ones have this many torrents together. Returns how many each
    /// has.
    pub async fn wait_for_copies(&self, skipped: usize, count: usize) -> Vec<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut shares = vec![];
            for seeder in &self.seeders()[skipped..] {
                let health = self.health(seeder).await;
                shares.push(usize::try_from(health["torrents"].as_u64().unwrap()).unwrap());
            }
            if shares.iter().sum::<usize>() == count {
                return shares;
            }
            assert!(Instant::now() < deadline, "{shares:?} torrents instead of {count}");
            // The interval of the polls.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the first seeder has written this metric with this value in the embedded metric format of
    /// CloudWatch.
    pub async fn wait_for_metric(&self, name: &str, value: &Value) {
        let (path, deadline) = (self.seeders()[0]["metrics"].as_str().unwrap(), Instant::now() + PATIENCE);
        loop {
            let text = std::fs::read_to_string(path).unwrap();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if lines.any(|line| line["_aws"].is_object() && line[name] == *value) {
                return;
            }
            assert!(Instant::now() < deadline, "{text}");
            // The interval of the polls.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until a request is ready.
    pub async fn ready_by(&self, id: &str, deadline: Instant) {
        loop {
            let row = self.get(id).await;
            if row["status"] == "ready" {
                return;
            }
            assert!(Instant::now() < deadline, "{row:#}");
            // The interval of the polls.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Runs a Python program of this repository with credentials for the emulated account. Returns what it prints.
    pub async fn run<const N: usize>(&self, program: &str, arguments: [&str; N]) -> String {
        let mut command = Command::new(python());
        command.arg(root().join(program)).args(arguments);
        command
            .env("AWS_ENDPOINT_URL", self.names["Endpoint"].as_str().unwrap())
            .env("AWS_DEFAULT_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Creates a folder for the test's files and returns its path.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub async fn stop(mut self) {
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
