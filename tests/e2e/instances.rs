//! Several instances on one PostgreSQL database and one content folder, with nginx before them.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::documents::code_blocks;
use proxytorrent_tests::nginx::Nginx;
use proxytorrent_tests::postgres::Postgres;
use proxytorrent_tests::{ApiClient, Origin, TestServer, content, eventually, free_port, program, sha256};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

/// A lease (60 s), the interval of the sweep (60 s), and the rest of the fetch.
const LEASE_AND_SWEEP: Duration = Duration::from_secs(150);

/// The instances, and what they share.
struct Cluster {
    /// A client of nginx.
    client: ApiClient,
    /// A client of each instance.
    direct: Vec<ApiClient>,
    instances: Vec<TestServer>,
    database: Postgres,
    contents: TempDir,
    _nginx: Nginx,
}

impl Cluster {
    async fn start(count: usize) -> Self {
        let (database, contents) = (Postgres::start().await, tempfile::tempdir().unwrap());
        let public = format!("http://127.0.0.1:{}", free_port());
        let (mut instances, mut direct) = (vec![], vec![]);
        for _ in 0..count {
            let port = free_port().to_string();
            let settings = [
                ("DATABASE__DATABASE_URL", database.url.as_str()),
                ("STORAGE__CONTENT_PATH", contents.path().to_str().unwrap()),
                ("PUBLIC_URL", &public),
                ("PORT", &port),
                ("SECURITY__TRUSTED_PROXIES", "127.0.0.1"),
            ];
            instances.push(TestServer::with(&settings).await);
            direct.push(ApiClient::new(format!("http://127.0.0.1:{port}")));
        }
        let mut config = code_blocks("docs/several-instances.md", "nginx").remove(0);
        config = config.replace("listen 80", &format!("listen {}", public.trim_start_matches("http://")));
        for (number, documented) in ["10.0.0.11:8000", "10.0.0.12:8000", "10.0.0.13:8000"].iter().enumerate() {
            let server =
                direct.get(number).map(|client| format!("server {};", client.url.trim_start_matches("http://")));
            config = config.replace(&format!("server {documented};"), &server.unwrap_or_default());
        }
        let nginx = Nginx::with(|_| config);
        let client = ApiClient::new(public);
        eventually("nginx responds", async || client.http.get(&client.url).send().await.ok()).await;
        for instance in &direct {
            eventually("the fleet is complete", async || {
                let health = instance.json(Method::GET, "/v1/health", None).await;
                let fleet = &health["checks"]["seeder"]["fleet"];
                (fleet["seeders"] == count && fleet["is_complete"] == true).then_some(())
            })
            .await;
        }
        Self { client, direct, instances, database, contents, _nginx: nginx }
    }

    /// Waits until all requests are ready, and returns their infohashes.
    async fn all_ready(&self, ids: &[String]) -> HashSet<String> {
        let deadline = Instant::now() + LEASE_AND_SWEEP;
        let mut infohashes = HashSet::new();
        for id in ids {
            let infohash = loop {
                let row = self.client.get(id).await;
                if row["status"] == "ready" {
                    break row["infohash"].as_str().unwrap().to_owned();
                }
                assert!(Instant::now() < deadline, "{row:#}");
                // The interval of the polls.
                tokio::time::sleep(Duration::from_millis(200)).await;
            };
            infohashes.insert(infohash);
        }
        infohashes
    }
}

/// Downloads the torrent that this client gets for a request. Returns the SHA-256 of the file.
async fn download(client: &ApiClient, id: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.torrent");
    std::fs::write(&path, client.torrent(id).await).unwrap();
    libtorrent(path.to_str().unwrap(), folder.path()).await
}

#[tokio::test]
async fn a_request_is_created_followed_and_downloaded_at_different_instances() {
    let (cluster, origin) = (Cluster::start(3).await, Origin::start().await);
    let [first, second, third] = &cluster.direct[..] else { panic!("three instances") };
    for seed in 0..4 {
        let id = first.create(json!({ "url": origin.file(300_000, seed, "a.bin") })).await;
        // A long poll at one instance, while another works on the request.
        let row = second.clone().with_long_polls().ready(&id).await;
        assert_eq!(row["content_hash"], sha256(&content(300_000, seed)));
        assert_eq!(download(third, &id).await, sha256(&content(300_000, seed)));
    }
    let mut seeding = 0;
    for instance in &cluster.direct {
        let health = instance.json(Method::GET, "/v1/health", None).await;
        seeding += health["checks"]["seeder"]["torrents"].as_u64().unwrap();
    }
    // Two is the default of SEEDER__REPLICAS. An instance that sees another as incomplete gives its torrents to a third, too.
    assert!(seeding >= 2 * 4, "{seeding} copies of 4 torrents");
}

