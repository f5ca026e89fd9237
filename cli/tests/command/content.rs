//! Contents: saving, resuming, verifying.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{Origin, TestServer, content, eventually, free_port, program};
use tokio::process::Command;
use tokio::sync::Notify;

use crate::{proxytorrent, text};

#[tokio::test]
async fn get_saves_the_content_sends_headers_and_prints_json() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let (folder, bytes) = (server.scratch("cwd"), content(10_000, 1));
    let url = origin.file(10_000, 1, "a.bin");
    let get = async |arguments: &[&str]| {
        let arguments = [&["get", "--server", &server.url], arguments].concat();
        proxytorrent(&folder, &arguments, &[]).await
    };
    let output = get(&["--content", "--json", "--header", "Accept-Language: de", "-o", "out", &url]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(row["magnet_link"].as_str().unwrap().starts_with("magnet:?"));
    assert_eq!((&row["torrent_file"], &row["content_file"]), (&json!("out/a.bin.torrent"), &json!("out/a.bin")));
    assert_eq!(row["header_names"], json!(["accept-language"]));
    assert_eq!(std::fs::read(folder.join("out/a.bin")).unwrap(), bytes);

    let output = get(&["--magnet", &url]).await;
    assert!(text(&output.stdout).starts_with("magnet:?"), "{}", text(&output.stderr));
    assert!(!folder.join("a.bin.torrent").exists());

    let id = row["id"].as_str().unwrap();
    let save =
        async |into: &str| proxytorrent(&folder, &["content", id, "-o", into, "--server", &server.url], &[]).await;
    let again = save("out").await;
    assert_eq!((again.status.code(), text(&again.stdout).trim()), (Some(0), "out/a.bin"), "the same file is kept");
    std::fs::write(folder.join("a.bin"), "mine").unwrap();
    let refused = save(".").await;
    assert_eq!(refused.status.code(), Some(5));
    assert!(text(&refused.stderr).contains("another file with this name exists"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(folder.join("a.bin")).unwrap(), b"mine");
}

/// A server that sends half of a content, and then nothing until `gate` is notified. Counts the calls of the content.
async fn stalling(gate: Arc<Notify>, calls: Arc<AtomicUsize>) -> String {
    let bytes = content(10_000, 1);
    let row = json!({
        "id": STALLING, "status": "ready", "progress": 100, "content_size": bytes.len(), "file_name": "a.bin",
        "content_hash": tests::sha256(&bytes), "error_message": "\u{1b}]0;x\u{7}", "total_bytes": null,
    });
    let send = async move |headers: axum::http::HeaderMap| {
        let from = headers.get("range").map_or(0, |range| {
            range.to_str().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
        });
        calls.fetch_add(1, Ordering::SeqCst);
        let (half, rest) = (bytes[from..].len() / 2, bytes.len() - from);
        let (first, second) = (bytes[from..][..half].to_vec(), bytes[from + half..].to_vec());
        let (gate, whole) = (gate.clone(), from > 0);
        let parts = futures::stream::iter([first, second]).enumerate().then(move |(number, part)| {
            let gate = gate.clone();
            async move {
                if number == 1 && !whole {
                    gate.notified().await;
                    return Err(std::io::Error::other("the connection breaks"));
                }
                Ok(part)
            }
        });
        let status = if from > 0 { 206 } else { 200 };
        let body = axum::body::Body::from_stream(parts);
        axum::http::Response::builder().status(status).header("content-length", rest).body(body).unwrap()
    };
    let path = format!("/v1/requests/{STALLING}");
    let router = axum::Router::new()
        .route(&path, axum::routing::get(async move || axum::Json(row.clone())))
        .route(&format!("{path}/content"), axum::routing::get(send));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

pub const STALLING: &str = "01a20583-ba94-7002-8c0b-bbdc5e108857";

#[tokio::test]
async fn an_interrupted_content_leaves_no_file() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let server = stalling(Arc::default(), Arc::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.args(["content", STALLING, "-o", "out", "--server", &server]).env_clear();
        let mut child = command.current_dir(&folder).kill_on_drop(true).spawn().unwrap();
        let files = || std::fs::read_dir(folder.path().join("out")).map_or(0, Iterator::count);
        eventually("the file has begun", async || (files() == 1).then_some(())).await;
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        assert_eq!((child.wait().await.unwrap().code(), files()), (Some(code), 0));
    }
}

#[tokio::test]
async fn a_content_continues_after_a_broken_connection() {
    let (gate, calls) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (server, folder) = (stalling(gate.clone(), calls.clone()).await, tempfile::tempdir().unwrap());
    let half = async || {
        let sizes = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        sizes.into_iter().any(|size| size == 5_000).then_some(())
    };
    let arguments = ["content", STALLING, "--server", &server];
    let (output, ()) = tokio::join!(proxytorrent(folder.path(), &arguments, &[]), async {
        eventually("the first half is saved", half).await;
        gate.notify_one();
    });
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(folder.path().join("a.bin")).unwrap(), content(10_000, 1));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn credentials_are_not_sent_where_a_server_redirects_to() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let elsewhere = axum::response::Redirect::temporary(&format!("http://127.0.0.1:{port}/v1/requests"));
    let router = axum::Router::new().fallback(async move || elsewhere.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let output = proxytorrent(folder.path(), &["list", "--server", &url], &[("CLIENT__TOKEN", "secret")]).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("set CLIENT__SERVER to its URL"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn verify_finds_a_damaged_file() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let row = server.fetch(&origin.file(200_000, 1, "a.bin")).await;
    let torrent = server.save_torrent(row["id"].as_str().unwrap()).await;
    let (folder, bytes) = (server.scratch("cwd"), content(200_000, 1));
    let verify = async |path: &str| {
        let output = proxytorrent(&folder, &["verify", torrent.to_str().unwrap(), path], &[]).await;
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let mut damaged = bytes.clone();
    damaged[100_000] ^= 1;
    for (bytes, code, said) in [
        (&bytes[..], 0, "ok ./a.bin"),
        (&damaged, 1, "piece 4 of 7 differs"),
        (&bytes[1..], 1, "it has 199999 bytes, and the file of the torrent 200000"),
        (&[], 1, "it has 0 bytes"),
    ] {
        std::fs::write(folder.join("a.bin"), bytes).unwrap();
        let (found, printed) = verify(".").await;
        assert!(found == code && printed.contains(said), "{said}: {found} {printed}");
    }
    let (code, printed) = verify("missing").await;
    assert!(code == 2 && printed.contains("missing: No such file"), "{printed}");
    let wrong = proxytorrent(&folder, &["verify", "a.bin", "a.bin"], &[]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
}
