//! Resuming interrupted transfers with range requests (RFC 9110, 14), and starting over where the origin has no
//! ranges.

use std::time::{Duration, Instant};

use proxytorrent_tests::{TestServer, content, eventually, sha256};
use reqwest::Method;
use serde_json::json;

use crate::raw::{Peer, Raw};

const SIZE: usize = 3_000_000;

/// Returns the first byte of the range that a request asks for, or `None` without a `Range` header.
fn asked_from(head: &str) -> Option<usize> {
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="))?;
    range.strip_suffix('-')?.parse().ok()
}

/// Sends a response with `bytes` from the start of the requested range, but not more than `most` bytes of the body.
async fn part(peer: &mut Peer, head: &str, bytes: &[u8], tag: &str, most: usize) {
    let from = asked_from(head).unwrap_or(0);
    let status = match asked_from(head) {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        None => "200 OK".into(),
    };
    let length = bytes.len() - from;
    let head = format!("HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nETag: {tag}\r\nContent-Length: {length}\r\n\r\n");
    peer.send(head).await;
    peer.send(&bytes[from..bytes.len().min(from + most)]).await;
}

#[tokio::test]
async fn an_interrupted_transfer_resumes_where_it_stopped() {
    let origin = Raw::start(async |mut peer: Peer| {
        let head = peer.request().await;
        part(&mut peer, &head, &content(SIZE, 1), "\"one\"", 700_000).await;
    })
    .await;
    let server = TestServer::start().await;
    let row = server.fetch(&origin.url("/a.bin")).await;
    assert_eq!(row["content_hash"], sha256(&content(SIZE, 1)));
    assert_eq!(row["retry_count"], 0, "resuming is not a retry");
    let froms: Vec<_> = origin.seen().iter().map(|head| asked_from(head)).collect();
    assert_eq!(froms, [None, Some(700_000), Some(1_400_000), Some(2_100_000), Some(2_800_000)]);
    assert!(origin.seen()[1..].iter().all(|head| head.contains("if-range: \"one\"")), "{:?}", origin.seen());
}

/// Returns a stopped server and the id of a request whose fetch was suspended at shutdown.
async fn left_off(origin: &Raw) -> (TestServer, String) {
    let mut server = TestServer::with(&[("SHUTDOWN_GRACE", "0")]).await;
    let id = server.create(json!({ "url": origin.url("/a.bin") })).await;
    server.until(&id, |row| row["progress"].as_u64() > Some(30)).await;
    assert!(server.terminate().await.success());
    assert_eq!(server.files("content").len(), 1, "the partial content is kept");
    (server, id)
}

#[tokio::test]
async fn a_fetch_suspended_at_shutdown_resumes_at_the_next_start() {
    let origin = Raw::start(async |mut peer: Peer| {
        let head = peer.request().await;
        let most = if peer.earlier < 2 { 1_200_000 } else { SIZE };
        part(&mut peer, &head, &content(SIZE, 1), "\"one\"", most).await;
        peer.closed().await;
    })
    .await;
    let (server, id) = left_off(&origin).await;

    // The suspended staged upload survives a crash of the process that resumes it.
    let server = server.restart().await;
    server.until(&id, |row| row["status"] == "fetching" && row["progress"].as_u64() > Some(60)).await;
    let server = server.crash_and_restart().await;
    let row = server.ready(&id).await;
    assert_eq!(
        (row["content_hash"].as_str(), row["retry_count"].as_u64()),
        (Some(&*sha256(&content(SIZE, 1))), Some(0))
    );
    let froms: Vec<_> = origin.seen().iter().map(|head| asked_from(head)).collect();
    assert_eq!(froms, [None, Some(1_200_000), Some(1_200_000)]);
    assert_eq!(server.files("content").len(), 1, "only the content remains");
}

