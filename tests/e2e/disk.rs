//! Full disks and I/O errors: they fail only the current writes; stored data stays readable.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use proxytorrent_tests::{Origin, TestServer, eventually, read_json, run, tool};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A disk (tmpfs) of a few megabytes in a separate mount namespace.
struct SmallDisk {
    holder: Child,
    folder: TempDir,
}

impl SmallDisk {
    async fn new(megabytes: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!("mount -t tmpfs -o size={megabytes}m tmpfs \"$0\" && echo mounted && exec sleep 3600");
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("unshare");
        let mut lines = BufReader::new(holder.stdout.take().expect("its output")).lines();
        assert_eq!(lines.next_line().await.expect("text").as_deref(), Some("mounted"), "mounting needs root");
        Self { holder, folder }
    }

    /// Starts a server whose data is on this disk.
    async fn server(&self, extra: &[(&str, &str)]) -> TestServer {
        let holder = self.holder.id().expect("it runs").to_string();
        let wrapper = ["nsenter", "--mount", "--target", &holder, "--"].map(str::to_owned);
        let data = self.folder.path().to_str().expect("text");
        TestServer::inside(&wrapper, &[&[("STORAGE__BASE_PATH", data)], extra].concat()).await
    }

    /// Returns a path on the disk that this process can open (through `/proc/PID/root`).
    fn path(&self, name: &str) -> PathBuf {
        let disk = self.folder.path().strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().expect("it runs").to_string()).join("root").join(disk).join(name)
    }

    /// Writes a file until no byte is free.
    fn fill(&self) {
        let mut file = File::create(self.path("fill")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.path("fill")).expect("removed");
    }
}

async fn post(server: &TestServer, url: &str) -> (u16, Value) {
    let response = server.call(Method::POST, "/v1/requests", Some(json!({ "url": url }))).await;
    (response.status().as_u16(), read_json(response).await)
}

async fn health(server: &TestServer) -> (u16, Value) {
    let response = server.call(Method::GET, "/v1/health", None).await;
    (response.status().as_u16(), read_json(response).await)
}

/// Waits until the health check returns this HTTP status; reports are cached for a second. Returns the report.
async fn health_becomes(server: &TestServer, wanted: u16) -> Value {
    eventually("the health check returns the expected status", async || {
        let (status, report) = health(server).await;
        (status == wanted).then_some(report)
    })
    .await
}

/// Creates requests until one is refused. Returns the ids of the accepted ones: the write-ahead log may have room for
/// a few.
async fn create_until_refused(server: &TestServer, origin: &Origin) -> Vec<String> {
    let mut accepted = vec![];
    for n in 0..2_000 {
        let (status, body) = post(server, &origin.file(3_000, 1, &format!("{n}.bin"))).await;
        match status {
            201 => accepted.push(body["id"].as_str().expect("an id").to_owned()),
            507 => {
                assert_eq!(body["code"], "storage_full", "{body:#}");
                return accepted;
            }
            other => panic!("{other}: {body:#}"),
        }
    }
    panic!("2,000 requests were accepted on a full disk");
}

#[tokio::test]
async fn a_full_disk_fails_only_the_current_writes() {
    let (disk, origin) = (SmallDisk::new(30).await, Origin::start().await);
    // Without a free-space floor, so that the writes of the database fail.
    let server = disk.server(&[("STORAGE__MIN_FREE", "0")]).await;
    let before = server.fetch(&origin.file(50_000, 1, "before.bin")).await;
    let before = before["id"].as_str().expect("an id");
    for _ in 0..3 {
        disk.fill();
        let accepted = create_until_refused(&server, &origin).await;
        let report = health_becomes(&server, 503).await;
        assert!(report["checks"]["storage"]["detail"].as_str().expect("a reason").contains("no space"), "{report:#}");
        // A cancel is a write as well: it may be refused, but it must not be lost.
        let cancel = server.call(Method::DELETE, &format!("/v1/requests/{before}"), None).await;
        assert!(matches!(cancel.status().as_u16(), 204 | 507), "{}", cancel.status());
        let cancelled = cancel.status() == 204;
        let expected = if cancelled { "cancelled" } else { "ready" };
        assert_eq!(server.get(before).await["status"], expected, "stored data stays readable");

        disk.empty();
        health_becomes(&server, 200).await;
        let after = server.fetch(&origin.file(50_000, 2, "after.bin")).await;
        assert_eq!(after["status"], "ready");
        for id in accepted {
            // No request is lost. One whose step failed on the full disk waits until its lease expires.
            server.get(&id).await;
        }
    }
}

#[tokio::test]
async fn a_server_killed_on_a_full_disk_starts_again_and_keeps_accepted_requests() {
    let (disk, origin) = (SmallDisk::new(30).await, Origin::start().await);
    let server = disk.server(&[("STORAGE__MIN_FREE", "0")]).await;
    let before = server.fetch(&origin.file(50_000, 1, "before.bin")).await;
    disk.fill();
    let accepted = create_until_refused(&server, &origin).await;
    let server = server.crash_and_restart().await;
    assert_eq!(server.get(before["id"].as_str().expect("an id")).await["status"], "ready");
    disk.empty();
    for id in &accepted {
        server.get(id).await;
    }
    let server = server.crash_and_restart().await;
    for id in &accepted {
        let row = server.until(id, |row| matches!(row["status"].as_str(), Some("ready" | "failed"))).await;
        let told = (row["status"].as_str(), row["error_code"].as_str());
        assert!(matches!(told, (Some("ready"), _) | (_, Some("storage_full"))), "{row:#}");
    }
}

