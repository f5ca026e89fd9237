//! The command line: output, exit codes and error messages.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{ApiClient, Origin, TestServer, content, eventually, free_port, program, root};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::Notify;

async fn proxytorrent(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().envs(environment.iter().copied()).current_dir(folder).kill_on_drop(true);
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

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

const STALLING: &str = "01a20583-ba94-7002-8c0b-bbdc5e108857";

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
async fn an_id_is_checked_before_it_is_part_of_a_path() {
    let server = TestServer::start().await;
    let wrong = proxytorrent(server.folder(), &["cancel", "../passkeys", "--server", &server.url], &[]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
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

#[tokio::test]
async fn generated_keys_and_the_configuration_file_work() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxytorrent/config.toml");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    let home = [("XDG_CONFIG_HOME", folder.path().to_str().unwrap())];
    for options in [&["keygen", "alice"][..], &["keygen", "--signing", "alice"]] {
        let printed = text(&proxytorrent(folder.path(), options, &[]).await.stdout);
        let settings: Vec<_> = printed.lines().filter_map(|line| line.split_once('=')).collect();
        let (server_settings, client_settings) = settings.split_at(1);
        let auth = [("SECURITY__AUTH_ENABLED", "true"), server_settings[0]];
        let server = TestServer::with(&auth).await;
        let keys = client_settings
            .iter()
            .map(|(name, value)| format!("{} = '{value}'\n", name.strip_prefix("CLIENT__").unwrap().to_lowercase()));
        std::fs::write(&config, format!("[client]\nserver = '{}'\n{}", server.url, keys.collect::<String>())).unwrap();
        let list = proxytorrent(folder.path(), &["list"], &home).await;
        assert_eq!(list.status.code(), Some(0), "{}", text(&list.stderr));
        let refused = proxytorrent(folder.path(), &["list", "--server", &server.url], &[]).await;
        assert_eq!(refused.status.code(), Some(4), "without the file");
    }
    for (line, named) in [("[client]\nservr = 'x'\n", "CLIENT__SERVR"), ("[cleint]\nserver = 'x'\n", "CLEINT__SERVER")]
    {
        std::fs::write(&config, line).unwrap();
        let wrong = proxytorrent(folder.path(), &["list"], &home).await;
        assert_eq!(wrong.status.code(), Some(2));
        assert!(text(&wrong.stderr).contains(named), "{}", text(&wrong.stderr));
    }
    // The file of a folder from elsewhere must not get the token of the user.
    std::fs::write(&config, "[client]\nserver = 'https://files.example.org'\ntoken = 'mine'\n").unwrap();
    std::fs::write(folder.path().join(".env"), "CLIENT__SERVER=http://127.0.0.1:9\n").unwrap();
    let refused = proxytorrent(folder.path(), &["list"], &home).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("is set in .env"), "{}", text(&refused.stderr));
    std::fs::remove_file(folder.path().join(".env")).unwrap();
    let named = proxytorrent(folder.path(), &["keygen", "a b"], &[]).await;
    assert_eq!(named.status.code(), Some(2));
}

#[tokio::test]
async fn serve_listens_where_its_options_say() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new(program());
    command.args(["serve", "--dev", "--host", "127.0.0.2", "--port", &port.to_string()]).env_clear();
    command.env("PORT", "1").env("SEEDER__LISTEN", "127.0.0.1:0").current_dir(folder.path()).kill_on_drop(true);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains(&format!(" serves http://127.0.0.2:{port} ")), "{first}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn the_manual_pages_have_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = proxytorrent(folder.path(), &["man", "pages"], &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let help = text(&proxytorrent(folder.path(), &["--help"], &[]).await.stdout);
    let commands = commands(&help);
    assert!(commands.len() > 15, "{help}");
    for name in commands {
        let page = folder.path().join(format!("pages/proxytorrent-{name}.1"));
        assert!(std::fs::read_to_string(&page).unwrap().contains(".SH SYNOPSIS"), "{name}");
    }
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_what_to_do() {
    let (folder, port, peers) = (tempfile::tempdir().unwrap(), free_port().to_string(), free_port());
    let listen = format!("127.0.0.1:{peers}");
    let doctor = async |extra: &[(&str, &str)]| {
        let base = [("PORT", port.as_str()), ("SEEDER__LISTEN", &listen), ("STORAGE__BASE_PATH", "data")];
        let output = proxytorrent(folder.path(), &["doctor", "--dev"], &[&base, extra].concat()).await;
        (output.status.code().unwrap(), text(&output.stdout))
    };
    let (code, printed) = doctor(&[]).await;
    assert_eq!(code, 0, "{printed}");
    let free = format!("ok       server    it does not run; 127.0.0.1:{port} is free");
    for line in [free.as_str(), "ok       storage   data takes files", "warning  proxy     there is none"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(!folder.path().join("data").exists(), "it changes nothing");

    let taken = std::net::TcpListener::bind(&listen).unwrap();
    let proxy = free_port().to_string();
    let proxy = [("PROXY__PROXY_ENABLED", "true"), ("PROXY__PROXY_HOST", "127.0.0.1"), ("PROXY__PROXY_PORT", &proxy)];
    let (code, printed) = doctor(&[&proxy[..], &[("STORAGE__MIN_FREE", "9000000000000000000")]].concat()).await;
    assert_eq!(code, 1, "{printed}");
    for line in ["failed   seeder    it cannot listen on", "failed   proxy     ", "free some space"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    drop(taken);
    let (code, printed) = doctor(&[("PORT", "many")]).await;
    assert!(code == 1 && printed.contains("failed   settings  PORT"), "{printed}");

    let server = TestServer::with(&[("PORT", &port), ("SEEDER__LISTEN", &listen)]).await;
    let (code, printed) = doctor(&[("CLIENT__SERVER", &server.url)]).await;
    assert_eq!(code, 0, "{printed}");
    for line in ["it runs on 127.0.0.1", "it listens, and has 0 torrents", "ok       clock     it differs"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

#[tokio::test]
async fn the_reference_in_the_manual_is_that_of_help() {
    let folder = tempfile::tempdir().unwrap();
    let help = async |arguments: &[&str]| {
        let output = proxytorrent(folder.path(), arguments, &[]).await;
        text(&output.stdout).lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    let overview = help(&["--help"]).await;
    let mut reference = format!("```text\n{overview}\n```\n");
    for command in commands(&overview) {
        let text = help(&[command, "--help"]).await;
        reference.extend(["\n### ", command, "\n\n```text\n", &text, "\n```\n"]);
    }
    let path = root().join("docs/command-line.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once("<!-- help -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /help -->").unwrap();
    let current = format!("{before}<!-- help -->\n{reference}<!-- /help -->{after}");
    if manual != current {
        std::fs::write(&path, current).unwrap();
        panic!("docs/command-line.md was out of date and has been rewritten: check the difference and commit it");
    }
}

/// Returns the names of the commands in the help.
fn commands(help: &str) -> Vec<&str> {
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let first_lines = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    first_lines.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help").collect()
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
async fn failures_set_the_exit_code_and_print_a_message() {
    let (server, origin) = (TestServer::start().await, Origin::start().await);
    let folder = server.scratch("cwd");
    std::fs::write(folder.join("file"), "").unwrap();
    let good = origin.file(10, 1, "a.bin");
    let missing = origin.url("/status/404");
    let url = server.url.as_str();
    for (arguments, code, part) in [
        (vec!["get", missing.as_str(), "--server", url], 1, "(origin_status)"),
        (vec!["get", "--server", url], 2, "required"),
        (vec!["get", good.as_str(), "--server", "http://127.0.0.1:9"], 3, "cannot be reached"),
        (vec!["get", "example.org/x", "--server", url], 2, "begin it with http://"),
        (vec!["get", good.as_str(), "--server", "127.0.0.1:8000"], 2, "begin it with http://"),
        (vec!["get", good.as_str(), "--server", "localhost:8000"], 2, "begin it with http://"),
        (vec!["get", "ftp://example.org/", "--server", url], 4, "url the scheme ftp cannot be fetched"),
        (vec!["get", good.as_str(), "--server", url, "-o", "file/below"], 5, "cannot write"),
        (vec!["get", good.as_str(), "--server", url, "--ttl", "soon"], 2, "such as 90s, 15m, 2h or 30d"),
        (vec!["get", good.as_str(), "--server", url, "--keep", "500ms"], 2, "not a time"),
        (vec!["get", good.as_str(), "--server", url, "--no-wait", "-o", "out"], 2, "cannot be used with"),
        (vec!["list", "--status", "bogus", "--server", url], 2, "queued, fetching, packaging, seeding, ready"),
        (vec!["list", "-n", "0", "--server", url], 2, "a number from 1"),
        (vec!["status", "nonsense", "--server", url], 2, "invalid value 'nonsense' for '<ID>'"),
        (vec!["status", STALLING, "--server", url], 4, "you have no request with this id"),
        (vec!["get", good.as_str(), "--header", "A: 1", "--header", "a: 2"], 2, "is given twice"),
    ] {
        let output = proxytorrent(&folder, &arguments, &[]).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[tokio::test]
async fn serve_without_settings_fails_and_names_the_missing_settings() {
    let folder = tempfile::tempdir().unwrap();
    let output = proxytorrent(folder.path(), &["serve"], &[]).await;
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("set SECURITY__BEARER_TOKENS") && stderr.contains("set PROXY__PROXY_HOST"), "{stderr}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no files are created before the settings are valid"
    );
}

#[tokio::test]
async fn config_prints_every_setting_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("SECURITY__HMAC_SECRET", "geheim"), ("FETCHER__MAX_SIZE", "5")];
    let output = proxytorrent(folder.path(), &["config", "--dev"], &environment).await;
    let stdout = text(&output.stdout);
    for part in
        ["SECURITY__HMAC_SECRET=********", "FETCHER__MAX_SIZE=5", "#FETCHER__READ_TIMEOUT=30", "# Timeout in seconds"]
    {
        assert!(stdout.contains(part), "{part} not in {stdout}");
    }
    assert!(!stdout.contains("geheim"));
    // The output is a valid `.env` file.
    std::fs::write(folder.path().join(".env"), stdout.replace("********", "x")).unwrap();
    let again = proxytorrent(folder.path(), &["config", "--dev"], &[]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert!(text(&again.stdout).contains("FETCHER__MAX_SIZE=5"));
}

#[tokio::test]
async fn the_example_of_an_env_file_has_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let output = proxytorrent(folder.path(), &["config"], &[]).await;
    // Without settings the production profile is not valid, but is printed.
    assert_eq!(output.status.code(), Some(2));
    let head = "# Every setting of ProxyTorrent, with its default. Copy this file to .env and set what you need.\n\
                # `proxytorrent config` writes it, with the present values.\n\n";
    let expected = head.to_owned() + &text(&output.stdout);
    let path = root().join(".env.example");
    if std::fs::read_to_string(&path).unwrap_or_default() != expected {
        std::fs::write(&path, expected).unwrap();
        panic!(".env.example was out of date and has been rewritten: check the difference and commit it");
    }
}

#[tokio::test]
async fn bash_completes_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let script = proxytorrent(folder.path(), &["completions", "bash"], &[]).await;
    assert_eq!(script.status.code(), Some(0), "{}", text(&script.stderr));
    std::fs::write(folder.path().join("script"), &script.stdout).unwrap();
    let asked = "source ./script; COMP_WORDS=(proxytorrent get --no); COMP_CWORD=2; _proxytorrent proxytorrent --no get; \
                 echo \"${COMPREPLY[*]}\"";
    let output = Command::new("bash").args(["-c", asked]).current_dir(folder.path()).output().await.unwrap();
    assert_eq!(text(&output.stdout).trim(), "--no-wait --no-webseed", "{}", text(&output.stderr));
}

#[tokio::test]
async fn the_server_runs_on_when_its_output_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (port, seeder) = (free_port().to_string(), format!("127.0.0.1:{}", free_port()));
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(program());
    command.args(["serve", "--dev"]).env_clear().env("PORT", &port).env("SEEDER__LISTEN", seeder);
    let mut server = command.current_dir(&folder).stdout(closed).kill_on_drop(true).spawn().unwrap();
    let client = ApiClient::new(format!("http://127.0.0.1:{port}"));
    let health = format!("{}/v1/health", client.url);
    eventually("the API answers", async || client.http.get(&health).send().await.ok()).await;
    assert!(server.try_wait().unwrap().is_none(), "it runs");
}