#[tokio::test]
async fn a_suspended_fetch_survives_origin_failures_and_restarts() {
    let origin = Raw::start(async |mut peer: Peer| {
        let head = peer.request().await;
        match peer.earlier {
            0 => part(&mut peer, &head, &content(SIZE, 1), "\"one\"", 1_200_000).await,
            1 => drop(peer.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await),
            2 => {}
            _ => part(&mut peer, &head, &content(SIZE, 1), "\"one\"", SIZE).await,
        }
        if peer.earlier != 1 {
            peer.closed().await;
        }
    })
    .await;
    let (server, id) = left_off(&origin).await;
    // The origin is unavailable, then silent until the next stop.
    let mut server = server.restart().await;
    eventually("the origin gets the third call", async || (origin.seen().len() == 3).then_some(())).await;
    assert!(server.terminate().await.success());
    let server = server.restart().await;
    let row = server.ready(&id).await;
    assert_eq!(
        (row["content_hash"].as_str(), row["retry_count"].as_u64()),
        (Some(&*sha256(&content(SIZE, 1))), Some(1))
    );
    let froms: Vec<_> = origin.seen().iter().map(|head| asked_from(head)).collect();
    assert_eq!(froms, [None, Some(1_200_000), Some(1_200_000), Some(1_200_000)]);
}

/// Wrong partial responses: what is wrong, the headers, and the number of body bytes.
const PARTS: [(&str, &str, usize); 9] = [
    ("shorter than requested", "Content-Range: bytes 700000-799999/3000000\r\nContent-Length: 100000", 100_000),
    ("ends too early", "Content-Range: bytes 700000-2999999/3000000\r\nConnection: close", 100_000),
    ("the total size is unknown", "Content-Range: bytes 700000-799999/*\r\nContent-Length: 100000", 100_000),
    ("a wrong Content-Length", "Content-Range: bytes 700000-2999999/3000000\r\nContent-Length: 10", 10),
    ("another total size", "Content-Range: bytes 700000-799999/800000\r\nContent-Length: 100000", 100_000),
    ("another first byte", "Content-Range: bytes 600000-2999999/3000000\r\nContent-Length: 2400000", 2_300_000),
    ("too many bytes", "Content-Range: bytes 700000-799999/3000000\r\nConnection: close", 200_000),
    (
        "content coding",
        "Content-Range: bytes 700000-2999999/3000000\r\nContent-Encoding: gzip\r\nContent-Length: 2300000",
        2_300_000,
    ),
    ("no bytes", "Content-Range: bytes 700000-2999999/3000000\r\nConnection: close", 0),
];

#[tokio::test]
async fn a_wrong_partial_response_is_never_appended() {
    let server = TestServer::start().await;
    for (what, lines, most) in PARTS {
        for tagged in [true, false] {
            let origin = Raw::start(move |mut peer: Peer| async move {
                let (head, bytes) = (peer.request().await, content(SIZE, 1));
                match peer.earlier {
                    0 => part(&mut peer, "", &bytes, "\"one\"", 700_000).await,
                    1 => {
                        let tag = if tagged { "ETag: \"one\"\r\n" } else { "" };
                        peer.send(format!("HTTP/1.1 206 Partial Content\r\n{tag}{lines}\r\n\r\n")).await;
                        peer.send(&bytes[700_000..700_000 + most]).await;
                    }
                    _ => part(&mut peer, &head, &bytes, "\"one\"", SIZE).await,
                }
            })
            .await;
            let row = server.fetch(&origin.url("/a.bin")).await;
            assert_eq!(row["content_hash"], sha256(&content(SIZE, 1)), "{what}, {tagged}: {row:#}");
            let anew = origin.seen()[2..].iter().any(|head| asked_from(head).is_none());
            assert!(anew || tagged, "{what}: without an ETag the content must be fetched from the start");
        }
    }
}

