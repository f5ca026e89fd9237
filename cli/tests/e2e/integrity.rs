//! Contents that decay or disappear on the disk.

use reqwest::Method;
use serde_json::{Value, json};

use crate::clients::{libtorrent, sha256};
use crate::origin::{Origin, content};
use crate::server::{TestServer, eventually, read_json};

const SIZE: usize = 300_000;

/// Waits until the content is served again as it was.
async fn restored(server: &TestServer, row: &Value) {
    let url = format!("{}/v1/requests/{}/content", server.url, row["id"].as_str().expect("an id"));
    eventually("the content is back", async || {
        // An answer is cut short when the damaged file is taken away under it.
        let response = server.http().get(&url).send().await.ok().filter(|response| response.status() == 200)?;
        response.bytes().await.ok().filter(|bytes| *bytes == content(SIZE, 1))
    })
    .await;
    let again = server.ready(row["id"].as_str().expect("an id")).await;
    assert_eq!(again["infohash"], row["infohash"]);
}

#[tokio::test]
async fn a_content_that_decayed_is_fetched_again_and_its_torrent_works() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(SIZE, 1, "a.bin")).await;
    let id = row["id"].as_str().expect("an id").to_owned();
    let path = server.files("content").pop().expect("a file");
    let mut damaged = content(SIZE, 1);
    damaged[200_000] ^= 1;
    std::fs::write(&path, &damaged).expect("written");
    // The first pass begins with the start.
    let server = server.crash_and_restart().await;
    restored(&server, &row).await;
    // The server has another port now, and the torrent names it.
    let torrent = server.save_torrent(&id).await;
    let folder = server.scratch("download");
    assert_eq!(libtorrent(torrent.to_str().expect("text"), &folder).await, sha256(&content(SIZE, 1)));
    let health = read_json(server.call(Method::GET, "/v1/health", None).await).await;
    assert_eq!(health["checks"]["storage"]["damaged_contents"], 1, "{health:#}");
}

#[tokio::test]
async fn a_content_that_is_gone_is_fetched_again_when_it_is_asked_for() {
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

/// Another content under the same request would not be what was asked for then.
#[tokio::test]
async fn a_content_that_is_gone_and_has_changed_at_its_origin_fails() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.url("/counted")).await;
    let id = row["id"].as_str().expect("an id");
    std::fs::remove_file(server.files("content").pop().expect("a file")).expect("removed");
    server.call(Method::GET, &format!("/v1/requests/{id}/content"), None).await;
    let failed = server.until(id, |row| row["status"] == "failed").await;
    assert_eq!(failed["error_code"], "checksum_mismatch", "{failed:#}");
    assert_eq!(server.files("content"), [] as [std::path::PathBuf; 0]);
}

/// Nobody wants a form to be sent twice.
#[tokio::test]
async fn a_content_that_a_post_brought_is_not_fetched_again() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let id = server.create(json!({ "url": origin.url("/counted"), "method": "POST" })).await;
    server.ready(&id).await;
    std::fs::remove_file(server.files("content").pop().expect("a file")).expect("removed");
    server.call(Method::GET, &format!("/v1/requests/{id}/content"), None).await;
    let failed = server.until(&id, |row| row["status"] == "failed").await;
    assert_eq!((&failed["error_code"], origin.hits()), (&json!("content_corrupt"), 1), "{failed:#}");
}
