//! Integrity of stored contents: contents that are damaged or missing on disk.

use proxytorrent_tests::clients::libtorrent;
use proxytorrent_tests::{Origin, TestServer, content, eventually, read_json, sha256};
use reqwest::Method;
use serde_json::{Value, json};

const SIZE: usize = 300_000;

/// Fetches a content and changes a byte of its file. Returns the request.
async fn damaged(server: &TestServer, origin: &Origin) -> Value {
    let row = server.fetch(&origin.file(SIZE, 1, "a.bin")).await;
    let mut damaged = content(SIZE, 1);
    damaged[200_000] ^= 1;
    std::fs::write(server.files("content").pop().expect("a file"), damaged).expect("written");
    row
}

/// Waits until the original content is served again.
async fn restored(server: &TestServer, row: &Value) {
    let url = format!("{}/v1/requests/{}/content", server.url, row["id"].as_str().expect("an id"));
    eventually("the content is served again", async || {
        // A response is truncated if the damaged file is removed while it is sent.
        let response = server.http.get(&url).send().await.ok().filter(|response| response.status() == 200)?;
        response.bytes().await.ok().filter(|bytes| *bytes == content(SIZE, 1))
    })
    .await;
    let again = server.ready(row["id"].as_str().expect("an id")).await;
    assert_eq!(again["infohash"], row["infohash"]);
}

#[tokio::test]
async fn a_damaged_content_is_fetched_again_and_its_torrent_works() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = damaged(&server, &origin).await;
    // The first scrub pass starts when the server starts.
    let server = server.crash_and_restart().await;
    restored(&server, &row).await;
    // Saves the torrent after the restart: the server has another port now, and the torrent contains it.
    assert_downloads_after_one_repair(&server, &row).await;
}

/// Asserts that a peer gets the original content, and that one content was found damaged.
async fn assert_downloads_after_one_repair(server: &TestServer, row: &Value) {
    let torrent = server.save_torrent(row["id"].as_str().expect("an id")).await;
    let folder = server.scratch("download");
    assert_eq!(libtorrent(torrent.to_str().expect("text"), &folder).await, sha256(&content(SIZE, 1)));
    let health = read_json(server.call(Method::GET, "/v1/health", None).await).await;
    assert_eq!(health["checks"]["storage"]["damaged_contents"], 1, "{health:#}");
}

#[tokio::test]
async fn a_damaged_piece_is_never_sent_and_the_peer_gets_the_content_that_is_fetched_again() {
    // Without the scrub, only the read of the peer finds the damage.
    let (server, origin) = (TestServer::with(&[("STORAGE__SCRUB", "0")]).await, Origin::start().await);
    let row = damaged(&server, &origin).await;
    assert_downloads_after_one_repair(&server, &row).await;
}

#[tokio::test]
async fn a_damaged_chunk_is_never_sent_by_the_webseed() {
    let settings = [("STORAGE__SCRUB", "0"), ("TORRENT__WEBSEED", "true")];
    let (server, origin) = (TestServer::with(&settings).await, Origin::start().await);
    let row = damaged(&server, &origin).await;
    let url = server.webseed(row["id"].as_str().expect("an id")).await.expect("a webseed");
    let response = server.http.get(&url).send().await.expect("a response");
    assert_eq!((response.status().as_u16(), &read_json(response).await["code"]), (503, &json!("content_unavailable")));
    eventually("the content is repaired", async || {
        let response = server.http.get(&url).send().await.ok().filter(|response| response.status() == 200)?;
        response.bytes().await.ok().filter(|bytes| *bytes == content(SIZE, 1))
    })
    .await;
}

#[tokio::test]
async fn a_missing_content_is_fetched_again_when_it_is_requested() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(SIZE, 1, "a.bin")).await;
    std::fs::remove_file(server.files("content").pop().expect("a file")).expect("removed");
    let path = format!("/v1/requests/{}/content", row["id"].as_str().expect("an id"));
    let response = server.call(Method::GET, &path, None).await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(read_json(response).await["code"], "content_unavailable");
    restored(&server, &row).await;
}

/// A request must not change its content: the new content is not what the request returned before.
#[tokio::test]
async fn a_missing_content_that_changed_at_its_origin_fails() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.url("/counted")).await;
    let id = row["id"].as_str().expect("an id");
    std::fs::remove_file(server.files("content").pop().expect("a file")).expect("removed");
    server.call(Method::GET, &format!("/v1/requests/{id}/content"), None).await;
    let failed = server.until(id, |row| row["status"] == "failed").await;
    assert_eq!(failed["error_code"], "checksum_mismatch", "{failed:#}");
    assert_eq!(server.files("content"), [] as [std::path::PathBuf; 0]);
}

/// A POST is not idempotent, so it must not be repeated without the user's consent.
#[tokio::test]
async fn a_missing_content_of_a_post_request_is_not_fetched_again() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/counted"), "method": "POST" })).await;
    server.ready(&id).await;
    std::fs::remove_file(server.files("content").pop().expect("a file")).expect("removed");
    server.call(Method::GET, &format!("/v1/requests/{id}/content"), None).await;
    let failed = server.until(&id, |row| row["status"] == "failed").await;
    assert_eq!((&failed["error_code"], origin.hits()), (&json!("content_corrupt"), 1), "{failed:#}");
}
