//! Deduplication: equal contents are stored once, and identical requests are fetched once.

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{Origin, TestServer, content, eventually, sha256};
use serde_json::{Value, json};

async fn ready(server: &TestServer, ids: &[String]) -> Vec<Value> {
    let mut rows = vec![];
    for id in ids {
        rows.push(server.ready(id).await);
    }
    rows
}

#[tokio::test]
async fn two_urls_with_the_same_bytes_share_one_content() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let one = server.fetch(&origin.file(50_000, 1, "one.bin")).await;
    let two = server.fetch(&origin.file(50_000, 1, "two.bin")).await;
    assert_eq!(origin.hits(), 2);
    assert_eq!(one["content_hash"], two["content_hash"]);
    assert_ne!(one["infohash"], two["infohash"], "the name is part of the torrent");
    assert_eq!(server.files("content").len(), 1);
}

#[tokio::test]
async fn concurrent_identical_requests_fetch_once() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let mut ids = vec![];
    for _ in 0..5 {
        ids.push(server.create(json!({ "url": origin.url("/gated/100000/1") })).await);
    }
    eventually("the origin gets a call", async || (origin.hits() > 0).then_some(())).await;
    origin.open_gate();
    let rows = ready(&server, &ids).await;
    assert_eq!(origin.hits(), 1);
    assert!(rows.iter().all(|row| row["infohash"] == rows[0]["infohash"]));
}

#[tokio::test]
async fn a_waiter_fetches_when_the_request_it_waits_for_is_cancelled() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let url = origin.url("/gated/100000/1");
    let first = server.create(json!({ "url": url })).await;
    server.until(&first, |row| row["status"] == "fetching").await;
    let second = server.create(json!({ "url": url })).await;
    server.call(reqwest::Method::DELETE, &format!("/v1/requests/{first}"), None).await;
    eventually("the waiter fetches by itself", async || (origin.hits() == 2).then_some(())).await;
    origin.open_gate();
    server.ready(&second).await;
    assert_eq!(server.get(&first).await["status"], "cancelled");
}

#[tokio::test]
async fn a_ready_content_is_reused_within_its_ttl_and_not_with_ttl_0() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let url = origin.file(1000, 1, "a.bin");
    let first = server.fetch(&url).await;
    let second = server.fetch(&url).await;
    assert_eq!(origin.hits(), 1);
    assert_eq!(first["infohash"], second["infohash"]);
    let fresh = server.create(json!({ "url": url, "ttl": 0 })).await;
    server.ready(&fresh).await;
    assert_eq!(origin.hits(), 2);
    let other = server.create(json!({ "url": url, "headers": { "X-A": "1" } })).await;
    server.ready(&other).await;
    assert_eq!(origin.hits(), 3, "a request with other headers is not identical");
}

#[tokio::test]
async fn a_damaged_content_is_replaced_when_it_is_fetched_again() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let url = origin.file(300_000, 1, "a.bin");
    let row = server.fetch(&url).await;
    let path = server.files("content").pop().expect("a file");
    for damage in [content(300_000, 9), content(200_000, 1), vec![]] {
        std::fs::write(&path, damage).expect("written");
        let again = server.create(json!({ "url": url, "ttl": 0, "sha256": row["content_hash"] })).await;
        let again = server.ready(&again).await;
        assert_eq!(again["infohash"], row["infohash"]);
        assert_eq!(std::fs::read(&path).expect("a file"), content(300_000, 1));
        let torrent = server.save_torrent(again["id"].as_str().expect("an id")).await;
        let folder = server.scratch(again["id"].as_str().expect("an id"));
        assert_eq!(libtorrent(torrent.to_str().expect("text"), &folder).await, sha256(&content(300_000, 1)));
    }
}