#[tokio::test]
async fn requests_complete_when_an_instance_is_killed_with_its_fetches() {
    let (mut cluster, origin) = (Cluster::start(3).await, Origin::start().await);
    let mut ids = vec![];
    for seed in 0..6 {
        ids.push(cluster.direct[0].create(json!({ "url": origin.url(&format!("/gated/200000/{seed}")) })).await);
    }
    eventually("the instance fetches", async || (origin.hits() >= 6).then_some(())).await;
    drop(cluster.instances.remove(0));
    // The others answer in its place.
    for seed in 6..30 {
        ids.push(cluster.client.create(json!({ "url": origin.file(1000, seed, "a.bin") })).await);
    }
    origin.open_gate();
    assert_eq!(cluster.all_ready(&ids).await.len(), ids.len());
    assert_eq!(download(&cluster.client, &ids[0]).await, sha256(&content(200_000, 0)));
}

#[tokio::test]
async fn requests_complete_after_the_database_was_killed_and_restarted() {
    let (mut cluster, origin) = (Cluster::start(2).await, Origin::start().await);
    let mut ids = vec![];
    for seed in 0..20 {
        ids.push(cluster.client.create(json!({ "url": origin.url(&format!("/gated/2000/{seed}")) })).await);
    }
    eventually("the instances fetch", async || (origin.hits() == 20).then_some(())).await;
    cluster.database.crash().await;
    origin.open_gate();
    let health = eventually("the health check fails", async || {
        let response = cluster.direct[0].call(Method::GET, "/v1/health", None).await;
        (response.status() == 503).then_some(proxytorrent_tests::read_json(response).await)
    })
    .await;
    assert_eq!(health["checks"]["database"]["status"], "unhealthy", "{health:#}");
    let refused =
        cluster.direct[0].call(Method::POST, "/v1/requests", Some(json!({ "url": origin.url("/1/1") }))).await;
    assert_eq!(refused.status(), 503);
    cluster.database.run().await;
    let more = eventually("requests are taken again", async || {
        let url = origin.file(1000, 99, "a.bin");
        let response = cluster.client.call(Method::POST, "/v1/requests", Some(json!({ "url": url }))).await;
        let created = response.status() == 201;
        created.then_some(proxytorrent_tests::read_json(response).await["id"].as_str().expect("an id").to_owned())
    })
    .await;
    ids.push(more);
    cluster.all_ready(&ids).await;
}

#[tokio::test]
async fn an_instance_starts_only_with_the_contents_of_its_database() {
    let (cluster, origin) = (Cluster::start(1).await, Origin::start().await);
    cluster.client.fetch(&origin.file(1000, 1, "a.bin")).await;
    let (other, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = async |folder: &Path, url: &str| {
        let mut command = tokio::process::Command::new(program());
        command.args(["serve", "--dev"]).env_clear().env("PORT", "0").env("SEEDER__LISTEN", "127.0.0.1:0");
        command.env("STORAGE__BASE_PATH", data.path()).env("STORAGE__CONTENT_PATH", folder);
        let output = command.env("DATABASE__DATABASE_URL", url).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = start(other.path(), &cluster.database.url).await;
    assert!(text.contains("are in another folder") && text.contains("STORAGE__CONTENT_PATH"), "{text}");

    let other_database = Postgres::start().await;
    let text = start(cluster.contents.path(), &other_database.url).await;
    assert!(text.contains("has the contents of another database"), "{text}");

    let text = start(cluster.contents.path(), "").await;
    assert!(text.contains("has the contents of a PostgreSQL database"), "{text}");

    let sqlite = TestServer::start().await;
    sqlite.fetch(&origin.file(1000, 1, "a.bin")).await;
    let text = start(&sqlite.data().join("content"), &other_database.url).await;
    assert!(text.contains("has contents that the database (DATABASE__DATABASE_URL) does not know"), "{text}");
}
