//! The command line: output, exit codes and error messages.

use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::{ApiClient, Origin, TestServer, eventually, free_port, program, root};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

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
        (vec!["status", "nonsense", "--server", url], 4, "you have no request with this id"),
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
