//! Backups of the tables, made and restored while requests are in progress.

use std::time::Instant;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::clients::libtorrent;
use tests::{Origin, content, eventually, sha256};

use crate::stack::{LEASE_AND_SWEEP, Stack};

const SIZE: usize = 50_000;

#[tokio::test]
async fn a_backup_under_load_is_restored_to_a_consistent_state() {
    let stack = Stack::deploy(&["--seeders=2", "--setting", "SEEDER__REPLICAS=1"]).await;
    let origin = Origin::start().await;
    let backup = |command| stack.run("infra/backup.py", [command, "proxytorrent", "under-load"]);
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let mut kept = vec![];
    for seed in 1..=6 {
        kept.push(stack.fetch(&origin.file(SIZE, seed, "kept.bin")).await);
    }
    let cancelled = id(&stack.fetch(&origin.file(SIZE, 7, "cancelled.bin")).await);
    let mut fetching = vec![];
    for seed in 11..=15 {
        fetching.push(stack.create(json!({ "url": origin.url(&format!("/gated/{SIZE}/{seed}")) })).await);
    }
    for id in &fetching {
        stack.until(id, |row| row["status"] == "fetching").await;
    }
    let made = backup("create").await;
    assert_eq!(made.matches("under-load of proxytorrent-").count(), 2, "{made}");

    // What happens after the backup: rows and files are lost, a request is cancelled, and there is a new one.
    origin.open_gate();
    for id in &fetching {
        stack.ready(id).await;
    }
    let later = id(&stack.fetch(&origin.file(SIZE, 8, "later.bin")).await);
    assert_eq!(stack.call(Method::DELETE, &format!("/v1/requests/{cancelled}"), None).await.status(), 204);
    let endpoint = stack.names["Endpoint"].as_str().unwrap();
    for row in &kept {
        let (bucket, infohash) = (stack.names["Bucket"].as_str().unwrap(), row["infohash"].as_str().unwrap());
        let file = format!("{endpoint}/{bucket}/torrents/{infohash}.torrent");
        assert!(stack.http.delete(file).send().await.unwrap().status().is_success());
    }
    let row = json!({ "TableName": stack.names["RequestsTable"], "Key": { "id": { "S": id(&kept[0]) } } });
    let deletion = stack.http.post(endpoint).header("x-amz-target", "DynamoDB_20120810.DeleteItem");
    let deletion = deletion.header("content-type", "application/x-amz-json-1.0").body(row.to_string());
    assert_eq!(deletion.send().await.unwrap().status(), 200);
    let status = async |id: &str| stack.call(Method::GET, &format!("/v1/requests/{id}"), None).await.status();
    assert_eq!(status(&id(&kept[0])).await, 404);

    let restored = backup("restore").await;
    assert!(restored.contains("has 12 items again, and 1 newer ones were deleted"), "{restored}");
    assert!(!restored.contains("has no torrent"), "{restored}");
    assert_eq!(status(&later).await, 404);
    let deadline = Instant::now() + LEASE_AND_SWEEP;
    for id in &fetching {
        stack.ready_by(id, deadline).await;
    }
    // The other seeder takes over the torrents of one that stops, and finds that their files are gone.
    let pid = Pid::from_raw(i32::try_from(stack.seeders()[1]["pid"].as_i64().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    eventually("all torrents are seeded", async || {
        (stack.health(&stack.seeders()[0]).await["torrents"] == 12).then_some(())
    })
    .await;
    let (row, mut downloaded) = (stack.get(&cancelled).await, 0);
    for (row, seed) in kept.iter().zip(1..).chain([(&row, 7)]) {
        let id = id(row);
        stack.ready_by(&id, deadline).await;
        // A torrent that the first seeder has had all the time is not looked at.
        let response = stack.call(Method::GET, &format!("/v1/requests/{id}/torrent"), None).await;
        if response.status() != 200 {
            continue;
        }
        let path = stack.folder.path().join(format!("{seed}.torrent"));
        std::fs::write(&path, response.bytes().await.unwrap()).unwrap();
        let received = libtorrent(path.to_str().unwrap(), &stack.scratch(&seed.to_string())).await;
        assert_eq!(received, sha256(&content(SIZE, seed)));
        downloaded += 1;
    }
    assert!(downloaded > 0);
    stack.stop().await;
}