#[tokio::test]
async fn a_fetch_larger_than_the_free_space_fails_without_retry() {
    let (disk, origin) = (SmallDisk::new(30).await, Origin::start().await);
    let server = disk.server(&[]).await;
    let before = server.fetch(&origin.file(50_000, 1, "before.bin")).await;
    // With and without a Content-Length.
    for path in ["/bytes/40000000/1/large.bin", "/undeclared/40000000/1"] {
        let hits = origin.hits();
        let id = server.create(json!({ "url": origin.url(path) })).await;
        let row = server.failed(&id).await;
        assert_eq!((&row["error_code"], &row["retry_count"]), (&json!("storage_full"), &json!(0)), "{row:#}");
        assert_eq!(origin.hits() - hits, 1);
    }
    assert_eq!(server.get(before["id"].as_str().expect("an id")).await["status"], "ready");
    health_becomes(&server, 200).await;
}

#[tokio::test]
async fn requests_are_refused_below_the_free_space_floor_and_queued_ones_wait() {
    let (disk, origin) = (SmallDisk::new(30).await, Origin::start().await);
    let server = disk.server(&[("STORAGE__MIN_FREE", "10000000"), ("FETCHER__MAX_CONCURRENT", "1")]).await;
    let running = server.create(json!({ "url": origin.url("/gated/10000/1") })).await;
    server.until(&running, |row| row["progress"] != 0).await;
    let queued = server.create(json!({ "url": origin.file(1_000, 1, "queued.bin") })).await;
    fs::write(disk.path("fill"), vec![0; 22_000_000]).expect("written");
    let (status, body) = post(&server, &origin.file(1_000, 1, "refused.bin")).await;
    assert_eq!((status, &body["code"]), (507, &json!("storage_full")), "{body:#}");
    let report = health_becomes(&server, 503).await;
    assert_eq!(report["checks"]["storage"]["status"], "unhealthy", "{report:#}");
    assert_eq!(report["checks"]["database"]["status"], "healthy", "{report:#}");
    origin.open_gate();
    assert_eq!(server.failed(&running).await["error_code"], "storage_full");
    assert_eq!(server.get(&queued).await["status"], "queued");
    disk.empty();
    assert_eq!(post(&server, &origin.file(1_000, 1, "accepted.bin")).await.0, 201);
}

#[tokio::test]
async fn stored_contents_stay_within_the_size_limit() {
    let origin = Origin::start().await;
    let server = TestServer::with(&[("STORAGE__MAX_BYTES", "1000000")]).await;
    let first = server.fetch(&origin.file(600_000, 1, "first.bin")).await;
    let second = server.create(json!({ "url": origin.file(600_000, 2, "second.bin") })).await;
    assert_eq!(server.failed(&second).await["error_code"], "storage_full");
    let server = server.crash_and_restart().await;
    server.fetch(&origin.file(390_000, 3, "third.bin")).await;
    let (status, body) = post(&server, &origin.file(20_000, 4, "fourth.bin")).await;
    assert_eq!(status, 201, "{body:#}");
    let id = body["id"].as_str().expect("an id");
    assert_eq!(server.failed(id).await["error_code"], "storage_full");
    let path = format!("/v1/requests/{}", first["id"].as_str().expect("an id"));
    assert_eq!(server.call(Method::DELETE, &path, None).await.status(), 204);
}

#[tokio::test]
async fn the_database_recovers_from_an_io_error() {
    let (folder, origin) = (tempfile::tempdir().expect("a folder"), Origin::start().await);
    let library = folder.path().join("fail_writes.so");
    let (source, target) = (tool("fail_writes.c"), library.to_str().expect("text"));
    run("cc", &["-shared", "-fPIC", "-o", target, source.to_str().expect("text")], folder.path()).await;
    let switch = folder.path().join("switch");
    let environment =
        [("LD_PRELOAD", target), ("FAIL_PATTERN", "proxytorrent.db"), ("FAIL_SWITCH", switch.to_str().expect("text"))];
    let server = TestServer::with(&environment).await;
    server.fetch(&origin.file(50_000, 1, "before.bin")).await;
    for seed in 2..5 {
        fs::write(&switch, "").expect("written");
        // Several consecutive failed transactions.
        for _ in 0..3 {
            let (status, body) = post(&server, &origin.file(1_000, seed, "refused.bin")).await;
            assert_eq!((status, &body["code"]), (503, &json!("store_unavailable")), "{body:#}");
        }
        let report = health_becomes(&server, 503).await;
        assert_eq!(report["checks"]["database"]["status"], "unhealthy", "{report:#}");
        fs::remove_file(&switch).expect("removed");
        server.fetch(&origin.file(50_000, seed, "after.bin")).await;
        health_becomes(&server, 200).await;
    }
    let server = server.crash_and_restart().await;
    assert_eq!(server.call(Method::GET, "/v1/requests", None).await.status(), 200);
}
