//! An emulated AWS account for a test: a ministack process with the tables and a bucket.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use aws::Clients;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::config::{Credentials, SharedHttpClient};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long the emulator may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running emulator with its clients. It is killed when it is dropped.
pub struct Account {
    pub clients: Clients,
    /// The URL of the emulator.
    pub endpoint: String,
    _process: Child,
    _folder: TempDir,
}

impl Account {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let program = folders.map(|folder| folder.join(".tools/python/bin/ministack")).find(|program| program.exists());
        let program = program.expect("the emulator is installed: run `make setup`");
        // The port is free now. If another process takes it first, the emulator exits, and the test fails below.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut process = Command::new(program)
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("AWS_ENDPOINT_URL", &endpoint)
            .env("IOT_MTLS_ENABLED", "0")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(process.try_wait().unwrap().is_none(), "the emulator has exited");
            assert!(started.elapsed() < PATIENCE, "the emulator did not start in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let clients = clients(&endpoint, aws::http_client()).await;
        aws::schema::create_tables(&clients.dynamodb(), "test").await.unwrap();
        clients.s3().create_bucket().bucket("test").send().await.unwrap();
        Self { clients, endpoint, _process: process, _folder: folder }
    }

    /// Returns clients that use this HTTP client and retry after a short back-off.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn clients_by(&self, http: SharedHttpClient) -> Clients {
        clients(&self.endpoint, http).await
    }
}

async fn clients(endpoint: &str, http: SharedHttpClient) -> Clients {
    let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(10));
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("000000000001", "secret", None, None, "test"))
        .endpoint_url(endpoint)
        .retry_config(retries)
        .http_client(http);
    Clients::new(config.load().await)
}
