//! Crashes and shutdowns of the process: no request is lost, and none is processed twice.

use std::time::Duration;

use proxytorrent_tests::{Origin, TestServer, eventually};
use serde_json::json;

#[tokio::test]
async fn requests_complete_after_sigkill_at_any_moment() {
    let (mut server, origin) = (TestServer::start().await, Origin::start().await);
    let mut ids = vec![];
    for round in 0..6_u64 {
        for n in 0..8 {
            let url = origin.file(300_000 + n, round, &format!("{round}-{n}.bin"));
            ids.push(server.create(json!({ "url": url })).await);
        }
        // A delay, not a wait for a condition: in each round the kill comes a little later in the processing.
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        server = server.crash_and_restart().await;
    }
    let mut infohashes = std::collections::HashSet::new();
    for id in &ids {
        let row = server.ready(id).await;
        infohashes.insert(row["infohash"].as_str().unwrap().to_owned());
    }
    assert_eq!(infohashes.len(), ids.len());
    assert_eq!(server.files("content").len(), ids.len(), "one content each, and no staged upload");
    assert_eq!(server.files("torrents").len(), ids.len());
}

#[tokio::test]
async fn a_killed_transfer_starts_over_and_leaves_no_staged_upload() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/gated/4000000/1") })).await;
    eventually("a staged upload exists", async || (!server.files("content/staging").is_empty()).then_some(())).await;
    let server = server.crash_and_restart().await;
    eventually("the origin gets a second call", async || (origin.hits() == 2).then_some(())).await;
    origin.open_gate();
    server.ready(&id).await;
    assert_eq!(server.files("content/staging").len(), 0);
}

#[tokio::test]
async fn sigterm_exits_with_0_and_running_requests_continue_at_the_next_start() {
    let (mut server, origin) = (TestServer::with(&[("SHUTDOWN_GRACE", "0")]).await, Origin::start().await);
    let done = server.fetch(&origin.file(1000, 1, "a.bin")).await;
    let running = server.create(json!({ "url": origin.url("/gated/4000000/1") })).await;
    eventually("a staged upload exists", async || (!server.files("content/staging").is_empty()).then_some(())).await;
    assert_eq!(server.terminate().await.code(), Some(0));
    assert_eq!(server.files("content/staging").len(), 0);

    origin.open_gate();
    let server = server.restart().await;
    let row = server.ready(&running).await;
    assert_eq!(row["retry_count"], 0, "an interrupted try does not count as a retry");
    eventually("ready requests are seeded again", async || (server.seeding().await == 2).then_some(())).await;
    assert_eq!(server.get(done["id"].as_str().unwrap()).await["status"], "ready");
}

#[tokio::test]
async fn sigterm_lets_running_fetches_finish_within_the_grace_period() {
    let (mut server, origin) = (TestServer::with(&[("SHUTDOWN_GRACE", "30")]).await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/gated/100000/1") })).await;
    eventually("the origin gets a call", async || (origin.hits() == 1).then_some(())).await;
    let (status, ()) = tokio::join!(server.terminate(), async {
        // The server must be stopping when the gate opens.
        tokio::time::sleep(Duration::from_millis(300)).await;
        origin.open_gate();
    });
    assert_eq!(status.code(), Some(0));
    let server = server.restart().await;
    server.ready(&id).await;
    assert_eq!(origin.hits(), 1, "it was fetched before the shutdown");
}

#[tokio::test]
async fn a_data_folder_is_used_by_one_process_at_a_time() {
    let server = TestServer::start().await;
    let mut command = tokio::process::Command::new(proxytorrent_tests::program());
    command.args(["serve", "--dev"]).env_clear().env("STORAGE__BASE_PATH", server.data()).env("PORT", "0");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("is in use by another proxytorrent"), "{text}");
}
