//! An emulated AWS account for a test: a ministack process with the tables and a bucket.

use std::process::Stdio;
use std::time::{Duration, Instant};

use aws::Clients;
use aws::schema::{NUMBERS, TABLES};
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use aws_sdk_s3::config::{Credentials, SharedHttpClient};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{PATIENCE, free_port, python};

/// A running emulator with its clients. It is killed when it is dropped.
#[derive(Debug)]
pub struct Account {
    /// Clients of the account.
    pub clients: Clients,
    /// The URL of the emulator.
    pub endpoint: String,
    _process: Child,
    _folder: TempDir,
}

impl Account {
    /// Starts an emulator, and creates the tables `test-…` and the bucket `test`.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("it works");
        let program = python().with_file_name("ministack");
        // If another process takes the port first, the emulator exits, and the test fails below.
        let port = free_port();
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
            .expect("it works");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(process.try_wait().expect("it works").is_none(), "the emulator has exited");
            assert!(started.elapsed() < PATIENCE, "the emulator did not start in time");
            // The polling interval.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let clients = clients(&endpoint, aws::http_client()).await;
        create_tables(&clients.dynamodb(), "test").await;
        clients.s3().create_bucket().bucket("test").send().await.expect("it works");
        Self { clients, endpoint, _process: process, _folder: folder }
    }

    /// Returns the environment of a function on this account, with queues that it creates.
    pub async fn environment(&self) -> Vec<(String, String)> {
        let names = ["requests", "torrents", "contents", "guards", "swarm"];
        let tables = names.map(|name| (format!("AWS__{}_TABLE", name.to_uppercase()), format!("test-{name}")));
        let mut environment: Vec<_> = tables.into();
        for name in ["fetch", "package", "seed"] {
            let queue = self.clients.sqs().create_queue().queue_name(name).send().await.expect("it works");
            environment.push((format!("AWS__{}_QUEUE", name.to_uppercase()), queue.queue_url.expect("a URL")));
        }
        let others = [
            ("AWS__BUCKET", "test"),
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "000000000001"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("PUBLIC_URL", "http://localhost"),
            ("PROXY__PROXY_ENABLED", "false"),
            ("FETCHER__ALLOW_NETWORKS", "127.0.0.1/32"),
            // The bearer token in the sample events.
            ("SECURITY__BEARER_TOKENS", "you:emulated"),
            ("TRACKER__SECRET", "a secret of the tracker"),
        ];
        environment.extend(others.map(|(name, value)| (name.to_owned(), value.to_owned())));
        environment
    }

    /// Returns clients that use this HTTP client and retry after a short back-off.
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

fn keys(names: &[&str]) -> Vec<KeySchemaElement> {
    let kinds = [KeyType::Hash, KeyType::Range];
    let element = |(name, kind): (&&str, KeyType)| {
        KeySchemaElement::builder().attribute_name(*name).key_type(kind).build().expect("a key")
    };
    names.iter().zip(kinds).map(element).collect()
}

/// Creates the tables. Their names start with `prefix`.
async fn create_tables(client: &Client, prefix: &str) {
    for (name, key, indices) in TABLES {
        let mut attributes: Vec<_> = key.to_vec();
        attributes.extend(indices.iter().flat_map(|(_, keys, _)| keys.iter()));
        attributes.sort_unstable();
        attributes.dedup();
        let mut create = client
            .create_table()
            .table_name(format!("{prefix}-{name}"))
            .billing_mode(BillingMode::PayPerRequest)
            .set_key_schema(Some(keys(key)));
        for attribute in attributes {
            let kind = if NUMBERS.contains(&attribute) { ScalarAttributeType::N } else { ScalarAttributeType::S };
            let definition = AttributeDefinition::builder().attribute_name(attribute).attribute_type(kind).build();
            create = create.attribute_definitions(definition.expect("an attribute"));
        }
        for (index, key, included) in indices {
            let projection = match included {
                None => Projection::builder().projection_type(ProjectionType::All),
                Some([]) => Projection::builder().projection_type(ProjectionType::KeysOnly),
                Some(names) => Projection::builder()
                    .projection_type(ProjectionType::Include)
                    .set_non_key_attributes(Some(names.iter().map(|name| (*name).to_owned()).collect())),
            };
            let index = GlobalSecondaryIndex::builder().index_name(*index).set_key_schema(Some(keys(key)));
            create = create.global_secondary_indexes(index.projection(projection.build()).build().expect("an index"));
        }
        create.send().await.expect("a table");
    }
}