#[tokio::test]
async fn a_changed_content_is_fetched_from_the_start() {
    // The changed content arrives whole, or as a partial response that does not match the first part.
    for whole in [true, false] {
        let origin = Raw::start(move |mut peer: Peer| async move {
            let head = peer.request().await;
            match peer.earlier {
                0 => part(&mut peer, &head, &content(SIZE, 1), "\"one\"", 700_000).await,
                1 if whole => part(&mut peer, "", &content(SIZE, 2), "\"two\"", SIZE).await,
                _ => part(&mut peer, &head, &content(SIZE, 2), "\"two\"", SIZE).await,
            }
        })
        .await;
        let server = TestServer::start().await;
        let row = server.fetch(&origin.url("/a.bin")).await;
        assert_eq!(row["content_hash"], sha256(&content(SIZE, 2)), "{whole}");
        assert_eq!((row["retry_count"].as_u64(), row["content_size"].as_u64()), (Some(0), Some(SIZE as u64)));
        assert_eq!(origin.seen().len(), if whole { 2 } else { 3 });
    }
}

#[tokio::test]
async fn without_range_support_the_whole_transfer_is_retried() {
    let origin = Raw::start(async |mut peer: Peer| {
        peer.request().await;
        let bytes = content(SIZE, 1);
        peer.send(format!("HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        peer.send(&bytes[..if peer.earlier < 2 { 700_000 } else { SIZE }]).await;
    })
    .await;
    let server = TestServer::start().await;
    let row = server.fetch(&origin.url("/a.bin")).await;
    assert_eq!(row["content_hash"], sha256(&content(SIZE, 1)));
    assert_eq!(row["retry_count"], 2);
    assert!(origin.seen().iter().all(|head| asked_from(head).is_none()));
}

#[tokio::test]
async fn a_transfer_that_makes_no_progress_fails() {
    let origin = Raw::start(async |mut peer: Peer| {
        let head = peer.request().await;
        let most = if peer.earlier == 0 { 700_000 } else { 10 };
        part(&mut peer, &head, &content(SIZE, 1), "\"one\"", most).await;
    })
    .await;
    let server = TestServer::with(&[("FETCHER__MAX_RETRIES", "2")]).await;
    let id = server.create(json!({ "url": origin.url("/a.bin") })).await;
    let row = server.failed(&id).await;
    assert_eq!((row["error_code"].as_str(), row["retry_count"].as_u64()), (Some("transfer_broken"), Some(2)));
    assert_eq!(origin.seen().len(), 9, "three tries, each resumed twice");
    assert!(server.files("content").is_empty());
}

#[tokio::test]
async fn retry_after_of_the_origin_is_honored() {
    let origin = Raw::start(async |mut peer: Peer| {
        peer.request().await;
        if peer.earlier == 0 {
            peer.send("HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n").await;
        } else {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let server = TestServer::start().await;
    let started = Instant::now();
    assert_eq!(server.fetch(&origin.url("/")).await["retry_count"], 1);
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_cancel_closes_the_connection_to_the_origin_within_two_seconds() {
    // Before the response starts, and in the middle of it.
    for answers in [false, true] {
        let (closed, mut gone) = tokio::sync::mpsc::unbounded_channel();
        let origin = Raw::start(move |mut peer: Peer| {
            let closed = closed.clone();
            async move {
                peer.request().await;
                if answers {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n").await;
                    peer.send(content(2_000_000, 1)).await;
                }
                peer.closed().await;
                closed.send(()).expect("the test waits");
            }
        })
        .await;
        let server = TestServer::start().await;
        let id = server.create(json!({ "url": origin.url("/") })).await;
        eventually("the origin gets a call", async || (!origin.seen().is_empty()).then_some(())).await;
        if answers {
            eventually("a staged upload exists", async || (!server.files("content/staging").is_empty()).then_some(()))
                .await;
        }
        let cancelled = Instant::now();
        let path = format!("/v1/requests/{id}");
        assert_eq!(server.call(Method::DELETE, &path, None).await.status(), 204);
        gone.recv().await.expect("the connection closes");
        assert!(cancelled.elapsed() < Duration::from_secs(2), "{:?}", cancelled.elapsed());
        eventually("the staged upload is removed", async || server.files("content/staging").is_empty().then_some(()))
            .await;
        assert_eq!(server.get(&id).await["status"], "cancelled");
    }
}
