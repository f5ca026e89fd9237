//! The command line: output, exit codes and error messages.

use std::path::Path;
use std::process::Output;

use tests::{ApiClient, Origin, TestServer, eventually, free_port, program};
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
