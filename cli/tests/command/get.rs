//! `get` and `watch`.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::{Origin, PATIENCE, TestServer, eventually, free_port, program};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{proxytorrent, text};

#[tokio::test]
async fn get_saves_the_torrent_and_prints_the_magnet_link() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let folder = server.scratch("cwd");
    let output = proxytorrent(
        &folder,
        &["get", &origin.file(10_000, 1, "a.bin"), "-o", "out"],
        &[("CLIENT__SERVER", &server.url)],
    )
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.starts_with("magnet:?xt=urn:btih:") && printed.lines().count() == 1, "{printed}");
    assert!(text(&output.stderr).contains("ready 100%"), "{}", text(&output.stderr));
    assert!(folder.join("out/a.bin.torrent").exists());

    let id = text(&output.stderr).lines().next().unwrap().trim_start_matches("request ").to_owned();
    let status = proxytorrent(&folder, &["status", &id, "--server", &server.url], &[]).await;
    assert!(text(&status.stdout).contains("\"status\": \"ready\""));
    let magnet = proxytorrent(&folder, &["magnet", &id, "--server", &server.url], &[]).await;
    assert_eq!(text(&magnet.stdout), printed);
    let cancel = proxytorrent(&folder, &["cancel", &id, "--server", &server.url], &[]).await;
    assert_eq!(cancel.status.code(), Some(0));
    let gone = proxytorrent(&folder, &["torrent", &id, "--server", &server.url], &[]).await;
    assert_eq!(gone.status.code(), Some(4), "{}", text(&gone.stderr));
}

#[tokio::test]
async fn get_fetches_several_urls_and_reports_each_failure() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let folder = server.scratch("cwd");
    let good = [origin.file(10, 1, "a.bin"), origin.file(10, 2, "a.bin")];
    let missing = origin.url("/status/404");
    let arguments =
        ["get", "--keep", "1d", "--ttl", "90", &good[0], "ftp://example.org/", &missing, &good[1], &good[0]];
    let output = proxytorrent(&folder, &arguments, &[("CLIENT__SERVER", &server.url)]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    for part in ["(origin_status)", "ftp://example.org/: the server refused", "2 of 4 URLs failed"] {
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    assert_eq!(text(&output.stdout).lines().count(), 2);
    assert!(folder.join("a.bin.torrent").exists() && folder.join("a.bin (2).torrent").exists());
    let id = text(&output.stderr).lines().next().unwrap().trim_start_matches("request ").to_owned();
    let row = server.get(&id).await;
    assert_eq!((&row["keep"], &row["ttl"]), (&86_400.into(), &90.into()));

    let arguments = ["get", "--no-wait", &origin.url("/silent/1")];
    let output = proxytorrent(&folder, &arguments, &[("CLIENT__SERVER", &server.url)]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    server.until(text(&output.stdout).trim(), |row| row["status"] == "fetching").await;
}

#[tokio::test]
async fn watch_follows_a_request_to_its_end() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let watch = async |id: &str| proxytorrent(server.folder(), &["watch", id, "--server", &server.url], &[]).await;
    let good = server.create(json!({ "url": origin.url("/gated/1000000/1") })).await;
    let (output, ()) = tokio::join!(watch(&good), async {
        server.until(&good, |row| row["progress"] == 45).await;
        origin.open_gate();
    });
    assert_eq!((output.status.code(), text(&output.stdout).trim()), (Some(0), "ready"), "{}", text(&output.stderr));
    let bad = server.create(json!({ "url": origin.url("/status/404") })).await;
    let output = watch(&bad).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("(origin_status)"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn an_interrupted_get_says_how_to_cancel() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let mut command = Command::new(program());
    command.args(["get", &origin.url("/silent/1"), "--server", &server.url]).env_clear().kill_on_drop(true);
    let mut child = command.current_dir(server.scratch("cwd")).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let id = first.trim_start_matches("request ").to_owned();
    server.until(&id, |row| row["status"] == "fetching").await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
    let mut stderr = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        stderr.push_str(&line);
    }
    assert!(stderr.contains(&format!("the server continues {id}:")) && stderr.contains("cancel ID"), "{stderr}");
    assert_eq!(server.get(&id).await["status"], "fetching");
}

#[tokio::test]
async fn get_keeps_waiting_while_the_server_restarts() {
    let port = free_port().to_string();
    let (server, origin) = (TestServer::with(&[("PORT", &port)]).await, Origin::start().await);
    let mut command = Command::new(program());
    command.args(["get", &origin.url("/gated/10/1"), "--server", &server.url]).env_clear().kill_on_drop(true);
    let child = command.current_dir(server.scratch("cwd")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    eventually("it is fetched", async || (origin.hits() > 0).then_some(())).await;
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut server = server;
    server.terminate().await;
    while !lines.next_line().await.unwrap().expect("it waits").contains("cannot be reached") {}
    origin.open_gate();
    let _server = server.restart().await;
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("magnet:?xt=urn:btih:"), "{}", text(&output.stdout));
}

#[tokio::test]
async fn get_says_why_a_request_is_still_queued() {
    let (server, origin) = (TestServer::with(&[("FETCHER__MAX_CONCURRENT", "1")]).await, Origin::start().await);
    let running = server.create(json!({ "url": origin.url("/gated/1000/1") })).await;
    server.until(&running, |row| row["status"] == "fetching").await;
    server.create(json!({ "url": origin.file(10, 1, "a") })).await;
    let program = [program().to_str().unwrap().to_owned(), "get".to_owned(), origin.file(10, 2, "b")];
    let mut get = Command::new(&program[0]);
    get.args(&program[1..]).args(["--server", &server.url]).current_dir(server.scratch("cwd"));
    let mut get = get.stderr(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(get.stderr.take().unwrap()).lines();
    let mut seen = vec![];
    while !seen.iter().any(|line: &String| line.contains("waits for its turn behind 1 of your requests")) {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap();
        seen.push(line.unwrap_or_else(|| panic!("{seen:?}")));
    }
    origin.open_gate();
    assert!(get.wait().await.unwrap().success());
}
