//! Backups of the tables, made and restored while requests are in progress.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tests::clients::libtorrent;
use tests::{Origin, content, sha256};

use crate::stack::{LEASE_AND_SWEEP, Stack};

const SIZE: usize = 50_000;

#[tokio::test]
async fn a_backup_under_load_is_restored_to_a_consistent_state() {
    let (stack, origin) = (Stack::deploy(&[]).await, Origin::start().await);
    let backup = |command| stack.run("infra/backup.py", [command, "proxytorrent", "under-load"]);
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let kept = id(&stack.fetch(&origin.file(SIZE, 1, "kept.bin")).await);
    let cancelled = id(&stack.fetch(&origin.file(SIZE, 2, "cancelled.bin")).await);
    let mut waiting = vec![];
    for number in 0..5 {
        waiting.push(stack.create(json!({ "url": origin.url(&format!("/delayed/1000/{number}")) })).await);
    }
    let made = backup("create").await;
    assert_eq!(made.matches("under-load of proxytorrent-").count(), 2, "{made}");
    assert_ne!(stack.get(&waiting[4]).await["status"], "ready", "the backup is made during the fetch");

    // What happens after the backup is undone: a damaged row, a request that was cancelled, and a new one.
    for id in &waiting {
        stack.ready(id).await;
    }
    let later = id(&stack.fetch(&origin.file(SIZE, 3, "later.bin")).await);
    let path = format!("/v1/requests/{cancelled}");
    assert_eq!(stack.call(Method::DELETE, &path, None).await.status(), 204);
    let endpoint = stack.names["Endpoint"].as_str().unwrap();
    let row = json!({ "TableName": stack.names["RequestsTable"], "Key": { "id": { "S": kept } } }).to_string();
    let deletion = stack.http.post(endpoint).header("x-amz-target", "DynamoDB_20120810.DeleteItem").body(row);
    let deletion = deletion.header("content-type", "application/x-amz-json-1.0").send().await.unwrap();
    assert_eq!(deletion.status(), 200);
    assert_eq!(stack.call(Method::GET, &format!("/v1/requests/{kept}"), None).await.status(), 404);

    let restored = backup("restore").await;
    assert!(restored.contains("has 7 items again; 1 others were deleted"), "{restored}");
    assert_eq!(stack.call(Method::GET, &format!("/v1/requests/{later}"), None).await.status(), 404);
    let deadline = Instant::now() + LEASE_AND_SWEEP;
    for id in waiting.iter().chain([&kept, &cancelled]) {
        stack.ready_by(id, deadline).await;
    }
    for (id, seed) in [(&kept, 1), (&cancelled, 2)] {
        let path = stack.folder.path().join(format!("{seed}.torrent"));
        std::fs::write(&path, stack.torrent(id).await).unwrap();
        let received = libtorrent(path.to_str().unwrap(), &stack.scratch(&seed.to_string())).await;
        assert_eq!(received, sha256(&content(SIZE, seed)));
    }
    stack.stop().await;
}
